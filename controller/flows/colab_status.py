"""`hemma colab status`, `logs` and `doctor`: runs in Drive read from their own files, without asking a person to run anything.

Requirement: S9-R14 (files are read directly), S9-R15 (a link or id first), S9-R16 (metadata, then logs, then artefacts).
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from controller.flows import colab_view, drive
from controller.flows.colab_view import RunFolder
from controller.flows.drive import Place
from lanes.drive_links import DriveLink, parse_link
from lanes.drive_runs import STATUS, File, Row, chosen, host_row, judge, log_files, reading_order
from manifests.commands import command
from manifests.errors import HemmaError, UsageError
from remote.drive.store import DriveError, Entry

POLL_S = 5.0


def rows(place: Place, words: Sequence[str] = (), *, is_fresh: bool = False) -> list[Row]:
    """The runs in Drive as rows; with `words` only those: links, ids, names, their ends, `last`. Raises UsageError."""
    return [row for row, _ in _judged(place, words, is_fresh=is_fresh)]


def find(place: Place, word: str) -> tuple[Row, RunFolder]:
    """The one run that `word` names. Raises UsageError."""
    (found,) = _judged(place, [word])
    return found


def beside(start: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Runs in Drive for `hemma status`: {"runs": rows, "problem": None or the error}; no runs where no `drive` is set.

    Never raises an expected error: what the host says must be seen also when Drive cannot be asked.
    """
    try:
        chosen = drive.setting(start, environ)
    except UsageError:
        return {"runs": [], "problem": None}
    try:
        place = drive.open_place(chosen, environ)
        try:
            return {"runs": [as_dict(row) for row in rows(place)], "problem": None}
        finally:
            place.store.close()
    except HemmaError as error:
        return {"runs": [], "problem": error.as_dict()}


def host_rows(settings: dict[str, Any]) -> Callable[[float], list[Row] | None]:
    """Ask the host for its live runs, as rows of the same table; what comes back waits for them, so many seconds at most.

    None: it did not answer in time, or could not be asked. How runs in Drive stand does not wait for a host that is gone.
    """
    from controller.flows import runs

    found: list[list[Row]] = []

    def ask() -> None:
        with suppress(HemmaError, OSError):
            live = runs.live_runs(settings["host"])
            found.append([host_row(run, time.time()) for run in live])

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()

    def answer(wait_s: float) -> list[Row] | None:
        asking.join(wait_s)
        return found[0] if found else None

    return answer


def as_dict(row: Row) -> dict[str, Any]:
    """A row as agents read it under --json."""
    return {**dataclasses.asdict(row), "is_over": row.is_over}


def _judged(place: Place, words: Sequence[str], *, is_fresh: bool = False) -> list[tuple[Row, RunFolder]]:
    direct = {word: link.id for word in words if isinstance(link := _link(place, word), DriveLink)}
    rest = [word for word in words if word not in direct]
    found = [_row(colab_view.look_at(place.store, _run_folder(place, file_id))) for file_id in direct.values()]
    if rest or not words:
        found += _named(place, rest, is_fresh=is_fresh)
    return found


def _named(place: Place, words: Sequence[str], *, is_fresh: bool) -> list[tuple[Row, RunFolder]]:
    all_ = [_row(run) for run in colab_view.look(place, is_fresh=is_fresh)]
    picked, wrong = chosen([row for row, _ in all_], words)
    if wrong and not is_fresh:
        # Drive may have been slow to tell of it: look at everything once before saying no.
        return _named(place, words, is_fresh=True)
    if wrong:
        raise UsageError("; ".join(wrong), remedy="hemma colab status")
    ids = [row.id for row in picked]
    return [pair for pair in all_ if pair[0].id in ids] if words else all_


def _link(place: Place, word: str) -> object:
    return parse_link(word) if place.is_google and word != "root" else None


def _run_folder(place: Place, file_id: str) -> Entry:
    """The folder of the run that an id names: itself, or the one that the file lies in."""
    entry = place.store.metadata(file_id)
    if entry.kind == "shortcut" and entry.target:
        entry = place.store.metadata(entry.target)
    if entry.kind != "folder" and entry.parents:
        entry = place.store.metadata(entry.parents[0])
    if entry.kind != "folder":
        raise UsageError(f"{entry.name} is no run's folder", remedy="give the link of the run's folder")
    return entry


def _row(run: RunFolder) -> tuple[Row, RunFolder]:
    problem = run.problem
    status: dict[str, Any] | None = None
    if run.status_text is not None:
        try:
            value = json.loads(run.status_text)
            status = cast("dict[str, Any]", value) if isinstance(value, dict) else None
            problem = "" if status is not None else "it holds no JSON object"
        except (ValueError, RecursionError) as error:
            problem = f"it is not whole ({error}): read in the middle of being written, or a write was dropped"
    run = dataclasses.replace(run, problem=problem)
    return judge(run.name, run.id, run.files(), status, time.time()), run


# --- logs --------------------------------------------------------------------------------------------------------------


def logs(
    place: Place, word: str, *, follow: bool, write: Callable[[bytes], None], notice: Callable[[str], None]
) -> Row:
    """Write what a run logged to `write`, file after file; with `follow` go on until it is over. Returns the last row.

    A log that became shorter was written anew: it is given again from its beginning. Raises DriveError.
    """
    row, run = find(place, word)
    offsets: dict[str, int] = {}
    shown = ""
    while True:
        for file in log_files(run.files()):
            if file.why_not:
                notice(f"{file.path} cannot be read: {file.why_not}")
                continue
            if file.path != shown:
                notice(f"==> {file.path}")
                shown = file.path
            offsets[file.path] = _give(place, file, offsets.get(file.path, 0), write, notice)
        if not log_files(run.files()) and not follow:
            notice("this run has no logs yet")
        if not follow or row.is_over:
            return row
        time.sleep(POLL_S if place.is_google else POLL_S / 5)
        row, run = find(place, row.id if place.is_google else row.run)


def _give(place: Place, file: File, offset: int, write: Callable[[bytes], None], notice: Callable[[str], None]) -> int:
    if file.size is not None and file.size < offset:
        notice(f"{file.path} was written anew")
        offset = 0
    for piece in place.store.read(file.id, offset, size=file.size):
        write(piece)
        offset += len(piece)
    return offset


# --- doctor ------------------------------------------------------------------------------------------------------------


def doctor(place: Place, word: str) -> dict[str, Any]:
    """What of a run can be read and what not, and why: metadata by id first, then a byte of each file, logs first.

    Requirement: S9-R16. `findings` are sentences with what to do; empty when all is well.
    """
    row, run = find(place, word)
    checked = [_looked_at(place, each) for each in reading_order(run.files())]
    return {"run": as_dict(row), "files": checked, "findings": list(_findings(row, checked, run))}


def _looked_at(place: Place, file: File) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "path": file.path,
        "id": file.id,
        "size_bytes": file.size,
        "metadata": True,
        "content": False,
    }
    try:
        entry = place.store.metadata(file.id)
        why = file.why_not or colab_view.why_not(entry)
        if not why and entry.size != 0:
            next(iter(place.store.read(file.id, size=min(entry.size or 1, 1))), b"")
        return {**facts, "content": not why, "why": why}
    except DriveError as error:
        return {**facts, "metadata": error.code != "drive-not-found", "why": error.message}
    except HemmaError as error:
        return {**facts, "why": error.message}


def _findings(row: Row, checked: Sequence[dict[str, Any]], run: RunFolder) -> Iterator[dict[str, str]]:
    age = "" if row.age_s is None else f" for {row.age_s / 60:.0f} minutes"
    if row.state == "silent":
        yield {
            "fact": f"it gave no sign{age}: its session is gone",
            "do": "open its notebook and press Run all: it goes on where it stopped",
        }
    if row.state == "unknown":
        yield {"fact": row.alert, "do": "has the notebook been started? open it and press Run all"}
    if row.quarantined:
        yield {
            "fact": f"set aside: {row.quarantined} of {row.total} rows; quarantine.jsonl has each with its error",
            "do": "mend the processor or the rows and issue again; or `resume: {quarantined: retry}` in the manifest",
        }
    is_torn = run.status_text is not None and bool(run.problem)
    if is_torn:
        yield {
            "fact": f"{STATUS} is there and not whole: read in the middle of being written, or a write was dropped",
            "do": "look again in a minute; if it stays so, Run all in its notebook writes it anew, no row is lost",
        }
    elif row.state in ("failed", "unreadable") and row.alert:
        yield {"fact": row.alert, "do": command("hemma colab logs {}", row.run)}
    for each in checked:
        if not each["content"] and not (is_torn and each["path"] == STATUS):
            kind = (
                "can be seen, its content cannot be read"
                if each["metadata"]
                else "is listed, but not there for this account"
            )
            yield {
                "fact": f"{each['path']} {kind}: {each['why']}",
                "do": "ask its owner for access, or read what is before it",
            }
    twins = [path for path in run.entries if "~" in path]
    if twins:
        yield {"fact": f"some names are there twice: {', '.join(twins[:4])}", "do": "the newest has the plain name"}
