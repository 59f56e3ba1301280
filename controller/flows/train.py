"""`hemma train`: a manifest of the host's clone, submitted by value, followed by its events; and what a run left behind.

Nothing of torch here: the controller sends the code and the request, and reads JSON back (P8).
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import os
import posixpath
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from controller.flows import run as run_flow
from controller.flows import runs as runs_flow
from controller.flows.files import host_path
from controller.flows.host_events import EventLines
from lanes.gates import ACCEPTABLE, STAGES, standings
from lanes.verdict import Verdict
from manifests import places
from manifests.commands import Command, Remedy, command, joined
from manifests.errors import HemmaError, UsageError, no_answer
from manifests.evidence import Evidence, Hashes
from manifests.files import atomic_write, parse_json
from remote.agent.gitfacts import toplevel
from remote.host import Host
from remote.session import HostRefused

# What only one verb needs is loaded by that verb: `gates` and `watch` are to be quick.
if TYPE_CHECKING:
    from manifests.train import TrainManifest

Event = dict[str, Any]
FOLDER = "training"
JOB = f"{FOLDER}/job.json"
INDEX = f"{FOLDER}/evidence/index.json"
EVENTS = f"{FOLDER}/events.jsonl"


class RunStopped(HemmaError):
    """The executor ended the run before its last stage; message and advice are its own."""

    code = "run-stopped"


def text_on_host(settings: dict[str, Any], path: str, *, example: Remedy) -> tuple[str, str]:
    """(what a manifest of the host's clone says, its path there). Raises UsageError, with the command for an example."""
    if " " in path.strip() or not path.endswith((".yaml", ".yml")):
        raise UsageError(
            f"{path!r} is no manifest: what is to be done is said in a file of the repository, *.yaml",
            remedy=command("{} > manifests/runs/NAME.yaml   (an example to change)", Command(example)),
        )
    name = host_path(settings, path)
    try:
        reply = Host(settings["host"]).request("file-read", path=name)
    except HostRefused as error:
        if error.code != "file-missing":
            raise run_flow.judged(error) from None
        raise UsageError(
            f"{name} is not in the host's clone, which is the one that counts",
            remedy=command("hemma put {}   (a whole example: {})", name, Command(example)),
        ) from error
    return base64.b64decode(reply["content_base64"]).decode("utf-8", "replace"), name


def manifest_on_host(settings: dict[str, Any], path: str) -> tuple[TrainManifest, str]:
    """(the manifest as the host's clone has it, its path there). Raises UsageError with every fault."""
    from manifests.train import parse

    text, name = text_on_host(settings, path, example="hemma train --example")
    return parse(text, name), name


def request_of(manifest: TrainManifest, name: str, *, until: str | None, resume: str | None) -> dict[str, Any]:
    """The request as the executor takes it. Raises UsageError for a stage that there is not."""
    if until is not None and until not in STAGES:
        raise UsageError(f"--until {until!r} is no stage", remedy="one of: " + ", ".join(STAGES))
    return {**manifest.job(), "manifest": name, "who": run_flow.who(), "until": until, "resume": resume}


def approved(request: dict[str, Any], *, is_yes: bool) -> Verdict:
    """Whether the request may be submitted now, by the approval policy."""
    from lanes import approval

    return approval.of_training(request, is_approved=is_yes)


def checked(settings: dict[str, Any], request: dict[str, Any]) -> None:
    """The invariant before a submit: no secret in the request, no place that the host lacks. Raises UsageError (S8-R05)."""
    from lanes import submit as submit_rules

    named = submit_rules.places(request, _reward_script(settings, request))
    asked = sorted({place.to_ask for place in named if not place.is_foreign})
    exist = Host(settings["host"]).request("values-missing", names=[], paths=asked)["exist"] if asked else {}
    here = toplevel(settings.get("project_root") or os.getcwd())
    verdict = submit_rules.invariant(request, named, exist, clone_here=here)
    if not verdict.allowed:
        facts = "; ".join(reason.fact for reason in verdict.reasons)
        rules = " and ".join(dict.fromkeys(reason.rule for reason in verdict.reasons))
        raise UsageError(f"{facts}: {rules}", remedy=joined(verdict.next_steps, "; "), code="submit-invariant")


def resumed(settings: dict[str, Any], run: str, name: str) -> str:
    """The whole id of the training run to go on from; `run` may be its beginning, or `last`. Raises when it is another's."""
    found = files_of(settings, run, JOB)
    if found[JOB] is None:
        raise HemmaError(f"run {found['run_id']} is no training run", remedy="hemma ps --all", code="no-training-run")
    other = json.loads(found[JOB]).get("name")
    if other != name:
        raise UsageError(
            f"run {found['run_id']} is one of {other}, the manifest asks for {name}", remedy="hemma train MANIFEST"
        )
    return str(found["run_id"])


def _reward_script(settings: dict[str, Any], request: dict[str, Any]) -> str | None:
    """The text of the module that a reward function is in, as the host's clone has it; None where there is none."""
    module = str(request["dataset"].get("reward") or "").partition(":")[0]
    if not module:
        return None
    try:
        reply = Host(settings["host"]).request("file-read", path=module.replace(".", "/") + ".py")
    except HostRefused:  # the executor says it, with what it looked for
        return None
    return base64.b64decode(reply["content_base64"]).decode("utf-8", "replace")


def submit(settings: dict[str, Any], request: dict[str, Any]) -> str:
    """Start the executor on the host and leave it there; returns the run id. A lost link starts nothing twice (S9-R18)."""
    payload, job = sent(settings, request)
    asked = run_flow.request_of(settings, {"lease_s": None}, [python_of(request), "-I", payload, "execute", job])
    session = run_flow.session_for(settings, asked, (_drop, _drop))
    run_flow.follow(session)
    return str(session.run_id)


def python_of(job: dict[str, Any]) -> str:
    """The interpreter of a request as it is started in the host's root; a bare name is looked for on PATH there."""
    python = str(job["python"])
    is_inside = "/" in python and not python.startswith(("/", "~"))
    return posixpath.join(".", python) if is_inside else python


def following(settings: dict[str, Any], run: str, on_event: Callable[[Event], None]) -> Any:
    """A session that reads the events of a run from its beginning; harmless to the run. `last` is the last training."""
    run = files_of(settings, run)["run_id"] if run == "last" else run
    return runs_flow.session(settings, run, (EventLines(on_event).write, _drop), hold=False)


def _drop(_: memoryview) -> None:
    """What the children print is in the run's logs."""


def sent(settings: dict[str, Any], request: dict[str, Any]) -> tuple[str, str]:
    """Make sure that the host has payload and request; returns their paths there. One trip when the code is there."""
    host = Host(settings["host"])
    from remote.payload import payload_zip

    code, digest = payload_zip()
    body = json.dumps(request, sort_keys=True).encode()
    values = {f"{digest}.zip": code, f"{hashlib.sha256(body).hexdigest()}.json": body}
    known = host.request("values-missing", names=list(values))
    for name in known["missing"]:
        host.request("value-put", name=name, content_base64=base64.b64encode(values[name]).decode("ascii"))
    payload, job = (posixpath.join(known["folder"], name) for name in values)
    return payload, job


# --- what a run left behind -----------------------------------------------------------------------------------------


def files_of(settings: dict[str, Any], run: str, *paths: str) -> dict[str, Any]:
    """Files of a run's directory, in one round trip: {"run_id", "folder", name: bytes or None}."""
    reply = Host(settings["host"]).request("run-files", run=run, paths=list(paths), having=JOB)
    found = {
        name: base64.b64decode(piece["content_base64"]) if piece else None for name, piece in reply["files"].items()
    }
    return {"run_id": reply["run_id"], "folder": reply["folder"], **found}


def gates(settings: dict[str, Any], run: str) -> dict[str, Any]:
    """Each stage of a training run with its evidence, its checks and what is missing (S21-R03). Raises no-training-run."""
    found = files_of(settings, run, INDEX, EVENTS)
    if found[INDEX] is None:
        raise HemmaError(
            f"run {found['run_id']} is no training run, or has not begun",
            remedy="hemma ps --all",
            code="no-training-run",
        )
    index, evidence = _index_of(found[INDEX])
    log, broken = _log_of(found[EVENTS], found["run_id"])
    hashes, accepts = _recorded(log)
    now = Hashes.model_validate(hashes)
    faults = _faults(evidence, log, broken, found["run_id"])
    rows = [
        {
            "stage": each.stage,
            "state": "altered" if each.stage in faults else each.state,
            "fact": faults.get(each.stage, each.fact),
            "accepts": ACCEPTABLE.get(each.stage),
            "checks": next((e.as_dict()["checks"] for e in reversed(evidence) if e.stage == each.stage), []),
            "from_run": next((e.run_id for e in reversed(evidence) if e.stage == each.stage), None),
        }
        for each in standings(evidence, now, accepts=accepts)
    ]
    said = index.get("stopped")
    stopped = (
        {key: str(said.get(key, "")) for key in ("reason", "message", "remedy")} if isinstance(said, dict) else None
    )
    more = {"stopped": stopped, "finished": index.get("finished")}
    return {"run_id": found["run_id"], "stages": rows, "hashes": now.as_dict(), **more}


def _index_of(raw: bytes) -> tuple[dict[str, Any], list[Evidence]]:
    """(the index of a run's evidence, its records). Raises NoAnswer for anything else than what an executor writes."""
    try:
        index = parse_json(raw, INDEX)
        listed = index.get("evidence")
        if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
            raise no_answer(f"{INDEX} lists no evidence")
        return index, [Evidence.parse(each, INDEX) for each in listed]
    except HemmaError as error:
        raise no_answer(error.message) from error


def _log_of(raw: bytes | None, run_id: str) -> tuple[list[dict[str, Any]], str | None]:
    """(the records of a run's event log, what is wrong with it as a whole)."""
    from lanes import evidence_chain

    try:
        lines = (raw or b"")[: (raw or b"").rfind(b"\n") + 1].splitlines()
        records = [parse_json(line, EVENTS) for line in lines]
        return records, evidence_chain.log_fault(records, run_id)
    except HemmaError as error:
        return [], error.message


def _recorded(log: list[dict[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """(the contents' digests as the newest stage saw them, what the request accepts), from the log and no other file."""
    hashes, accepts = dict[str, Any](), list[str]()
    for record in log:
        data = record.get("data")
        if not isinstance(data, dict):
            continue
        if record.get("kind") == "started" and isinstance(data.get("accepts"), list):
            accepts = [str(each) for each in data["accepts"]]
        if record.get("kind") == "stage" and isinstance(data.get("hashes"), dict):
            hashes = {name: each if isinstance(each, str) else None for name, each in data["hashes"].items()}
    return {name: each for name, each in hashes.items() if name in Hashes.model_fields}, accepts


def _faults(evidence: list[Evidence], log: list[dict[str, Any]], broken: str | None, run_id: str) -> dict[str, str]:
    """stage -> why its newest evidence is not what the run's executor recorded, by the run's own event log."""
    from lanes import evidence_chain

    now, found = dt.datetime.now(dt.UTC), dict[str, str]()
    for each in evidence:
        fault = broken or evidence_chain.fault_of(each, log, run_id, now)
        if fault:
            found[each.stage] = fault
    return found


def report(settings: dict[str, Any], run: str, made_at: dt.datetime) -> tuple[str, str]:
    """(run id, the run's report as one HTML page that needs no network), from one round trip."""
    from controller.reports import run_page

    names = {f"{FOLDER}/{name}": name for name in run_page.FILES}
    found = files_of(settings, run, *names)
    if found[INDEX] is None:
        raise HemmaError(f"run {found['run_id']} is no training run", remedy="hemma ps --all", code="no-training-run")
    facts = run_page.facts_from(found["run_id"], {short: found[name] for name, short in names.items()})
    return found["run_id"], run_page.page(facts, made_at)


def keep_report(settings: dict[str, Any], run: str, made_at: dt.datetime) -> str:
    """Write the run's report below Hemma's own folder on this machine; returns its path. The newest replaces the older."""
    run_id, page = report(settings, run, made_at)
    folder = os.path.join(places.state_dir(), "reports")
    places.private_dir(folder)
    path = os.path.join(folder, f"{run_id}.html")
    atomic_write(path, page.encode("utf-8"))
    return path


def stopped(event: Event, exit_code: int) -> RunStopped:
    """The executor's last word as an error of ours, with its exit code."""
    data = event["data"]
    fact = f"{data['reason']}: {data['message']}"
    error = RunStopped(fact, code=str(data["reason"]), exit_code=exit_code)
    error.advice = str(data["remedy"])
    return error
