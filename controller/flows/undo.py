"""`hemma undo`: what a person's words mean (a run, a time, a backup, files), and what a clone has to say to it."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from manifests.commands import command
from manifests.errors import UsageError
from remote.agent.frames import text_of
from remote.agent.gitfacts import toplevel

_BACKUP = re.compile(r"refs/hemma/backup/\S+|\d{8}T\d{6}\S*")
_RUN = re.compile(r"last|\d{8}-\d{6,9}(?:-[0-9a-f]*)?|[0-9a-f]{6,8}")
_CLOCK = re.compile(r"(?:(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?))?|(\d?\d:\d\d(?::\d\d)?))")
_AGO = re.compile(r"(\d+)(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Target(NamedTuple):
    """What to go back to: a run or backup by name, or a moment; neither is the newest that differs. `paths`: only these."""

    what: str | None
    at_s: float | None
    paths: list[str]

    def fields(self) -> dict[str, Any]:
        """As the request carries it."""
        return {"what": self.what, "at_s": self.at_s, "paths": self.paths}


def target(words: Sequence[str], now: dt.datetime, is_there: Callable[[str], bool] = os.path.lexists) -> Target:
    """What the words of `hemma undo` mean. `now` has this machine's time zone. Raises UsageError for what may be two things."""
    first = words[0] if words else ""
    at_s = _moment(first, now)
    is_name = at_s is not None or bool(_BACKUP.fullmatch(first) or _RUN.fullmatch(first))
    if is_name and is_there(first):
        raise UsageError(
            f"{first!r} may be a file here, or a run, a time or a backup",
            remedy=command("hemma undo ./{}   for the file, hemma undo --list   for the names of backups", first),
        )
    rest = words[1:] if is_name else words
    return Target(first if is_name else None, at_s, [_from_top(word) for word in rest])


def _moment(word: str, now: dt.datetime) -> float | None:
    if found := _AGO.fullmatch(word):
        return now.timestamp() - int(found[1]) * _SECONDS[found[2]]
    found = _CLOCK.fullmatch(word)
    if found is None:
        return None
    day, clock = found[1] or now.date().isoformat(), found[2] or found[3] or "23:59:59"
    try:
        moment = dt.datetime.fromisoformat(f"{day}T{clock.zfill(len(clock) + (clock.index(':') == 1))}")
    except ValueError:
        raise UsageError(
            f"{word!r} is no time", remedy="hemma undo 14:05   or   hemma undo '2026-12-01 14:05'"
        ) from None
    moment = moment.replace(tzinfo=now.tzinfo)
    if found[3] and moment > now:  # a clock alone is the last time it showed that
        moment -= dt.timedelta(days=1)
    return moment.timestamp()


def _from_top(name: str) -> str:
    """The path from the top of the clone; outside a clone as it was given."""
    here = os.path.realpath(os.getcwd())
    top = toplevel(here)
    if top is None:
        return text_of(os.fsencode(os.path.normpath(name)))
    path = os.path.normpath(os.path.join(here, name))
    found = os.path.relpath(path, top)
    if found.startswith(".."):
        raise UsageError(f"{name} is not inside {top}", remedy="hemma undo --list")
    return text_of(os.fsencode(found))


def counts(restored: dict[str, Any] | None) -> str:
    """What an undo changes, in a few words."""
    if restored is None or restored["is_empty"]:
        return "nothing: as it is now"
    files = restored["counts"]["files"] + restored["counts"]["removed"]
    refs = restored["counts"]["refs"]
    parts = [f"{files} file{'s' * (files != 1)}" if files else ""]
    parts += [f"{refs} ref{'s' * (refs != 1)}" if refs else ""]
    parts += ["HEAD" if restored["head"] else "", "stashes" if restored["stashes"] else ""]
    parts += ["the index" if restored["is_index_changed"] else "", "an operation" if restored["beside"] else ""]
    return ", ".join(part for part in parts if part)
