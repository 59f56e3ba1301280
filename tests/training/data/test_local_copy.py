"""What lies on a network mount is read from a local copy, or from where it is with a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from training.data import local_copy
from training.data.local_copy import is_remote, local_file, read_locally
from training.data.sources import open_source

LINES = """\
25 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
26 25 0:40 / {home} rw - nfs4 server:/home rw
27 26 0:41 / {home}/disk rw - ext4 /dev/sdb rw
28 25 0:42 / /mnt/with\\040blank rw - fuse.sshfs me@there: rw
29 25 0:43 / /mnt/twice rw - ext4 /dev/sdc rw
30 25 0:44 / /mnt/twice rw - cifs //server/x rw
nonsense
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A table of mounts in which this test's folder is remote."""
    (tmp_path / "home").mkdir()
    table = tmp_path / "mountinfo"
    table.write_text(LINES.format(home=tmp_path / "home"), encoding="utf-8")
    return table


@pytest.mark.req("S10-R01")
def test_network_and_fuse_mounts_are_remote(mounts: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    remote = [home, home / "x/y", Path("/mnt/with blank/x"), Path("/mnt/twice/x")]
    local = [home / "disk/x", Path("/etc"), home.with_name("homes"), Path("/mnt/with")]
    assert [is_remote(path, mounts) for path in remote] == [True] * 4
    assert [is_remote(path, mounts) for path in local] == [False] * 4
    assert not is_remote(home, tmp_path / "none")


@pytest.mark.req("S10-R01")
@pytest.mark.req("S10-R03")
@pytest.mark.req("S10-R05")
def test_a_remote_source_is_read_from_a_copy_that_is_deleted_after(mounts: Path, tmp_path: Path) -> None:
    path, scratch = tmp_path / "home/a.jsonl", tmp_path / "scratch"
    path.write_text('{"text": "a"}\nbad\n', encoding="utf-8")
    source = open_source({"source": "home/a.jsonl"}, tmp_path)
    with read_locally(source, mounts=mounts, scratch=scratch):
        assert [copy.read_bytes() for copy in source.local.values()] == [path.read_bytes()]
        path.write_text('{"text": "not read"}\n', encoding="utf-8")
        assert [row["text"] for _, row in source.rows()] == ["a"]
        assert source.faults.first[0].startswith("home/a.jsonl:2")
    assert list(scratch.iterdir()) == []
    assert [row["text"] for _, row in source.rows()] == ["not read"]


@pytest.mark.req("S10-R09")
def test_a_copy_is_made_once_and_again_of_a_newer_file(mounts: Path, tmp_path: Path) -> None:
    path, scratch = tmp_path / "home/tokens.bin", tmp_path / "s"
    path.write_bytes(b"one")
    first = local_file(path, mounts=mounts, scratch=scratch)
    made = first.stat().st_mtime_ns
    assert first.read_bytes() == b"one"
    assert local_file(path, mounts=mounts, scratch=scratch).stat().st_mtime_ns == made
    path.write_bytes(b"three")
    assert local_file(path, mounts=mounts, scratch=scratch).read_bytes() == b"three"
    assert local_file(tmp_path / "home/disk/x", mounts=mounts, scratch=scratch) == tmp_path / "home/disk/x"


@pytest.mark.req("S10-R04")
def test_without_room_or_place_the_file_is_read_where_it_is_with_a_warning(
    mounts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "home/a"
    path.write_bytes(b"x" * 100)
    said: list[str] = []
    common: dict[str, Any] = {"mounts": mounts, "say": said.append}
    (tmp_path / "file").write_bytes(b"")
    assert local_file(path, scratch=tmp_path / "file/below", **common) == path
    monkeypatch.setattr(local_copy, "SPARE_BYTES", 1 << 60)
    assert local_file(path, scratch=tmp_path / "s", **common) == path
    assert len(said) == 2
    assert "bytes, " in said[1]
