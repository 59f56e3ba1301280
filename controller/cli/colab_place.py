"""Where the verbs of `hemma colab` work: the Drive of this folder, and a slice here or on the host."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator

from controller.flows import drive


@contextlib.contextmanager
def place_here() -> Generator[drive.Place]:
    """The store that the setting `drive` means, closed again at the end. Raises UsageError, NotSignedIn."""
    place = drive.open_place(drive.setting(os.getcwd(), os.environ), os.environ)
    try:
        yield place
    finally:
        place.store.close()


def slice_here(folder: str) -> str:
    """The slice's folder on this machine, brought from the host where it lies there. Raises HemmaError slice-missing."""
    if os.path.isdir(folder):
        return folder
    from controller.cli.run import settings_for
    from controller.flows import slice_fetch

    return slice_fetch.here(folder, settings_for(None))
