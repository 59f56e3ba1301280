"""Evidence that cannot be typed by hand: forgeries of a real run's folder, each refused by the next run and named (S7-R18, S21-R05)."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lanes import evidence_chain
from lanes.event_chain import GENESIS, link
from manifests.evidence import Evidence
from tests.training.bench import Bench, Run
from training.proof import evidence_of, log_of, own_fault

pytestmark = [pytest.mark.timeout(400), pytest.mark.req("S7-R18", "S21-R05")]
AUDIT = "evidence/data-audit.json"
Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def first(bench: Bench) -> Run:
    """A run that proved its data and nothing more."""
    return bench.run(until="data-audit")


def edit(name: str, **changes: Any) -> Change:
    """Write keys of a JSON file anew; a key with dots goes inside."""

    def change(folder: Path) -> None:
        path = folder / name
        data = json.loads(path.read_text())
        for key, value in changes.items():
            *above, last = key.split("__")
            place = data
            for part in above:
                place = place[part]
            if value is None:
                place.pop(last, None)
            else:
                place[last] = value
        path.write_text(json.dumps(data))

    return change


def log(turn: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], *, is_chained: bool = False) -> Change:
    """Write the event log anew, its chain made to fit on request."""

    def change(folder: Path) -> None:
        path = folder / "events.jsonl"
        records = turn([json.loads(line) for line in path.read_text().splitlines()])
        before = GENESIS
        for number, record in enumerate(records if is_chained else []):
            record |= {"seq": number, "previous_digest": before}
            record["digest"] = before = link(before, record)
        path.write_text("".join(json.dumps(each) + "\n" for each in records))

    return change


def both(*changes: Change) -> Change:
    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change


def of_stage(records: list[dict[str, Any]], **data: Any) -> list[dict[str, Any]]:
    for each in records:
        if each["kind"] == "stage" and each["data"]["stage"] == "data-audit":
            each["data"] |= data
    return records


def as_link(folder: Path) -> None:
    (folder / AUDIT).rename(folder / "elsewhere.json")
    (folder / AUDIT).symlink_to(folder / "elsewhere.json")


def as_pipe(folder: Path) -> None:
    (folder / AUDIT).unlink()
    os.mkfifo(folder / AUDIT)


def write(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content) and None  # type: ignore[func-returns-value]


def swap(one: str, other: str) -> Change:
    def change(folder: Path) -> None:
        shutil.copyfile(folder / one, folder / other)

    return change


def spooled(folder: Path) -> None:
    """What the run printed lies in its spool; then the whole log is written anew, begun otherwise, and its chain fits."""
    place = folder.parent / "logs"
    place.mkdir(exist_ok=True)
    (place / "stdout.log").write_bytes((folder / "events.jsonl").read_bytes())
    log(lambda records: [{**records[0], "at": "2026-01-01T00:00:00.000+00:00"}, *records[1:]], is_chained=True)(folder)


def in_the_log_too(folder: Path, **changes: Any) -> None:
    """An outcome that was edited, its digest put into the log by somebody who knows how, without the chain."""
    edit(AUDIT, **changes)(folder)
    digest = evidence_chain.digest_of(Evidence.parse(json.loads((folder / AUDIT).read_text()), "x"))
    log(lambda records: of_stage(records, evidence_sha256=digest))(folder)


def rechained(folder: Path) -> None:
    """A fact edited, its digest put into the log, the whole chain made to fit; what the run printed lies in its spool."""
    place = folder.parent / "logs"
    place.mkdir(exist_ok=True)
    (place / "stdout.log").write_bytes(b"a library says hello\n" + (folder / "events.jsonl").read_bytes())
    assert evidence_of(folder, "data-audit")[1] == ""
    edit(AUDIT, facts__rows=999999)(folder)
    digest = evidence_chain.digest_of(Evidence.parse(json.loads((folder / AUDIT).read_text()), "x"))
    log(lambda records: of_stage(records, evidence_sha256=digest), is_chained=True)(folder)


FORGERIES: dict[str, Change] = {
    "log chained anew from an edited record on": rechained,
    "fact edited": edit(AUDIT, facts__rows=999999),
    "checks dropped": edit(AUDIT, checks=[]),
    "check text edited": edit(AUDIT, checks=[{"name": "all good", "held": True, "fact": ""}]),
    "outcome failed to passed": both(edit(AUDIT, outcome="failed"), edit(AUDIT, outcome="passed", checks=[])),
    "hashes edited": edit(AUDIT, hashes__dataset="0" * 64),
    "config hash edited": edit(AUDIT, hashes__config="1" * 64),
    "year 2099": edit(AUDIT, created_at="2099-01-01T00:00:00+00:00"),
    "before the run": edit(AUDIT, created_at="2020-01-01T00:00:00+00:00"),
    "invented run": edit(AUDIT, run_id="20260101-000000-beef"),
    "another run's name": edit(AUDIT, run_id="run-099"),
    "sequence raised": edit(AUDIT, sequence=90),
    "previous edited": edit(AUDIT, previous="a" * 64),
    "previous dropped": edit(AUDIT, previous=None),
    "origin invented": edit(AUDIT, origin="b" * 64, run_id="run-000"),
    "origin is itself": edit(AUDIT, origin="b" * 64),
    "origin outside": edit(AUDIT, origin="b" * 64, run_id="../../elsewhere"),
    "of another stage": swap("evidence/intake.json", AUDIT),
    "stage renamed": both(swap("evidence/intake.json", AUDIT), edit(AUDIT, stage="data-audit")),
    "not covered hidden": edit(AUDIT, not_covered=["everything"], outcome="partial"),
    "a link": as_link,
    "a pipe": as_pipe,
    "a folder": lambda folder: (folder / AUDIT).unlink() or (folder / AUDIT).mkdir(),
    "empty": write(AUDIT, b""),
    "deep": write(AUDIT, b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "no object": write(AUDIT, b"[]"),
    "log missing": lambda folder: (folder / "events.jsonl").unlink(),
    "log empty": write("events.jsonl", b""),
    "log is a link": lambda folder: (
        (folder / "events.jsonl").rename(folder / "log") and (folder / "events.jsonl").symlink_to(folder / "log")
    ),  # type: ignore[dict-item]
    "log torn inside": log(lambda records: [*records[:2], *records[3:]]),
    "log cut before the evidence": log(lambda records: [each for each in records if each["kind"] != "stage"], is_chained=True),
    "log reordered": log(lambda records: [records[1], records[0], *records[2:]]),
    "log doubled": log(lambda records: records + records),
    "log of another run": log(
        lambda records: [{**records[0], "data": {**records[0]["data"], "run_id": "run-077"}}, *records[1:]], is_chained=True
    ),
    "log without a start": log(lambda records: records[1:], is_chained=True),
    "log started twice": log(lambda records: [records[0], *records], is_chained=True),
    "log says failed": log(lambda records: of_stage(records, outcome="failed"), is_chained=True),
    "log says other sequence": log(lambda records: of_stage(records, sequence=7), is_chained=True),
    "log of the future": log(lambda records: [{**each, "at": "2099-01-01T00:00:00+00:00"} for each in records], is_chained=True),
    "log rewritten with a chain that fits": spooled,
    "digest put into the log without its chain": lambda folder: in_the_log_too(folder, checks=[], outcome="passed"),
    "garbage line": lambda folder: (folder / "events.jsonl").write_bytes(b"{}\n" + (folder / "events.jsonl").read_bytes()) and None,  # type: ignore[func-returns-value]
}  # fmt: skip


@pytest.fixture
def copied(bench: Bench, first: Run, tmp_path: Path) -> Path:
    """The training folder of a copy of that run, which is as good as the first."""
    place = tmp_path / "runs" / first.run_id / "training"
    shutil.copytree(first.folder, place)
    assert evidence_of(place, "data-audit")[1] == ""
    return place


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_proves_nothing_and_is_named(copied: Path, name: str) -> None:
    FORGERIES[name](copied)
    found, why = evidence_of(copied, "data-audit")
    assert found is None
    assert why


def test_a_run_without_a_supervisor_is_made_by_hand_for_those_that_have_one(copied: Path) -> None:
    assert "no output" in evidence_of(copied, "data-audit", supervised=True)[1]
    (copied.parent / "logs").mkdir()
    lines = (copied / "events.jsonl").read_bytes().splitlines(keepends=True)
    spool = copied.parent / "logs/stdout.log"
    spool.write_bytes(b"".join(lines))
    assert evidence_of(copied, "data-audit", supervised=True)[1] == ""
    # What a run printed may still be on its way while it goes on, never when it has ended.
    spool.write_bytes(lines[0])
    assert log_of(copied, is_running=True)[1] is None
    assert "printed other records" in str(log_of(copied)[1])


def test_there_are_forgeries_enough() -> None:
    assert len(FORGERIES) >= 30


@pytest.mark.parametrize("name", ["fact edited", "year 2099", "invented run", "log missing", "log doubled", "a link"])
def test_the_executor_makes_anew_what_is_forged_and_takes_over_what_is_not(bench: Bench, first: Run, name: str) -> None:
    # Newest of all, and of the same request: it would be taken over before any other.
    forged = bench.next_folder()
    bench.count += 1
    shutil.copytree(first.folder, forged / "training")
    edit("job.json", run_id=forged.name)(forged / "training")
    FORGERIES[name](forged / "training")
    try:
        after = bench.run(until="data-audit")
        assert after.stages()["data-audit"] == first.run_id
        evidence, why = evidence_of(after.folder, "data-audit")
        assert why == ""
        assert evidence is not None
        assert evidence.origin
    finally:
        shutil.rmtree(forged)


def test_a_failed_audit_set_to_passed_opens_no_gate(bench: Bench) -> None:
    (bench.root / "data/bad.jsonl").write_text('{"nothing": 1}\n' * 50)
    bad = bench.run(code=75, name="bad", dataset={"source": "data/bad.jsonl"})
    assert bad.events("stage")[-1]["outcome"] == "failed"
    checks = [{"name": "all good", "held": True, "fact": ""}]
    edit(AUDIT, outcome="passed", checks=checks, facts={"verdict": "compatible"})(bad.folder)
    again = bench.run(code=75, name="bad", dataset={"source": "data/bad.jsonl"}, until="cpu-smoke")
    assert again.stages()["data-audit"] == again.run_id


def test_what_changes_under_a_running_executor_stops_it(bench: Bench, first: Run) -> None:
    records, fault = log_of(first.folder)
    assert fault is None
    names = ("intake", "resources", "data-audit")
    evidence = [
        Evidence.parse(json.loads((first.folder / f"evidence/{each}.json").read_text()), each) for each in names
    ]
    assert own_fault(first.folder, evidence) is None
    kept = (first.folder / AUDIT).read_bytes()
    edit(AUDIT, facts__rows=1)(first.folder)
    assert "not what this run recorded" in str(own_fault(first.folder, evidence))
    (first.folder / AUDIT).write_bytes(kept)
    assert max(dt.datetime.fromisoformat(each["at"]) for each in records) <= dt.datetime.now(dt.UTC)
