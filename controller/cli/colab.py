"""`hemma colab`: slices out to Drive, status and results back, without asking a person to run cells."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from controller.cli import colab_run
from controller.cli.colab_place import place_here, slice_here
from controller.flows import colab_status as status_flow
from controller.flows import drive
from controller.reports import console
from controller.reports.drive_runs import show_rows
from lanes.drive_runs import Row, host_row
from manifests.commands import command
from manifests.errors import HemmaError, UsageError
from remote.drive.store import NotInDrive

app = typer.Typer(help="The Colab lane: slices out, status and results back.", no_args_is_help=True)

HOST_WAIT_S = 3.0
WATCH_S, WATCH_FOLDER_S = 15.0, 2.0

AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A link, an id, a run's name or an end of it, or `last`.")]
Runs = Annotated[
    list[str] | None, typer.Argument(metavar="[RUN...]", help="Links, ids, names or ends of them, or `last`.")
]


def register(parent: typer.Typer) -> None:
    """Add these verbs to the command line."""
    colab_run.register(app)
    parent.add_typer(app, name="colab")


@app.command()
def dispatch(
    folder: Annotated[str, typer.Argument(metavar="SLICE", help="The slice's folder, here or on the host.")],
    *,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="FOLDER", help="Link or id of another folder than the setting's `slices`."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring a slice into Drive, each byte proven, and print the link that opens its notebook in Colab.

    Harmless to repeat: what is there already is not sent again, and a break is continued.

    Example: hemma colab dispatch slices/clean-text-0123456789ab
    """
    from controller.flows import colab_dispatch

    folder = slice_here(folder)
    with place_here() as place:
        parent, is_google = _folder_id(place, to) if to else None, place.is_google
        done = colab_dispatch.dispatch(place, folder, parent=parent, progress=_counter(as_json=as_json))
    if as_json:
        console.show_json(done.as_dict())
        return
    console.line(
        console.out(),
        "ok",
        f"{done.slice}: {len(done.sent)} files sent, {len(done.present)} were there; {done.folder_link}",
    )
    if done.note:
        console.line(console.err(), "warn", done.note)
    if done.link and is_google:
        console.do(console.out(), command("open {} and choose Runtime, Run all", done.link))
    elif done.link:
        run = os.path.join(os.path.dirname(os.path.dirname(done.folder_link)), "runs", done.slice)
        line = command("hemma rows run {} --run {}", done.folder_link, run)
        console.do(console.out(), command("{}   (or open {} in Jupyter or Colab, Run all)", line, done.link))


def _folder_id(place: drive.Place, text: str) -> str:
    if not place.is_google:
        top = place.store.name.partition(":")[2]
        if not os.path.isdir(os.path.join(top, text)):
            raise UsageError(f"{top} has no folder {text}", remedy=command("mkdir -p {}", os.path.join(top, text)))
        return text
    link = drive.link_of(text)
    use_key: Callable[[str, str | None], None] | None = getattr(place.store, "use_key", None)
    if use_key:
        use_key(link.id, link.resource_key)
    if place.store.metadata(link.id).kind != "folder":
        raise UsageError(f"{text} is no folder", remedy="give the link of a folder")
    return link.id


@app.command()
def status(
    runs: Runs = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again and again until Ctrl-C, or all is over.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Look at everything, not only at what changed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how runs in Drive stand: stage, progress, rate, time left, last trouble, and what could not be read.

    Without RUN also the live runs of the host, where this folder has one. Example: hemma colab status --watch
    """
    with place_here() as place:
        while True:
            host = _host_rows() if not runs else None
            rows = _rows(place, runs or [], is_fresh=fresh)
            beside = host(HOST_WAIT_S) if host else []
            if as_json:
                console.show_json([status_flow.as_dict(row) for row in [*(beside or []), *rows]])
            else:
                # On a terminal each table takes the place of the one before.
                console.out().clear() if watch and sys.stdout.isatty() else None
                show_rows([*(beside or []), *rows])
            if beside is None:
                console.line(console.err(), "warn", "the host did not answer; its runs are not shown: hemma host check")
            if not watch or (rows and all(row.is_over for row in rows)):
                return
            time.sleep(WATCH_S if place.is_google else WATCH_FOLDER_S)


def _rows(place: drive.Place, words: list[str], *, is_fresh: bool) -> list[Row]:
    try:
        return status_flow.rows(place, words, is_fresh=is_fresh)
    except NotInDrive as error:
        raise HemmaError(error.message, remedy="hemma drive check", code=error.code) from error


def _host_rows() -> Callable[[float], list[Row] | None] | None:
    """The question to the host, under way; None where no host is set."""
    from controller.cli.run import settings_for

    try:
        return status_flow.host_rows(settings_for())
    except HemmaError:
        return None


def show_beside(live: Sequence[Mapping[str, Any]] = ()) -> None:
    """Runs in Drive, and those `live` on the host, under what `hemma status` shows of the clones; a warning on trouble."""
    try:
        with place_here() as place:
            rows = status_flow.rows(place)
    except HemmaError as error:
        if not isinstance(error, UsageError):
            console.line(console.err(), "warn", f"drive: {error.message}")
        return
    if rows:
        console.out().print()
        show_rows([*(host_row(run, time.time()) for run in live), *rows])


@app.command()
def logs(
    run: Run,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run is over.")] = False,
) -> None:
    """Print what a run logged, byte for byte, file after file.

    Example: hemma colab logs -f last
    """
    with place_here() as place, contextlib.suppress(BrokenPipeError):
        status_flow.logs(place, run, follow=follow, write=_write, notice=_notice)


def _write(content: bytes) -> None:
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _notice(text: str) -> None:
    console.err().print(console.plain(text, "dim"))


@app.command()
def doctor(run: Run, *, as_json: AsJson = False) -> None:
    """Look what of a run can be read and what not, why, and what to do about it.

    Also names machines that a run left behind. Example: hemma colab doctor last

    Exit codes: 0 all is well, 1 something is not.
    """
    from controller.flows.colab_session import left_behind

    with place_here() as place:
        found = status_flow.doctor(place, run)
    found["findings"] += left_behind()
    if as_json:
        console.show_json(found)
    else:
        readable = sum(bool(each["content"]) for each in found["files"])
        state = found["run"]["state"]
        console.out().print(f"{found['run']['run']}: {state}, {readable} of {len(found['files'])} files can be read")
        for each in found["findings"]:
            console.line(console.out(), "fail", each["fact"])
            console.do(console.out(), each["do"])
    raise typer.Exit(1 if found["findings"] else 0)


@app.command()
def collect(
    run: Run,
    *,
    to: Annotated[str, typer.Option("--to", metavar="WHERE", help="host, or local.")] = "host",
    into: Annotated[
        str | None, typer.Option("--into", metavar="PATH", help="The folder there; results/colab/RUN if not given.")
    ] = None,
    trash: Annotated[
        bool, typer.Option("--trash", help="Then put the run's folder in Drive into the bin, if all of it arrived.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring a run's results from Drive to the host, or here: what changed only, each byte compared with its checksum.

    Partial results are usable; doing it again brings the rest. Nothing in Drive is changed without --trash.

    Example: hemma colab collect last

    Exit codes: 0 all of it is there, 1 some files could not be had (they are named).
    """
    if to not in ("host", "local"):
        raise UsageError(f"--to {to}: where is that?", remedy="--to host, or --to local")
    with place_here() as place:
        done = _collected(place, run, to, into, progress=_bytes(as_json=as_json))
        if trash and not done.failed:
            place.store.trash(status_flow.find(place, run)[1].id)
    if as_json:
        console.show_json(done.as_dict())
    else:
        where = f"{done.on_host} on the host" if done.on_host else done.folder
        text = f"{done.run}: {len(done.changed)} files, {done.size_bytes} bytes, {done.unchanged} unchanged; {where}"
        console.line(console.out(), "warn" if done.failed else "ok", text)
        for each in done.failed:
            console.line(console.err(), "fail", f"{each['path']}: {each['why']}")
    raise typer.Exit(1 if done.failed else 0)


def _collected(place: drive.Place, word: str, to: str, into: str | None, *, progress: Any) -> Any:
    from controller.cli.run import settings_for
    from controller.flows import colab_collect
    from manifests.places import private_dir, state_dir

    # Before the first byte moves: a missing host is said at once.
    settings = settings_for() if to == "host" else None
    _, run = status_flow.find(place, word)
    name = run.name.replace(os.sep, "_")
    relative = into or f"results/colab/{name}"
    target = (
        private_dir(os.path.join(state_dir(), "drive", "runs", run.id[-40:].replace("/", "_")))
        if settings
        else relative
    )
    done = colab_collect.collect(place, run.name, run.id, target, progress=progress)
    if settings:
        colab_collect.to_host(settings, done, relative)
    return done


def _counter(*, as_json: bool) -> Any:
    """A line that counts files on a terminal; nothing elsewhere."""
    if as_json or not sys.stderr.isatty():
        return None

    def show(done: int, total: int, name: str) -> None:
        console.show_progress("" if done == total else f"{done}/{total} {name}", width=70)

    return show


def _bytes(*, as_json: bool) -> Any:
    """A line that counts files and bytes on a terminal; nothing elsewhere."""
    if as_json or not sys.stderr.isatty():
        return None

    def show(done: int, total: int, size: int) -> None:
        console.show_progress("" if done == total else f"{done}/{total} files, {size / 1e6:.1f} MB")

    return show
