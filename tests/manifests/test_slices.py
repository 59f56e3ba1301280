"""The formats of the Colab lane: a person's faults are told with the key, a changed slice.json is seen, one reader reads both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.errors import HemmaError, UsageError
from manifests.files import read_json
from manifests.slices import (
    EXAMPLE,
    RowStatus,
    SliceIndex,
    parse_any_status,
    parse_slice_manifest,
    read_any_status,
    slice_digest,
)
from manifests.status import Running

SAMPLES = Path(__file__).resolve().parents[1] / "old_versions"
INDEX: dict[str, Any] = {
    "schema_version": 1, "kind": "hemma-slice", "name": "words", "lane": "colab", "commit": "a" * 40, "host": "gpu",
    "manifest": "manifests/slices/words.yaml", "rows": 1, "processor": "prep:clean", "run": {}, "resume": {},
    "files": [{"path": "rows.jsonl", "size_bytes": 2, "sha256": "b" * 64}],
}  # fmt: skip
STATUS: dict[str, Any] = {
    "schema_version": 1, "kind": "rows", "run_id": "words-1", "slice": "words", "slice_digest": "a" * 64, "state": "running",
    "counts": {"total": 3, "done": 1}, "attempt": 1, "host": "gpu", "pid": 7, "session": "ab",
    "started_at": "2026-11-21T12:00:00+00:00", "heartbeat_at": "2026-11-21T12:00:09+00:00", "heartbeat_s": 10.0,
}  # fmt: skip


def test_the_example_is_a_whole_manifest() -> None:
    manifest = parse_slice_manifest(EXAMPLE, "x.yaml")
    assert (manifest.run.session_limit, manifest.run.row_timeout) == (11 * 3600.0, 120.0)


@pytest.mark.req("S9-R33")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"processor": "prep/clean.py"}, "processor: "),
        ({"processor": "prep.clean:clean; import os"}, "processor: "),
        ({"rows": {"source": "data/x.parquet"}}, r"must be a \.jsonl or \.csv"),
        ({"rows": {"source": "../x.jsonl"}}, "inside the repository"),
        (
            {"rows": {"source": "data/x.jsonl", "wheer": {"a": 1}}},
            r"`rows\.wheer` is unknown; did you mean `rows\.where`",
        ),
        ({"packages": {"all": ["torch>=2"]}}, r"packages\.all\.0"),
        ({"packages": {"all": ["x==1; rm -rf /"]}}, r"packages\.all\.0"),
        ({"secrets": ["hf_abcdefghijklmnopqrstuvwxyz"]}, r"secrets\.0"),
        ({"localizable": [{"name": "a", "default": "x"}, {"name": "a", "default": "y"}]}, "each name once"),
        ({"localizable": [{"name": "a", "default": "x", "feilds": ["b"]}]}, r"mean `localizable\.0\.fields`"),
        ({"run": {"session_limit": "4m", "stop_before": "5m"}}, "longer than"),
        ({"accept": {"a.txt": " "}}, "needs the reason"),
        ({"schema_version": 9}, "newer Hemma"),
        ({"name": "../up"}, "name: "),
    ],
)
def test_a_fault_names_its_key_and_never_the_value(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as told:
        parse_slice_manifest(yaml.safe_dump({**yaml.safe_load(EXAMPLE), **change}), "x.yaml")
    assert "$EDITOR" in told.value.remedy
    assert "hf_abc" not in str(told.value)


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "a: b: c"])
def test_what_is_no_manifest_is_refused_in_words(text: str) -> None:
    with pytest.raises(UsageError, match=r"x\.yaml"):
        parse_slice_manifest(text, "x.yaml")


def whole(**changes: Any) -> dict[str, Any]:
    """slice.json as data, its digest right."""
    made = {**INDEX, **changes}
    return {**made, "digest": slice_digest(made)}


@pytest.mark.req("S9-R30")
def test_an_index_proves_itself_and_keeps_what_it_does_not_know() -> None:
    made = whole(later={"a": 1})
    assert SliceIndex.parse(made, "slice.json").as_dict()["later"] == {"a": 1}
    for key, value in {"commit": "c" * 40, "rows": 2, "processor": "prep:other", "later": {}}.items():
        with pytest.raises(HemmaError, match="was changed after it was issued"):
            SliceIndex.parse({**made, key: value}, "slice.json")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "~/x", "slice.json", "paths.json", "a\\b"])
def test_an_index_names_no_path_outside_its_folder(path: str) -> None:
    with pytest.raises(HemmaError, match="files"):
        SliceIndex.parse(whole(files=[{"path": path, "size_bytes": 0, "sha256": "b" * 64}]), "slice.json")


def test_the_pages_carry_the_digest_so_it_is_not_over_them() -> None:
    page = {"path": "notebook.ipynb", "size_bytes": 1, "sha256": "c" * 64}
    assert slice_digest({**INDEX, "files": [page, *INDEX["files"]]}) == slice_digest(INDEX)
    other = {**page, "path": "notebook2.ipynb"}
    assert slice_digest({**INDEX, "files": [other, *INDEX["files"]]}) != slice_digest(INDEX)


@pytest.mark.req("S9-R14")
def test_one_reader_reads_the_status_of_a_command_and_of_rows() -> None:
    rows = parse_any_status(STATUS)
    command = parse_any_status(json.loads((SAMPLES / "status-running.v1.json").read_text()))
    assert (type(rows), type(command)) == (RowStatus, Running)
    assert (rows.run_id, rows.state, rows.heartbeat_at.second) == ("words-1", "running", 9)
    with pytest.raises(HemmaError, match="counts"):
        parse_any_status({**STATUS, "counts": {"total": -1}})


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("slice.v*.json")), ids=lambda path: path.name)
def test_every_old_slice_loads_and_comes_back_whole(path: Path) -> None:
    assert SliceIndex.read(str(path)).as_dict() == read_json(str(path))


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("row-status.v*.json")), ids=lambda path: path.name)
def test_every_old_row_status_loads_and_comes_back_whole(path: Path) -> None:
    assert read_any_status(str(path)).as_dict() == read_json(str(path))
