"""The one way to disk: whole or not at all, private, and clear about a broken file."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from manifests.errors import HemmaError
from manifests.files import atomic_write, read_json, write_json


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "is empty"), (b'{"a": 1', "not valid JSON"), (b"[1]", "no JSON object"), (b"\xff\xfe", "JSON")],
)
def test_a_broken_file_is_named_with_its_fault(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "status.json"
    path.write_bytes(content)
    with pytest.raises(HemmaError, match=said) as caught:
        read_json(str(path))
    assert caught.value.code == "file-broken"
    assert str(path) in caught.value.message


def test_a_missing_file_is_told_from_a_broken_one(tmp_path: Path) -> None:
    with pytest.raises(HemmaError) as caught:
        read_json(str(tmp_path / "none.json"))
    assert caught.value.code == "file-missing"


def test_a_new_file_and_its_new_folders_are_private(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "f.json"
    old = os.umask(0o000)
    try:
        write_json(str(path), {"a": "\udcff"})
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert read_json(str(path)) == {"a": "\udcff"}


def test_a_file_of_the_users_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles.toml", tmp_path / "config.toml"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    atomic_write(str(link), b"new", mode=None)
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    taken = tmp_path / "f.json"
    taken.mkdir()
    (taken / "inside").touch()
    with pytest.raises(HemmaError) as caught:
        atomic_write(str(taken), b"x")
    assert caught.value.code == "file-unwritable"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f.json"]


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "f"
    contents = [letter * 200_000 for letter in (b"a", b"b")]
    atomic_write(str(path), contents[0])
    stop = threading.Event()

    def write() -> None:
        for turn in range(40):
            atomic_write(str(path), contents[turn % 2])
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set[bytes]()
    while not stop.is_set():
        seen.add(path.read_bytes())
    writer.join()
    assert seen <= set(contents)
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]
