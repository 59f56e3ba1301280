"""Each row of the table of connection failures, by what libraries and hosts really say (taken down from real runs)."""

from __future__ import annotations

import pytest

from lanes.connection_failures import TABLE, Attempt, Stage, explain

# word, kind, is_passing, stage, the library's words, the host's words, exit status
SEEN = [
    ("too-many-open-files", "unreachable", False, Stage.DIAL, "OSError: Too many open files", "", None),
    ("proxy-command", "unreachable", False, Stage.DIAL, "ProxyCommand", "sh: 1: exec: tunnel: not found", None),
    ("proxy-command", "unreachable", False, Stage.DIAL, "ProxyCommand: No such file or directory", "", None),
    ("no-address", "unreachable", False, Stage.DIAL, "gaierror: Name or service not known", "", None),
    ("refused", "unreachable", False, Stage.DIAL, "ConnectionRefusedError: Connection refused", "", None),
    ("no-answer", "unreachable", False, Stage.DIAL, "TimeoutError: timed out", "", None),
    ("no-way", "unreachable", False, Stage.DIAL, "OSError: No route to host", "", None),
    ("not-allowed-now", "connection-lost", True, Stage.GREETING, "", "Not allowed at this time", None),
    ("not-allowed-now", "connection-lost", True, Stage.GREETING, "it said: Exceeded MaxStartups", "", None),
    ("speaks-no-ssh", "unreachable", False, Stage.GREETING, "it said: HTTP/1.1 400", "HTTP/1.1 400", None),
    ("speaks-no-ssh", "unreachable", False, Stage.GREETING, 'Indecipherable protocol version "+OK"', "", None),
    ("broke", "connection-lost", True, Stage.GREETING, "Error reading SSH protocol banner", "", None),
    (
        "no-common-algorithm",
        "unreachable",
        False,
        Stage.KEYS,
        "Incompatible ssh peer (no acceptable ciphers)",
        "",
        None,
    ),
    ("broke", "connection-lost", True, Stage.KEYS, "EOF during negotiation", "", None),
    ("too-many-keys", "authentication-refused", False, Stage.SIGN_IN, "a, b", "Too many authentication failures", None),
    ("second-factor", "authentication-refused", False, Stage.SIGN_IN, "the host asks for a second factor", "", None),
    ("account-locked", "authentication-refused", False, Stage.SIGN_IN, "", "Your account has expired", None),
    (
        "broke",
        "connection-lost",
        True,
        Stage.SIGN_IN,
        "Authentication failed: transport shut down or saw EOF",
        "",
        None,
    ),
    ("no-session", "unreachable", False, Stage.SESSION, "ChannelException(2, 'Connect failed')", "", None),
    ("no-session", "unreachable", False, Stage.SESSION, "ChannelException(1, 'Administratively prohibited')", "", None),
    ("no-commands", "agent-unavailable", False, Stage.SESSION, "Channel closed.", "", None),
    ("password-change", "agent-unavailable", False, Stage.START, "", "You are required to change your password", 1),
    ("no-commands", "agent-unavailable", False, Stage.START, "", "This account is currently not available.", 1),
    ("no-commands", "agent-unavailable", False, Stage.START, "", "This service allows sftp connections only.", 1),
    ("no-commands", "agent-unavailable", False, Stage.START, "", "fatal: Interactive git shell is not enabled.", 128),
    ("python-missing", "agent-unavailable", False, Stage.START, "", "bash: line 1: python3: command not found", 127),
    ("python-missing", "agent-unavailable", False, Stage.START, "", "sh: 1: /opt/p: Permission denied", 127),
    ("python-missing", "agent-unavailable", False, Stage.START, "", "", 127),
    ("python-broken", "agent-unavailable", False, Stage.START, "", "Fatal Python error: init_fs_encoding", 127),
    ("python-broken", "agent-unavailable", False, Stage.START, "", "ModuleNotFoundError: No module named 'zlib'", 127),
    ("python-broken", "agent-unavailable", False, Stage.START, "", "unknown option -I", 127),
    ("killed", "agent-unavailable", True, Stage.START, "", "bash: fork: Resource temporarily unavailable", 254),
    ("no-commands", "agent-unavailable", False, Stage.START, "", "only backups here", 0),
    ("no-commands", "agent-unavailable", False, Stage.START, "", "", 1),
    ("broke", "connection-lost", True, Stage.START, "", "half a banner", None),
]


@pytest.mark.parametrize(("word", "kind", "is_passing", "stage", "error", "said", "status"), SEEN)
def test_what_is_seen_has_its_cause(
    word: str, kind: str, is_passing: bool, stage: Stage, error: str, said: str, status: int | None
) -> None:
    found = explain(Attempt(stage, error, said, status, alias="gpu", place="gpu.example.org port 22", proxy="tunnel"))
    assert (found.word, found.kind, found.is_passing) == (word, kind, is_passing)
    assert found.message
    assert found.remedy
    assert "{" not in found.message + found.remedy
    assert said.split("\n", maxsplit=1)[0][-40:] in found.message or not said


def test_every_row_is_seen() -> None:
    """A row that no example reaches would be dead, or hidden by one above it."""
    seen = {(word, stage) for word, _, _, stage, *_ in SEEN}
    assert {(row.word, row.stage) for row in TABLE} <= seen


def test_words_of_the_host_stay_on_one_line_and_short() -> None:
    said = "one\nok  all good\r" + "x" * 10_000
    found = explain(Attempt(Stage.START, said=said, status=1))
    assert "\n" not in found.message
    assert "\r" not in found.message
    assert len(found.message) < 500
