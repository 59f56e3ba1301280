"""Old runs leave the host by themselves, live ones never; and what stands in where a system lacks `poll` (Windows)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remote.host import target_of
from remote.housekeeping import Housekeeping
from remote.link import Link
from tests.support import Cli, EnvironFor, wait_until

OLD_S = 30 * 86400


@pytest.fixture
def own(hemma_with: object, settings_env: EnvironFor, tmp_path: Path) -> Cli:
    """The CLI with state folders of its own on both sides."""
    return hemma_with(settings_env(state=tmp_path / "own"))  # type: ignore[operator]


def _age(folder: Path) -> None:
    long_ago = time.time() - OLD_S
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (long_ago, long_ago))


def _link(cli: Cli) -> Link:
    environ = cli.environ
    spec = {"ssh": environ["HEMMA_HOST"], "ssh_config": environ["HEMMA_SSH_CONFIG"], "python": environ["HEMMA_PYTHON"]}
    return Link(target_of(spec), lambda _: None)


@pytest.mark.req("S9-R14")
def test_old_runs_go_by_themselves_and_live_ones_stay(own: Cli) -> None:
    runs = Path(own.environ["HEMMA_HOST_STATE_DIR"], "runs")
    ended = own("run", "-d", "--", "true").stdout.decode().strip()
    live = own("run", "-d", "--", "sleep", "60").stdout.decode().strip()
    young = own("run", "-d", "--", "true").stdout.decode().strip()
    for run in (ended, young):
        assert own("wait", run).returncode == 0
    _age(runs / ended)
    _age(runs / live)
    link = _link(own)
    keeping = Housekeeping(delay_s=0)
    keeping.note(link, own.environ["HEMMA_HOST_STATE_DIR"])
    keeping.start_due()
    wait_until(lambda: not (runs / ended).exists(), what="the old run is removed")
    assert (runs / live).exists()
    assert (runs / young).exists()
    link.close()
    wait_until(lambda: link.is_gone)
    assert own("stop", live).returncode == 0


@pytest.mark.req("S17-R12")
def test_what_is_kept_is_the_disk_budget_of_that_host(own: Cli) -> None:
    runs = Path(own.environ["HEMMA_HOST_STATE_DIR"], "runs")
    done = [own("run", "-d", "--", "echo", "something").stdout.decode().strip() for _ in range(2)]
    for run in done:
        assert own("wait", run).returncode == 0
    asked: list[str] = []

    def nothing_is_kept(host: str) -> int:
        asked.append(host)
        return 0

    link = _link(own)
    keeping = Housekeeping(delay_s=0, keep_bytes=nothing_is_kept)
    keeping.note(link, own.environ["HEMMA_HOST_STATE_DIR"], "the-host")
    keeping.start_due()
    wait_until(lambda: not any((runs / run).exists() for run in done), what="young runs go where nothing may be kept")
    assert asked == ["the-host"]
    link.close()
    wait_until(lambda: link.is_gone)


def test_a_clean_up_is_asked_for_once_a_day_whoever_asks(own: Cli) -> None:
    runs = Path(own.environ["HEMMA_HOST_STATE_DIR"], "runs")
    assert own("run", "--", "true").returncode == 0
    link = _link(own)
    first, second = Housekeeping(delay_s=0), Housekeeping(delay_s=0)
    first.note(link, str(runs.parent))
    first.start_due()
    wait_until((runs.parent / "pruned").exists)
    old = own("run", "-d", "--", "true").stdout.decode().strip()
    assert own("wait", old).returncode == 0
    _age(runs / old)
    second.note(link, str(runs.parent))
    second.start_due()
    assert own("run", "--", "true").returncode == 0  # the same link has answered since
    link.close()
    wait_until(lambda: link.is_gone)
    assert (runs / old).exists()


WITHOUT_POLL = """
import select, sys
del select.poll
sys.argv = ["hemma", "run", "--", "cat"]
from hemma.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("size", [0, 10, 300_000])
def test_input_passes_where_only_sockets_can_be_waited_for(own: Cli, size: int) -> None:
    """What Windows has: no poll, no broker; our stdin is moved to a socket by a thread."""
    data = os.urandom(size)
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POLL],
        input=data,
        cwd=own.folder,
        capture_output=True,
        env={**own.environ, "HEMMA_BROKER": "off", "PYTHONPATH": str(root)},
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, data), done.stderr.decode()
