"""Host keys: an unknown one is refused with its fingerprint and the command that accepts it; a changed one always."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING

from manifests.commands import command
from manifests.errors import HemmaError, HostKeyUnknown

if TYPE_CHECKING:
    import paramiko


def fingerprint(key: paramiko.PKey) -> str:
    """The key's SHA256 fingerprint as OpenSSH prints it."""
    digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode("ascii")
    return "SHA256:" + digest.rstrip("=")


class RefuseUnknown:
    """paramiko's policy for a host whose key is on no list: refuse, and say how to accept it."""

    def __init__(self, destination: str) -> None:
        self.destination = destination

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Raises HostKeyUnknown, always."""
        shown = fingerprint(key)
        raise HostKeyUnknown(
            f"the host key of {hostname} is unknown: {key.get_name()} {shown}",
            remedy=command(
                "compare it with the one of the host, then: hemma host accept {} {}", self.destination, shown
            ),
        )


class Collect:
    """A policy that lets any key pass for the moment and remembers it, for `hemma host accept` to compare."""

    def __init__(self) -> None:
        self.found: tuple[str, paramiko.PKey] | None = None

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Remembers the name and key; authentication is not gone on with."""
        self.found = (hostname, key)
        raise HostKeyUnknown("collected")


def add(path: str, name: str, key: paramiko.PKey) -> None:
    """Append the key to a known_hosts file (made with its folder when missing). Raises HemmaError when that fails."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        ends = True
        if os.path.exists(path):
            with open(path, "rb") as file:
                ends = file.read()[-1:] in (b"", b"\n")
        handle = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "ab") as file:
            line = f"{name} {key.get_name()} {key.get_base64()}\n"
            file.write((b"" if ends else b"\n") + line.encode("ascii"))
    except OSError as error:
        raise HemmaError(f"cannot write {path}: {error.strerror}", remedy="make the file writable for you") from error
