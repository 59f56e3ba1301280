"""Is a run what it says: every row of the slice once, whole, in the results; and how fast does the processor go (S18-R05)."""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import replace
from itertools import islice
from typing import Any

from lanes.redaction import secret_values
from lanes.slice_spool import Completed, entries, results_name, results_of, spool_name
from manifests.errors import HemmaError
from training.rows import bundle
from training.rows.engine import terms_of
from training.rows.files import Files
from training.rows.log import Log
from training.rows.pool import Pool, Task


def check(folder: str, index: bundle.Index, files: Files) -> dict[str, Any]:
    """{"total", "done", "quarantined", "missing", "repeated", "faults"} of a run, from its spool and results alone."""
    rows, size = bundle.rows_of(folder), int(index["run"]["shard_rows"])
    known, faults = Completed(), list[str]()
    for shard in range(-(-len(rows) // size)):
        keys = [key for key, _ in rows[shard * size : (shard + 1) * size]]
        found = entries(_content(files, spool_name(shard)))
        known.take(found)
        strangers = sorted({entry["key"] for entry in found} - set(keys))
        faults += [f"{spool_name(shard)}: row {key} is not in this shard of the slice" for key in strangers[:3]]
        is_whole = all(key in known.done or key in known.quarantined for key in keys)
        if is_whole and _content(files, results_name(shard)) != results_of(keys, found):
            faults.append(f"{results_name(shard)}: is not what its spool says")
    missing = [key for key, _ in rows if key not in known.done and key not in known.quarantined]
    return {
        "total": len(rows),
        "done": len(known.done),
        "quarantined": len(known.quarantined),
        "missing": len(missing),
        "repeated": known.repeated,
        "faults": faults,
    }


def bench(folder: str, index: bundle.Index, source: str, most: int) -> dict[str, Any]:
    """{"rows", "failed", "rows_per_s", "start_s"} of the first `most` rows; nothing is written. Raises ProcessorUnusable."""
    rows = bundle.rows_of(folder)[:most]
    if not rows:
        raise HemmaError("the slice has no rows", remedy="hemma slice show SLICE", code="no-rows")
    paths = bundle.local_paths(folder, index)
    tasks = (Task(at, key, bundle.localized(row, index, paths)) for at, (key, row) in enumerate(rows))
    began_s, times, failed = time.monotonic(), list[float](), 0
    with tempfile.TemporaryDirectory(prefix="hemma-bench-") as scratch:
        terms = replace(terms_of(folder, index, source), workers=1, attempts=1, artifacts=scratch)
        with Pool(terms, tasks, Log(None, secret_values(os.environ)).pump) as pool:
            for outcome in islice(filter(None, pool.outcomes(0.2)), len(rows)):
                times.append(time.monotonic())
                failed += outcome.state != "done"
    took_s = times[-1] - times[0] if len(times) > 1 else times[-1] - began_s
    counted = max(1, len(times) - 1)
    return {"rows": len(times), "failed": failed, "rows_per_s": round(counted / max(took_s, 1e-6), 3),
            "start_s": round(times[0] - began_s, 3)}  # fmt: skip


def read_status(files: Files) -> dict[str, Any] | None:
    """status.json of a run as plain data; None when there is none."""
    try:
        return json.loads(files.read("status.json"))
    except (OSError, ValueError):
        return None


def _content(files: Files, name: str) -> bytes:
    try:
        return files.read(name)
    except FileNotFoundError:
        return b""
