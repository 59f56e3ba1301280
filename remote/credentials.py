"""Which keys are offered to a host: files that can be read without a passphrase, and those of the right agent.

An agent's socket is passed on, never put into this process's environment: the next hop, or another client of the same
broker, may have been given another agent, or none.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any

import paramiko
from paramiko.agent import AgentSSH

from remote.ssh_config import SshTarget

_HEAD_BYTES = 4096
_AGENT_TIMEOUT_S = 5.0


class KeyAgent(AgentSSH):
    """The ssh-agent that listens on `path`; its keys sign through the connection that this object holds."""

    def __init__(self, path: str) -> None:
        super().__init__()
        conn = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        conn.settimeout(_AGENT_TIMEOUT_S)
        try:
            conn.connect(path)
            self._connect(conn)  # type: ignore[attr-defined]
            conn.settimeout(None)  # a key that wants a touch takes its time
        except BaseException:
            conn.close()
            raise

    def close(self) -> None:
        """Give the connection back."""
        self._close()  # type: ignore[attr-defined]


@dataclass
class Credentials:
    """What is offered for one hop. `pkey` goes first, then `files`; `agent` is set where all of its keys may be offered."""

    files: list[str]
    pkey: Any = None
    agent: KeyAgent | None = None
    source: KeyAgent | None = None  # where `pkey` came from; it must stay open to sign

    def options(self) -> dict[str, Any]:
        """The keywords for paramiko's connect."""
        return {"key_filename": self.files, "pkey": self.pkey, "allow_agent": self.agent is not None}

    def names(self) -> list[str]:
        """What was offered, for people."""
        return [os.path.basename(path) for path in self.files] + (
            ["a key of the agent"] if self.agent_is_used() else []
        )

    def agent_is_used(self) -> bool:
        """Whether a key of an agent was offered."""
        return self.pkey is not None or (self.agent is not None and bool(self.agent.get_keys()))

    def close(self) -> None:
        """Close the agent's connection; the sign-in is over."""
        for agent in (self.agent, self.source):
            if agent is not None:
                agent.close()


def credentials(target: SshTarget, auth_sock: str | None) -> Credentials:
    """What may be offered to `target`; `auth_sock` is the agent of whoever asks, which IdentityAgent of the target overrides."""
    files = [path for path in target.identity_files if is_private_key(path) and not _is_encrypted(path)]
    agent = _agent_of(target, auth_sock)
    if agent is None:
        return Credentials(files)
    if not target.identities_only:
        return Credentials(files, agent=agent)
    pkey = _named_key(agent, target)
    if pkey is None:
        agent.close()
        return Credentials(files)
    return Credentials(files, pkey=pkey, source=agent)


def is_private_key(path: str) -> bool:
    """Whether this file holds a private key: a `.pub` named by IdentityFile only says which key of an agent is meant."""
    try:
        with open(path, "rb") as file:
            return b"PRIVATE KEY-----" in file.read(_HEAD_BYTES)
    except OSError:
        return False


def _agent_of(target: SshTarget, auth_sock: str | None) -> KeyAgent | None:
    named = target.identity_agent
    if target.has_no_agent:
        return None
    path = os.path.expanduser(named) if named and named != "SSH_AUTH_SOCK" else auth_sock
    if path and path.startswith("$"):
        path = os.environ.get(path[1:])
    if not path:
        return None
    try:
        return KeyAgent(path)
    except (OSError, paramiko.SSHException):
        return None


def _named_key(agent: KeyAgent, target: SshTarget) -> Any:
    """The agent's key for one of the target's identity files (IdentitiesOnly), or None."""
    wanted = set[str]()
    for path in target.identity_files:
        try:
            with open(path.removesuffix(".pub") + ".pub", encoding="ascii", errors="replace") as file:
                wanted.add(file.read(_HEAD_BYTES * 4).split()[1])
        except (OSError, IndexError):
            continue
    return next((key for key in agent.get_keys() if key.get_base64() in wanted), None)


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
