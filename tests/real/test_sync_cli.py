"""`hemma sync` as it is typed: what it prints, what it asks at a terminal, its exit codes, and a host without a way to origin."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.test_run_terminal import Terminal
from tests.real.three_clones import LOGIC, ThreeClones, make_clones, notebook
from tests.support import Cli, EnvironFor

Make = Callable[[dict[str, str]], Cli]


@pytest.fixture
def clones(tmp_path: Path) -> ThreeClones:
    """Local, host, other and origin at one commit."""
    return make_clones(tmp_path / "clones")


@pytest.fixture
def cli(hemma_with: Make, settings_env: EnvironFor, clones: ThreeClones) -> Cli:
    """The CLI in the local clone, for the host's clone."""
    made = hemma_with(settings_env(root=clones.path("host")))
    made.folder = clones.path("local")
    return made


OnTerminal = Callable[..., Terminal]


@pytest.fixture
def on_terminal(cli: Cli) -> Iterator[OnTerminal]:
    """`on_terminal("sync", …)`: the CLI with a terminal as all three of its streams."""
    opened: list[int] = []

    def start(*arguments: str) -> Terminal:
        master, slave = os.openpty()
        child = cli.start(*arguments, stdin=slave, stdout=slave, stderr=slave, env={"TERM": "xterm-256color"})
        os.close(slave)
        opened.append(master)
        return Terminal(child, master, [])

    yield start
    cli.end()
    for master in opened:
        os.close(master)


def test_a_plan_is_shown_without_being_done(clones: ThreeClones, cli: Cli) -> None:
    clones.commit("host", "src/h.py", "h")
    before = clones.snapshot()
    shown = cli("sync", "--dry-run")
    assert (shown.returncode, shown.stdout.decode().splitlines()[0]) == (
        0,
        "1. host: push  the host's commits go to origin first",
    )
    plan = json.loads(cli("sync", "--dry-run", "--json").stdout)
    assert [(step["place"], step["action"]) for step in plan["steps"]] == [
        ("host", "push"),
        ("local", "fetch"),
        ("local", "fast-forward"),
    ]
    assert clones.snapshot() == before
    done = cli("sync")
    assert (done.returncode, b"in step after 3 steps" in done.stdout) == (0, True)
    assert b"refs/hemma/backup/" in done.stdout
    assert clones.are_in_step()
    assert b"local, host and origin agree" in cli("sync").stdout


@pytest.mark.req("S9-R09", "S9-R10")
def test_the_verdict_names_rule_fact_and_next_step_for_programs(clones: ThreeClones, cli: Cli) -> None:
    clones.commit("local", "src/train.py", "STEPS = 2\n")
    done = cli("sync", "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["exit_code"], answer["error"]) == (75, 75, "needs-person")
    (reason,) = answer["verdict"]["reasons"]
    assert reason == {
        "rule": "local-edits-host-files",
        "fact": "1 local commits change files that the host owns: src/train.py",
    }
    assert answer["verdict"]["next_steps"][0].startswith("hemma sync --accept local-edits-host-files")
    assert answer["verdict"]["allowed"] is False
    # Where nobody can be asked the verdict is there without being asked for, and people read the same on stderr.
    unasked = cli("sync")
    assert (unasked.returncode, json.loads(unasked.stdout)) == (75, answer)
    assert unasked.stderr.startswith(b"needs you 1 local commits change")
    assert cli("sync", "--accept", "local-edits-host-files", "--json").returncode == 0
    assert clones.are_in_step()


def test_a_rule_that_cannot_be_accepted_is_a_slip(cli: Cli) -> None:
    done = cli("sync", "--accept", "detached")
    assert (done.returncode, b"one of: " in done.stderr) == (2, True)


@pytest.mark.req("S9-R09")
def test_a_person_sees_the_diff_and_says_no_or_yes(clones: ThreeClones, on_terminal: OnTerminal) -> None:
    clones.write("host", "src/train.py", "STEPS = 3\n")
    clones.publish("docs/o.md", "o")
    before = clones.snapshot()
    asked = on_terminal("sync")
    asked.expect(rb"needs you the host has uncommitted changes: src/train.py")
    asked.expect(rb"-STEPS = 1")
    asked.expect(rb"\+STEPS = 3")
    asked.expect(rb"Go on and merge\? \[y/N\]")
    asked.type(b"n\n")
    assert asked.wait() == 75
    assert b"hemma sync --accept host-uncommitted" in asked.seen
    assert clones.snapshot() == before
    asked = on_terminal("sync")
    asked.expect(rb"Go on and merge\? \[y/N\]")
    asked.type(b"y\n")
    assert asked.wait() == 0
    assert clones.are_in_step()
    assert clones.text("host", "src/train.py") == "STEPS = 3\n"


def test_what_cannot_be_accepted_is_shown_and_not_asked(clones: ThreeClones, on_terminal: OnTerminal) -> None:
    clones.write("host", "docs/guide.md", "\x1b[31mred\n")
    clones.publish("docs/guide.md", "theirs\n")
    asked = on_terminal("sync")
    asked.expect(rb"uncommitted changes on the host would be overwritten: docs/guide.md")
    asked.expect(rb"\+\\x1b\[31mred")
    assert asked.wait() == 75
    assert b"[y/N]" not in asked.seen
    assert clones.text("host", "docs/guide.md") == "\x1b[31mred\n"


def test_a_conflict_is_an_error_that_programs_can_read(clones: ThreeClones, cli: Cli) -> None:
    clones.commit("host", "docs/guide.md", "# There\n")
    clones.commit("local", "docs/guide.md", "# Here\n")
    done = cli("sync", "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["error"]) == (75, "merge-conflict")
    assert "docs/guide.md" in answer["message"]
    assert "git merge --abort" in answer["remedy"]


def test_a_live_run_holds_the_tree_until_it_ends(clones: ThreeClones, cli: Cli) -> None:
    run_id = cli("run", "--detach", "--", "sleep", "60").stdout.decode().strip()
    try:
        clones.publish("docs/o.md", "o")
        assert cli("sync").returncode == 0
        clones.publish("src/train.py", "STEPS = 2\n")
        answer = json.loads(cli("sync", "--json").stdout)
        assert [reason["rule"] for reason in answer["verdict"]["reasons"]] == ["runs-hold-the-tree"]
        assert run_id in answer["verdict"]["reasons"][0]["fact"]
        assert clones.text("host", "src/train.py") == "STEPS = 1\n"
    finally:
        assert cli("stop", run_id).returncode == 0
    assert cli("sync").returncode == 0
    assert clones.are_in_step()


# --- a host without a way to origin -------------------------------------------------------------------------------------


def cut_off(clones: ThreeClones) -> None:
    clones.git("host", "remote", "set-url", "origin", str(clones.folder / "unreachable.git"))


def test_objects_are_relayed_both_ways(clones: ThreeClones, cli: Cli) -> None:
    cut_off(clones)
    there = clones.commit("host", "src/h.py", "h" * 100_000)
    assert cli("sync").returncode == 0
    assert set(clones.heads().values()) == {there}
    theirs = clones.publish("src/o.py", "o" * 100_000)
    assert cli("sync").returncode == 0
    assert set(clones.heads().values()) == {theirs}
    clones.commit("host", "src/h.py", "h2")
    here = clones.commit("local", "docs/l.md", "l")
    done = cli("sync", "--json")
    assert done.returncode == 0, done.stderr
    assert [step["action"] for step in json.loads(done.stdout)["steps"]] == [
        "relay-to-origin",
        "fetch",
        "merge",
        "push",
        "relay-to-host",
        "fast-forward",
    ]
    assert clones.are_in_step()
    clones.git("host", "merge-base", "--is-ancestor", here, "HEAD")
    assert clones.git("host", "rev-parse", "origin/main") == clones.head("origin")
    assert clones.git("host", "fsck", "--no-dangling", "--no-progress") == ""


def test_a_cut_off_host_that_diverged_is_asked_about_with_the_facts_of_now(clones: ThreeClones, cli: Cli) -> None:
    cut_off(clones)
    clones.commit("host", "src/h.py", "h")
    clones.publish("src/o.py", "o")
    answer = json.loads(cli("sync", "--json").stdout)
    assert [reason["rule"] for reason in answer["verdict"]["reasons"]] == ["runtime-diverged"]
    assert cli("sync", "--accept", "runtime-diverged").returncode == 0
    assert clones.are_in_step()


def test_relay_never_moves_origin_back(clones: ThreeClones, cli: Cli) -> None:
    cut_off(clones)
    clones.commit("host", "docs/h.md", "h")
    hook = clones.write("origin", "hooks/update", "#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    before = clones.heads()
    done = cli("sync")
    assert (done.returncode, b"local, for the host: push" in done.stderr) == (1, True)
    assert clones.heads() == before


# --- commit --------------------------------------------------------------------------------------------------------------


@pytest.mark.req("S9-R12")
@pytest.mark.parametrize("how", ["staged", "all", "named"])
def test_a_commit_that_moves_logic_into_cells_waits_for_a_person(clones: ThreeClones, cli: Cli, how: str) -> None:
    clones.commit("host", "n.ipynb", notebook())
    clones.write("host", "n.ipynb", LOGIC)
    if how == "staged":
        clones.git("host", "add", "n.ipynb")
    words = {"staged": [], "all": ["-a"], "named": ["n.ipynb"]}[how]
    before = clones.head("host")
    done = cli("commit", "-m", "Clean rows", "--json", *words)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["error"]) == (75, "logic-in-cells")
    assert "n.ipynb: cell 0" in answer["verdict"]["reasons"][0]["fact"]
    assert answer["verdict"]["next_steps"][-1].startswith("hemma commit --accept logic-in-cells")
    assert clones.head("host") == before
    assert cli("commit", "-m", "Clean rows", "--accept", "logic-in-cells", *words).returncode == 0
    assert clones.head("host") != before


def test_a_commit_of_a_thin_notebook_asks_nothing(clones: ThreeClones, cli: Cli) -> None:
    clones.write("host", "n.ipynb", notebook())
    assert cli("commit", "-m", "A notebook", "n.ipynb").returncode == 0
    assert cli("commit", "-m", "x", "--accept", "detached").returncode == 2


def problem(answer: dict[str, Any]) -> Any:
    return answer["problem"] and answer["problem"]["error"]


def test_without_the_hosts_clone_nothing_happens(
    clones: ThreeClones, hemma_with: Make, settings_env: EnvironFor
) -> None:
    cli = hemma_with(settings_env(root=clones.folder / "gone"))
    cli.folder = clones.path("local")
    assert cli("sync").returncode == 66
    told = cli("status", "--json")
    assert (told.returncode, problem(json.loads(told.stdout))) == (66, "root-missing")
