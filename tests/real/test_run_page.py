"""The run report in a real browser: nothing complains, nothing is fetched, all can be read, on a phone too."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.reports.run_page import page
from tests.controller.run_facts import HOSTILE, facts
from tests.real import chromium

pytestmark = [pytest.mark.skipif(chromium.PROGRAM is None, reason=chromium.REASON), pytest.mark.req("S14-R10")]
NOW = dt.datetime(2026, 11, 21, 12, 0, tzinfo=dt.UTC)
SAID = {"plain": "", "hostile": " ".join(HOSTILE)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    """One browser for all tests here."""
    with chromium.browser(tmp_path_factory.mktemp("profile")) as shown:
        yield shown


@pytest.fixture(params=list(SAID), scope="module")
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on disk, of plain facts and of hostile ones."""
    path = tmp_path_factory.mktemp("report") / "run.html"
    path.write_text(page(facts(said=SAID[request.param]), NOW), encoding="utf-8")
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_page_fits_can_be_read_and_is_silent(browser: chromium.Page, report: Path, width: int, dark: bool) -> None:
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(report, width=width, dark=dark)
    for is_open in ("false", "true"):
        browser.ask(f"document.querySelectorAll('details').forEach(each => each.open = {is_open})")
        assert browser.overflow() == 0
        ratio, text = browser.least_contrast()
        assert ratio >= 4.5, text
    assert browser.complaints == []
    assert {url for url in browser.requests if not url.startswith("data:")} == {report.as_uri()}


def test_no_text_of_the_run_became_markup(browser: chromium.Page, report: Path) -> None:
    browser.open(report)
    assert browser.ask("document.querySelectorAll('img, iframe, object, [onmouseover], [onerror]').length") == 0
    assert browser.ask("document.querySelectorAll('script:not([type=\"application/json\"])').length") == 0
    assert browser.ask("[...document.links].filter(each => !each.protocol.startsWith('http')).length") == 0
    assert browser.ask("document.title").startswith("tiny-text")


def test_facts_are_in_the_page_as_they_were(browser: chromium.Page, report: Path) -> None:
    browser.open(report)
    held = json.loads(browser.ask("document.getElementById('run-facts').textContent"))
    assert held["run_id"] == facts()["run_id"]
    assert len(held["metrics"]) == len(facts()["metrics"])


def test_letters_of_the_plot_can_be_read_on_a_phone(browser: chromium.Page, report: Path) -> None:
    browser.open(report, width=390)
    height = browser.ask(
        "Math.min(...[...document.querySelectorAll('svg text')].map(each => each.getBoundingClientRect().height))"
    )
    assert height >= 9
