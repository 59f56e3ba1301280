"""`hemma edit`, `put`, `get` and `apply`: change files where they run, on the host (S9-R02, S9-R03)."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from controller.cli.run import settings_for
from controller.flows import apply as patches
from controller.flows import edit as editing
from controller.flows import files as flow
from controller.reports import console
from manifests.commands import command
from manifests.errors import UsageError

# Anything smaller is there before a bar could be read.
_BIG_BYTES = 8 << 20

OnHost = Annotated[str | None, typer.Option("--host", "-H", help="Another host than the repository's own.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (edit, put, get, apply):
        app.command(verb.__name__)(verb)


def edit(
    path: Annotated[str, typer.Argument(help="A file of the repository.", metavar="PATH")],
    *,
    create: Annotated[bool, typer.Option("--create", help="Begin a new file when there is none.")] = False,
    host: OnHost = None,
) -> None:
    """Open the host's file in $VISUAL or $EDITOR here, and write it back in one step when it was changed.

    Example: hemma edit src/train.py

    PATH is as in your local clone: from the folder you stand in; outside of one, from the repository's root.

    Exit codes: 0 written, or nothing was changed; 1 no such file, or the editor failed; 75 the file has changed on the
    host meanwhile (nothing is written, your text is kept and named).
    """
    done = editing.edit(settings_for(host), path, may_create=create, environ=os.environ, say=_note)
    what = "written" if done.is_changed else "not changed, nothing was written"
    console.line(console.out(), "ok", f"{done.path}: {'new, ' if done.is_new else ''}{what}")


def put(
    paths: Annotated[list[str], typer.Argument(help="Local files, then the place on the host.", metavar="FILE")],
    *,
    parents: Annotated[bool, typer.Option("--parents", "-p", help="Make missing folders.")] = False,
    host: OnHost = None,
    as_json: AsJson = False,
) -> None:
    """Put local files on the host: REMOTE is a folder there, or the file's new name. A lone LOCAL goes to its own place.

    Example: hemma put config.yaml data/labels.csv

    Each file replaces another in one step once it has arrived whole; what it replaces is kept on the host for two weeks.
    """
    locals_, remote = (paths[:-1], paths[-1]) if len(paths) > 1 else (paths, None)
    with _bar() as progress:
        moved = flow.put(settings_for(host), locals_, remote, parents=parents, progress=progress)
    _show(moved, as_json=as_json, is_put=True)


def get(
    paths: Annotated[list[str], typer.Argument(help="Files on the host, then the local place.", metavar="FILE")],
    *,
    host: OnHost = None,
    as_json: AsJson = False,
) -> None:
    """Bring files from the host: LOCAL is a folder here, or the file's new name. A lone REMOTE goes to its own place.

    Example: hemma get runs/last/metrics.json .

    Each file takes its place in one step once its digest is right; what it replaces is kept in Hemma's state folder.
    """
    remotes, local = (paths[:-1], paths[-1]) if len(paths) > 1 else (paths, None)
    with _bar() as progress:
        moved = flow.get(settings_for(host), remotes, local, progress=progress)
    _show(moved, as_json=as_json, is_put=False)


def apply(
    patch: Annotated[str, typer.Argument(help="A patch file, or - for stdin.", metavar="PATCH")],
    *,
    check: Annotated[bool, typer.Option("--check", help="Only say what would happen.")] = False,
    conflicts: Annotated[
        bool, typer.Option("--conflicts", help="Apply also with conflicts, both sides marked in the files.")
    ] = False,
    host: OnHost = None,
    as_json: AsJson = False,
) -> None:
    """Apply a patch on the host with `git apply --3way`: the whole of it or, on any trouble, nothing.

    Example: git diff-index -p --binary HEAD -- src | hemma apply -

    What was applied is staged there; `hemma commit -m MESSAGE` commits it.

    Exit codes: 0 applied (or would be), 1 refused or in conflict, and nothing was changed unless --conflicts was given.
    """
    done = patches.apply(settings_for(host), _read(patch), is_check=check, with_conflicts=conflicts)
    if as_json:
        console.show_json(done.as_dict())
    else:
        _show_applied(done, is_check=check)
    if done.conflicts:
        raise typer.Exit(1)


def _read(patch: str) -> bytes:
    if patch == "-":
        return sys.stdin.buffer.read()
    try:
        with open(patch, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"{patch} cannot be read: {error.strerror}", remedy=command("ls -l {}", patch)) from error


def _show_applied(done: patches.Applied, *, is_check: bool) -> None:
    out = console.out()
    for note in done.notes:
        _note(note)
    for part in done.parts:
        counts = "binary" if part.added is None else f"+{part.added} -{part.removed}"
        console.line(out, "fail" if part.is_conflicted else "ok", f"{part.path}  {counts}")
    if not done.conflicts:
        word = "would be applied" if is_check else "applied and staged; next: hemma commit -m MESSAGE"
        console.line(out, "ok", f"{len(done.parts)} file{'s' * (len(done.parts) != 1)} {word}")
        return
    err = console.err()
    names = ", ".join(done.conflicts)
    if done.is_applied:
        console.line(err, "needs you", f"applied with conflicts, both sides are marked in: {names}")
        console.do(err, command("hemma edit {}; then hemma commit -a -m MESSAGE", done.conflicts[0]))
    else:
        console.line(err, "refused", f"in conflict with what the host has: {names}; nothing was applied")
        console.do(err, "hemma apply --conflicts PATCH marks both sides in the files there")


def _show(moved: Sequence[flow.Moved], *, as_json: bool, is_put: bool) -> None:
    for each in moved:
        if each.note:
            _note(each.note)
    if as_json:
        console.show_json([each.as_dict() for each in moved])
        return
    out = console.out()
    for each in moved:
        here, there = (each.local, f"host:{each.path}") if is_put else (f"host:{each.path}", each.local)
        what = "new" if each.is_new else "replaced" if each.is_changed else "the same already"
        console.line(out, "ok", f"{here} -> {there}  {_size(each.size)}, {what}")
        if each.kept:
            console.line(out, "", f"the former one is kept in {'host:' if is_put else ''}{each.kept}")


def _note(text: str) -> None:
    console.line(console.err(), "warn", text)


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return ""


@contextmanager
def _bar() -> Generator[flow.Progress]:
    """A progress bar per big file on stderr, where a person watches it."""
    if not sys.stderr.isatty():
        yield flow.no_progress
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console.err(), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, size: int) -> None:
            if size < _BIG_BYTES:
                return
            if name not in tasks:
                tasks[name] = bar.add_task(console.printable(name), total=size)
            bar.update(tasks[name], completed=done, total=size)

        yield show
