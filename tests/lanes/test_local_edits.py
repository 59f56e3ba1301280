"""Which commits a local clone may hold, and how a file of the host gets there instead."""

from __future__ import annotations

import pytest

from lanes.classification import classify_change
from lanes.lane_steps import Edit
from lanes.local_edits import judge_commit
from lanes.rules import rules_from
from lanes.verdict import Verdict

RULES = rules_from({})


def judged(*names: str) -> Verdict:
    return judge_commit(classify_change(names, RULES), {name: Edit(name, "changed") for name in names})


@pytest.mark.req("S9-R04")
def test_documents_may_be_committed_here() -> None:
    assert judged() == Verdict(allowed=True)
    assert judged("README.md", "docs/a.md") == Verdict(allowed=True)


@pytest.mark.req("S9-R02", "S9-R03")
def test_one_file_of_the_host_refuses_the_commit_and_names_the_way() -> None:
    verdict = judged("README.md", "src/train.py")
    assert not verdict.allowed
    (reason,) = verdict.reasons
    assert reason.rule == "source"
    assert "src/train.py" in reason.fact
    assert any(step.endswith("| hemma apply -") for step in verdict.next_steps)
    assert not any("README.md" in step for step in verdict.next_steps)


def test_what_the_host_commits_for_colab_is_no_local_commit_either() -> None:
    verdict = judged("colab/a.ipynb", "train.py")
    assert [reason.rule for reason in verdict.reasons] == ["source", "colab-notebooks"]
    assert sum(step.startswith("hemma commit") for step in verdict.next_steps) == 2


def test_a_great_many_files_are_counted_not_listed() -> None:
    verdict = judged(*(f"src/{number}.py" for number in range(1000)))
    assert len(verdict.reasons) == 11
    assert verdict.reasons[-1].fact == "and 990 more"
    assert verdict.next_steps == ("hemma where",)
