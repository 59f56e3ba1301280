"""The runs of a host, a page at a time; and records that no one of ours wrote."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from remote import answers
from remote.agent import frames, listing, shapes, store
from remote.incoming import reply_of

MANY = 12_000


def runs_folder(state: Path) -> Path:
    return Path(store.runs_folder(str(state)))


def plant(state: Path, number: int, **status: object) -> str:
    """A run that ended, as it lies on disk."""
    folder = runs_folder(state) / f"r{number:05}"
    (folder / "logs").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"run_id": folder.name, "argv": ["true"], "root": "r"}))
    (folder / "status.json").write_text(json.dumps({"state": "finished", "exit_code": 0, **status}))
    return folder.name


def asked(state: Path, **fields: object) -> dict[str, object]:
    """The agent's reply to `list`, through the wire's own checks."""
    request = {"verb": "list", "state_dir": str(state), **fields}
    return reply_of(frames.json_of(listing.page(request)), answers.shape_of(request), "list", frames.MAX_VALUES)


def names(page: dict[str, object]) -> list[str]:
    runs = page["runs"]
    assert isinstance(runs, list)
    return [str(run["run_id"]) for run in runs]


def test_pages_meet_and_hold_every_run_once(tmp_path: Path) -> None:
    planted = [plant(tmp_path, number) for number in range(25)]
    found: list[str] = []
    page = asked(tmp_path, most=10)
    while True:
        found = names(page) + found
        if page["before"] is None:
            break
        assert page["rest"] == 25 - len(found)
        page = asked(tmp_path, most=10, before=page["before"])
    assert found == planted


def test_the_oldest_come_first_when_they_are_to_go(tmp_path: Path) -> None:
    planted = [plant(tmp_path, number) for number in range(5)]
    page = asked(tmp_path, oldest=True, brief=True, most=3, with_total=True)
    assert names(page) == planted[:3]
    assert page["rest"] == 2
    assert page["total_bytes"] == 0


def test_many_thousand_runs_fit_into_one_answer(tmp_path: Path) -> None:
    for number in range(MANY):
        (runs_folder(tmp_path) / f"r{number:05}").mkdir(parents=True)
    for fields, least in (({}, 1000), ({"brief": True, "oldest": True, "with_total": True}, MANY)):
        page = asked(tmp_path, **fields)
        assert len(names(page)) == least
        assert len(frames.json_of(page)) < frames.MAX_ANSWER / 4


BAD_RECORDS = {
    "deep": "[" * 100_000,
    "deep-object": '{"argv":' * 5000,
    "list": "[1, 2]",
    "number": "7",
    "wrong-type": '{"argv": 5}',
    "wrong-time": '{"created_at": "yesterday"}',
    "huge-number": '{"run_id": ' + "9" * 10_000 + "}",
    "half": '{"argv": ["a"',
    "surrogate": '{"who": "\\ud800"}',
    "not-utf8": "\udcff",
}


@pytest.mark.parametrize("content", BAD_RECORDS.values(), ids=BAD_RECORDS)
@pytest.mark.parametrize("name", ["run.json", "status.json"])
def test_one_damaged_record_is_named_and_hides_no_other(tmp_path: Path, name: str, content: str) -> None:
    planted = [plant(tmp_path, number) for number in range(3)]
    (runs_folder(tmp_path) / planted[1] / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    page = asked(tmp_path)
    assert names(page) == planted
    runs = page["runs"]
    assert isinstance(runs, list)
    assert [bool(run.get("damaged")) for run in runs] == [False, True, False]
    assert name in runs[1]["damaged"]


@pytest.mark.parametrize("key", ["exit_code", "signal", "stdout_bytes"])
@pytest.mark.parametrize("value", [1 << 70, -1, True, "0", [], 2.5])
def test_a_status_with_a_wrong_number_is_damaged(tmp_path: Path, key: str, value: object) -> None:
    run_id = plant(tmp_path, 1, **{key: value})
    known = store.facts(str(runs_folder(tmp_path) / run_id))
    assert known["status"] is None
    assert "damaged" in known


def test_a_record_that_is_a_pipe_or_a_folder_holds_nobody_up(tmp_path: Path) -> None:
    folder = runs_folder(tmp_path) / plant(tmp_path, 1)
    (folder / "run.json").unlink()
    os.mkfifo(folder / "run.json")
    (folder / "status.json").unlink()
    (folder / "status.json").mkdir()
    assert "damaged" in store.facts(str(folder))


def test_what_is_no_run_in_the_folder_of_runs_is_passed_over(tmp_path: Path) -> None:
    planted = [plant(tmp_path, number) for number in range(2)]
    for stray in (".hidden", "-rf", "with space", "x\x1b[2J"):
        (runs_folder(tmp_path) / stray).mkdir()
    (runs_folder(tmp_path) / "zz-a-file").write_text("")
    (runs_folder(tmp_path) / "zz-a-link").symlink_to(runs_folder(tmp_path) / planted[0])
    assert names(asked(tmp_path)) == planted
    assert store.find(str(runs_folder(tmp_path)), "last").endswith(planted[-1])


def test_a_time_that_is_none_is_no_time() -> None:
    with pytest.raises(shapes.BadShape):
        shapes.RECORD({"created_at": "2026-13-99"})
