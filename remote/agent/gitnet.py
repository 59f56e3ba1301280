"""Git commands that talk to origin: bounded by silence, never by duration, and ended with all that they started.

git's own progress is the sign of life, with what its processes read where the kernel tells it (Linux). Each command leads
a session of its own, so that nothing of it (ssh, a remote helper, a hook) outlives the command or whoever asked for it.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import threading
import time
from typing import Callable, Iterator

from . import gitcall

SILENCE_S = 120.0
_TICK_S = 0.25
_TOLD_EVERY_S = 0.2
_GRACE_S = 2.0
# In silence whoever asked is looked after this often.
_LOOK_S = 2.0
# How many times the silence that is borne may go by without a word of git's while its processes still read.
_WORDLESS = 10
_LEFT = "nobody waits for the answer"
# Of what git says this much is kept, from its end.
_KEPT_BYTES = 1 << 20
# Progress, in git's words: here or, after `remote: `, on the other side. The last of a kind ends its line like any word.
_PROGRESS = re.compile(
    r"^(remote: )?(Enumerating|Counting|Compressing|Receiving|Writing|Unpacking|Indexing|Checking|Filtering) [a-z ]+: +\d"
    r"|^(remote: )?(Resolving deltas|Updating files|Checking connectivity|Computing \w[\w ]*): +\d"
    r"|^(remote: )?Total \d+ \(delta \d+\)|^Delta compression using up to \d+ threads?$"
)


def _nobody(_: str) -> bool:
    return True


# Who hears of progress: a line of git's; false when nobody waits for the answer any more. Set by whoever answers.
listener: Callable[[str], bool] = _nobody
_running: set[subprocess.Popen[bytes]] = set()
# Set once everybody who asked has left: a thread that has not heard of it starts nothing more.
_left = threading.Event()


class Spoken:
    """What a git command that talked to origin did: `code` as of git, None when it was ended; `why` then says for what."""

    def __init__(self, code: int | None, out: bytes, err: bytes, why: str | None) -> None:
        self.code = code
        self.out = out
        self.text = "\n".join(said(err.decode("utf-8", "surrogateescape")))
        self.why = why


def said(text: str) -> Iterator[str]:
    """git's words without its progress, and without the blanks that it pads the other side's lines with."""
    for line in re.split(r"[\r\n]", text):
        plain = line.replace("\x1b[K", "").rstrip(" ")
        if plain and not _PROGRESS.match(plain):
            yield plain


def speak(
    root: str, argv: list[bytes], env: dict[str, str], given: bytes = b"", silence_s: float = SILENCE_S
) -> Spoken:
    """Run git with these arguments until it ends, is silent for `silence_s` seconds, or nobody wants to know any more."""
    if _left.is_set():
        return Spoken(None, b"", b"", _LEFT)
    process = subprocess.Popen(
        [b"git", *map(os.fsencode, gitcall.CONFIG), *argv],
        cwd=root,
        env=gitcall.environment({**gitcall.without_questions(root), **env}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    _running.add(process)
    spoken: Spoken | None = None
    try:
        if _left.is_set():  # by now: `end_all` did not see this one
            return Spoken(None, b"", b"", _LEFT)
        assert process.stdin is not None
        try:
            process.stdin.write(given)
            process.stdin.close()
        except BrokenPipeError:
            pass
        spoken = _hear(process, silence_s)
        return spoken
    finally:
        # What a git that ended well left behind is meant to stay: the daemon of a credential cache.
        if spoken is None or spoken.why is not None:
            end(process)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        process.wait()
        _running.discard(process)


def end_all() -> None:
    """End what still talks to origin, with all that it started, for good: whoever asked has left this process too."""
    _left.set()
    for process in list(_running):
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a command's session: asked first, so that git takes its lock files away, then killed."""
    for number, patience_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            break
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
        # git itself is gone; what it started may take no notice of being asked.
        if number == signal.SIGTERM and not _is_gone(process.pid):
            continue
        break


def _is_gone(group: int) -> bool:
    """Whether no process of this group is left, within a moment."""
    deadline = time.monotonic() + _GRACE_S
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return True
        time.sleep(0.02)
    return False


class _Life:
    """When there was a sign of life, and when the listener heard of one."""

    def __init__(self, group: int) -> None:
        self.group = group
        self.sign_s = self.told_s = self.word_s = self.looked_s = time.monotonic()
        self.read_bytes = -1

    def shown(self, text: str) -> bool:
        """Note that git said something; false when nobody listens any more."""
        now = self.sign_s = self.word_s = time.monotonic()
        lines = [line for line in re.split(r"[\r\n]", text) if line.strip()]
        if not lines or now - self.told_s < _TOLD_EVERY_S:
            return True
        self.told_s = now
        return listener(lines[-1].replace("\x1b[K", "").strip())

    def silence_s(self, limit_s: float) -> float:
        """For how long there was no sign of life; the processes' reading is looked at a few times within the limit."""
        now = time.monotonic()
        if now - self.looked_s >= limit_s / 8:
            self.looked_s = now
            read = _bytes_read(self.group)
            # ssh reads its keep-alives from a host whose git hangs, hence no longer than so.
            if read > self.read_bytes >= 0 and now - self.word_s < _WORDLESS * limit_s:
                self.sign_s = now
            self.read_bytes = max(read, self.read_bytes)
        return now - self.sign_s


def _hear(process: subprocess.Popen[bytes], silence_s: float) -> Spoken:
    kept = {process.stdout: bytearray(), process.stderr: bytearray()}
    life, why = _Life(process.pid), None
    with selectors.DefaultSelector() as selector:
        for stream in kept:
            assert stream is not None
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map() and why is None:
            for key, _ in selector.select(_TICK_S):
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                buffer = kept[key.fileobj]  # type: ignore[index]
                buffer += data
                del buffer[:-_KEPT_BYTES]
                text = data.decode("utf-8", "replace") if key.fileobj is process.stderr else ""
                if not life.shown(text):
                    why = _LEFT
            if life.silence_s(silence_s) > silence_s:
                why = "origin has said nothing for %g s" % silence_s
            elif time.monotonic() - life.told_s > _LOOK_S and why is None:
                life.told_s = time.monotonic()
                why = None if listener("") else _LEFT
            if process.poll() is not None and not _has_more(selector):
                break  # a process that it left behind may hold the pipes for ever
    code = None if why else process.wait()
    return Spoken(code, bytes(kept[process.stdout]), bytes(kept[process.stderr]), why)


def _has_more(selector: selectors.BaseSelector) -> bool:
    return bool(selector.select(0.05))


def _bytes_read(group: int) -> int:
    """What the processes of this session have read so far, -1 where that cannot be told (no Linux)."""
    total = -1
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return -1
    for name in names:
        try:
            with open("/proc/%s/stat" % name, "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[3]) != group:
                    continue
            with open("/proc/%s/io" % name, "rb") as file:
                total = max(total, 0) + int(file.readline().split()[1])
        except (OSError, ValueError, IndexError):
            continue
    return total
