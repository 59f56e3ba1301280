"""Runbooks of a repository, or those that come with Hemma: list, show, search, check (S17-R09, S17-R16, S17-R18)."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.flows import work_tree
from lanes.runbook_pages import Page, parse
from lanes.runbook_rules import Finding, check, is_entries, is_profile, read_entries
from lanes.runbook_stamps import Limits, due
from manifests.commands import command, listed
from manifests.errors import HemmaError, NotARepository
from manifests.runbooks import MONTH, Gotcha, GotchaFile

FOLDER = "runbooks"
# Ours, beside the package: in a checkout its root, in a wheel the folder that holds everything but the door.
SHIPPED = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), FOLDER)
MOST_FILES, MOST_BYTES = 2_000, 1 << 20


class NoRunbook(HemmaError):
    """There is no folder of runbooks, or nothing in it by that name."""

    code = "no-runbook"


@dataclass(frozen=True)
class Library:
    """A folder of runbooks as read: its texts by path, and the paths of everything else that links may lead to."""

    folder: str
    is_shipped: bool
    texts: dict[str, str]
    others: frozenset[str]

    def pages(self) -> list[Page]:
        """Every page, by path."""
        return [parse(path, text) for path, text in sorted(self.texts.items()) if path.endswith(".md")]

    def files(self) -> list[tuple[str, GotchaFile]]:
        """Every file of entries that can be read, by path."""
        read = ((path, read_entries(path, text)[0]) for path, text in sorted(self.texts.items()) if is_entries(path))
        return [(path, file.model) for path, file in read if file.model is not None]

    def entries(self) -> list[Gotcha]:
        """Every entry of every file that can be read."""
        return [entry for _, file in self.files() for entry in file.gotchas]


@dataclass(frozen=True)
class Hit:
    """A place that a search found: the page or entry, its section, the line; `score` orders them."""

    name: str
    title: str
    section: str
    path: str
    line: int
    says: str
    score: int = field(repr=False)


def folder_for(start: str) -> tuple[str, bool]:
    """The runbooks of the repository around `start`, else ours; and whether they are ours."""
    try:
        top = work_tree.top(start)
    except NotARepository:
        top = start
    own = os.path.join(top, FOLDER)
    return (own, False) if os.path.isdir(own) else (SHIPPED, True)


def load(start: str, folder: str | None = None) -> Library:
    """The runbooks of `folder`, or of the repository around `start`, or ours. Raises NoRunbook."""
    chosen, is_shipped = (os.path.join(start, folder), False) if folder else folder_for(start)
    if not os.path.isdir(chosen):
        raise NoRunbook(f"{folder or chosen} is no folder of runbooks", remedy="hemma runbook list")
    texts: dict[str, str] = {}
    others: set[str] = set()
    for path in _walk(chosen):
        if path.endswith(".md") or is_entries(path):
            texts[path] = _read(os.path.join(chosen, path))
        else:
            others.add(path)
    return Library(chosen, is_shipped, texts, frozenset(others | _around(chosen, texts)))


def layers(start: str, folder: str | None = None) -> list[Library]:
    """Where pages and entries are looked for: `folder` alone, or the repository's own runbooks and, beneath them, ours.

    A repository's first entry must not hide what comes with Hemma. Raises NoRunbook.
    """
    first = load(start, folder)
    if folder is not None or first.is_shipped or os.path.realpath(first.folder) == os.path.realpath(SHIPPED):
        return [first]
    ours = load(start, SHIPPED)
    return [first, Library(ours.folder, True, ours.texts, ours.others)]


def findings(library: Library, today: dt.date, limits: Limits) -> list[Finding]:
    """What does not hold in a library on that day."""
    return check(library.texts, library.others, today, limits)


def next_check(library: Library, limits: Limits) -> dt.date | None:
    """The first day on which a stamp of the library does not hold any more; None where there is no stamp (S17-R17)."""
    stamps = [(entry.verified, entry.money) for entry in library.entries()]
    for page in (page for page in library.pages() if is_profile(page.path)):
        for key, facts in (page.matter or {}).items():
            listed: list[Any] = list(facts) if isinstance(facts, list) else []
            known = [fact for fact in listed if isinstance(fact, dict) and MONTH.fullmatch(str(fact.get("verified")))]
            stamps += [(str(fact["verified"]), bool(fact.get("money")) or key == "teardown") for fact in known]
    return min((due(stamp, limits, money=money) for stamp, money in stamps), default=None)


def listing(libraries: Sequence[Library]) -> dict[str, Any]:
    """Pages and entries, as `hemma runbook list --json` gives them; of two by one name the first library's."""
    pages = [
        {"name": _name(page.path), "title": page.title, "kind": _kind(page.path), "date": _date(page), "shipped": ours}
        for library, ours in _each(libraries)
        for page in library.pages()
    ]
    gotchas = [
        {"id": e.id, "symptom": e.symptom, "scope": f.scope, "platform": f.platform, "path": path, "shipped": ours}
        for library, ours in _each(libraries)
        for path, f in library.files()
        for e in f.gotchas
    ]
    return {
        "folder": libraries[0].folder,
        "shipped": libraries[0].is_shipped,
        "pages": _first_of_each(pages, "name"),
        "gotchas": _first_of_each(gotchas, "id"),
    }


def _first_of_each(rows: Sequence[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        found.setdefault(row[key], row)
    return list(found.values())


def _each(libraries: Sequence[Library]) -> list[tuple[Library, bool]]:
    return [(library, library.is_shipped) for library in libraries]


def show(libraries: Sequence[Library], name: str) -> dict[str, Any]:
    """A page by its name (`host/setup`, or `setup` where it is the only one), or an entry by its id. Raises NoRunbook.

    The first library that has it shows it.
    """
    for library in libraries:
        found = _entry_in(library, name) or _page_in(library, name)
        if found is not None:
            return found
    raise NoRunbook(
        f"no page and no entry is called {name!r}", remedy=command("hemma runbook search {}   or: list", name)
    )


def _entry_in(library: Library, name: str) -> dict[str, Any] | None:
    for path, file in library.files():
        for entry in file.gotchas:
            if entry.id == name:
                return {"kind": "gotcha", "path": path, "scope": file.scope, **entry.as_dict()}
    return None


def _page_in(library: Library, name: str) -> dict[str, Any] | None:
    wanted = name.removeprefix(f"{FOLDER}/").removesuffix(".md")
    pages = library.pages()
    fitting = [page for page in pages if _name(page.path) == wanted] or [
        page for page in pages if _name(page.path).endswith(f"/{wanted}")
    ]
    if not fitting:
        return None
    if len(fitting) > 1:
        near = listed(_name(page.path) for page in fitting)
        raise NoRunbook(f"several pages are called {name!r}", remedy=command("one of: {}", near))
    page = fitting[0]
    body = "\n".join(page.text.splitlines()[max(0, page.body_line - 1) :]).strip()
    facts = {key: value for key, value in (page.matter or {}).items() if isinstance(value, list)}
    return {"kind": _kind(page.path), "path": page.path, "title": page.title, "text": body, "facts": facts}


def search(libraries: Sequence[Library], query: str, most: int = 20) -> list[Hit]:
    """The places where every word of `query` occurs, entries and titles first."""
    words = [word for word in query.lower().split() if word]
    found: list[Hit] = []
    for library in libraries if words else ():
        taken = {hit.name for hit in found}
        hits = (*_in_entries(library, words), *_in_pages(library, words))
        found += [hit for hit in hits if hit.name not in taken]
    return sorted(found, key=lambda hit: (-hit.score, hit.path, hit.line))[:most]


def _in_entries(library: Library, words: list[str]) -> Iterator[Hit]:
    for path, file in library.files():
        text = library.texts[path]
        for entry in file.gotchas:
            parts = (entry.id.replace("-", " "), entry.symptom, entry.cause, entry.fix, " ".join(entry.codes))
            score = _score(words, parts, (4, 4, 2, 2, 3))
            if score:
                line = next((n for n, said in enumerate(text.splitlines(), 1) if f"id: {entry.id}" in said), 1)
                yield Hit(entry.id, file.title, "", path, line, entry.symptom, score + 2)


def _in_pages(library: Library, words: list[str]) -> Iterator[Hit]:
    for page in library.pages():
        lines = page.text.splitlines()
        starts = [heading for heading in page.headings if heading.line <= len(lines)]
        for at, heading in enumerate(starts):
            end = starts[at + 1].line - 1 if at + 1 < len(starts) else len(lines)
            body = lines[heading.line : end]
            score = _score(words, (page.title, heading.title, "\n".join(body)), (2, 4, 1))
            if score:
                offset = next((n for n, said in enumerate(body, 1) if words[0] in said.lower()), 0)
                says = body[offset - 1].strip() if offset else heading.title
                yield Hit(_name(page.path), page.title, heading.title, page.path, heading.line + offset, says, score)


def _score(words: Iterable[str], parts: tuple[str, ...], weights: tuple[int, ...]) -> int:
    """0 unless every word stands in some part; else the weights of the parts in which words stand."""
    lowered = [part.lower() for part in parts]
    total = 0
    for word in words:
        here = [weight for part, weight in zip(lowered, weights, strict=True) if word in part]
        if not here:
            return 0
        total += max(here)
    return total


def _walk(folder: str) -> Iterator[str]:
    """Every file below, by path with slashes, hidden ones and links to folders left out; a bounded number."""
    count = 0
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            count += 1
            if count > MOST_FILES:
                return
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(top, name), folder).replace(os.sep, "/")


def _around(folder: str, texts: dict[str, str]) -> set[str]:
    """Places outside the folder that its pages lead to and that exist, as paths from the folder."""
    found: set[str] = set()
    for path, text in texts.items():
        for target in re.findall(r"\]\(((?:\.\./)[^)#\s]+)", text):
            full = os.path.normpath(os.path.join(folder, os.path.dirname(path), target))
            if os.path.exists(full):
                found.add(os.path.relpath(full, folder).replace(os.sep, "/"))
    return found


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(MOST_BYTES)
    except OSError as error:
        raise NoRunbook(f"{path} cannot be read: {error.strerror}", remedy=command("ls -l {}", path)) from error


def _name(path: str) -> str:
    return path.removesuffix(".md")


def _kind(path: str) -> str:
    return "profile" if is_profile(path) else "page"


def _date(page: Page) -> str | None:
    value = (page.matter or {}).get("date")
    return str(value) if value else None
