"""`hemma commit` and `hemma push`: on the host's clone, where the change ran (S9-R02, S9-R17)."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from controller.cli.run import settings_for
from controller.flows import commit as flow
from controller.flows import push as push_flow
from controller.flows.git_on_host import GitFailed
from controller.reports import console
from controller.reports.progress import Progress
from lanes.merging import LOGIC_IN_CELLS
from manifests.commands import command
from manifests.errors import UsageError

OnHost = Annotated[str | None, typer.Option("--host", "-H", help="Another host than the repository's own.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (commit, push):
        app.command(verb.__name__)(verb)


def commit(
    paths: Annotated[
        list[str] | None, typer.Argument(help="Only these files, new ones too.", metavar="[PATH]...")
    ] = None,
    *,
    message: Annotated[
        list[str] | None, typer.Option("--message", "-m", help="The message; each further one is a paragraph.")
    ] = None,
    is_all: Annotated[bool, typer.Option("--all", "-a", help="Every changed file that git knows.")] = False,
    accept: Annotated[
        list[str] | None, typer.Option("--accept", metavar="RULE", help="Go on although this rule asks for a person.")
    ] = None,
    host: OnHost = None,
    as_json: AsJson = False,
) -> None:
    """Commit on the host what is staged there, with trailers that say where it ran: Hemma-Host, Hemma-Lane, Hemma-Run.

    Example: hemma commit -m "Train with warmup" src/train.py

    Hemma-Run names the latest run in the clone that still goes on or ended since the last commit.

    Exit codes: 0 committed, 1 nothing to commit, no author is set there, or a hook refused, 75 logic would move into
    the cells of a notebook (--accept logic-in-cells).
    """
    unknown = [rule for rule in accept or [] if rule != LOGIC_IN_CELLS]
    if unknown:
        raise UsageError(
            f"--accept {unknown[0]!r} is no rule that can be accepted", remedy=command("only: {}", LOGIC_IN_CELLS)
        )
    if not message:
        raise UsageError("a commit needs a message", remedy='hemma commit -m "What changed, and why"')
    done = _shown_failing(
        lambda: flow.commit(settings_for(host), message, is_all=is_all, paths=paths or [], accepted=accept or []),
        as_json=as_json,
    )
    for note in done.notes:
        console.line(console.err(), "warn", note)
    if as_json:
        console.show_json(done.as_dict())
        return
    _say(done.said)
    out, count = console.out(), len(done.files)
    where = f" on {done.branch}" if done.branch else ""
    console.line(out, "ok", f"{done.commit[:10]}{where}: {done.subject} ({count} file{'s' * (count != 1)})")
    for name, value in done.trailers.items():
        console.line(out, "", f"{name}: {value}")


def push(*, host: OnHost = None, as_json: AsJson = False) -> None:
    """Push the host's branch to origin; never forced, so origin only moves forward.

    Where the clone's settings push elsewhere (remote.pushDefault, branch.NAME.pushRemote) it goes there, and says so.
    Example: hemma commit -am "Fix the loader" && hemma push

    Exit codes: 0 pushed or nothing to push, 1 refused (origin has more: hemma sync) or a hook failed.
    """
    progress = Progress(is_quiet=as_json)

    def act() -> push_flow.Pushed:
        try:
            return push_flow.push(settings_for(host), lambda text: progress.show(f"  host: {text}"))
        finally:
            progress.clear()

    done = _shown_failing(act, as_json=as_json)
    if as_json:
        console.show_json(done.as_dict())
        return
    _say(done.said)
    what = done.summary if done.is_changed else "nothing to push, it has everything"
    where = f" ({done.url})" if done.url else ""
    console.line(console.out(), "ok", f"{done.remote}/{done.branch}{where}: {what}")


def _shown_failing(act: Any, *, as_json: bool) -> Any:
    """What `act` returns; when git or a hook refuses, its words are shown before the refusal."""
    try:
        return act()
    except GitFailed as failed:
        if not as_json:
            _say(failed.said)
        raise


def _say(said: str) -> None:
    """Words of git, hooks and remotes, made safe to print, on stderr."""
    for text in said.splitlines():
        console.err().print(console.plain(text))
