"""Did the run keep its rules? Read from the chained event log alone, without trusting any earlier claim (S21).

What the log of a training run holds, by kind, with the facts that are read here:

    research        sources (how many are cited)                 baseline        hashes
    edit            content, scope (verdict: true | false)       stage           stage, outcome, hashes, sequence
    reserve         attempt                                      settle          attempt
    submit          job, attempt, hashes, payload_sha256, kind ("full" | "preflight" | ...)
    first-metric    job, step, value                             job-ended       job, outcome ("completed" | ...)
    alert           level, code, sequence                        analysis        attempt, category, change, alert (or alerts)
    evaluated       metric, value, artifact_sha256               persisted       destination, sha256, reread_sha256
    committed       commit                                       links           model, dashboard, ...
    secret-found    where

`conforms` is true when the chain holds and every criterion does; what is missing is listed, never left out (S21-R04).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lanes.event_chain import verify
from lanes.gates import CONTENTS, DEPENDS_ON, STAGES

Event = Mapping[str, Any]
BEFORE_THE_JOB = STAGES[: STAGES.index("job")]
SHA256 = re.compile(r"[0-9a-f]{64}")
MOST_ATTEMPTS = 8
NEEDED_LINKS = ("model", "dashboard")


@dataclass(frozen=True)
class Conformance:
    """The outcome: each criterion by name, what is missing in words, and the artefacts that the log names."""

    conforms: bool
    criteria: dict[str, bool]
    missing: tuple[str, ...]
    artifacts: tuple[str, ...]


class _Log:
    """The events, asked by kind; `after` and `before` are by place in the log, which the chain proves."""

    def __init__(self, events: Sequence[Event], most_attempts: int, accepts_partial: bool) -> None:
        self.events, self.most_attempts, self.accepts_partial = events, most_attempts, accepts_partial

    def all(self, *kinds: str) -> list[tuple[int, Mapping[str, Any]]]:
        """(place, data) of every event of these kinds."""
        return [(at, _data(event)) for at, event in enumerate(self.events) if event.get("kind") in kinds]

    def jobs(self) -> list[tuple[int, Mapping[str, Any]]]:
        """The submits of full jobs."""
        return [(at, data) for at, data in self.all("submit") if data.get("kind") == "full"]

    def done_at(self) -> int:
        """The place where the last full job completed; after every event when none did."""
        ends = [at for at, data in self.all("job-ended") if data.get("outcome") == "completed"]
        return ends[-1] if ends else len(self.events)


def conformance(
    events: Sequence[Event],
    *,
    head: str | None = None,
    most_attempts: int = MOST_ATTEMPTS,
    accepts_partial: bool = False,
) -> Conformance:
    """The final check (S21-R01..R05). `head`: a digest kept elsewhere that must be in the log, so that its end is not cut off.

    `accepts_partial`: the manifest accepted a preflight without a GPU. A log that cannot be read conforms to nothing.
    """
    log = _Log(events, most_attempts, accepts_partial)
    broken = verify(events, head=head)
    found: dict[str, list[str]] = {"log is whole": [] if broken is None else [f"the chain breaks at event {broken}"]}
    for name, criterion in CRITERIA:
        found[name] = list(criterion(log))
    missing = tuple(f"{name}: {fact}" for name, facts in found.items() for fact in facts)
    artifacts = tuple(str(data.get("destination")) for _at, data in log.all("persisted"))
    links = tuple(str(url) for _at, data in log.all("links") for url in data.values())
    return Conformance(not missing, {name: not facts for name, facts in found.items()}, missing, artifacts + links)


def _research(log: _Log) -> Iterator[str]:
    cited = [at for at, data in log.all("research") if _whole(data.get("sources")) and data["sources"] > 0]
    if not cited:
        yield "no research with a cited source"
    first_edit = min((at for at, _data in log.all("edit", "submit")), default=len(log.events))
    if cited and cited[0] > first_edit:
        yield f"the first edit (event {first_edit}) came before the research (event {cited[0]})"


def _baseline(log: _Log) -> Iterator[str]:
    places = [at for at, _data in log.all("baseline")]
    if len(places) != 1:
        yield f"the baseline was frozen {len(places)} times"
    elif any(at < places[0] for at, _data in log.all("submit", "edit")):
        yield "something was edited or submitted before the baseline was frozen"


def _gates(log: _Log) -> Iterator[str]:
    """Before every full job each stage has passed, last, on the hashes that the job was submitted with."""
    if not log.jobs():
        yield "no full job was submitted"
    for at, job in log.jobs():
        for stage in BEFORE_THE_JOB:
            fact = _stage_fault(log, stage, at, job)
            if fact:
                yield f"{stage} before job {job.get('job')}: {fact}"


def _stage_fault(log: _Log, stage: str, at: int, job: Mapping[str, Any]) -> str | None:
    own = [data for place, data in log.all("stage") if data.get("stage") == stage and place < at]
    if not own:
        return "no evidence"
    outcome = own[-1].get("outcome")
    accepted = stage == "gpu-preflight" and outcome == "partial" and log.accepts_partial
    if outcome != "passed" and not accepted:
        return f"its last outcome is {outcome}"
    then, now = _mapping(own[-1].get("hashes")), _mapping(job.get("hashes"))
    needed = DEPENDS_ON.get(stage, CONTENTS)  # type: ignore[call-overload]
    changed = [content for content in needed if not then.get(content) or then.get(content) != now.get(content)]
    return f"changed since: {', '.join(changed)}" if changed else None


def _order(log: _Log) -> Iterator[str]:
    """The first pass of each stage comes after the first pass of the one before it."""
    last, name = -1, ""
    for stage in BEFORE_THE_JOB:
        at = next((at for at, data in log.all("stage") if data.get("stage") == stage), None)
        if at is not None and at < last:
            yield f"{stage} (event {at}) came before {name} (event {last})"
        if at is not None:
            last, name = at, stage


def _by_value(log: _Log) -> Iterator[str]:
    for _at, data in log.all("submit"):
        sent, script = data.get("payload_sha256"), _mapping(data.get("hashes")).get("script")
        if not sent or sent != script:
            yield f"job {data.get('job')} was sent other bytes than the script that was checked"


def _one_job(log: _Log) -> Iterator[str]:
    running: object = None
    for _at, event in enumerate(log.events):
        data, kind = _data(event), event.get("kind")
        if kind == "submit" and data.get("kind") == "full":
            if running is not None:
                yield f"job {data.get('job')} was submitted while {running} ran"
            running = data.get("job")
        elif kind == "job-ended" and data.get("job") == running:
            running = None
    if running is not None:
        yield f"job {running} has no end"


def _healthy(log: _Log) -> Iterator[str]:
    completed = [data.get("job") for _at, data in log.all("job-ended") if data.get("outcome") == "completed"]
    if not completed:
        yield "no full job completed"
    started = {data.get("job"): at for at, data in log.jobs()}
    for job in completed:
        seen = [
            at
            for at, data in log.all("first-metric")
            if data.get("job") == job and _number(data.get("value")) and _whole(data.get("step")) and data["step"] >= 1
        ]
        if not seen or seen[0] < started.get(job, len(log.events)):
            yield f"job {job} completed without a first metric seen"


def _budget(log: _Log) -> Iterator[str]:
    held: set[object] = set()
    for _at, event in enumerate(log.events):
        data, kind = _data(event), event.get("kind")
        if kind == "reserve":
            held.add(data.get("attempt"))
        elif kind == "submit" and data.get("attempt") not in held:
            yield f"attempt {data.get('attempt')} was submitted without a reservation of its own"
        elif kind == "settle":
            held.discard(data.get("attempt"))
    if held:
        yield f"not settled: {', '.join(sorted(map(str, held)))}"


def _alerts(log: _Log) -> Iterator[str]:
    """Alerts are numbered without a gap, and each ERROR is followed by an analysis that names it (S12-R11, S12-R14)."""
    numbers = [data.get("sequence") for _at, data in log.all("alert")]
    if numbers != list(range(len(numbers))):
        yield f"alerts are numbered {numbers}"
    for at, data in log.all("alert"):
        number = data.get("sequence")
        answers = [
            place
            for place, each in log.all("analysis")
            if number == each.get("alert") or number in (each.get("alerts") or ())
        ]
        if data.get("level") == "ERROR" and not any(place > at for place in answers):
            yield f"ERROR {data.get('code')} (alert {data.get('sequence')}) was not analysed"


def _loop(log: _Log) -> Iterator[str]:
    """Attempts are bounded, each failed one is analysed (D7), and no fix is the one before it again (S13-R01)."""
    attempts = {data.get("attempt") for _at, data in log.all("submit")}
    if len(attempts) > log.most_attempts:
        yield f"{len(attempts)} attempts, of at most {log.most_attempts}"
    tries = {data.get("job"): data.get("attempt") for _at, data in log.all("submit")}
    analysed = {data.get("attempt") for _at, data in log.all("analysis")}
    for _at, data in log.all("job-ended"):
        if data.get("outcome") != "completed" and tries.get(data.get("job")) not in analysed:
            yield f"the failure of job {data.get('job')} was not analysed"
    changes = [(data.get("category"), data.get("change")) for _at, data in log.all("analysis")]
    for before, after in itertools.pairwise([("", ""), *changes]):
        if before == after or not after[1]:
            yield f"a retry that changes nothing new: {after}"


def _scope(log: _Log) -> Iterator[str]:
    for at, data in log.all("edit"):
        if data.get("scope") is not True:
            yield f"edit at event {at} was not passed by the scope guard"


def _evaluated(log: _Log) -> Iterator[str]:
    """After the job ended: a finite number of a named metric, over the very artefact that was persisted (S14-R12)."""
    stored = {data.get("sha256") for _at, data in log.all("persisted")}
    good = [
        data
        for at, data in log.all("evaluated")
        if at > log.done_at() and data.get("metric") and _number(data.get("value"))
    ]
    if not good:
        yield "no evaluation with a number after the job completed"
    elif not any(data.get("artifact_sha256") in stored for data in good):
        yield "what was evaluated is not what was persisted"


def _persisted(log: _Log) -> Iterator[str]:
    after = [data for at, data in log.all("persisted") if at > log.done_at()]
    if not after:
        yield "nothing was persisted after the job completed"
    for data in after:
        digest = str(data.get("sha256"))
        if not data.get("destination") or not SHA256.fullmatch(digest) or data.get("reread_sha256") != digest:
            yield f"{data.get('destination')} was not resolved and read again with the same digest"


def _committed(log: _Log) -> Iterator[str]:
    if not any(at > log.done_at() and data.get("commit") for at, data in log.all("committed")):
        yield "the result is in no commit"


def _linked(log: _Log) -> Iterator[str]:
    known = {name for _at, data in log.all("links") for name, url in data.items() if url}
    absent = [name for name in NEEDED_LINKS if name not in known]
    if absent:
        yield f"no link to: {', '.join(absent)}"
    checked = [(at, data) for at, data in log.all("links-checked")]
    if not checked or checked[-1][0] < max((at for at, _data in log.all("links")), default=-1):
        yield "the links were not followed"
    for name, why in _mapping(checked[-1][1].get("unresolved")).items() if checked else ():
        yield f"the link to {name} leads nowhere: {why}"


def _secrets(log: _Log) -> Iterator[str]:
    for at, data in log.all("secret-found"):
        yield f"event {at}: a secret in {data.get('where')}"


def _data(event: Event) -> Mapping[str, Any]:
    return _mapping(event.get("data"))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


CRITERIA: tuple[tuple[str, Callable[[_Log], Iterator[str]]], ...] = (
    ("research precedes and is cited", _research),
    ("baseline frozen first", _baseline),
    ("gates passed before each job", _gates),
    ("stages in order", _order),
    ("code sent by value is the code checked", _by_value),
    ("one full job at a time", _one_job),
    ("healthy by its first metric", _healthy),
    ("spend reserved and settled", _budget),
    ("alerts numbered and answered", _alerts),
    ("loop bounded, failures analysed", _loop),
    ("scope kept", _scope),
    ("evaluated", _evaluated),
    ("persisted and read again", _persisted),
    ("committed", _committed),
    ("linked", _linked),
    ("no secret", _secrets),
)
