"""How facts become the rows of `hemma doctor`."""

from __future__ import annotations

from typing import Any

import pytest

from lanes import checkup
from lanes.checkup import Known, Row
from lanes.doctor import Finding

GIB = 1 << 30


def a_clone(**changes: Any) -> dict[str, Any]:
    """A clone as `hemma status` has it, in step."""
    return {"relation": "equal", "dirty": [], "operation": None, "against_local": [0, 0], **changes}


def picture(local: dict[str, Any], host: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    return {"local": local, "host": host, "problem": None, **more}


def run(number: int, exit_code: int | None = 0, state: str = "finished") -> dict[str, Any]:
    return {"run_id": f"run-{number}", "state": state, "exit_code": exit_code, "reason": "", "command": "false"}


def levels(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row.name, row.level) for row in rows]


def test_a_host_that_answers_has_its_own_rows() -> None:
    found = checkup.of_host("gpu", [Finding("git", "ok", "2.39"), Finding("repository clean", "not checked", "none")])
    assert levels(found) == [("git", "ok"), ("repository clean", "not checked")]


def test_a_host_that_cannot_be_asked_is_two_rows_with_what_was_not_looked_at() -> None:
    findings = [
        Finding("ssh alias", "fail", "no address", "ssh -G gpu"),
        *(Finding(n, "not checked", "") for n in "abc"),
    ]
    found = checkup.of_host("gpu", findings)
    assert levels(found) == [("ssh alias", "fail"), ("the rest", "not checked")]
    assert found[1].fact == "gpu could not be asked: a, b, c"
    assert not checkup.is_well(found)


def test_clones_in_step_are_well() -> None:
    found = checkup.of_clones(picture(a_clone(), a_clone()))
    assert levels(found) == [("local", "ok"), ("host", "ok"), ("host and local", "ok")]
    assert checkup.is_well(found)


@pytest.mark.parametrize(
    ("local", "host", "expected"),
    [
        (a_clone(relation="behind"), a_clone(against_local=[2, 0]), ["warn", "ok", "warn"]),
        (a_clone(relation="diverged"), a_clone(against_local=None), ["fail", "ok", "warn"]),
        (a_clone(operation="merge"), a_clone(), ["fail", "ok", "ok"]),
        (a_clone(), None, ["ok", "not checked"]),
    ],
)
def test_clones_out_of_step_say_how_and_what_to_do(
    local: dict[str, Any], host: dict[str, Any] | None, expected: list[str]
) -> None:
    found = checkup.of_clones(picture(local, host, problem={"message": "it is away"}))
    assert [row.level for row in found] == expected
    assert all(row.mend for row in found if row.level in ("warn", "fail"))
    assert host is not None or found[1].fact == "it is away"


def test_hooks_that_are_missing_are_named() -> None:
    row = checkup.of_hooks(
        [{"name": "pre-push", "state": "missing"}, {"name": "x", "state": "installed"}], are_in_force=False
    )
    assert (row.level, row.fact, row.mend) == ("warn", "pre-push missing", "hemma hooks install")
    assert checkup.of_hooks([], are_in_force=True).level == "ok"
    assert checkup.of_hooks([], are_in_force=False).fact == "pull does not merge"


@pytest.mark.req("S17-R12")
@pytest.mark.parametrize(("kept", "level"), [(1, "ok"), (8.9, "ok"), (9.1, "warn"), (20, "warn")])
def test_what_runs_keep_is_held_against_the_disk_budget(kept: float, level: str) -> None:
    row = checkup.of_room(int(kept * GIB), 10.0)
    assert row.level == level
    assert "of 10 GB" in row.fact
    assert bool(row.mend) == (level == "warn")
    assert "no disk budget" in checkup.of_room(int(kept * GIB), None).fact


def test_the_newest_failures_come_first_and_live_runs_are_none() -> None:
    runs = [run(1, 1), run(2, 0), run(3, None, "lost"), run(4, None, "running"), run(5, 2), run(6, 3)]
    assert [each["run_id"] for each in checkup.failures(runs)] == ["run-6", "run-5", "run-3"]
    assert checkup.failures([run(1), run(2, None, "running")]) == []


def test_a_failure_is_a_warning_that_names_cause_and_entry() -> None:
    diagnosis = {"category": "oom", "code": "host-ram", "evidence": [{"line": "Killed", "number": 3}]}
    known = [Known("an-entry", "Less.", ("https://example.org",))]
    row = checkup.of_failure(run(1, 137), diagnosis, known, "tiny")
    assert row.fact == "training tiny: exit code 137, oom (host-ram): Killed"
    assert (row.level, row.known, row.mend) == ("warn", tuple(known), "hemma doctor run-1")
    lost = checkup.of_failure(run(2, None, "lost"), {**diagnosis, "evidence": []}, [], None)
    assert lost.fact == "false: lost, oom (host-ram)"
    assert checkup.is_well([row, lost])


def test_backups_over_their_bound_are_a_warning() -> None:
    kept = {"keep_days": 14.0, "keep_gb": 1.0}
    known = {"count": 3, "newest_at": 2.0, "oldest_at": 1.0, "disk_bytes": 1 << 29}
    over = {**known, "disk_bytes": 5 << 30}
    found = checkup.of_clones(picture(a_clone(backups=known), a_clone(backups=over), backups_kept=kept))
    rows = [row for row in found if row.part == "backups"]
    assert levels(rows) == [("local", "ok"), ("host", "warn")]
    assert rows[0].fact == "3 take 0.50 GiB; kept 14 days or 1 GB"
