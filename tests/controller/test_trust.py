"""What a repository's settings say of where commands run holds only once a person has allowed it, as it is."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from controller import snapshot, trust
from controller.settings import load, read_files, resolve
from manifests.errors import HemmaError, NotTrusted

EVIL = """[tool.hemma]
host = "elsewhere"
root = "~/x"
python = "/tmp/python"
login = true
drive = "folder:/tmp/theirs"
env = { LD_PRELOAD = "/tmp/evil.so" }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh clone, and folders of Hemma's beside it."""
    for name in ("config", "state", "cache"):
        monkeypatch.setenv(f"HEMMA_{name.upper()}_DIR", str(tmp_path / name))
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo/pyproject.toml").write_text(EVIL)
    monkeypatch.chdir(tmp_path / "repo")
    return tmp_path / "repo"


def allow(folder: Path) -> None:
    trust.allow(str(folder), read_files(str(folder), {}).project)


def cli(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The real command line, without a terminal."""
    argv = [str(Path(sys.executable).with_name("hemma")), *arguments]
    environ = {**os.environ, **env}
    return subprocess.run(argv, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def test_settings_that_nobody_allowed_are_refused_and_make_no_snapshot(folder: Path) -> None:
    with pytest.raises(NotTrusted) as caught:
        load(str(folder), {})
    assert (caught.value.exit_code, caught.value.code) == (75, "not-trusted")
    assert caught.value.remedy.startswith("hemma trust")
    for key in ("host", "root", "python", "login", "drive", "env.LD_PRELOAD"):
        assert key in caught.value.message
    assert "evil.so" not in caught.value.message
    assert snapshot.read(str(folder), {}) is None
    assert not (folder.parent / "cache").exists()


@pytest.mark.parametrize(
    ("line", "is_asked"),
    [
        ('host = "a"', True),
        ('root = "~/a"', True),
        ('python = "p"', True),
        ("login = false", True),
        ('drive = "folder:a"', True),
        ("env = { A = 'b' }", True),
        ("env = {}", False),
        ("lease_s = 5.0", False),
        ('memory = ".claude"', False),
        ("lanes = { 'a/**' = 'local' }", False),
        ("notebooks = { outputs = 'intended' }", False),
    ],
)
def test_which_keys_need_leave(folder: Path, line: str, is_asked: bool) -> None:
    (folder / "pyproject.toml").write_text(f"[tool.hemma]\n{line}\n")
    if is_asked:
        with pytest.raises(NotTrusted):
            resolve(str(folder), {"HEMMA_HOST": "mine"})
        allow(folder)
    assert resolve(str(folder), {"HEMMA_HOST": "mine"}).host.name == "mine"


def test_any_change_asks_again_and_what_needs_no_leave_does_not(folder: Path) -> None:
    allow(folder)
    assert load(str(folder), {})["env"] == {"LD_PRELOAD": "/tmp/evil.so"}
    (folder / "pyproject.toml").write_text(EVIL + "lease_s = 5.0\n[tool.hemma.lanes]\n'a/**' = 'local'\n")
    assert load(str(folder), {})["lease_s"] == 5.0
    for before, after in (("elsewhere", "other"), ("~/x", "~/y"), ("evil.so", "more.so"), ("LD_PRELOAD", "LD_AUDIT")):
        (folder / "pyproject.toml").write_text(EVIL.replace(before, after))
        with pytest.raises(NotTrusted):
            load(str(folder), {})
    (folder / "pyproject.toml").write_text(EVIL)
    assert load(str(folder), {})["host"]["name"] == "elsewhere"


def test_leave_is_for_one_folder_and_can_be_taken_back_from_a_snapshot_too(folder: Path) -> None:
    allow(folder)
    load(str(folder), {})
    copy = folder.parent / "copy"
    copy.mkdir()
    (copy / "pyproject.toml").write_text(EVIL)
    with pytest.raises(NotTrusted):
        load(str(copy), {})
    assert snapshot.read(str(folder), {}) is not None
    assert [each.folder for each in trust.listed()] == [str(folder)]
    assert trust.revoke(str(folder))
    assert snapshot.read(str(folder), {}) is None
    with pytest.raises(NotTrusted):
        load(str(folder), {})
    assert not trust.revoke(str(folder))


def test_the_record_is_private_and_one_that_others_could_write_is_none(folder: Path) -> None:
    allow(folder)
    record = Path(snapshot.trust_path(str(folder)))
    assert record.stat().st_mode & 0o777 == 0o600
    assert record.parent.stat().st_mode & 0o777 == 0o700
    record.chmod(0o622)
    with pytest.raises(NotTrusted):
        resolve(str(folder), {})
    record.chmod(0o600)
    for damage in (b"", b"{", b"[]", b"[" * 50_000, b'{"format": 1, "folder": 5, "digest": []}'):
        record.write_bytes(damage)
        with pytest.raises(NotTrusted):
            resolve(str(folder), {})


def test_the_command_shows_every_value_and_without_a_terminal_allows_nothing(folder: Path) -> None:
    refused = cli("trust")
    assert refused.returncode == 75
    assert "hemma trust --yes" in refused.stderr
    for word in ("elsewhere", "~/x", "/tmp/python", "folder:/tmp/theirs", "LD_PRELOAD", "/tmp/evil.so"):
        assert word in refused.stdout
    for argv in (["run", "--", "true"], ["ps"], ["drive", "check"], ["host", "check"]):
        done = cli(*argv)
        assert (argv, done.returncode) == (argv, 75), done.stderr
        assert "hemma trust" in done.stderr
    assert cli("trust", "--yes").returncode == 0
    assert str(folder) in cli("trust", "--list").stdout
    assert load(str(folder), {})["host"]["name"] == "elsewhere"
    assert cli("trust", "--revoke").returncode == 0
    with pytest.raises(HemmaError):
        load(str(folder), {})


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 75), (b"\n", 75)])
def test_at_a_terminal_a_person_is_asked(folder: Path, answer: bytes, code: int) -> None:
    ours, theirs = pty.openpty()
    argv = [str(Path(sys.executable).with_name("hemma")), "trust"]
    child = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(ours, 4096)
    os.write(ours, answer)
    assert child.wait(60) == code
    os.close(ours)
    assert trust.is_trusted(str(folder), read_files(str(folder), {}).project) is (code == 0)


def test_init_allows_what_it_wrote_and_nothing_that_stood_there_before(folder: Path) -> None:
    done = cli("init", "--host", "mine", "--root", "~/mine", "--force")
    assert done.returncode == 0
    assert "hemma trust" in done.stderr
    with pytest.raises(NotTrusted):
        load(str(folder), {})
    (folder / "pyproject.toml").write_text("[tool.hemma]\nlease_s = 5.0\n")
    assert cli("init", "--host", "mine", "--root", "~/mine").returncode == 0
    assert load(str(folder), {})["host"]["name"] == "mine"
    assert cli("init", "--env", "A=b").returncode == 0
    assert load(str(folder), {})["env"] == {"A": "b"}


def test_values_of_a_stranger_cannot_write_to_the_terminal(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.hemma.env]\nA = "\\u001b]0;x\\u0007"\n"B\\nok  all good" = "x"\n')
    done = cli("trust")
    assert done.returncode == 75
    assert "\x1b" not in done.stdout + done.stderr
    assert not any(line.startswith("ok") for line in (done.stdout + done.stderr).splitlines())
