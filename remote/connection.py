"""An authenticated SSH connection to the host, over any chain of jumps, by fabric and paramiko.

Every failure of theirs becomes one of our named errors here, once, with the command that mends it.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import fabric
import paramiko

from manifests.commands import command
from manifests.errors import (
    AuthenticationRefused,
    ConnectionLost,
    HemmaError,
    HostKeyChanged,
    HostKeyUnknown,
    Unreachable,
)
from remote import host_keys, ssh_config
from remote.ssh_config import SshTarget

# AES-GCM first: with the processor's AES instructions it moves three times what AES-CTR with a separate MAC does.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
# paramiko's default of 32 KiB packets and a 2 MiB window stalls a fast link; see benchmarks/NOTES.md.
PACKET_BYTES = 1 << 18
WINDOW_BYTES = 1 << 26
KEY_FILE_HEAD = 4096


class FastTransport(paramiko.Transport):
    """paramiko's transport with bigger packets and window, and the fastest common cipher first."""

    def __init__(self, sock: Any, **options: Any) -> None:
        options.update(default_window_size=WINDOW_BYTES, default_max_packet_size=PACKET_BYTES)
        super().__init__(sock, **options)
        security = self.get_security_options()
        security.ciphers = CIPHERS + tuple(name for name in security.ciphers if name not in CIPHERS)


def connect(spec: dict[str, Any]) -> list[fabric.Connection]:
    """Connect to the host that settings describe; returns the chain of connections, the host's own last.

    Raises HostKeyUnknown, HostKeyChanged, AuthenticationRefused, Unreachable, UsageError.
    """
    destination = str(spec["ssh"])
    config_file = spec.get("ssh_config")
    timeout_s = float(spec.get("connect_timeout_s") or 10)
    return _chain(destination, config_file, timeout_s, host_keys.RefuseUnknown(destination))


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
        close(_chain(destination, config_file, timeout_s, policy))
    except HostKeyUnknown:
        pass
    except AuthenticationRefused:
        return None
    if policy.found is None:
        return None
    return ssh_config.resolve(destination, config_file), *policy.found


def _chain(
    destination: str, config_file: str | None, timeout_s: float, policy: Any, depth: int = 0
) -> list[fabric.Connection]:
    target = ssh_config.resolve(destination, config_file)
    if depth > 8:
        raise Unreachable(
            f"the ProxyJump chain to {destination} never ends", remedy=command("try: ssh -G {}", destination)
        )
    before: list[fabric.Connection] = []
    try:
        for jump in (target.proxy_jump or "").split(","):
            if jump.strip():
                before += _chain(jump.strip().removeprefix("ssh://"), config_file, timeout_s, policy, depth + 1)
        sock = _socket_to(target, before[-1] if before else None, timeout_s)
        return [*before, _authenticate(target, sock, timeout_s, policy)]
    except BaseException:
        close(before)
        raise


def _socket_to(target: SshTarget, gateway: fabric.Connection | None, timeout_s: float) -> Any:
    if gateway is not None:
        try:
            transport = gateway.transport
            assert transport is not None
            return transport.open_channel("direct-tcpip", (target.hostname, target.port), ("", 0), timeout=timeout_s)
        except (paramiko.SSHException, OSError) as error:
            raise Unreachable(
                f"{gateway.host} cannot reach {target.hostname} port {target.port}: {error}",
                remedy=command("check ProxyJump for {}", target.alias),
            ) from error
    if target.proxy_command:
        return paramiko.ProxyCommand(target.proxy_command)
    try:
        sock = socket.create_connection((target.hostname, target.port), timeout_s)
    except OSError as error:
        raise _unreachable(target, error) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _unreachable(target: SshTarget, error: OSError) -> Unreachable:
    where = f"{target.hostname} port {target.port}"
    if isinstance(error, socket.gaierror):
        return Unreachable(
            f"no address for {target.hostname}",
            remedy=command("check HostName: ssh -G {} | grep hostname", target.alias),
        )
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(f"{where} refused the connection", remedy="is sshd running there, and is the port right?")
    if isinstance(error, TimeoutError):
        return Unreachable(f"{where} did not answer", remedy="is the host up, and are you on its network or VPN?")
    return Unreachable(f"{where}: {error.strerror or error}", remedy=command("try: ssh {} true", target.alias))


def _authenticate(target: SshTarget, sock: Any, timeout_s: float, policy: Any) -> fabric.Connection:
    # The socket is already there, so host and port only name the key to look for in known_hosts.
    config = fabric.Config(overrides={"load_ssh_configs": False}, lazy=True)
    options: dict[str, Any] = {
        "sock": sock,
        "transport_factory": FastTransport,
        "look_for_keys": False,
        "banner_timeout": timeout_s,
        "auth_timeout": timeout_s,
        "channel_timeout": timeout_s,
        **_credentials(target),
    }
    name = target.host_key_name
    hop = fabric.Connection(
        host="placeholder", user=target.user, port=22, config=config, connect_timeout=timeout_s, connect_kwargs=options
    )
    hop.host = name  # set afterwards: the constructor would take [host]:port apart
    client = hop.client
    assert client is not None
    for path in target.known_hosts_files:
        _load_known_hosts(client, path)
    client.set_missing_host_key_policy(policy)
    try:
        hop.open()
    except paramiko.BadHostKeyException as error:
        raise _changed(target, error) from error
    except paramiko.AuthenticationException as error:
        if "transport shut down" in str(error) or "timeout" in str(error).lower():  # cut, not refused
            raise ConnectionLost(f"the connection to {target.hostname} broke while signing in") from error
        raise _refused(target, options) from error
    except HemmaError:
        raise
    except (paramiko.SSHException, OSError, EOFError) as error:
        if "No authentication methods" in str(error):  # paramiko has no class of its own for "no key to offer"
            raise _refused(target, options) from error
        raise ConnectionLost(
            f"{target.hostname} port {target.port} closed the connection while it was being set up: {error}",
            remedy=command("try: ssh {} true", target.alias),
        ) from error
    except BaseException:
        hop.close()
        raise
    finally:
        if not hop.is_connected:
            client.close()
    return hop


def _load_known_hosts(client: paramiko.SSHClient, path: str) -> None:
    try:
        client.load_system_host_keys(path)
    except (OSError, paramiko.SSHException):
        pass  # a missing or unreadable list vouches for nobody


def _credentials(target: SshTarget) -> dict[str, Any]:
    """Which keys to offer: files that can be read without a passphrase, and the agent's unless IdentitiesOnly says no."""
    files = [path for path in target.identity_files if os.path.isfile(path) and not _is_encrypted(path)]
    if target.identity_agent and target.identity_agent != "SSH_AUTH_SOCK":
        os.environ["SSH_AUTH_SOCK"] = os.path.expanduser(target.identity_agent)
    if not target.identities_only:
        return {"key_filename": files, "allow_agent": True}
    if files:
        return {"key_filename": files, "allow_agent": False}
    return {"allow_agent": False, "pkey": _from_agent(target)}


def _from_agent(target: SshTarget) -> Any:
    """The agent's key for one of the target's identity files (IdentitiesOnly with an encrypted file), or None."""
    wanted = set[str]()
    for path in target.identity_files:
        try:
            with open(path.removesuffix(".pub") + ".pub", encoding="ascii", errors="replace") as file:
                wanted.add(file.read().split()[1])
        except (OSError, IndexError):
            continue
    try:
        return next((key for key in paramiko.Agent().get_keys() if key.get_base64() in wanted), None)
    except paramiko.SSHException:
        return None


def _is_encrypted(path: str) -> bool:
    try:
        paramiko.PKey.from_path(path)
    except paramiko.PasswordRequiredException:
        return True
    except TypeError:  # `cryptography`: password not given but the private key is encrypted
        return True
    except (paramiko.SSHException, OSError, ValueError):
        return False
    return False


def _refused(target: SshTarget, options: dict[str, Any]) -> AuthenticationRefused:
    offered = [os.path.basename(path) for path in options.get("key_filename") or []]
    locked = [path for path in target.identity_files if os.path.isfile(path) and os.path.basename(path) not in offered]
    message = f"{target.user}@{target.hostname} accepts none of your keys (offered: {', '.join(offered) or 'none'})"
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
