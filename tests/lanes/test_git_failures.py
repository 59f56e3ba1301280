"""What git 2.39 and 2.45 print when they refuse, and the cause that is told for it."""

from __future__ import annotations

import pytest

from lanes.git_failures import TABLE, explain

SEEN = [
    (
        "dubious-ownership",
        "fatal: detected dubious ownership in repository at '/srv/a b'\nTo add an exception",
        "git config --global --add safe.directory '/srv/a b'",
    ),
    (
        "no-identity",
        "Author identity unknown\n\n*** Please tell me who you are.\n\nRun",
        "git config --global user.name",
    ),
    ("no-identity", "fatal: no email was given and auto-detection is disabled", "git config --global user.name"),
    ("no-identity", "fatal: empty ident name (for <a@b>) not allowed", "git config --global user.name"),
    ("cannot-sign", "error: gpg failed to sign the data\nfatal: failed to write commit object", "commit.gpgsign false"),
    ("cannot-sign", "error: Couldn't load public key /x: No such file or directory?", "commit.gpgsign false"),
    (
        "cannot-sign",
        "fatal: either user.signingkey or gpg.ssh.defaultKeyCommand needs to be configured",
        "gpgsign false",
    ),
    ("cannot-sign", "error: cannot run gpg: No such file or directory", "commit.gpgsign false"),
    ("index-locked", "fatal: Unable to create '/srv/p/.git/index.lock': File exists.", "rm /srv/p/.git/index.lock"),
    ("disk-full", "error: file write error: No space left on device", "df -h"),
    ("not-writable", "error: insufficient permission for adding an object to repository database", "ls -ld"),
    ("not-writable", "error: unable to create file x: Read-only file system", "ls -ld"),
    ("bad-config", "fatal: bad config line 3 in file /srv/p/.git/config", "git config --list --show-origin"),
    ("damaged-clone", "fatal: loose object 1234 (stored in .git/objects/12/34) is corrupt", "git fsck --full"),
    ("damaged-clone", "fatal: index file corrupt", "git fsck --full"),
    ("git-missing", "bash: git: command not found", "apt-get install git"),
]


@pytest.mark.parametrize(("word", "stderr", "remedy"), SEEN)
def test_what_git_prints_has_its_cause(word: str, stderr: str, remedy: str) -> None:
    found = explain(stderr)
    assert found is not None
    assert found.word == word
    assert remedy in found.remedy


def test_every_row_is_seen() -> None:
    assert {row.word for row in TABLE} == {word for word, _, _ in SEEN}


@pytest.mark.parametrize("stderr", ["", "error: pathspec 'x' did not match", "CONFLICT (content): merge conflict in a"])
def test_what_is_not_known_is_left_to_git(stderr: str) -> None:
    assert explain(stderr) is None
