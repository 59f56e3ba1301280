"""A submit of `hemma train` starts exactly one process, whatever happens to the link and however often it is sent (S9-R18, S8-R05).

What is started here only writes down that it was: submits are counted, not trainings. 20 of them, 200 with HEMMA_FULL=1.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.cli.run import settings_for
from controller.flows import run as run_flow
from controller.flows import train as flow
from manifests.train import EXAMPLE
from remote.loopback import LoopbackHost
from tests.real.chaos_proxy import ChaosProxy
from tests.real.host_processes import runs_folder
from tests.real.test_run_cuts import FAULTS
from tests.support import Cli, EnvironFor, RepositoryOnHost, make_repository, wait_until

Make = Callable[[dict[str, str]], Cli]
IS_FULL = os.environ.get("HEMMA_FULL") == "1"
SUBMITS = 200 if IS_FULL else 20
AT_ONCE = 10
MANIFEST = "manifests/runs/tiny-text.yaml"
pytestmark = [pytest.mark.real, pytest.mark.req("S9-R18"), pytest.mark.timeout(120 + SUBMITS * 3)]


@pytest.fixture
def clone(tmp_path: Path) -> RepositoryOnHost:
    """A clone with a request whose python writes the id of its run into `started`, and ends."""
    (tmp_path / "on-host").mkdir()
    made = make_repository(tmp_path / "on-host")
    counter = made.path / "tools/python"
    counter.parent.mkdir()
    counter.write_text(f'#!/bin/sh\necho "$HEMMA_RUN_ID" >> "{tmp_path}/started"\n')
    counter.chmod(0o755)
    write_manifest(made.path)
    return made


def write_manifest(root: Path, **changes: Any) -> None:
    """The example, whose python is the counter, and changes."""
    place = root / MANIFEST
    place.parent.mkdir(parents=True, exist_ok=True)
    said = {**yaml.safe_load(EXAMPLE), "python": "tools/python", **changes}
    place.write_text(yaml.safe_dump(said))


def started(tmp_path: Path) -> Counter[str]:
    """How often each run was started."""
    place = tmp_path / "started"
    return Counter(place.read_text().split() if place.exists() else [])


@pytest.fixture
def proxy(sshd: LoopbackHost) -> Iterator[ChaosProxy]:
    with ChaosProxy(sshd.port) as proxy:
        yield proxy


def test_submits_over_a_link_that_is_cut_start_one_process_each(
    proxy: ChaosProxy,
    clone: RepositoryOnHost,
    hemma_with: Make,
    settings_env: EnvironFor,
    sshd: LoopbackHost,
    tmp_path: Path,
) -> None:
    quick = {"HEMMA_KEEPALIVE_S": "1.0", "HEMMA_CONNECT_TIMEOUT_S": "2"}
    through = proxy.ssh_config_for(sshd)
    cli = hemma_with(settings_env(root=clone.path, ssh_config=through, state=tmp_path / "hemma", **quick))
    assert cli("train", MANIFEST, "--detach").returncode == 0
    chance = random.Random(5)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        submits = [pool.submit(cli, "train", MANIFEST, "--detach") for _ in range(SUBMITS)]
        faults = 0
        while not all(each.done() for each in submits):
            FAULTS[chance.choice(list(FAULTS) if IS_FULL else ["drop", "reset", "refuse"])](proxy, chance)
            faults += 1
            # A link that only ever breaks proves nothing: now and then a submit comes through.
            enough, until = sum(started(tmp_path).values()) + 2, time.monotonic() + 5
            while sum(started(tmp_path).values()) < enough and time.monotonic() < until:
                time.sleep(0.05)
        ends = [each.result() for each in submits]
    said = [end.stdout.decode().strip() for end in ends if end.returncode == 0]
    assert faults >= SUBMITS / 10
    # A link that stays away is told, not waited for: most come through all the same.
    assert len(said) > SUBMITS / 2, Counter((end.returncode, end.stderr[-200:]) for end in ends)
    assert all(b"Traceback" not in end.stderr for end in ends)
    wait_until(lambda: set(said) <= set(started(tmp_path)))
    counted = started(tmp_path)
    assert set(counted.values()) == {1}
    folders = {path.name for path in runs_folder(cli).iterdir()}
    assert set(counted) == folders


def test_one_request_that_is_sent_many_times_at_once_is_one_process(
    hemma: Cli, clone: RepositoryOnHost, settings_env: EnvironFor, tmp_path: Path
) -> None:
    assert hemma("run", "--", "true").returncode == 0  # the broker is there, and no child of ours
    os.environ.update(settings_env(root=clone.path))
    os.chdir(hemma.folder)  # in no repository, least of all in this one
    settings = settings_for(None)
    read, name = flow.manifest_on_host(settings, MANIFEST)
    payload, job = flow.sent(settings, flow.request_of(read, name, until=None, resume=None))
    for _ in range(max(1, SUBMITS // 20)):
        asked = run_flow.request_of(settings, {"lease_s": None}, ["tools/python", "-I", payload, "execute", job])
        with ThreadPoolExecutor(8) as pool:
            sessions = [run_flow.session_for(settings, dict(asked), (_drop, _drop)) for _ in range(8)]
            list(pool.map(lambda each: each.follow(), sessions))
        assert {each.run_id for each in sessions} == {asked["run_id"]}
        wait_until(lambda run=asked["run_id"]: run in started(tmp_path))
    assert set(started(tmp_path).values()) == {1}


def _drop(_: memoryview) -> None:
    """Nothing is printed."""


@pytest.mark.req("S8-R05")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arguments": {"output_dir": "/Users/me/out"}}, "/Users/me/out is not on the host"),
        ({"dataset": {"source": "C:\\Users\\me\\text.jsonl"}}, "a path of Windows"),
        ({"dataset": {"source": "~/text.jsonl"}}, "~/text.jsonl is not on the host"),
        ({"persist": {"destination": "/Volumes/Disk/models"}}, "/Volumes, where it would be made, is not on the host"),
        ({"environment": {"HF_TOKEN": "hf_" + "aB3dE6gH9jK2mN5pQ8sT1vW4"}}, "environment.HF_TOKEN looks like a secret"),
    ],
)
def test_request_of_another_machine_is_refused_before_anything_starts(
    clone: RepositoryOnHost,
    hemma_with: Make,
    settings_env: EnvironFor,
    tmp_path: Path,
    changes: dict[str, Any],
    words: str,
) -> None:
    write_manifest(clone.path, **changes)
    cli = hemma_with(settings_env(root=clone.path))
    done = cli("train", MANIFEST, "--json")
    assert done.returncode == 2
    told = json.loads(done.stdout)
    assert (told["error"], words in told["message"], bool(told["remedy"])) == ("submit-invariant", True, True), told
    assert "aB3dE6gH9jK2mN5pQ8sT1vW4" not in str(told)
    assert not started(tmp_path)


@pytest.mark.req("S8-R05")
def test_place_in_the_clone_here_is_named_by_its_path_in_the_repository(
    clone: RepositoryOnHost, hemma_with: Make, settings_env: EnvironFor, tmp_path: Path
) -> None:
    here = make_repository(tmp_path).path
    write_manifest(clone.path, dataset={"source": f"{here}/data/text.jsonl"})
    (here / "data").mkdir()
    cli = hemma_with(settings_env(root=clone.path))
    done = cli("train", MANIFEST, cwd=here)
    assert done.returncode == 2
    assert b"dataset.source: data/text.jsonl" in done.stderr
    # What is there on the host too is the host's.
    (here / "data/text.jsonl").write_text("{}\n")
    assert cli("train", MANIFEST, "--detach", cwd=here).returncode == 0


@pytest.mark.req("S11-R13")
def test_resume_of_what_is_no_run_of_this_request_is_refused(
    clone: RepositoryOnHost, hemma_with: Make, settings_env: EnvironFor, tmp_path: Path
) -> None:
    cli = hemma_with(settings_env(root=clone.path, state=tmp_path / "hemma"))
    done = cli("train", MANIFEST, "--resume", "last")
    assert (done.returncode != 0, b"Traceback" in done.stderr) == (True, False)
    run_id = cli("train", MANIFEST, "--detach").stdout.decode().strip()
    done = cli("train", MANIFEST, "--resume", run_id)
    assert b"is no training run" in done.stderr
    place = runs_folder(cli) / run_id / "training"
    place.mkdir()
    (place / "job.json").write_text('{"name": "other"}')
    done = cli("train", MANIFEST, "--resume", "last")
    assert (done.returncode, b"is one of other" in done.stderr) == (2, True)
