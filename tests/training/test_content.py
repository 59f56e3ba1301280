"""Digests of everything that decides the result: what changes is seen, whatever its times and size say, and named (S7-R18)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.bench import Bench
from tests.training.support import make_tokenizer
from training import content

pytestmark = [pytest.mark.timeout(300), pytest.mark.req("S7-R18")]


def make_request(root: Path) -> dict[str, Any]:
    """A job with a model folder, a tokenizer, data and a reward in a package, all written."""
    make_tokenizer(root / "tok")
    (root / "base").mkdir()
    (root / "base/model.safetensors").write_bytes(b"w" * 1000)
    (root / "base/config.json").write_text("{}")
    (root / "data.jsonl").write_text('{"a": 1}\n')
    (root / "rewards").mkdir()
    (root / "rewards/__init__.py").write_text("from rewards.lengths import score\n")
    (root / "rewards/lengths.py").write_text("def score(**kwargs): return []\n")
    return {
        "model": {"id": "base", "tokenizer": "tok", "config": None, "revision": None},
        "dataset": {"source": "data.jsonl", "eval_source": None, "reward": "rewards:score", "mapping": {}},
        "resources": {"gpu": "none"},
        "arguments": {},
    }


def rewrite(path: Path, text: bytes) -> None:
    """Write other bytes of the same length, and set the times back as they were."""
    facts = path.stat()
    path.write_bytes(text)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def replace_template(root: Path) -> None:
    place = root / "tok/chat_template.jinja"
    place.write_text("X")


CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "chat template": ("model", replace_template),
    "tokenizer.json": ("model", lambda root: (root / "tok/tokenizer.json").write_text("{}")),
    "weights behind model.id": ("model", lambda root: rewrite(root / "base/model.safetensors", b"v" * 1000)),
    "config of the model": ("model", lambda root: (root / "base/config.json").write_text('{"a": 1}')),
    "a module that the reward imports": (
        "script", lambda root: (root / "rewards/lengths.py").write_text("def score(**kwargs): return [1]\n")
    ),
    "a reward in a package's __init__": ("script", lambda root: (root / "rewards/__init__.py").write_text("score = len\n")),
    "an edit with size and mtime restored": ("dataset", lambda root: rewrite(root / "data.jsonl", b'{"a": 2}\n')),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("age_s", [0, 10])
def test_a_change_is_seen_and_named(tmp_path: Path, name: str, age_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    job, what = make_request(tmp_path), CHANGES[name]
    if age_s:  # as files that have been there for long, whose digests are kept
        now = time.time_ns()
        monkeypatch.setattr(content.time, "time_ns", lambda: now + int(age_s * 1e9))
    modules = ["rewards/__init__.py", "rewards/lengths.py"]
    before = content.hashes(job, tmp_path, "p", modules)
    assert content.hashes(job, tmp_path, "p", modules) == before
    what[1](tmp_path)
    after = content.hashes(job, tmp_path, "p", modules)
    changed = [each for each in type(before).model_fields if getattr(before, each) != getattr(after, each)]
    assert changed == [what[0]]


def test_a_model_that_is_not_there_has_no_digest_and_a_hub_id_that_of_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    job = make_request(tmp_path)
    job["model"] = {"id": "./gone"}
    assert content.model(job, tmp_path) is None
    job["model"] = {"id": "me/it"}
    refs = tmp_path / "hub/models--me--it/refs"
    refs.mkdir(parents=True)
    found = [content.model(job, tmp_path)]
    for commit in ("a" * 40, "b" * 40):
        (refs / "main").write_text(commit)
        found.append(content.model(job, tmp_path))
    assert len(set(found)) == 3


def test_imports_of_the_repository_are_told_from_installed_ones(tmp_path: Path) -> None:
    make_request(tmp_path)
    site = tmp_path / ".venv/lib/site-packages"
    site.mkdir(parents=True)
    (site / "installed.py").write_text("")
    code = "import sys, json; from pathlib import Path; from training import content; import rewards, installed\n"
    code += "print(json.dumps(content.imported(Path.cwd())))"
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(content.__file__).parents[1]), str(tmp_path), str(site)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == ["rewards/__init__.py", "rewards/lengths.py"]


def test_a_template_that_was_replaced_after_the_trials_closes_their_gates(bench: Bench) -> None:
    first = bench.run(until="gpu-preflight")
    place = bench.root / "data/tokenizer/chat_template.jinja"
    kept = place.read_bytes() if place.exists() else None
    place.write_text("X")
    try:
        after = bench.start(until="cpu-smoke").wait()
        assert {after.stages()[each] for each in ("intake", "data-audit")} == {after.run_id}
    finally:
        place.unlink()
        if kept is not None:
            place.write_bytes(kept)
    again = bench.run(until="gpu-preflight")
    assert again.stages()["gpu-preflight"] == first.run_id
