"""Some 700 lines that call git, in a sandbox, as the agent runs them: what is lost, whether undo brings all back, who is held up.

By default a fixed choice of the lines; HEMMA_FULL=1: every line, beside plain git, with the counts that README promises.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.real.git_lines import lines
from tests.real.git_sandbox import PRECIOUS, Sandbox

pytestmark = pytest.mark.req("S9-R08")
FULL = os.environ.get("HEMMA_FULL") == "1"
ROOT = Path(__file__).resolve().parents[2]
DAILY = yaml.safe_load((ROOT / "tests/cases/git_daily/lines.yaml").read_text())
OUTSIDE = yaml.safe_load((ROOT / "tests/cases/git_outside/lines.yaml").read_text())
# What may be lost, and the row of SECURITY.md that says so. At most five lines of all.
PAST_THE_GUARD = "a forced push past the guard, over commits that this clone never fetched"
MAY_BE_LOST = {
    "absolute path": PAST_THE_GUARD,
    "git's own folder": PAST_THE_GUARD,
    "env -i": PAST_THE_GUARD,
    "sh -lc": PAST_THE_GUARD,
    "a hook of git": PAST_THE_GUARD,
}

ANOTHER_TREE = "files of another work tree that anything but git takes"
OUTSIDE_MAY_BE_LOST = {"rm -rf ../wt && git worktree prune && git branch -D side": ANOTHER_TREE}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    made = Sandbox(tmp_path_factory.mktemp("lines"))
    yield made
    made.close()


def is_refused(done: dict[str, str]) -> bool:
    """Whether the guard said no to a call of the line."""
    return "git-refused" in (Path(done["folder"]) / "events.jsonl").read_text()


def tried(sandbox: Sandbox, line: str) -> tuple[list[str], bool]:
    """What a guarded run of the line lost, and whether a call in it was refused."""
    sandbox.renew()
    sandbox.ask("take", root=str(sandbox.clone), precious=PRECIOUS)
    done = sandbox.run(line)
    return sandbox.lost(), is_refused(done)


@pytest.mark.timeout(7200 if FULL else 300)
def test_no_line_loses_anything(sandbox: Sandbox) -> None:
    """HEMMA_FULL=1: all of them, and plain git beside them to show that they would lose something."""
    every = lines()
    assert len(every) >= 600
    chosen = every if FULL else random.Random(31).sample(every, 36)
    found = {(way, line): tried(sandbox, line) for way, line in chosen}
    lost = {case: told for case, (told, _) in found.items() if told}
    assert {case: told for case, told in lost.items() if told != ["origin"] or case[0] not in MAY_BE_LOST} == {}
    assert len(lost) <= 5, lost
    if FULL:
        losing = [case for case in chosen if losses_of_plain_git(sandbox, case[1])]
        refused = [case for case in losing if found[case][1] and not found[case][0]]
        print(
            f"\n{len(chosen)} lines, {len(losing)} lose something with plain git: {len(refused)} refused, {len(lost)} lost"
        )
        assert len(losing) > 300


@pytest.mark.timeout(7200 if FULL else 300)
def test_undo_brings_back_every_byte_whatever_the_line_did(sandbox: Sandbox) -> None:
    """Files with their modes, index, HEAD, branches, tags, notes, stash; HEMMA_FULL=1: after every line."""
    pytest.importorskip("remote.agent.restore", reason="what puts a backup back is not there yet")
    every = lines()
    left: dict[str, list[str]] = {}
    for _, line in every if FULL else random.Random(17).sample(every, 24):
        sandbox.renew()
        ref = sandbox.ask("take", root=str(sandbox.clone), precious=PRECIOUS)["ref"]
        sandbox.run(line)
        if sandbox.differs():
            sandbox.ask("restore", root=str(sandbox.clone), ref=ref)
            left |= {line: told} if (told := sandbox.differs()) else {}
    assert left == {}


@pytest.mark.timeout(3600 if FULL else 300)
def test_lines_of_somebody_who_did_not_know_the_others_lose_nothing(sandbox: Sandbox) -> None:
    """Each loses something with plain git (HEMMA_FULL=1 shows it of most), or only looks as if it did; undo brings all back."""
    every: list[str] = OUTSIDE["losing"]
    assert len(every) >= 80
    losing, refused = 0, 0
    for line in every if FULL else random.Random(5).sample(every, 16):
        if FULL:
            losing += bool(losses_of_plain_git(sandbox, line))
        sandbox.renew()
        ref = sandbox.ask("take", root=str(sandbox.clone), precious=PRECIOUS)["ref"]
        refused += is_refused(sandbox.run(line))
        assert not sandbox.lost() or line in OUTSIDE_MAY_BE_LOST, (line, sandbox.lost())
        if sandbox.differs():
            sandbox.ask("restore", root=str(sandbox.clone), ref=ref)
            assert sandbox.differs() == [], line
    if FULL:
        print(f"\n{len(every)} lines of an outsider, {losing} lose something with plain git; {refused} refused")
        assert losing > 80


@pytest.mark.timeout(3600 if FULL else 300)
def test_daily_lines_of_an_outsider_are_hardly_refused(sandbox: Sandbox) -> None:
    every: list[str] = OUTSIDE["daily"]
    assert len(every) >= 100
    refused: list[str] = []
    for line in every if FULL else random.Random(8).sample(every, 16):
        sandbox.renew()
        refused += [line] if is_refused(sandbox.run(line)) else []
    assert len(refused) <= len(every) // 100, refused


def losses_of_plain_git(sandbox: Sandbox, line: str) -> list[str]:
    """What the line takes away without a guard and without a backup."""
    sandbox.renew()
    sandbox.run(line, guard=False, backup={"when": "off"})
    return sandbox.lost()


def test_what_may_be_lost_is_named_where_people_read_it() -> None:
    page = (ROOT / "SECURITY.md").read_text("utf-8")
    assert {row for row in (PAST_THE_GUARD, ANOTHER_TREE) if row not in page} == set()


@pytest.mark.timeout(1800 if FULL else 300)
def test_hardly_a_daily_line_is_refused(sandbox: Sandbox) -> None:
    """At most one in a hundred lines of people, agents and tools meets a no; what fails, fails with plain git as well."""
    every = [(who, line) for who, told in DAILY.items() for line in told]
    assert len(every) >= 300
    chosen = every if FULL else random.Random(7).sample(every, 24)
    refused: list[str] = []
    broken: list[tuple[str, int, int]] = []
    for _, line in chosen:
        sandbox.renew()
        done = sandbox.run(line)
        refused += [line] if is_refused(done) else []
        if FULL and not is_refused(done):
            sandbox.renew()
            plain = sandbox.run(line, guard=False)
            broken += [(line, plain["exit_code"], done["exit_code"])] if plain["exit_code"] != done["exit_code"] else []
    assert len(refused) <= max(1, len(chosen) // 100), refused
    assert broken == []
