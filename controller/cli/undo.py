"""`hemma undo`: a clone as it was before a run, or at a time; all of it or chosen files."""

from __future__ import annotations

import datetime as dt
import os
import sys
from typing import Annotated, Any

import typer

from controller.cli.run import settings_for
from controller.flows import undo as flow
from controller.reports import console
from controller.reports.console import Table
from manifests.errors import NeedsPerson, UsageError
from remote.agent.gitfacts import toplevel
from remote.repository import HostRepository, LocalRepository, Repository

_SHOWN = 12


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command("undo")(undo)


def undo(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN|TIME|BACKUP] [PATH]...", help="What to go back to; only these files."),
    ] = None,
    *,
    is_list: Annotated[
        bool, typer.Option("--list", help="List the backups, and what going back would change.")
    ] = False,
    is_dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    is_sure: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    is_local: Annotated[bool, typer.Option("--local", help="This machine's clone, not the host's.")] = False,
    host: Annotated[
        str | None, typer.Option("--host", "-H", metavar="NAME", help="Another host than the repository's own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Put the host's clone back as it was before a run, or at a time.

    What is there now is backed up first; the last line names that backup, the way forward again. Another undo without a
    name goes further back. Files made since stay. It asks; without a terminal it takes -y. Example: hemma undo last train.py

    Exit codes: 0 done or nothing to do, 2 no such backup, 75 another git command is at work or nobody can be asked, 255 the host cannot be reached.
    """
    target = flow.target(words or [], dt.datetime.now().astimezone())
    repository = _repository(host, is_local=is_local)
    if is_list:
        _list(repository, target, as_json=as_json)
        return
    is_asked = not is_sure and not is_dry
    can_answer = not as_json and sys.stdin.isatty() and sys.stderr.isatty()
    reply: dict[str, Any] = {}
    if is_dry or is_asked:
        reply = repository.undo(action="restore", dry_run=True, **target.fields())
        if not as_json:
            _show(reply, is_done=False)
    if is_asked and reply["restored"] and not reply["restored"]["is_empty"]:
        if not can_answer:
            raise NeedsPerson(
                "an undo changes files and refs, and there is no terminal to ask at; nothing was changed",
                remedy="the same command with -y; with --dry-run it shows all of it",
                code="not-asked",
            )
        if not typer.confirm("Go back to this?", default=False, err=True):
            raise typer.Exit(1)
        # What was shown is what is meant, whatever was backed up meanwhile.
        target = target._replace(what=reply["backup"]["ref"], at_s=None)
    if not is_dry and not (is_asked and (not reply["restored"] or reply["restored"]["is_empty"])):
        reply = repository.undo(action="restore", dry_run=False, **target.fields())
        if not as_json:
            _show(reply, is_done=True)
    if as_json:
        console.show_json({name: reply.get(name) for name in ("root", "backup", "restored")})


def _repository(host: str | None, *, is_local: bool) -> Repository:
    if not is_local:
        return HostRepository(settings_for(host)["host"])
    if host is not None:
        raise UsageError("--local and --host do not go together", remedy="hemma undo --local")
    top = toplevel(os.getcwd())
    if top is None:
        from controller.flows import work_tree

        top = work_tree.top(os.getcwd())
    return LocalRepository(top)


def _list(repository: Repository, target: flow.Target, *, as_json: bool) -> None:
    if target.what is not None:
        raise UsageError("--list takes files only", remedy="hemma undo --list [PATH...]")
    reply = repository.undo(action="list", paths=target.paths)
    if as_json:
        console.show_json({name: reply[name] for name in ("root", "backups", "of_earlier")})
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("BACKUP", "TIME", "WHY", "GOING BACK CHANGES"):
        table.add_column(column, no_wrap=column in {"BACKUP", "TIME"})
    for row in reply["backups"]:
        name = row["ref"].rpartition("/")[2]
        why = row["reason"] + (f" {row['run_id']}" if row["run_id"] else "")
        changes = row.get("problem") or (flow.counts(row["changes"]) if row["changes"] else "")
        table.add_row(name, _time(row["at"]), why, changes)
    console.show_table(table)
    err = console.err()
    if not reply["backups"]:
        err.print("no backup yet: the next run makes one")
    for ref in reply["of_earlier"]:
        err.print(console.plain(f"a commit that was kept by itself: {ref}   (git show, git log, git stash apply)"))


def _time(at_s: float) -> str:
    return dt.datetime.fromtimestamp(at_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _show(reply: dict[str, Any], *, is_done: bool) -> None:
    out, done = console.out(), reply["restored"]
    if done is None:
        console.line(out, "ok", "nothing to undo: no backup differs from what is there now")
        return
    about = reply["backup"]
    why = about["reason"] + (f" {about['run_id']}" if about["run_id"] else "")
    head = f"{flow.counts(done)}  ({_time(about['at'])}, {why})"
    if done["is_empty"]:
        console.line(out, "ok", f"as it was {head.partition('  ')[2]}")
        return
    console.line(out, "ok" if is_done else "would", head)
    _rows(out, "head", [f"{done['head'][0]} -> {done['head'][1]}"] if done["head"] else [])
    _rows(out, "ref", [f"{each['name']}  {_short(each['before'])} -> {_short(each['after'])}" for each in done["refs"]])
    _rows(out, "stash", [f"{done['stashes'][0]} -> {done['stashes'][1]}"] if done["stashes"] else [])
    for name in ("files", "removed", "beside", "kept"):
        _rows(
            out,
            {"files": "file", "beside": "state", "kept": "stays"}.get(name, name),
            done[name],
            done["counts"].get(name),
        )
    _rows(out, "aside", [f"{each['path']} -> {each['to']}" for each in done["moved"]])
    _rows(console.err(), "not back", [f"{each['path']}: {each['why']}" for each in done["missing"]])
    if is_done and done["saved"]:
        out.print(console.plain(f"undo this: hemma undo {done['saved'].rpartition('/')[2]}"), style="dim")


def _rows(to: console.Console, word: str, rows: list[str], count: int | None = None) -> None:
    for row in rows[:_SHOWN]:
        to.print(console.plain(f"  {word:9}{row}"))
    more = (len(rows) if count is None else count) - _SHOWN
    if more > 0:
        to.print(console.plain(f"  {word:9}and {more} more (--json names them)"))


def _short(oid: str | None) -> str:
    return "none" if oid is None else oid if "/" in oid else oid[:9]
