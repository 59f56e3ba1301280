"""Why a host could not be reached, or would not run the agent: one table, from what was seen to cause, remedy and outlook.

A failure that can never succeed (a wrong port, an account without commands) is said at once; one that may pass (a dropped
connection) is tried again. Rows are read in order and the first that fits holds; each has a test of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import LiteralString

from manifests.commands import Command, command


class Stage(StrEnum):
    """How far the way to the agent had been made when it failed."""

    DIAL = "dial"  # no byte of the host yet: name, route, proxy
    GREETING = "greeting"  # connected; the other side is not known to speak SSH yet
    KEYS = "keys"  # ciphers and host key
    SIGN_IN = "sign-in"
    SESSION = "session"  # signed in; asks for a session and for the command
    START = "start"  # the command line was sent; the agent has not spoken yet


@dataclass(frozen=True)
class Attempt:
    """What was seen of one failed attempt.

    `error` is the library's or the system's text, `said` the host's own words (its greeting, its disconnect, stdout and
    stderr of the account), `status` the exit status where the account's shell gave one. The rest names the place for words.
    """

    stage: Stage
    error: str = ""
    said: str = ""
    status: int | None = None
    alias: str = "the host"
    place: str = "the host"
    account: str = "the account"
    python: str = "python3"
    proxy: str = ""


@dataclass(frozen=True)
class Row:
    """One known failure. `pattern` is sought in error and in what the host said, ignoring case; `status` must be equal if set.

    `kind` is the code of the error tree (manifests/errors.py); the cause may use the fields of Attempt in braces, in the
    remedy each `{}` is the alias, as one word of a shell.
    """

    word: str
    stage: Stage
    pattern: str
    kind: str
    cause: str
    remedy: LiteralString
    is_passing: bool = False
    status: int | None = None


@dataclass(frozen=True)
class Explanation:
    """A failure in words: `word` names the row, `kind` the error class, and whether trying again may help."""

    word: str
    kind: str
    message: str
    remedy: Command
    is_passing: bool


_TRY = "ssh {} true"
_ACCOUNT = "give the account a login shell there (sh or bash) and no ForceCommand, or name another one: ssh {} true"
_UNREACHABLE, _AUTHENTICATION, _AGENT, _LOST = (
    "unreachable",
    "authentication-refused",
    "agent-unavailable",
    "connection-lost",
)

TABLE: tuple[Row, ...] = (
    Row(
        "too-many-open-files",
        Stage.DIAL,
        r"too many open files",
        _UNREACHABLE,
        "this machine lets Hemma have too few open files: {error}",
        "ulimit -n 1024",
    ),
    Row(
        "proxy-command",
        Stage.DIAL,
        r"^proxycommand",
        _UNREACHABLE,
        "ProxyCommand of {alias} does not work ({proxy}): {said}",
        "ssh -G {} | grep -i proxycommand",
    ),
    Row(
        "no-address",
        Stage.DIAL,
        r"gaierror",
        _UNREACHABLE,
        "no address for {place}",
        "check HostName: ssh -G {} | grep hostname",
    ),
    Row(
        "refused",
        Stage.DIAL,
        r"refused",
        _UNREACHABLE,
        "{place} refused the connection",
        "is sshd running there, and is the port right? ssh {} true",
    ),
    Row(
        "no-answer",
        Stage.DIAL,
        r"timed out|timeout",
        _UNREACHABLE,
        "{place} did not answer",
        "is the host up, and are you on its network or VPN? ssh {} true",
    ),
    Row("no-way", Stage.DIAL, r"", _UNREACHABLE, "{place}: {error}", _TRY),
    # -- what answers there is no SSH server -----------------------------------------------------------------------
    Row(
        "not-allowed-now",
        Stage.GREETING,
        r"not allowed at this time|exceeded maxstartups",
        _LOST,
        "{place} lets nobody in at the moment: {said}",
        "wait a little, then: hemma host check",
        is_passing=True,
    ),
    Row(
        "speaks-no-ssh",
        Stage.GREETING,
        r"indecipherable|incompatible version|said: \S",
        _UNREACHABLE,
        "{place} speaks no SSH; it says: {said}",
        "is the Port of {} right? ssh -G {} | grep -E '^(hostname|port) '",
    ),
    # -- no common ground ------------------------------------------------------------------------------------------
    Row(
        "no-common-algorithm",
        Stage.KEYS,
        r"incompatible ssh peer|no acceptable|no matching|couldn't agree",
        _UNREACHABLE,
        "{place} and this machine have no algorithm in common: {error}",
        "does `ssh {} true` work? then this needs OpenSSH; else update sshd there",
    ),
    # -- signing in ------------------------------------------------------------------------------------------------
    Row(
        "too-many-keys",
        Stage.SIGN_IN,
        r"too many authentication failures",
        _AUTHENTICATION,
        "{account} was offered too many keys and ended the sign-in before the right one came ({error}); it says: {said}",
        "name the one key: IdentityFile and `IdentitiesOnly yes` for {} in ssh_config",
    ),
    Row(
        "second-factor",
        Stage.SIGN_IN,
        r"second factor|keyboard-interactive",
        _AUTHENTICATION,
        "{account} asks for more than a key (a password or a second factor), which Hemma does not ask for",
        "let a key alone in, or use a jump host that does",
    ),
    Row(
        "account-locked",
        Stage.SIGN_IN,
        r"account (is |has )?(been )?(locked|expired|disabled)|password (has )?expired|change your password",
        _AUTHENTICATION,
        "{account} cannot sign in: {said}",
        "have the account put right, then: ssh {} true",
    ),
    # -- signed in, and no session -----------------------------------------------------------------------------------
    Row(
        "no-session",
        Stage.SESSION,
        r"administratively prohibited|open failed|no more sessions|resource shortage|connect failed",
        _UNREACHABLE,
        "{place} signs {account} in and opens no session ({error})",
        "MaxSessions in sshd_config there must be above 0: ssh {} true",
    ),
    Row(
        "no-commands",
        Stage.SESSION,
        r"request (denied|rejected|failed)|channel closed|exec",
        _AGENT,
        "{account} runs no commands: {error}",
        _ACCOUNT,
    ),
    # -- the account's shell ran, and no agent came ---------------------------------------------------------------------
    Row(
        "password-change",
        Stage.START,
        r"change your password|password (has )?expired|required to change",
        _AGENT,
        "{account} has to change its password first: {said}",
        "ssh {}",
    ),
    Row(
        "no-commands",
        Stage.START,
        r"currently not available|shell.*(not|disabled)|sftp|not allowed|no shell|shell access|restricted|"
        r"forced[- ]?command|interactive git shell|login disabled",
        _AGENT,
        "{account} runs no commands; it says: {said}",
        _ACCOUNT,
    ),
    Row(
        "python-missing",
        Stage.START,
        r"command not found|no such file|not found|permission denied|cannot execute|exec format|is a directory",
        _AGENT,
        "{python} cannot be started on the host: {said}",
        'install python3 >= 3.9 there, or name one: python = "/path/to/python3" in [tool.hemma]',
        status=127,
    ),
    Row(
        "python-broken",
        Stage.START,
        r"fatal python|modulenotfounderror|importerror|no module named|traceback|syntaxerror|unknown option|core dumped|"
        r"error while loading shared libraries",
        _AGENT,
        "{python} on the host does not work: {said}",
        'name one that does: python = "/path/to/python3" in [tool.hemma]',
    ),
    Row(
        "python-missing",
        Stage.START,
        r"",
        _AGENT,
        "{python} cannot be started on the host: {said}",
        'install python3 >= 3.9 there, or name one: python = "/path/to/python3" in [tool.hemma]',
        status=127,
    ),
    Row(
        "killed",
        Stage.START,
        r"killed|out of memory|cannot allocate|resource temporarily unavailable|fork",
        _AGENT,
        "the host has no room to start the agent: {said}",
        "ssh {} 'free -m; ulimit -a'",
        is_passing=True,
    ),
    Row(
        "no-commands",
        Stage.START,
        r"\S",
        _AGENT,
        "{account} runs no commands: instead of starting {python} it says: {said}",
        _ACCOUNT,
    ),
    Row("no-commands", Stage.START, r"", _AGENT, "{account} runs no commands: it ended without a word", _ACCOUNT),
)

_SAID_LENGTH = 300


def explain(attempt: Attempt) -> Explanation:
    """The first row of TABLE that fits; without one, a connection that broke in that stage and may be tried again.

    A START row fits only where the account's shell ended with a status: without one, the link broke.
    """
    text = f"{attempt.error}\n{attempt.said}"
    for row in TABLE:
        if row.stage is not attempt.stage or (row.status is not None and row.status != attempt.status):
            continue
        if row.stage is Stage.START and attempt.status is None:
            continue
        if re.search(row.pattern, text, re.IGNORECASE):
            return Explanation(
                row.word, row.kind, _words(row.cause, attempt), _paste(row.remedy, attempt), row.is_passing
            )
    return _broke(attempt)


def _broke(attempt: Attempt) -> Explanation:
    if attempt.stage is Stage.START:
        message = "the connection broke while the agent was being started"
    elif attempt.stage is Stage.SIGN_IN:
        message = f"the connection to {attempt.place} broke while signing in"
    else:
        message = f"{attempt.place} closed the connection while it was being set up"
    why = "; ".join(_short(part) for part in (attempt.said, attempt.error) if part.strip())
    return Explanation("broke", _LOST, message + (f": {why}" if why else ""), _paste(_TRY, attempt), is_passing=True)


def _paste(template: LiteralString, attempt: Attempt) -> Command:
    return command(template, *[attempt.alias] * template.count("{}"))


def _words(template: str, attempt: Attempt) -> str:
    fields = {name: _short(str(value)) for name, value in vars(attempt).items() if name != "stage"}
    fields["said"] = fields["said"] or fields["error"] or "nothing"
    fields["error"] = fields["error"] or "no reason given"
    return template.format(**fields)


def _short(text: str) -> str:
    """One line of it, its end: what a host prints last is what ended it."""
    return " ".join(text.split())[-_SAID_LENGTH:]
