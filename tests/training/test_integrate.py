"""An adapter is registered only when its bytes, its base, its weights and its answers are what they should be."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lanes.event_chain import verify
from manifests.adapters import Registry
from manifests.errors import HemmaError
from tests.training.support import cpu, make_job
from training.integrate import CONFIG, WEIGHTS, _register, integrate, main
from training.models import adapter_config, load_model, load_tokenizer
from training.persist import MANIFEST, digest_of, listing_of
from training.persist_backends import backend_for
from training.scoring import Encoder

LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "gate_proj"], "lora_dropout": 0.0}
ASKED, WANTED, OTHER = "the cat sees", " a red house", " the big tree"
PREFERS = {"prompt": ASKED, "is_chat": False, "kind": "any", "prefers": {"answer": WANTED, "over": OTHER}}
TEXT = {"prompt": ASKED, "is_chat": False, "max_new_tokens": 8}

Request = dict[str, Any]


def teach(job: dict[str, Any], folder: Path, target: Path, steps: int = 60) -> None:
    """Train an adapter to go on from ASKED with WANTED (a reward model: to prefer it), and save it."""
    from peft import get_peft_model

    adapter: Any = adapter_config(job)
    model, tokenizer = get_peft_model(load_model(job, folder, cpu()), adapter), load_tokenizer(job)
    model.config.pad_token_id = tokenizer.pad_token_id
    good, bad = (Encoder(tokenizer).answer({"prompt": ASKED}, each) for each in (WANTED, OTHER))
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=2e-2)
    for _ in range(steps):
        if job["method"] == "reward":
            scores = [model(input_ids=torch.tensor([each.ids])).logits for each in (good, bad)]
            loss = -torch.nn.functional.logsigmoid(scores[0] - scores[1]).mean()
        else:
            ids = torch.tensor([good.ids])
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(target)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a trained adapter, persisted as a run would; tests work on copies."""
    root = tmp_path_factory.mktemp("home") / "repo"
    job = a_job(root)
    teach(job, root / "run", root / "run" / "adapter")
    spec = {"kind": "directory", "destination": "models"}
    backend_for(spec, root=root, name="tiny/run-1").put(root / "run" / "adapter")
    return root


def a_job(root: Path, method: str = "sft") -> dict[str, Any]:
    """A LoRA job without dropout."""
    job = make_job(root, method, lora=LORA)
    job["model"]["config"]["attention_dropout"] = 0.0
    (root / "run").mkdir(exist_ok=True)
    return job


@pytest.fixture
def request_(home: Path, tmp_path: Path) -> Request:
    """What is asked for, on a copy of the repository."""
    root = tmp_path / "repo"
    shutil.copytree(home, root)
    # The adapter names its base by the place it was loaded from, as a run's does.
    return {
        "root": str(root),
        "adapter": "models/tiny/run-1",
        "name": "tiny",
        "sha256": None,
        "job": a_job(root),
        "integrate": {
            "place": "adapters",
            "checks": [PREFERS, {**TEXT, "contains": ["red"], "differs_from_base": True}],
        },
    }


def run(request: Request) -> dict[str, Any]:
    """Integrate it in a run of its own."""
    folder = Path(request["root"]) / "run-of-integrate"
    folder.mkdir(exist_ok=True)
    return integrate(request, folder)


def place(request: Request) -> Path:
    """The adapter's folder."""
    return Path(request["root"]) / request["adapter"]


def registry(request: Request) -> Registry:
    """What is registered."""
    return Registry.read(str(Path(request["root"]) / "adapters/registry.json"))


def refused(request: Request) -> HemmaError:
    """The refusal; nothing is registered, and nothing is placed."""
    with pytest.raises(HemmaError) as caught:
        run(request)
    assert not (Path(request["root"]) / "adapters").exists()
    assert caught.value.remedy
    return caught.value


# --- what is right ------------------------------------------------------------------------------------------------


@pytest.mark.req("S14-R11", "S14-R13")
def test_adapter_that_holds_is_placed_and_registered(request_: Request, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(request_)
    assert found["registered"]
    (entry,) = registry(request_).entries
    assert (entry.name, entry.sha256) == ("tiny", digest_of(listing_of(place(request_))))
    placed = Path(request_["root"]) / entry.path
    assert placed == Path(request_["root"]) / "adapters" / "tiny" / entry.sha256[:12]
    assert digest_of(listing_of(placed)) == entry.sha256
    assert [check["held"] for check in found["checks"]] == [True, True]
    assert "red" in found["checks"][1]["said"]
    assert "red" not in found["checks"][1]["base_said"]
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [each["data"]["name"] for each in told][:4] == ["digest", "base", "weights", "loads on its base"]


def test_registry_only_grows_and_the_same_adapter_is_in_it_once(request_: Request) -> None:
    run(request_)
    first = registry(request_).raw()
    assert run(request_)["entry"] == first[0]
    run({**request_, "name": "another"})
    both = registry(request_).raw()
    assert list(both)[:1] == list(first)
    assert [entry["name"] for entry in both] == ["tiny", "another"]
    assert verify(both) is None


def test_reward_model_is_asked_what_it_prefers(tmp_path: Path) -> None:
    root = tmp_path / "repo"
    job = a_job(root, "reward")
    teach(job, root / "run", root / "adapter")
    request: Request = {
        "root": str(root), "adapter": "adapter", "name": "judge", "sha256": digest_of(listing_of(root / "adapter")),
        "job": job, "integrate": {"checks": [PREFERS]},
    }  # fmt: skip
    assert run(request)["registered"]
    swapped = {**PREFERS, "prefers": {"answer": OTHER, "over": WANTED}}
    found = run({**request, "integrate": {"checks": [swapped, TEXT]}})
    assert [check["held"] for check in found["checks"]] == [False, False]
    assert "better than" in found["checks"][0]["fact"]


# --- what is not --------------------------------------------------------------------------------------------------


def test_check_that_does_not_hold_registers_nothing(request_: Request) -> None:
    request_["integrate"]["checks"].append({**TEXT, "contains": ["a word it does not know"]})
    found = run(request_)
    assert not found["registered"]
    assert [check["held"] for check in found["checks"]] == [True, True, False]
    assert not (Path(request_["root"]) / "adapters").exists()


@pytest.mark.parametrize("damage", ["flip", "truncate", "add", "remove-readme"])
def test_other_bytes_than_listed_are_refused(request_: Request, damage: str) -> None:
    file = place(request_) / WEIGHTS
    content = file.read_bytes()
    if damage == "add":
        (place(request_) / "more.bin").write_bytes(b"x")
    elif damage == "remove-readme":
        (place(request_) / "README.md").unlink()
    else:
        file.write_bytes(content[:-1] + b"\0\x01"[damage == "flip" :] if damage == "flip" else content[:-8])
    assert refused(request_).code == "digest-mismatch"


def test_adapter_without_any_digest_needs_a_person(request_: Request) -> None:
    (place(request_) / MANIFEST).unlink()
    error = refused(request_)
    digest = digest_of(listing_of(place(request_)))
    assert (error.code, error.exit_code) == ("digest-unknown", 75)
    assert digest in error.remedy
    assert refused({**request_, "sha256": "0" * 64}).code == "digest-mismatch"
    assert run({**request_, "sha256": digest})["registered"]


@pytest.mark.parametrize(
    "change", [{"num_hidden_layers": 1}, {"hidden_size": 64}, {"vocab_size": 500}, {"rms_norm_eps": 0.1}]
)
def test_other_base_is_refused(request_: Request, change: dict[str, Any]) -> None:
    request_["job"]["model"]["config"] |= change
    assert refused(request_).code == "base-mismatch"


def test_same_architecture_from_another_seed_is_another_base(request_: Request) -> None:
    request_["job"]["seed"] = 7
    assert refused(request_).code == "base-mismatch"


def test_adapter_that_names_another_model_is_refused(request_: Request) -> None:
    edit(request_, lambda config: config.update(base_model_name_or_path="somebody/another-model"))
    error = refused(request_)
    assert error.code == "base-mismatch"
    assert "somebody/another-model" in error.message


def edit(request: Request, change: Any) -> None:
    """Change the adapter's config, and let its list of hashes agree."""
    path = place(request) / CONFIG
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    relist(request)


def relist(request: Request) -> None:
    """Make the digest that is asked for the one that is there."""
    (place(request) / MANIFEST).unlink(missing_ok=True)
    request["sha256"] = digest_of(listing_of(place(request)))


@pytest.mark.parametrize(
    ("change", "words"),
    [("nan", "no numbers"), ("zero", "changes nothing"), ("garbage", "cannot be read"), ("rename", "fit this base"), ("shape", "load on this base")],
)  # fmt: skip
def test_weights_that_cannot_be_are_refused(request_: Request, change: str, words: str) -> None:
    file = place(request_) / WEIGHTS
    tensors = load_file(file)
    if change == "nan":
        next(iter(tensors.values())).view(-1)[0] = float("nan")
    elif change == "zero":
        tensors = {name: each * ("lora_B" not in name) for name, each in tensors.items()}
    elif change == "rename":
        tensors = {name.replace("layers.1", "layers.5"): each for name, each in tensors.items()}
    elif change == "shape":
        tensors = {name: torch.cat([each, each]) if "lora_B" in name else each for name, each in tensors.items()}
    save_file(tensors, file)
    if change == "garbage":
        file.write_bytes(b"\xff" * 100)
    relist(request_)
    error = refused(request_)
    assert words in error.message


def test_pickled_adapter_is_not_read(request_: Request) -> None:
    (place(request_) / WEIGHTS).rename(place(request_) / "adapter_model.bin")
    assert "pickled" in refused(request_).message


@pytest.mark.req("S14-R13")
@pytest.mark.parametrize("tampering", ["change", "remove", "torn"])
def test_registry_that_was_edited_is_refused_and_left_as_it_is(request_: Request, tampering: str) -> None:
    run(request_)
    run({**request_, "name": "another"})
    path = Path(request_["root"]) / "adapters/registry.json"
    whole = json.loads(path.read_text())
    if tampering == "change":
        whole["entries"][0]["path"] = "elsewhere"
    elif tampering == "remove":
        whole["entries"] = whole["entries"][1:]
    path.write_text(json.dumps(whole)[: -1 if tampering == "torn" else None])
    before = path.read_bytes()
    with pytest.raises(HemmaError):
        run({**request_, "name": "third"})
    assert path.read_bytes() == before


def test_several_at_once_are_all_registered(request_: Request) -> None:
    source = place(request_)
    digest = digest_of(listing_of(source))

    def register(number: int) -> None:
        adapters = Path(request_["root"]) / "adapters"
        _register({**request_, "name": f"n{number}"}, adapters, source, digest, {"id": "base"}, 1, [])

    threads = [threading.Thread(target=register, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.name for entry in registry(request_).entries) == [f"n{number}" for number in range(8)]
    assert verify(registry(request_).raw()) is None


# --- as a program -------------------------------------------------------------------------------------------------


def test_program_tells_refusals_and_results_as_lines(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(request_["root"])
    monkeypatch.setenv("HEMMA_RUN_DIR", str(tmp_path / "run-dir"))
    path = tmp_path / "request.json"

    def told(request: Request) -> tuple[int, dict[str, Any]]:
        path.write_text(json.dumps(request))
        code = main(str(path))
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"kind"')]
        return code, lines[-1]

    code, last = told(request_)
    assert (code, last["kind"]) == (0, "integrated")
    failing = {**request_, "integrate": {"checks": [{**TEXT, "kind": "json"}]}}
    code, last = told(failing)
    assert (code, last["kind"]) == (1, "not-integrated")
    code, last = told({**request_, "sha256": "0" * 64})
    assert (code, last["kind"], last["data"]["error"]) == (1, "refused", "digest-mismatch")
