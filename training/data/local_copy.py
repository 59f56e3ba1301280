"""Training reads local disks only: what lies on a network or FUSE mount is copied first, by the system's own `cp` (S10-R01).

Free space is looked at before; where there is not enough, or the copy fails, the file is read where it is, with a warning
(S10-R03, S10-R04). A copy is named by place, size and time of its original, so a newer original gets a new copy.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

from manifests.errors import NotPrivate
from manifests.ownership import private_dir
from training.data.sources import Source

REMOTE = frozenset(
    ("9p", "afs", "beegfs", "ceph", "cifs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs", "virtiofs")
)
# Left free for everything else that the run writes.
SPARE_BYTES = 1 << 30
MOUNTS = Path("/proc/self/mountinfo")
Warn = Callable[[str], None]


def warn(message: str) -> None:
    """Say it on stderr, which is the run's log."""
    print(f"warning  {message}", file=sys.stderr, flush=True)


def is_remote(path: Path, mounts: Path = MOUNTS) -> bool:
    """Whether a path lies on a network or FUSE mount; False where the mounts cannot be read (no Linux)."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    real = os.path.realpath(path)
    found = (_mount(line) for line in lines if " - " in line)
    holding = [(len(place), kind) for place, kind in found if real == place or real.startswith(place.rstrip("/") + "/")]
    # Of two mounts at one place the later one hides the other.
    kind = max(reversed(holding), key=lambda each: each[0])[1] if holding else ""
    return kind in REMOTE or kind.startswith("fuse")


def _mount(line: str) -> tuple[str, str]:
    """(mount point, type) of a line of mountinfo; blanks in it are written in octal."""
    place = line.split()[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
    return place.encode("latin-1").decode("utf-8", "surrogateescape"), line.partition(" - ")[2].split()[0]


def local_file(path: Path, *, say: Warn = warn, mounts: Path = MOUNTS, scratch: Path | None = None) -> Path:
    """The file itself where it lies on a local disk, else a local copy of it; the file itself also where no copy fits."""
    if not is_remote(path, mounts):
        return path
    facts = path.stat()
    mark = hashlib.sha256(
        f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}".encode("utf-8", "surrogateescape")
    ).hexdigest()
    folder = scratch or Path(tempfile.gettempdir()) / f"hemma-local-{os.getuid()}"
    copy = folder / mark[:24] / path.name
    try:
        # Its name can be guessed, so somebody else may have made it, with data of theirs in it.
        private_dir(str(folder))
        if copy.is_file() and copy.stat().st_size == facts.st_size:
            return copy
        private_dir(str(copy.parent))
    except (OSError, NotPrivate) as error:
        say(f"{path} is read over the network: {error}")
        return path
    return copy if _copied(path, copy, facts.st_size, say) else path


def _copied(path: Path, copy: Path, size: int, say: Warn) -> bool:
    free = shutil.disk_usage(copy.parent).free
    if free < size + SPARE_BYTES:
        say(f"{path} is read over the network: a local copy needs {size + SPARE_BYTES} bytes, {free} are free")
        return False
    staged = copy.with_name(f".{copy.name}.{os.getpid()}")
    told = subprocess.run(["cp", "--", str(path), str(staged)], capture_output=True, text=True, check=False)
    if told.returncode:
        staged.unlink(missing_ok=True)
        say(f"{path} is read over the network: {told.stderr.strip() or 'cp failed'}")
        return False
    staged.replace(copy)
    return True


@contextlib.contextmanager
def read_locally(
    source: Source, *, say: Warn = warn, mounts: Path = MOUNTS, scratch: Path | None = None
) -> Generator[None]:
    """While it lasts, `source` reads local copies of its files that are remote; they are deleted after (S10-R05)."""
    copies = {path: local_file(path, say=say, mounts=mounts, scratch=scratch) for path in source.files}
    source.local = {path: copy for path, copy in copies.items() if copy != path}
    try:
        yield
    finally:
        for copy in source.local.values():
            shutil.rmtree(copy.parent, ignore_errors=True)
        source.local = {}
