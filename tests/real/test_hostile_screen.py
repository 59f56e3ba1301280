"""Every verb on a real terminal, with names that mean harm: nothing that is not ours moves the screen, and `do` lines are safe."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import EnvironFor
from tests.real.test_run_terminal import terminals
from tests.support import Cli

ESCAPES = {
    "title": "a\x1b]0;title\x07b",
    "forged": "a\nok       all good",
    "return": "a\rok       all good",
    "bidi": "a\u202egpj.exe\u2066",
    "markup": "[red]a[/red]",
    "c1": "a\x9b2J\x85b",
}
SHELLS = {
    "semicolon": "x;touch PWN",
    "dollar": "$(touch PWN)",
    "backtick": "`touch PWN`",
    "quote": "x';touch PWN;'",
    "double": 'x";touch PWN;"',
    "newline": "x\ntouch PWN\n",
}
NAMES = {**ESCAPES, **SHELLS}
# Each verb that takes a word, with the word at its place; none of them finds what it names.
LINES = {
    "run": ("run", "--host", "{}", "--", "true"),
    "run-option": ("run", "--{}"),
    "run-env": ("run", "--env", "{}", "--", "true"),
    "run-git": ("run", "--", "git", "push", "origin", "+{}"),
    "run-cwd": ("run", "--cwd", "{}", "--", "true"),
    "put": ("put", "./{}"),
    "get": ("get", "{}"),
    "edit": ("edit", "{}"),
    "apply": ("apply", "./{}"),
    "commit": ("commit", "-m", "x", "{}"),
    "lane": ("lane", "{}"),
    "lane-manifest": ("lane", "--manifest", "{}"),
    "where": ("where", "{}"),
    "notebook-text": ("notebook", "text", "{}"),
    "notebook-check": ("notebook", "check", "{}"),
    "notebook-diff": ("notebook", "diff", "{}"),
    "logs": ("logs", "{}"),
    "attach": ("attach", "{}"),
    "wait": ("wait", "{}"),
    "stop": ("stop", "{}"),
    "doctor": ("doctor", "{}"),
    "train": ("train", "{}"),
    "gates": ("gates", "{}"),
    "report": ("report", "{}"),
    "slice-show": ("slice", "show", "{}"),
    "slice-issue": ("slice", "issue", "{}"),
    "rows-status": ("rows", "status", "{}"),
    "verify": ("verify", "{}"),
    "runbook": ("runbook", "show", "{}"),
    "gotcha": ("gotcha", "approve", "{}"),
    "memory": ("memory", "concept", "--set", "{}", "x"),
    "host-accept": ("host", "accept", "{}"),
    "host-check": ("host", "check", "{}"),
    "host-remove": ("host", "remove", "{}"),
    "export": ("export", "--shape", "{}"),
    "colab": ("colab", "status", "{}"),
    "drive": ("drive", "check", "{}"),
    "sync": ("sync", "--accept", "{}"),
    "init": ("init", "--host", "h", "--root", "r", "--env", "{}"),
    "verb": ("{}",),
}
SGR = re.compile(rb"\x1b\[[0-9;]*m")
# What a terminal may get beside text: line ends of its own, and the line of progress taken away.
PROGRESS = re.compile(rb"(?:\r?\x1b\[2?K)+\r?|\x1b\[\?25[lh]\r?|\x1b\[1A")
COLUMNS = 4000  # nothing is wrapped


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone without a commit, in which nothing is there."""
    (tmp_path / "clone").mkdir()
    subprocess.run(["git", "init", "-q", str(tmp_path / "clone")], check=True)
    return tmp_path / "clone"


def screens(cli: Cli, clone: Path, lines: list[tuple[str, ...]]) -> list[bytes]:
    """What each command line put on a terminal of its own."""
    shown: list[bytes] = []
    with terminals(cli, COLUMNS) as start:
        for words in lines:
            terminal = start(*words, cwd=clone)
            terminal.wait()
            shown.append(terminal.seen)
    return shown


def visible_lines(shown: bytes) -> list[str]:
    """The lines of a screen; fails when anything but text, colours of ours and progress reached it."""
    text = PROGRESS.sub(b"", SGR.sub(b"", shown)).decode("utf-8")
    assert all(letter.isprintable() or letter in "\r\n" for letter in text), repr(text)
    lines = text.replace("\r\n", "\n").split("\n")
    assert not [line for line in lines if "\r" in line], repr(text)
    return lines


def paste(step: str, sandbox: Path) -> None:
    """Give `step` to a shell that finds no program but a `touch` of its own: only what quoting lets through is seen."""
    environ = {"PATH": str(sandbox / "no"), "HOME": str(sandbox)}
    line = f'touch() {{ builtin echo > "$1"; }}\n{step}'
    subprocess.run(["/bin/bash", "-c", line], cwd=sandbox, env=environ, capture_output=True, check=False)


@pytest.mark.parametrize("name", [name for key, name in SHELLS.items() if key not in ("quote", "double")])
def test_a_name_that_is_not_quoted_would_be_run(name: str, tmp_path: Path) -> None:
    paste(f"hemma put {name} PATH", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["PWN"]


@pytest.mark.req("S20-R03")
@pytest.mark.parametrize("verb", LINES)
def test_no_verb_lets_a_name_move_the_screen_or_be_run(
    verb: str, hemma: Cli, settings_env: EnvironFor, clone: Path, tmp_path: Path
) -> None:
    # By default a name of each group, another for each verb; all of them under HEMMA_FULL.
    at = list(LINES).index(verb)
    names = list(NAMES.values())
    if not os.environ.get("HEMMA_FULL"):
        names = [each[at % len(each)] for each in (list(ESCAPES.values()), list(SHELLS.values()))]
    lines = [tuple(word.replace("{}", name) for word in LINES[verb]) for name in names]
    sandbox = tmp_path / "sandbox"
    sandbox.mkdir()
    for shown in screens(hemma, clone, lines):
        said = visible_lines(shown)
        assert not [line for line in said if line.startswith("ok  ") and "all good" in line], said
        for step in (line.removeprefix("do").strip() for line in said if line.startswith("do  ")):
            paste(step, sandbox)
        assert os.listdir(sandbox) == [], said
