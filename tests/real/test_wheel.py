"""The wheel, installed alone in a fresh environment: one name in site-packages, and nobody's PYTHONPATH hides us."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def copy_committed(target: Path) -> None:
    """Copy what git tracks or would add: a wheel is built from that, not from what lies about."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listing, cwd=REPOSITORY, capture_output=True, check=True).stdout.split(b"\0"):
        source = REPOSITORY / os.fsdecode(name)
        if source.is_file():
            (target / os.fsdecode(name)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / os.fsdecode(name))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site-packages of a fresh environment that holds our wheel, and finds its dependencies in this one."""
    folder = tmp_path_factory.mktemp("wheel")
    copy_committed(folder / "source")
    build = [
        sys.executable,
        "-m",
        "pdm",
        "build",
        "--no-sdist",
        "-p",
        str(folder / "source"),
        "-d",
        str(folder / "dist"),
    ]
    # pdm would make an environment for the copy, or ask for one.
    environ = {**os.environ, "PDM_PYTHON": sys.executable, "VIRTUAL_ENV": sys.prefix}
    told = subprocess.run(build, env=environ, capture_output=True, text=True, check=False, timeout=110)
    assert told.returncode == 0, told.stdout + told.stderr
    (wheel,) = folder.glob("dist/*.whl")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv/bin/python"
    argv = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(argv, check=True, capture_output=True, timeout=110)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return site


def test_site_packages_gains_one_name(installed: Path) -> None:
    names = {path.name for path in installed.iterdir() if not path.name.endswith((".dist-info", ".pth"))}
    assert names - {"__pycache__"} == {"hemma"}


def test_a_hostile_pythonpath_hides_nothing(installed: Path, tmp_path: Path) -> None:
    for room in ("training", "controller", "remote", "lanes", "manifests"):
        (tmp_path / "theirs" / room).mkdir(parents=True)
        (tmp_path / "theirs" / room / "__init__.py").write_text("raise SystemExit('the user\\'s package was loaded')\n")
    (tmp_path / "empty").mkdir()
    told = subprocess.run(
        [str(installed.parents[2] / "bin/hemma"), "--version"],
        cwd=tmp_path / "empty",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "theirs")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.split()[:1] == ["hemma"]
