"""`hemma doctor` against a real host: what is well, what is not and how to mend it, and what is known of runs that failed."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remote.loopback import LoopbackHost, client_config
from tests.support import Cli, EnvironFor, RepositoryOnHost, make_repository

Make = Callable[[dict[str, str]], Cli]
KNOWN = "echo step 1; echo \"fatal: detected dubious ownership in repository at '/repo'\" >&2; exit 128"
UNKNOWN = "printf 'RuntimeError: frobnicator 12 \\033[31mlost hf_aB3dE5fG7hJ9kL1mN3pQ5rS7tU9v\\n' >&2; exit 3"


@pytest.fixture
def clones(tmp_path: Path) -> tuple[RepositoryOnHost, Path]:
    """The host's clone and ours of the same origin, in step, with a project that names no host (the environment does)."""
    (tmp_path / "there").mkdir()
    host = make_repository(tmp_path / "there")
    (host.path / "pyproject.toml").write_text('[tool.hemma]\nroot = "~/not-used"\nconfigs = "configs"\n')
    host.git("add", "-A")
    host.git("commit", "-q", "-m", "A project")
    host.git("push", "-q")
    subprocess.run(["git", "clone", "-q", str(host.origin), str(tmp_path / "here")], check=True)
    return host, tmp_path / "here"


@pytest.fixture
def cli(
    clones: tuple[RepositoryOnHost, Path], hemma: Cli, hemma_with: Make, settings_env: EnvironFor, tmp_path: Path
) -> Cli:
    """The CLI, standing in our clone. Its warm connection is the worker's, what it keeps on this machine its own."""
    assert hemma("host", "up").returncode == 0  # the broker is there, and no child of ours
    environ = settings_env(root=clones[0].path)
    made = hemma_with(
        {**environ, "HEMMA_CONFIG_DIR": str(tmp_path / "config"), "HEMMA_CACHE_DIR": str(tmp_path / "cache")}
    )
    made.folder = clones[1]
    assert made("trust", "--yes").returncode == 0
    return made


@pytest.fixture
def own(cli: Cli, tmp_path: Path) -> Cli:
    """The same with a personal memory of its own."""
    cli.environ["HEMMA_STATE_DIR"] = str(tmp_path / "state")
    assert cli("trust", "--yes").returncode == 0
    return cli


def looked(cli: Cli, *words: str, expect: int = 0, **env: str) -> dict[str, dict[str, Any]]:
    """The rows of `hemma doctor --json` by part and name."""
    done = cli("doctor", "--json", *words, env=env)
    assert done.returncode == expect, done.stderr.decode() + done.stdout.decode()
    found = json.loads(done.stdout)
    assert found["is_well"] == (expect == 0)
    return {f"{row['part']}, {row['name']}": row for row in found["rows"]}


# --- everything ------------------------------------------------------------------------------------------------------


@pytest.mark.req("S17-R12")
def test_every_part_is_looked_at_and_each_warning_names_its_remedy(
    own: Cli, clones: tuple[RepositoryOnHost, Path]
) -> None:
    cli = own
    rows = looked(cli)
    parts = {name.partition(",")[0] for name in rows}
    assert parts == {"settings", "project", "hooks", "memory", "drive", "host", "clones", "runs"}
    assert rows["project, configs"]["level"] == "warn"
    assert rows["hooks, local"]["mend"] == "hemma hooks install"
    assert rows["clones, host and local"]["level"] == rows["host, repository"]["level"] == "ok"
    assert all(row["mend"] for row in rows.values() if row["level"] in ("warn", "fail"))
    # What is mended is well the next time.
    assert cli("hooks", "install").returncode == 0
    answers = ("--platform", "ssh", "--disk-gb", "500", "--tracker-key", "A_TOKEN", "--host", "gpu", "--force")
    assert cli("init", "--root", str(clones[0].path), *answers).returncode == 0
    (cli.folder / "configs").mkdir()
    mended = looked(cli, A_TOKEN="x")
    assert {mended[name]["level"] for name in ("hooks, local", "settings, personal memory", "tracker, key")} == {"ok"}
    assert "project, configs" not in mended


def test_clones_that_are_not_in_step_are_told(cli: Cli, clones: tuple[RepositoryOnHost, Path]) -> None:
    (clones[0].path / "new.txt").write_text("new\n")
    clones[0].git("add", "-A")
    clones[0].git("commit", "-q", "-m", "Only there")
    rows = looked(cli)
    assert rows["clones, host"]["fact"].startswith("ahead")
    assert rows["clones, host and local"]["level"] == "warn"
    assert rows["clones, host and local"]["mend"].startswith("hemma sync")


# --- without a network -----------------------------------------------------------------------------------------------


def test_a_host_that_cannot_be_reached_is_said_and_the_rest_is_looked_at(
    cli: Cli, sshd: LoopbackHost, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = taken.getsockname()[1]
        config = tmp_path / "ssh_config"
        config.write_text(client_config(sshd, nobody, str(tmp_path / "known_hosts")))
        begun = time.monotonic()
        rows = looked(cli, expect=1, HEMMA_SSH_CONFIG=str(config), HEMMA_CONNECT_TIMEOUT_S="2")
    assert time.monotonic() - begun < 20
    assert rows["host, ssh alias"]["level"] == "fail"
    assert "could not be asked" in rows["host, the rest"]["fact"]
    assert {rows[name]["level"] for name in ("clones, host and local", "runs, failures")} == {"not checked"}
    assert rows["hooks, local"]["level"] == "warn"


# --- runs that failed ------------------------------------------------------------------------------------------------


@pytest.mark.req("S17-R04")
def test_a_known_failure_is_tied_to_its_entry(cli: Cli) -> None:
    assert cli("run", "--shell", KNOWN).returncode == 128
    done = cli("doctor", "last")
    said = done.stdout.decode()
    assert done.returncode == 1
    assert "exit code 128" in said
    assert "says so" in said
    assert "known    git-dubious-ownership: " in said
    assert "https://" in said
    assert "do       hemma runbook show git-dubious-ownership" in said
    assert "propose" not in said
    run = said.split()[1].rstrip(",")
    rows = looked(cli)
    assert [each["id"] for each in rows[f"runs, {run}"]["known"]] == ["git-dubious-ownership"]
    assert rows[f"runs, {run}"]["mend"] == f"hemma doctor {run}"


@pytest.mark.req("S17-R07", "S17-R11")
def test_what_nothing_knows_leads_to_a_draft_and_shows_no_secret(cli: Cli) -> None:
    assert cli("run", "--shell", UNKNOWN).returncode == 3
    done = cli("doctor", "last")
    assert done.returncode == 1
    assert b"do       hemma gotcha propose 2" in done.stdout
    assert b"frobnicator 12" in done.stdout
    assert b"hf_aB3" not in done.stdout
    assert b"\x1b[31m" not in done.stdout
    found = cli("doctor", "last", "--json").stdout
    assert b"hf_aB3" not in found
    (step,) = json.loads(found)["next"]
    drafted = cli(*step.split()[1:], "--json")
    assert json.loads(drafted.stdout)["proposal"]["evidence"]


def test_a_run_that_is_well_or_goes_on_is_nothing_bad(cli: Cli) -> None:
    assert cli("run", "--", "true").returncode == 0
    assert b"it ended well" in cli("doctor", "last").stdout
    started = cli("run", "--detach", "--", "sleep", "60")
    assert started.returncode == 0
    live = cli("doctor", "last")
    assert (live.returncode, b"it still runs" in live.stdout) == (0, True)
    assert cli("stop", "last").returncode == 0
    assert cli("doctor", "last").returncode == 1


def test_a_run_that_is_none_is_refused_with_the_way_to_drive(cli: Cli) -> None:
    for run in ("no-such-run", "../../etc/passwd", "x" * 5000):
        done = cli("doctor", run, "--json")
        told = json.loads(done.stdout)
        assert (done.returncode, told["error"]) == (1, "no-such-run")
        assert "hemma colab doctor" in told["remedy"]
        assert b"Traceback" not in done.stderr


@pytest.mark.req("S17-R04")
def test_host_check_names_what_is_known_of_a_bad_row(
    hemma_with: Make, settings_env: EnvironFor, sshd: LoopbackHost, tmp_path: Path
) -> None:
    """A driver that does not match, as nvidia-smi tells it; nothing where all is well."""
    tools = tmp_path / "tools"
    tools.mkdir()
    said = "Failed to initialize NVML: Driver/library version mismatch"
    (tools / "nvidia-smi").write_text(f"#!/bin/sh\necho '{said}'\nexit 18\n")
    (tools / "python").write_text(f'#!/bin/sh\nPATH={tools}:$PATH exec {sshd.python} "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    cli = hemma_with(settings_env(state=tmp_path / "hemma", HEMMA_PYTHON=str(tools / "python")))
    for words in (("host", "check"), ("host", "check", "--json")):
        done = cli(*words)
        assert done.returncode == 1, done.stdout.decode()
        assert b"known    nvml-driver-mismatch: " in done.stderr, done.stdout.decode() + done.stderr.decode()
        assert done.stderr.count(b"known ") == 1
    row = looked(cli, expect=1)["host, gpu and driver"]
    assert [each["id"] for each in row["known"]] == ["nvml-driver-mismatch"]
    (tools / "nvidia-smi").unlink()
    assert b"known " not in cli("host", "check").stderr
