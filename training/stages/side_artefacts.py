"""What lies beside a result so that it can be understood later: logs, metrics, alerts, evidence and scripts (S14-R05)."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
from collections.abc import Generator
from pathlib import Path

from training.course import Course

FOLDERS = ("logs", "evidence", "artifacts/results")
FILES = ("job.json", "events.jsonl", "metrics.jsonl", "alerts.jsonl")


@contextlib.contextmanager
def gathered(course: Course) -> Generator[Path]:
    """A folder with copies of all of it as it is now: the log of events goes on while they are sent."""
    place = course.folder / "work" / "beside"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        for name in FOLDERS:
            if (course.folder / name).is_dir():
                shutil.copytree(course.folder / name, place / name)
        for name in FILES:
            if (course.folder / name).is_file():
                shutil.copyfile(course.folder / name, place / name)
        _add_scripts(course, place / "scripts")
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _add_scripts(course: Course, place: Path) -> None:
    """The code that ran: ours as it was sent, the user's reward function, and the manifest."""
    place.mkdir()
    ours = Path(sys.argv[0])
    if ours.is_file() and hashlib.sha256(ours.read_bytes()).hexdigest() == course.payload_digest:
        shutil.copyfile(ours, place / "payload.zip")
    module = str(course.job["dataset"].get("reward") or "").partition(":")[0]
    own = [f"{module.replace('.', '/')}.py"] if module else []
    for name in [*own, str(course.job.get("manifest") or "")]:
        # A manifest that came from another machine has no file here; its whole content is in job.json.
        if name and not Path(name).is_absolute() and (course.root / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(course.root / name, place / name)
