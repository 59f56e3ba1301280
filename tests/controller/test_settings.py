"""Layers: defaults < config.toml < [tool.hemma] < variables; and the snapshot that stands in for all of them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import snapshot, trust
from controller.settings import Files, explain, load, read_files, resolve
from manifests.errors import UsageError
from manifests.settings import ProjectSettings, UserConfig, validated

CONFIG = """
default_host = "gpu"
lease_s = 30
[env]
A = "config"
B = "config"
[hosts.gpu]
ssh = "gpu-box"
root = "~/config"
ssh_config = "~/ssh_config"
[hosts.other]
ssh = "me@other:2222"
keepalive_s = 5
"""
PROJECT = """
[tool.hemma]
root = "~/project"
lease_s = 20
[tool.hemma.env]
B = "project"
[tool.hemma.lanes]
"docs/**" = "local"
"**" = "hemma"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository, with the user's config folder beside it."""
    for name in ("config", "state", "cache"):
        monkeypatch.setenv(f"HEMMA_{name.upper()}_DIR", str(tmp_path / name))
    (tmp_path / "config").mkdir()
    (tmp_path / "repo" / "deep").mkdir(parents=True)
    return tmp_path / "repo"


def write(folder: Path, config: str | None = None, project: str | None = None) -> None:
    if config is not None:
        (folder.parent / "config" / "config.toml").write_text(config)
    if project is not None:
        (folder / "pyproject.toml").write_text(project)
        allow(folder)


def allow(folder: Path) -> None:
    """A person allows what [tool.hemma] says in this folder, where it can be read."""
    with contextlib.suppress(UsageError):
        trust.allow(str(folder), read_files(str(folder), {}).project)


def test_each_layer_covers_the_one_below(folder: Path) -> None:
    write(folder, CONFIG, PROJECT)
    environ = {"HOME": "/home/me", "HEMMA_LEASE_S": "10", "HEMMA_LOGIN": "yes"}
    settings = resolve(str(folder / "deep"), environ)
    assert settings.as_dict() == {
        "project_root": str(folder),
        "host": {
            "name": "gpu",
            "ssh": "gpu-box",
            "root": "~/project",
            "python": "python3",
            "state_dir": None,
            "ssh_config": os.path.expanduser("~/ssh_config"),
            "keepalive_s": 15.0,
            "connect_timeout_s": 10.0,
        },
        "root_is_own": True,
        "env": {"A": "config", "B": "project"},
        "lease_s": 10.0,
        "login": True,
        "lanes": {"docs/**": "local", "**": "hemma"},
        "notebooks": {"metadata": "drift", "outputs": "drift", "widgets": "drift", "intended": []},
        "backup": {"when": "auto", "precious": [], "keep_days": 14.0, "keep_gb": 1.0},
    }


def test_what_backups_keep_is_the_repositorys_to_say(folder: Path) -> None:
    said = 'snapshot = "always"\nprecious = [".env", "ckpt/**"]\nbackup_days = 3.0\n'
    write(folder, CONFIG, PROJECT.replace("[tool.hemma]\n", "[tool.hemma]\n" + said))
    backup = resolve(str(folder), {}).backup
    assert (backup.when, backup.precious, backup.keep_days) == ("always", (".env", "ckpt/**"), 3.0)
    write(folder, CONFIG, PROJECT.replace("[tool.hemma]\n", '[tool.hemma]\nprecious = ["../outside"]\n'))
    with pytest.raises(UsageError, match="globs of files below the repository"):
        resolve(str(folder), {})


def test_what_notebooks_mean_is_the_repositorys_to_say(folder: Path) -> None:
    write(folder, CONFIG, PROJECT + '[tool.hemma.notebooks]\nintended = "kernelspec"\n')
    files = read_files(str(folder), {})
    assert explain(files).origins["notebooks"] == str(folder / "pyproject.toml")
    assert resolve(str(folder), {}).notebooks.intended == ("kernelspec",)


def test_every_value_knows_its_layer(folder: Path) -> None:
    write(folder, CONFIG, PROJECT)
    origins = explain(read_files(str(folder), {"HEMMA_PYTHON": "/opt/python3"})).origins
    config, project = str(folder.parent / "config" / "config.toml"), str(folder / "pyproject.toml")
    assert origins["host.python"] == "HEMMA_PYTHON"
    assert origins["host.name"] == origins["host.ssh"] == origins["env.A"] == config
    assert origins["host.root"] == origins["lease_s"] == origins["env.B"] == origins["lanes"] == project
    assert origins["login"] == origins["host.keepalive_s"] == "default"


def test_a_host_of_no_table_is_itself_the_alias(folder: Path) -> None:
    write(folder, CONFIG, PROJECT)
    assert resolve(str(folder), {"HEMMA_HOST": "bare-alias"}).host.ssh == "bare-alias"
    assert resolve(str(folder), {"HEMMA_HOST": "other"}).host.ssh == "me@other:2222"


def test_a_missing_host_is_refused_with_the_command_that_sets_one(folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(str(folder), {})
    assert caught.value.remedy.startswith("hemma init --host ALIAS --root PATH")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEMMA_LEASE_S", "soon"),
        ("HEMMA_KEEPALIVE_S", "nan"),
        ("HEMMA_LOGIN", "maybe"),
        ("HEMMA_ROOT", "rel/path"),
        ("HEMMA_HOST", "-x"),
    ],
)
def test_a_broken_variable_is_named(folder: Path, name: str, value: str) -> None:
    write(folder, CONFIG)
    with pytest.raises(UsageError, match=name):
        resolve(str(folder), {name: value})


def test_an_empty_variable_is_not_set(folder: Path) -> None:
    write(folder, CONFIG)
    assert resolve(str(folder), {"HEMMA_HOST": "", "HEMMA_LEASE_S": ""}).host.name == "gpu"


@pytest.mark.parametrize(
    ("config", "project"), [("a = ", None), (None, "[tool.hemma]\nhost = "), (None, "[tool.hemma]\nhost = 1")]
)
def test_a_broken_file_is_named(folder: Path, config: str | None, project: str | None) -> None:
    write(folder, config, project)
    with pytest.raises(UsageError) as caught:
        resolve(str(folder), {})
    assert ("config.toml" if config else "pyproject.toml") in caught.value.message


def test_a_pyproject_without_our_section_is_passed_by(folder: Path) -> None:
    write(folder, None, '[tool.hemma]\nhost = "gpu"\n')
    (folder / "deep" / "pyproject.toml").write_text("# [tool.hemma]\n[tool.hemmatology]\nx = 1\n")
    assert resolve(str(folder / "deep"), {}).project_root == str(folder)


@given(
    layers=st.lists(st.dictionaries(st.sampled_from(["lease_s", "login"]), st.integers(1, 9)), min_size=2, max_size=2),
    variable=st.none() | st.integers(1, 9),
)
def test_the_highest_layer_that_says_something_wins(layers: list[dict[str, int]], variable: int | None) -> None:
    def as_table(layer: dict[str, int]) -> dict[str, Any]:
        return {key: bool(value % 2) if key == "login" else float(value) for key, value in layer.items()}

    sources = snapshot.Sources("/nonexistent", {"HEMMA_LEASE_S": str(variable)} if variable else {})
    user = validated(UserConfig, {**as_table(layers[0]), "default_host": "gpu"}, "config")
    settings = explain(Files(user, validated(ProjectSettings, as_table(layers[1]), "project"), sources)).settings
    said = [
        60.0,
        *(float(layer["lease_s"]) for layer in layers if "lease_s" in layer),
        *([float(variable)] if variable else []),
    ]
    assert settings.lease_s == said[-1]
    assert settings.login == [False, *(bool(layer["login"] % 2) for layer in layers if "login" in layer)][-1]


# --- the snapshot ------------------------------------------------------------------------------------------------


def test_the_snapshot_gives_what_was_resolved(folder: Path) -> None:
    write(folder, CONFIG, PROJECT)
    assert snapshot.read(str(folder), {}) is None
    settings = resolve(str(folder), {}).as_dict()
    assert snapshot.read(str(folder), {}) == settings
    assert snapshot.read(str(folder / "deep"), {}) == settings
    assert load(str(folder), {}) == settings


@pytest.mark.parametrize("change", ["config", "project", "nearer", "variable", "home", "gone"])
def test_any_change_of_a_source_is_a_miss(folder: Path, change: str) -> None:
    write(folder, CONFIG, PROJECT)
    resolve(str(folder / "deep"), {"HOME": "/home/me"})
    environ = {"HOME": "/home/me"}
    if change == "config":
        write(folder, CONFIG.replace("30", "31"))
    elif change == "project":
        write(folder, None, PROJECT.replace("20", "21"))
    elif change == "nearer":
        (folder / "deep" / "pyproject.toml").write_text('[tool.hemma]\nhost = "nearer"\n')
    elif change == "variable":
        environ["HEMMA_LEASE_S"] = "1"
    elif change == "home":
        environ["HOME"] = "/home/you"
    else:
        (folder / "pyproject.toml").unlink()
    assert snapshot.read(str(folder / "deep"), environ) is None


def test_bytes_moved_from_one_file_to_the_other_are_a_miss(folder: Path) -> None:
    write(folder, '#\ndefault_host = "gpu"\n', '[tool.hemma]\nroot = "~/a"\n#')
    resolve(str(folder), {})
    write(folder, '\ndefault_host = "gpu"\n', '[tool.hemma]\nroot = "~/a"\n##')
    assert snapshot.read(str(folder), {}) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"{}\n", b"\xff\n", b"[1]\n"])
def test_a_damaged_snapshot_is_a_miss_and_is_mended(folder: Path, damage: bytes) -> None:
    write(folder, CONFIG)
    settings = resolve(str(folder), {}).as_dict()
    (stored,) = (folder.parent / "cache" / "settings").iterdir()
    stored.write_bytes(damage + stored.read_bytes().partition(b"\n")[2])
    assert snapshot.read(str(folder), {}) is None
    assert load(str(folder), {}) == settings
    assert snapshot.read(str(folder), {}) == settings


def test_the_snapshot_is_private_and_their_number_is_bounded(folder: Path) -> None:
    write(folder, CONFIG)
    for number in range(snapshot.KEPT + 5):
        resolve(str(folder), {"HEMMA_LEASE_S": str(number + 1)})
    stored = list((folder.parent / "cache" / "settings").iterdir())
    assert len(stored) == snapshot.KEPT
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in stored)


def test_a_cache_that_cannot_be_written_is_no_error(folder: Path) -> None:
    write(folder, CONFIG)
    (folder.parent / "cache").write_text("a file where the folder should be")
    assert resolve(str(folder), {}).host.name == "gpu"
    assert load(str(folder), {})["host"]["name"] == "gpu"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[tool.hemma]", True),
        ("x = 1\n  [tool.hemma] # c\n", True),
        ("\ufeff[tool.hemma]\r\n", True),
        ("[tool.hemma.env]\n", True),
        ("[[tool.hemma.lanes]]\n", True),
        ("# [tool.hemma]\n", False),
        ("[tool.hemmatology]\n", False),
        ('s = "[tool.hemma]"\n', False),
        ("# [tool.hemma]\n[tool.hemma]\n", True),
    ],
)
def test_our_section_is_found_as_toml_means_it(text: str, expected: bool) -> None:
    assert snapshot.has_section(text.encode()) is expected


def test_the_hot_path_loads_nothing_heavy(folder: Path) -> None:
    write(folder, CONFIG, PROJECT)
    resolve(str(folder), {"HOME": os.environ["HOME"]})
    code = (
        "import sys, json, os; sys.path.insert(0, sys.argv[1]); import controller.snapshot as s;"
        "found = s.read(sys.argv[2], {'HOME': os.environ['HOME']});"
        "print(json.dumps([found['host']['name'], [m for m in sys.argv[3:] if m in sys.modules]]))"
    )
    heavy = ["pydantic", "typing", "tomllib", "hashlib", "tempfile", "pathlib", "rich", "typer"]
    root = str(Path(snapshot.__file__).resolve().parents[1])
    command = [sys.executable, "-I", "-S", "-c", code, root, str(folder), *heavy]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["gpu", []]
