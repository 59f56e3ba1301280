"""`hemma host` against a real sshd: the doctor's facts, a key accepted and refused, a loopback host up and down."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remote.loopback import LoopbackHost, client_config
from tests.support import Cli, EnvironFor, RepositoryOnHost

Make = Callable[[dict[str, str]], Cli]


def findings_of(cli: Cli, *arguments: str) -> dict[str, dict[str, Any]]:
    return {finding["name"]: finding for finding in json.loads(cli("host", "check", "--json", *arguments).stdout)}


def test_the_doctor_finds_a_fit_host_fit(hemma: Cli, repo_on_host: RepositoryOnHost) -> None:
    done = hemma("host", "check", "--json")
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0, done.stderr.decode()
    assert {"ssh alias", "host key", "python", "git", "bash", "clock", "repository"} <= {
        name for name, finding in findings.items() if finding["level"] == "ok"
    }
    assert str(repo_on_host.path) in findings["repository"]["fact"]


def test_the_doctor_names_a_missing_root_with_its_exit_code(
    hemma_with: Make, settings_env: EnvironFor, tmp_path: Path
) -> None:
    findings = findings_of(hemma_with(settings_env(root=tmp_path / "none")))
    assert findings["repository"]["level"] == "fail"
    assert "66" in findings["repository"]["fact"]
    assert findings["repository"]["mend"].startswith("git clone")


def test_a_key_is_accepted_only_by_its_own_fingerprint(
    hemma_with: Make, settings_env: EnvironFor, sshd: LoopbackHost, tmp_path: Path
) -> None:
    known, config = tmp_path / "known_hosts", tmp_path / "ssh_config"
    config.write_text(client_config(sshd, sshd.port, str(known)))
    cli = hemma_with(settings_env(ssh_config=str(config), state=tmp_path / "hemma"))
    refused = findings_of(cli)["host key"]
    assert refused["level"] == "fail"
    *command, shown = refused["mend"].partition("hemma host accept ")[2].split()
    assert command == [sshd.alias]
    assert cli("host", "accept", sshd.alias, "SHA256:" + "A" * 43).returncode == 255
    assert not known.exists()
    assert cli("host", "accept", sshd.alias, shown).returncode == 0
    assert known.stat().st_mode & 0o777 == 0o600
    assert findings_of(cli)["host key"]["level"] == "ok"
    assert b"known already" in cli("host", "accept", shown).stdout


def test_a_loopback_host_comes_up_is_the_default_and_goes_down(
    hemma_with: Make, settings_env: EnvironFor, tmp_path: Path
) -> None:
    environ = settings_env(state=tmp_path / "hemma")
    for name in ("HEMMA_HOST", "HEMMA_ROOT", "HEMMA_SSH_CONFIG", "HEMMA_PYTHON", "HEMMA_HOST_STATE_DIR"):
        environ.pop(name, None)
    cli = hemma_with(environ)
    try:
        up = cli("host", "up", "--loopback", "mine")
        assert up.returncode == 0, up.stderr.decode()
        (row,) = json.loads(cli("host", "list", "--json").stdout)
        assert (row["name"], row["default"]) == ("mine", True)
        assert cli("host", "up", "mine").returncode == 0
        assert findings_of(cli)["login"]["level"] == "ok"
    finally:
        down = cli("host", "down", "mine")
    assert b"mine: stopped" in down.stdout
    assert findings_of(cli)["ssh alias"]["level"] == "fail"
    assert cli("host", "down", "--all").returncode == 0


@pytest.mark.req("S9-R21")
def test_looking_at_a_host_leaves_its_repository_as_it_was(hemma: Cli, repo_on_host: RepositoryOnHost) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in Path(repo_on_host.path).rglob("*"))
    hemma("host", "check")
    assert sorted((path, path.stat().st_mtime_ns) for path in Path(repo_on_host.path).rglob("*")) == before
