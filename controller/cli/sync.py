"""`hemma status` and `hemma sync`: where the three clones stand, and bringing them together by merge only.

`status` is typed often: what only `sync` needs is loaded there.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from controller.cli.run import settings_for
from controller.flows import status
from controller.reports import console
from controller.reports.console import Table
from controller.reports.progress import Progress
from controller.snapshot import find_project
from lanes.merging import ACCEPTABLE, Escalation, Step, SyncPlan
from lanes.origin_moves import GONE, REWRITTEN
from manifests.commands import Command, command, listed
from manifests.errors import UsageError
from remote.agent import gitfacts, gitnet
from remote.repository import HostRepository, LocalRepository

if TYPE_CHECKING:
    from controller.flows import lane
    from controller.flows import sync as flow

_LINE_STYLES = {"+": "green", "-": "red", "@": "cyan"}

AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
OnHost = Annotated[
    str | None, typer.Option("--host", "-H", metavar="NAME", help="Another host than the repository's own.")
]


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.command("status")(show_status)
    app.command("sync")(sync)


def _clones(host: str | None, progress: Progress) -> tuple[LocalRepository, HostRepository, dict[str, Any]]:
    """Both clones, and what the repository says of notebooks' metadata. Raises NotARepository.

    What git tells of its way with origin goes to `progress`.
    """
    for name in ("SIGTERM", "SIGHUP"):  # the terminal was closed: git's own session would outlive it
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _terminated)
    settings = settings_for(host)
    top = gitfacts.toplevel(os.getcwd())
    if top is None:
        from controller.flows import work_tree

        top = work_tree.top(os.getcwd())
    local = LocalRepository(top, lambda text: progress.show(f"  local: {text}"))
    remote = HostRepository(settings["host"], lambda text: progress.show(f"  host: {text}"))
    return local, remote, settings["notebooks"]


def _terminated(number: int, _: object) -> NoReturn:
    """Leave as one who was told to go does, and let nothing go on that talks to origin for us."""
    gitnet.end_all()
    raise SystemExit(128 + number)


def show_status(
    *,
    fetch: Annotated[bool, typer.Option("--fetch", help="Ask origin first, on both sides.")] = False,
    host: OnHost = None,
    as_json: AsJson = False,
) -> None:
    """Show local, host and origin side by side.

    Read in one round trip to the host. Example: hemma status --fetch
    """
    progress = Progress(is_quiet=as_json)
    local, remote, meant = _clones(host, progress)
    try:
        picture = status.read(local, remote, fetch=fetch, meant=meant)
    finally:
        progress.clear()
    picture["backups_kept"] = {name: settings_for(host)["backup"][name] for name in ("keep_days", "keep_gb")}
    has_drive = _names_drive()
    if as_json:
        console.show_json({**picture, "drive": _drive()} if has_drive else picture)
    else:
        _show(picture)
        if has_drive:
            from controller.cli import colab

            colab.show_beside(picture["host"]["holding"] if picture["host"] else [])
    if picture["problem"]:
        raise typer.Exit(int(picture["problem"]["exit_code"]))


def _names_drive() -> bool:
    """Whether a place for slices is named: told from the bytes, for most repositories have none and status is to be quick."""
    return bool(os.environ.get("HEMMA_DRIVE_PLACE")) or b"drive" in (find_project(os.getcwd())[1] or b"")


def _drive() -> dict[str, Any]:
    from controller.flows import colab_status

    return colab_status.beside(os.getcwd(), os.environ)


def _show(picture: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "BRANCH", "COMMIT", "ORIGIN", "CHANGED", "STASH", "STATE"):
        table.add_column(column, no_wrap=column != "STATE")
    for place in ("local", "host"):
        if picture[place]:
            table.add_row(place, *_cells(picture[place]))
    origin = picture["origin"]
    table.add_row(
        "origin", origin["branch"] or "-", _short(origin["head"]), "", "", "", console.plain(origin["url"] or "none")
    )
    console.show_table(table)
    if picture["problem"]:
        console.line(console.err(), "failed", f"host: {picture['problem']['message']}")
        console.do(console.err(), Command(picture["problem"]["remedy"]))
        return
    _show_details(picture)


def _cells(row: dict[str, Any]) -> list[Any]:
    counts = {"ahead": f"ahead {row['ahead']}", "behind": f"behind {row['behind']}"}
    counts["diverged"] = f"diverged +{row['ahead']} -{row['behind']}"
    marks = [row["operation"] and f"{row['operation']} in progress", row["is_index_locked"] and "index locked"]
    marks += [f"{len(row['holding'])} live runs" if row["holding"] else None]
    marks += [word for word in ("shallow", "sparse") if row[f"is_{word}"]]
    state = ", ".join(mark for mark in marks if mark)
    relation = counts.get(row["relation"], row["relation"])
    return [
        row["branch"] or "(detached)",
        _short(row["head"]),
        relation,
        str(row["entry_count"]),
        str(row["stash_count"]),
        state,
    ]


def _short(commit: str | None) -> str:
    return commit[:9] if commit else "-"


def _show_details(picture: dict[str, Any]) -> None:
    out = console.out()
    against = picture["host"]["against_local"]
    if against is None:
        out.print("host and local: not comparable yet, one lacks the other's commits: hemma sync", markup=False)
    elif against != [0, 0]:
        out.print(f"host and local: {against[0]} commits only on the host, {against[1]} only here", markup=False)
    for place in ("local", "host"):
        for entry in picture[place]["dirty"][:10]:
            drift = f" ({entry['drift']})" if entry["drift"] else ""
            out.print(console.plain(f"  {place}  {entry['kind']}  {entry['path']}{drift}"))
    for run in picture["host"]["holding"]:
        out.print(console.plain(f"  live  {run['run_id']}  {run['command']}"))
    kept = picture["backups_kept"]
    for place in ("local", "host"):
        if (known := picture[place]["backups"]) and known["count"]:
            size = f"{known['disk_bytes'] / 1e6:.1f} MB of disk"
            bounds = f"kept {kept['keep_days']:g} days or {kept['keep_gb']:g} GB"
            out.print(console.plain(f"  {place}  {known['count']} backups, {size}; {bounds}"), style="dim")


def sync(
    *,
    accept: Annotated[
        list[str] | None, typer.Option("--accept", metavar="RULE", help="Go on although this rule asks for a person.")
    ] = None,
    restore: Annotated[
        bool, typer.Option("--restore", help="Origin gets again what was taken from it: commits or a branch.")
    ] = False,
    is_dry: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    host: OnHost = None,
    as_json: AsJson = False,
) -> None:
    """Bring local, host and origin together, by merge only.

    The host pushes, we merge; local commits go to origin and on to the host. Example: hemma sync --dry-run

    Commits or a branch that origin had and has no longer are not pushed again: --accept origin-rewritten goes along with
    it, --restore undoes it.

    Exit codes: 0 in step, 75 a person must decide (with the verdict), 1 git could not, 255 the host cannot be reached.
    """
    if restore and REWRITTEN in (accept or []):
        raise UsageError("--restore undoes what --accept origin-rewritten goes along with", remedy="one of the two")
    unknown = [rule for rule in accept or [] if rule not in ACCEPTABLE]
    if unknown:
        raise UsageError(
            f"--accept {unknown[0]!r} is no rule that can be accepted", remedy=command("one of: {}", listed(ACCEPTABLE))
        )
    from controller.flows import lane
    from controller.flows import sync as flow

    where = lane.ground(os.getcwd(), os.environ)
    progress = Progress(is_quiet=as_json)
    local, remote, meant = _clones(host, progress)
    choice, steps, backups = Choice(tuple(accept or ()), restores=restore), list[Step](), list[str]()

    def say(text: str) -> None:
        progress.clear()
        if not as_json:
            console.err().print(console.plain(f"  {text}"))

    while True:
        try:
            seen = flow.look(local, remote, meant=meant)
        finally:
            progress.clear()
        found = flow.plan(where, seen, choice.accepted, restores=choice.restores)
        if isinstance(found, Escalation):
            found, choice = _judged(where, seen, found, choice, as_json=as_json)
        if is_dry:
            _show_plan(found, as_json=as_json)
            return
        try:
            bounds = {name: settings_for(host)["backup"][name] for name in ("keep_days", "keep_gb")}
            backups += flow.carry_out(dataclasses.replace(seen, bounds=bounds), found, say)
        finally:
            progress.clear()
        steps += found.steps
        if not found.goes_on:
            break
        # What came of it is judged anew; only what origin did was settled, once.
        choice = dataclasses.replace(choice, accepted=tuple(set(choice.accepted) - {REWRITTEN}), restores=False)
    _report(dataclasses.replace(found, steps=tuple(steps)), backups, as_json=as_json)


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a person decided: rules that are accepted, and whether origin gets again what it had."""

    accepted: tuple[str, ...] = ()
    restores: bool = False


def _judged(
    where: lane.Ground, seen: flow.Clones, escalation: Escalation, choice: Choice, *, as_json: bool
) -> tuple[SyncPlan, Choice]:
    """Show the person at the terminal each fact and its diff, and ask once; without one the verdict is all there is (75)."""
    from controller.flows import sync as flow

    refusal = flow.refusal(escalation)
    if as_json:
        raise refusal
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        console.show_json(refusal.as_dict())
        raise refusal
    _show_evidence(seen, escalation)
    rules = [reason.rule for reason in escalation.verdict.reasons]
    chosen = _chosen(rules, choice, escalation)
    if chosen is not None:
        found = flow.plan(where, seen, chosen.accepted, restores=chosen.restores)
        if isinstance(found, SyncPlan):
            return found, chosen
        refusal = flow.refusal(found)
    raise refusal


def _chosen(rules: list[str], choice: Choice, escalation: Escalation) -> Choice | None:
    """What the person at the terminal says to these rules; None: nothing is to be done."""
    if set(rules) & {REWRITTEN, GONE}:
        can_follow = any(f"--accept {REWRITTEN}" in step for step in escalation.verdict.next_steps)
        ways = ["follow"] * can_follow + ["restore", "neither"]
        said = typer.prompt(f"Origin: {', '.join(ways)}?", default="neither", err=True).strip().lower()
        if said == "restore":
            return dataclasses.replace(choice, restores=True)
        if said == "follow" and can_follow:
            return dataclasses.replace(choice, accepted=(*choice.accepted, REWRITTEN))
        return None
    if all(rule in ACCEPTABLE for rule in rules) and typer.confirm("Go on and merge?", default=False, err=True):
        return dataclasses.replace(choice, accepted=(*choice.accepted, *rules))
    return None


def _show_evidence(seen: flow.Clones, escalation: Escalation) -> None:
    from controller.flows import evidence

    err = console.err()
    for reason in escalation.verdict.reasons:
        console.line(err, "needs you", reason.fact)
        shown = evidence.of(seen, reason.rule, escalation.paths[reason.rule])
        for text in shown.splitlines():
            err.print(console.plain(f"  {text}"), style=_LINE_STYLES.get(text[:1], ""))


def _show_plan(plan: SyncPlan, *, as_json: bool) -> None:
    if as_json:
        console.show_json(plan.as_dict())
        return
    out = console.out()
    for number, step in enumerate(plan.steps, 1):
        out.print(console.plain(f"{number}. {step.place}: {step.action}  {', '.join(step.paths) or step.why}"))
    for note in plan.notes:
        out.print(console.plain(f"note: {note}"))
    if not plan.steps:
        out.print("nothing to do: local, host and origin agree")


def _report(plan: SyncPlan, backups: list[str], *, as_json: bool) -> None:
    if as_json:
        console.show_json({**plan.as_dict(), "backups": backups})
        return
    out = console.out()
    for note in plan.notes:
        out.print(console.plain(f"note: {note}"))
    console.line(
        out, "ok", "local, host and origin agree" if not plan.steps else f"in step after {len(plan.steps)} steps"
    )
    if backups:
        out.print(console.plain(f"backup: {backups[0]}"), style="dim")
