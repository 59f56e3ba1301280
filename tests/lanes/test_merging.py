"""What a sync would do: every case file under tests/cases/sync, and what must hold of any three clones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lanes.clone_state import Gone, Lost
from lanes.merging import (
    ACCEPTABLE,
    Action,
    CloneState,
    Dirty,
    Escalation,
    Lanes,
    Place,
    Step,
    SyncPlan,
    plan_sync,
)

CASES = Path(__file__).resolve().parents[1] / "cases/sync"
SITUATIONS: dict[str, dict[str, Any]] = {
    f"{path.stem}: {name}": case
    for path in sorted(CASES.glob("*.yaml"))
    for name, case in yaml.safe_load(path.read_text()).items()
}
COMMIT = "c" * 40


def clone(place: Place, **said: Any) -> CloneState:
    """A clone on main that agrees with origin, but for what is said."""
    fields: dict[str, Any] = {"head": COMMIT, "branch": "main", "origin_head": COMMIT, **said}
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    fields["dirty"] = tuple(Dirty(**entry) for entry in fields.get("dirty", ()))
    for name, kind in (("lost", Lost), ("gone", Gone)):
        if fields.get(name) is not None:
            told: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in fields[name].items()
            }
            fields[name] = kind(**told)
    return CloneState(place=place, **fields)


def planned(case: dict[str, Any], *accepted: str) -> SyncPlan | Escalation:
    local, host = clone("local", **case.get("local", {})), clone("host", **case.get("host", {}))
    paths = {*local.incoming, *local.outgoing, *host.incoming, *host.outgoing}
    owned = frozenset(path for path in paths if not path.startswith("docs/"))
    return plan_sync(
        local,
        host,
        Lanes(owned, frozenset(case.get("logic_gained", ()))),
        accepted,
        restores=case.get("restore", False),
    )


def shown(plan: SyncPlan | Escalation) -> list[str]:
    assert isinstance(plan, SyncPlan), plan
    return [" ".join([step.place, step.action, *step.paths]) for step in plan.steps]


@pytest.mark.req("S9-R05", "S9-R08", "S9-R09", "S9-R10", "S9-R11", "S9-R12", "S18-R03")
@pytest.mark.parametrize("case", SITUATIONS.values(), ids=list(SITUATIONS))
def test_each_situation_has_its_plan_or_its_questions(case: dict[str, Any]) -> None:
    found = planned(case, *case.get("accept", ()))
    if "steps" in case:
        assert shown(found) == case["steps"]
        return
    assert isinstance(found, Escalation)
    assert [reason.rule for reason in found.verdict.reasons] == case["rules"]
    for words in case.get("says", ()):
        assert any(words in step for step in found.verdict.next_steps), found.verdict.next_steps
    for words in case.get("facts", ()):
        assert any(words in reason.fact for reason in found.verdict.reasons), found.verdict.reasons
    if "accepted" in case:
        assert shown(planned(case, *case["accepted"]["rules"])) == case["accepted"]["steps"]
        # All but one of the rules is not enough, and what was accepted is not asked again.
        *some, last = case["accepted"]["rules"]
        rest = planned(case, *some)
        assert isinstance(rest, Escalation)
        assert [reason.rule for reason in rest.verdict.reasons] == [last]


def test_a_verdict_is_read_by_programs_with_rule_fact_and_next_step() -> None:
    found = planned({"local": {"ahead": 1, "outgoing": ["src/a.py"]}})
    assert isinstance(found, Escalation)
    assert json.loads(json.dumps(found.verdict.as_dict())) == {
        "allowed": False,
        "reasons": [
            {
                "rule": "local-edits-host-files",
                "fact": "1 local commits change files that the host owns: src/a.py",
            }
        ],
        "next_steps": [
            "hemma sync --accept local-edits-host-files   (commits made locally touch files that the host owns)"
        ],
    }


def test_a_long_list_of_files_is_cut() -> None:
    found = planned({"local": {"ahead": 1, "outgoing": [f"src/{number}.py" for number in range(9)]}})
    assert isinstance(found, Escalation)
    assert "src/4.py and 4 more" in found.verdict.reasons[0].fact
    assert len(found.paths["local-edits-host-files"]) == 9


def test_files_that_are_not_listed_are_counted_all_the_same() -> None:
    dirty = [{"path": f"f{number}", "kind": "untracked"} for number in range(10, 20)]
    plan = planned({"host": {"ahead": 1, "outgoing": ["src/a.py"], "dirty": dirty, "unlisted": 48_000}})
    assert isinstance(plan, SyncPlan)
    assert plan.notes == ("uncommitted on the host, and left alone: f10, f11, f12, f13, f14 and 48005 more",)


def test_a_plan_says_what_stays_as_it_is() -> None:
    plan = planned({"host": {"ahead": 1, "outgoing": ["src/a.py"], "dirty": [{"path": "src/b.py", "kind": "changed"}]}})
    assert isinstance(plan, SyncPlan)
    assert plan.notes == ("uncommitted on the host, and left alone: src/b.py",)
    assert json.loads(json.dumps(plan.as_dict()))["steps"][0]["action"] == "push"


# --- any three clones ------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["src/a.py", "src/b.py", "docs/a.md", "docs/b.md", "n.ipynb", "vendor"])
DIRTY = st.builds(
    Dirty,
    path=NAMES,
    kind=st.sampled_from(["changed", "untracked", "conflicted", "submodule"]),
    is_staged=st.booleans(),
    drift=st.sampled_from([None, "metadata-only", "meaningful"]),
)


def clones(place: Place) -> st.SearchStrategy[CloneState]:
    """Any clone, most often one that is ready for a sync."""
    rarely = st.sampled_from([*[None] * 12, "merge", "rebase", "bisect"])
    return st.builds(
        CloneState,
        place=st.just(place),
        head=st.sampled_from([*[COMMIT] * 9, None]),
        branch=st.sampled_from([*["main"] * 12, "other", None]),
        origin_head=st.sampled_from([*[COMMIT] * 9, None]),
        ahead=st.integers(0, 2),
        behind=st.integers(0, 2),
        incoming=st.lists(NAMES, max_size=3).map(tuple),
        outgoing=st.lists(NAMES, max_size=3).map(tuple),
        dirty=st.lists(DIRTY, max_size=3, unique_by=lambda entry: entry.path).map(tuple),
        operation=rarely,
        is_index_locked=st.sampled_from([*[False] * 12, True]),
        holding=st.lists(st.sampled_from(["run-1", "run-2"]), max_size=2, unique=True).map(tuple),
        reaches_origin=st.booleans(),
    )


LANES = st.builds(
    Lanes,
    st.frozensets(NAMES, max_size=4),
    st.sampled_from([*[frozenset[str]()] * 4, frozenset({"n.ipynb"})]),
)
ACCEPTED = st.lists(st.sampled_from([*ACCEPTABLE, "operation-in-progress", "detached"]), max_size=6)
MOVES_TREE = ("fast-forward", "merge")


@given(clones("local"), clones("host"), LANES, ACCEPTED)
def test_a_plan_is_made_of_known_steps_in_an_order_that_can_be_done(
    local: CloneState, host: CloneState, lanes: Lanes, accepted: list[str]
) -> None:
    found = plan_sync(local, host, lanes, accepted)
    if isinstance(found, Escalation):
        assert not found.verdict.allowed
        assert found.verdict.reasons
        assert all(reason.rule and reason.fact for reason in found.verdict.reasons)
        assert all(found.verdict.next_steps)
        assert found.verdict.next_steps
        assert set(found.paths) == {reason.rule for reason in found.verdict.reasons}
        return
    assert all(step.action in get_args(Action) and step.place in get_args(Place) for step in found.steps)
    _check_order(found.steps)
    # Only what a person was told may be discarded, and nothing that means anything.
    discarded = {path for step in found.steps for path in step.paths}
    assert discarded <= {entry.path for entry in host.dirty if entry.is_metadata_only}
    assert not any(step.paths for step in found.steps if step.action != "discard-metadata")


def _check_order(steps: tuple[Step, ...]) -> None:
    """A merge follows what brings its commits; a discard precedes the host's merges; a push that merged nothing new is none."""
    for number, step in enumerate(steps):
        before = steps[number - 1] if number else None
        if step.action in MOVES_TREE:
            assert before is not None
            assert before.place == step.place
            assert before.action in ("fetch", "relay-to-host")
        if step.action == "discard-metadata":
            assert (number, step.place) == (0, "host")


@given(clones("local"), clones("host"), LANES)
def test_clones_that_agree_are_left_alone(local: CloneState, host: CloneState, lanes: Lanes) -> None:
    lanes = dataclasses.replace(lanes, logic_gained=frozenset())
    same: dict[str, Any] = {"ahead": 0, "behind": 0, "incoming": (), "outgoing": ()}
    found = plan_sync(dataclasses.replace(local, **same), dataclasses.replace(host, **same), lanes)
    assert isinstance(found, Escalation) or found.steps == ()


@given(clones("local"), clones("host"), LANES, st.randoms(use_true_random=False))
def test_the_order_in_which_git_lists_files_is_irrelevant(
    local: CloneState, host: CloneState, lanes: Lanes, chance: Any
) -> None:
    def mixed(state: CloneState) -> CloneState:
        lists: dict[str, Any] = {}
        for name in ("dirty", "incoming", "outgoing"):
            lists[name] = list(getattr(state, name))
            chance.shuffle(lists[name])
        return dataclasses.replace(state, **{name: tuple(each) for name, each in lists.items()})

    assert plan_sync(mixed(local), mixed(host), lanes) == plan_sync(local, host, lanes)


@given(clones("local"), clones("host"), LANES, ACCEPTED)
def test_accepting_takes_that_rule_away_and_no_other(
    local: CloneState, host: CloneState, lanes: Lanes, accepted: list[str]
) -> None:
    first, then = plan_sync(local, host, lanes), plan_sync(local, host, lanes, accepted)
    asked = {reason.rule for reason in first.verdict.reasons} if isinstance(first, Escalation) else set[str]()
    left = {reason.rule for reason in then.verdict.reasons} if isinstance(then, Escalation) else set[str]()
    assert left == asked - (set(accepted) & set(ACCEPTABLE))
    if isinstance(first, SyncPlan):
        assert then == first


@given(clones("local"), clones("host"), LANES)
def test_work_on_the_host_is_never_written_over_whatever_is_accepted(
    local: CloneState, host: CloneState, lanes: Lanes
) -> None:
    found = plan_sync(local, host, lanes, list(ACCEPTABLE))
    if isinstance(found, SyncPlan) and any(step.place == "host" and step.action in MOVES_TREE for step in found.steps):
        arriving = {*(host.incoming if host.behind else ()), *(local.outgoing if local.ahead else ())}
        assert not {entry.path for entry in host.dirty if not entry.is_metadata_only} & arriving
