"""Both ways to the screen, the one with rich and the one without: nothing that is not ours gets there as it is."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from controller.cli import app as cli
from controller.flows import run as thin
from controller.reports import console
from manifests.errors import HemmaError
from remote import stdio

HOSTILE = "a\x1b]0;title\x07\nok       all good\r\x9b2J\u202e[red]x[/red]:smile:\u2028\udcff"
SHOWN = r"a\x1b]0;title\x07\nok       all good\r\x9b2J\u202e[red]x[/red]:smile:\u2028\udcff"
SGR = re.compile(r"\x1b\[[0-9;]*m")


Screen = Callable[[], str]


@pytest.fixture
def raw(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Screen:
    """What stdout and then stderr got since the last call; both are terminals with colours, wide enough for a line."""
    for kind in {type(sys.stdout), type(sys.stderr)}:
        monkeypatch.setattr(kind, "isatty", lambda _: True)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "300"}.items():
        monkeypatch.setenv(name, value)
    return lambda: "".join(capsys.readouterr())


@pytest.fixture
def screen(raw: Screen) -> Screen:
    """The same less the colours, which are ours: printable lines, whatever was printed."""

    def said() -> str:
        text = SGR.sub("", raw())
        assert all(c.isprintable() or c == "\n" for c in text), repr(text)
        return text

    return said


def test_an_error_is_two_lines_on_either_path(screen: Screen) -> None:
    error = HemmaError(HOSTILE, remedy=HOSTILE)
    console.show_error(error)
    thin.show_error(error)
    wanted = [f"failed   {SHOWN}", f"do       {SHOWN}"]
    assert screen().splitlines() == [*wanted, *wanted]


def test_a_line_that_only_the_thin_path_says_is_one_line(raw: Screen) -> None:
    stdio.say("failed", HOSTILE)
    stdio.stderr_notice(HOSTILE)  # while the terminal may be raw, hence the return
    assert raw() == f"failed   {SHOWN}\nhemma: {SHOWN}\r\n"


@pytest.mark.parametrize("thing", [HOSTILE, console.plain(HOSTILE)], ids=["a string", "a text"])
def test_what_is_printed_stays_on_its_line(screen: Screen, thing: Any) -> None:
    console.out().print(thing)
    console.line(console.out(), "ok", HOSTILE)
    console.show_line(HOSTILE)
    console.err().print(thing, style="dim")
    assert screen().splitlines() == [SHOWN, f"ok       {SHOWN}", SHOWN, SHOWN]


def test_a_cell_of_a_table_stays_in_its_row(screen: Screen) -> None:
    table = console.Table("one", "two", box=None, pad_edge=False)
    table.add_row(HOSTILE, console.plain(HOSTILE))
    table.add_row("ours", None)
    console.show_table(table)
    assert [line.split() for line in screen().splitlines()] == [
        ["one", "two"],
        [*SHOWN.split(), *SHOWN.split()],
        ["ours"],
    ]


def test_content_keeps_its_lines_and_tabs_and_nothing_else(screen: Screen) -> None:
    console.out().print(console.block("a\tb\nc\x1b[2J\r"))
    assert screen().expandtabs(8).splitlines() == ["a       b", r"c\x1b[2J\r"]


def test_a_text_of_richs_own_making_is_made_visible_at_the_end(screen: Screen) -> None:
    from rich.text import Text

    console.out().print(Text("a\x1b]0;title\x07b"), "c\x1bd")
    assert screen() == "a\\x1b]0;titleb c\\x1bd\n"  # rich itself drops a bell


def test_json_has_no_control_character(screen: Screen) -> None:
    console.show_json({"a": HOSTILE + "\x7f"})
    assert json.loads(screen()) == {"a": HOSTILE + "\x7f"}


def test_progress_is_one_line_that_goes(raw: Screen) -> None:
    console.show_progress(HOSTILE)
    console.show_progress("")
    assert raw() == f"\r\033[K{SHOWN[:100]}\r\033[K"


@pytest.mark.parametrize(
    "argv",
    [["x" + HOSTILE], ["--x" + HOSTILE], ["ps", "--x" + HOSTILE], ["ps", HOSTILE], ["prune", "--days", HOSTILE]],
    ids=["a verb", "an option", "an option of a verb", "a word too much", "a value"],
)
def test_what_is_misused_is_named_on_one_line(screen: Screen, argv: list[str]) -> None:
    assert cli.main(argv) == 2
    lines = screen().splitlines()
    assert lines[-1].startswith("Error: ")
    assert not [line for line in lines if line.startswith("ok")]


def test_a_traceback_is_content_too(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(words: list[str]) -> Any:
        raise HemmaError(HOSTILE)

    monkeypatch.setattr(cli, "application", fails)
    assert cli.main(["--debug", "ps"]) == 1
    assert "Traceback" in screen()


def test_content_is_its_own_bytes_in_a_pipe(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    console.show_content(HOSTILE.encode("utf-8", "surrogateescape"))
    assert capfdbinary.readouterr().out == HOSTILE.encode("utf-8", "surrogateescape")


def test_content_on_a_terminal_is_made_visible(raw: Screen) -> None:
    console.show_content(b"a\x1bb\tc\nd\r" + b"\xff\n")
    assert raw() == "a\\x1bb\tc\nd\\r\\udcff\n"
