"""`hemma notebook`: cells instead of JSON. Also what git calls for its clean filter, merge driver and diff."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from typing import Annotated

import typer
from rich.text import Text

from controller.flows import notebook as flow
from controller.reports import console
from lanes.notebook_format import NotebookPolicy
from lanes.notebook_merge import Conflict
from lanes.notebook_rules import Finding
from lanes.notebooks import CellChange, NotebookDiff, as_text
from manifests.commands import Command, Remedy, command
from manifests.errors import UsageError
from manifests.files import atomic_write

app = typer.Typer(help="Cells instead of JSON: compare, check, clean and merge notebooks.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Outputs = Annotated[bool, typer.Option("--outputs", help="Outputs count: they are compared and kept.")]
Widgets = Annotated[bool, typer.Option("--widgets", help="The state of widgets counts too.")]
Intended = Annotated[
    list[str] | None, typer.Option("--intended", help="A metadata key that was set on purpose.", metavar="KEY")
]

_LINE_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def register(parent: typer.Typer) -> None:
    """Make `hemma notebook` a verb of `parent`."""
    parent.add_typer(app, name="notebook")


def _policy(outputs: bool, widgets: bool, intended: list[str] | None) -> NotebookPolicy:
    return NotebookPolicy(
        outputs_are_metadata=not outputs, widgets_are_metadata=not widgets, intended=frozenset(intended or ())
    )


@app.command()
def diff(
    words: Annotated[list[str], typer.Argument(metavar="[A] B", help="Files, or REV:path; one alone against HEAD.")],
    *,
    outputs: Outputs = False,
    widgets: Widgets = False,
    intended: Intended = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 1 when they differ in meaning.")] = False,
    as_json: Json = False,
) -> None:
    """Show which cells changed, and whether anything of meaning did.

    Example: hemma notebook diff HEAD~1:train.ipynb train.ipynb

    As git's external diff: GIT_EXTERNAL_DIFF='hemma notebook diff --' git diff. Exit codes: 0, 1 as --exit-code says, 2 a
    notebook cannot be read.
    """
    both = flow.sides(words)
    found = flow.diff(both, _policy(outputs, widgets, intended))
    if as_json:
        console.show_json(dataclasses.asdict(found))
    else:
        _show_diff(both.before[0], both.after[0], found)
    raise typer.Exit(int(exit_code and found.is_meaningful))


@app.command()
def text(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file, or REV:path.")],
    *,
    outputs: Outputs = False,
    widgets: Widgets = False,
    intended: Intended = None,
) -> None:
    """Print the meaning of a notebook as plain text (git's textconv).

    Example: hemma notebook text train.ipynb
    """
    console.show_content(
        as_text(flow.load(file), _policy(outputs, widgets, intended)).encode("utf-8", "backslashreplace")
    )


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files, or REV:path.")], as_json: Json = False
) -> None:
    """Find what does not belong into a thin notebook: logic, commands that are not committed, secrets.

    Example: hemma notebook check notebooks/*.ipynb

    A cell may install, define paths, and invoke committed commands (!hemma ..., !python -m ...). Exit codes: 0 thin, 1
    something was found, 2 a notebook cannot be read.
    """
    found = flow.check(files)
    if as_json:
        console.show_json(
            [{"file": name, **dataclasses.asdict(finding)} for name, findings in found.items() for finding in findings]
        )
    else:
        _show_findings(found)
    raise typer.Exit(int(any(found.values())))


@app.command()
def strip(*, outputs: Outputs = False, widgets: Widgets = False, intended: Intended = None) -> None:
    """Read a notebook from stdin, write its normal form to stdout (git's clean filter).

    Example: hemma notebook strip < train.ipynb > clean.ipynb

    What is no notebook goes through as it is.
    """
    from lanes.notebooks import strip as normal_form

    if sys.stdin.isatty():
        raise UsageError("a notebook is read from stdin", remedy="hemma notebook strip < train.ipynb")
    console.show_content(normal_form(sys.stdin.buffer.read(), _policy(outputs, widgets, intended)))


@app.command()
def merge(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The common ancestor (%O).")],
    ours: Annotated[str, typer.Argument(metavar="OURS", help="Ours (%A); the result is written here.")],
    theirs: Annotated[str, typer.Argument(metavar="THEIRS", help="Theirs (%B).")],
    name: Annotated[str | None, typer.Argument(metavar="[PATH]", help="The path to show (%P).")] = None,
    *,
    outputs: Outputs = False,
    widgets: Widgets = False,
    intended: Intended = None,
    stripped: Annotated[bool, typer.Option("--strip", help="Write the result in its normal form.")] = False,
    as_json: Json = False,
) -> None:
    """Merge three notebooks cell by cell (git's merge driver).

    Example: hemma notebook merge base.ipynb mine.ipynb theirs.ipynb

    Where both sides changed the same, both versions stand in the result, between markers. Exit codes: 0 clean, 1 conflicts.
    """
    conflicts = flow.merge_files(base, ours, theirs, _policy(outputs, widgets, intended), is_stripped=stripped)
    if as_json:
        console.show_json([dataclasses.asdict(conflict) for conflict in conflicts])
    else:
        _show_conflicts(name or ours, conflicts)
    raise typer.Exit(int(bool(conflicts)))


@app.command()
def build(
    source: Annotated[str, typer.Argument(metavar="SLICE|MANIFEST", help="A slice's folder, or a slice's manifest.")],
    *,
    sealed: Annotated[
        bool, typer.Option("--sealed/--thin", help="Carry the source in a cell; thin calls the slice's.")
    ] = False,
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="Where; `-` is stdout.")] = "-",
    here: Annotated[
        bool, typer.Option("--here", help="A manifest: in this clone, which is the one that counts.")
    ] = False,
    host: Annotated[
        str | None, typer.Option("--host", "-H", metavar="NAME", help="Another host than the repository's own.")
    ] = None,
) -> None:
    """Generate the notebook of a slice: five sections, the same bytes every time, safe to run again.

    From a manifest the slice is gathered on the host and not written. Example: hemma notebook build SLICE -o run.ipynb

    Runs unmodified on Colab, Kaggle and plain Jupyter.
    """
    from controller.cli.slice import made
    from controller.flows import notebook_build

    flavour = "sealed" if sealed else "thin"
    if notebook_build.is_slice(source):
        content = notebook_build.from_slice(source, flavour)
    else:
        found = made(source, {"dry": True, "notebook": flavour}, here=here, host=host, quiet=True)
        content = notebook_build.proven(str(found["notebook"]).encode("utf-8"), source)
    if out == "-":
        console.show_content(content)
        return
    atomic_write(out, content, mode=None)
    console.line(console.err(), "ok", f"{out}: {len(content)} bytes, {flavour}")


def _place(index: int | None, heading: str) -> str:
    if index is None:
        return "notebook"
    return f"cell {index} ({heading})" if heading else f"cell {index}"


def _show_diff(before: str, after: str, found: NotebookDiff) -> None:
    out = console.out()
    for change in found.changes:
        out.print(console.plain(f"{_place(change.index, change.heading)}  {change.what}", style="bold"))
        for line in _changed_lines(change):
            out.print(Text("  ") + line)
    if found.drift:
        out.print(console.plain(f"metadata  {', '.join(found.drift)}", style="dim"))
    names = before if before == after else f"{before} -> {after}"
    out.print(console.plain(f"{found.kind}  {names}"))


def _changed_lines(change: CellChange) -> list[Text]:
    if change.what in {"order", "cell_type"}:
        return [console.plain(f"{change.before} -> {change.after}")]
    lines = list(difflib.unified_diff(change.before.split("\n"), change.after.split("\n"), n=2, lineterm=""))[2:]
    if not change.before or not change.after:
        lines = [line for line in lines if line not in {"-", "+"}]
    # Where a change is says nothing when it is at the beginning.
    lines = [line for line in lines if not line.startswith(("@@ -0", "@@ -1 ", "@@ -1,"))]
    return [console.plain(line, style=_LINE_STYLES.get(line[:1], "")) for line in lines]


def _show_findings(found: dict[str, list[Finding]]) -> None:
    out = console.out()
    for name, findings in found.items():
        for finding in findings:
            line = f" line {finding.line}" if finding.line else ""
            place = f"{name}: {_place(finding.index, finding.heading)}{line}"
            console.line(out, "fail", f"{place}: {finding.fact} [{finding.rule}]")
        if not findings:
            console.line(out, "ok", f"{name}: thin")
    mends: dict[str, Remedy] = {each.rule: each.mend for findings in found.values() for each in findings}
    for rule, mend in mends.items():
        console.do(out, command("{}: {}", rule, Command(mend)))


def _show_conflicts(name: str, conflicts: tuple[Conflict, ...]) -> None:
    err = console.err()
    for conflict in conflicts:
        place = _place(conflict.index, conflict.heading)
        console.line(err, "needs you", f"{name}: {place}: both sides changed it ({conflict.what})")
    if conflicts:
        console.do(err, "open it, choose between the versions, delete the markers, then: git add")
