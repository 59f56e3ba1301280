"""`hemma colab run` against a program that takes only what Google's own takes: the machine is always given back."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lanes import colab_sessions
from tests.colab_stand_in import CONTRACT
from tests.conftest import REPOSITORY
from tests.drive_support import START, here, make_slice, status_of

FREE = ("--cost-per-hour", "0")


class Lane:
    """A project with a folder as its Drive, a slice, and the stand-in as `colab`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.drive, self.stand_in = folder, folder / "hemma", folder / "stand-in"
        for made in (self.drive, self.stand_in):
            made.mkdir()
        subprocess.run(["git", "init", "-q", str(folder)], check=True)
        (folder / "pyproject.toml").write_text('[tool.hemma]\ndrive = "folder:hemma"\n')
        program = folder / "colab"
        script = REPOSITORY / "tests/colab_stand_in.py"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.slice = make_slice(folder / "slices")
        self.environ = {
            **os.environ, "HEMMA_COLAB": str(program), "STAND_IN": str(self.stand_in), "PYTHONPATH": str(REPOSITORY),
            **{f"HEMMA_{name.upper()}_DIR": str(folder / name) for name in ("config", "state", "cache")},
        }  # fmt: skip
        assert here(folder, self.environ, "trust", "--yes")[0] == 0

    def plan(self, **plan: Any) -> None:
        """What happens: by default the run writes two statuses and ends well."""
        status = self.drive / "runs" / self.slice.name / "status.json"
        done = status_of("r", done=100, state="finished", exit_code=0).decode()
        steps = [
            {"files": {str(status): status_of("r", done=10).decode()}},
            {"files": {str(status): done}, "after_s": 0.7},
        ]
        (self.stand_in / "plan.json").write_text(json.dumps({"run": steps, **plan}))

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", START, "colab", *arguments]

    def __call__(self, *arguments: str, code: int = 0) -> str:
        ended, shown, self.errors = here(self.folder, self.environ, "colab", *arguments)
        assert ended == code, self.errors
        return shown

    def calls(self) -> list[Any]:
        file = self.stand_in / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def live(self) -> dict[str, str]:
        file = self.stand_in / "state.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def records(self) -> list[str]:
        return [path.name for path in (self.folder / "state/colab/sessions").glob("*.json")]


@pytest.fixture
def lane(tmp_path: Path) -> Lane:
    made = Lane(tmp_path)
    made.plan()
    return made


@pytest.mark.req("S8-R12", "S8-R15", "S9-R30")
def test_a_slice_runs_without_a_hand_and_the_machine_is_given_back(lane: Lane) -> None:
    shown = lane("run", str(lane.slice), "--gpu", "t4", *FREE, "--yes")
    assert "finished" in shown
    assert "10 of 100 rows" in lane.errors
    assert [call[0] for call in lane.calls()] == ["new", "sessions", "drivemount", "exec", "stop", "sessions"]
    new, _, mount, execute = lane.calls()[:4]
    assert (new[1]["gpu"], mount[2], execute[1]["timeout"]) == ("T4", ["/content/drive"], "3600")
    assert (lane.live(), lane.records()) == ({}, [])
    (ledger,) = (lane.folder / "state/colab").glob("ledger-*.jsonl")
    kinds = [json.loads(line)["kind"] for line in ledger.read_text().splitlines()]
    assert kinds == ["reserve", "settle"]
    assert (lane.drive / "slices" / lane.slice.name / "slice.json").exists()


@pytest.mark.req("S8-R12")
def test_no_machine_is_paid_for_when_nothing_is_left_to_do(lane: Lane) -> None:
    run = lane.drive / "runs" / lane.slice.name
    run.mkdir(parents=True)
    (run / "status.json").write_bytes(status_of("r", done=99, state="finished", exit_code=3))
    shown = lane("run", str(lane.slice), "--gpu", "T4")  # not even a yes is needed
    assert "finished, 99 of 100 rows already; no machine was taken" in shown
    assert lane.calls() == []
    (run / "status.json").write_bytes(status_of("r", done=50, state="stopped", exit_code=4))
    lane("run", str(lane.slice), *FREE)
    assert lane.calls()


@pytest.mark.parametrize(
    ("plan", "code", "said"),
    [
        ({"cell_error": ["ValueError", "no such column"]}, 1, "ValueError: no such column"),
        ({"exec": {"exit": 1, "say": "RuntimeError"}}, 1, "RuntimeError"),
        ({"lost": True}, 1, "took the machine away"),
        ({"new": {"exit": 1, "say": "[colab] Backend rejected accelerator 'T4'."}}, 1, "Backend rejected"),
        ({"stop_fails": 2}, 0, "is stopped"),
    ],
)
def test_whatever_fails_the_machine_is_given_back(lane: Lane, plan: dict[str, Any], code: int, said: str) -> None:
    lane.plan(**plan)
    lane("run", str(lane.slice), "--gpu", "T4", *FREE, "--yes", code=code)
    assert said in lane.errors
    assert (lane.live(), lane.records()) == ({}, [])


def test_a_machine_that_stays_is_the_error_and_a_stray_until_it_is_gone(lane: Lane) -> None:
    lane.plan(stop_fails=100, foreign={"mine": "A100", "?": "CPU"})
    # In a process of its own, which is gone afterwards: that makes it a stray.
    argv = lane.argv("run", str(lane.slice), *FREE)
    told = subprocess.run(
        argv, capture_output=True, text=True, cwd=lane.folder, env=lane.environ, timeout=60, check=False
    )
    assert (told.returncode, "goes on costing" in told.stderr) == (1, True), told.stderr
    (name,) = lane.live()
    assert f"colab stop -s {name}" in told.stderr
    told = lane("doctor", "last", code=1)
    assert f"the Colab session {name} was left behind and may still cost" in told
    assert "hemma colab sessions --stop" in told
    shown = lane("sessions", code=1)
    assert f"{name}: the process that ran {lane.slice.name} in it is gone" in shown
    lane.plan(foreign={"mine": "A100", "?": "CPU"})
    lane("sessions", "--stop")
    assert (lane.live(), lane.records()) == ({}, [])
    assert all(call[1].get("s") == name for call in lane.calls() if call[0] == "stop")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_gives_the_machine_back(lane: Lane, number: signal.Signals) -> None:
    lane.plan(exec={"hang_s": 60})
    process = _until_it_runs(lane)
    process.send_signal(number)
    assert process.wait(20) == 130
    assert (lane.live(), lane.records()) == ({}, [])


def test_after_a_kill_the_session_is_a_stray_and_can_be_stopped(lane: Lane) -> None:
    lane.plan(exec={"hang_s": 2})
    process = _until_it_runs(lane)
    process.kill()
    process.wait(20)
    (name,) = lane.live()
    assert lane.records() == [f"{name}.json"]
    doctor = [sys.executable, "-c", START, "doctor", "--offline", "--json"]
    told = subprocess.run(doctor, cwd=lane.folder, env=lane.environ, capture_output=True, check=False, timeout=60)
    assert f"the Colab session {name} was left behind" in told.stdout.decode()
    assert name in lane("sessions", code=1)
    lane("sessions", "--stop")
    assert (lane.live(), lane.records()) == ({}, [])
    time.sleep(2)  # the stand-in's own end


def _until_it_runs(lane: Lane) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        lane.argv("run", str(lane.slice), *FREE), cwd=lane.folder, env=lane.environ, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not any(call[0] == "exec" for call in lane.calls()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def test_a_run_that_takes_too_long_is_ended(lane: Lane) -> None:
    lane.plan(exec={"hang_s": 30})
    lane("run", str(lane.slice), *FREE, "--hours", "0.0005", code=124)
    assert "goes on where it was" in lane.errors
    assert lane.live() == {}


@pytest.mark.req("S8-R12", "S8-R15", "S8-R19")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--gpu", "T4", *FREE], 75, "GPU time needs a yes"),
        (["--cost-per-hour", "2", "--max-cost", "5"], 75, "paid work needs a yes"),
        ([], 75, "cost_per_hour is not known"),
        ([], 75, "--cost-per-hour N   (0 when it is free), or --yes"),
        (["--gpu", "V100", *FREE, "--yes"], 2, "would give an A100"),
        (["--hours", "30", *FREE], 2, "at most a day"),
        (["--cost-per-hour", "2", "--hours", "3", "--max-cost", "5", "--yes"], 75, "a cap is never passed"),
        (["--gpu", "T4", *FREE, "--hours", "2", "--max-gpu-hours", "1", "--yes"], 75, "a cap is never passed"),
    ],
)
def test_nothing_is_paid_for_without_a_yes_nor_above_a_cap(
    lane: Lane, arguments: list[str], code: int, said: str
) -> None:
    ended, _, errors = here(lane.folder, lane.environ, "colab", "run", str(lane.slice), *arguments)
    assert (ended, said in errors) == (code, True), errors
    assert lane.calls() == []


def test_a_machine_whose_name_was_forgotten_is_not_taken_for_one_that_is_gone(lane: Lane) -> None:
    lane.plan(lost="its name only")
    argv = lane.argv("run", str(lane.slice), *FREE)
    told = subprocess.run(
        argv, capture_output=True, text=True, cwd=lane.folder, env=lane.environ, timeout=60, check=False
    )
    assert (told.returncode, "goes on costing" in told.stderr) == (1, True), told.stderr
    (listed,) = lane.live()
    shown = lane("sessions", "--stop", code=1)
    assert f"{listed.lstrip('?')}: the process that ran {lane.slice.name} in it is gone" in shown
    assert "https://colab.research.google.com" in shown
    (lane.stand_in / "state.json").write_text("{}")  # a person ended it there
    assert "no session runs" in (lane("sessions"), lane.errors)[1]
    assert lane.records() == []


def test_without_the_program_it_is_said_how_to_get_it(lane: Lane) -> None:
    lane.environ["HEMMA_COLAB"] = "no-such-program"
    lane("run", str(lane.slice), *FREE, code=1)
    assert "uv tool install google-colab-cli" in lane.errors
    assert not (lane.drive / "slices").exists()


# --- the stand-in itself --------------------------------------------------------------------------------------------


def test_the_stand_in_takes_nothing_that_the_contract_does_not_know(lane: Lane) -> None:
    for words in (
        ["new", "--name", "x"],
        ["run", "x"],
        ["exec", "-s", "a", "--timeout", "soon"],
        ["stop", "a"],
        ["--auth", "x", "new"],
    ):
        argv = [str(lane.folder / "colab"), *words]
        assert subprocess.run(argv, capture_output=True, env=lane.environ, check=False).returncode == 2, words


def test_the_gpus_we_offer_are_those_of_the_contract() -> None:
    assert sorted(colab_sessions.GPUS) == sorted(yaml.safe_load(CONTRACT.read_text())["behaviour"]["gpus"])
