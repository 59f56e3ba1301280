"""The page of the data audit in a real browser: nothing complains, nothing is fetched, all can be read, on a phone too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.controller.run_facts import HOSTILE
from tests.real import chromium
from training.data.audit_page import page

pytestmark = [pytest.mark.skipif(chromium.PROGRAM is None, reason=chromium.REASON), pytest.mark.req("S5-R12")]
SAID = {"plain": "prompt", "hostile": " ".join(HOSTILE), "unbroken": "x" * 300}


def audited(said: str) -> dict[str, Any]:
    """A result as the audit returns it, with `said` in every place that holds text of the user's."""
    sizes = {
        "count": 9,
        "smallest": 1,
        "largest": 2577,
        "median": 380,
        "outliers": 2,
        "total": 4000,
        "mean": 444.4,
        "p99": 1599,
    }
    column: dict[str, Any] = {"name": said, "kinds": {"text": 805, "null": 2}, "missing": 2, "empty": 1, "sizes": sizes}
    checks = [
        {
            "name": "token-loss",
            "held": False,
            "fact": f"17,302 of 407,587 tokens; {said}",
            "mend": "packing: bfd_split",
        },
        {"name": "format", "held": True, "fact": said, "mend": ""},
    ]
    return {
        "verdict": "mappable",
        "passed": False,
        "method": "sft",
        "mapping": {"prompt": said},
        "splits": {"train": 759, "eval": 46},
        "sequence_length": 1024,
        "packing": "none",
        "checks": checks,
        "tokens": {
            **sizes,
            "lost": 17302,
            "share_lost": 0.0425,
            "rows_without_loss": 7,
            "bars": [(at * 100, at * 100 + 99, 90 - 4 * at) for at in range(18)] + [(1800, 2577, 1)],
        },
        "longest_rows": [{"tokens": 2577, "place": f"{said}:180"}],
        "columns": [column, {**column, "classes": [[said, 735], ["forum", 72]], "class_count": 2}],
        "sources": [{"name": said, "split": "train", "files": [{"file": said, "rows": 807, "cause": said}]}],
        "notes": [said],
        "samples": [{said: said}],
        "rendered_samples": [{"prompt": said}],
    }


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    """One browser for all tests here."""
    with chromium.browser(tmp_path_factory.mktemp("profile")) as shown:
        yield shown


@pytest.fixture(params=list(SAID), scope="module")
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page on disk."""
    path = tmp_path_factory.mktemp("report") / "data_audit.html"
    path.write_bytes(page(audited(SAID[request.param])).encode("utf-8", "replace"))
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_page_fits_can_be_read_and_is_silent(browser: chromium.Page, report: Path, width: int, dark: bool) -> None:
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(report, width=width, dark=dark)
    assert browser.overflow() == 0
    ratio, text = browser.least_contrast()
    assert ratio >= 4.5, text
    assert browser.complaints == []
    assert {url for url in browser.requests if not url.startswith("data:")} == {report.as_uri()}


def test_no_text_of_the_data_became_markup(browser: chromium.Page, report: Path) -> None:
    browser.open(report)
    assert browser.ask("document.querySelectorAll('img, iframe, object, [onmouseover], [onerror]').length") == 0
    assert browser.ask("document.querySelectorAll('script:not([type=\"application/json\"])').length") == 0
    held = json.loads(browser.ask("document.getElementById('data').textContent"))
    assert held["splits"] == {"train": 759, "eval": 46}


def test_letters_of_the_histogram_can_be_read_on_a_phone(browser: chromium.Page, report: Path) -> None:
    browser.open(report, width=390)
    height = browser.ask(
        "Math.min(...[...document.querySelectorAll('svg text')].map(each => each.getBoundingClientRect().height))"
    )
    assert height >= 9
