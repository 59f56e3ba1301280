"""The one error tree. Every expected failure is one of these; the CLI prints message and remedy, never a traceback.

    HemmaError(message, *, remedy, exit_code, code)
    |- UsageError 2                  the request cannot be read
    |- RootMissing 66                the repository root is not on the host
    |- NotARepository 67             the root is no git work tree
    |- WrongDirectory 68             the working directory is not the root of its repository
    |- AnotherRepository 69          the root is a clone of another repository than this folder's
    |- NeedsPerson 75                a person has to decide
    |  |- NotPrivate 75              what must be this user's alone is another's, or open to others
    |  `- NotTrusted 75              a repository's settings that nobody has allowed yet
    |- RepositoryError 1             git could not do what was asked
    |  `- MergeConflict 75           both sides changed the same lines
    |- TimedOut 124                  the command ran past its time
    `- Unreachable 255               the host, or the agent on it, cannot be spoken to
       |- HostKeyUnknown  HostKeyChanged  HostKeyRevoked  AuthenticationRefused
       `- ConnectionLost  AgentUnavailable  HostDiskFull  NoAnswer

Standard library only: the `hemma run` path imports this module.
"""

from __future__ import annotations

from manifests.commands import Command, Remedy

# The exit code of an executor whose interpreter lacks what it needs to say anything (EX_CONFIG).
LACKS_PACKAGE = 78


class HemmaError(Exception):
    """An expected failure: `message` states the fact, `remedy` is something to paste, `code` is a stable word."""

    exit_code = 1
    code = "failed"
    remedy: Remedy = ""
    # What a host says is to be done: a stranger's word, shown as such and never as something to paste.
    advice = ""

    def __init__(
        self, message: str, *, remedy: Remedy | None = None, exit_code: int | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = Command(self.remedy if remedy is None else remedy)
        if exit_code is not None:
            self.exit_code = exit_code
        if code is not None:
            self.code = code

    def as_dict(self) -> dict[str, str | int]:
        """The error as agents read it under --json: error code word, message, remedy, exit code."""
        said = {"error": self.code, "message": self.message, "remedy": self.remedy, "exit_code": self.exit_code}
        return {**said, "advice": self.advice} if self.advice else said


class UsageError(HemmaError):
    """The request itself cannot be read: an unknown option, a missing command, a broken settings file."""

    exit_code = 2
    code = "usage"


class RootMissing(HemmaError):
    """The configured repository root does not exist on the host."""

    exit_code = 66
    code = "root-missing"


class NotARepository(HemmaError):
    """The configured root exists on the host and is no git work tree."""

    exit_code = 67
    code = "not-a-repository"


class WrongDirectory(HemmaError):
    """The configured root, or the directory asked for, is not (inside) the root of its repository."""

    exit_code = 68
    code = "wrong-directory"


class AnotherRepository(HemmaError):
    """The root on the host is not proven to be a clone of the repository that this folder belongs to; nothing was touched."""

    exit_code = 69
    code = "another-repository"


class NeedsPerson(HemmaError):
    """Going on would need a decision that Hemma does not take alone."""

    exit_code = 75
    code = "needs-person"


class NotPrivate(NeedsPerson):
    """A folder, file or socket that must be this user's alone is somebody else's, or somebody else may write to it."""

    code = "not-private"


class NotTrusted(NeedsPerson):
    """A repository's settings say where commands run and with what, and no person has allowed them: `hemma trust`."""

    code = "not-trusted"


class RepositoryError(HemmaError):
    """Git refused or failed; what was there before is still there."""

    code = "repository"


class MergeConflict(RepositoryError):
    """Both sides changed the same lines; both are intact, and a person has to resolve it."""

    exit_code = 75
    code = "merge-conflict"


class TimedOut(HemmaError):
    """The command was ended because it ran past --timeout."""

    exit_code = 124
    code = "timed-out"


class Unreachable(HemmaError):
    """The host could not be reached, or was lost and did not come back.

    `is_passing`: trying again may help; a wrong port or an account without commands stays as it is.
    """

    exit_code = 255
    code = "unreachable"
    is_passing = False


class HostKeyUnknown(Unreachable):
    """The host's key is in no known_hosts file; it is never accepted silently."""

    code = "host-key-unknown"


class HostKeyChanged(Unreachable):
    """The host answered with another key than the one on record; always refused."""

    code = "host-key-changed"


class HostKeyRevoked(Unreachable):
    """The host answered with a key that known_hosts marks as revoked; always refused."""

    code = "host-key-revoked"


class AuthenticationRefused(Unreachable):
    """No key on offer was accepted by the host."""

    code = "authentication-refused"


class ConnectionLost(Unreachable):
    """The connection broke and could not be brought back in time."""

    code = "connection-lost"
    is_passing = True


class AgentUnavailable(Unreachable):
    """The host was reached but the agent cannot run there (no python3, too old, home not writable)."""

    code = "agent-unavailable"


class HostDiskFull(Unreachable):
    """The host has no room for a run directory; nothing half-written is left."""

    code = "host-disk-full"


class NoAnswer(Unreachable):
    """What came from the host is nothing that Hemma's agent says: another program, a bug, or somebody who means harm."""

    code = "not-an-answer"
    remedy = "hemma host check; what answers there is not Hemma's agent as it was sent"


def no_answer(what: object) -> NoAnswer:
    """The error for words of a host that are none; `what` names the first thing that does not fit."""
    return NoAnswer(f"the host answered with something that is no answer: {what}")


# What waiting does not change, even where the host has answered before.
REFUSALS = (HostKeyUnknown, HostKeyChanged, HostKeyRevoked, AuthenticationRefused, UsageError, NoAnswer)


# Codes of a host that does not answer now: it may be restarting when it was there a minute ago.
AWAY = ("unreachable", "refused", "no-answer", "no-way")


def _tree(cls: type[HemmaError]) -> list[type[HemmaError]]:
    return [cls, *(found for sub in cls.__subclasses__() for found in _tree(sub))]


def _failing(exit_code: object) -> int | None:
    """The exit code, where it can be that of a failure: no failure ends with 0, whoever tells of it."""
    if isinstance(exit_code, bool) or not isinstance(exit_code, int):
        return None
    return exit_code if 0 < exit_code < 256 else None


def of_code(kind: str, message: str, *, remedy: Remedy, word: str = "", is_passing: bool = False) -> HemmaError:
    """The error of the class whose code is `kind`; `word` is a narrower code for those who read --json."""
    cls = {found.code: found for found in _tree(HemmaError) if found.__module__ == __name__}[kind]
    error = cls(message, remedy=remedy, code=word or None)
    if isinstance(error, Unreachable):
        error.is_passing = is_passing
    return error


def from_dict(facts: dict[str, object], *, is_ours: bool) -> HemmaError:
    """The error again that `as_dict` wrote. `is_ours`: a process of this machine did, e.g. the broker; its remedy stands.

    What another machine calls a remedy is its advice.
    """
    # Classes of other rooms add arguments of their own; what they say fits the nearest one here.
    by_code = {cls.code: cls for cls in _tree(HemmaError) if cls.__module__ == __name__}
    code = str(facts.get("error", HemmaError.code))
    exit_code = facts.get("exit_code")
    told = str(facts.get("remedy") or "")
    unknown = Unreachable if exit_code == Unreachable.exit_code else HemmaError
    error = by_code.get(code, unknown)(
        str(facts.get("message", "")),
        remedy=Command(told) if is_ours else "",
        exit_code=_failing(exit_code),
        code=code,
    )
    error.advice = str(facts.get("advice") or ("" if is_ours else told))
    return error
