"""Every format streams its rows; what cannot be read is named by file, line and cause, and never a traceback."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.data.sources import Source, SourceMissing, open_eval_source, open_source

ROWS: list[dict[str, Any]] = [
    {"text": "one", "id": 1},
    {"text": "two ąę 猫", "id": 2},
    {"text": "three\nlines", "id": 3},
]


def opened(root: Path, source: str, **more: Any) -> Source:
    """The source of a request."""
    return open_source({"source": source, **more}, root)


def rows_of(source: Source) -> list[dict[str, Any]]:
    """All rows."""
    return [row for _, row in source.rows()]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """A JSONL file."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_all(root: Path) -> None:
    """The same rows in every format that keeps types."""
    from datasets import Dataset, DatasetDict

    write_lines(root / "a.jsonl", ROWS)
    (root / "a.json").write_text(json.dumps(ROWS), encoding="utf-8")
    with gzip.open(root / "a.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write((root / "a.jsonl").read_text(encoding="utf-8"))
    dataset = Dataset.from_list(ROWS)
    dataset.to_parquet(str(root / "a.parquet"))
    dataset.save_to_disk(str(root / "disk"))
    DatasetDict({"train": dataset, "test": dataset.select([0])}).save_to_disk(str(root / "dict"))


@pytest.mark.req("S4-R03")
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz", "a.parquet", "disk", "dict"])
def test_every_format_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    write_all(tmp_path)
    source = opened(tmp_path, name)
    assert rows_of(source) == ROWS
    assert source.columns() == ("text", "id")
    assert source.faults.total == 0
    assert [each["rows"] for each in source.report()] == [3]


def test_csv_gives_text_and_none_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes('\ufefftext;label\n"a;b";1\nc;\n'.encode())
    assert rows_of(opened(tmp_path, "a.csv")) == [{"text": "a;b", "label": "1"}, {"text": "c", "label": None}]
    (tmp_path / "a.tsv").write_bytes(b'text\tlabel\n"two\nlines"\t1\n')
    assert rows_of(opened(tmp_path, "a.tsv")) == [{"text": "two\nlines", "label": "1"}]


def test_text_is_one_row_a_line_and_in_a_folder_one_a_file(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("one\n\n  \ntwo\r\n", encoding="utf-8")
    assert rows_of(opened(tmp_path, "t.txt")) == [{"text": "one"}, {"text": "two"}]
    (tmp_path / "books").mkdir()
    (tmp_path / "books/b.txt").write_text("x\ny", encoding="utf-8")
    (tmp_path / "books/a.txt").write_text("z", encoding="utf-8")
    assert [row["text"] for row in rows_of(opened(tmp_path, "books"))] == ["z", "x\ny"]
    assert [row["path"] for row in rows_of(opened(tmp_path, "books/*.txt"))] == ["a.txt", "b.txt"]


def test_markdown_has_its_front_matter_as_columns(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "one.md").write_text("---\ntitle: 'First'\ntags: a, b\n---\n\n# Other\nbody\n", encoding="utf-8")
    (pages / "README.md").write_text("# Second\n---\nno front matter\n", encoding="utf-8")
    rows = rows_of(opened(tmp_path, "pages", format="markdown"))
    assert rows[1] == {"title": "First", "tags": "a, b", "path": "one.md", "text": "# Other\nbody\n"}
    assert rows[0]["title"] == "Second"
    assert rows[0]["text"].startswith("# Second")


@pytest.mark.req("S5-R16")
def test_each_bad_line_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    bad = [
        b'{"text": "fine"}',
        b'{"text": "cut off',
        b'{"text": "caf\xe9"}',
        b"[1, 2]",
        b'{"text": "half \\ud83d"}',
        b"nonsense",
        b'{"text": "pair \\ud83d\\ude00"}',
        b"",
        b'{"text": "last"} {"text": "two on a line"}',
        b'{"text": "\\u0041"}  ',
        b"[" * 100_000,
        b'{"text": "no newline at the end"}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n".join(bad))
    source = opened(tmp_path, "a.jsonl")
    texts = [row["text"] for row in rows_of(source)]
    assert texts == ["fine", "pair 😀", "A", "no newline at the end"]
    assert source.faults.total == 7
    named = {fault.split(": ")[0]: fault for fault in source.faults.first}
    assert sorted(named) == sorted(f"a.jsonl:{line}" for line in (2, 3, 4, 5, 6, 9, 11))
    assert "byte 0xe9" in named["a.jsonl:3"]
    assert "holds a list" in named["a.jsonl:4"]
    assert "half a character" in named["a.jsonl:5"]
    assert all("Traceback" not in fault for fault in source.faults.first)


@pytest.mark.req("S5-R16")
@pytest.mark.parametrize(
    ("name", "data", "cause"),
    [
        ("a.jsonl", '{"text": "a"}\n'.encode("utf-16"), "UTF-16"),
        ("a.jsonl", b"", "holds no rows"),
        ("a.json", b"[{}, 3", "not JSON"),
        ("a.jsonl.gz", b"not gzip", "cannot be read"),
        ("a.parquet", b"PAR1 but not really PAR1", "cannot be read"),
        ("a.csv", b"text\n\xff\xfe\n", "not UTF-8"),
        ("a.csv", b"a,b\n1,2,3\n", "has 3 fields, the header has 2"),
        ("a.txt", b"caf\xe9\n", "not UTF-8"),
    ],
)
def test_a_file_without_a_row_says_the_cause(name: str, data: bytes, cause: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    source = opened(tmp_path, name)
    assert rows_of(source) == []
    assert [each["rows"] for each in source.report()] == [0]
    assert cause in source.report()[0]["cause"]


def test_a_truncated_arrow_or_parquet_file_gives_what_it_has_and_the_cause(tmp_path: Path) -> None:
    write_all(tmp_path)
    arrow = next((tmp_path / "disk").glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:300])
    source = opened(tmp_path, "disk")
    assert rows_of(source) == []
    assert source.faults.total == 1


def test_documents_in_other_encodings_are_counted(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.md").write_bytes("żółw".encode("iso-8859-2"))
    (tmp_path / "d/b.md").write_text("fine", encoding="utf-8")
    (tmp_path / "d/c.md").write_text(" \n", encoding="utf-8")
    source = opened(tmp_path, "d")
    assert [row["text"] for row in rows_of(source)] == ["fine"]
    assert [(each["rows"], (each["cause"] or "").partition(": ")[2][:9]) for each in source.report()] == [
        (0, "not UTF-8"),
        (1, ""),
        (0, "is empty"),
    ]


def test_a_folder_s_files_are_its_splits(tmp_path: Path) -> None:
    for split in ("train-00", "train-01", "test"):
        write_lines(tmp_path / f"{split}.jsonl", [{"text": split}])
    (tmp_path / "README.md").write_text("about", encoding="utf-8")
    assert [row["text"] for row in rows_of(opened(tmp_path, "."))] == ["train-00", "train-01"]
    assert [row["text"] for row in rows_of(opened(tmp_path, ".", split="test"))] == ["test"]
    with pytest.raises(SourceMissing, match="only test, train") as caught:
        opened(tmp_path, ".", split="validation")
    assert caught.value.remedy


def test_eval_rows_come_from_where_the_request_says(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", ROWS)
    write_lines(tmp_path / "b.jsonl", ROWS[:1])
    write_all(tmp_path)
    spec: dict[str, Any] = {"source": "a.jsonl"}
    assert open_eval_source(spec, tmp_path) is None
    assert len(rows_of(open_eval_source({**spec, "eval_source": "b.jsonl"}, tmp_path))) == 1  # type: ignore[arg-type]
    held = open_eval_source({"source": "dict", "eval_split": "test"}, tmp_path)
    assert held is not None
    assert rows_of(held) == ROWS[:1]


@pytest.mark.req("S5-R11")
@pytest.mark.req("S5-R15")
@pytest.mark.parametrize("name", ["missing.jsonl", "data/none", "nobody/nothing", "empty", "no such thing"])
def test_nothing_to_read_says_what_to_do(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceMissing) as caught:
        opened(tmp_path, name)
    assert name in caught.value.message
    assert caught.value.remedy


def test_the_digest_follows_content_and_names(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", ROWS)
    first = opened(tmp_path, "a.jsonl").digest()
    assert first == opened(tmp_path, "a.jsonl").digest()
    assert first.startswith("sha256:")
    write_lines(tmp_path / "b.jsonl", ROWS)
    assert opened(tmp_path, "b.jsonl").digest() != first
    write_lines(tmp_path / "a.jsonl", [*ROWS[:2], {"text": "three lines", "id": 3}])
    os.utime(tmp_path / "a.jsonl", ns=(1, 1))
    assert opened(tmp_path, "a.jsonl").digest() != first


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.dictionaries(st.text(max_size=5), st.text() | st.none() | st.integers() | st.booleans(), min_size=1)
    )
)
def test_what_json_can_say_comes_back(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    for ascii_only in (True, False):
        lines = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
        (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8", newline="")
        source = opened(tmp_path, "a.jsonl")
        assert rows_of(source) == rows
        assert source.faults.total == 0
