"""Every page: front matter where it is due, an index that is whole, and commands and options that exist."""

from __future__ import annotations

import datetime as dt
import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from controller.cli.app import app

REPOSITORY = Path(__file__).resolve().parents[2]
RUNBOOKS = sorted((REPOSITORY / "runbooks").rglob("*.md"))
PAGES = [*(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *RUNBOOKS]
# Options of the program itself, before any verb.
OWN_OPTIONS = {"--help", "--debug", "--version"}


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("page", RUNBOOKS, ids=name_of)
def test_a_runbook_has_a_title_and_a_date(page: Path) -> None:
    found = re.match(r"---\ntitle: (\S.*)\ndate: (\S+)\n(?:[ \w-].*\n)*?---\n\n# ", page.read_text("utf-8"))
    assert found, "begins with title and date between two lines of dashes, then its heading"
    assert dt.date.fromisoformat(found.group(2))


def test_the_index_of_runbooks_is_whole() -> None:
    index = REPOSITORY / "runbooks/README.md"
    listed = {(index.parent / link).resolve() for link in re.findall(r"\]\(([^)#]+\.md)\)", index.read_text("utf-8"))}
    assert listed == set(RUNBOOKS) - {index}


# --- commands in pages ---------------------------------------------------------------------------------------------


def code_of(text: str) -> Iterator[str]:
    """Every line of sh and console blocks, and every code span in the prose."""
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        lines = block.splitlines()
        yield from (
            lines if kind == "sh" else (line[2:] for line in lines if line.startswith("$ ") and kind == "console")
        )
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", prose)


def calls(line: str) -> Iterator[list[str]]:
    """The words of each call of `hemma` (or run-hemma) in a line of shell, up to the command that it runs."""
    lexer = shlex.shlex(line.replace("…", "X"), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    try:
        found = list(lexer)
    except ValueError:  # an apostrophe in a span that is no shell
        return
    for position, word in enumerate(found):
        if word in {"hemma", "run-hemma"} and "|" not in found[position + 1 : position + 2]:
            rest = found[position + 1 :]
            ends = [rest.index(mark) for mark in ("--", ";", "&&", "&", "|", "||", ">", "then,") if mark in rest]
            yield (["run"] if word == "run-hemma" else []) + rest[: min(ends, default=len(rest))]


@functools.cache
def whole_program() -> Any:
    """Every verb, built once: it loads all of their modules."""
    return typer.main.get_command(app)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words reach, and what is left of them."""
    command = whole_program()
    rest = list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    return command, rest


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_in_pages_exist(page: Path) -> None:
    wrong: list[str] = []
    for line in code_of(page.read_text("utf-8")):
        for words in calls(line):
            command, rest = command_of(words)
            known = {option for parameter in command.params for option in parameter.opts} | OWN_OPTIONS
            if hasattr(command, "commands") and rest and not rest[0].startswith("-") and re.match(r"[a-z]+$", rest[0]):
                wrong.append(f"no command {rest[0]!r}: {line}")
            options = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
            wrong += [f"no option {option}: {line}" for option in options if option not in known]
    assert wrong == []


def test_the_check_of_commands_sees_a_wrong_one() -> None:
    (words,) = calls("FOO=1 hemma logs --no-such last | tail")
    command, rest = command_of(words)
    assert (command.name, rest) == ("logs", ["--no-such", "last"])


def test_every_script_is_in_contributing() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    scripts = {path.name for path in (REPOSITORY / "script").iterdir() if path.is_file() and not path.suffix}
    assert {name for name in scripts if f"| `script/{name}` |" not in text} == set()
