"""The interview as a new user meets it: a real terminal, Enter, slips, secrets, odd bytes, and Ctrl-C in the middle (S17-R10)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lanes import interview as rules
from tests.real.test_run_terminal import Terminal, terminals
from tests.support import Cli

# Each as it stands on the screen, to its very end: what is offered, in brackets, is its group.
QUESTIONS = tuple(
    re.escape(question.asks).encode() + rb"(?: \([^)\r\n]*\))?(?: \[([^\r\n]*)\])?: " for question in rules.QUESTIONS
)
KEY = "0123456789abcdef" * 2 + "01234567"

Open = Callable[..., Terminal]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two repositories, one beside the other."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        subprocess.run(["git", "init", "-q", str(tmp_path / name)], check=True)
    (tmp_path / "one/train.py").write_text("print('train')\n")
    return tmp_path


@pytest.fixture
def cli(folder: Path, hemma_with: Callable[[dict[str, str]], Cli]) -> Cli:
    """The CLI of a new user: no settings, no memory, no ssh_config."""
    (folder / "home").mkdir()
    own = {f"HEMMA_{name.upper()}_DIR": str(folder / "hemma" / name) for name in ("config", "state", "cache")}
    return hemma_with({**os.environ, **own, "HOME": str(folder / "home")})


@pytest.fixture
def on_terminal(cli: Cli, folder: Path) -> Iterator[Open]:
    """`on_terminal("one", "init", …)`: hemma in that repository on a terminal of its own."""
    with terminals(cli, 200) as start:
        yield lambda repository, *words, **env: start(*words, cwd=folder / repository, env=env)


def answer(terminal: Terminal, *answers: bytes) -> None:
    """Answer the first questions in order; an empty answer is Enter alone."""
    for question, said in zip(QUESTIONS, answers, strict=False):
        terminal.expect(question)
        terminal.type(said + b"\r")


def press_ctrl_c(terminal: Terminal) -> None:
    """Press Ctrl-C, and again after a while: Python misses one that comes just as `input` begins to wait, until the next key."""
    for _ in range(5):
        terminal.type(b"\x03")
        with contextlib.suppress(subprocess.TimeoutExpired):
            terminal.child.wait(2)
            return


def files(folder: Path) -> list[str]:
    """What was written in both repositories and in the memory."""
    kept = [*folder.glob("one/*"), *folder.glob("two/*"), *folder.glob("hemma/state/memory/*")]
    return sorted(str(path.relative_to(folder)) for path in kept if path.name not in (".git", "train.py"))


@pytest.mark.req("S17-R10", "S17-R12")
def test_a_new_user_answers_once_and_the_next_repository_knows(on_terminal: Open, folder: Path) -> None:
    terminal = on_terminal("one", "init")
    terminal.expect(rb"Ctrl-C leaves, and nothing is written\.")
    # Enter takes the path and the entry point that were found, and skips the folder of configurations.
    answer(terminal, b"gpu-box", b"runpod", b"", b"", b"", b"me/runs", b"HF_TOKEN", b"required 8h", b"500")
    assert terminal.wait() == 0
    assert b"personal memory: changed" in terminal.seen
    hemma = tomllib.loads((folder / "one/pyproject.toml").read_text())["tool"]["hemma"]
    assert (hemma["host"], hemma["root"], hemma["verify"]) == ("gpu-box", "~/work/one", {"entry": ["train.py"]})
    assert "configs" not in hemma
    again = on_terminal("one", "init")
    assert again.wait() == 0
    assert b"nothing to change" in again.seen
    assert b"ssh alias" not in again.seen  # nothing is left to ask
    other = on_terminal("two", "init")
    for question, offered in zip(
        QUESTIONS,
        (b"gpu-box", b"runpod", b"~/work/two", None, None, b"me/runs", b"HF_TOKEN", b"required 8h", b"500"),
        strict=True,
    ):
        assert other.expect(question)[1] == offered
        other.type(b"\r")
    assert other.wait() == 0
    hemma = tomllib.loads((folder / "two/pyproject.toml").read_text())["tool"]["hemma"]
    assert (hemma["host"], hemma["root"], "verify" in hemma) == ("gpu-box", "~/work/two", False)


@pytest.mark.parametrize("answered", [0, 4, 8])
def test_ctrl_c_leaves_nothing_behind(on_terminal: Open, folder: Path, answered: int) -> None:
    terminal = on_terminal("one", "init")
    answers = (b"gpu-box", b"runpod", b"~/x", b"", b"", b"me", b"HF_TOKEN", b"none")
    answer(terminal, *answers[:answered])
    terminal.expect(QUESTIONS[answered])
    press_ctrl_c(terminal)
    assert terminal.wait() == 130
    assert b"left; nothing was written" in terminal.seen
    assert b"Traceback" not in terminal.seen
    assert files(folder) == []


def test_a_terminal_that_goes_away_leaves_nothing_behind_either(on_terminal: Open, folder: Path) -> None:
    terminal = on_terminal("one", "init")
    answer(terminal, b"gpu-box", b"runpod")
    terminal.expect(QUESTIONS[2])
    os.killpg(terminal.child.pid, signal.SIGHUP)
    assert terminal.wait() != 0
    assert files(folder) == []


@pytest.mark.req("S17-R11")
def test_what_is_refused_is_asked_again_and_a_secret_is_kept_nowhere(on_terminal: Open, folder: Path) -> None:
    terminal = on_terminal("one", "init", NO_COLOR="1", LC_ALL="C.UTF-8")
    for said, rule in (
        (b"\xff\xfe", rb"is not UTF-8"),
        (b"-oProxyCommand=id", rb"must be an ssh alias"),
        (b"me:hunter22@box", rb"holds a password"),
        (b"x" * 1_000, rb"is longer than 300"),
        (b"a\x16\x1b[31mb", rb"must be one line"),
    ):
        terminal.expect(QUESTIONS[0])
        terminal.type(said + b"\r")
        terminal.expect(rb"refused +the answer " + rule)
        terminal.expect(rb"do +\w")
    answer(terminal, b"gpu-box", b"ssh", b"", b"-", b"", b"me")
    terminal.expect(QUESTIONS[6])
    terminal.type(KEY.encode() + b"\r")
    terminal.expect(rb"refused +the answer looks like a secret")
    answer_rest = (b"~/.netrc", b"", b"")
    for question, said in zip(QUESTIONS[6:], answer_rest, strict=True):
        terminal.expect(question)
        terminal.type(said + b"\r")
    assert terminal.wait() == 0
    assert b"\x1b[3" not in terminal.seen  # NO_COLOR
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert KEY.encode() not in written
    assert b"hunter22" not in written
    assert b"~/.netrc" in written


@pytest.mark.req("S17-R10")
def test_at_a_terminal_no_interview_asks_what_it_always_asked(on_terminal: Open, folder: Path) -> None:
    terminal = on_terminal("one", "init", "--no-interview")
    terminal.expect(QUESTIONS[0])
    terminal.type(b"gpu-box\r")
    assert terminal.expect(QUESTIONS[2])[1] == b"~/work/one"
    terminal.type(b"\r")
    assert terminal.wait() == 0
    assert files(folder) == ["one/pyproject.toml"]


def test_what_is_needed_says_so_and_leaving_there_writes_nothing_either(on_terminal: Open, folder: Path) -> None:
    terminal = on_terminal("one", "init")
    answer(terminal, *[b""] * len(QUESTIONS))
    terminal.expect(rb"ssh alias of the host \(needed; Ctrl-C leaves\): ")
    press_ctrl_c(terminal)
    assert terminal.wait() == 130
    assert b"left; nothing was written" in terminal.seen
    assert files(folder) == []


def test_another_answer_to_what_stands_there_changes_it(on_terminal: Open, cli: Cli, folder: Path) -> None:
    assert cli("init", "--host", "old", "--root", "/srv/old", cwd=folder / "one").returncode == 0
    terminal = on_terminal("one", "init", "--interview")
    assert terminal.expect(QUESTIONS[0])[1] == b"old"
    terminal.type(b"new\r")
    for question in QUESTIONS[1:]:
        terminal.expect(question)
        terminal.type(b"\r")
    assert terminal.wait() == 0
    hemma = tomllib.loads((folder / "one/pyproject.toml").read_text())["tool"]["hemma"]
    assert (hemma["host"], hemma["root"]) == ("new", "/srv/old")


def test_without_a_terminal_nothing_is_asked(cli: Cli, folder: Path) -> None:
    done = cli("init", "--host", "gpu-box", "--root", "/r", cwd=folder / "one", stdin=b"evil\n" * 20)
    assert (done.returncode, done.stderr) == (0, b"")
    assert files(folder) == ["one/pyproject.toml"]
    shown = json.loads(cli("init", "--show", "--json", cwd=folder / "one").stdout)["known"]
    assert shown["host"]["value"] == "gpu-box"
    assert shown["gpu"] is None
