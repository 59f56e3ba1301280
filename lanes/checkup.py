"""How a set-up stands: facts of settings, clones, hooks, memory and runs in, one row per thing out, each with its remedy.

The host's own rows are those of `lanes.doctor`; here they become a part of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from manifests.commands import Remedy, command

from lanes.doctor import GIB, Finding, Level

Facts = Mapping[str, Any]
SHOWN_RUNS = 3
NEAR_BUDGET = 0.9


@dataclass(frozen=True)
class Known:
    """An entry of the runbooks that fits a failure: what mends it, and where that was read."""

    id: str
    fix: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One thing looked at: the part it belongs to, its name, how it stands, the fact, the remedy, what is known of it."""

    part: str
    name: str
    level: Level
    fact: str
    mend: Remedy = ""
    known: tuple[Known, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The row as agents read it under --json."""
        return asdict(self)


def is_well(rows: Iterable[Row]) -> bool:
    """Whether nothing is bad; warnings do not count."""
    return all(row.level != "fail" for row in rows)


def of_host(host: str, findings: Sequence[Finding]) -> list[Row]:
    """The rows of `hemma host check`. What could not be asked for want of a connection is one row, not ten."""
    asked = [finding for finding in findings if finding.level != "not checked"]
    rows = [Row("host", each.name, each.level, each.fact, each.mend) for each in asked]
    left = [finding.name for finding in findings if finding.level == "not checked"]
    if len(left) > 1:
        fact = f"{host} could not be asked: {', '.join(left)}"
        return [*rows, Row("host", "the rest", "not checked", fact, command("hemma host check {}", host))]
    return [*rows, *(Row("host", name, "not checked", "there is nothing to look at") for name in left)]


def of_clones(picture: Facts) -> list[Row]:
    """Whether local clone, host and origin are in step, from the facts of `hemma status`."""
    rows: list[Row] = []
    for place in ("local", "host"):
        clone = picture[place]
        if clone is None:
            rows.append(Row("clones", place, "not checked", _problem(picture), "hemma status"))
            continue
        stands, changed = str(clone["relation"]), len(clone["dirty"])
        more = f", {changed} changed" if changed else ""
        is_equal = stands == "equal" and not clone["operation"]
        fact = f"{stands} to origin{more}" if stands == "equal" else f"{stands} (against origin){more}"
        if clone["operation"]:
            fact += f", in the middle of a {clone['operation']}"
        level: Level = "fail" if stands == "diverged" or clone["operation"] else "ok" if is_equal else "warn"
        rows.append(Row("clones", place, level, fact, "" if is_equal else "hemma sync --dry-run"))
    return [*rows, *_between(picture), *_backups(picture)]


def _backups(picture: Facts) -> list[Row]:
    """What `hemma undo` can go back to, and what it costs of the disk: the newest stays even when it alone is too much."""
    rows: list[Row] = []
    for place in ("local", "host"):
        known = (picture[place] or {}).get("backups")
        if not known or not known["count"]:
            continue
        kept = picture["backups_kept"]
        used = known["disk_bytes"] / GIB
        fact = f"{known['count']} take {used:.2f} GiB; kept {kept['keep_days']:g} days or {kept['keep_gb']:g} GB"
        is_over = used > kept["keep_gb"] * 1.25  # an eighth more may have come since the last tidying
        mend = "set backup_gb, or name what is large and can be made again in .gitignore" if is_over else ""
        rows.append(Row("backups", place, "warn" if is_over else "ok", fact, mend))
    return rows


def _between(picture: Facts) -> list[Row]:
    if picture["host"] is None:
        return []
    against = picture["host"]["against_local"]
    if against == [0, 0]:
        return [Row("clones", "host and local", "ok", "at the same commit")]
    said = "one lacks the other's commits" if against is None else f"{against[0]} only there, {against[1]} only here"
    return [Row("clones", "host and local", "warn", f"not in step: {said}", "hemma sync")]


def _problem(picture: Facts) -> str:
    return str((picture.get("problem") or {}).get("message") or "it could not be asked")


def of_hooks(hooks: Sequence[Facts], *, are_in_force: bool) -> Row:
    """Whether the merge-only hooks of the local clone are in force."""
    if are_in_force:
        return Row("hooks", "local", "ok", "all in force")
    off = [f"{hook['name']} {hook['state']}" for hook in hooks if hook["state"] != "installed"]
    return Row("hooks", "local", "warn", ", ".join(off) or "pull does not merge", "hemma hooks install")


def of_room(kept_bytes: int, budget_gb: float | None) -> Row:
    """What the host's runs keep, beside the disk budget of the personal memory."""
    kept = f"{kept_bytes / GIB:.1f} GiB"
    if budget_gb is None:
        return Row("runs", "room", "ok", f"they keep {kept}; no disk budget is set")
    share = kept_bytes / GIB / budget_gb
    level: Level = "ok" if share < NEAR_BUDGET else "warn"
    fact = f"they keep {kept} of {budget_gb:g} GB"
    return Row("runs", "room", level, fact, "" if level == "ok" else "hemma prune --dry-run")


def failures(runs: Sequence[Facts], most: int = SHOWN_RUNS) -> list[Facts]:
    """The newest runs that failed or were lost, newest first; what came to its end well since does not hide them."""
    bad = [run for run in runs if run["state"] == "lost" or (run["state"] == "finished" and run["exit_code"] != 0)]
    return list(reversed(bad[-most:]))


def of_failure(run: Facts, diagnosis: Facts, known: Sequence[Known], training: str | None) -> Row:
    """A run that failed, as a row. It is a warning: the set-up may be well all the same."""
    end = f"exit code {run['exit_code']}" if run["exit_code"] is not None else str(run["reason"] or run["state"])
    what = f"training {training}" if training is not None else str(run["command"])[:60]
    line = next((str(each["line"]) for each in diagnosis["evidence"] if each["line"]), "")
    said = f": {line[:160]}" if line else ""
    fact = f"{what}: {end}, {diagnosis['category']} ({diagnosis['code']}){said}"
    return Row("runs", str(run["run_id"]), "warn", fact, command("hemma doctor {}", str(run["run_id"])), tuple(known))
