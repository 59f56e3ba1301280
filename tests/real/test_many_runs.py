"""A host that has thousands of runs, some of whose records are damaged: every verb ends soon, and shows all the others."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import Cli, EnvironFor, make_repository, wait_until

Make = Callable[[dict[str, str]], Cli]
MANY = 12_000 if os.environ.get("HEMMA_FULL") == "1" else 1_500
DAMAGE = ("run.json", "status.json")
# Long enough for a loaded machine; reading run by run over the link would take far longer.
SOON_S = 60.0


@pytest.fixture
def there(hemma_with: Make, settings_env: EnvironFor, tmp_path: Path) -> Cli:
    """The CLI against a host that keeps its runs in a folder of this test's own."""
    clone = make_repository(tmp_path / "here")
    cli = hemma_with(settings_env(root=clone.path, state=tmp_path / "hemma"))
    cli.folder = clone.path
    return cli


def runs_of(cli: Cli) -> Path:
    return Path(cli.environ["HEMMA_HOST_STATE_DIR"]) / "runs"


def plant(runs: Path, count: int) -> list[str]:
    """Runs that ended, as they lie on disk; the last five, and every thousandth, have no record that can be read."""
    for folder in (runs.parent, runs):
        folder.mkdir(mode=0o700, exist_ok=True)
    names, damaged = [f"20250101-{number:09}-00000000" for number in range(count)], list[str]()
    ended = {"state": "finished", "exit_code": 0, "reason": "exited", "ended_at": "2025-01-01T00:00:00Z"}
    (runs.parent / "ended").write_text(json.dumps(ended))
    for number, name in enumerate(names):
        os.mkdir(runs / name, 0o700)
        record = {"run_id": name, "argv": ["python", "train.py", "--seed", str(number)], "root": "/r", "cwd": "/r"}
        (runs / name / "run.json").write_text(json.dumps({**record, "created_at": "2025-01-01T00:00:00Z"}))
        if number % 1000 and number < count - 5:
            os.link(runs.parent / "ended", runs / name / "status.json")
            continue
        (runs / name / DAMAGE[number % 2]).write_text("[" * 100_000)
        damaged.append(name)
    return damaged


@pytest.mark.timeout(300)
def test_ps_ends_soon_and_shows_every_run_once(there: Cli) -> None:
    live = there.start("run", "--", "cat")
    assert live.stdin is not None
    assert live.stdout is not None
    wait_until(lambda: runs_of(there).is_dir() and os.listdir(runs_of(there)), 30, "the run is there")
    damaged = plant(runs_of(there), MANY)
    done = there("ps", timeout_s=SOON_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"running") == 1
    everything = there("ps", "--all", timeout_s=SOON_S)
    assert everything.returncode == 0, everything.stderr
    assert everything.stdout.count(b"\n") == 1 + 200
    said = everything.stderr.decode().replace("\n", " ")
    assert [name in said for name in damaged] == [False] * (len(damaged) - 5) + [True] * 5
    assert f"{MANY + 1 - 200} older runs" in said
    all_of_them = there("ps", "--all", "--json", timeout_s=SOON_S)
    assert all_of_them.returncode == 0, all_of_them.stderr
    runs = json.loads(all_of_them.stdout)
    assert len({run["run_id"] for run in runs}) == len(runs) == MANY + 1
    assert [run["run_id"] for run in runs if run["damaged"]] == damaged
    live.stdin.write(b"still here\n")
    assert live.stdout.read(11) == b"still here\n"
    live.stdin.close()
    assert live.wait(20) == 0


@pytest.mark.timeout(180)
def test_one_damaged_record_is_the_loss_of_its_own_run(there: Cli) -> None:
    broken = dict[str, str]()
    for name in DAMAGE:
        assert there("run", "-n", "--", "echo", "from before").returncode == 0
        broken[name] = max(os.listdir(runs_of(there)))
        (runs_of(there) / broken[name] / name).write_text("[" * 100_000)
    live = there.start("run", "--", "cat")
    assert live.stdin is not None
    assert live.stdout is not None
    said = dict[tuple[str, ...], str]()
    asked = [("ps",), ("ps", "--all"), ("status",), ("doctor",)]
    asked += [(verb, run) for verb in ("logs", "wait", "doctor") for run in broken.values()]
    for number, argv in enumerate(asked):
        done = there(*argv)
        said[argv] = " ".join((done.stdout + done.stderr).decode().split())
        assert done.returncode in ((0,) if argv[0] in ("ps", "status", "logs") else (0, 1, 255)), said
        assert "Traceback" not in said[argv]
        if argv == ("wait", broken["status.json"]):
            assert done.returncode != 0  # nobody knows how it ended
        live.stdin.write(b"%02d\n" % number)
        assert live.stdout.read(3) == b"%02d\n" % number
    for name, run in broken.items():
        assert f"the record of {run} cannot be read: {name} is JSON that is nested too deep" in said["ps", "--all"]
        assert said["logs", run] == "from before"
    live.stdin.close()
    assert live.wait(20) == 0
