"""Whatever shows or keeps what came from a command, an environment or a log shows no secret of any kind."""

from __future__ import annotations

import datetime as dt
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from controller.flows import failed, memory, runs
from controller.reports import run_page, surprise
from tests.secret_samples import OPEN, Kind, samples
from training.rows import issue

pytestmark = pytest.mark.req("S20-R03")
WORD = "correct" + "horse7"


def view(**record: Any) -> dict[str, Any]:
    """A run as `ps`, `doctor` and `wait --json` show it."""
    facts = {
        "run_id": "20261201T000000-aaaa",
        "record": record,
        "status": {},
        "sizes": {"stdout": 0},
        "supervisor_alive": False,
    }
    return runs.view({**facts, "command_alive": False, "boot_id": ""}, 0.0)


@pytest.mark.parametrize(("name", "kind"), OPEN.items(), ids=OPEN)
def test_no_sink_shows_a_secret_of_any_kind(name: str, kind: Kind, tmp_path: Path) -> None:
    for line, secret in samples({name: kind}, 3)[name]:
        shown = (
            view(shell=line)["command"],
            surprise.redacted(f"ValueError: {line}", {}),
            json.dumps(memory._masked({"task": line, "notes": line})),  # pyright: ignore[reportPrivateUsage] # what `append` keeps
            run_page.page(
                run_page.facts_from("run", {"job.json": json.dumps({"name": "x", "task": line}).encode()}),
                dt.datetime(2026, 12, 1, tzinfo=dt.UTC),
            ),
            failed.Failed({"state": "finished", "exit_code": 1}, f"RuntimeError: {line}\n").diagnosis(),
        )
        for text in map(str, shown):
            assert secret not in text
            assert json.dumps(secret)[1:-1] not in text
        assert sum(issue._scanned("x.jsonl", f"{line}\n".encode()).values())  # pyright: ignore[reportPrivateUsage] # what refuses a slice


def test_a_secret_in_the_words_of_a_command_is_not_shown() -> None:
    for argv in (["mysql", "-p" + WORD], ["curl", "-u", f"me:{WORD}", "h"], ["wandb", "login", WORD + "890"]):
        said = view(argv=argv)["command"]
        assert WORD not in said
        assert shlex.split(said)[0] == argv[0]
    assert view(argv=["python", "train.py", "--tokenizer", "a b"])["command"] == "python train.py --tokenizer 'a b'"


def test_a_crash_report_holds_no_value_of_a_secret_variable_and_no_home() -> None:
    said = surprise.redacted(f"bad {WORD} in /home/me/x", {"MY_TOKEN": WORD, "HOME": "/home/me"})
    assert WORD not in said
    assert said.endswith("in ~/x")


def test_a_large_row_is_scanned_whole_and_a_secret_over_a_border_is_seen() -> None:
    row = json.dumps({"text": "some words of a row " * 100_000, "note": f"password={WORD}"}).encode() + b"\n"
    assert issue._scanned("rows.jsonl", row)  # pyright: ignore[reportPrivateUsage]
    filler = b"0123456 89\n" * ((4 << 20) // 11)
    over = filler + b"x" * ((4 << 20) - len(filler) - 1) + b"\npassword:\n  " + WORD.encode() + b"\n" + filler
    assert issue._scanned("rows.txt", over)  # pyright: ignore[reportPrivateUsage]
