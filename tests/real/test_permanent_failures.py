"""What can never succeed is said at once, with its cause; what may pass is tried again, and twice at most (issue 10 G)."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from remote.loopback import LoopbackHost
from tests.support import Cli, EnvironFor, wait_until

Ended = subprocess.CompletedProcess[bytes]
Variant = Callable[..., int]


@pytest.fixture
def variant(sshd: LoopbackHost, tmp_path: Path) -> Iterator[Variant]:
    """`variant("MaxSessions 0", ...)`: the port of a server like this worker's own, with these lines before its settings."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*lines: str, drop: tuple[str, ...] = ()) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        own = ("Port", "PidFile", *drop)
        kept = [
            line for line in (Path(sshd.folder) / "sshd_config").read_text().splitlines() if not line.startswith(own)
        ]
        config = tmp_path / f"sshd_config.{port}"
        config.write_text("\n".join([*lines, f"Port {port}", f"PidFile {tmp_path}/sshd.{port}.pid", *kept]) + "\n")
        log = tmp_path / f"sshd.{port}.log"
        program = os.path.realpath(shutil.which("sshd", path="/usr/sbin:/usr/local/sbin") or "sshd")
        started.append(subprocess.Popen([program, "-D", "-f", config, "-E", log]))
        wait_until(lambda: log.exists() and f"port {port}." in log.read_text())
        return port

    yield start
    for process in started:
        process.terminate()
        process.wait()


@pytest.fixture
def at(
    sshd: LoopbackHost, hemma_with: Callable[[dict[str, str]], Cli], settings_env: EnvironFor, tmp_path: Path
) -> Callable[..., Ended]:
    """`at(port, "IdentitiesOnly no", argv=[...], **env)`: `hemma` against that port, with these lines first in ssh_config."""

    def run(
        port: int, *lines: str, argv: tuple[str, ...] = ("run", "--", "true"), identity: str = "", **more: str
    ) -> Ended:
        known = tmp_path / "known_hosts"
        if not known.exists():
            key = Path(sshd.known_hosts).read_text().split()[1:3]
            known.write_text(f"[127.0.0.1]:{port} {' '.join(key)}\n")
        fixed = (
            "HostName 127.0.0.1",
            f"Port {port}",
            f"User {sshd.user}",
            f"IdentityFile {identity or sshd.identity}",
            "IdentitiesOnly yes",
            f"UserKnownHostsFile {known}",
            "GlobalKnownHostsFile /dev/null",
        )
        config = tmp_path / "config"
        config.write_text("Host gpu\n" + "".join(f"  {line}\n" for line in (*lines, *fixed)))
        environ = settings_env(ssh_config=str(config), state=tmp_path / "s", HEMMA_HOST="gpu", **more)
        return hemma_with(environ)(*argv, timeout_s=60)

    return run


def _refused(done: Ended, *words: str, code: int = 255) -> str:
    said = done.stderr.decode()
    assert done.returncode == code, said
    assert "Traceback" not in said
    assert "attach" not in said, "there is no run to attach to"
    for word in words:
        assert word in said, said
    return said


def _tries(tmp_path: Path, port: int) -> int:
    return (tmp_path / f"sshd.{port}.log").read_text().count("Connection from 127.0.0.1")


def test_a_host_without_sessions_is_named(variant: Variant, at: Callable[..., Ended], tmp_path: Path) -> None:
    port = variant("MaxSessions 0", drop=("MaxSessions",))
    _refused(at(port), "opens no session", "MaxSessions")
    assert _tries(tmp_path, port) == 1


def test_a_proxy_command_that_does_not_exist_is_named(at: Callable[..., Ended]) -> None:
    _refused(at(1, "ProxyCommand /nonexistent/tunnel %h %p"), "ProxyCommand", "/nonexistent/tunnel")


def test_a_proxy_command_that_fails_says_why(at: Callable[..., Ended]) -> None:
    _refused(at(1, "ProxyCommand sh -c 'echo the tunnel is shut >&2; exit 1'"), "ProxyCommand", "the tunnel is shut")


def test_a_proxy_command_is_read_by_a_shell_as_ssh_does(
    sshd: LoopbackHost, at: Callable[..., Ended], tmp_path: Path
) -> None:
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
    done = at(
        sshd.port,
        f'ProxyCommand PORT={sshd.port}; test -n "$PORT" && exec {sshd.python} {carry} %h "$PORT" 2>/dev/null',
    )
    assert done.returncode == 0, done.stderr.decode()


def test_too_many_keys_are_named(variant: Variant, at: Callable[..., Ended], tmp_path: Path) -> None:
    port = variant("MaxAuthTries 2")
    files = [tmp_path / f"key{number}" for number in range(4)]
    for file in files:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    said = _refused(at(port, *(f"IdentityFile {file}" for file in files)), "too many keys", "IdentitiesOnly")
    assert "key0" in said
    assert _tries(tmp_path, port) == 1


@contextlib.contextmanager
def _serving(answer: Callable[[socket.socket], object]) -> Generator[tuple[int, list[int]]]:
    """A port where `answer` speaks to each connection and hangs up; and how many there were."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    ended, count = threading.Event(), [0]

    def serve() -> None:
        with listener:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    sock, _ = listener.accept()
                    count[0] += 1
                    with sock, contextlib.suppress(OSError):
                        answer(sock)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield int(listener.getsockname()[1]), count
    finally:
        ended.set()
        thread.join()


def test_a_port_that_speaks_no_ssh_is_named(at: Callable[..., Ended]) -> None:
    def web(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with _serving(web) as (port, count):
        _refused(at(port), "speaks no SSH", "HTTP/1.1 400 Bad Request", "Port")
        assert count[0] == 1


def test_a_port_that_hangs_up_is_tried_twice(at: Callable[..., Ended]) -> None:
    with _serving(lambda _: None) as (port, count):
        _refused(at(port), "closed the connection while it was being set up")
        assert count[0] == 2


@pytest.mark.parametrize(
    ("forced", "words"),
    [
        ("/usr/sbin/nologin", "currently not available"),
        ("internal-sftp", "sftp"),
        ("echo only backups here", "only backups here"),
        ("false", "runs no commands"),
    ],
)
def test_an_account_that_runs_no_commands_is_named(
    variant: Variant, at: Callable[..., Ended], tmp_path: Path, forced: str, words: str
) -> None:
    port = variant(f"ForceCommand {forced}")
    _refused(at(port), "runs no commands", words)
    assert _tries(tmp_path, port) == 1


@pytest.mark.parametrize("name", ["types.py", "random.py", "os.py", "hashlib.py", "zipimport.py"])
def test_a_file_in_the_accounts_home_is_not_taken_for_pythons_own(
    variant: Variant, at: Callable[..., Ended], tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("raise SystemExit('mine was imported')\n")
    done = at(variant(f'ForceCommand cd {tmp_path} && eval "$SSH_ORIGINAL_COMMAND"'))
    assert done.returncode == 0, done.stderr.decode()


def test_a_broken_pythonhome_of_the_start_up_files_does_not_matter(
    variant: Variant, at: Callable[..., Ended], tmp_path: Path
) -> None:
    port = variant(f'SetEnv "HOME={tmp_path}" "PYTHONHOME=/nowhere" "PYTHONPATH=/nowhere"', drop=("SetEnv",))
    done = at(port)
    assert done.returncode == 0, done.stderr.decode()


def test_a_python_that_is_missing_is_named(sshd: LoopbackHost, at: Callable[..., Ended]) -> None:
    said = _refused(at(sshd.port, HEMMA_PYTHON="/opt/none/bin/python3"), "/opt/none/bin/python3")
    assert "python3 >= 3.9" in said


def test_agent_and_cache_follow_the_state_folder(variant: Variant, at: Callable[..., Ended], tmp_path: Path) -> None:
    """A home that cannot be written (a file stands there) is none of our business when the state lies elsewhere."""
    home = tmp_path / "not-a-folder"
    home.write_text("")
    port = variant(f'SetEnv "HOME={home}" "XDG_CACHE_HOME={home}/cache"', drop=("SetEnv",))
    done = at(port)
    assert done.returncode == 0, done.stderr.decode()
    assert list((tmp_path / "s" / "on-host" / "agent").glob("*.zip"))


def test_a_home_that_cannot_be_written_names_the_setting(
    variant: Variant, at: Callable[..., Ended], tmp_path: Path
) -> None:
    home = tmp_path / "not-a-folder"
    home.write_text("")
    port = variant(f'SetEnv "HOME={home}"', drop=("SetEnv",))
    _refused(at(port, HEMMA_HOST_STATE_DIR=""), "the agent cannot be stored", "state_dir")
    assert _tries(tmp_path, port) == 1


# -- known_hosts and keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "@cert-authority *.example.org ssh-ed25519 {key}",
        "@cert-authority * ssh-ed25519 {key}",
        "this line is none",
        "host ssh-ed25519 not-base64!",
        "host ssh-ed25519",
        "host ssh-unheard-of AAAA",
        "\x00\xff\xfe",
    ],
)
def test_a_line_of_known_hosts_that_cannot_be_read_is_skipped(
    sshd: LoopbackHost, at: Callable[..., Ended], tmp_path: Path, line: str
) -> None:
    key = Path(sshd.known_hosts).read_text().split()[1:3]
    text = line.format(key=key[1]) + f"\n[127.0.0.1]:{sshd.port} {' '.join(key)}\n"
    (tmp_path / "known_hosts").write_bytes(text.encode("latin-1"))
    done = at(sshd.port)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("first", [True, False])
def test_a_revoked_host_key_is_refused(
    sshd: LoopbackHost, at: Callable[..., Ended], tmp_path: Path, first: bool
) -> None:
    key = " ".join(Path(sshd.known_hosts).read_text().split()[1:3])
    lines = [f"@revoked * {key}", f"[127.0.0.1]:{sshd.port} {key}"]
    (tmp_path / "known_hosts").write_text("\n".join(lines if first else lines[::-1]) + "\n")
    _refused(at(sshd.port), "revoked", str(tmp_path / "known_hosts"))


def test_a_host_that_only_an_authority_vouches_for_is_unknown_here(
    sshd: LoopbackHost, at: Callable[..., Ended], tmp_path: Path
) -> None:
    key = " ".join(Path(sshd.known_hosts).read_text().split()[1:3])
    (tmp_path / "known_hosts").write_text(f"@cert-authority * {key}\n")
    _refused(at(sshd.port), "unknown", "hemma host accept")


def test_a_public_key_file_is_no_private_key(sshd: LoopbackHost, at: Callable[..., Ended], tmp_path: Path) -> None:
    shutil.copy(f"{sshd.identity}.pub", tmp_path / "only.pub")
    done = at(sshd.port, f"IdentityFile {tmp_path / 'only.pub'}")
    assert done.returncode == 0, done.stderr.decode()  # the second one lets in


def test_a_public_key_file_names_the_agents_key(sshd: LoopbackHost, at: Callable[..., Ended], tmp_path: Path) -> None:
    shutil.copy(f"{sshd.identity}.pub", tmp_path / "only.pub")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "a")], stdout=subprocess.DEVNULL)
    try:
        environ = {"SSH_AUTH_SOCK": str(tmp_path / "a")}
        add = ["ssh-add", "-q", sshd.identity]
        wait_until(lambda: subprocess.run(add, env=environ, capture_output=True, check=False).returncode == 0)
        done = at(sshd.port, identity=str(tmp_path / "only.pub"), **environ)
        assert done.returncode == 0, done.stderr.decode()
    finally:
        agent.kill()
        agent.wait()


def test_no_common_host_key_algorithm_is_final(variant: Variant, at: Callable[..., Ended], tmp_path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "521", "-N", "", "-f", tmp_path / "host_ecdsa"], check=True
    )
    port = variant(
        f"HostKey {tmp_path / 'host_ecdsa'}", "KexAlgorithms curve25519-sha256", "Ciphers 3des-cbc", drop=("HostKey",)
    )
    said = _refused(at(port, "Ciphers aes128-gcm@openssh.com"))
    assert _tries(tmp_path, port) == 1, said


def test_the_agent_of_one_hop_is_not_used_for_the_next(
    sshd: LoopbackHost, hemma_with: Callable[[dict[str, str]], Cli], settings_env: EnvironFor, tmp_path: Path
) -> None:
    """IdentityAgent of the jump host has the key; the host itself names no agent, so it must not be let in by that one."""
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "a")], stdout=subprocess.DEVNULL)
    try:
        environ = {"SSH_AUTH_SOCK": str(tmp_path / "a")}
        add = ["ssh-add", "-q", sshd.identity]
        wait_until(lambda: subprocess.run(add, env=environ, capture_output=True, check=False).returncode == 0)
        shared = (
            f"  HostName 127.0.0.1\n  Port {sshd.port}\n  User {sshd.user}\n  UserKnownHostsFile {sshd.known_hosts}\n"
        )
        none = f"  IdentityFile {tmp_path / 'none'}\n"
        config = tmp_path / "config"
        config.write_text(
            f"Host gpu\n  ProxyJump bastion\n{shared}{none}Host bastion\n  IdentityAgent {tmp_path / 'a'}\n{shared}{none}"
        )
        more = settings_env(ssh_config=str(config), state=tmp_path / "s", HEMMA_HOST="gpu")
        more.pop("SSH_AUTH_SOCK", None)
        done = hemma_with(more)("run", "--", "true")
        _refused(done, "accepts none of your keys")
    finally:
        agent.kill()
        agent.wait()


# -- our own side --------------------------------------------------------------------------------------------------


def test_a_state_folder_that_is_none_is_named(sshd: LoopbackHost, at: Callable[..., Ended]) -> None:
    for folder in ("/dev/null", "/proc/1/nothing"):
        done = at(sshd.port, HEMMA_STATE_DIR=folder)
        said = done.stderr.decode()
        assert done.returncode == 2, said
        assert folder in said
        assert "HEMMA_STATE_DIR" in said


def test_too_few_open_files_are_named(
    sshd: LoopbackHost, settings_env: EnvironFor, hemma_with: Callable[[dict[str, str]], Cli], tmp_path: Path
) -> None:
    cli = hemma_with(settings_env(state=tmp_path / "s"))
    line = ["bash", "-c", 'ulimit -n 8; exec "$0" "$@"', *map(str, cli.argv("run", "--", "true"))]
    started = time.monotonic()
    done = subprocess.run(line, env=cli.environ, cwd=cli.folder, capture_output=True, timeout=60, check=False)
    said = done.stderr.decode()
    assert done.returncode not in (0, 70), said
    assert "Traceback" not in said
    assert "open files" in said, said
    assert time.monotonic() - started < 30
