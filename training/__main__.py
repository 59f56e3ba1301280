"""The payload's door: `python -I payload.zip execute JOB` on the host, `... work NAME JOB RESULT` for its children."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from manifests.errors import LACKS_PACKAGE, HemmaError
from manifests.files import read_json, write_json
from manifests.visible import one_line

USAGE = "usage: payload.zip execute JOB | work NAME JOB RESULT"


def main() -> int:
    """Run the request, or one piece of work for it; returns the exit code."""
    words = sys.argv[1:]
    try:
        if len(words) == 2 and words[0] == "execute":
            return _execute(Path(words[1]))
        if len(words) == 4 and words[0] == "work":
            return _work(words[1], Path(words[2]), words[3])
    except HemmaError as error:
        print(f"failed   {one_line(error.message)}\ndo       {one_line(error.remedy)}", file=sys.stderr)
        return error.exit_code
    print(USAGE, file=sys.stderr)
    return 2


def _execute(path: Path) -> int:
    try:
        from training.executor import execute
    except ModuleNotFoundError as error:
        # Before the first event: the exit code alone reaches whoever follows, this line the run's log.
        print(f"failed   {sys.executable} lacks the package {one_line(str(error.name))}", file=sys.stderr)
        return LACKS_PACKAGE

    # Beside the supervisor's own files, which have their own events.
    folder = Path(os.environ["HEMMA_RUN_DIR"]) / "training"
    folder.mkdir(mode=0o700, exist_ok=True)
    job = {**read_json(str(path)), "run_id": os.environ["HEMMA_RUN_ID"], "root": os.getcwd()}
    digest = hashlib.sha256(Path(sys.argv[0]).read_bytes()).hexdigest()
    return execute(job, Path.cwd(), folder, digest)


def _work(name: str, path: Path, result: str) -> int:
    from training.children import end_with_parent

    end_with_parent()
    # A user's own modules (a reward function) are found in the repository; ours have a prefix and are not hidden.
    sys.path.append(os.getcwd())
    work = _pieces().get(name)
    if work is None:
        print(f"no piece of work is called {name}", file=sys.stderr)
        return 2
    found = work(read_json(str(path)), path.parent)
    write_json(result, json.loads(json.dumps(found, default=str)))
    return 0


def _pieces() -> dict[str, Callable[[dict[str, Any], Path], dict[str, Any]]]:
    return {
        "survey": _survey,
        "data-audit": _data_audit,
        "smoke": _trainer("smoke"),
        "preflight": _trainer("preflight"),
        "full": _trainer("full"),
        "evaluate": _evaluate,
    }


def _survey(job: dict[str, Any], _: Path) -> dict[str, Any]:
    from training.survey import survey

    return survey(job)


def _data_audit(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    from training.data.audit import audit
    from training.models import load_tokenizer

    return audit(job, folder, load_tokenizer(job), None)


def _trainer(name: str) -> Callable[[dict[str, Any], Path], dict[str, Any]]:
    def piece(job: dict[str, Any], folder: Path) -> dict[str, Any]:
        from training import work

        return getattr(work, name)(job, folder)

    return piece


def _evaluate(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    from training.evaluation import evaluate

    return evaluate(job, folder / "artifacts" / "model", folder, None)


if __name__ == "__main__":
    sys.exit(main())
