"""What people paste, and what reaches a screen: rules of the house that no linter holds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote.agent_remedies import OF_THE_AGENT
from tests.test_house import REPOSITORY, ROOMS, name_of, sources

# Names under which something to paste is handed on.
REMEDY_NAMES = {"remedy", "next_steps", "mend", "smallest_mend", "do"}
# Where an f-string may stand all the same, and why.
MAY_BE_F_STRINGS: dict[str, str] = {}
MAKERS = {"command", "joined", "listed", "literal", "home_path"}
# Who writes to stdout and stderr, and why it need not be a console.
MAY_WRITE = {
    "controller/reports/console.py": "the way with rich",
    "remote/stdio.py": "the way without rich",
    "controller/cli/run.py": "a run's id, and JSON",
    "controller/cli/train.py": "an example of ours, and JSON",
    "controller/cli/slice.py": "an example of ours",
    "controller/cli/memory.py": "JSON",
    "controller/reports/training.py": "JSON",
    "controller/cli/colab.py": "a run's own bytes",
    "controller/cli/app.py": "the version",
    "remote/broker.py": "its own log, a file",
    "controller/flows/verify_scan.py": "JSON, for the process that started it",
}
OURS_ON_THIS_MACHINE = ("hemma", "controller", "lanes", "manifests", "remote")


def calls(path: Path) -> Iterator[ast.Call]:
    """Every call in a file."""
    yield from (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))


def called(node: ast.Call) -> str:
    """The last name of what is called."""
    return ast.unparse(node.func).rpartition(".")[2]


def f_strings(node: ast.expr) -> Iterator[ast.JoinedStr]:
    """The f-strings that become part of a remedy; what a maker is given as a value is quoted by it."""
    if isinstance(node, ast.JoinedStr):
        if any(isinstance(part, ast.FormattedValue) for part in node.values):
            yield node
    elif not isinstance(node, ast.Call) or called(node) == "join":
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                yield from f_strings(child)


def test_no_remedy_is_an_f_string() -> None:
    found = [
        f"{name_of(path)}:{text.lineno}"
        for path in sources(*ROOMS)
        if not name_of(path).startswith("training/")  # pyright holds it there; a host's remedy is advice anyway
        for call in calls(path)
        for word in call.keywords
        if word.arg in REMEDY_NAMES
        for text in f_strings(word.value)
        if name_of(path) not in MAY_BE_F_STRINGS
    ]
    assert found == []


def templates() -> list[tuple[str, str]]:
    """Every literal template of a command, with its place."""
    return [
        (f"{name_of(path)}:{call.lineno}", call.args[0].value)
        for path in sources(*ROOMS)
        for call in calls(path)
        if called(call) == "command" and call.args and isinstance(call.args[0], ast.Constant)
        if isinstance(call.args[0].value, str)
    ]


def fault_of(template: str) -> str:
    """Why a value in this template would not be the word it is quoted as; empty when it would."""
    quote = ""
    for letter in re.sub(r"\{\{|\}\}", "", template).replace("{}", "\0"):
        if letter == "\0" and quote:
            return "a value within quotes"
        if letter == "`" and not quote and "{}" in template:
            return "a backtick"
        if letter in "'\"" and quote in ("", letter):
            quote = "" if quote else letter
    return "an open quote" if quote else ""


def test_every_value_stands_outside_of_quotes() -> None:
    found = {place: fault_of(text) for place, text in templates() if fault_of(text)}
    assert found == {}
    assert len(templates()) > 100


@pytest.mark.parametrize("template", ["the host's {}", 'a "{}"', "see `x {}`", "don't"])
def test_a_template_that_would_undo_the_quoting_is_found(template: str) -> None:
    assert fault_of(template)


def test_only_the_console_makes_consoles_and_tables() -> None:
    found = [
        name_of(path)
        for path in sources("controller", "hemma")
        if re.search(r"rich\.table|from rich\.console import .*\bConsole\b", path.read_text(encoding="utf-8"))
    ]
    assert found == ["controller/reports/console.py"]


def writes(call: ast.Call) -> bool:
    """Whether a call writes to stdout or stderr by itself."""
    text = ast.unparse(call.func)
    return text in {"print", "typer.echo"} or bool(re.fullmatch(r"sys\.std(out|err)(\.buffer)?\.write", text))


def test_nothing_writes_to_a_screen_past_the_two_ways() -> None:
    agent = str(Path("remote/agent"))
    found = {
        name_of(path)
        for path in sources(*OURS_ON_THIS_MACHINE)
        if not name_of(path).startswith(agent)
        for call in calls(path)
        if writes(call)
    }
    assert found - set(MAY_WRITE) == set()


def remedies_of_the_agent() -> set[str]:
    """The remedies in the agent's source: the third word of each refusal, or the name that stands there."""
    found = set[str]()
    for path in (REPOSITORY / "remote/agent").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and called(node) == "Refused"):
            given = [*call.args[2:3], *(word.value for word in call.keywords if word.arg == "remedy")]
            words = [node.value for node in given if isinstance(node, ast.Constant)]
            found |= {word for word in words if isinstance(word, str)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "remedy":
                text = node.value
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    found.add(text.value)
    return found - {""}


def test_a_host_s_remedy_stands_when_our_own_agent_gives_it() -> None:
    assert remedies_of_the_agent() == set(OF_THE_AGENT)
