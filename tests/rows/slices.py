"""What the tests of slices share: a clone with a processor, a slice of it, and a run of that slice in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from controller.flows import slices
from manifests.slices import parse_slice_manifest
from tests.support import RepositoryOnHost, make_repository
from training.rows import issue as issuing

MANIFEST = "manifests/slices/words.yaml"
# What the processor did is seen in the file that CALLS names: a line per call.
PROCESSOR = """\
import json
import os
import signal
import time

from prep import words


def clean(row):
    with open(os.environ.get("CALLS", os.devnull), "a", errors="backslashreplace") as file:
        file.write(str(row["id"]) + "\\n")
    what = row.get("do", "")
    if what == "raise":
        raise ValueError("it was refused: " + os.environ.get("A_TOKEN", "none"))
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        time.sleep(600)
    if what == "once" and not os.path.exists(row["mark"]):
        open(row["mark"], "w").close()
        raise RuntimeError("the first time it fails")
    if what.startswith("artifact"):
        with open(os.path.join(os.environ["HEMMA_ARTIFACTS"], "adapter-%s.bin" % row["id"]), "wb") as file:
            file.write(b"weights of " + str(row["id"]).encode())
        if what == "artifact, then raise":
            raise ValueError("after it wrote")
    if what == "nan":
        return {"value": float("nan")}
    if what == "list":
        return [1]
    time.sleep(row.get("sleep_s", 0))
    print("this goes to stderr, not into the answers")
    return {"id": row["id"], "words": words.count(row["text"]), "first": words.first(), "path": row.get("path")}
"""
WORDS = """\
def count(text):
    return len(text.split())


def first():
    with open("prep/words.txt") as file:
        return file.readline().strip()
"""
SELECT = """\
def even(rows):
    return (row for row in rows if row["id"] % 2 == 0)
"""
SMALL: dict[str, Any] = {
    "schema_version": 1,
    "kind": "slice",
    "name": "words",
    "task": "Count words.",
    "rows": {"source": "data/rows.jsonl", "key": "id"},
    "files": ["prep/words.txt"],
    "processor": "prep.clean:clean",
    "run": {"shard_rows": 5, "attempts": 2, "backoff": 0.01, "row_timeout": 20, "flush_rows": 3, "heartbeat": 0.2},
    "gpu": "none",
    "python": sys.executable,
}


def a_row(number: int, **more: Any) -> dict[str, Any]:
    """A row as the processor of these tests takes it."""
    return {"id": number, "text": "word " * (number % 7), **more}


def make_clone(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> RepositoryOnHost:
    """A clone with rows, a processor that imports a neighbour, data that is not needed, and a committed manifest."""
    made = make_repository(folder)
    texts = {
        "prep/__init__.py": "",
        "prep/clean.py": PROCESSOR,
        "prep/words.py": WORDS,
        "prep/choose.py": SELECT,
        "prep/words.txt": "hello\n",
        "prep/unused.py": "raise SystemExit('not needed')\n",
        "data/rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "data/large.bin": "x" * 10_000,
        MANIFEST: yaml.safe_dump({**SMALL, **changes}),
    }
    for path, text in texts.items():
        (made.path / path).parent.mkdir(parents=True, exist_ok=True)
        (made.path / path).write_text(text)
    commit(made)
    return made


def commit(clone: RepositoryOnHost) -> None:
    """Commit everything."""
    clone.git("add", "--all")
    clone.git("commit", "-q", "--allow-empty", "-m", "Change")


def issue(clone: RepositoryOnHost, **options: Any) -> dict[str, Any]:
    """Issue the slice of the clone's manifest, in this process: for manifests whose rows no code chooses."""
    return issuing.issue(_request(clone, options), str(clone.path))


def issue_apart(clone: RepositoryOnHost, **options: Any) -> dict[str, Any]:
    """The same as `hemma slice issue --here` does it: by the code sent by value, in a process of its own."""
    return slices.issue_here(str(clone.path), _request(clone, options), lambda _: None)


def _request(clone: RepositoryOnHost, options: dict[str, Any]) -> dict[str, Any]:
    return slices.request_of(parse_slice_manifest((clone.path / MANIFEST).read_text(), MANIFEST), MANIFEST, **options)


def a_slice(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> Path:
    """The folder of a slice over `rows`."""
    clone = make_clone(folder, rows, **changes)
    return clone.path / issue(clone)["folder"]


def engine(
    *words: str | Path, environ: dict[str, str] | None = None, **keywords: Any
) -> subprocess.CompletedProcess[str]:
    """Run the engine of the slice that the second word names, to its end."""
    argv = engine_argv(*words)
    env = {**os.environ, **(environ or {})}
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=env, timeout=60, **keywords)


def engine_argv(verb: str | Path, folder: str | Path, *words: str | Path) -> list[str]:
    """The command line of a slice's own engine."""
    return [sys.executable, "-I", str(Path(folder) / "source.pyz"), str(verb), str(folder), *map(str, words)]


def results(run: Path) -> list[dict[str, Any]]:
    """Every line of a run's results, in order."""
    names = sorted((run / "results").glob("*.jsonl"))
    return [json.loads(line) for name in names for line in name.read_text().splitlines()]
