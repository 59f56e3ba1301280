"""Money and order: research before anything, each paid child reserved within the caps, links that lead somewhere (S8-R15..R19)."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.training.bench import Bench
from training.course import Course
from training.stages.links import is_link, unresolved

pytestmark = [pytest.mark.timeout(300)]
# One unit of money a second: half an hour of preflight and a quarter of an hour of smoke are 2,700 of them.
RATE = 3600.0


def resources(max_cost: float, timeout: str = "30m") -> dict[str, Any]:
    return {"gpu": "optional", "timeout": timeout, "cost_per_hour": RATE, "max_cost": max_cost}


@pytest.mark.req("S3-R01")
@pytest.mark.parametrize(
    "references", [[], ["a paper I once read"], ["https://"], ["https://huggingface.co/docs", "notes.md"]]
)
def test_a_request_without_research_stops_before_anything_is_looked_at(bench: Bench, references: list[str]) -> None:
    done = bench.run(code=75, references=references, resources=resources(1e6), name="unread")
    assert done.stop()["reason"] == "research_missing"
    assert [each["kind"] for each in done.events()] == ["started", "begin", "stopped"]
    assert not list((done.folder / "logs").iterdir())
    ledger = bench.state / "ledger.jsonl"
    assert not ledger.exists() or ":unread" not in ledger.read_text()


@pytest.mark.req("S7-R15", "S8-R19")
@pytest.mark.parametrize("cap", [2699.0, None])
def test_a_cap_below_the_trials_or_an_unknown_cost_stops_with_nothing_started(bench: Bench, cap: float | None) -> None:
    asked = resources(cap or 1e6) | ({} if cap else {"cost_per_hour": None})
    done = bench.run(code=75, resources=asked, name=f"capped-{cap}")
    assert done.stop()["reason"] == "cost_cap_preflight"
    assert [path.name for path in (done.folder / "logs").glob("*.log")] == ["survey.log"]
    assert not done.events("reserve")


@pytest.mark.req("S8-R15", "S8-R16")
def test_every_paid_child_is_reserved_and_settled_and_the_job_stops_at_the_cap(bench: Bench) -> None:
    # Smoke and preflight take seconds of their 45 minutes; the job's whole hour does not fit any more.
    asked = resources(3600.0, "1h")
    done = bench.run(code=75, resources=asked, name="dear")
    assert done.stop()["reason"] == "cost_cap_full_job"
    assert "of 3600.00 spent" in done.stop()["message"]
    assert not done.events("submit")
    reserved = {each["attempt"]: each["timeout_s"] for each in done.events("reserve")}
    assert reserved == {"cpu_smoke-1": 900.0, "preflight-1": 1800.0}
    assert [each["attempt"] for each in done.events("settle")] == list(reserved)
    held = [line for line in (bench.state / "ledger.jsonl").read_text().splitlines() if ":dear" in line]
    assert len(held) == 4
    # With a higher cap it goes on from what is proven, and the evaluation is paid as well.
    more = bench.run(resources=resources(8000.0, "1h"), name="dear")
    assert more.stages()["gpu-preflight"] == done.run_id
    assert [each["attempt"] for each in more.events("settle")] == ["full_job-1", "evaluation-1"]
    assert more.events("links-checked")[-1]["unresolved"] == {}
    links = more.events("links")[-1]
    assert all(is_link(links[name]) for name in ("model", "run", "dashboard"))


@pytest.fixture
def site() -> Iterator[str]:
    """A real server that has one page."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200 if self.path == "/there" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_link_counts_when_it_resolves_now(site: str, tmp_path: Path) -> None:
    course = cast("Course", SimpleNamespace(job={}, root=tmp_path))
    (tmp_path / "here").write_text("x")
    good = {"page": f"{site}/there", "path": (tmp_path / "here").as_uri()}
    assert unresolved(course, good) == {}
    bad = {
        "gone": f"{site}/nothing",
        "nobody": "http://127.0.0.1:9/x",
        "no path": (tmp_path / "no").as_uri(),
        "command": "hemma dashboard last",
        "empty": "",
        "broken": "http://[::1/x",
    }
    found = unresolved(course, bad)
    assert set(found) == set(bad)
    assert "404" in found["gone"]
