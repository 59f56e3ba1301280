"""Every method through the whole executor: manifest, gates, training, evaluation, persistence, commit, conformance (S11-R20).

Two of them through `hemma train` with a real sshd; the others as the supervisor starts them, by default as far as a few
seconds take them. HEMMA_FULL=1 takes all of them through everything.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lanes.gates import STAGES
from manifests.evidence import Stage
from tests.support import Cli, EnvironFor
from tests.training.bench import REQUEST, Bench
from tests.training.conftest import IS_FULL
from tests.training.support import REWARD, rows_of
from training.events import read
from training.persist import digest_of, listing_of

pytestmark = pytest.mark.timeout(300)
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.1}
SHORT = {"max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 2}
GROUP = {"num_generations": 2, "max_completion_length": 8, "beta": 0.1}
REQUESTS: dict[str, dict[str, Any]] = {
    "sft-lora": {"method": "sft", "lora": LORA},
    "sft-best-fit": {"method": "sft", "packing": "best-fit"},
    "dpo-lora": {"method": "dpo", "lora": LORA},
    "dpo": {"method": "dpo"},
    "reward": {"method": "reward"},
    "reward-lora": {"method": "reward", "lora": LORA},
    "grpo": {"method": "grpo", "arguments": GROUP},
    "causal-lm": {"method": "causal-lm"},
}
ON_COMMAND_LINE = ("causal-lm", "dpo-lora")
# Up to which stage the others go by default.
BY_DEFAULT: dict[str, Stage] = {"sft-best-fit": "cpu-smoke", "reward": "cpu-smoke", "grpo": "cpu-smoke"}


@pytest.fixture(scope="module")
def bench(host_with_nursery: Bench) -> Bench:
    """A host whose clone holds data for every method and a reward function."""
    made = host_with_nursery
    for method in ("sft", "dpo", "reward", "grpo", "causal-lm"):
        rows = rows_of(method, 60)
        (made.root / f"data/{method}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (made.root / "rewards.py").write_text(REWARD)
    commit(made.root, "data for every method")
    return made


def commit(root: Path, message: str) -> None:
    """Commit all there is."""
    for words in (["add", "-A"], ["commit", "-q", "-m", message]):
        subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)


def git(root: Path, *words: str) -> str:
    """Run git, which must succeed."""
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout


def asked(name: str) -> dict[str, Any]:
    """The changes that make the bench's request one of this method."""
    said = REQUESTS[name]
    method = said["method"]
    dataset = {"source": f"data/{method}.jsonl", "eval_fraction": 0.1}
    return {
        "name": name,
        "packing": "none",
        "dataset": dataset | ({"reward": "rewards:length"} if method == "grpo" else {}),
        **said,
        "arguments": SHORT | said.get("arguments", {}),
    }


def the_one(folder: Path, kind: str) -> dict[str, Any]:
    """The data of the only event of a kind in a run's log."""
    (found,) = [each["data"] for each in read(folder / "events.jsonl") if each["kind"] == kind]
    return found


def stages_of(folder: Path) -> list[tuple[str, str]]:
    """(stage, outcome) of every piece of evidence, in order."""
    stages = [each["data"] for each in read(folder / "events.jsonl") if each["kind"] == "stage"]
    return [(each["stage"], each["outcome"]) for each in stages]


def digest(place: Path) -> str:
    """The digest of a persisted folder, read here, without its own list of hashes."""
    return digest_of(listing_of(place))


def look_at_the_end(folder: Path, name: str, root: Path) -> None:
    """What every whole run must have left: proven stages, a commit, a result that was read back, and what lies beside it."""
    assert stages_of(folder) == [(stage, "passed") for stage in STAGES]
    persisted = the_one(folder, "persisted")
    place = Path(persisted["destination"])
    assert digest(place) == persisted["sha256"] == persisted["reread_sha256"]
    assert (place / ("adapter_model.safetensors" if name.endswith("-lora") else "model.safetensors")).is_file()
    names = git(root, "show", "--name-only", "--format=", the_one(folder, "committed")["commit"]).split()
    assert any(each.endswith("evidence/gpu-preflight.json") for each in names)
    result = json.loads((folder / "evidence/job.json").read_text())["facts"]
    assert (result["status"], result["step"]) == ("completed", SHORT["max_steps"])
    look_beside(folder, name, place)


def look_beside(folder: Path, name: str, place: Path) -> None:
    """S14-R05: logs, metrics, alerts, evidence and scripts lie beside the model, as they were read back there."""
    beside = the_one(folder, "side-artefacts")
    there = Path(beside["destination"])
    assert there == place.with_name(f"{place.name}-run")
    assert digest(there) == beside["sha256"] == beside["reread_sha256"]
    for each in ("logs/job.log", "alerts.jsonl", "events.jsonl", "evidence/cpu-smoke.json", "job.json"):
        assert (there / each).stat().st_size > 0, each
    assert (there / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
    sent = there / "scripts/payload.zip"
    assert "hemma_payload/training/executor.py" in zipfile.ZipFile(sent).namelist()
    if name == "grpo":
        assert (there / "scripts/rewards.py").read_text() == REWARD
    else:
        assert the_one(folder, "submit")["payload_sha256"] == hashlib.sha256(sent.read_bytes()).hexdigest()
    assert not (folder / "work/beside").exists()


@pytest.mark.req("S11-R20", "S14-R05")
@pytest.mark.parametrize("name", [each for each in REQUESTS if IS_FULL or each in BY_DEFAULT])
def test_a_method_goes_through_the_executor(bench: Bench, name: str) -> None:
    until = STAGES[-1] if IS_FULL else BY_DEFAULT[name]
    run = bench.run(**asked(name), until=until)
    if until == STAGES[-1]:
        look_at_the_end(run.folder, name, bench.root)
    wanted = STAGES[: STAGES.index(until) + 1]
    assert stages_of(run.folder) == [(stage, "passed") for stage in wanted]


@pytest.mark.real
@pytest.mark.req("S11-R20", "S14-R05", "S21-R05")
@pytest.mark.parametrize("name", ON_COMMAND_LINE)
def test_a_method_goes_through_hemma_train(
    bench: Bench,
    hemma_with: Callable[[dict[str, str]], Cli],
    settings_env: EnvironFor,
    tmp_path: Path,
    name: str,
) -> None:
    manifest = f"manifests/runs/{name}.yaml"
    said = {
        **REQUEST,
        "python": str(bench.python),
        "persist": {"destination": str(bench.folder / "via-ssh")},
        **asked(name),
    }
    said["arguments"] = REQUEST["arguments"] | said["arguments"]
    (bench.root / manifest).parent.mkdir(parents=True, exist_ok=True)
    (bench.root / manifest).write_text(yaml.safe_dump(said))
    commit(bench.root, f"a request: {name}")
    # As it is typed: in a clone on another machine.
    git(tmp_path, "init", "-q")
    state = tmp_path / "state"
    cli = hemma_with(settings_env(root=bench.root, state=state, OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1"))
    done = cli("train", manifest, "--json", timeout_s=240)
    assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-3000:])
    (log,) = state.rglob("training/events.jsonl")
    look_at_the_end(log.parent, name, bench.root)
    if name == "causal-lm":
        assert list((bench.root / "dataset_cache/bin").rglob("tokens.bin"))
        assert "dataset_cache" not in git(bench.root, "ls-files")
