"""`hemma init`: make any repository one that Hemma knows, and ask once what is usual for its person and its host."""

from __future__ import annotations

import datetime as dt
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from controller import trust
from controller.flows import hosts_file, verify_ci
from controller.flows import init as flow
from controller.flows.host_paths import on_host
from controller.reports import console
from controller.reports.console import Table
from manifests.commands import Remedy, command, literal
from manifests.errors import HemmaError, UsageError
from remote import clone_witness

if TYPE_CHECKING:
    from controller.flows import interview as interviewing
    from lanes.interview import Question

EXIT_INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command("init")(init)


def init(
    host: Annotated[
        str | None, typer.Option(help="Host of your config.toml, or an ssh alias.", metavar="ALIAS")
    ] = None,
    root: Annotated[str | None, typer.Option(help="The repository's path on the host.", metavar="PATH")] = None,
    env: Annotated[list[str] | None, typer.Option(help="For every command on the host.", metavar="NAME=VALUE")] = None,
    lane: Annotated[list[str] | None, typer.Option(help="Where a path's edits belong.", metavar="GLOB=LANE")] = None,
    force: Annotated[bool, typer.Option("--force", help="Change keys that say something else.")] = False,
    ci: Annotated[bool, typer.Option("--ci", help="Also the workflow and hook that run hemma verify.")] = False,
    platform: Annotated[str | None, typer.Option(help="A platform of the runbooks, or ssh.", metavar="NAME")] = None,
    entry: Annotated[str | None, typer.Option(help="What a run starts.", metavar="FILE")] = None,
    configs: Annotated[str | None, typer.Option(help="Folder of the runs' configurations.", metavar="PATH")] = None,
    tracker: Annotated[str | None, typer.Option(help="Your name there, or OWNER/SPACE.", metavar="NAME")] = None,
    tracker_key: Annotated[
        str | None, typer.Option(help="Variable or path where its key lives; never the key.", metavar="NAME")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="Usual plan, e.g. 'required 8h'.", metavar="PLAN")] = None,
    disk_gb: Annotated[str | None, typer.Option(help="Disk budget for kept runs, in GB.", metavar="GB")] = None,
    answers: Annotated[str | None, typer.Option(help="Answers as YAML or JSON.", metavar="FILE")] = None,
    interview: Annotated[
        bool | None, typer.Option("--interview/--no-interview", help="Ask, or not; else at a first run at a terminal.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Only show what is known, and from where.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --show: JSON on stdout.")] = False,
) -> None:
    """Write [tool.hemma] into pyproject.toml.

    And the run-hemma script of PDM. What is there already stays. At a terminal the first run asks what else is usual:
    platform, entry point, tracker, GPU plan, disk budget. What is yours or a host's is kept for the next repository.

    Example: hemma init --host gpu-box --root '~/work/repo'

    Example: hemma init --answers setup.yaml

    With --ci and nothing else: only a GitHub workflow and pre-commit hooks that run `hemma verify`; and the checks of
    the memory and the runbooks, where the repository has them.

    Running it again changes nothing. Exit codes: 0 done, 2 the request or the file cannot be read, 130 left.
    """
    if as_json and not show:
        raise UsageError("--json goes with --show", remedy="hemma init --show --json")
    path = flow.target(os.getcwd())
    if show:
        _show(path, as_json=as_json)
        return
    said = {"host": host, "root": on_host(root), "platform": platform, "entry": entry, "configs": configs}
    said |= {"tracker": tracker, "tracker_key": on_host(tracker_key), "gpu": gpu, "disk_gb": disk_gb}
    options = {key: value for key, value in said.items() if value is not None}
    if ci and not (options or env or lane or answers or interview):
        _write_ci(os.path.dirname(path))
        return
    text = flow.read(path)
    was_trusted = trust.is_trusted(os.path.dirname(path), flow.present(text, path))
    given, is_asked = _answered(path, options, answers, interview=interview)
    pairs = _pairs(env, "--env", "NAME=VALUE"), _pairs(lane, "--lane", "GLOB=LANE")
    wanted = flow.Wanted(given.get("host") or None, given.get("root") or None, *pairs)
    # Who answers a question that shows what stands here means the answer.
    force = force or (is_asked and not (env or lane))
    new, changes = flow.edited(text, _completed(wanted, text, path), path, force=force)
    if set(given) - {"host", "root"} or is_asked:
        _keep_answers(path, new, changes, given)
    else:
        _write(path, new, changes)
    _keep_trust(path, was_trusted=was_trusted)
    identity = clone_witness.record(os.path.dirname(path))
    if identity is not None:
        console.line(console.out(), "ok", f"this repository: {identity}")
    if ci:
        _write_ci(os.path.dirname(path))
    console.out().print("next: hemma host check", style="dim")


def _keep_trust(path: str, *, was_trusted: bool) -> None:
    """What a person wrote here is allowed; what stood here before, from somebody else, is not by that."""
    project = flow.present(flow.read(path), path)
    if was_trusted and trust.asked(project):
        trust.allow(os.path.dirname(path), project)
    elif not was_trusted:
        console.line(console.err(), "warn", "what stood in [tool.hemma] before is not allowed yet: hemma trust")


def _write_ci(root: str) -> None:
    """The workflow and the hooks: hemma verify, and the checks of what the repository has of its own."""
    from controller.flows import memory

    try:
        has_memory = memory.of(root, os.environ).exists()
    except HemmaError:  # no clone yet: then there is no memory
        has_memory = False
    own = {verify_ci.MEMORY: has_memory, verify_ci.RUNBOOKS: os.path.isdir(os.path.join(root, "runbooks"))}
    changes = verify_ci.write(root, [verify_ci.VERIFY, *(check for check, is_there in own.items() if is_there)])
    _say_changes(root, changes)
    if any(change.startswith(verify_ci.HOOK_PATH) for change in changes):
        console.out().print("next: pre-commit install", style="dim")


def _write(path: str, text: str, changes: list[str]) -> None:
    if changes:
        flow.apply(path, text)
    _say_changes(path, changes)


def _keep_answers(path: str, text: str, changes: list[str], given: dict[str, str]) -> None:
    """Write the project's answers, then those of the person and the host."""
    from controller.flows import interview as interviewing

    where = interviewing.ground(path)
    text, more = interviewing.with_project_facts(text, where, given)
    _write(path, text, changes + more)
    kept = interviewing.keep(where, given, dt.datetime.now(dt.UTC).date())
    _say_changes("personal memory", kept)


def _answered(
    path: str, options: dict[str, str], file: str | None, *, interview: bool | None
) -> tuple[dict[str, str], bool]:
    """Every answer there is: of options, of a file, and of the person at the terminal; and whether one was asked."""
    from controller.flows import interview as interviewing

    if interview and not _is_interactive():
        raise UsageError("nobody can be asked: this is no terminal", remedy="hemma init --answers FILE")
    where = interviewing.ground(path)
    given = interviewing.checked(where, interviewing.answers_of(file), os.environ, file) if file else {}
    given |= interviewing.checked(where, options, os.environ, "hemma init")
    wants = interviewing.is_first(where) and file is None if interview is None else interview
    if not (wants and _is_interactive()):
        return given, False
    return _asked(where, given), True


def _asked(where: interviewing.Ground, given: dict[str, str]) -> dict[str, str]:
    """The answers, with those to every question that was not answered yet. Nothing is written before the last one."""
    from controller.flows import interview as interviewing
    from lanes.interview import QUESTIONS

    err = console.err()
    err.print("Enter takes what stands in brackets, or skips; - leaves it out; Ctrl-C leaves, and nothing is written.")
    answers = dict(given)
    try:
        for question in QUESTIONS:
            if question.key in given:
                continue
            host = answers.get("host") or where.project.host
            answer = _ask_until_taken(where, question, interviewing.offered(where, question.key, host))
            if answer is not None:
                answers[question.key] = answer
    except typer.Abort as left:
        raise _left() from left
    return answers


def _left() -> typer.Exit:
    console.err().print()
    console.line(console.err(), "ok", "left; nothing was written")
    return typer.Exit(EXIT_INTERRUPTED)


def _ask_until_taken(where: interviewing.Ground, question: Question, offer: interviewing.Known | None) -> str | None:
    """The answer to one question as it is kept; None when it is skipped."""
    from controller.flows import interview as interviewing
    from lanes.interview import GENERIC, Refused

    asks = question.asks
    if question.key == "platform":
        names = [name for name in interviewing.platforms() if name != GENERIC]
        asks += f" ({', '.join(['ssh', *names])})"
    while True:
        shown, text = f" [{offer.value}]" if offer else "", ""
        try:
            text = str(typer.prompt(console.printable(f"{asks}{shown}"), default="", show_default=False, err=True))
            answer = text if text.strip() else offer.value if offer else ""
            return interviewing.accepted(where, question.key, answer, os.environ) if answer else None
        except UnicodeDecodeError:
            _say_refused("is not UTF-8 text", "type it in UTF-8")
        except Refused as refused:
            _say_refused(refused.rule, refused.mend)
            offer = offer if text.strip() else None


def _say_refused(rule: str, mend: Remedy) -> None:
    console.line(console.err(), "refused", f"the answer {rule}")
    console.do(console.err(), mend)


def _show(path: str, *, as_json: bool) -> None:
    """What is known here, and from where (S17-R10)."""
    from controller.flows import interview as interviewing

    where = interviewing.ground(path)
    found = interviewing.known(where)
    if as_json:
        rows = {key: {"value": one.value, "from": one.origin} if one else None for key, one in found.items()}
        console.show_json({"known": rows, "problems": list(where.memory.problems)})
        return
    table = Table("what", "known", "from", box=None)
    for key, one in found.items():
        cells = (one.value, one.origin) if one else ("-", "")
        table.add_row(key, *(console.plain(cell) for cell in cells))
    console.show_table(table)
    for problem in where.memory.problems:
        console.line(console.err(), "warn", problem)


def _say_changes(where: str, changes: list[str]) -> None:
    out = console.out()
    console.line(out, "ok", f"{where}: {'changed' if changes else 'nothing to change'}")
    for change in changes:
        out.print(f"  + {change}")


def _pairs(given: list[str] | None, option: str, form: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given or []:
        # A glob may hold `=`, a value may too: names end at the first one, globs at the last.
        name, equals, value = text.partition("=") if option == "--env" else text.rpartition("=")
        if not equals or not name:
            raise UsageError(f"{option} needs {form}", remedy=command("hemma init {} {}", option, form))
        pairs[name] = value
    return pairs


def _completed(wanted: flow.Wanted, text: str | None, path: str) -> flow.Wanted:
    """What was asked for, with host and root from the file or the config, from a person at a terminal, or refused."""
    said = flow.present(text, path)
    default = hosts_file.read(hosts_file.config_path())[1].default_host
    host, root = wanted.host, on_host(wanted.root)
    if host is None and said.host is None:
        host = _ask("ssh alias of the host", default) if _is_interactive() else None
        if host is None and default is None:
            raise UsageError("no host is given", remedy="hemma init --host ALIAS --root PATH")
    if root is None and said.root is None:
        usual = f"~/work/{os.path.basename(os.path.dirname(path))}"
        if not _is_interactive():
            raise UsageError(
                "no root is given: the repository's path on the host",
                remedy=command("hemma init --root {}", literal(usual)),
            )
        root = _ask("path of the repository on the host", usual)
    return flow.Wanted(host, root, wanted.env, wanted.lanes)


def _is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask(question: str, default: str | None) -> str:
    needed = "" if default else " (needed; Ctrl-C leaves)"
    try:
        return str(typer.prompt(question + needed, default=default, err=True))
    except typer.Abort as left:
        raise _left() from left
