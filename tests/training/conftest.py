"""Tests of the training room: they need the `train` group (torch, transformers, trl ...), and are skipped without it.

    <python of the training environment> -m pytest tests/training

One thread, no network, no GPU unless a test asks for one. HEMMA_FULL=1 runs the full counts.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

IS_FULL = os.environ.get("HEMMA_FULL") == "1"
HAS_TRAIN = all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers", "trl", "peft"))
REASON = "needs the `train` group: run it with the training environment's python (pip install -e '.[train]')"

# Before torch or transformers is loaded by any test.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false")
os.environ.update(OMP_NUM_THREADS="1", HF_HUB_DISABLE_TELEMETRY="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1")


def pytest_configure(config: pytest.Config) -> None:
    """The mark of these tests, also where the project's own settings are not read."""
    config.addinivalue_line("markers", "train: needs torch and trl (set by folder: tests/training)")


class _WithoutTrain(pytest.Module):
    """A test file that cannot be imported here: one skip, with the reason."""

    def collect(self) -> Any:
        pytest.skip(REASON, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> pytest.Module | None:
    """Without the train group no test file is imported; each is one skip that says why."""
    return None if HAS_TRAIN else _WithoutTrain.from_parent(parent, path=module_path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test below this folder carries the mark."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.train)
            # Third parties warn of their own futures; ours are seen by the rest of the suite.
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """One torch thread: sums in one order, so that two runs can be compared bit by bit."""
    if HAS_TRAIN:
        import torch

        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(mode=True)


@pytest.fixture(scope="session")
def host_with_nursery(tmp_path_factory: pytest.TempPathFactory, quiet_at_the_end: None) -> Iterator[Any]:
    """A `Bench` (tests/training/bench.py): a host without SSH whose children start in a second; one for all of a session."""
    from tests.training.bench import Bench

    made = Bench(tmp_path_factory.mktemp("host"))
    try:
        yield made.prepare()
    finally:
        made.end()


@pytest.fixture
def second_host(sshd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A real OpenSSH server; `ssh` on PATH finds it in this worker's ssh_config."""
    wrapper = tmp_path / "bin" / "ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F "{sshd.ssh_config}" "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", str(wrapper.parent), prepend=os.pathsep)
    return sshd.alias


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A stand-in for the hub, and huggingface_hub told to use it."""
    from huggingface_hub import constants

    from tests.training import hub_stand_in

    with hub_stand_in.serving() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", value=False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", value=True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setenv("HF_TOKEN", hub_stand_in.TOKEN)
        yield served


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One host for all tests of a file: what one run proves the next need not."""
    from tests.training.bench import Bench

    made = Bench(tmp_path_factory.mktemp("bench"))
    try:
        yield made.prepare()
    finally:
        made.end()
