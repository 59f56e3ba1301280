"""The options of `hemma run`, once: the fast parser below and the help page (typer) are both made from this table.

argparse would do, but costs as much time as everything else on this path together. Options stop at the first word that is
none; one leading `--` may stand before the command, since `pdm run` removes one on its way (style 0.4).
"""

from __future__ import annotations

from manifests.commands import command
from manifests.errors import UsageError


class Option:
    """One option: its names, whether it takes a value (and its placeholder), whether it may be given again."""

    def __init__(
        self, name: str, flags: tuple[str, ...], explanation: str, value: str | None = None, is_repeated: bool = False
    ) -> None:
        self.name = name
        self.flags = flags
        self.help = explanation
        self.value = value
        self.is_repeated = is_repeated


OPTIONS = (
    Option("shell", ("--shell", "-c"), "Run LINE with bash (no start-up files) instead of a command.", "LINE"),
    Option("env", ("--env", "-e"), "Set NAME on the host; without =VALUE it is taken from here.", "NAME[=VALUE]", True),
    Option("cwd", ("--cwd", "-C"), "Working directory, relative to the repository root on the host.", "DIR"),
    Option("timeout", ("--timeout",), "End the command after this long (90, 15m, 2h): exit code 124.", "TIME"),
    Option("lease", ("--lease",), "How long the command outlives a vanished client (60s, 8h, none).", "TIME"),
    Option("detach", ("--detach", "-d"), "Print the run id and leave; the run goes on without us."),
    Option("pty", ("--pty", "-t"), "Give the command a terminal (editors, htop, prompts)."),
    Option("login", ("--login", "-l"), "Through a login shell, with the start-up files of the user on the host."),
    Option("no_stdin", ("--no-stdin", "-n"), "Leave our stdin alone; the command reads an empty one."),
    Option("quiet", ("--quiet", "-q"), "No word of our own but refusals."),
    Option("json", ("--json",), "One JSON object at the end, with the command's output in it."),
    Option(
        "no_guard",
        ("--no-guard",),
        "Let git rewrite, force and delete in this run; it is recorded, and needs a terminal.",
    ),
    Option("host", ("--host", "-H"), "Another host than the repository's own.", "NAME"),
    Option("debug", ("--debug",), "Show the traceback of a failure of Hemma itself."),
    Option("help", ("--help", "-h"), "Show this help."),
)
_BY_FLAG = {flag: option for option in OPTIONS for flag in option.flags}
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

Values = dict[str, str | bool | list[str]]


def parse(arguments: list[str]) -> tuple[Values, list[str]]:
    """(options by name, the command's own words). Raises UsageError for an unknown option or a missing value."""
    values: Values = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
        flag, equals, attached = rest.pop(0).partition("=")
        option = _BY_FLAG.get(flag)
        if option is None:
            raise UsageError(
                f"hemma run has no option {flag}", remedy="hemma run --help; options of the command go after `--`"
            )
        if option.value is None:
            if equals:
                raise UsageError(f"{flag} takes no value", remedy=command("hemma run {} …", flag))
            values[option.name] = True
            continue
        if not equals and not rest:
            raise UsageError(f"{flag} needs a value", remedy=command("hemma run {} {} …", flag, option.value))
        _store(values, option, attached if equals else rest.pop(0))
    if rest[:1] == ["--"]:
        del rest[0]
    return values, rest


def _store(values: Values, option: Option, value: str) -> None:
    if option.is_repeated:
        kept = values.setdefault(option.name, [])
        assert isinstance(kept, list)
        kept.append(value)
    else:
        values[option.name] = value


def seconds(text: str, flag: str) -> float | None:
    """Seconds of `90`, `90s`, `15m`, `2h`, `1d`; None for `none`. Raises UsageError."""
    if text == "none":
        return None
    number, unit = (text[:-1], text[-1]) if text[-1:].isalpha() else (text, "")
    try:
        value = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        value = -1.0
    if not 0 < value < 1e9:
        raise UsageError(
            f"{flag} {text!r} is no length of time", remedy=command("{} 90, {} 15m, {} 2h", flag, flag, flag)
        )
    return value
