"""The engine's door, in a slice: `python -I source.pyz run SLICE --run RUN`, or `python -m hemma_payload.training.rows ...`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from typing import Any

from manifests.errors import HemmaError
from manifests.visible import one_line
from training.rows import bundle, check
from training.rows.engine import Asked, RowRun
from training.rows.files import LocalFiles

# training/rows/__main__.py -> the folder or zip that holds the rooms, and the repository's own modules beside them.
_DEPTH = 4 if (__package__ or "").count(".") > 1 else 3


def source_root() -> str:
    """The folder or zip this engine was loaded from; the processor's modules lie in it too."""
    path = os.path.abspath(__file__)
    for _ in range(_DEPTH):
        path = os.path.dirname(path)
    return path


def main(words: list[str] | None = None) -> int:
    """Run one verb; returns the exit code. Failures are two lines on stderr, never a traceback."""
    asked = _parser().parse_args(words)
    try:
        return _VERBS[asked.verb](asked)
    except HemmaError as error:
        print(f"failed   {one_line(error.message)}\ndo       {one_line(error.remedy)}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"failed   {one_line(str(error))}\ndo       ls -la the folder; mount it anew", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rows", description="Process the rows of a slice, each once.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verify | run | status | check | bench")
    made = {name: verbs.add_parser(name) for name in _VERBS}
    for name in ("verify", "run", "check", "bench"):
        made[name].add_argument("slice", metavar="SLICE")
    made["verify"].add_argument("--digest", default="", help="the slice that it must be")
    for name in ("run", "check"):
        made[name].add_argument("--run", required=True, metavar="DIR", help="the run's directory")
    made["status"].add_argument("run", metavar="RUN")
    made["run"].add_argument("--session-limit", type=float, metavar="SECONDS", help="end in good order before this")
    made["run"].add_argument("--takeover", action="store_true", help="the session that held this run is gone")
    made["bench"].add_argument("--rows", type=int, default=10, metavar="N")
    return parser


def _verify(asked: argparse.Namespace) -> int:
    index = bundle.verify(asked.slice, asked.digest)
    bundle.demand_same_source(asked.slice, source_root())
    print(
        f"ok       slice {index['name']}-{index['digest'][:12]}: {index['rows']} rows, {len(index['files'])} files proven"
    )
    return 0


def _run(asked: argparse.Namespace) -> int:
    index = bundle.verify(asked.slice)
    folder = os.path.abspath(asked.run)
    os.makedirs(folder, exist_ok=True)
    wanted = Asked(
        asked.slice, os.path.basename(folder), source_root(), asked.session_limit, is_takeover=asked.takeover
    )
    run = RowRun(wanted, index, LocalFiles(folder))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: run.stop("it was told to stop"))
    code = run.run()
    _show(check.read_status(LocalFiles(folder)))
    return code


def _status(asked: argparse.Namespace) -> int:
    status = check.read_status(LocalFiles(asked.run))
    if status is None:
        print("nothing here yet: this run begins with its first row")
        return 0
    _show(status)
    return 0


def _show(status: dict[str, Any] | None) -> None:
    if status is None:
        return
    counts = status["counts"]
    left = counts["total"] - counts["done"] - counts["quarantined"]
    quarantined = f", {counts['quarantined']} quarantined" if counts["quarantined"] else ""
    again = "; run this again to go on" if status["state"] in {"stopped", "failed"} and left else ""
    reason = f" ({status['reason']})" if status["reason"] else ""
    print(
        f"{status['state']}{reason}: {counts['done']} of {counts['total']} rows done{quarantined}, {left} left{again}"
    )


def _check(asked: argparse.Namespace) -> int:
    found = check.check(asked.slice, bundle.verify(asked.slice), LocalFiles(asked.run))
    print(json.dumps(found))
    return 1 if found["missing"] or found["faults"] else 0


def _bench(asked: argparse.Namespace) -> int:
    print(json.dumps(check.bench(asked.slice, bundle.verify(asked.slice), source_root(), asked.rows)))
    return 0


_VERBS = {"verify": _verify, "run": _run, "status": _status, "check": _check, "bench": _bench}

if __name__ == "__main__":
    sys.exit(main())
