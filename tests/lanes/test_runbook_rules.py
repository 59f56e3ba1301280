"""A folder of runbooks that holds gives no finding; each thing that can go wrong gives its own, with its line."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.runbook_pages import anchor_of, parse
from lanes.runbook_rules import SECTIONS, check
from lanes.runbook_stamps import Limits, age_months, stale

TODAY = dt.date(2026, 11, 21)
FACT = "  - says: {key} is so\n    source: https://example.org/{key}\n    verified: 2026-{month}\n"
KEYS = ("launch", "storage", "network", "interruption", "teardown", "commands")


def profile() -> str:
    """A profile as it must be."""
    facts = "".join(f"{key}:\n" + FACT.format(key=key, month="09") for key in KEYS)
    contents = " · ".join(f"[{title}](#{anchor_of(title)})" for title in SECTIONS)
    sections = "\n".join(f"## {title}\n\nText of {title}.\n" for title in SECTIONS)
    head = f"---\ntitle: A cloud\ndate: 2026-11-01\nplatform: cloud\nkind: cloud\n{facts}gotchas:\n  - cloud-stops\n---\n\n"
    return f"{head}# A cloud\n\nContents: {contents}\n\nJump: `hemma runbook search WORD`\n\n{sections}"


def entries(name: str, scope: str, more: str = "") -> str:
    """A file with one entry as it must be."""
    return (
        f"title: T\nscope: {scope}\n{more}gotchas:\n  - id: {name}\n    symptom: It stops.\n    cause: A limit.\n"
        "    fix: Ask for more.\n    sources: [https://example.org/x]\n    verified: 2026-08\n    basis: reproduced\n"
        "    matches: ['it stopped at \\d+']\n    codes: [time-limit]\n"
    )


def library() -> dict[str, str]:
    """A small folder in which everything holds."""
    return {
        "README.md": "---\ntitle: R\ndate: 2026-01-02\n---\n\n# R\n\n[a](host/a.md), [b](profiles/cloud.md), [c](../LICENSE)\n",
        "host/a.md": "---\ntitle: A page\ndate: 2026-01-02\n---\n\n# A page\n\n## Run\n\n[up](../README.md#r) [here](#run) [out](https://example.org/x#y)\n",
        "profiles/cloud.md": profile(),
        "gotchas/one.yaml": entries("one", "universal"),
        "gotchas/cloud.yaml": entries("cloud-stops", "platform", "platform: cloud\n"),
        "training/two.yaml": entries("two", "training"),
    }


def found(texts: dict[str, str], today: dt.date = TODAY, limits: Limits | None = None) -> list[tuple[str, int, str]]:
    """(path, line, rule) of each finding."""
    return [(f.path, f.line, f.rule) for f in check(texts, frozenset({"../LICENSE"}), today, limits)]


@pytest.mark.req("S17-R09", "S17-R16", "S17-R18")
def test_a_folder_in_which_everything_holds_gives_no_finding() -> None:
    assert check(library(), frozenset({"../LICENSE"}), TODAY) == []


def swapped(text: str) -> str:
    """The profile with two neighbouring sections in the other order."""
    return (
        text.replace("## Network\n", "## X\n")
        .replace("## Long commands", "## Network")
        .replace("## X\n", "## Long commands\n")
    )


SECRET = "hf_" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9v"
FAULTS: dict[str, tuple[str, Callable[[str], str], str, str]] = {
    "no front matter": ("host/a.md", lambda t: t.split("---\n", 2)[2].lstrip(), "front-matter", "# A page"),
    "front matter without an end": ("host/a.md", lambda t: t[: t.index("date")], "front-matter", "---"),
    "front matter that is no YAML": ("host/a.md", lambda t: t.replace("A page\ndate", "[\ndate"), "front-matter", "---"),
    "no date": ("host/a.md", lambda t: t.replace("date: 2026-01-02\n", ""), "front-matter", "---"),
    "a date that is none": ("host/a.md", lambda t: t.replace("2026-01-02", "soon"), "front-matter", "date: soon"),
    "another heading": ("host/a.md", lambda t: t.replace("# A page", "# Other"), "structure", "# Other"),
    "no first heading": ("host/a.md", lambda t: t.replace("# A page", "## A page"), "structure", ""),
    "two first headings": ("host/a.md", lambda t: t + "\n# More\n", "structure", "# More"),
    "a dead link": ("host/a.md", lambda t: t + "\n[x](b.md)\n", "link", "[x](b.md)"),
    "a dead anchor": ("host/a.md", lambda t: t + "\n[x](#gone)\n", "link", "[x](#gone)"),
    "a dead anchor elsewhere": ("host/a.md", lambda t: t + "\n[x](../README.md#s)\n", "link", "[x](../README.md#s)"),
    "many sections and no contents": (
        "host/a.md", lambda t: t + "".join(f"\n## S{n}\n\nx\n" for n in range(6)), "contents", "# A page"),
    "a page that is not listed": ("README.md", lambda t: t.replace("[a](host/a.md), ", ""), "index", "---"),
    "a secret": ("host/a.md", lambda t: t + f"\nexport HF_TOKEN={SECRET}\n", "secret", f"export HF_TOKEN={SECRET}"),
    "a secret in an entry": (
        "gotchas/one.yaml", lambda t: t.replace("A limit.", f"A token {SECRET}."), "secret", f"    cause: A token {SECRET}."),
    "a secret over two lines": ("host/a.md", lambda t: t + "\ntoken:\n  x9Kq27Lm4\n", "secret", "---"),
    "a platform without a profile": (
        "gotchas/cloud.yaml", lambda t: t.replace("platform: cloud", "platform: moon"), "cross-reference", "title: T"),
    "a platform that is not named": (
        "gotchas/cloud.yaml", lambda t: t.replace("platform: cloud\n", ""), "entries", "title: T"),
    "a platform of a universal file": (
        "gotchas/one.yaml", lambda t: t.replace("universal", "universal\nplatform: cloud"), "entries", "title: T"),
    "entries without a file": ("gotchas/one.yaml", lambda t: f"- {t[:5]}", "entries", "- title"),
    "a section is missing": ("profiles/cloud.md", lambda t: t.replace("## Network\n\nText of Network.\n", ""), "structure", ""),
    "sections in another order": ("profiles/cloud.md", swapped, "structure", "## Long commands"),
    "an empty section": ("profiles/cloud.md", lambda t: t.replace("Text of Network.\n", ""), "structure", "## Network"),
    "a contents list that leaves out": (
        "profiles/cloud.md", lambda t: t.replace("[Network](#network) · ", ""), "contents", ""),
    "no line for jumping": ("profiles/cloud.md", lambda t: t.replace("Jump:", "Leap:"), "contents", ""),
    "a fact without a source": (
        "profiles/cloud.md", lambda t: t.replace("    source: https://example.org/network\n", ""), "front-matter", "network:"),
    "a stale fact": (
        "profiles/cloud.md", lambda t: t.replace("launch\n    verified: 2026-09", "launch\n    verified: 2026-04"), "stale",
        "  - says: launch is so"),
    "a stale fact about money": (
        "profiles/cloud.md", lambda t: t.replace("teardown\n    verified: 2026-09", "teardown\n    verified: 2026-07"), "stale",
        "  - says: teardown is so"),
    "a stamp of the future": (
        "profiles/cloud.md", lambda t: t.replace("launch\n    verified: 2026-09", "launch\n    verified: 2026-12"), "stale",
        "  - says: launch is so"),
    "an entry that is not there": (
        "profiles/cloud.md", lambda t: t.replace("  - cloud-stops\n", "  - cloud-stops\n  - gone\n"), "cross-reference", "  - gone"),
    "an entry that no profile names": (
        "profiles/cloud.md", lambda t: t.replace("gotchas:\n  - cloud-stops\n", ""), "cross-reference", ""),
    "an entry without a source": (
        "gotchas/one.yaml", lambda t: t.replace("    sources: [https://example.org/x]\n", ""), "entries", "  - id: one"),
    "a source that is no public address": (
        "gotchas/one.yaml", lambda t: t.replace("https://example.org/x", "http://localhost/x"), "entries", "  - id: one"),
    "an entry that is stale": ("gotchas/one.yaml", lambda t: t.replace("2026-08", "2025-08"), "stale", "  - id: one"),
    "an entry about money that is stale": (
        "gotchas/one.yaml", lambda t: t.replace("verified: 2026-08", "money: true\n    verified: 2026-07"), "stale", "  - id: one"),
    "a month that is none": ("gotchas/one.yaml", lambda t: t.replace("2026-08", "2026-13"), "entries", "  - id: one"),
    "entries that are no YAML": ("gotchas/one.yaml", lambda t: t + "  - [\n", "entries", ""),
    "a code that nobody knows": ("gotchas/one.yaml", lambda t: t.replace("time-limit", "no-such"), "entries", "  - id: one"),
    "an expression that is none": ("gotchas/one.yaml", lambda t: t.replace("it stopped", "("), "pattern", "  - id: one"),
    "an expression that takes for ever": (
        "gotchas/one.yaml", lambda t: t.replace("it stopped at \\d+", "(a+)+b"), "pattern", "  - id: one"),
    "an expression that fits everything": ("gotchas/one.yaml", lambda t: t.replace("it stopped at \\d+", "x*"), "pattern", "  - id: one"),
    "two entries of one name": ("training/two.yaml", lambda t: t.replace("id: two", "id: one"), "entries", "  - id: one"),
    "a slip in a key": ("gotchas/one.yaml", lambda t: t.replace("    codes:", "    code:"), "entries", "title: T"),
}  # fmt: skip


@pytest.mark.req("S17-R05", "S17-R09", "S17-R11", "S17-R13", "S17-R15", "S17-R16", "S17-R18")
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_where_it_is(fault: str) -> None:
    path, harm, rule, line = FAULTS[fault]
    texts = library()
    harmed = harm(texts[path])
    assert harmed != texts[path]
    seen = [
        (number, of) for where, number, of in found({**texts, path: harmed}) if where.endswith((path, "cloud.yaml"))
    ]
    assert rule in {of for _, of in seen}
    if line:
        lines = harmed.splitlines()
        assert any(of == rule and lines[number - 1] == line for number, of in seen), seen


@pytest.mark.req("S17-R14", "S17-R15")
def test_what_costs_money_ages_faster_and_the_limits_can_be_set() -> None:
    texts = library()
    ((path, line, rule),) = found(texts, dt.date(2027, 1, 31))  # four months after its stamp
    assert (path, rule) == ("profiles/cloud.md", "stale")
    assert texts[path].splitlines()[line - 1] == "  - says: teardown is so"
    assert found(texts, dt.date(2027, 1, 31), Limits(12, 12)) == []
    assert len(found(texts, TODAY, Limits(0, 0))) == 9


@given(st.integers(2001, 2099), st.integers(1, 12), st.dates(dt.date(2001, 1, 1), dt.date(2099, 12, 31)))
def test_a_stamp_of_this_month_holds_and_none_of_the_future_does(year: int, month: int, today: dt.date) -> None:
    stamp = f"{year:04}-{month:02}"
    age = age_months(stamp, today)
    assert (age < 0) == (stamp > f"{today:%Y-%m}")
    assert bool(stale(stamp, today, Limits(6, 3), money=False)) == (age < 0 or age > 6)
    assert bool(stale(stamp, today, Limits(6, 3), money=True)) == (age < 0 or age > 3)


TEXT = st.text(st.sampled_from(list("-:#[]()`{}|>&*!%@'\"\n \ta0é\x00…")), max_size=200)


@given(TEXT, TEXT)
def test_any_text_gives_findings_and_no_exception(page: str, file: str) -> None:
    texts = {"README.md": page, "profiles/x.md": f"---\n{page}\n---\n{file}", "gotchas/x.yaml": file}
    assert all(finding.line >= 1 and finding.says for finding in check(texts, frozenset(), TODAY))


def test_equal_headings_have_anchors_of_their_own_and_code_is_no_heading() -> None:
    page = parse(
        "a.md", "# A\n\n## Run it\n\n```sh\n# no heading [x](y.md)\n```\n\n## Run it\n\n`[x](z.md)` [w](v.md)\n"
    )
    assert [heading.anchor for heading in page.headings] == ["a", "run-it", "run-it-1"]
    assert [link.target for link in page.links] == ["v.md"]
