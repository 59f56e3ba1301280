"""The words of `hemma run`: options end at the command, values are taken whole, and the help page says the same."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cli import run_options
from manifests.errors import UsageError

FLAGS = [flag for option in run_options.OPTIONS for flag in option.flags]
WORDS = st.lists(st.text() | st.sampled_from([*FLAGS, "--", "-", ""]), max_size=8)


@pytest.mark.parametrize(
    ("arguments", "values", "rest"),
    [
        ([], {}, []),
        (["--"], {}, []),
        (["ls"], {}, ["ls"]),
        (["--", "ls", "-l"], {}, ["ls", "-l"]),
        (["--", "--", "x"], {}, ["--", "x"]),
        (["ls", "--json"], {}, ["ls", "--json"]),
        (["--json", "-q", "--", "ls"], {"json": True, "quiet": True}, ["ls"]),
        (["--shell", "a | b"], {"shell": "a | b"}, []),
        (["-c", "--", "--", "x"], {"shell": "--"}, ["x"]),
        (["--shell=--json"], {"shell": "--json"}, []),
        (["--shell="], {"shell": ""}, []),
        (["-e", "A=1", "--env=B=2=3", "--", "x"], {"env": ["A=1", "B=2=3"]}, ["x"]),
        (["--timeout", "5", "--timeout=6", "x"], {"timeout": "6"}, ["x"]),
        (["-", "x"], {}, ["-", "x"]),
        (["", "x"], {}, ["", "x"]),
        (["--cwd", "-odd-", "--", "x"], {"cwd": "-odd-"}, ["x"]),
    ],
)
def test_words_are_read_as_meant(arguments: list[str], values: dict[str, object], rest: list[str]) -> None:
    assert run_options.parse(arguments) == (values, rest)


@pytest.mark.req("S9-R21")
@given(WORDS)
def test_after_a_double_dash_nothing_is_ours(words: list[str]) -> None:
    assert run_options.parse(["--", *words]) == ({}, words)
    assert run_options.parse(["--json", "--", *words]) == ({"json": True}, words)


@given(st.text().filter(lambda word: not word.startswith("-")), WORDS)
def test_after_the_command_nothing_is_ours(command: str, words: list[str]) -> None:
    assert run_options.parse([command, *words]) == ({}, [command, *words])


@given(st.sampled_from([option for option in run_options.OPTIONS if option.value]), st.text(), st.booleans())
def test_a_value_is_taken_whole(option: run_options.Option, value: str, attached: bool) -> None:
    flag = option.flags[0]
    values, rest = run_options.parse([f"{flag}={value}", "x"] if attached else [flag, value, "x"])
    assert (values, rest) == ({option.name: [value] if option.is_repeated else value}, ["x"])


@given(WORDS)
def test_any_words_are_read_or_refused_with_a_mend(words: list[str]) -> None:
    refusal = None
    try:
        run_options.parse(words)
    except UsageError as refused:
        refusal = refused
    assert refusal is None or (refusal.exit_code == 2 and "hemma run" in refusal.remedy)


@pytest.mark.parametrize(
    "arguments", [["--no-such"], ["--json=1"], ["--timeout"], ["-x"], ["--shel", "x"], ["-qq", "x"]]
)
def test_what_is_no_option_is_refused(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        run_options.parse(arguments)


def test_parsing_leaves_the_callers_list_as_it_was() -> None:
    words = ["--json", "--", "x"]
    run_options.parse(words)
    assert words == ["--json", "--", "x"]


@pytest.mark.parametrize(
    ("text", "length_s"),
    [("90", 90), ("0.5", 0.5), ("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400), ("1.5h", 5400), ("none", None)],
)
def test_lengths_of_time(text: str, length_s: float | None) -> None:
    assert run_options.seconds(text, "--timeout") == length_s


@pytest.mark.parametrize("text", ["", "0", "-1", "soon", "1w", "nan", "inf", "1e99", "m", "1 m 2", "1ms", "٣m x"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        run_options.seconds(text, "--timeout")


def test_no_two_options_share_a_name_or_a_flag() -> None:
    assert len(FLAGS) == len(set(FLAGS))
    names = [option.name for option in run_options.OPTIONS]
    assert len(names) == len(set(names))


def test_the_help_page_has_every_option_and_every_exit_code() -> None:
    told = subprocess.run(
        [sys.executable, "-P", "-m", "hemma", "run", "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    flags = [flag for option in run_options.OPTIONS for flag in option.flags]
    assert [flag for flag in flags if flag not in told and flag != "-h"] == []
    assert [code for code in ("2", "66", "67", "68", "124", "128", "255") if code not in told] == []
