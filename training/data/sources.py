"""Where rows come from: a file, a folder, a pattern, a saved dataset, or a hub id; streamed, with splits and a digest.

What cannot be read is counted by file and cause, a file without any row included (S5-R11, S5-R16). Nothing is made up
in its place: a source with nothing to read is an error that says what to do (S5-R15).
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from manifests.commands import command
from manifests.errors import HemmaError
from training.content import tree
from training.data import readers
from training.data.readers import Reader, Row

Place = tuple[int, int]  # (index of the file, number of the row or line in it)
KEPT_FAULTS = 20
SUFFIXES: Mapping[str, str] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".arrow": "disk",
}
# What a file of a folder is called by when it belongs to one split only.
SPLIT_NAMES: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
}
# Not part of a dataset, though they lie in its folder.
_BESIDE = re.compile(r"(?i)(dataset_infos?|dataset_dict|state)\.json|\.gitattributes")
_ABOUT = re.compile(r"(?i)(readme|licen[cs]e|citation|changelog)\b")


class SourceMissing(HemmaError):
    """A dataset that is not there, cannot be reached, or holds nothing that could be read (S5-R11)."""

    code = "dataset-missing"


@dataclass
class Faults:
    """What could not be read: how many by cause, and the first ones by place."""

    counts: Counter[str] = field(default_factory=Counter[str])
    first: list[str] = field(default_factory=list[str])

    @property
    def total(self) -> int:
        """Rows, or whole files, that could not be read."""
        return self.counts.total()

    def add(self, place: str, cause: str) -> None:
        """Count one."""
        self.counts[re.sub(r"\d+", "N", cause.partition(": ")[0])] += 1
        if len(self.first) < KEPT_FAULTS:
            self.first.append(f"{place}: {cause}")


@dataclass
class Source:
    """One split of a dataset. `rows()` streams it; after it ended, `faults` and `counts` say how that went.

    `local` are copies to read in the place of files (training/data/local_copy.py); what is said names the files.
    """

    name: str
    format: str
    split: str
    files: tuple[Path, ...]
    root: Path
    stream: Callable[[], Iterator[Row]] | None = None
    splits: tuple[str, ...] = ()
    buffer_bytes: int = readers.BUFFER_BYTES
    local: dict[Path, Path] = field(default_factory=dict[Path, Path])
    faults: Faults = field(default_factory=Faults)
    counts: dict[str, int] = field(default_factory=dict[str, int])

    def rows(self) -> Iterator[tuple[Place, Row]]:
        """Every row with its place, in the order of files and lines; a new pass each time."""
        self.faults, self.counts = Faults(), {}
        if self.stream is not None:
            yield from self._streamed(self.stream)
            return
        read = self._reader()
        for index, path in enumerate(self.files):
            count = 0
            for number, row in read(self.local.get(path, path), self._reporter(index), self.buffer_bytes):
                count += 1
                yield (index, number), row
            self.counts[self._shown(path)] = count

    def place(self, at: Place) -> str:
        """The place as people look it up: file:line."""
        shown = self._shown(self.files[at[0]]) if self.files else self.name
        return f"{shown}:{at[1]}" if at[1] else shown

    def columns(self) -> tuple[str, ...]:
        """The columns of the first row; empty when there is none."""
        return next((tuple(row) for _, row in replace(self, faults=Faults(), counts={}).rows()), ())

    def digest(self) -> str:
        """The digest of the files by name and content; of a hub id, of the id. Files that did not change are not reread."""
        digest = hashlib.sha256(f"{self.format}\0{self.split}\0".encode())
        for path in self.files:
            digest.update(f"{self._shown(path)}\0{tree(path)}\0".encode("utf-8", "surrogateescape"))
        if not self.files:
            digest.update(self.name.encode())
        return f"sha256:{digest.hexdigest()}"

    def report(self) -> list[dict[str, Any]]:
        """Rows per file, a file without rows with its cause (S5-R16)."""
        return [{"file": name, "rows": count, "cause": self._cause(name, count)} for name, count in self.counts.items()]

    def _cause(self, name: str, count: int) -> str | None:
        first = next((fault for fault in self.faults.first if fault.startswith(name)), None)
        return first or ("holds no rows" if not count else None)

    def _shown(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def _reporter(self, index: int) -> Callable[[int, str], None]:
        return lambda number, cause: self.faults.add(self.place((index, number)), cause)

    def _reader(self) -> Reader:
        if self.format == "text":
            return readers.read_text_lines if len(self.files) == 1 and self._is_one_file() else readers.read_document
        return _READERS[self.format]

    def _is_one_file(self) -> bool:
        return self.files[0] == self.root / os.path.expanduser(self.name)

    def _streamed(self, stream: Callable[[], Iterator[Row]]) -> Iterator[tuple[Place, Row]]:
        number = 0
        try:
            for number, row in enumerate(stream(), 1):
                yield (0, number), row
        except OSError as error:
            self.faults.add(self.name, f"cannot be read on: {error}")
        self.counts[self.name] = number


_READERS: Mapping[str, Reader] = {
    "jsonl": readers.read_jsonl,
    "csv": readers.read_csv,
    "parquet": readers.read_parquet,
    "disk": readers.read_arrow,
    "markdown": readers.read_markdown,
}


def open_source(dataset: Mapping[str, Any], root: Path) -> Source:
    """The train split of a request's dataset. Raises SourceMissing when there is nothing to open."""
    return _open(str(dataset["source"]), dataset.get("format"), str(dataset.get("split") or "train"), dataset, root)


def open_eval_source(dataset: Mapping[str, Any], root: Path) -> Source | None:
    """The eval split where the request names one (`eval_source`, or `eval_split` of the same source); else None.

    Without one, a part of the train split is held out (training/data/splitting.py).
    """
    source, split = dataset.get("eval_source"), dataset.get("eval_split")
    if source is None and split is None:
        return None
    if source is None:
        return _open(str(dataset["source"]), dataset.get("format"), str(split), dataset, root)
    wanted = str(split or "validation")
    try:
        return _open(str(source), None, wanted, dataset, root)
    except SourceMissing:
        return _open(str(source), dataset.get("format"), str(dataset.get("split") or "train"), dataset, root)


def _open(name: str, format_: str | None, split: str, dataset: Mapping[str, Any], root: Path) -> Source:
    place = root / os.path.expanduser(name)
    files = _files(place, name, root)
    kind = format_ or _format_of(place, files)
    if kind is None or kind == "hub":
        return _from_hub(name, split, dataset.get("revision"), root)
    if kind == "disk":
        return _from_disk(name, place, split, root)
    wanted = tuple(path for path in files if _format_of(path, (path,)) == kind) if len(files) > 1 else files
    by_split = _by_split(wanted)
    if by_split and split not in by_split:
        raise SourceMissing(
            f"{name} has no split `{split}`, only {', '.join(by_split)}",
            remedy=command("dataset.split: {}", next(iter(by_split))),
        )
    if not wanted:
        raise SourceMissing(
            f"{name} holds no {kind} file", remedy=command("ls -la {}; name another dataset.source", place)
        )
    return Source(name, kind, split, tuple(by_split.get(split, wanted)), root, splits=tuple(by_split))


def _files(place: Path, name: str, root: Path) -> tuple[Path, ...]:
    if place.is_file():
        return (place,)
    if place.is_dir():
        found = place.rglob("*")
    elif glob.has_magic(name):
        found = (Path(each) for each in glob.glob(str(place), recursive=True))
    else:
        return ()
    visible = (path for path in found if path.is_file() and not _is_hidden(path, root))
    return tuple(sorted(path for path in visible if not _BESIDE.search(path.name)))


def _is_hidden(path: Path, root: Path) -> bool:
    parts = path.relative_to(root).parts if path.is_relative_to(root) else path.parts[1:]
    return any(part.startswith(".") for part in parts)


def _format_of(place: Path, files: tuple[Path, ...]) -> str | None:
    """The format by suffix, of a folder that of most of its files; None where nothing tells."""
    if any((place / marker).is_file() for marker in ("dataset_dict.json", "state.json")):
        return "disk"
    names = [path.stem if path.suffix == ".gz" else path.name for path in files]
    # A page about the data lies beside most data.
    names = [name for name in names if not _ABOUT.match(name)] or names
    kinds = Counter(SUFFIXES.get(Path(name).suffix.lower()) for name in names)
    del kinds[None]
    return kinds.most_common(1)[0][0] if kinds else ("text" if place.is_file() else None)


def _by_split(files: tuple[Path, ...]) -> dict[str, list[Path]]:
    """Files by the split that their names begin with; empty when not all are named so."""
    found: dict[str, list[Path]] = {}
    for path in files:
        word = re.split(r"[-_.]", path.name.lower())[0]
        split = SPLIT_NAMES.get(word) or SPLIT_NAMES.get(path.parent.name.lower())
        if split is None or len(files) < 2:
            return {}
        found.setdefault(split, []).append(path)
    return found


def _from_disk(name: str, place: Path, split: str, root: Path) -> Source:
    splits: tuple[str, ...] = ()
    if (place / "dataset_dict.json").is_file():
        splits = tuple(json.loads((place / "dataset_dict.json").read_bytes()).get("splits", ()))
        if split not in splits:
            raise SourceMissing(
                f"{name} has no split `{split}`, only {', '.join(splits)}",
                remedy=command("dataset.split: {}", splits[0]),
            )
        place /= split
    files = tuple(sorted(place.glob("*.arrow"))) if place.is_dir() else (place,) * place.is_file()
    if not files:
        raise SourceMissing(f"{name} holds no .arrow file", remedy="save it again with Dataset.save_to_disk")
    return Source(name, "disk", split, files, root, splits=splits)


def _from_hub(name: str, split: str, revision: str | None, root: Path) -> Source:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or Path(name).suffix in SUFFIXES:
        raise SourceMissing(
            f"{name} does not exist in {root}", remedy="dataset.source: a path that git or sync brought there"
        )
    try:
        from datasets import load_dataset

        stream = load_dataset(name, split=split, revision=revision, streaming=True)
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SourceMissing(
            f"{name} is no path here, and as a hub dataset it cannot be reached: {said}",
            remedy=command(
                "hf download --repo-type dataset {} --local-dir data/{}  (where there is a network), then name that folder as dataset.source",
                name,
                Path(name).name,
            ),
        ) from error
    return Source(name, "hub", split, (), root, stream=lambda: iter(stream))
