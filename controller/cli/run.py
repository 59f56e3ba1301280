"""`hemma run` and `run-hemma`: the thin way in. Nothing here may import typer, rich, pydantic or git."""

from __future__ import annotations

import os
import sys

from controller import snapshot
from controller.cli import run_options
from controller.flows import run as flow
from manifests.commands import command
from manifests.errors import HemmaError, UsageError
from manifests.visible import json_text, one_line
from remote import clone_witness
from remote.stdio import (
    abandon_stdout,
    demand_written,
    output_lost,
    print_line,
    reader_is_gone,
    say,
    stderr_notice,
    stdin_source,
    write_to,
)

TYPE_CHECKING = False  # typing itself is not imported: 3 ms of a path that takes 30
if TYPE_CHECKING:
    from typing import Any


def main(arguments: list[str]) -> int:
    """Run the command these arguments describe on the host; returns the exit code (2, 66-68, 124, 255, or its own)."""
    try:
        values, argv = run_options.parse(arguments)
        if values.get("help"):
            return _help()
        return _run(values, argv)
    except HemmaError as error:
        if "--json" in arguments:
            try:
                _print_json(error.as_dict())
            except HemmaError as lost:
                flow.show_error(lost)
        flow.show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if "--debug" in arguments:
            raise
        from controller.reports import surprise

        return surprise.report(error)


def _help() -> int:
    from controller.cli import run_help

    try:
        return run_help.show()
    except OSError as fault:
        abandon_stdout()
        if reader_is_gone(fault):
            return 1
        raise output_lost("stdout", fault) from None


def settings_for(host: str | None = None) -> dict[str, Any]:
    """The settings for the current folder: the snapshot when nothing changed, else resolved anew. Raises UsageError."""
    environ = {**os.environ, "HEMMA_HOST": host} if host else dict(os.environ)
    found = snapshot.read(os.getcwd(), environ)
    if found is None:
        from controller import settings

        found = settings.load(os.getcwd(), environ)
    found["host"].update(is_said=host is not None, root_is_own=found["root_is_own"])
    return found


def _run(values: run_options.Values, argv: list[str]) -> int:
    shell = values.get("shell")
    if (shell is None) == (not argv):
        raise UsageError(
            "there is no command to run" if shell is None else "give either a command or --shell, not both",
            remedy='hemma run -- <command> [args]   or   hemma run --shell "a | b"',
        )
    if values.get("no_guard"):
        _demand_person()
    elif any("git" in word for word in (argv if shell is None else [str(shell)])):
        # Only now: what judges git commands costs time that no other command should pay.
        from lanes import git_refusal

        git_refusal.demand_run(argv, _text(shell))
    settings = settings_for(_text(values.get("host")))
    options = _options(values, settings)
    request = flow.request_of(settings, options, argv, is_run=True)
    if values.get("detach"):
        return _detach(settings, request, bool(values.get("json")))
    if values.get("json"):
        return _run_for_json(settings, request)
    return _run_through(settings, request, is_quiet=bool(values.get("quiet")))


def _demand_person() -> None:
    """A guard that programs could put aside by a word would be none; a person at a terminal may, and it is recorded."""
    if not (os.isatty(0) and os.isatty(2)):
        from manifests.errors import NeedsPerson

        raise NeedsPerson(
            "--no-guard lets git rewrite, force and delete: a person at a terminal says that",
            remedy="ask whoever owns this work, or go on without --no-guard",
        )
    stderr_notice("git is not guarded in this run; its record says so")


def _options(values: run_options.Values, settings: dict[str, Any]) -> dict[str, Any]:
    lease, timeout = _text(values.get("lease")), _text(values.get("timeout"))
    options: dict[str, Any] = {
        "shell": values.get("shell"),
        "cwd": values.get("cwd"),
        "env": _environment(values.get("env")),
        "timeout_s": run_options.seconds(timeout, "--timeout") if timeout else None,
        "lease_s": run_options.seconds(lease, "--lease") if lease else settings["lease_s"],
        "login": values.get("login") or settings["login"],
        "stdin": not values.get("no_stdin"),
        "git_guard": not values.get("no_guard"),
    }
    if lease == "none":
        options["lease_s"] = 1e9  # still followed, so not detached; ends only when told
    if values.get("detach"):
        options.update(lease_s=None, stdin=False)
    if values.get("pty"):
        if sys.platform == "win32":
            raise UsageError("--pty needs a POSIX terminal here", remedy="leave --pty out, or use WSL")
        from controller.flows import terminal

        options["pty"] = terminal.size()
    return options


def _environment(given: object) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in given if isinstance(given, list) else []:
        name, equals, value = str(pair).partition("=")
        if not name or "\0" in pair:
            raise UsageError(
                f"--env {pair!r} names no variable", remedy="--env NAME=VALUE, or --env NAME to pass ours on"
            )
        if not equals and name not in os.environ:
            raise UsageError(
                f"--env {name}: there is no such variable here",
                remedy=command("export {}=… first, or --env {}=VALUE", name, name),
            )
        found[name] = value if equals else os.environ[name]
    return found


def _run_through(settings: dict[str, Any], request: dict[str, Any], *, is_quiet: bool) -> int:
    outputs = (write_to(1), write_to(2))
    session = flow.session_for(
        settings,
        request,
        outputs,
        stdin=stdin_source() if request["stdin"] else None,
        notice=None if is_quiet else stderr_notice,
    )
    if request["pty"]:
        from controller.flows import terminal

        with terminal.raw(session):
            end = flow.follow(session)
    else:
        end = flow.follow(session)
    code = flow.exit_code_of(end, session.run_id)
    _say_end(end, request, is_quiet)
    if not is_quiet:
        clone_witness.say(settings["host"], request["clone"], session.reply)
    demand_written(outputs, command("what there was until then: hemma logs {}", session.run_id))
    return code


def _say_end(end: dict[str, Any], request: dict[str, Any], is_quiet: bool) -> None:
    """What the exit code alone does not tell: not found, timed out, ended by the lease."""
    reason, detail = end.get("reason"), end.get("detail")
    if reason == "not-started":
        say("failed", str(detail))
        if end.get("exit_code") == 127 and request.get("shell") is None:
            say("do", "is it on PATH there? try --login; for shell syntax use --shell")
    elif is_quiet:
        return
    elif reason == "timed-out":
        say("failed", f"ended after --timeout {request['timeout_s']:g} s")
    elif reason == "lease-expired":
        say("failed", "ended by its lease: this client was away for too long")


def _detach(settings: dict[str, Any], request: dict[str, Any], is_json: bool) -> int:
    session = flow.session_for(settings, request, (write_to(1), write_to(2)))
    flow.follow(session)
    if is_json:
        _print_json({"run_id": session.run_id, "state": "starting"})
    else:
        print_line(one_line(session.run_id))
        clone_witness.say(settings["host"], request["clone"], session.reply)
    return 0


def _run_for_json(settings: dict[str, Any], request: dict[str, Any]) -> int:
    out, err = flow.Capture(), flow.Capture()
    stdin = stdin_source() if request["stdin"] and not os.isatty(0) else None
    session = flow.session_for(settings, request, (out.write, err.write), stdin=stdin)
    end = flow.follow(session)
    code = flow.exit_code_of(end, session.run_id)
    kept = {name: end.get(name) for name in ("exit_code", "signal", "reason", "detail", "started_at", "ended_at")}
    kept.update(clone_witness.elsewhere(session.reply))
    _print_json({"run_id": session.run_id, **kept, **out.fields("stdout"), **err.fields("stderr")})
    return code


def _print_json(fields: dict[str, Any]) -> None:
    print_line(json_text(fields))


def _text(value: object) -> str | None:
    return str(value) if value is not None else None
