"""An authenticated SSH connection to the host, over any chain of jumps, by fabric and paramiko.

Every failure of theirs becomes one of our named errors here, once, with the command that mends it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
from typing import Any, NamedTuple

import fabric
import paramiko

from lanes.connection_failures import Attempt, Stage, explain
from manifests.commands import command
from manifests.errors import AuthenticationRefused, HemmaError, HostKeyChanged, HostKeyUnknown, Unreachable, of_code
from remote import host_keys, ssh_config
from remote.credentials import Credentials, credentials, is_private_key
from remote.ssh_config import SshTarget

# AES-GCM first: with the processor's AES instructions it moves three times what AES-CTR with a separate MAC does.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
# paramiko's default of 32 KiB packets and a 2 MiB window stalls a fast link; see benchmarks/NOTES.md.
PACKET_BYTES = 1 << 18
WINDOW_BYTES = 1 << 26
_GREETING_LINES = 20


class FastTransport(paramiko.Transport):
    """paramiko's transport with bigger packets and window, the fastest common cipher first, and the host's own words kept.

    `greeting` holds the first lines that came, `goodbye` what the host said when it hung up.
    """

    def __init__(self, sock: Any, **options: Any) -> None:
        options.update(default_window_size=WINDOW_BYTES, default_max_packet_size=PACKET_BYTES)
        super().__init__(sock, **options)
        security = self.get_security_options()
        security.ciphers = CIPHERS + tuple(name for name in security.ciphers if name not in CIPHERS)
        self.greeting: list[str] = []
        self.goodbye = ""
        read = self.packetizer.readline

        def read_and_keep(timeout: float) -> str:
            line = str(read(timeout))
            del self.greeting[_GREETING_LINES:]
            self.greeting.append(line)
            return line

        self.packetizer.readline = read_and_keep

    def _parse_disconnect(self, message: paramiko.Message) -> None:
        code, words = message.get_int(), message.get_text()
        self.goodbye = words or f"disconnect code {code}"

    def auth_interactive_dumb(self, *_: Any, **__: Any) -> Any:
        """Never asks: paramiko's own would read the input of the command that is to be run. Raises, always."""
        raise paramiko.AuthenticationException("the host asks for a second factor")

    def stage(self) -> Stage:
        """How far this connection has come."""
        if not any(line.startswith("SSH-") for line in self.greeting):
            return Stage.GREETING
        return Stage.SIGN_IN if self.initial_kex_done else Stage.KEYS


class ProxyPipe(paramiko.ProxyCommand):
    """A ProxyCommand as ssh runs it: by the user's shell, in front of whose stderr nobody waits."""

    def __init__(self, command: str, environ: dict[str, str]) -> None:
        self.cmd = [command]
        self.words = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe that nobody reads would fill up and stop the command
        self.process = subprocess.Popen(
            [os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {command}" if _is_plain(command) else command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.words,
            bufsize=0,
            env=environ,
        )
        self.timeout = None

    def said(self) -> str:
        """What the command has written to its stderr, its end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(0.2)
        self.words.seek(max(0, self.words.seek(0, os.SEEK_END) - 2000))
        return self.words.read().decode("utf-8", "replace")


def _is_plain(command: str) -> bool:
    """Whether `exec` before the command keeps its meaning: one simple command without assignments before it."""
    return not set(command) & set(";&|(){}\n<>`") and "=" not in command.split(" ", 1)[0]


def connect(spec: dict[str, Any]) -> list[fabric.Connection]:
    """Connect to the host that settings describe; returns the chain of connections, the host's own last.

    `auth_sock` in `spec` is the agent of whoever asks. Raises HostKeyUnknown, HostKeyChanged, HostKeyRevoked,
    AuthenticationRefused, Unreachable, UsageError.
    """
    way = _Way(spec.get("ssh_config"), float(spec.get("connect_timeout_s") or 10), spec.get("auth_sock"))
    return _chain(way, str(spec["ssh"]), host_keys.RefuseUnknown(str(spec["ssh"])))


def close(chain: list[fabric.Connection]) -> None:
    """Close a chain, the host's own connection first."""
    for hop in reversed(chain):
        try:
            hop.close()
        except (OSError, EOFError, paramiko.SSHException):
            pass


def unknown_key(destination: str, config_file: str | None, timeout_s: float) -> tuple[SshTarget, str, Any] | None:
    """(target, known_hosts name, key) of a host whose key is on no list yet; None when it is known. Raises Unreachable."""
    policy = host_keys.Collect()
    try:
        close(_chain(_Way(config_file, timeout_s, os.environ.get("SSH_AUTH_SOCK")), destination, policy))
    except HostKeyUnknown:
        pass
    except AuthenticationRefused:
        return None
    if policy.found is None:
        return None
    return ssh_config.resolve(destination, config_file), *policy.found


class _Way(NamedTuple):
    """What holds for every hop of a chain."""

    config_file: str | None
    timeout_s: float
    auth_sock: str | None


def _chain(way: _Way, destination: str, policy: host_keys.Policy, depth: int = 0) -> list[fabric.Connection]:
    target = ssh_config.resolve(destination, way.config_file)
    if depth > 8:
        raise Unreachable(
            f"the ProxyJump chain to {destination} never ends", remedy=command("try: ssh -G {}", destination)
        )
    before: list[fabric.Connection] = []
    try:
        for jump in (target.proxy_jump or "").split(","):
            if jump.strip():
                before += _chain(way, jump.strip().removeprefix("ssh://"), policy, depth + 1)
        sock = _socket_to(target, before[-1] if before else None, way)
        return [*before, _sign_in(target, sock, way, policy)]
    except BaseException:
        close(before)
        raise


def _socket_to(target: SshTarget, gateway: fabric.Connection | None, way: _Way) -> Any:
    if gateway is not None:
        try:
            transport = gateway.transport
            assert transport is not None
            place = (target.hostname, target.port)
            return transport.open_channel("direct-tcpip", place, ("", 0), timeout=way.timeout_s)
        except (paramiko.SSHException, OSError) as error:
            raise Unreachable(
                f"{gateway.host} cannot reach {target.hostname} port {target.port}: {error}",
                remedy=command("check ProxyJump for {}", target.alias),
            ) from error
    if target.proxy_command:
        agent = {"SSH_AUTH_SOCK": way.auth_sock} if way.auth_sock else {}
        try:
            return ProxyPipe(target.proxy_command, {**os.environ, **agent})
        except OSError as error:
            raise failure(target, Stage.DIAL, f"ProxyCommand: {error.strerror}") from error
    try:
        sock = socket.create_connection((target.hostname, target.port), way.timeout_s)
    except OSError as error:
        raise failure(target, Stage.DIAL, f"{type(error).__name__}: {error.strerror or error}") from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def failure(target: SshTarget, stage: Stage, error: str = "", said: str = "", **more: Any) -> HemmaError:
    """The named error for what was seen; which one, and whether trying again may help: lanes/connection_failures.py."""
    found = explain(
        Attempt(
            stage,
            error,
            said,
            alias=target.alias,
            place=f"{target.hostname} port {target.port}",
            account=f"{target.user}@{target.hostname}",
            proxy=target.proxy_command or "",
            **more,
        )
    )
    return of_code(found.kind, found.message, remedy=found.remedy, word=found.word, is_passing=found.is_passing)


def _sign_in(target: SshTarget, sock: Any, way: _Way, policy: host_keys.Policy) -> fabric.Connection:
    # The socket is already there, so host and port only name the key to look for in known_hosts.
    config = fabric.Config(overrides={"load_ssh_configs": False}, lazy=True)
    offered = credentials(target, way.auth_sock)
    options: dict[str, Any] = {
        "sock": sock,
        "transport_factory": FastTransport,
        "look_for_keys": False,
        "banner_timeout": way.timeout_s,
        "auth_timeout": way.timeout_s,
        "channel_timeout": way.timeout_s,
        **offered.options(),
    }
    name = target.host_key_name
    hop = fabric.Connection(
        host="placeholder",
        user=target.user,
        port=22,
        config=config,
        connect_timeout=way.timeout_s,
        connect_kwargs=options,
    )
    hop.host = name  # set afterwards: the constructor would take [host]:port apart
    client = hop.client
    assert client is not None
    client._agent = offered.agent  # type: ignore[attr-defined] # noqa: SLF001 - else paramiko takes that of os.environ
    known = host_keys.read(target.known_hosts_files, name)
    for key in known.keys:
        client.get_host_keys().add(name, key.get_name(), key)
    client.set_missing_host_key_policy(host_keys.Unrevoked(known, policy))
    try:
        hop.open()
    except paramiko.BadHostKeyException as error:
        known.refuse_revoked(name, error.key)
        raise _changed(target, error) from error
    except HemmaError:
        raise
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise _not_signed_in(target, client.get_transport(), sock, offered, error) from error
    except BaseException:
        hop.close()
        raise
    finally:
        offered.close()
        if not hop.is_connected:
            client.close()
    return hop


def _not_signed_in(target: SshTarget, transport: Any, sock: Any, offered: Credentials, error: Exception) -> HemmaError:
    """What a failure between the socket and a session was. Refused keys are told from a link that broke meanwhile."""
    stage = transport.stage() if isinstance(transport, FastTransport) else Stage.GREETING
    goodbye = transport.goodbye if isinstance(transport, FastTransport) else ""
    words = str(error)
    if stage is Stage.GREETING:
        if isinstance(sock, ProxyPipe) and not transport.greeting:
            return failure(target, Stage.DIAL, "ProxyCommand", sock.said() or words)
        lines = " / ".join(line.strip() for line in transport.greeting if line.strip())
        return failure(target, stage, f"it said: {lines}" if lines else words, lines)
    is_cut = goodbye or "transport shut down" in words or "timeout" in words.lower() or "existing session" in words
    is_refused = isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in words
    if stage is Stage.SIGN_IN and is_refused and not is_cut and "second factor" not in words:
        return _refused(target, offered)
    tried = f"offered: {', '.join(offered.names())}" if stage is Stage.SIGN_IN else words
    return failure(target, stage, tried if goodbye else words, goodbye)


def _refused(target: SshTarget, offered: Credentials) -> AuthenticationRefused:
    names = offered.names()
    locked = [path for path in target.identity_files if is_private_key(path) and os.path.basename(path) not in names]
    message = f"{target.user}@{target.hostname} accepts none of your keys (offered: {', '.join(names) or 'none'})"
    if locked:
        return AuthenticationRefused(
            message, remedy=command("{} needs its passphrase: ssh-add {}", locked[0], locked[0])
        )
    return AuthenticationRefused(message, remedy=command("ssh-copy-id {}  (passwords are not asked for)", target.alias))


def _changed(target: SshTarget, error: paramiko.BadHostKeyException) -> HostKeyChanged:
    return HostKeyChanged(
        f"the host key of {target.host_key_name} has CHANGED: it shows {host_keys.fingerprint(error.key)}, on record is "
        f"{host_keys.fingerprint(error.expected_key)}",
        remedy=command("if you know why (reinstalled?): ssh-keygen -R {}, then hemma host check", target.host_key_name),
    )
