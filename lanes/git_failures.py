"""Why git would not do what was asked: one table, from what git prints to cause, remedy and a stable word.

git's own words are in English here: every git of ours runs with LC_ALL=C. Rows are read in order; the first that fits holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import LiteralString

from manifests.commands import Command, command


@dataclass(frozen=True)
class Row:
    """One known failure. The groups of `pattern` fill the `{}` of cause and remedy, there each as one word of a shell."""

    word: str
    pattern: str
    cause: str
    remedy: LiteralString


@dataclass(frozen=True)
class GitTrouble:
    """A failure in words: `word` is stable, `cause` one clause without the place, `remedy` a command for where it happened."""

    word: str
    cause: str
    remedy: Command


TABLE: tuple[Row, ...] = (
    Row(
        "dubious-ownership",
        r"detected dubious ownership in repository at '([^'\n]*)'",
        "the clone belongs to another account, so git does not trust it",
        "git config --global --add safe.directory {}",
    ),
    Row(
        "no-identity",
        r"please tell me who you are|fatal: no (?:name|email) was given|empty ident name|unable to auto-detect email",
        "git does not know who you are (user.name, user.email)",
        "git config --global user.name 'Your Name'; git config --global user.email you@example.com",
    ),
    Row(
        "cannot-sign",
        r"gpg failed to sign|secret key not available|no secret key|either user\.signingkey|couldn't find key in agent|"
        r"couldn't load public key|failed to sign the data|cannot run gpg|gpg\.ssh\.defaultKeyCommand",
        "commits are to be signed (commit.gpgsign) and git cannot: give it a key (user.signingkey), or sign none in this clone",
        "git config commit.gpgsign false",
    ),
    Row(
        "index-locked",
        r"unable to create '([^'\n]*\.lock)': file exists",
        "another git works there, or one that was killed has left its lock {} (see first that none runs)",
        "rm {}",
    ),
    Row(
        "disk-full",
        r"no space left on device|disk quota exceeded",
        "the disk is full",
        "df -h; hemma prune",
    ),
    Row(
        "not-writable",
        r"insufficient permission for adding an object|permission denied|read-only file system|operation not permitted",
        "the clone cannot be written by this account",
        "ls -ld .git .git/objects; whoami",
    ),
    Row(
        "bad-config",
        r"fatal: bad config (?:line \d+ in|file line \d+ in|value|numeric)|fatal: bad boolean config value",
        "a git configuration file cannot be read",
        "git config --list --show-origin",
    ),
    Row(
        "damaged-clone",
        r"object file .* is empty|loose object .* is corrupt|bad object HEAD|index file corrupt|invalid sha1 pointer|"
        r"packfile .* (?:is truncated|does not match)|unable to read tree|missing blob",
        "the clone is damaged",
        "git fsck --full",
    ),
    Row(
        "git-missing",
        r"git: command not found|no such file or directory: '?git'?",
        "there is no git",
        "apt-get install git",
    ),
)


def explain(stderr: str) -> GitTrouble | None:
    """What git's words mean, or None where no row knows them."""
    for row in TABLE:
        found = re.search(row.pattern, stderr, re.IGNORECASE)
        if found:
            groups = [group for group in found.groups() if group is not None]
            remedy = command(row.remedy, *groups[: row.remedy.count("{}")])
            return GitTrouble(row.word, row.cause.format(*groups), remedy)
    return None
