"""`hemma doctor`: what of the set-up is well and what is not, and what is known of a run that failed (S17-R04, S17-R12).

Every part looks for itself: one that cannot be asked is a row that says so, and the others are looked at all the same.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from controller.flows import failed, gotcha, personal
from controller.settings import Files, Resolved, demand_trust, explain, read_files
from lanes import checkup
from lanes.checkup import Known, Row
from lanes.redaction import redact
from manifests.commands import Command, Remedy, command
from manifests.errors import HemmaError, NotARepository

LOOKED_AT_RUNS = 50
MOST_KNOWN = 3


def look(start: str, environ: Mapping[str, str], *, is_offline: bool = False) -> Iterator[Row]:
    """Every row, as it is found. `is_offline`: nothing is asked of the host. Never raises for what it finds."""
    try:
        files = read_files(start, environ)
    except HemmaError as error:
        yield Row("settings", "files", "fail", error.message, error.remedy)
        return
    yield from _settings(start, files)
    try:
        resolved = explain(files)
    except HemmaError as error:
        yield Row("settings", "host", "fail", error.message, error.remedy)
        resolved = None
    yield from _here(start, environ, files)
    if resolved is None:
        return
    try:
        demand_trust(files)
    except HemmaError as error:
        yield Row("settings", "trust", "fail", error.message, error.remedy)
        return
    if is_offline:
        yield Row("host", resolved.settings.host.name, "not checked", "nothing was asked of it (--offline)")
        return
    yield from _there(start, resolved)


def _settings(start: str, files: Files) -> Iterator[Row]:
    config, project = files.sources.config_path, files.sources.pyproject_path
    there = (
        f"{config} holds {_counted(len(files.user.hosts), 'host')}"
        if os.path.exists(config)
        else "no config.toml; none is needed"
    )
    yield Row("settings", "yours", "ok", there)
    yield Row("settings", "project", "ok", project) if project else _without_project(start)
    memory = personal.read()
    if memory.problems:
        yield Row(
            "settings", "personal memory", "warn", "; ".join(memory.problems), command("ls -l {}", personal.folder())
        )
    elif memory.facts:
        yield Row("settings", "personal memory", "ok", f"{_counted(len(memory.facts), 'fact')}; hemma init --show")
    else:
        yield Row("settings", "personal memory", "warn", "nobody was asked yet what is usual", "hemma init --interview")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _without_project(start: str) -> Row:
    """No [tool.hemma] was found; a pyproject.toml that is no TOML may be why."""
    from controller.flows import init

    path = init.target(start)
    try:
        init.present(init.read(path), path)
    except HemmaError as error:
        return Row("settings", "project", "fail", error.message, error.remedy)
    return Row("settings", "project", "warn", "no [tool.hemma] at or above this folder", "hemma init")


# --- on this machine -------------------------------------------------------------------------------------------------


def _here(start: str, environ: Mapping[str, str], files: Files) -> Iterator[Row]:
    top = os.path.dirname(files.sources.pyproject_path) if files.sources.pyproject_path else start
    configs = files.project.configs
    if configs and not os.path.isdir(os.path.join(top, configs)):
        yield Row("project", "configs", "warn", f"{configs} is not there", "hemma init --interview")
    yield from _tried("hooks", "local", "hemma hooks status", lambda: [_hooks(start)])
    yield from _tried("memory", "only grows", "hemma memory check", lambda: [_memory(start, environ)])
    yield from _tried("memory", "merging", "hemma memory init", lambda: _merging(start, environ))
    yield from _tried("drive", "place", "hemma drive check", lambda: [_drive(start, environ, files)])
    yield from _sessions()
    yield from _tracker_key(environ)


def _tried(part: str, name: str, remedy: Remedy, look_at: Callable[[], list[Row]]) -> list[Row]:
    """What `look_at` finds; a part that cannot be looked at is one row with the error's own words."""
    try:
        return look_at()
    except NotARepository as error:
        return [Row(part, name, "warn", error.message, error.remedy)]
    except HemmaError as error:
        return [Row(part, name, "fail", error.message, error.remedy or remedy, _known(error.message, error.code))]


def _hooks(start: str) -> Row:
    from controller.flows import hooks, work_tree

    found = hooks.here(work_tree.top(start), "status")
    return checkup.of_hooks([dataclasses.asdict(hook) for hook in found.hooks], are_in_force=found.are_in_force)


def _memory(start: str, environ: Mapping[str, str]) -> Row:
    from controller.flows import memory
    from controller.flows.memory_check import check

    found = memory.of(start, environ)
    if not found.exists():
        return Row("memory", "only grows", "ok", "this project keeps none (hemma memory init)")
    steps = check(found)
    return Row("memory", "only grows", "ok", f"nothing was lost over {_counted(steps, 'step')}")


def _merging(start: str, environ: Mapping[str, str]) -> list[Row]:
    """Whether this clone merges two branches' entries; git takes no driver over from the repository that was cloned."""
    from controller.flows import memory

    found = memory.of(start, environ)
    if not found.exists() or memory.has_driver(found):
        return []
    return [Row("memory", "merging", "warn", "this clone's git does not merge the log by entries", "hemma memory init")]


def _sessions() -> Iterator[Row]:
    """Colab machines that nobody here waits for any more: each may still burn units."""
    from controller.flows import colab_session

    for left in colab_session.left_behind():
        yield Row("colab", "session", "warn", left["fact"], colab_session.LOOK)


def _drive(start: str, environ: Mapping[str, str], files: Files) -> Row:
    from controller.flows import drive

    if not (environ.get("HEMMA_DRIVE_PLACE") or files.project.drive):
        return Row("drive", "place", "ok", "none is named; only the Colab lane needs one")
    chosen = drive.setting(start, environ)
    place = drive.open_place(chosen, environ)
    place.store.close()
    return Row("drive", "place", "ok", f"{chosen}; hemma drive check asks it")


def _tracker_key(environ: Mapping[str, str]) -> Iterator[Row]:
    """Whether what the personal memory names is there; its value is not looked at (S17-R11)."""
    named = personal.read().value("tracker_key")
    if named is None:
        return
    is_path = named.startswith(("/", "~", "."))
    is_there = os.path.exists(os.path.expanduser(named)) if is_path else bool(environ.get(named))
    what = ("is there" if is_there else "is not there") if is_path else ("is set" if is_there else "is not set here")
    yield Row(
        "tracker",
        "key",
        "ok" if is_there else "warn",
        f"{named} {what}",
        "" if is_there else "set it, or name another place: hemma init --interview",
    )


# --- on the host -----------------------------------------------------------------------------------------------------


def _there(start: str, resolved: Resolved) -> Iterator[Row]:
    from controller.flows import host as host_flow

    host = resolved.settings.host
    findings = host_flow.check(host)
    rows = checkup.of_host(host.name, findings)
    yield from (dataclasses.replace(row, known=_known(row.fact)) if row.level == "fail" else row for row in rows)
    if any(finding.level == "not checked" and finding.name == "git" for finding in findings):
        fact = f"{host.name} could not be asked; this machine's part is above"
        yield Row("clones", "host and local", "not checked", fact, command("hemma host check {}", host.name))
        yield Row("runs", "failures", "not checked", fact)
        return
    if host.root is not None:
        yield from _tried("clones", "in step", "hemma status", lambda: _clones(start, resolved))
    yield from _tried("runs", "failures", "hemma ps --all", lambda: list(_runs(resolved)))


def _clones(start: str, resolved: Resolved) -> list[Row]:
    from controller.flows import status, work_tree
    from remote.repository import HostRepository, LocalRepository

    local = LocalRepository(work_tree.top(start))
    spec = {**resolved.settings.host.as_dict(), "root_is_own": resolved.settings.root_is_own}
    picture = status.read(local, HostRepository(spec), fetch=False)
    return checkup.of_clones({**picture, "backups_kept": resolved.settings.as_dict()["backup"]})


def _runs(resolved: Resolved) -> Iterator[Row]:
    from controller.flows import runs

    settings = resolved.settings.as_dict()
    known = runs.page(settings["host"], most=LOOKED_AT_RUNS, with_total=True)
    found = known.runs
    budget = personal.usual(resolved.settings.host.name).get("prune.size_gb")
    yield checkup.of_room(known.total_bytes, budget)
    bad = checkup.failures(found)
    if not bad:
        yield Row("runs", "failures", "ok", f"none of the last {len(found)} runs failed")
    for run in bad:
        try:
            one = failed.of_run(settings, str(run["run_id"]))
        except HemmaError as error:  # pruned meanwhile, or the link went
            yield Row("runs", str(run["run_id"]), "not checked", error.message, error.remedy)
            continue
        name = one.training.name if one.training else None
        diagnosis = one.diagnosis()
        yield checkup.of_failure(run, diagnosis, _known_of(one, diagnosis), name)


# --- what is known ---------------------------------------------------------------------------------------------------


def _known(text: str, code: str = "", most: int = gotcha.MOST_HINTS) -> tuple[Known, ...]:
    found = gotcha.hints(text, code, most=most)
    return tuple(Known(match.entry.id, match.entry.fix, match.entry.sources) for match in found)


def _known_of(run: failed.Failed, diagnosis: failed.Facts, most: int = gotcha.MOST_HINTS) -> tuple[Known, ...]:
    code = str(diagnosis["code"])
    return _known(run.text, "" if code == "unrecognised" else code, most)


def of_run(settings: dict[str, Any], run: str) -> dict[str, Any]:
    """A run as `hemma doctor RUN` shows it: its end, why it failed, the evidence, what is known of it, what to do next.

    Raises no-such-run, with the command for a run in Drive where the project has one.
    """
    try:
        found = failed.of_run(settings, run)
    except HemmaError as error:
        if error.code != "no-such-run":
            raise
        remedy = command("{}; of a run in Drive: hemma colab doctor {}", error.remedy, run)
        raise HemmaError(error.message, remedy=remedy, exit_code=error.exit_code, code=error.code) from error
    shown: dict[str, Any] = {"run": found.view, "training": found.training.name if found.training else None}
    stopped = found.training.stopped if found.training else None
    masked = {key: redact(str(value)).text for key, value in stopped.items()} if stopped else None
    shown |= {"is_bad": found.is_bad, "stopped": masked}
    if not found.is_bad:
        return {**shown, "diagnosis": None, "known": [], "advice": [], "next": []}
    diagnosis = found.diagnosis()
    known = _known_of(found, diagnosis, MOST_KNOWN)
    entries = [{"id": each.id, "fix": each.fix, "sources": list(each.sources)} for each in known]
    advice = [masked["remedy"]] if masked and masked.get("remedy") else []
    return {**shown, "diagnosis": diagnosis, "known": entries, "advice": advice, "next": _next(found, known)}


def _next(run: failed.Failed, known: tuple[Known, ...]) -> list[Command]:
    """Commands: the entries that fit, else the draft of a new one."""
    steps = [command("hemma runbook show {}", each.id) for each in known]
    return steps or [command("hemma gotcha propose {}", str(run.view["run_id"]))]
