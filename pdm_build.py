"""Wheel layout: everything but the door moves under `hemma/_app/`, so that site-packages gains one name only.

Bare names such as `training` in site-packages would be shadowed by a user's folder on PYTHONPATH, or shadow theirs.
"""

from pathlib import Path
from typing import Any


def pdm_build_update_files(context: Any, files: dict[str, Path]) -> None:
    """Re-home each file of a wheel; an editable install and the sdist keep the tree as it is."""
    if context.target != "wheel":
        return
    for name in [name for name in files if not name.startswith("hemma/")]:
        files["hemma/_app/" + name] = files.pop(name)
