"""Gather what a clone knows into one package: pages, commits, logs and chats (S10-R14, S5-R16). Standard library, no torch.

Each source counts what it looked at and what it gave, and a zero says why. Equal patterns come once; secrets are masked in
every text before anything else sees it (S20-R03).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import re
import stat
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lanes.redaction import Redacted, redact
from manifests.commands import command
from manifests.errors import HemmaError
from manifests.export import ExportPackage, Pattern, Provenance, Skipped, SourceName, SourceRecord, digest_of
from training.export_patterns import (
    Commit,
    Drawn,
    from_chat,
    from_commit,
    from_log,
    from_page,
    is_fix,
    log_key,
    read_chat,
)
from training.export_text import ABOUT, MAPPING, steps

MAX_BYTES = 50 << 20
PAGE_BYTES = 4 << 20
LOG_BYTES = 4 << 20
CHAT_BYTES = 64 << 20
MOST_FILES = 2_000
MOST_COMMITS = 5_000
LOG_FOLDERS = ("logs",)
CHAT_FOLDERS = ("chats", "transcripts")
# A fix's patch says more without generated files.
_NOT_IN_PATCHES = (
    ":(exclude)*.lock",
    ":(exclude)*-lock.*",
    ":(exclude)*.ipynb",
    ":(exclude)*.svg",
    ":(exclude)*.min.*",
)
_SEPARATOR = "\x1e"
# No message holds a NUL and no line of a patch begins with the separator: neither can pass for the next commit.
_NEXT_COMMIT = re.compile(r"\x1e(?=[0-9a-f]{40,64}\x00)")
_NEXT_PATCH = re.compile(r"^\x1e(?=[0-9a-f]{40,64}$)", re.MULTILINE)

Progress = Callable[[int, int | None, str], None]


@dataclass(frozen=True)
class Wanted:
    """What to look at: the clone's top, and files or folders of logs and chats besides the usual ones."""

    root: Path
    logs: Sequence[Path] = ()
    chats: Sequence[Path] = ()
    secrets: Sequence[str] = ()
    max_bytes: int = MAX_BYTES
    most_commits: int = MOST_COMMITS


@dataclass
class _Item:
    """One thing that was read, and what was drawn from it."""

    name: str
    sha256: str
    drawn: Iterable[Drawn]
    commit: str | None = None


@dataclass
class _Source:
    """A source being read: its items come from `items`, and skips are noted on the way."""

    name: SourceName
    nothing: str
    skipped: list[Skipped] = field(default_factory=list[Skipped])
    seen: int = 0

    def skip(self, item: str, cause: str) -> None:
        """Note an item that gives nothing."""
        self.skipped.append(Skipped(item=item, cause=cause))


def gather(wanted: Wanted, created_at: dt.datetime, on_progress: Progress | None = None) -> ExportPackage:
    """The package of what lies in the clone. The same files, commits and time give the same package, byte for byte."""
    collected = _Collected(wanted)
    records: list[SourceRecord] = []
    for source, items in (
        (_Source("docs", "there is no Markdown page in the clone"), _pages),
        (_Source("git", "there is no commit"), _commits),
        (_Source("logs", "there is no *.log file in logs/; name others with --logs"), _logs),
        (_Source("chats", "there is no transcript in chats/ or transcripts/; name others with --chats"), _chats),
    ):
        for item in items(source, wanted):
            source.seen += 1
            collected.add(source.name, item)
            if on_progress:
                on_progress(source.seen, None, f"{source.name}: {item.name}")
        records.append(collected.record(source))
    patterns = tuple(collected.patterns)
    return ExportPackage(
        about=ABOUT,
        created_at=created_at,
        repository=wanted.root.name,
        commit=_head(wanted.root),
        sources=tuple(records),
        redacted=dict(sorted(collected.redacted.items())),
        mapping=MAPPING,
        steps=steps(),
        patterns_sha256=digest_of(patterns),
        patterns=patterns,
    )


class _Collected:
    """Patterns so far: masked, each once, and never more than the package may hold."""

    def __init__(self, wanted: Wanted) -> None:
        self.patterns: list[Pattern] = []
        self.redacted: Counter[str] = Counter()
        self._wanted = wanted
        self._home = os.path.expanduser("~").rstrip(os.sep)
        self._ids: set[str] = set()
        self._left = wanted.max_bytes
        self._kept: Counter[str] = Counter()
        self._duplicates: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()

    def add(self, source: SourceName, item: _Item) -> None:
        """Keep what was drawn from an item."""
        for each in item.drawn:
            context, content, decision = (self._clean(text) for text in (each.context, each.content, each.decision))
            drawn = Drawn(each.category, context, content, decision, each.line)
            pattern = self._pattern(source, item, drawn)
            size = len(drawn.context) + len(drawn.content) + len(drawn.decision) + 400
            if pattern.id in self._ids:
                self._duplicates[source] += 1
            elif size > self._left:
                self._dropped[source] += 1
            else:
                self._ids.add(pattern.id)
                self._left -= size
                self._kept[source] += 1
                self.patterns.append(pattern)

    def _pattern(self, source: SourceName, item: _Item, drawn: Drawn) -> Pattern:
        provenance = Provenance(path=self._clean(item.name), line=drawn.line, commit=item.commit, sha256=item.sha256)
        return Pattern(
            id=_id_of(source, drawn),
            source=source,
            category=drawn.category,
            context=drawn.context,
            content=drawn.content,
            decision=drawn.decision,
            provenance=provenance,
        )

    def _clean(self, text: str) -> str:
        """`text` without secrets, without this person's home folder, and as characters that every reader takes."""
        found: Redacted = redact(text, self._wanted.secrets)
        self.redacted.update(found.counts)
        kept = found.text.replace(self._home, "~") if len(self._home) > 1 else found.text
        return kept.encode("utf-8", "replace").decode("utf-8")

    def record(self, source: _Source) -> SourceRecord:
        """What `source` gave."""
        name = source.name
        return SourceRecord(
            source=name,
            items=source.seen + len(source.skipped),
            patterns=self._kept[name],
            duplicates=self._duplicates[name],
            dropped=self._dropped[name],
            cause="" if self._kept[name] else self._cause(source),
            skipped=tuple(Skipped(item=self._clean(each.item), cause=each.cause) for each in source.skipped),
        )

    def _cause(self, source: _Source) -> str:
        if self._dropped[source.name]:
            return f"the package is full ({self._wanted.max_bytes} bytes)"
        if source.skipped and not source.seen:
            return f"none of {len(source.skipped)} could be read; the first: {source.skipped[0].cause}"
        if self._duplicates[source.name]:
            return "all of it is known from sources before"
        return f"nothing to learn from in {source.seen}" if source.seen else source.nothing


def _id_of(source: str, drawn: Drawn) -> str:
    """The same for the same words, wherever they stand; errors in logs also when only numbers differ."""
    said = log_key(drawn) if source == "logs" else f"{drawn.context}\0{drawn.content}\0{drawn.decision}"
    if source == "docs":  # a section that was copied to another page teaches nothing new
        said = drawn.content
    words = " ".join(f"{drawn.category}\0{said}".split())
    return hashlib.sha256(words.encode("utf-8", "replace")).hexdigest()[:16]


# --- sources ------------------------------------------------------------------------------------------------------


def _pages(source: _Source, wanted: Wanted) -> Iterator[_Item]:
    for path in _tracked(source, wanted.root, "*.md", "*.markdown"):
        text, digest = _read(source, path, wanted.root, PAGE_BYTES)
        if text is not None:
            name = _name(path, wanted.root)
            yield _Item(name, digest, from_page(text, name))


def _commits(source: _Source, wanted: Wanted) -> Iterator[_Item]:
    try:
        commits = _log(wanted.root, wanted.most_commits)
    except HemmaError as error:
        source.nothing = error.message
        return
    patches = _patches(wanted.root, [each.id for each in commits if is_fix(each)])
    for each in commits:
        whole = Commit(each.id, each.subject, each.body, each.files, patches.get(each.id, ""))
        digest = hashlib.sha256(f"{each.id}\0{each.subject}\0{each.body}".encode("utf-8", "replace")).hexdigest()
        yield _Item("", digest, from_commit(whole), commit=each.id)


def _logs(source: _Source, wanted: Wanted) -> Iterator[_Item]:
    usual = [wanted.root / name for name in LOG_FOLDERS]
    for path in _files(source, [*usual, *wanted.logs], (".log", ".out", ".err", ".txt"), wanted.logs):
        text, digest = _read(source, path, wanted.root, LOG_BYTES, tail=True)
        if text is not None:
            yield _Item(_name(path, wanted.root), digest, from_log(text))


def _chats(source: _Source, wanted: Wanted) -> Iterator[_Item]:
    usual = [wanted.root / name for name in CHAT_FOLDERS]
    for path in _files(source, [*usual, *wanted.chats], (".jsonl", ".json"), wanted.chats):
        text, digest = _read(source, path, wanted.root, CHAT_BYTES)
        if text is None:
            continue
        messages, cause = read_chat(text)
        if cause:
            source.skip(_name(path, wanted.root), cause)
        if messages:
            yield _Item(_name(path, wanted.root), digest, from_chat(messages))


# --- files --------------------------------------------------------------------------------------------------------


def _tracked(source: _Source, root: Path, *shapes: str) -> list[Path]:
    """Files that git tracks, or would add; in a folder without git, what lies there."""
    try:
        said = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *shapes)
    except HemmaError:
        found = [path for shape in shapes for path in root.rglob(shape) if not _is_hidden(path.relative_to(root))]
    else:
        found = [root / name for name in dict.fromkeys(said.split("\0")) if name]
    return _at_most(source, sorted(path for path in found if path.exists() or path.is_symlink()))


def _files(source: _Source, places: Sequence[Path], suffixes: tuple[str, ...], named: Sequence[Path]) -> list[Path]:
    """The files of these places: a file as it is named, of a folder those with a fitting suffix."""
    found: dict[Path, None] = {}
    for place in places:
        if place.is_dir():
            below = sorted(path for path in place.rglob("*") if path.suffix.lower() in suffixes and not path.is_dir())
            if not below and place in named:
                source.skip(str(place), f"no file there ends in {', '.join(suffixes)}")
            found.update(dict.fromkeys(below))
        elif place.exists() or place in named:
            found[place] = None
    return _at_most(source, list(found))


def _at_most(source: _Source, paths: list[Path]) -> list[Path]:
    if len(paths) > MOST_FILES:
        source.skip(f"{len(paths) - MOST_FILES} files", f"only the first {MOST_FILES} are read")
    return paths[:MOST_FILES]


def _read(source: _Source, path: Path, root: Path, most: int, *, tail: bool = False) -> tuple[str | None, str]:
    """(text, digest of the bytes) of a regular file; None, and a skip with its cause, for anything else (S5-R16)."""
    name = _name(path, root)
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(0, "it is no regular file")
        with path.open("rb") as file:
            if tail and facts.st_size > most:
                file.seek(facts.st_size - most)
            raw = file.read(most + 1)
    except OSError as error:
        source.skip(name, f"cannot be read: {error.strerror}")
        return None, ""
    cause = _unreadable(raw, facts.st_size, 0 if tail else most)
    if cause:
        source.skip(name, cause)
        return None, ""
    text = raw.decode(
        "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace" if tail else "strict"
    )
    return text, hashlib.sha256(raw).hexdigest()


def _unreadable(raw: bytes, size: int, most: int) -> str:
    """Why these bytes give no text; empty when they do. `most` 0: a log, where a torn character costs one character."""
    if not raw.strip():
        return "it is empty"
    if most and size > most:
        return f"larger than {most >> 20} MiB"
    try:
        raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")
    except UnicodeDecodeError as error:
        if most or b"\0" in raw:
            return f"encoding: not UTF-8 (byte 0x{raw[error.start]:02x} at {error.start})"
    return ""


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part in ("node_modules", "__pycache__") for part in path.parts)


# --- git ----------------------------------------------------------------------------------------------------------


def _head(root: Path) -> str | None:
    try:
        return _git(root, "rev-parse", "--verify", "HEAD").strip()
    except HemmaError:
        return None


def _log(root: Path, most: int) -> list[Commit]:
    """The newest commits without merges, newest first, with the files they touch."""
    shape = f"--format={_SEPARATOR}%H%x00%s%x00%b%x00"
    said = _git(root, "log", "--no-merges", f"--max-count={most}", "-z", "--name-only", shape)
    return [_commit(entry) for entry in _NEXT_COMMIT.split(said)[1:]]


def _commit(entry: str) -> Commit:
    digest, subject, body, *names = entry.split("\0")
    files = tuple(name for name in (each.strip("\n") for each in names) if name)
    return Commit(digest, subject.strip(), body.strip(), files)


def _patches(root: Path, ids: Sequence[str]) -> dict[str, str]:
    """The patch of each of these commits, one line of context around each change."""
    if not ids:
        return {}
    shape = f"--format={_SEPARATOR}%H"
    words = (
        "log",
        "--no-walk=unsorted",
        "--stdin",
        "--patch",
        "--unified=1",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
    )
    said = _git(root, *words, shape, "--", ".", *_NOT_IN_PATCHES, stdin="\n".join(ids) + "\n")
    found = (entry.partition("\n") for entry in _NEXT_PATCH.split(said)[1:])
    return {digest.strip(): patch for digest, _, patch in found}


def _git(root: Path, *words: str, stdin: str = "") -> str:
    environ = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], input=stdin.encode(), capture_output=True, env=environ, check=False
        )
    except FileNotFoundError as error:
        raise HemmaError("git is not installed here", remedy="sudo apt-get install git", code="git-missing") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise HemmaError(
            said[0].removeprefix("fatal: ") if said else "git failed", remedy=command("git -C {} log", root)
        )
    return done.stdout.decode("utf-8", "replace")
