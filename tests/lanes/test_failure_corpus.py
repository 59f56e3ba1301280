"""Logs of repositories that the first corpus has not: our own shortest reconstructions, one file per repository.

`work` was looked at while the classifier was written, so its numbers say little. `first-sealed` was labelled and committed
before the classifier read it: 103 of 134 right (the one before it: 100). What it showed was mended, so it is work too now.
`sealed` was labelled and committed after that, and read once: 100 of 110 (the classifier before all this: 88). Its misses
are left as they are; who mends by it gathers another half and says here what that one gave.
"""

from __future__ import annotations

import collections
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lanes.failure_codes import CATEGORIES, CODES
from lanes.failures import Diagnosis, FailureFacts, classify

CASES = Path(__file__).resolve().parents[1] / "cases" / "failures"
LEAST_LOGS = 380
BARE = re.compile(r"\S*(?:Error|Exception|Interrupt|Failure|StopIteration):?\s*|\W*")
# How many of each half are right at least; of the sealed one what its only reading gave.
LEAST = {"work": 136, "first-sealed": 132, "sealed": 100}


def cases(half: str) -> list[dict[str, Any]]:
    files = sorted((CASES / half).glob("*.yaml"))
    return [case for file in files for case in yaml.safe_load(file.read_text(encoding="utf-8"))]


def repository(case: dict[str, Any]) -> str:
    return "/".join(case["source"].lower().split("/")[3:5])


def diagnosed(case: dict[str, Any]) -> Diagnosis:
    return classify(case["text"], FailureFacts(**case.get("facts", {})))


@pytest.mark.req("S13-R01", "S13-R10", "S13-R13", "S13-R15", "S13-R18", "S13-R20", "S13-R21")
@pytest.mark.parametrize("half", LEAST)
def test_the_cause_is_found(half: str) -> None:
    found = [(case, diagnosed(case).category) for case in cases(half)]
    wrong = [f"{said} is {case['category']}: {case['source']}" for case, said in found if said != case["category"]]
    assert len(found) - len(wrong) >= LEAST[half], "\n".join(wrong)


@pytest.mark.req("S13-R04")
@pytest.mark.parametrize("half", LEAST)
def test_evidence_of_real_logs_is_a_line_that_says_something(half: str) -> None:
    for case in cases(half):
        for evidence in diagnosed(case).evidence:
            assert not BARE.fullmatch(evidence.line), (case["source"], evidence)
            assert "Traceback (most recent call last)" not in evidence.line
            assert "TORCH_USE_CUDA_DSA" not in evidence.line or "CUDA error" in evidence.line


def test_the_halves_are_large_and_share_no_repository_with_any_other() -> None:
    parts = {name: {repository(case) for case in cases(name)} for name in LEAST}
    first = [yaml.safe_load((CASES / f"{name}.yaml").read_text(encoding="utf-8")) for name in ("dev", "held-out")]
    parts["first"] = {repository(case) for half in first for case in half}
    count = collections.Counter(name for names in parts.values() for name in names)
    assert [name for name, times in count.items() if times > 1] == []
    for name in LEAST:
        for case in cases(name):
            assert CODES[case["code"]].category == case["category"], case["source"]
    assert {case["category"] for name in LEAST for case in cases(name)} == set(CATEGORIES)
    assert sum(len(cases(name)) for name in LEAST) >= LEAST_LOGS
