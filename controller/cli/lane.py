"""`hemma lane`: which lane a path, a command, a manifest or a change belongs to, and what to do next."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperCommand

from controller.flows import lane as flow
from controller.reports import console
from controller.reports.console import Table
from lanes.classification import Decision
from manifests.errors import UsageError

# Scripts branch on these; 1 and 2 stay what they are everywhere, 0 is a change without a file.
EXIT_CODES = {"none": 0, "hemma": 10, "colab": 11, "local": 12, "mixed": 13}
_WORDS = "hemma.lane.command"

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class _LaneCommand(TyperCommand):
    """Takes everything after --command as the command's own words, options of ours or not."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Cut at --command (before any `--`); one `--` after it is passed over."""
        ours = args[: args.index("--")] if "--" in args else args
        if "--command" in ours:
            at = ours.index("--command")
            words = args[at + 1 :]
            ctx.meta[_WORDS] = words[1:] if words[:1] == ["--"] else words
            args = args[: at + 1]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command("lane", cls=_LaneCommand)(lane)


def lane(
    ctx: typer.Context,
    paths: Annotated[list[str] | None, typer.Argument(metavar="PATH...", help="Files or folders.")] = None,
    command: Annotated[
        bool, typer.Option("--command", help="All that follows is a command, or one quoted shell line.")
    ] = False,
    manifest: Annotated[str | None, typer.Option("--manifest", help="A manifest (YAML).", metavar="FILE")] = None,
    diff: Annotated[
        str | None, typer.Option("--diff", help="What differs from a revision, or within A..B.", metavar="REV")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which lane work belongs to, who owns its edits, who commits it, which rule says so, and what to do next.

    Examples: hemma lane src/train.py docs/guide.md

    hemma lane --json --command python train.py --epochs 3

    hemma lane --diff main

    Rules: [tool.hemma.lanes], then the built-in ones; the first match decides, and what none knows is the host's.

    Exit codes: 10 hemma, 11 colab, 12 local, 13 mixed (split, in the order to do it), 0 nothing changed, 2 usage,
    67 --diff outside a repository.
    """
    given = [bool(paths), command, manifest is not None, diff is not None]
    if sum(given) != 1:
        raise UsageError(
            "one of PATH..., --command, --manifest and --diff is needed" + (", not several" if any(given) else ""),
            remedy="hemma lane src/train.py   (or: hemma lane --help)",
        )
    where = flow.ground(os.getcwd(), os.environ)
    if command:
        report = flow.of_command(where, ctx.meta[_WORDS])
    elif manifest is not None:
        report = flow.of_manifest(where, manifest)
    elif diff is not None:
        report = flow.of_revision(where, diff)
    else:
        report = flow.of_paths(where, paths or [])
    code = EXIT_CODES[report.lane]
    if as_json:
        console.show_json({**report.as_dict(), "exit_code": code})
    else:
        show(report)
    raise typer.Exit(code)


def show(report: flow.Report) -> None:
    """The report for people: a table, and each lane's commands in the order to do them in."""
    if not report.answers:
        console.err().print("nothing is changed")
        return
    console.show_table(_table(report.answers))
    for part in report.parts:
        _show_steps(part, len(report.parts))
    if len(report.parts) > 1:
        order = ", then ".join(part.lane for part in report.parts)
        console.err().print(f"mixed: {order}; one commit never spans two lanes")


def _table(answers: tuple[flow.Answer, ...]) -> Table:
    changed = any(answer.letters for answer in answers)
    columns = ("GIT", "WHAT", "LANE", "RULE", "DO") if changed else ("WHAT", "LANE", "EDITS", "COMMITS", "RULE", "WHY")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for answer in answers:
        table.add_row(*(_cell(text, answer.decision) for text in _texts(answer, changed=changed)))
    return table


def _texts(answer: flow.Answer, *, changed: bool) -> tuple[str, ...]:
    told = answer.decision
    if changed:
        return answer.letters, told.subject, told.lane, told.rule, answer.step
    return told.subject, told.lane, told.owner, told.commits, told.rule, told.why


def _cell(text: str, decision: Decision) -> Text:
    # The safe side was taken because no rule knew: worth a second look.
    style = "yellow" if text == decision.rule and not decision.known else ""
    return console.plain(text, style)


def _show_steps(part: flow.Part, count: int) -> None:
    out = console.out()
    if count > 1 and part.next_steps:
        out.print()
        out.print(f"{part.lane} ({len(part.subjects)})", style="bold")
    for step in part.next_steps:
        console.do(out, step)
