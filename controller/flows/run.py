"""Run a command on the host and be its stand-in here: same bytes, same exit code, same signals.

The path that people take a hundred times a day: standard library only, nothing imported that is not needed (style 4.6).
"""

from __future__ import annotations

import os
import signal

from lanes import guards
from manifests.commands import command
from manifests.errors import HemmaError, Unreachable
from remote import clone_witness
from remote.agent.frames import text_of
from remote.host import target_of
from remote.run_ids import new_run_id
from remote.session import LEAVE_S, HostRefused, Session
from remote.stdio import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from remote.stdio import Write

# What --json keeps of each stream; the whole of it stays on the host (`hemma logs`).
JSON_KEPT_BYTES = 1 << 20


def who() -> str:
    """Who asks, for the run record: user@machine."""
    user = os.environ.get("USER") or os.environ.get("USERNAME") or _login_name()
    node = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    return f"{user}@{node}"


def _login_name() -> str:
    import getpass  # only where no variable tells

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "?"


def request_of(
    settings: dict[str, Any], options: dict[str, Any], argv: list[str], *, is_run: bool = False
) -> dict[str, Any]:
    """The request to the agent. `options`: cwd, env, shell, timeout_s, lease_s (None = detached), login, pty, stdin, git_guard.

    `is_run`: a person's own command, which -H may send into another repository. Raises AnotherRepository.
    """
    host = settings["host"]
    env = {**settings["env"], **options.get("env", {})}
    return {
        "verb": "run",
        "run_id": new_run_id(),
        "state_dir": host["state_dir"],
        "root": host["root"],
        "require": guards.REQUIREMENTS,
        "clone": clone_witness.of(host, is_run=is_run),
        "argv": [text_of(os.fsencode(word)) for word in argv] if options.get("shell") is None else None,
        "shell": text_of(os.fsencode(options["shell"])) if options.get("shell") is not None else None,
        "cwd": options.get("cwd"),
        "env": {text_of(os.fsencode(name)): text_of(os.fsencode(value)) for name, value in env.items()},
        "timeout_s": options.get("timeout_s"),
        "lease_s": options.get("lease_s"),
        "login": bool(options.get("login")),
        "pty": options.get("pty"),
        "stdin": bool(options.get("stdin")),
        "git_guard": options.get("git_guard") is not False,
        "lane": "hemma",
        "who": who(),
        "host_name": host.get("name"),
        "backup": settings.get("backup"),
    }


def session_for(
    settings: dict[str, Any], request: dict[str, Any], writers: tuple[Write, Write], **more: Any
) -> Session:
    """A session with the host of these settings."""
    return Session(target_of(settings["host"]), request, writers, **more)


def follow(session: Session) -> dict[str, Any]:
    """Follow a session to its end with our signals passed on. Raises the guard's refusal, or the link's error."""
    with SignalsPassedOn(session):
        try:
            return session.follow()
        except HostRefused as refused:
            raise judged(refused) from None


def judged(refused: HostRefused) -> HemmaError:
    """The guard's own error (66 to 69) for a refusal that carries guard facts; else the refusal itself."""
    return clone_witness.judged(refused)


def exit_code_of(end: dict[str, Any], run_id: str) -> int:
    """The exit code for a run's end. Raises Unreachable (255) for one that was lost."""
    if end.get("state") == "finished":
        return int(end["exit_code"])
    from lanes import run_state

    state = run_state.judge(run_state.end_facts(end))
    # Whoever follows a run hears "finished" or has lost it: no other word at its end may pass for success.
    reason = state.reason or "its supervisor ended without a word"
    logs = command("what it wrote until then: hemma logs {}", run_id)
    mend = command("{}; end the command: hemma stop {}", logs, run_id) if state.command_alive else logs
    raise Unreachable(f"run {run_id} was lost: {reason}", remedy=mend, code="run-lost")


class SignalsPassedOn:
    """Within this, Ctrl-C and SIGTERM go to the remote command, and a timer keeps the lease while we are blocked.

    A class, not a generator: contextlib alone would cost more than all of this does.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._renew_s = min(10.0, (session.request.get("lease_s") or 40.0) / 4)
        self._before: dict[int, Any] = {}
        self._handlers = {
            signal.SIGINT: _calling(session.interrupt, self._hurry),
            signal.SIGTERM: _calling(session.terminate, self._hurry),
        }
        if hasattr(signal, "SIGALRM"):
            self._handlers[signal.SIGALRM] = _calling(session.renew, session.leave_if_due)
            self._handlers[signal.SIGQUIT] = _calling(lambda: session.send_signal(signal.SIGQUIT))

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, handler) for number, handler in self._handlers.items()}
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, self._renew_s, self._renew_s)

    def __exit__(self, *_: object) -> None:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hurry(self) -> None:
        """Somebody wants to leave: look soon, and out of whatever we may be blocked in, whether that is due."""
        if self._session.is_leaving() and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, LEAVE_S / 4, LEAVE_S / 4)


def _calling(*actions: Callable[[], None]) -> Callable[[int, object], None]:
    def handler(_number: int, _frame: object) -> None:
        for action in actions:
            action()

    return handler


class Capture:
    """A writer that keeps the last JSON_KEPT_BYTES of a stream, for --json."""

    def __init__(self) -> None:
        self.size = 0
        self._kept = bytearray()

    def write(self, piece: memoryview) -> None:
        """Take a piece of output."""
        self.size += len(piece)
        self._kept += piece
        if len(self._kept) > 2 * JSON_KEPT_BYTES:
            del self._kept[:-JSON_KEPT_BYTES]

    def fields(self, name: str) -> dict[str, Any]:
        """The stream as JSON fields: text where it is UTF-8, else base64; and how much there was in all."""
        kept = bytes(self._kept[-JSON_KEPT_BYTES:])
        fields: dict[str, Any] = {f"{name}_bytes": self.size, f"{name}_truncated": self.size > len(kept)}
        try:
            fields[name] = kept.decode("utf-8")
        except UnicodeDecodeError:
            import base64

            fields[name + "_base64"] = base64.b64encode(kept).decode("ascii")
        return fields


def show_error(error: HemmaError) -> None:
    """The refusal on screen: what, and what to do. Plain text: this path has no rich."""
    word = "refused" if error.exit_code in (2, 66, 67, 68, 75) else "failed"
    say(word, error.message)
    if error.remedy:
        say("do", error.remedy)
    if error.advice:
        say("advice", f"the host says: {error.advice}")
