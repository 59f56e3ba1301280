"""A real SSH server on a high port of this machine: the embedded default host of the demo, and the host of the tests.

OpenSSH's sshd where it is installed, else asyncssh in a process of its own. Keys, config and log live under
`<state dir>/loopback/<name>/` and outlive a stop, so a host that comes back is the same host on the same port.
Nothing of the user's is touched: no ~/.ssh, no agent, and with `home` not even the home that commands see.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from manifests.errors import HemmaError, UsageError
from manifests.places import private_dir
from manifests.places import state_dir as default_state_dir
from remote.local_process import descendants, end, holds_within, spawn, started

Backend = Literal["openssh", "asyncssh"]

START_TIMEOUT_S = 15.0
ADDRESS = "127.0.0.1"
# sshd refuses to start below this empty folder when it runs as root; packages make it at boot, containers do not.
PRIVILEGE_SEPARATION_DIR = Path("/run/sshd")
SERVER_SCRIPT = Path(__file__).with_name("loopback_server.py")


class LoopbackFailed(HemmaError):
    """The embedded host did not come up; the message carries the last lines of its log."""

    code = "loopback-failed"
    remedy = "install openssh-server, or: pip install asyncssh"


@dataclass(frozen=True)
class LoopbackHost:
    """A loopback host that was running when this object was made; paths are absolute."""

    name: str
    folder: str
    backend: Backend
    port: int
    user: str
    home: str | None
    pid: int
    started: str

    @property
    def alias(self) -> str:
        """The Host name in `ssh_config`: what `ssh -F <ssh_config>` and the setting `ssh` take."""
        return f"hemma-{self.name}"

    @property
    def ssh_config(self) -> str:
        """A complete ssh_config file for this host alone."""
        return os.path.join(self.folder, "ssh_config")

    @property
    def known_hosts(self) -> str:
        """The known_hosts file with this host's key."""
        return os.path.join(self.folder, "known_hosts")

    @property
    def identity(self) -> str:
        """The private key that the host lets in."""
        return os.path.join(self.folder, "user_key")

    @property
    def host_key(self) -> str:
        """The host's own private key; the public half lies beside it with `.pub`."""
        return os.path.join(self.folder, "host_key")

    @property
    def log(self) -> str:
        """The server's log of the present or last start."""
        return os.path.join(self.folder, "server.log")

    @property
    def python(self) -> str:
        """An interpreter that surely exists on this host: the one outside any venv that runs this code."""
        return str(getattr(sys, "_base_executable", sys.executable))


def start(
    name: str = "loopback", state_dir: str | None = None, backend: Backend | None = None, home: str | None = None
) -> LoopbackHost:
    """Bring the loopback host `name` up; one that runs already is returned as it is.

    `home` is the HOME of every command there (and where its shell looks for start-up files); None leaves the user's.
    Raises UsageError for a name that cannot be a file name, LoopbackFailed when no server comes up.
    """
    folder = _folder(name, state_dir)
    with _locked(folder):
        running = _read(folder)
        if running is not None:
            return running
        _make_keys(folder)
        chosen = backend or ("openssh" if _sshd() and not _account_is_locked() else "asyncssh")
        host = (_start_openssh if chosen == "openssh" else _start_asyncssh)(name, folder, home)
        _write_client_files(host)
        _write_private(folder / "server.json", json.dumps(asdict(host)))
        return host


def find(name: str = "loopback", state_dir: str | None = None) -> LoopbackHost | None:
    """The loopback host `name` if it is running now, else None; a reused pid does not count as running."""
    return _read(_folder(name, state_dir))


def stop(name: str = "loopback", state_dir: str | None = None) -> bool:
    """End the server and every SSH session on it; True if it was running.

    Sessions are cut as by a dead network: commands that a session started are not signalled. Keys and port stay, so
    the next `start` gives the same host back.
    """
    folder = _folder(name, state_dir)
    if not folder.is_dir():
        return False
    with _locked(folder):
        host = _read(folder)
        if host is None:
            return False
        # One or two sshd processes per connection; the commands below them have other names.
        doomed = [(pid, started(pid)) for pid in [host.pid, *descendants(host.pid, "sshd")]]
        end(doomed)
        (folder / "server.pid").unlink(missing_ok=True)
        return True


# --- state on disk -----------------------------------------------------------------------------------------------


def _folder(name: str, state_dir: str | None) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise UsageError(f"{name!r} cannot name a loopback host", remedy="use letters, digits, '.', '_' and '-'")
    return Path(os.path.abspath(state_dir or default_state_dir())) / "loopback" / name


@contextlib.contextmanager
def _locked(folder: Path) -> Generator[None]:
    from filelock import FileLock

    private_dir(str(folder))
    with FileLock(str(folder / "lock"), timeout=START_TIMEOUT_S * 2, mode=0o600):
        yield


def _write_private(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def _last(folder: Path) -> LoopbackHost | None:
    """The host of the last start, running or not; None if there was none or its record cannot be read."""
    try:
        return LoopbackHost(**json.loads((folder / "server.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _read(folder: Path) -> LoopbackHost | None:
    host = _last(folder)
    return host if host is not None and started(host.pid) == host.started else None


def _make_keys(folder: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    for name in ("host_key", "user_key"):
        if (folder / name).exists() and (folder / (name + ".pub")).exists():
            continue
        key = Ed25519PrivateKey.generate()
        encoding, plain = serialization.Encoding, serialization.NoEncryption()
        private = key.private_bytes(encoding.PEM, serialization.PrivateFormat.OpenSSH, plain)
        public = key.public_key().public_bytes(encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        _write_private(folder / name, private.decode())
        _write_private(folder / (name + ".pub"), public.decode() + "\n")


def _quoted(path: str | Path, *, expanded: bool = True) -> str:
    """A path as one argument of a config line; where ssh expands `%` tokens, `%` is kept from it."""
    return '"' + (str(path).replace("%", "%%") if expanded else str(path)) + '"'


def _write_client_files(host: LoopbackHost) -> None:
    public = Path(host.host_key + ".pub").read_text(encoding="utf-8").strip()
    _write_private(Path(host.known_hosts), f"[{ADDRESS}]:{host.port} {public}\n")
    _write_private(Path(host.ssh_config), client_config(host, host.port, host.known_hosts))


def client_config(host: LoopbackHost, port: int, known_hosts: str) -> str:
    """The ssh_config text that reaches `host` through `port` of this machine (its own, or a proxy's before it)."""
    return f"""\
Host {host.alias}
    HostName {ADDRESS}
    Port {port}
    User {host.user}
    IdentityFile {_quoted(host.identity)}
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile {_quoted(known_hosts)}
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    UpdateHostKeys no
    ControlMaster no
    ControlPath none
"""


# --- the servers -------------------------------------------------------------------------------------------------


def _start_openssh(name: str, folder: Path, home: str | None) -> LoopbackHost:
    sshd = _sshd()
    if sshd is None:
        raise LoopbackFailed("OpenSSH's sshd is not installed", remedy="apt-get install openssh-server")
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    log = folder / "server.log"
    for port in _ports(folder):
        _write_private(folder / "authorized_keys", (folder / "user_key.pub").read_text(encoding="utf-8"))
        _write_private(folder / "sshd_config", _sshd_config(sshd, folder, port, home))
        log.unlink(missing_ok=True)
        pid = spawn([sshd, "-D", "-f", str(folder / "sshd_config"), "-E", str(log)], log)
        if _wait_until(lambda log=log, port=port: f"listening on {ADDRESS} port {port}." in _text(log), pid):
            return LoopbackHost(name, str(folder), "openssh", port, _user(), home, pid, started(pid) or "")
        end([(pid, started(pid))])
        if "Address already in use" not in _text(log):
            break
    raise LoopbackFailed(f"sshd did not start: {_tail(log)}")


def _start_asyncssh(name: str, folder: Path, home: str | None) -> LoopbackHost:
    log = folder / "server.log"
    for port in _ports(folder):
        _write_private(folder / "authorized_keys", (folder / "user_key.pub").read_text(encoding="utf-8"))
        settings = {"folder": str(folder), "address": ADDRESS, "port": port, "environ": _session_environ(home)}
        _write_private(folder / "asyncssh.json", json.dumps(settings))
        log.unlink(missing_ok=True)
        pid = spawn([sys.executable, "-I", str(SERVER_SCRIPT), str(folder / "asyncssh.json")], log)
        if _wait_until(lambda log=log, port=port: f"listening on {ADDRESS} port {port}." in _text(log), pid):
            return LoopbackHost(name, str(folder), "asyncssh", port, _user(), home, pid, started(pid) or "")
        end([(pid, started(pid))])
        if "ddress already in use" not in _text(log):
            break
    raise LoopbackFailed(f"the asyncssh server did not start: {_tail(log)}")


def _sshd_config(sshd: str, folder: Path, port: int, home: str | None) -> str:
    environ = " ".join(f'"{name}={value}"' for name, value in _session_environ(home).items())
    lines = [
        f"ListenAddress {ADDRESS}",
        f"Port {port}",
        f"HostKey {_quoted(folder / 'host_key', expanded=False)}",
        f"AuthorizedKeysFile {_quoted(folder / 'authorized_keys')}",
        f"PidFile {_quoted(folder / 'server.pid', expanded=False)}",
        f"SetEnv {environ}",
        "AuthenticationMethods publickey",
        "PasswordAuthentication no",
        "PermitRootLogin yes",
        "UsePAM no",
        # The state folder is ours and 0700, its parents may be a shared /tmp.
        "StrictModes no",
        "PermitUserRC no",
        "AcceptEnv LANG LC_*",
        "Subsystem sftp internal-sftp",
        "MaxStartups 500",
        "MaxSessions 500",
        "PrintMotd no",
        "PrintLastLog no",
        "X11Forwarding no",
        "LogLevel VERBOSE",
    ]
    if _sshd_version(sshd) >= (9, 8):
        # Tests cut and refuse logins on purpose; since 9.8 that bans the address for a while.
        lines.append("PerSourcePenalties no")
    return "\n".join(lines) + "\n"


def _session_environ(home: str | None) -> dict[str, str]:
    """What sessions get on top of the server's defaults: this machine's PATH (less our venv), and HOME if asked."""
    inside = os.path.join(sys.prefix, "")
    kept = [part for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if not part.startswith(inside)]
    environ = {"PATH": os.pathsep.join(part for part in kept if part and '"' not in part)}
    if home is not None:
        environ["HOME"] = os.path.abspath(home)
    return environ


def _sshd() -> str | None:
    found = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    # sshd re-executes itself for every connection and insists on an absolute path.
    return os.path.realpath(found) if found else None


def _sshd_version(sshd: str) -> tuple[int, int]:
    told = subprocess.run([sshd, "-V"], capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=10)
    found = re.search(rb"OpenSSH_(\d+)\.(\d+)", told.stderr + told.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _account_is_locked() -> bool:
    """Whether sshd (run as root, without PAM) would refuse this account because its password is locked."""
    try:
        shadow = Path("/etc/shadow").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False  # not root: sshd cannot read it either, and then lets the account in
    return any(line.startswith(f"{_user()}:!") for line in shadow.splitlines())


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def _ports(folder: Path) -> Iterator[int]:
    """The last port first (an ssh_config in use stays true), then free ones; a race for a free one is tried again."""
    last = _last(folder)
    if last is not None:
        yield last.port
    for _ in range(5):
        with socket.socket() as probe:
            probe.bind((ADDRESS, 0))
            port = int(probe.getsockname()[1])
        yield port


def _wait_until(is_ready: Callable[[], bool], pid: int) -> bool:
    """Wait for `is_ready`; False when process `pid` ends before, or the ceiling is reached."""
    holds_within(lambda: is_ready() or started(pid) is None, START_TIMEOUT_S)
    return is_ready() and started(pid) is not None


def _text(log: Path) -> str:
    try:
        return log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _tail(log: Path) -> str:
    return " | ".join(_text(log).strip().splitlines()[-3:]) or "it left no log"
