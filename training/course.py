"""A training run under way: its folder, its events, and the evidence that its stages left (S20, S21-R05)."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lanes.evidence_chain import digest_of
from lanes.gates import standing
from manifests.errors import HemmaError
from manifests.evidence import Check, Evidence, Hashes, Outcome, Stage
from manifests.files import read_json, write_json
from training.content import hashes
from training.events import EventLog
from training.proof import evidence_of, is_supervised, own_fault

# The job as it was asked: job.json changes with what is corrected.
REQUEST = "request.json"
FOLDERS = ("evidence", "logs", "checkpoints", "artifacts")
# Dear to make and bound to content: taken over from an earlier run when nothing that they saw has changed.
REUSABLE: tuple[Stage, ...] = ("data-audit", "cpu-smoke", "gpu-preflight")


@dataclass(frozen=True)
class Found:
    """What a stage found: the makings of its evidence."""

    outcome: Outcome
    checks: tuple[Check, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    not_covered: tuple[str, ...] = ()


class Stop(Exception):
    """The run ends here. `reason` is a stable word (S8-R22), `remedy` what a person can do."""

    def __init__(self, reason: str, message: str, remedy: str, *, needs_person: bool = False) -> None:
        super().__init__(message)
        self.reason, self.message, self.remedy, self.needs_person = reason, message, remedy, needs_person


class Course:
    """The run directory of one training run, written by this process alone."""

    def __init__(self, job: dict[str, Any], root: Path, folder: Path, payload_digest: str) -> None:
        self.job, self.root, self.folder, self.payload_digest = job, root, folder, payload_digest
        self.run_id = str(job["run_id"])
        self.is_stopping = False
        self.is_frozen = False
        self.was_corrected = False
        self.resumed: Path | None = None
        self.survey: dict[str, Any] | None = None
        self.first_metric: dict[str, Any] | None = None
        self.alerts: list[dict[str, Any]] = []
        self.reserved: Counter[str] = Counter()
        self.modules: frozenset[str] = frozenset()
        self.prove_again: Callable[[], None] = lambda: None
        for name in FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json(str(folder / "job.json"), job)
        write_json(str(folder / REQUEST), job)
        self.events = EventLog(folder / "events.jsonl")
        self.evidence: list[Evidence] = []

    @property
    def state_folder(self) -> Path:
        """Hemma's folder on this host, above all runs: <state>/runs/<run>/training is ours."""
        return self.folder.parent.parent.parent

    @property
    def accepts(self) -> tuple[str, ...]:
        """The words of what the manifest accepts."""
        return tuple(self.job.get("accept") or {})

    @property
    def job_uses_gpu(self) -> bool:
        """Whether there is a GPU here that the job will use."""
        return bool((self.survey or {}).get("gpus")) and self.job["resources"]["gpu"] != "none"

    def hashes(self) -> Hashes:
        """The contents as they are now."""
        return hashes(self.job, self.root, self.payload_digest, self.modules)

    def change(self, job: dict[str, Any]) -> None:
        """Go on with other settings, which the scope guard has passed; the job as it was stays in the events."""
        self.job = job
        write_json(str(self.folder / "job.json"), job)

    def event(self, kind: str, /, **data: Any) -> dict[str, Any]:
        """Append an event and say it on stdout, one JSON object in a line: whoever follows the run reads them there."""
        record = self.events.add({"kind": kind, "data": data})
        _say(record)
        return record

    def progress(self, **data: Any) -> None:
        """Say how far the stage is, on stdout only: what passes needs no place in the log."""
        _say({"kind": "progress", "data": data})

    def record(self, stage: Stage, found: Found) -> Evidence:
        """Keep what a stage found as evidence."""
        self._learn_modules(found.facts)
        evidence = self.made(stage, found)
        self._keep(evidence)
        return evidence

    def made(self, stage: Stage, found: Found) -> Evidence:
        """What a stage found as evidence, bound to the contents as they are now; not kept yet."""
        return Evidence(
            stage=stage,
            outcome=found.outcome,
            sequence=len(self.evidence),
            hashes=self.hashes(),
            checks=found.checks,
            facts=found.facts,
            not_covered=found.not_covered,
            created_at=dt.datetime.now(dt.UTC),
            run_id=self.run_id,
            previous=self._last_digest(),
        )

    def keep(self, evidence: Evidence) -> None:
        """Keep evidence that an earlier run made, as the newest of this one, by reference to that run's own record."""
        place = {"sequence": len(self.evidence), "previous": self._last_digest()}
        self._keep(evidence.model_copy(update={"origin": evidence.origin or digest_of(evidence), **place}))

    def demand_untouched(self) -> None:
        """Raises Stop when the log or the evidence on disk is not what this run wrote."""
        fault = own_fault(self.folder, self.evidence)
        if fault:
            raise Stop(
                "evidence_altered",
                f"{fault}; a gate believes only what its executor recorded",
                "hemma train MANIFEST   (from the beginning: what other runs proved still counts)",
                needs_person=True,
            )

    def _learn_modules(self, facts: Mapping[str, Any]) -> None:
        """The user's source files that a trial imported count as script from now on; what was proven without them is not."""
        more = _modules_in(facts) - self.modules
        if more and self.evidence:
            self.modules |= more
            self.was_corrected = True

    def _last_digest(self) -> str:
        return digest_of(self.evidence[-1]) if self.evidence else ""

    def _keep(self, evidence: Evidence) -> None:
        self.evidence.append(evidence)
        evidence.write(str(self.folder / "evidence" / f"{evidence.stage}.json"))
        self.write_index()
        self.event(
            "stage",
            stage=evidence.stage,
            outcome=evidence.outcome,
            hashes=evidence.hashes.as_dict(),
            sequence=evidence.sequence,
            previous=evidence.previous,
            evidence_sha256=digest_of(evidence),
            from_run=evidence.run_id,
        )

    def write_index(self, **more: Any) -> None:
        """evidence/index.json: all evidence in one file, so that `hemma gates` asks the host once."""
        write_json(
            str(self.folder / "evidence" / "index.json"),
            {
                "evidence": [each.as_dict() for each in self.evidence],
                "hashes": self.hashes().as_dict(),
                "accept": dict(self.job.get("accept") or {}),
                **more,
            },
        )

    def map_columns(self, mapping: dict[str, str] | None) -> None:
        """Go on with the mapping of columns that the data audit found; the request's own hash stays as it was."""
        asked = self.job["dataset"]["mapping"]
        if mapping and mapping != asked:
            dataset = {**self.job["dataset"], "mapping": mapping}
            self.change({**self.job, "dataset": dataset, "is_mapping_found": not asked})

    def is_proven(self, stage: Stage) -> bool:
        """Whether this stage's evidence holds for the contents as they are now."""
        return standing(stage, self.evidence, self.hashes(), accepts=self.accepts).is_proven

    def take_over(self, stage: Stage, earlier: Sequence[Path]) -> bool:
        """Take a stage's evidence that still holds from an earlier run, the newest first; returns whether there was one."""
        for folder in earlier:
            found, _ = evidence_of(folder, stage, supervised=is_supervised(self.folder))
            if found is None:
                continue
            now = hashes(self.job, self.root, self.payload_digest, self.modules | _modules_in(found.facts))
            if standing(stage, [found], now, accepts=self.accepts).is_proven:
                self._learn_modules(found.facts)
                self.keep(found)
                if stage == "data-audit":
                    self.map_columns(found.facts.get("mapping"))
                # What people read of it lies beside it, under the stage's name with an underscore.
                for path in (folder / "evidence").glob(f"{stage.replace('-', '_')}.*"):
                    shutil.copyfile(path, self.folder / "evidence" / path.name)
                return True
        return False


def _say(record: dict[str, Any]) -> None:
    try:
        print(json.dumps(record), flush=True)
    except OSError:  # nobody reads: the log has it
        sys.stdout = open("/dev/null", "w", encoding="ascii")  # noqa: SIM115 - stays for the process's life


def _modules_in(facts: Mapping[str, Any]) -> frozenset[str]:
    """The imported files that facts of a trial name, as paths inside the repository; anything else is left out."""
    said = facts.get("modules")
    names = [each for each in said if isinstance(each, str)] if isinstance(said, list) else []
    return frozenset(each for each in names if not each.startswith("/") and ".." not in each.split("/"))


def earlier_runs(job: Mapping[str, Any], folder: Path) -> list[Path]:
    """Folders of earlier runs of the same request (name and root), newest first; the one to resume before all."""
    found: list[Path] = []
    for run in sorted(folder.parent.parent.iterdir(), reverse=True):
        each = run / folder.name
        if each == folder or not (each / "job.json").is_file():
            continue
        try:
            other = read_json(str(each / "job.json"))
        except HemmaError:  # a broken neighbour is no neighbour
            continue
        if (other.get("name"), other.get("root")) == (job["name"], job["root"]):
            found.append(each)
    resumed = job.get("resume")
    return sorted(found, key=lambda each: each.parent.name != resumed)


def check(name: str, held: bool, fact: str) -> Check:
    """One thing a stage looked at."""
    return Check(name=name, held=held, fact=fact)
