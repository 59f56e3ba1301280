"""What a run's `git` becomes for a call that is not plainly harmless: it asks the supervisor, then becomes git or says no.

The supervisor judges in a child of its own and saves what would be lost before it says yes. Where it is gone (the run is over,
and something that was started in it lives on) the question is judged here. Where it is there and does not answer, the call is
refused: a guard that cannot look closes.
"""

from __future__ import annotations

# The bare modules below signal and socket: those two load enum and selectors, which cost more than all the rest of a question.
import _signal  # pyright: ignore[reportMissingImports]
import _socket
import os
import sys

NAME = "git.sock"
REFUSED = 75
# Until the supervisor has heard the question; the answer itself may take a while, since work is saved meanwhile.
_HEARD_S = 10.0
_ANSWER_S = 600.0
HEARD = b"."
# What of the caller's environment git's own reading of repository and settings depends on.
_SENT = ("HOME", "PATH", "XDG_CONFIG_HOME")


class NoAnswer(Exception):
    """The supervisor is there and said nothing that could be understood."""


def main(run_folder: str, real: str, argv: list[str]) -> None:
    """Become `real` with what the judge makes of `argv`, or exit with 75 and the reason on stderr. Never returns."""
    # Python ignores these; git must find them as a shell's child does.
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    try:
        word, rest = ask(run_folder, question_of(real, argv))
    except Exception as error:
        # Whatever went wrong here, a call that may take something away does not run unjudged.
        said = error.args[0] if isinstance(error, NoAnswer) else repr(error)
        word = "refuse"
        rest = ["refused  the guard of this run cannot look at this git command: %s\ndo       hemma status" % said]
    if rest and word == "refuse":
        _say(rest[0])
        os._exit(REFUSED)
    _say(rest.pop(0))
    os.execv(real, ["git"] + rest)


def question_of(real: str, argv: list[str]) -> list[str]:
    """A question: the real git, the working directory, the caller's environment as far as git reads it, and the words."""
    env = [name + "=" + value for name, value in os.environ.items() if name.startswith("GIT_") or name in _SENT]
    return [real, os.getcwd(), str(len(env))] + env + argv


def ask(run_folder: str, question: list[str]) -> tuple[str, list[str]]:
    """The judge's word: ("exec", [what to say first, arguments of git...]) or ("refuse", [the whole text]).

    Raises NoAnswer, OSError.
    """
    sock = _connection(run_folder)
    if sock is None:
        from . import git_judge

        return git_judge.answer(question, run_folder)
    try:
        told = _told(sock, packed(question))
    finally:
        sock.close()
    words = unpacked(told)
    if words[:1] not in (["exec"], ["refuse"]) or len(words) < 2 or words.pop() != "end":
        raise NoAnswer("the judge ended before it had decided")
    return words[0], words[1:]


def _told(sock: _socket.socket, question: bytes) -> bytes:
    sock.settimeout(_HEARD_S)
    try:
        sock.sendall(b"%d\0" % len(question) + question)
        heard = sock.recv(1)
    except OSError as error:
        raise NoAnswer("the run's supervisor does not answer (%s)" % error) from None
    if heard != HEARD:
        raise NoAnswer("the run's supervisor ended while it was asked")
    sock.settimeout(_ANSWER_S)
    told = b""
    while True:
        piece = sock.recv(1 << 16)
        if not piece:
            return told
        told += piece


def packed(words: list[str]) -> bytes:
    """Words as bytes; none of them can hold a NUL, as no argument of a program can."""
    return b"\0".join(os.fsencode(word) for word in words)


def unpacked(data: bytes) -> list[str]:
    """The words of `packed`."""
    return [os.fsdecode(word) for word in data.split(b"\0")] if data else []


def _connection(run_folder: str) -> _socket.socket | None:
    """A connection to the run's supervisor; None when there is none any more."""
    folder = os.open(run_folder, os.O_RDONLY | os.O_DIRECTORY)
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    sock.settimeout(_HEARD_S)
    try:
        # A socket's name may not be longer than 107 bytes, a folder's may.
        sock.connect("/proc/self/fd/%d/%s" % (folder, NAME))
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    except OSError as error:
        sock.close()
        raise NoAnswer("the run's supervisor does not answer (%s)" % error) from None
    finally:
        os.close(folder)
    return sock


def _say(text: str) -> None:
    if text:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
