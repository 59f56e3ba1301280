"""What a processor makes besides its answer (an adapter, a picture): written to this machine's own disk, kept in the run when whole.

A mounted Drive is never written to while a row is at work: it is slow, and it can go away. A row counts as done only after
each of its files was read back from the run's directory with its digest (C26).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time

from training.rows import bundle
from training.rows.files import Files

# The processor finds its folder in this variable: empty when a row begins, its own alone.
VARIABLE = "HEMMA_ARTIFACTS"
FOLDER = "artifacts"
_TRIES = 4


class Artifacts:
    """The folders on this machine's disk, one for each child, and the way from there into the run's directory."""

    def __init__(self, files: Files, *, wait_s: float) -> None:
        self._files, self._wait_s = files, wait_s
        self.folder = tempfile.mkdtemp(prefix="hemma-artifacts-")

    def keep(self, folder: str, *, is_done: bool) -> str:
        """Bring what a row left in `folder` into the run, if it is done, and empty the folder; why not, empty when all is kept.

        Of two rows that make a file of the same name the later one's stays. Called from the children's threads.
        """
        if _is_empty(folder):  # as it is after most rows of most processors, thousands a second
            return ""
        try:
            for path in _files_in(folder) if is_done else []:
                error = self._brought(os.path.join(folder, path), f"{FOLDER}/{path.replace(os.sep, '/')}")
                if error:
                    return f"its file {path} could not be kept: {error}"
            return ""
        finally:
            empty(folder)

    def close(self) -> None:
        """Remove the folders."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _brought(self, source: str, target: str) -> str:
        wanted, error = bundle.file_sha256(source), ""
        for number in range(_TRIES):
            if number:
                time.sleep(self._wait_s * 4**number)
            try:
                self._files.bring(target, source)
                if self._files.sha256(target) == wanted:
                    return ""
                error = "what was read back is not what was written"
            except OSError as fault:
                error = str(fault)
        return error


def empty(folder: str) -> None:
    """Remove everything in a folder, and leave the folder."""
    os.makedirs(folder, exist_ok=True)  # a processor may have removed it
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)


def _is_empty(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def _files_in(folder: str) -> list[str]:
    """Plain files below a folder, sorted; what a link leads to is not followed."""
    found: list[str] = []
    for here, folders, names in os.walk(folder):
        folders.sort()
        paths = [os.path.join(here, name) for name in names]
        found += [os.path.relpath(path, folder) for path in paths if not os.path.islink(path)]
    return sorted(found)
