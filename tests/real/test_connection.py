"""Every way that ssh_config can lead to a host leads `hemma run` there too, and every refusal is named with its mend."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from remote.loopback import LoopbackHost
from tests.support import Cli, EnvironFor, wait_until

Reach = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(params=["openssh", "no-ssh-program"])
def reach(
    request: pytest.FixtureRequest,
    sshd: LoopbackHost,
    hemma_with: Callable[[dict[str, str]], Cli],
    settings_env: EnvironFor,
    tmp_path: Path,
) -> Reach:
    """`reach(config_text, host="gpu", **env)`: run a command through this ssh_config, with and without an `ssh` to ask."""
    if request.param == "no-ssh-program":
        tools = tmp_path / "tools"
        tools.mkdir()
        for name in ("bash", "sh", "git", "nc", "true", "cat"):
            if found := shutil.which(name):
                (tools / name).symlink_to(found)
        path = {"PATH": str(tools)}
    else:
        path = {}

    def run(config: str, host: str = "gpu", **more: str) -> subprocess.CompletedProcess[bytes]:
        file = tmp_path / "config"
        file.write_text(config)
        environ = settings_env(ssh_config=str(file), state=tmp_path / "s", HEMMA_HOST=host, **path, **more)
        return hemma_with(environ)("run", "--", "echo", "there")

    return run


def _host(sshd: LoopbackHost, alias: str = "gpu", *lines: str, known_hosts: str | None = None) -> str:
    fixed = [
        "HostName 127.0.0.1",
        f"Port {sshd.port}",
        f"IdentityFile {sshd.identity}",
        "IdentitiesOnly yes",
        f"UserKnownHostsFile {known_hosts or sshd.known_hosts}",
    ]
    return f"Host {alias}\n" + "".join(f"  {line}\n" for line in (*lines, *fixed))


def _arrived(done: subprocess.CompletedProcess[bytes]) -> None:
    assert (done.returncode, done.stdout) == (0, b"there\n"), done.stderr.decode()


def test_an_alias_is_followed(reach: Reach, sshd: LoopbackHost) -> None:
    _arrived(reach(_host(sshd)))


def test_an_included_file_counts(reach: Reach, sshd: LoopbackHost, tmp_path: Path) -> None:
    (tmp_path / "more").write_text(_host(sshd))
    _arrived(reach(f"Include {tmp_path}/mo*\nHost other\n  User nobody\n"))


def test_a_match_block_counts(reach: Reach, sshd: LoopbackHost) -> None:
    config = _host(sshd, "match-me").replace("Host match-me", "Match host match-me")
    _arrived(reach(config, "match-me"))


def test_a_jump_host_is_jumped_over(reach: Reach, sshd: LoopbackHost) -> None:
    _arrived(reach(_host(sshd, "gpu", "ProxyJump bastion") + _host(sshd, "bastion")))


def test_two_jumps_in_a_row_are_made(reach: Reach, sshd: LoopbackHost) -> None:
    _arrived(reach(_host(sshd, "gpu", "ProxyJump outer,inner") + _host(sshd, "outer") + _host(sshd, "inner")))


def test_a_proxy_command_carries_the_connection(reach: Reach, sshd: LoopbackHost, tmp_path: Path) -> None:
    carry = tmp_path / "carry.py"
    carry.write_text(
        "import os, select, socket, sys\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "while True:\n"
        "    for f in select.select([0, s], [], [])[0]:\n"
        "        data = os.read(0, 65536) if f == 0 else s.recv(65536)\n"
        "        if not data: sys.exit()\n"
        "        s.sendall(data) if f == 0 else os.write(1, data)\n"
    )
    _arrived(reach(_host(sshd, "gpu", f"ProxyCommand {sshd.python} {carry} %h %p")))


def test_a_host_key_alias_names_the_key(reach: Reach, sshd: LoopbackHost, tmp_path: Path) -> None:
    key = Path(sshd.known_hosts).read_text().split()[1:3]
    (tmp_path / "known").write_text(" ".join(["the-box", *key]) + "\n")
    _arrived(reach(_host(sshd, "gpu", "HostKeyAlias the-box", known_hosts=str(tmp_path / "known"))))


def test_hashed_known_hosts_are_read(reach: Reach, sshd: LoopbackHost, tmp_path: Path) -> None:
    known = tmp_path / "known"
    shutil.copy(sshd.known_hosts, known)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    assert known.read_text().startswith("|1|")
    _arrived(reach(_host(sshd, known_hosts=str(known))))


def test_a_key_of_the_agent_is_used(reach: Reach, sshd: LoopbackHost, tmp_path: Path) -> None:
    shutil.copy(sshd.identity, tmp_path / "key")
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", tmp_path / "key"], check=True, capture_output=True
    )
    config = _host(sshd).replace(sshd.identity, str(tmp_path / "key"))
    refused = reach(config)
    assert refused.returncode == 255
    assert b"ssh-add" in refused.stderr
    shutil.copy(f"{sshd.identity}.pub", tmp_path / "key.pub")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "a")], stdout=subprocess.DEVNULL)
    try:
        environ = {"SSH_AUTH_SOCK": str(tmp_path / "a")}
        add = ["ssh-add", "-q", sshd.identity]
        wait_until(lambda: subprocess.run(add, env=environ, capture_output=True, check=False).returncode == 0)
        _arrived(reach(config, **environ))
    finally:
        agent.kill()
        agent.wait()


def test_an_unknown_key_is_refused_with_what_accepts_it(reach: Reach, sshd: LoopbackHost, tmp_path: Path) -> None:
    refused = reach(_host(sshd, known_hosts=str(tmp_path / "none")))
    assert refused.returncode == 255
    printed = subprocess.run(["ssh-keygen", "-lf", sshd.host_key], check=True, capture_output=True).stdout.split()[1]
    assert b"hemma host accept gpu " + printed in refused.stderr
    assert not (tmp_path / "none").exists()


def test_a_changed_key_is_always_refused(reach: Reach, sshd: LoopbackHost, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    key = (tmp_path / "other.pub").read_text().split()[:2]
    (tmp_path / "known").write_text(" ".join([f"[127.0.0.1]:{sshd.port}", *key]) + "\n")
    refused = reach(_host(sshd, "gpu", "StrictHostKeyChecking no", known_hosts=str(tmp_path / "known")))
    assert refused.returncode == 255
    assert b"CHANGED" in refused.stderr
    assert b"ssh-keygen -R" in refused.stderr


def test_a_key_that_nobody_knows_is_refused_with_its_mend(reach: Reach, sshd: LoopbackHost, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "mine"], check=True)
    refused = reach(_host(sshd).replace(sshd.identity, str(tmp_path / "mine")))
    assert refused.returncode == 255
    assert b"accepts none of your keys" in refused.stderr
    assert b"ssh-copy-id" in refused.stderr


def test_a_closed_port_is_named(reach: Reach, sshd: LoopbackHost) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    refused = reach(_host(sshd).replace(f"Port {sshd.port}", f"Port {port}"))
    assert refused.returncode == 255
    assert f"127.0.0.1 port {port} refused the connection".encode() in refused.stderr


def test_a_name_without_an_address_is_named(reach: Reach) -> None:
    refused = reach("Host gpu\n  HostName no-such-host.invalid\n")
    assert refused.returncode == 255
    assert b"no-such-host.invalid" in refused.stderr


def test_a_missing_config_file_is_a_usage_error(reach: Reach, tmp_path: Path) -> None:
    refused = reach("", HEMMA_SSH_CONFIG=str(tmp_path / "nowhere"))
    assert refused.returncode == 2
    assert b"does not exist" in refused.stderr


def test_a_warm_connection_is_not_used_under_a_changed_config(
    sshd: LoopbackHost, hemma_with: Callable[[dict[str, str]], Cli], settings_env: EnvironFor, tmp_path: Path
) -> None:
    file = tmp_path / "config"
    file.write_text(_host(sshd))
    hemma = hemma_with(settings_env(ssh_config=str(file), state=tmp_path / "s", HEMMA_HOST="gpu"))
    _arrived(hemma("run", "--", "echo", "there"))
    file.write_text(_host(sshd).replace("127.0.0.1", "no-such-host.invalid", 1))
    assert hemma("run", "--", "echo", "there").returncode == 255


def test_without_a_broker_everything_works_too(
    hemma_with: Callable[[dict[str, str]], Cli], settings_env: EnvironFor, tmp_path: Path
) -> None:
    hemma = hemma_with(settings_env(state=tmp_path / "s", HEMMA_BROKER="off"))
    data = bytes(range(256)) * 4000
    done = hemma("run", "--", "cat", stdin=data)
    assert (done.returncode, done.stdout) == (0, data)
    assert not (tmp_path / "s/state/broker").exists()
