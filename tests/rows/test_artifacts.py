"""What a processor makes besides its answers: on the machine's own disk first, in the run only whole and read back."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from pathlib import Path

import pytest

from lanes.slice_spool import entries
from tests.rows.hostile_files import HostileFiles
from tests.rows.slices import a_row, a_slice, engine
from training.rows import bundle
from training.rows.artifacts import Artifacts
from training.rows.engine import Asked, RowRun
from training.rows.spool import RunFolderUnusable

pytestmark = pytest.mark.real


@pytest.mark.req("C26", "S10-R12", "S9-R33")
def test_files_of_done_rows_are_in_the_run_and_no_others(tmp_path: Path) -> None:
    rows = [a_row(0), a_row(1, do="artifact"), a_row(2, do="artifact, then raise"), a_row(3, do="artifact")]
    folder = a_slice(tmp_path / "host", rows)
    done = engine("run", folder, "--run", tmp_path / "run", environ={"TMPDIR": str(tmp_path)})
    assert done.returncode == 3, done.stderr
    kept = {path.name: path.read_bytes() for path in (tmp_path / "run/artifacts").iterdir()}
    assert kept == {f"adapter-{number}.bin": b"weights of %d" % number for number in (1, 3)}
    assert list(tmp_path.glob("hemma-artifacts-*")) == []
    # Folders only as needed: nothing besides what this run has something for.
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "artifacts", "logs", "quarantine.jsonl", "results", "spool", "status.json",
    ]  # fmt: skip


def test_a_run_without_artefacts_has_no_folder_for_them(plain_slice: Path, tmp_path: Path) -> None:
    assert engine("run", plain_slice, "--run", tmp_path / "run").returncode == 0
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["logs", "results", "spool", "status.json"]
    measured = engine("bench", a_slice(tmp_path / "host", [a_row(1, do="artifact")]))
    assert '"failed": 0' in measured.stdout


@pytest.mark.req("C26")
@pytest.mark.parametrize("seed", range(4))
def test_a_mount_that_drops_writes_costs_time_and_no_artefact(tmp_path: Path, seed: int) -> None:
    folder = a_slice(tmp_path / "host", [a_row(number, do="artifact") for number in range(6)])
    with zipfile.ZipFile(folder / "source.pyz") as archive:
        archive.extractall(tmp_path / "source")
    (tmp_path / "source/training").symlink_to(Path(bundle.__file__).parents[1])
    for room in ("lanes", "manifests"):
        (tmp_path / "source" / room).symlink_to(Path(bundle.__file__).parents[2] / room)
    files = HostileFiles(seed, drop=0.3, stale=0.2, fail=0.1)
    asked = Asked(str(folder), "r", str(tmp_path / "source"), is_takeover=True, spool_wait_s=0.001)
    for _ in range(20):
        with contextlib.suppress(RunFolderUnusable):  # such a mount ends a session now and then; the next goes on
            if RowRun(asked, bundle.read_index(str(folder)), files).run() in (0, 3):
                break
    spooled = [entry for name in files.kept if "spool" in name for entry in entries(files.kept[name])]
    done = {f"artifacts/adapter-{entry['key']}.bin" for entry in spooled if entry["state"] == "done"}
    whole = {name for name, content in files.kept.items() if name == f"artifacts/adapter-{content.decode()[11:]}.bin"}
    assert files.lost + files.failed > 0
    assert done
    assert done <= whole


def test_a_file_that_cannot_be_kept_is_said_and_its_folder_is_empty_again(tmp_path: Path) -> None:
    made = Artifacts(HostileFiles(1, drop=1.0), wait_s=0.0)
    own = Path(tempfile.mkdtemp(dir=made.folder))
    (own / "below").mkdir()
    (own / "below/x.bin").write_bytes(b"x")
    os.symlink("/etc/hostname", own / "link")
    assert made.keep(str(own), is_done=True).startswith("its file below/x.bin could not be kept: ")
    assert list(own.iterdir()) == []
    assert made.keep(str(own), is_done=True) == ""
    made.close()
    assert not Path(made.folder).exists()
