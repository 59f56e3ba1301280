"""`hemma colab`: slices out to Drive, status and results back, without asking a person to run cells."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Generator
from typing import Annotated, Any

import typer

from controller.flows import colab_status as status_flow
from controller.flows import drive
from controller.reports import console
from controller.reports.drive_runs import show_rows
from lanes.drive_runs import Row
from manifests.errors import HemmaError, UsageError
from remote.drive.store import NotInDrive

app = typer.Typer(help="The Colab lane: slices out, status and results back.", no_args_is_help=True)

WATCH_S = 15.0

AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A link, an id, a run's name or an end of it, or `last`.")]
Runs = Annotated[
    list[str] | None, typer.Argument(metavar="[RUN...]", help="Links, ids, names or ends of them, or `last`.")
]


def register(parent: typer.Typer) -> None:
    """Add these verbs to the command line."""
    parent.add_typer(app, name="colab")


@contextlib.contextmanager
def _place() -> Generator[drive.Place]:
    """The store that the setting `drive` means, closed again at the end. Raises UsageError, NotSignedIn."""
    place = drive.open_place(drive.setting(os.getcwd(), os.environ), os.environ)
    try:
        yield place
    finally:
        place.store.close()


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

    folder = _here(folder)
    with _place() as place:
        parent = _folder_id(place, to) if to else None
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
    if done.link:
        console.line(console.out(), "do", f"open {done.link} and choose Runtime, Run all")


def _here(folder: str) -> str:
    """The slice's folder on this machine, brought from the host where it lies there. Raises HemmaError slice-missing."""
    if os.path.isdir(folder):
        return folder
    from controller.cli.run import settings_for
    from controller.flows import slice_fetch

    return slice_fetch.here(folder, settings_for(None))


def _folder_id(place: drive.Place, text: str) -> str:
    if not place.is_google:
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

    Example: hemma colab status --watch
    """
    with _place() as place:
        while True:
            rows = _rows(place, runs or [], is_fresh=fresh)
            if as_json:
                console.show_json([status_flow.as_dict(row) for row in rows])
            else:
                show_rows(rows)
            if not watch or (rows and all(row.is_over for row in rows)):
                return
            time.sleep(WATCH_S)


def _rows(place: drive.Place, words: list[str], *, is_fresh: bool) -> list[Row]:
    try:
        return status_flow.rows(place, words, is_fresh=is_fresh)
    except NotInDrive as error:
        raise HemmaError(error.message, remedy="hemma drive check", code=error.code) from error


def show_beside() -> None:
    """Runs in Drive under what `hemma status` shows of the clones; nothing where there is none, a warning on trouble."""
    try:
        with _place() as place:
            rows = status_flow.rows(place)
    except HemmaError as error:
        if not isinstance(error, UsageError):
            console.line(console.err(), "warn", f"drive: {error.message}")
        return
    if rows:
        console.out().print()
        show_rows(rows)


@app.command()
def logs(
    run: Run,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run is over.")] = False,
) -> None:
    """Print what a run logged, byte for byte, file after file.

    Example: hemma colab logs -f last
    """
    with _place() as place, contextlib.suppress(BrokenPipeError):
        status_flow.logs(place, run, follow=follow, write=_write, notice=_notice)


def _write(content: bytes) -> None:
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _notice(text: str) -> None:
    console.err().print(console.printable(text), style="dim", markup=False)


@app.command()
def doctor(run: Run, *, as_json: AsJson = False) -> None:
    """Look what of a run can be read and what not, why, and what to do about it.

    Example: hemma colab doctor last

    Exit codes: 0 all is well, 1 something is not.
    """
    with _place() as place:
        found = status_flow.doctor(place, run)
    if as_json:
        console.show_json(found)
    else:
        readable = sum(bool(each["content"]) for each in found["files"])
        state = found["run"]["state"]
        console.out().print(f"{found['run']['run']}: {state}, {readable} of {len(found['files'])} files can be read")
        for each in found["findings"]:
            console.line(console.out(), "fail", each["fact"])
            console.line(console.out(), "do", each["do"])
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
    with _place() as place:
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


@app.command()
def run(
    folder: Annotated[str, typer.Argument(metavar="SLICE", help="The slice's folder, here or on the host.")],
    *,
    gpu: Annotated[
        str | None, typer.Option("--gpu", metavar="GPU", help="T4, L4, G4, A100 or H100; else none.")
    ] = None,
    hours: Annotated[float, typer.Option("--hours", metavar="N", help="No longer than this.")] = 1.0,
    cost_per_hour: Annotated[
        float | None, typer.Option("--cost-per-hour", metavar="N", help="What an hour costs you; 0 when free.")
    ] = None,
    max_cost: Annotated[
        float, typer.Option("--max-cost", metavar="N", help="All attempts at this slice together.")
    ] = 0.0,
    max_gpu_hours: Annotated[
        float | None, typer.Option("--max-gpu-hours", metavar="N", help="All attempts together; else --hours.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Paid work and GPU time are approved.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a slice on a Colab machine with no hand on it, follow it through Drive, and give the machine back.

    Through Google's own `colab` program (uv tool install google-colab-cli). The session is stopped whatever happens.

    Example: hemma colab run slices/clean-text-0123456789ab --gpu T4 --cost-per-hour 0.2 --max-cost 1 --yes

    Exit codes: 0 done, 1 the notebook failed, 75 it needs your yes, 124 out of time.
    """
    from controller.flows import colab_run
    from remote.colab_cli import ColabProgram

    request = colab_run.Request(_here(folder), gpu, hours, cost_per_hour, max_cost, max_gpu_hours, yes)
    program = ColabProgram(os.environ)
    with _place() as place:
        done = colab_run.run(place, request, program, _silent if as_json else _show_event)
    if as_json:
        console.show_json(done)
    else:
        console.line(console.out(), "ok", f"{done['run']}: {done['status'].get('state', 'done')}")
        console.line(console.out(), "do", f"hemma colab collect {done['run']}")


def _silent(event: dict[str, Any]) -> None:
    """Under --json only the result is printed."""


def _show_event(event: dict[str, Any]) -> None:
    words = {
        "dispatched": lambda: f"{event['slice']} is in Drive ({event['sent']} files sent)",
        "session": lambda: f"session {event['session']} runs{' on a ' + event['gpu'] if event['gpu'] else ''}",
        "mounted": lambda: "Drive is mounted there; the notebook runs",
        "status": lambda: f"{event['state']}: {event['done']} of {event['total']} rows",
        "stopped": lambda: f"session {event['session']} is stopped",
    }
    _notice(words[event["kind"]]())


@app.command()
def sessions(
    *,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the strays; other programs' sessions stay.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the Colab sessions that run; one of ours with nobody behind it burns units and is named a stray.

    Example: hemma colab sessions --stop

    Exit codes: 0 no stray, 1 there are strays.
    """
    from controller.flows import colab_run
    from remote.colab_cli import ColabProgram

    program = ColabProgram(os.environ)
    live, strays = colab_run.listed(program)
    if stop:
        for stray in strays:
            colab_run.end(program, stray.name)
            console.line(console.err(), "ok", f"{stray.name} is stopped")
        live, strays = colab_run.listed(program)
    if as_json:
        console.show_json(
            {"sessions": [dataclasses.asdict(e) for e in live], "strays": [dataclasses.asdict(e) for e in strays]}
        )
    else:
        for each in live:
            console.out().print(console.plain(f"{each.name}  {each.hardware}  {each.endpoint}"))
        for stray in strays:
            console.line(console.out(), "fail", f"{stray.name}: {stray.why}")
            console.line(console.out(), "do", stray.do)
        if not live:
            console.err().print("no session runs")
    raise typer.Exit(1 if strays else 0)


def _counter(*, as_json: bool) -> Any:
    """A line that counts files on a terminal; nothing elsewhere."""
    if as_json or not sys.stderr.isatty():
        return None

    def show(done: int, total: int, name: str) -> None:
        sys.stderr.write(
            f"\r\033[K{done}/{total} {console.printable(name)[:60]}" + ("\r\033[K" if done == total else "")
        )
        sys.stderr.flush()

    return show


def _bytes(*, as_json: bool) -> Any:
    """A line that counts files and bytes on a terminal; nothing elsewhere."""
    if as_json or not sys.stderr.isatty():
        return None

    def show(done: int, total: int, size: int) -> None:
        sys.stderr.write(f"\r\033[K{done}/{total} files, {size / 1e6:.1f} MB" + ("\r\033[K" if done == total else ""))
        sys.stderr.flush()

    return show
