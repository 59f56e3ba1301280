"""A row run from its slice: what is done is found in the spool, the rest is done, each row once (S9-R33, S9-R34, S9-R36).

A result counts when its line was read back from the run's directory. A session that dies before that does the row
again: the processor may see a row twice, the spool and the results hold it once.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lanes.redaction import redact, secret_values
from lanes.slice_spool import Completed, ResumePlan, canonical, plan_resume, shard_of
from manifests.errors import HemmaError
from training.rows import bundle, heart, session
from training.rows.artifacts import Artifacts
from training.rows.files import Files
from training.rows.log import Log
from training.rows.pool import Outcome, Pool, Task, Terms
from training.rows.spool import Spool

EXIT_DONE, EXIT_FAILED, EXIT_QUARANTINED, EXIT_STOPPED = 0, 1, 3, 4
QUARANTINE = "quarantine.jsonl"
_TICK_S = 0.2
_MAX_REASON = 2000
# A line of progress for whoever looks at the notebook or the log: one in so many heartbeats, a minute as a rule.
_BEATS_PER_LINE = 6
# A stopped run waits for the rows at work, but no longer: whoever sent SIGTERM sends SIGKILL next. Before the limit of a
# session there is the time that the manifest leaves.
GRACE_S = 20.0


@dataclass(frozen=True)
class Asked:
    """One session: the slice, the run's directory (and its name), the source that holds the processor, and limits in seconds."""

    slice_folder: str
    run_id: str
    source: str
    session_limit_s: float | None = None
    is_takeover: bool = False
    spool_wait_s: float = 0.25
    started_s: float = field(default_factory=time.monotonic)


class RowRun:
    """One session over one slice. `files` is the run's directory."""

    def __init__(self, asked: Asked, index: bundle.Index, files: Files) -> None:
        self._asked, self._index, self._files = asked, index, files
        self._settings: dict[str, Any] = index["run"]
        self._rows = bundle.rows_of(asked.slice_folder)
        self._known = Completed()
        self._secrets = secret_values(os.environ)
        self._log = Log(files, self._secrets)
        self._spool = Spool(files, wait_s=asked.spool_wait_s, say=self._log.say)
        self._began_s, self._done_now, self._failed = time.monotonic(), 0, 0
        self._left: Counter[int] = Counter()
        self._pool: Pool | None = None
        self._stop_reason, self._grace_s = "", GRACE_S
        first = session.first_status(asked.run_id, index, asked.source)
        self._heart = heart.Heart(files, first, self._live, wait_s=asked.spool_wait_s)
        self._attempt = 1

    def stop(self, reason: str) -> None:
        """Begin no further row and end in good order; callable from a signal handler."""
        self._stop_reason = self._stop_reason or reason

    def run(self) -> int:
        """Do what is left; returns the exit code: 0 all done, 3 done but for quarantined rows, 4 stopped before the end, 1 failed.

        Raises session.Busy when another session works on this run. Whatever else happens is in status.json.
        """
        self._attempt = session.claim(self._files, self._index, is_takeover=self._asked.is_takeover, say=self._log.say)
        self._heart.set(attempt=self._attempt)
        self._heart.start()
        try:
            return self._work()
        except BaseException as error:
            said = error.message if isinstance(error, HemmaError) else repr(error)
            reason = redact(said, self._secrets).text[:_MAX_REASON]
            self._log.flush()
            self._heart.end(state="failed", reason=reason, ended_at=heart.now(), exit_code=EXIT_FAILED)
            raise

    # --- the work -----------------------------------------------------------------------------------------------------

    def _work(self) -> int:
        plan = self._read_spool()
        self._heart.set(state="running", step="processing rows")
        self._heart.beat()
        self._log.say(f"{len(self._known.done)} of {len(self._rows)} rows are done, {len(plan.todo)} to do")
        if plan.todo:
            terms = terms_of(self._asked.slice_folder, self._index, self._asked.source)
            with contextlib.closing(Artifacts(self._files, wait_s=self._asked.spool_wait_s)) as made:
                terms = replace(terms, artifacts=made.folder)
                with Pool(terms, self._tasks(plan), self._log.pump, made.keep) as self._pool:
                    self._take_all(self._pool)
        self._spool.flush()
        return self._ended()

    def _read_spool(self) -> ResumePlan:
        """What is done already, from the spool alone."""
        size = self._settings["shard_rows"]
        for shard in range(-(-len(self._rows) // size)):
            self._spool.load(shard, self._known)
        keys = [key for key, _ in self._rows]
        retries = self._index["resume"]["quarantined"] == "retry"
        plan = plan_resume(keys, self._known, retries_quarantined=retries)
        if retries:
            self._known.quarantined.clear()
        self._left = Counter(shard_of(at, size) for at in plan.todo)
        for shard in range(-(-len(self._rows) // size)):
            if not self._left[shard]:
                self._close(shard)
        return plan

    def _tasks(self, plan: ResumePlan) -> Iterator[Task]:
        paths = bundle.local_paths(self._asked.slice_folder, self._index)
        for at in plan.todo:
            key, row = self._rows[at]
            yield Task(at, key, bundle.localized(row, self._index, paths), plan.tries.get(key, 0))

    def _take_all(self, pool: Pool) -> None:
        flushed_s, stopped_s = time.monotonic(), None
        line_s, every_s = flushed_s, _BEATS_PER_LINE * float(self._settings["heartbeat"])
        for outcome in pool.outcomes(_TICK_S):
            if outcome is not None:
                self._take(outcome)
            now_s = time.monotonic()
            if (
                self._spool.waiting >= self._settings["flush_rows"]
                or now_s - flushed_s >= self._settings["flush_every"]
            ):
                self._spool.flush()
                self._log.flush()
                self._close_whole()
                flushed_s = now_s
            if now_s - line_s >= every_s:
                self._log.say(progress(self._live()))
                line_s = now_s
            if self._should_stop(now_s):
                stopped_s = stopped_s or now_s
                pool.stop()
                if now_s - stopped_s > self._grace_s:
                    pool.abandon()

    def _take(self, outcome: Outcome) -> None:
        task = outcome.task
        shard = shard_of(task.position, self._settings["shard_rows"])
        entry: dict[str, Any] = {
            "key": task.key, "state": outcome.state, "tries": outcome.tries, "session": self._attempt, "at": heart.now(),
        }  # fmt: skip
        if outcome.state == "done":
            entry["result"] = outcome.result
            self._done_now += 1
            self._known.done.add(task.key)
        else:
            entry["error"] = error = redact(outcome.error, self._secrets).text
            self._failed += outcome.state == "failed"
            self._heart.set(last_error={"row": task.key, "error": error, "at": heart.now()})
            if outcome.state == "quarantined":
                self._known.quarantined[task.key] = error
                self._log.say(f"row {task.key} is quarantined after {outcome.tries} tries: {error}")
        if outcome.state != "failed":
            self._left[shard] -= 1
        self._spool.add(shard, entry)

    def _close_whole(self) -> None:
        for shard in [shard for shard, left in self._left.items() if not left]:
            del self._left[shard]
            self._close(shard)

    def _close(self, shard: int) -> None:
        size = self._settings["shard_rows"]
        keys = [key for key, _ in self._rows[shard * size : (shard + 1) * size]]
        self._spool.close(shard, keys, self._known.done)

    def _should_stop(self, now_s: float) -> bool:
        limits = [each for each in (self._asked.session_limit_s, self._settings["session_limit"]) if each is not None]
        if limits and now_s - self._asked.started_s > min(limits) - self._settings["stop_before"]:
            if not self._stop_reason:
                self._grace_s = max(GRACE_S, 0.8 * self._settings["stop_before"])
            self.stop("the limit of the session is near")
        return bool(self._stop_reason)

    # --- how it stands ------------------------------------------------------------------------------------------------

    def _live(self) -> heart.Status:
        """What changes from one heartbeat to the next."""
        took_s = time.monotonic() - self._began_s
        rate = self._done_now / took_s if self._done_now and took_s > 0 else None
        counts = {
            "total": len(self._rows), "done": len(self._known.done), "failed": self._failed,
            "quarantined": len(self._known.quarantined),
        }  # fmt: skip
        left = counts["total"] - counts["done"] - counts["quarantined"]
        doing = sorted(self._pool.doing.copy().values()) if self._pool is not None else []
        return {
            "counts": counts,
            "rate_per_s": rate and round(rate, 4),
            "eta_s": rate and round(left / rate, 1),
            "rewritten": self._spool.rewritten,
            **({"step": "row " + ", ".join(doing[:4])} if doing else {}),
        }

    def _ended(self) -> int:
        self._close_whole()
        left = len(self._rows) - len(self._known.done) - len(self._known.quarantined)
        lines = [
            canonical({"key": key, "error": error}) + "\n" for key, error in sorted(self._known.quarantined.items())
        ]
        if lines or self._files_hold(QUARANTINE):
            self._spool.put(QUARANTINE, "".join(lines).encode("ascii"))
        code = EXIT_STOPPED if left else EXIT_QUARANTINED if lines else EXIT_DONE
        state, reason = ("stopped", self._stop_reason) if left else ("finished", "")
        self._pool = None
        self._log.flush()
        self._heart.end(state=state, reason=reason, step="", ended_at=heart.now(), exit_code=code)
        return code

    def _files_hold(self, name: str) -> bool:
        try:
            return bool(self._files.read(name))
        except OSError:
            return False


def progress(live: heart.Status) -> str:
    """How far it is, as a line to read."""
    counts, rate = live["counts"], live["rate_per_s"]
    aside = f", {counts['quarantined']} quarantined" if counts["quarantined"] else ""
    minutes = "" if rate is None else f", {rate:.3g} rows/s, about {live['eta_s'] / 60:.0f} min left"
    return f"{counts['done']} of {counts['total']} rows done{aside}{minutes}"


def terms_of(folder: str, index: bundle.Index, source: str) -> Terms:
    """How the slice's processor is run: in `files/`, which mirrors the repository, with each local path in HEMMA_PATH_NAME."""
    place = os.path.abspath(folder)
    data = os.path.join(place, "files")
    paths = {f"HEMMA_PATH_{name.upper()}": path for name, path in bundle.local_paths(place, index).items()}
    run = index["run"]
    return Terms(
        source=source,
        processor=index["processor"],
        folder=data if os.path.isdir(data) else place,
        workers=run["workers"],
        attempts=run["attempts"],
        backoff_s=run["backoff"],
        row_timeout_s=run["row_timeout"],
        environment={**index.get("environment", {}), **paths},
    )
