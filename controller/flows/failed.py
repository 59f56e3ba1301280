"""A run that failed, as read from the host: its end, what it wrote, and for a training what its executor found (S13-R04)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from controller.flows import runs as runs_flow
from controller.flows.train import FOLDER, INDEX, JOB, files_of
from lanes.analyses import standing
from lanes.failures import Diagnosis, FailureFacts, classify
from lanes.redaction import redact

EVENTS = f"{FOLDER}/events.jsonl"
MOST_LOG = 1 << 20

Facts = dict[str, Any]


@dataclass(frozen=True)
class Training:
    """What a training's own files say of its end. `stopped` and `analysis` are None where there is none."""

    name: str
    stopped: Facts | None
    analysis: Facts | None

    @property
    def text(self) -> str:
        """The words of its failure: why it stopped, and the line of the log that says so."""
        said = [str((self.stopped or {}).get("message") or ""), str((self.analysis or {}).get("evidence") or "")]
        return "\n".join(each for each in said if each)

    @property
    def code(self) -> str:
        """The code of its failure, empty where none was recognised."""
        return str((self.analysis or {}).get("code") or "")


@dataclass(frozen=True)
class Failed:
    """One run: how it stands (`flows.runs.view`), the end of what it wrote, and its training files where it has some."""

    view: Facts
    text: str
    training: Training | None = None

    @property
    def facts(self) -> FailureFacts:
        """The facts of its end, for the classifier."""
        code = self.view.get("exit_code")
        ended = str(self.view.get("reason") or "")
        return FailureFacts(exit_code=code if isinstance(code, int) else None, ended=ended)

    @property
    def is_bad(self) -> bool:
        """Whether it ended otherwise than well; one that still runs did not."""
        is_over = self.view["state"] in ("finished", "lost")
        return is_over and self.view.get("exit_code") != 0

    def diagnosis(self) -> Facts:
        """Category, code, evidence and smallest mend: those of the executor for a training, else the classifier's."""
        analysis = self.training.analysis if self.training else None
        if analysis is not None:
            keys = ("category", "code", "attempt", "change")
            lines = [{"line": redact(str(analysis.get("evidence") or "")).text[:500], "number": 0}]
            return {**{key: analysis.get(key) for key in keys}, "evidence": lines, **_mend(analysis)}
        return _plain(classify(self.text, self.facts))


def _mend(analysis: Mapping[str, Any]) -> Facts:
    from lanes.failure_codes import CODES

    known = CODES.get(str(analysis.get("code")))
    return {"smallest_mend": known.mend.replace("{name}", "it") if known else ""}


def _plain(found: Diagnosis) -> Facts:
    """A diagnosis as data, secrets in its evidence masked."""
    lines = [{**asdict(each), "line": redact(each.line).text[:500]} for each in found.evidence]
    kept = {key: getattr(found, key) for key in ("category", "code", "smallest_mend", "routes_to")}
    return {**kept, "evidence": lines}


def of_run(settings: dict[str, Any], run: str) -> Failed:
    """The run by its id, an end of it, or `last`. Raises no-such-run, ambiguous-run, and what the link gives."""
    view = runs_flow.show(settings["host"], run)
    training = training_of(settings, str(view["run_id"]))
    text = training.text if training and training.text else _written(settings, str(view["run_id"]))
    return Failed(view, text, training)


def training_of(settings: dict[str, Any], run: str) -> Training | None:
    """What the files of a training run say, from one round trip; None where the run is none."""
    found = files_of(settings, run, JOB, INDEX, EVENTS)
    if found[JOB] is None:
        return None
    job, index = _object(found[JOB]), _object(found[INDEX])
    return Training(str(job.get("name") or ""), _mapping(index.get("stopped")), last_analysis(_events(found[EVENTS])))


def last_analysis(events: Iterable[Mapping[str, Any]]) -> Facts | None:
    """The newest failure that the executor analysed and did not outlive, None where there is none."""
    found: Mapping[str, Any] | None = None
    for event in events:
        found = standing(found, str(event.get("kind")), _mapping(event.get("data")) or {})
    return dict(found) if found else None


def _written(settings: dict[str, Any], run: str) -> str:
    """The end of both streams of a run."""
    parts: list[bytes] = []

    def keep(chunk: memoryview) -> None:
        parts.append(bytes(chunk))

    reading = runs_flow.session(settings, run, (keep, keep), follow=False, hold=False, tail_bytes=MOST_LOG // 2)
    reading.follow()
    return b"".join(parts).decode("utf-8", "replace")


def _object(raw: bytes | None) -> Facts:
    try:
        value: object = json.loads(raw or b"{}")
    except (ValueError, RecursionError):  # torn in the middle of a write: as if it were not there
        return {}
    return _mapping(value) or {}


def _events(raw: bytes | None) -> list[Facts]:
    return [_object(line) for line in (raw or b"").split(b"\n") if line.strip()]


def _mapping(value: object) -> Facts | None:
    return cast("Facts", value) if isinstance(value, dict) and value else None
