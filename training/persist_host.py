"""A second host as the place of a result: plain ssh and tar, hashed over there (S14-R03). Nothing of ours is installed on it.

Every line that its shell runs is a constant; folder and name go in as the first lines of standard input. Keys come from the
user's own ssh settings; a host that is not in known_hosts is refused, a password is never asked for.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from manifests import commands
from manifests.errors import HemmaError
from training.errors import NoRoom
from training.persist import (
    MANIFEST,
    DestinationRefused,
    Facts,
    Held,
    Listing,
    Progress,
    Receipt,
    compared,
    listed_in,
    listing_of,
    manifest_bytes,
    receipt_of,
)

TRIES = 3
_OPTIONS = ("BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=15", "ServerAliveInterval=15")
_SSH = ("ssh", *(word for option in _OPTIONS for word in ("-o", option)))
_DESTINATION = re.compile(r"(?P<host>[A-Za-z0-9_](?:[A-Za-z0-9_.@-]*[A-Za-z0-9])?):(?P<folder>[^\s].*)", re.DOTALL)
_READ = (
    "set -eu; LC_ALL=C; export LC_ALL; umask 022; IFS= read -r d; IFS= read -r n; "
    'case "$d" in "~") d=$HOME;; "~/"*) d=$HOME/${d#"~/"};; esac; '
)
_HASH = "h=sha256sum; command -v sha256sum >/dev/null 2>&1 || h='shasum -a 256'; "
RESOLVE = (
    _READ
    + 'mkdir -p -- "$d"; cd -- "$d"; test -w .; command -v tar >/dev/null; echo hemma-ready; pwd; df -Pk . | tail -n 1'
)
LIST = _READ + _HASH + 'cd -- "$d"; test -d "$n" || exit 44; cd -- "$n"; find . -type f -exec $h {} +'
STAGE = _READ + 'cd -- "$d"; mkdir -p -- "$n"; cd -- "$n"; tar -xf -; sync'
SHOW = _READ + 'cd -- "$d"; test ! -e "$n"; mv -- ".$n.staged" "$n"; sync'
CLEAN = _READ + 'cd -- "$d"; rm -rf -- ".$n.staged"'
NOT_THERE = 44
_IS_FULL = re.compile(r"No space left|quota exceeded", re.IGNORECASE)
_SAYS_WHY = re.compile(r"No space left|quota exceeded|denied|refused|not found|Read-only|timed out", re.IGNORECASE)


class Host:
    """`host:folder` of the user's ssh settings."""

    def __init__(self, destination: str, name: str) -> None:
        """Results go to `destination`/`name`. Raises DestinationRefused when it is not `host:folder`."""
        found = _DESTINATION.fullmatch(destination)
        if found is None:
            raise DestinationRefused(
                f"{destination!r} is not host:folder", remedy="destination: backup:models   (a Host of ~/.ssh/config)"
            )
        self._host, self._base = found["host"], found["folder"].rstrip("/") or "/"
        parent, _, self._last = name.rpartition("/")
        self._folder = f"{self._base}/{parent}" if parent else self._base
        self._name = name

    def resolve(self) -> Facts:
        """Where it is over there, and how much room there is. Raises DestinationRefused with what ssh said."""
        said = self._run(RESOLVE, self._last) or ""
        # What its start-up files print comes before that word.
        place, _, disk = said.rpartition("hemma-ready\n")[2].strip().rpartition("\n")
        free = disk.split()[3] if len(disk.split()) > 3 else ""
        return {**self._facts(place), "free_bytes": int(free) * 1024 if free.isdigit() else None}

    def put(self, folder: Path, on_progress: Progress | None = None) -> Receipt:
        """Send `folder` there: what an earlier push left whole stays, all is hashed there before it shows."""
        facts = self.resolve()
        listing = listing_of(folder, on_progress)
        place = str(facts["destination"]).partition(":")[2]
        present = self._list(self._last, listing)
        if present is not None:
            self._refuse_other(present, listing)
            return receipt_of("host", **self._facts_of(place), listing=listing, is_new=False)
        self._demand_room(facts, listing)
        self._send(folder, listing, on_progress)
        self._run(SHOW, self._last)
        return receipt_of("host", **self._facts_of(place), listing=listing, is_new=True)

    def verify(self, receipt: Receipt) -> Facts:
        """Hash every file over there again. Raises DestinationRefused when it is not there at all."""
        wanted = listed_in(json.dumps(receipt).encode(), "the receipt")
        there = self._list(self._last, wanted)
        if there is None:
            raise DestinationRefused(
                f"{receipt['destination']} is not there", remedy="push the result again", code="digest-mismatch"
            )
        return compared(receipt, there)

    def _facts(self, place: str) -> dict[str, Any]:
        return self._facts_of(f"{place.rstrip('/')}/{self._last}")

    def _facts_of(self, place: str) -> dict[str, Any]:
        return {"destination": f"{self._host}:{place}", "url": f"sftp://{self._host}{place}"}

    def _refuse_other(self, present: Listing, listing: Listing) -> None:
        if present != listing:
            raise DestinationRefused(
                f"{self._host}:{self._folder}/{self._last} holds another result already",
                remedy=commands.command("ssh {} {}", self._host, str(commands.command("ls -la {}", self._folder))),
                code="destination-taken",
            )

    def _demand_room(self, facts: Facts, listing: Listing) -> None:
        needed = sum(held.size for held in listing.values())
        if facts["free_bytes"] is not None and needed > facts["free_bytes"]:
            raise NoRoom("the result", str(facts["destination"]), needed_bytes=needed, free_bytes=facts["free_bytes"])

    def _send(self, folder: Path, listing: Listing, on_progress: Progress | None) -> None:
        """Send until all is there as listed; a cut link costs the file it was in."""
        staged, trouble = f".{self._last}.staged", DestinationRefused("what arrived is not what was sent")
        manifest = manifest_bytes(listing, self._name)
        for _ in range(TRIES):
            there = self._list(staged, listing) or {}
            if any(name not in listing for name in there):
                self._run(CLEAN, self._last)
                there = {}
            missing = [name for name in listing if there.get(name) != listing[name]]
            try:
                self._run(
                    STAGE, staged, lambda out, names=missing: write_tar(out, folder, names, manifest, on_progress)
                )
            except DestinationRefused as error:
                trouble = error
                if _IS_FULL.search(error.message):
                    raise self._full(listing) from error
            if self._list(staged, listing) == listing:
                return
        raise trouble

    def _full(self, listing: Listing) -> HemmaError:
        """The error for a full disk over there; what was staged is removed, so that it has its room again."""
        self._run(CLEAN, self._last)
        needed = sum(held.size for held in listing.values())
        free = self.resolve()["free_bytes"] or 0
        return NoRoom("the result", f"{self._host}:{self._folder}", needed_bytes=needed, free_bytes=free)

    def _list(self, name: str, wanted: Listing) -> Listing | None:
        """The files of a folder over there, hashed there; None when there is no such folder."""
        said = self._run(LIST, name, may_be_missing=True)
        if said is None:
            return None
        found = parsed(said)
        # Over there only contents are compared: the same hash is the same size.
        same = {each: held for each, held in wanted.items() if found.get(each) == held.sha256}
        return {each: same.get(each, Held(digest, -1)) for each, digest in found.items()}

    def _run(
        self, script: str, name: str, feed: Callable[[IO[bytes]], None] | None = None, *, may_be_missing: bool = False
    ) -> str | None:
        """Run a constant script there on our folder and `name`, then feed it; returns what it said, None for NOT_THERE."""
        command = [*_SSH, "--", self._host, f"sh -c {shlex.quote(script)}"]
        # Their words go to files: a pipe that nobody reads while we write would stop both sides.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=err)
            except FileNotFoundError as error:
                raise DestinationRefused(
                    "ssh is not installed here", remedy="apt-get install openssh-client"
                ) from error
            with running:
                _feed(running, f"{self._folder}\n{name}\n".encode("utf-8", "surrogateescape"), feed)
            if running.returncode == NOT_THERE and may_be_missing:
                return None
            if running.returncode:
                raise DestinationRefused(
                    f"{self._host}:{self._folder}: {_cause(_whole(err), running.returncode)}",
                    remedy=commands.command("ssh {} true", self._host),
                    code="destination-unreachable",
                )
            return _whole(out)


def _feed(running: subprocess.Popen[bytes], head: bytes, feed: Callable[[IO[bytes]], None] | None) -> None:
    assert running.stdin is not None
    # A program that ended early breaks the pipe; its own words say why, and its code is judged.
    with contextlib.suppress(BrokenPipeError):
        running.stdin.write(head)
        if feed:
            feed(running.stdin)
    with contextlib.suppress(BrokenPipeError):
        running.stdin.close()


def _cause(complaint: str, code: int) -> str:
    """The line that says why; tar's last one only says that there was one before."""
    lines = complaint.strip().splitlines() or [f"it ended with code {code}"]
    return next((line for line in lines if _SAYS_WHY.search(line)), lines[-1])


def _whole(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "surrogateescape")


def write_tar(
    out: IO[bytes], folder: Path, names: list[str], manifest: bytes, on_progress: Progress | None = None
) -> None:
    """The files as a tar stream, the list of hashes last; owner and time of this machine stay here."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20) as archive:
        for number, name in enumerate(names, 1):
            with (folder / name).open("rb") as file:
                archive.addfile(_entry(name, (folder / name).stat().st_size), file)
            if on_progress:
                on_progress(number, len(names), f"send {name}")
        archive.addfile(_entry(MANIFEST, len(manifest)), io.BytesIO(manifest))


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry


def parsed(said: str) -> dict[str, str]:
    """Name and hash of each line that LIST printed; our own list of hashes is left out."""
    found: dict[str, str] = {}
    for line in said.splitlines():
        match = re.fullmatch(r"(\\?)([0-9a-f]{64}) [ *](.*)", line)
        if match:
            # How coreutils writes a name with a backslash or a line end.
            name = re.sub(r"\\(.)", _unescaped, match[3]) if match[1] else match[3]
            found[name.removeprefix("./")] = match[2]
    return {name: digest for name, digest in found.items() if name != MANIFEST}


def _unescaped(match: re.Match[str]) -> str:
    return {"n": "\n", "r": "\r"}.get(match[1], match[1])
