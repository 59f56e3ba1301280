"""An adapter comes home: its digest, its base, its weights and its answers are checked, then it is registered (S14-R11, S14-R13).

Runs on the host in the training environment. What it finds it prints as JSON lines, one for each check, the verdict last.
Only safetensors are read: a pickled adapter is a program, and is refused.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lanes.answers import faults
from lanes.event_chain import chained, verify
from manifests.adapters import CHAIN_BROKEN, AdapterCheck, Integrate, Registry, RegistryEntry
from manifests.commands import command
from manifests.errors import HemmaError, NeedsPerson
from manifests.files import parse_json, read_json
from training.answer import tell
from training.errors import TrainingError
from training.persist import MANIFEST, Directory, Held, digest_of, listed_in, listing_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
REGISTRY = "registry.json"
# Of a config: what says by whom, from where and how it was written, not what the model is.
_NOT_MODEL = frozenset({"transformers_version", "_name_or_path", "dtype", "torch_dtype", "use_cache"})
EXIT_NOT_HELD = 1
Request = Mapping[str, Any]


class AdapterRefused(TrainingError):
    """The adapter is not what it should be: no digest, other bytes, another base, weights that are no numbers."""

    code = "adapter-refused"


def main(path: str) -> int:
    """Integrate what the request file asks for; 0 registered, 1 a check did not hold, else the error's own code."""
    try:
        request = read_json(path)
        found = integrate({**request, "root": os.getcwd()}, Path(os.environ["HEMMA_RUN_DIR"]) / "integrate")
    except HemmaError as error:
        tell("refused", **error.as_dict())
        return error.exit_code
    tell("integrated" if found["registered"] else "not-integrated", **found)
    return 0 if found["registered"] else EXIT_NOT_HELD


def integrate(request: Request, folder: Path) -> dict[str, Any]:
    """Check the adapter and register it; returns checks, entry and what the base says. Nothing is registered that fails.

    `request`: adapter (a folder), job (the training request: model, method, seed, sequence_length), name, sha256 or None,
    integrate (place and checks). Raises AdapterRefused, NeedsPerson.
    """
    root = Path(str(request["root"]))
    source = _folder(root, str(request["adapter"]))
    digest = _digest(source, request.get("sha256"))
    tell("check", name="digest", held=True, fact=digest)
    job = {**request["job"], "root": str(root)}
    config = read_json(str(source / CONFIG))
    base = _base(config, job, root, folder)
    tell("check", name="base", held=True, fact=base["fact"])
    parameters = _weights(source / WEIGHTS)
    tell("check", name="weights", held=True, fact=f"{parameters} parameters, all finite, not all zero")
    wanted = Integrate.model_validate(request.get("integrate") or {})
    answers = _answers(wanted.checks, job, source, folder)
    held = all(each["held"] for each in answers)
    entry = _register(request, root / wanted.place, source, digest, base, parameters, answers) if held else None
    return {
        "registered": entry is not None,
        "sha256": digest,
        "base": base,
        "parameters": parameters,
        "checks": answers,
        "entry": entry.as_dict() if entry else None,
        "registry": str(Path(wanted.place) / REGISTRY),
    }


# --- what it is ---------------------------------------------------------------------------------------------------


def _folder(root: Path, name: str) -> Path:
    place = root / os.path.expanduser(name)
    for wanted in (CONFIG, WEIGHTS):
        if not (place / wanted).is_file():
            other = "; a pickled one is not read" if (place / "adapter_model.bin").exists() else ""
            raise AdapterRefused(f"{place} holds no {wanted}{other}", remedy=command("hemma run -- ls -la {}", name))
    return place


def _digest(source: Path, wanted: object) -> str:
    """The digest of the folder, proven by its own list of hashes or by the one that the caller names."""
    there = listing_of(source)
    digest = digest_of(there)
    listed = source / MANIFEST
    if listed.is_file():
        said = listed_in(listed.read_bytes(), str(listed))
        changed = sorted(name for name in {*said, *there} if said.get(name) != there.get(name))
        if changed:
            raise AdapterRefused(
                f"{', '.join(changed[:5])}: not as {MANIFEST} says", remedy="fetch it again", code="digest-mismatch"
            )
    if wanted is not None and wanted != digest:
        raise AdapterRefused(f"its sha256 is {digest}, not {wanted}", remedy="fetch it again", code="digest-mismatch")
    if wanted is None and not listed.is_file():
        raise NeedsPerson(
            f"nothing says which bytes it should have; it has sha256 {digest}",
            remedy=command("hemma integrate ADAPTER --sha256 {}   (when that is the one you trained)", digest),
            code="digest-unknown",
        )
    return digest


def _base(config: Mapping[str, Any], job: Mapping[str, Any], root: Path, folder: Path) -> dict[str, Any]:
    """The base that the adapter names must be the manifest's own: the same id and revision, or the same bytes."""
    named, spec = str(config.get("base_model_name_or_path") or ""), job["model"]
    wanted = spec.get("id")
    revision, asked = config.get("revision"), spec.get("revision")
    if wanted and (named == wanted or (root / named).resolve() == (root / wanted).resolve()):
        if revision and asked and revision != asked:
            raise _other_base(f"{named} at {revision}", f"{wanted} at {asked}")
        return {"id": wanted, "revision": asked or revision, "fact": f"{wanted}, as the adapter names it"}
    from training.models import materialize

    ours, theirs = Path(materialize(job, folder)), root / os.path.expanduser(named)
    if not ours.is_dir() or not theirs.is_dir():
        raise _other_base(named or "none", str(wanted or "the model of this config"))
    same, other = _model_digest(ours), _model_digest(theirs)
    if same != other:
        raise _other_base(f"{named} ({other[:12]})", f"{wanted or 'the model of this config'} ({same[:12]})")
    return {
        "id": wanted,
        "sha256": same,
        "fact": f"{wanted or 'made from config and seed'}, the same bytes {same[:12]}",
    }


def _other_base(named: str, wanted: str) -> AdapterRefused:
    return AdapterRefused(
        f"it was trained on {named}, the manifest says {wanted}",
        remedy="name the manifest that it was trained by: --manifest manifests/runs/NAME.yaml",
        code="base-mismatch",
    )


def _model_digest(place: Path) -> str:
    """The digest of weights and of what the config says of the model: a card or a tokenizer beside them changes no model."""
    files = {name: held for name, held in listing_of(place).items() if name.endswith((".safetensors", ".index.json"))}
    if not files:
        raise AdapterRefused(f"{place} holds no safetensors", remedy=command("ls -la {}", place), code="base-mismatch")
    said = {key: value for key, value in read_json(str(place / "config.json")).items() if key not in _NOT_MODEL}
    config = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return digest_of({**files, "config": Held(config, 0)})


def _weights(path: Path) -> int:
    """How many parameters there are; every one a finite number, and not every second matrix zero: that adapts nothing."""
    import torch
    from safetensors.torch import load_file

    try:
        tensors = load_file(str(path))
    except Exception as error:  # the reader's errors have no class in common
        raise AdapterRefused(f"{path.name} cannot be read: {error}", remedy="fetch it again") from error
    broken = [name for name, each in tensors.items() if not bool(torch.isfinite(each.float()).all())]
    if broken:
        raise AdapterRefused(f"{broken[0]} holds values that are no numbers", remedy="train again; see its alerts")
    second = [each for name, each in tensors.items() if "lora_B" in name]
    if second and not any(bool(each.any()) for each in second):
        raise AdapterRefused("every lora_B is zero: it changes nothing", remedy="train again; was a step made at all?")
    return sum(each.numel() for each in tensors.values())


# --- what it says -------------------------------------------------------------------------------------------------


def _answers(
    checks: tuple[AdapterCheck, ...], job: Mapping[str, Any], source: Path, folder: Path
) -> list[dict[str, Any]]:
    """Each check with the adapter's answer and the base's; loading it is the first check, and the only one that must be."""
    from training.models import load_model, load_tokenizer
    from training.scoring import Encoder, Scorer, device_of
    from training.work import precision_here

    tokenizer = load_tokenizer(job)
    model = _loaded(load_model(job, folder, precision_here(job)), source)
    tell("check", name="loads on its base", held=True, fact=type(model.get_base_model()).__name__)
    asking = _Asking(model, Scorer(model, tokenizer, int(job["sequence_length"]), device_of(job)), Encoder(tokenizer))
    has_template = bool(getattr(tokenizer, "chat_template", None))
    found: list[dict[str, Any]] = []
    for check in checks:
        is_chat = has_template if check.is_chat is None else check.is_chat
        row = {"prompt": [{"role": "user", "content": check.prompt}] if is_chat else check.prompt}
        told = asking.reward(check, row) if job["method"] == "reward" else asking.text(check, row)
        fact = told["fact"] or str(told.get("said") or "")[:200]
        tell("check", name=f"answer to {check.prompt[:60]!r}", held=told["held"], fact=fact)
        found.append({"prompt": check.prompt, **told})
    return found


class _Asking:
    """A loaded adapter being asked."""

    def __init__(self, model: Any, scorer: Any, encoder: Any) -> None:
        self._model, self._scorer, self._encoder = model, scorer, encoder

    def text(self, check: AdapterCheck, row: dict[str, Any]) -> dict[str, Any]:
        """The adapter's answer beside the base's, judged."""
        said = self._say(check, row)
        with self._model.disable_adapter():
            before = self._say(check, row)
        wrong = faults(
            said,
            kind=check.kind if check.prefers is None else "any",
            contains=check.contains,
            lacks=check.lacks,
            matches=check.matches,
            differs_from=before if check.differs_from_base else None,
        )
        if check.prefers is not None:
            pair = (check.prefers.answer, check.prefers.over)
            wrong += _preference(check, self._scorer.likelihoods([self._encoder.answer(row, each) for each in pair]))
        return {"said": said, "base_said": before, "held": not wrong, "fact": "; ".join(wrong)}

    def reward(self, check: AdapterCheck, row: dict[str, Any]) -> dict[str, Any]:
        """A reward model says nothing: it must prefer the one answer."""
        if check.prefers is None:
            return {"held": False, "fact": "a reward model is asked what it prefers: add prefers to this check"}
        pair = (check.prefers.answer, check.prefers.over)
        wrong = _preference(check, self._scorer.rewards([self._encoder.answer(row, each) for each in pair]))
        return {"held": not wrong, "fact": "; ".join(wrong)}

    def _say(self, check: AdapterCheck, row: dict[str, Any]) -> str:
        return str(self._scorer.generate([self._encoder.prompt(row)], check.max_new_tokens, lambda _: None)[0])


def _preference(check: AdapterCheck, scores: Sequence[float]) -> list[str]:
    good, bad = scores
    if check.prefers is None or good > bad:
        return []
    return [f"it finds {check.prefers.over!r} better than {check.prefers.answer!r} ({bad:.3f} to {good:.3f})"]


def _loaded(base: Any, source: Path) -> Any:
    """The adapter on its base; a weight without a place, or a place without its weight, is another architecture."""
    from peft import PeftConfig, PeftModel

    try:
        model = PeftModel(base, PeftConfig.from_pretrained(str(source)), "default")
        result = model.load_adapter(str(source), "default")
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise AdapterRefused(
            f"it does not load on this base: {said}", remedy="see base-mismatch", code="base-mismatch"
        ) from error
    odd = [*result.unexpected_keys, *(name for name in result.missing_keys if "lora_" in name)]
    if odd:
        raise AdapterRefused(f"it does not fit this base: {odd[0]}", remedy="name its own base", code="base-mismatch")
    return model.eval()


# --- where it goes ------------------------------------------------------------------------------------------------


def _register(
    request: Request,
    place: Path,
    source: Path,
    digest: str,
    base: dict[str, Any],
    parameters: int,
    checks: list[dict[str, Any]],
) -> RegistryEntry:
    """Put a copy at the declared place and append the entry; the same adapter under the same name is registered once."""
    name = str(request["name"])
    with _locked(place) as path:
        registry = _read(path)
        known = registry.having(digest, name)
        receipt = Directory(place, f"{name}/{digest[:12]}").put(source)
        if known is not None:
            return known
        entry = chained(
            registry.raw()[-1] if registry.entries else None,
            {
                "name": name,
                "sha256": digest,
                "path": os.path.relpath(receipt["destination"], str(request["root"])),
                "base": base,
                "size_bytes": receipt["size_bytes"],
                "parameters": parameters,
                "checks": [{key: each[key] for key in ("prompt", "said", "held") if key in each} for each in checks],
                "run_id": os.environ.get("HEMMA_RUN_ID"),
                "added_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            },
        )
        Registry.parse({"entries": [*registry.raw(), entry]}, str(path)).write(str(path))
        return RegistryEntry.model_validate(entry)


def _read(path: Path) -> Registry:
    """The registry as it is, proven by its chain; a missing one is empty. Raises AdapterRefused when it was edited."""
    if not path.exists():
        return Registry()
    registry = Registry.parse(parse_json(path.read_bytes(), str(path)), str(path))
    if verify(registry.raw()) is not None:
        raise AdapterRefused(
            f"{path}: {CHAIN_BROKEN}",
            remedy=command("git log -p -- {}   (bring the former one back)", path.name),
            code="registry-broken",
        )
    return registry


@contextlib.contextmanager
def _locked(place: Path) -> Generator[Path]:
    """One writer at a time, whoever it is."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield place / REGISTRY
