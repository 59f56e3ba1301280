"""`hemma gotcha`: what a failure taught, drafted, judged and, when a person approves, written down."""

from __future__ import annotations

import datetime as dt
import os
import sys
from typing import Annotated

import typer

from controller.flows import gotcha as flow
from controller.flows import gotcha_queue as queue
from controller.reports import console
from lanes.failures import FailureFacts
from manifests.commands import command
from manifests.errors import UsageError
from manifests.runbooks import Proposal

_Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
_Cause = Annotated[str, typer.Option("--cause", metavar="TEXT", help="The root cause.")]
_Fix = Annotated[str, typer.Option("--fix", metavar="TEXT", help="What mends it.")]
_Symptom = Annotated[
    str, typer.Option("--symptom", metavar="TEXT", help="What one sees, instead of the evidence line.")
]
_Source = Annotated[
    list[str] | None, typer.Option("--source", metavar="URL", help="Where that can be read, again and again.")
]
_Basis = Annotated[
    str | None, typer.Option("--basis", metavar="WORD", help="Why it is true: root-caused, reproduced or mechanistic.")
]
_General = Annotated[bool, typer.Option("--general", help="It holds elsewhere too.")]
_About = Annotated[
    str | None,
    typer.Option("--about", metavar="WORD", help="Whose it is: host, project, platform, training or universal."),
]
_Platform = Annotated[str | None, typer.Option("--platform", metavar="NAME", help="The platform it belongs to.")]


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    made = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    for name, verb in (("propose", propose), ("list", list_), ("approve", approve), ("reject", reject)):
        made.command(name)(verb)
    app.add_typer(made, name="gotcha", help="Learn from a failure: draft, judge, write down.")


def propose(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run that failed, e.g. last.")] = None,
    *,
    log: Annotated[
        str | None, typer.Option("--log", metavar="FILE", help="A log instead of a run; - for stdin.")
    ] = None,
    symptom: _Symptom = "",
    cause: _Cause = "",
    fix: _Fix = "",
    source: _Source = None,
    basis: _Basis = None,
    general: _General = False,
    about: _About = None,
    platform: _Platform = None,
    corrects: Annotated[
        str | None, typer.Option("--corrects", metavar="ENTRY", help="An entry that is wrong; what it said is kept.")
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", "-H", metavar="NAME", help="Another host than the repository's own.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Draft an entry from a failed run, and say where it belongs. Nothing is written but the draft.

    The catalogue takes what is root-caused, reproduced or clearly mechanistic (--basis) and holds elsewhere too
    (--general), with a public source. The rest becomes a note. Secrets are masked.

    Example: hemma gotcha propose last --cause "the queue's limit is 4 h" --fix "ask for 8 h"

    Exit codes: 0 drafted or known already, 1 failed, 2 usage.
    """
    draft = flow.Draft(about, platform, symptom, cause, fix, source or (), basis, general, corrects)
    text, facts = _material(run, log, host, is_optional=corrects is not None)
    found = flow.propose(text, draft, os.environ, _today(), facts)
    if as_json:
        console.show_json(found)
        return
    for entry in found["known"]:
        console.line(console.out(), "ok", f"known: {entry['id']}: {entry['fix']}")
    if found["proposal"]:
        _show(Proposal.parse(found["proposal"], "the proposal"))


def list_(
    *,
    every: Annotated[bool, typer.Option("--all", "-a", help="Approved and rejected ones too.")] = False,
    as_json: _Json = False,
) -> None:
    """List what waits for a person.

    Example: hemma gotcha list
    """
    found = queue.proposals(every=every)
    if as_json:
        console.show_json([proposal.as_dict() for proposal in found])
        return
    for proposal in found:
        lacks = f", lacks {', '.join(proposal.missing)}" if proposal.missing else ""
        said = f"{proposal.id}  {proposal.status}, {proposal.route}, seen {proposal.seen}{lacks}"
        console.out().print(console.plain(said))
        console.out().print(console.plain(f"    {proposal.symptom}"))
    if not found:
        console.line(console.err(), "ok", "nothing waits")


def approve(
    proposal: Annotated[str, typer.Argument(metavar="ID", help="The proposal, or the beginning of its id.")],
    *,
    symptom: _Symptom = "",
    cause: _Cause = "",
    fix: _Fix = "",
    source: _Source = None,
    basis: _Basis = None,
    general: _General = False,
    about: _About = None,
    platform: _Platform = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the change and stop.")] = False,
    is_yes: Annotated[bool, typer.Option("--yes", "-y", help="The change was looked at.")] = False,
    as_json: _Json = False,
) -> None:
    """Show what a proposal would change, ask, write it with this month's stamp, and check the runbooks again.

    What does not pass the checks is not written. Sources are looked at by whoever approves.

    Example: hemma gotcha approve time-limit-3f2a --source https://slurm.schedmd.com/sbatch.html

    Exit codes: 0 written, 1 not ready, 75 nobody said yes.
    """
    draft = flow.Draft(about, platform, symptom, cause, fix, source or (), basis, general)
    ready = flow.completed(proposal, draft)
    changes = flow.patches(ready, _today())
    if not as_json:
        for change in changes:
            console.out().print(console.block(change.diff().rstrip("\n")))
    if not dry_run:
        _ask(proposal, is_yes=is_yes)
        ready = flow.approve(ready, changes)
    if as_json:
        shown = [{"path": change.path, "diff": change.diff()} for change in changes]
        console.show_json({"proposal": ready.as_dict(), "changes": shown})
    elif not dry_run:
        console.line(console.out(), "ok", ", ".join(change.path for change in changes))
        if ready.route in flow.CATALOGUE:
            _say_how_to_offer([change.path for change in changes])


def _say_how_to_offer(paths: list[str]) -> None:
    """What holds for everybody is worth offering upstream; a person does it, with what they looked at (S17-R06)."""
    named = [os.path.relpath(path) for path in paths]
    patch = "gotcha.patch"
    console.do(console.out(), command("git add {} && git commit -m 'A known failure'", named))
    console.do(console.out(), command("git format-patch -1 --stdout -- {} > {}", named, patch))
    console.do(
        console.out(), command("it holds for everybody: offering upstream is to attach {} to a pull request", patch)
    )


def reject(
    proposal: Annotated[str, typer.Argument(metavar="ID", help="The proposal, or the beginning of its id.")],
    *,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, kept with it.")] = "",
    as_json: _Json = False,
) -> None:
    """Close a proposal; it stays in the list of all.

    Example: hemma gotcha reject time-limit-3f2a --why "a typing slip"
    """
    done = flow.reject(proposal, why)
    if as_json:
        console.show_json(done.as_dict())
    else:
        console.line(console.out(), "ok", f"{done.id} is rejected")


def _ask(name: str, *, is_yes: bool) -> None:
    if is_yes:
        return
    from manifests.errors import NeedsPerson

    if sys.stdin.isatty() and typer.confirm("Write it?", default=False, err=True):
        return
    raise NeedsPerson("a person has to look at the change", remedy=command("hemma gotcha approve {} --yes", name))


def _show(proposal: Proposal) -> None:
    out = console.out()
    console.line(out, "ok", f"{proposal.id}, {proposal.status}")
    for label, text in (
        ("symptom", proposal.symptom),
        ("cause", proposal.cause),
        ("fix", proposal.fix),
        ("code", f"{proposal.category} / {proposal.code}" if proposal.code else proposal.category),
        ("goes to", f"{proposal.route}: {'; '.join(proposal.reasons)}"),
        ("lacks", ", ".join(proposal.missing)),
    ):
        if text:
            out.print(console.plain(f"{label:<9} {text}"))
    console.do(out, command("hemma gotcha approve {} {}", proposal.id, flow.asked_for(proposal)))


def _material(
    run: str | None, log: str | None, host: str | None, *, is_optional: bool
) -> tuple[str, FailureFacts | None]:
    """What the failure wrote and how it ended."""
    if run is not None and log is not None:
        raise UsageError("give either a run or --log, not both", remedy="hemma gotcha propose last")
    if log is not None:
        return _of_file(log), None
    if run is None:
        if is_optional:
            return "", None
        raise UsageError("there is nothing to learn from", remedy="hemma gotcha propose last   or   --log FILE")
    return _of_run(run, host)


def _of_file(path: str) -> str:
    """The end of a log."""
    if path == "-":
        return sys.stdin.buffer.read()[-flow.MOST_LOG :].decode("utf-8", "replace")
    try:
        with open(path, "rb") as file:
            if file.seekable():
                file.seek(max(0, file.seek(0, os.SEEK_END) - flow.MOST_LOG))
            return file.read(flow.MOST_LOG).decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", remedy=command("ls -l {}", path)) from error


def _of_run(run: str, host: str | None) -> tuple[str, FailureFacts]:
    """What a run on the host wrote, or its training's executor found, and its exit code."""
    from controller.cli.run import settings_for
    from controller.flows import failed

    found = failed.of_run(settings_for(host), run)
    return found.text, found.facts


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()
