"""Writing the spool so that it holds: every batch is read back, and what was dropped is written again (S9-R36)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TypeVar

from lanes.slice_spool import Completed, Entry, encode, entries, results_name, results_of, spool_name, whole_bytes
from manifests.errors import HemmaError
from training.rows.files import Files

Found = TypeVar("Found")
# How often an act on the run's directory is tried, and the first wait between; it doubles up to MAX_WAIT_S.
TRIES = 10
WAIT_S = 0.25
MAX_WAIT_S = 20.0
# The try at which it is said that the folder is in trouble.
SAID_AT = 3


class RunFolderUnusable(HemmaError):
    """The run's directory did not take what was written to it, however often it was tried."""

    code = "run-folder-unusable"


class Spool:
    """The shards of one run. One session writes at a time; what it says is written was read back from the folder."""

    def __init__(
        self, files: Files, *, wait_s: float = WAIT_S, tries: int = TRIES, say: Callable[[str], None] | None = None
    ) -> None:
        self._files, self._wait_s, self._tries, self._say = files, wait_s, tries, say
        self._waiting: dict[int, list[bytes]] = {}
        # Lines of shards that are not closed yet: what was seen written may still be lost by a mount.
        self._written: dict[int, list[bytes]] = {}
        self._verified: dict[int, int] = {}
        self.rewritten = 0

    @property
    def waiting(self) -> int:
        """Rows that were taken and are not in the folder yet."""
        return sum(map(len, self._waiting.values()))

    def load(self, shard: int, known: Completed) -> None:
        """Count a shard's entries into `known`, and cut off a line that was torn. Raises RunFolderUnusable."""
        spool = self._read(shard)
        known.take(entries(spool))
        self._verified[shard] = size = whole_bytes(spool)
        if size < len(spool):
            try:
                self._files.truncate(spool_name(shard), size)
            except (
                OSError
            ):  # some mounts cannot; the next line then begins with a newline, and readers pass this one over
                self._waiting.setdefault(shard, []).append(b"\n")

    def add(self, shard: int, entry: Entry) -> None:
        """Take an entry; it is in the folder after the next `flush`."""
        self._waiting.setdefault(shard, []).append(encode(entry))

    def flush(self) -> None:
        """Write what waits, and read it back. Raises RunFolderUnusable; what is not known to be written still waits."""
        for shard in sorted(self._waiting):
            lines = self._waiting[shard]
            self._steady(lambda shard=shard, lines=lines: self._files.append(spool_name(shard), b"".join(lines)))
            self._make_sure(shard, [line for line in lines if line.strip()])
            self._written.setdefault(shard, []).extend(lines)
            del self._waiting[shard]

    def close(self, shard: int, keys: list[str], done: Collection[str]) -> None:
        """End a shard: all of it is in the folder, and its results, each row once, beside it. Raises RunFolderUnusable.

        `done` are keys that have a result: a folder that does not show one of them shows something old.
        """
        self._verified[shard] = 0
        self._make_sure(shard, self._written.pop(shard, []))
        expected = {key for key in keys if key in done}
        for attempt in range(self._tries):
            found = entries(self._read(shard))
            if expected <= {entry["key"] for entry in found if entry["state"] == "done"}:
                wanted = results_of(keys, found)
                if self._peek(results_name(shard)) != wanted:
                    self.put(results_name(shard), wanted)
                return
            time.sleep(self._pause(attempt))
        raise self._unusable(spool_name(shard), "rows that were read back before are not there any more")

    def put(self, name: str, data: bytes) -> None:
        """Replace a file of the run by `data`, and read it back. Raises RunFolderUnusable."""

        def act() -> None:
            self._files.replace(name, data)
            if self._peek(name) != data:
                raise OSError(5, "what was written is not what is read")

        self._steady(act)

    def _make_sure(self, shard: int, lines: list[bytes]) -> None:
        name = spool_name(shard)
        missing = self._missing(shard, lines)
        for attempt in range(self._tries):
            if not missing:
                break
            # What is read may only be old: look again before a line is written twice.
            time.sleep(self._pause(attempt))
            missing = self._missing(shard, missing)
            if missing and attempt % 2:
                self.rewritten += len(missing)
                again = b"\n" + b"".join(missing)
                self._steady(lambda again=again: self._files.append(name, again))
                missing = self._missing(shard, missing)
        if missing:
            raise self._unusable(name, f"{len(missing)} lines that were written are not there")

    def _missing(self, shard: int, lines: list[bytes]) -> list[bytes]:
        """Those of `lines` that the folder does not show beyond what was verified; without any the mark moves on."""
        if not lines:
            return []
        found = self._read(shard, self._verified.get(shard, 0))
        there = set(found.split(b"\n"))
        missing = [line for line in lines if line.strip() and line.rstrip(b"\n") not in there]
        if not missing:
            self._verified[shard] = self._verified.get(shard, 0) + whole_bytes(found)
        return missing

    def _read(self, shard: int, offset: int = 0) -> bytes:
        def act() -> bytes:
            try:
                return self._files.read(spool_name(shard), offset)
            except FileNotFoundError:
                return b""

        return self._steady(act)

    def _peek(self, name: str) -> bytes | None:
        try:
            return self._files.read(name)
        except OSError:
            return None

    def _steady(self, act: Callable[[], Found]) -> Found:
        for attempt in range(self._tries):
            try:
                return act()
            except OSError as error:
                if attempt == self._tries - 1:
                    raise self._unusable("the run's directory", str(error.strerror or error)) from error
                if attempt == SAID_AT and self._say:
                    # Whoever looks must not take it for a hang: it goes on like this for minutes.
                    self._say(f"the run's directory takes nothing now ({error.strerror or error}); trying on")
                time.sleep(self._pause(attempt))
        raise AssertionError  # the last try returns or raises

    def _pause(self, attempt: int) -> float:
        return min(self._wait_s * 2**attempt, MAX_WAIT_S)

    @staticmethod
    def _unusable(what: str, fact: str) -> RunFolderUnusable:
        return RunFolderUnusable(f"{what}: {fact}", remedy="mount it anew, look for free room, then run this again")
