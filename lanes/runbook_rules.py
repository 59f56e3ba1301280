"""What must hold of a folder of runbooks: structure, links, stamps, no secrets, entries that can be found (S17-R09, S17-R13..R18).

Text in, findings out, each with file and line. A page below profiles/ is a platform profile: the same eight sections in the
same order. A file below gotchas/ or training/ that ends in .yaml holds entries.
"""

from __future__ import annotations

import datetime as dt
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from manifests.model import faults, slips
from manifests.runbooks import Gotcha, GotchaFile, PageMatter, ProfileMatter
from pydantic import ValidationError

from lanes.failure_codes import CODES
from lanes.gotcha_match import why_unsafe
from lanes.redaction import redact
from lanes.runbook_pages import CONTENTS, JUMP, Link, Page, line_of, links_in, load_yaml, parse
from lanes.runbook_stamps import Limits, stale

# The eight sections of a profile, in this order; the seventh names the platform's gotchas.
SECTIONS = (
    "Launch",
    "What survives",
    "Network",
    "Interruption and resume",
    "Teardown and billing",
    "Long commands",
    "Gotchas",
    "Settings for Hemma",
)
KEYS = ("launch", "storage", "network", "interruption", "teardown", "commands")
# A page with more sections than this is jumped about in: it needs a contents list and a line that says how (S17-R18).
MANY_SECTIONS = 6
INDEX = "README.md"
_EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:")


@dataclass(frozen=True)
class Finding:
    """Something that does not hold: where, by which rule, what."""

    path: str
    line: int
    rule: str
    says: str


@dataclass(frozen=True)
class EntryFile:
    """A file of entries as read: its model, or why there is none."""

    path: str
    text: str
    model: GotchaFile | None


def check(
    texts: Mapping[str, str], others: frozenset[str], today: dt.date, limits: Limits | None = None
) -> list[Finding]:
    """Every finding in a folder of runbooks, by file and line.

    `texts` are its pages and files of entries by path; `others` every path that a link may lead to besides, both from the
    folder's own place. The date is an argument: the same folder and date give the same findings.
    """
    limits = limits or Limits()
    pages = {path: parse(path, text) for path, text in texts.items() if path.endswith(".md")}
    files = [read_entries(path, text) for path, text in texts.items() if is_entries(path)]
    found: list[Finding] = []
    for page in pages.values():
        found += [*_page(page), *_links(page, pages, texts.keys() | others), *_contents(page)]
        if is_profile(page.path):
            found += _profile(page, files, today, limits)
    for path, text in texts.items():
        found += _secrets(path, text)
    for file, problem in files:
        found += [problem] if problem else [*_entries(file, today, limits)]
    found += [*_twice(files), *_index(pages), *_named_in_profiles(pages, files)]
    return sorted(set(found), key=lambda finding: (finding.path, finding.line, finding.rule, finding.says))


def is_profile(path: str) -> bool:
    """Whether a page is a platform profile."""
    return posixpath.basename(posixpath.dirname(path)) == "profiles" and path.endswith(".md")


def is_entries(path: str) -> bool:
    """Whether a file holds gotchas."""
    return path.endswith((".yaml", ".yml")) and path.split("/", maxsplit=1)[0] in {"gotchas", "training"}


def read_entries(path: str, text: str) -> tuple[EntryFile, Finding | None]:
    """A file of entries, and what keeps it from being read."""
    try:
        value = load_yaml(text)
        if not isinstance(value, dict):
            return EntryFile(path, text, None), Finding(path, 1, "entries", "is no list of keys")
        model = GotchaFile.model_validate(value)
    except ValidationError as error:
        key, rule = faults(error)[0]
        return EntryFile(path, text, None), Finding(path, _fault_line(text, key), "entries", f"{key}: {rule}")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        said = " ".join(str(getattr(error, "problem", None) or error).split())[:160]
        return EntryFile(path, text, None), Finding(
            path, mark.line + 1 if mark else 1, "entries", f"is no YAML: {said}"
        )
    return EntryFile(path, text, model), None


def _fault_line(text: str, key: str) -> int:
    """The line of the entry that a fault's key (`gotchas.3.fix`) is in."""
    parts = key.split(".")
    if len(parts) < 2 or not parts[1].isdigit():
        return line_of(text, f"{parts[0]}:")
    items = [(number, line) for number, line in enumerate(text.splitlines(), 1) if re.match(r"\s*- ", line)]
    indent = len(items[0][1]) - len(items[0][1].lstrip()) if items else 0
    starts = [number for number, line in items if len(line) - len(line.lstrip()) == indent]
    return starts[int(parts[1])] if int(parts[1]) < len(starts) else 1


# --- every page ----------------------------------------------------------------------------------------------------


def _page(page: Page) -> Iterator[Finding]:
    if page.matter is None:
        yield Finding(page.path, 1, "front-matter", page.broken)
        return
    try:
        matter = PageMatter.model_validate(page.matter)
    except ValidationError as error:
        for key, rule in faults(error):
            yield Finding(page.path, line_of(page.text, f"{key}:"), "front-matter", f"{key}: {rule}")
        return
    first = page.headings[0] if page.headings else None
    if first is None or first.level != 1:
        yield Finding(page.path, page.body_line, "structure", "its first heading is not of the first level")
    elif sum(heading.level == 1 for heading in page.headings) > 1:
        second = [heading for heading in page.headings if heading.level == 1][1]
        yield Finding(page.path, second.line, "structure", "has two headings of the first level")
    if first is not None and first.title != matter.title and not is_profile(page.path):
        yield Finding(page.path, first.line, "structure", f"its heading and its title {matter.title!r} differ")


def _contents(page: Page) -> Iterator[Finding]:
    """The contents list names every section in order; a long page has one, and a line for jumping (S17-R18)."""
    wanted = [(section.title, f"#{section.anchor}") for section in page.sections]
    marked = page.marked(CONTENTS)
    if marked is None:
        if len(wanted) > MANY_SECTIONS or is_profile(page.path):
            line = page.headings[0].line if page.headings else page.body_line
            yield Finding(page.path, line, "contents", f"has no line that begins with {CONTENTS!r}")
        return
    number, said = marked
    listed = links_in(said)
    if listed != wanted:
        odd = next((title for title, _ in wanted if title not in {says for says, _ in listed}), None)
        what = f"leaves out {odd!r}" if odd else "does not name the sections as they are, in their order"
        yield Finding(page.path, number, "contents", f"the contents list {what}")
    if page.marked(JUMP) is None:
        yield Finding(page.path, number, "contents", f"has no line that begins with {JUMP!r}")


def _links(page: Page, pages: Mapping[str, Page], paths: frozenset[str] | set[str]) -> Iterator[Finding]:
    for link in page.links:
        if says := _dead(page, link, pages, paths):
            yield Finding(page.path, link.line, "link", says)


def _dead(page: Page, link: Link, pages: Mapping[str, Page], paths: frozenset[str] | set[str]) -> str:
    if _EXTERNAL.match(link.target):
        return ""
    target, _, anchor = link.target.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page.path), target)) if target else page.path
    if path not in paths and not any(other.startswith(f"{path}/") for other in paths):
        return f"{link.target} leads nowhere"
    if anchor and path in pages and anchor not in {heading.anchor for heading in pages[path].headings}:
        return f"{link.target}: no heading has this anchor"
    return ""


def _index(pages: Mapping[str, Page]) -> Iterator[Finding]:
    index = pages.get(INDEX)
    if not pages:
        return  # entries alone need none
    if index is None:
        yield Finding(INDEX, 1, "index", "there is no page that lists the others")
        return
    listed = {posixpath.normpath(link.target.partition("#")[0]) for link in index.links}
    for path in sorted(pages.keys() - listed - {INDEX}):
        yield Finding(INDEX, 1, "index", f"{path} is not listed")


def _secrets(path: str, text: str) -> Iterator[Finding]:
    """Lines that hold what looks like a secret (S17-R11); which one is not repeated."""
    if not redact(text).total:
        return
    named = False
    for number, line in enumerate(text.splitlines(), 1):
        for kind in redact(line).counts:
            named = True
            yield Finding(path, number, "secret", f"holds what looks like a secret ({kind})")
    if not named:
        yield Finding(path, 1, "secret", "holds what looks like a secret over several lines")


# --- profiles ------------------------------------------------------------------------------------------------------


def _profile(
    page: Page, files: Iterable[tuple[EntryFile, Finding | None]], today: dt.date, limits: Limits
) -> Iterator[Finding]:
    titles = [section.title for section in page.sections]
    if titles != list(SECTIONS):
        at = next((n for n, pair in enumerate(zip(titles, SECTIONS, strict=False)) if pair[0] != pair[1]), len(titles))
        wanted = SECTIONS[at] if at < len(SECTIONS) else "the end"
        line = page.sections[at].line if at < len(titles) else len(page.text.splitlines())
        yield Finding(page.path, line, "structure", f"section {at + 1} must be {wanted!r}")
    try:
        matter = ProfileMatter.model_validate(page.matter or {})
    except ValidationError as error:
        for key, rule in faults(error):
            yield Finding(page.path, line_of(page.text, f"{key.split('.')[0]}:"), "front-matter", f"{key}: {rule}")
        return
    yield from (Finding(page.path, 1, "front-matter", slip) for slip in slips(matter))
    yield from _empty_sections(page)
    at = 1
    for key, fact in matter.facts():
        at = line_of(page.text, fact.says[:30], at)
        if says := stale(fact.verified, today, limits, money=fact.money or key == "teardown"):
            yield Finding(page.path, at, "stale", f"{key}: {says}")
    known = {entry.id for file, _ in files if file.model for entry in file.model.gotchas}
    for name in matter.gotchas:
        if name not in known:
            yield Finding(page.path, line_of(page.text, name), "cross-reference", f"there is no entry {name!r}")


def _empty_sections(page: Page) -> Iterator[Finding]:
    lines = page.text.splitlines()
    ends = [*(section.line for section in page.sections[1:]), len(lines) + 1]
    for section, end in zip(page.sections, ends, strict=False):
        if not any(line.strip() for line in lines[section.line : end - 1]):
            yield Finding(page.path, section.line, "structure", f"section {section.title!r} is empty")


def _named_in_profiles(
    pages: Mapping[str, Page], files: Iterable[tuple[EntryFile, Finding | None]]
) -> Iterator[Finding]:
    """An entry of a platform stands in section 7 of its profile, and the profile's front matter names it."""
    by_platform = {
        str((page.matter or {}).get("platform")): page
        for path, page in pages.items()
        if is_profile(path) and page.matter
    }
    for file, _ in files if by_platform else ():  # a repository may have learned of a platform and describe none
        if file.model is None or file.model.scope != "platform":
            continue
        page = by_platform.get(file.model.platform or "")
        if page is None:
            yield Finding(file.path, 1, "cross-reference", f"no profile is of the platform {file.model.platform!r}")
            continue
        listed: Any = (page.matter or {}).get("gotchas") or ()
        for entry in file.model.gotchas:
            if entry.id not in listed:
                line = line_of(file.text, f"id: {entry.id}")
                yield Finding(file.path, line, "cross-reference", f"{page.path} does not name {entry.id!r}")


# --- entries -------------------------------------------------------------------------------------------------------


def _entries(file: EntryFile, today: dt.date, limits: Limits) -> Iterator[Finding]:
    assert file.model is not None
    if (file.model.scope == "platform") != (file.model.platform is not None):
        yield Finding(file.path, 1, "entries", "`platform` is set exactly where `scope` is platform")
    yield from (Finding(file.path, 1, "entries", slip) for slip in slips(file.model))
    for entry in file.model.gotchas:
        line = line_of(file.text, f"id: {entry.id}")
        yield from (
            Finding(file.path, line, rule, f"{entry.id}: {says}") for rule, says in _entry(entry, today, limits)
        )


def _entry(entry: Gotcha, today: dt.date, limits: Limits) -> Iterator[tuple[str, str]]:
    if says := stale(entry.verified, today, limits, money=entry.money):
        yield "stale", says
    for pattern in entry.matches:
        if why := why_unsafe(pattern):
            yield "pattern", f"the expression {pattern!r} {why}"
    for code in entry.codes:
        if code not in CODES:
            yield "entries", f"the classifier knows no code {code!r}"


def _twice(files: Iterable[tuple[EntryFile, Finding | None]]) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for file, _ in files:
        for entry in file.model.gotchas if file.model else ():
            if entry.id in seen:
                line = line_of(file.text, f"id: {entry.id}")
                yield Finding(file.path, line, "entries", f"{entry.id} stands in {seen[entry.id]} too")
            seen[entry.id] = file.path
