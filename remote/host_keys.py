"""Host keys: an unknown one is refused with its fingerprint and the command that accepts it; a changed one always.

known_hosts is read as sshd(8) describes it, line by line: a line that cannot be read vouches for nobody and spoils no other.
`@cert-authority` lines are for OpenSSH's certificates, which paramiko does not know, hence skipped; `@revoked` refuses.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import paramiko

from manifests.commands import command
from manifests.errors import HemmaError, HostKeyRevoked, HostKeyUnknown

_LONGEST_FILE = 16 << 20


def fingerprint(key: paramiko.PKey) -> str:
    """The key's SHA256 fingerprint as OpenSSH prints it."""
    digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode("ascii")
    return "SHA256:" + digest.rstrip("=")


class Policy(Protocol):
    """What is done with a host whose key is on no list."""

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Raises what refuses the host."""
        ...


@dataclass
class Known:
    """What known_hosts says of one name: keys that vouch for it, and keys that must never be accepted, with their file."""

    keys: list[paramiko.PKey] = field(default_factory=list[paramiko.PKey])
    revoked: list[tuple[bytes, str]] = field(default_factory=list[tuple[bytes, str]])

    def refuse_revoked(self, name: str, key: paramiko.PKey) -> None:
        """Raises HostKeyRevoked when this key is one of them."""
        for blob, path in self.revoked:
            if blob == key.asbytes():
                raise HostKeyRevoked(
                    f"{name} shows a key that is marked as revoked in {path}: {fingerprint(key)}",
                    remedy="do not sign in there; ask who runs the host for its new key",
                )


def read(paths: Iterable[str], name: str) -> Known:
    """What these files say of `name` (`host` or `[host]:port`). A file that is missing or unreadable says nothing."""
    known, vouching = Known(), list[paramiko.PKey]()
    for path in paths:
        try:
            with open(path, "rb") as file:
                lines = file.read(_LONGEST_FILE).splitlines()
        except OSError:
            continue
        for line in lines:
            marker, key = _entry(line.decode("utf-8", "surrogateescape"), name)
            if key is None:
                continue
            if marker == "@revoked":
                known.revoked.append((key.asbytes(), path))
            elif not marker:
                vouching.append(key)
    bad = {blob for blob, _ in known.revoked}
    known.keys = [key for key in vouching if key.asbytes() not in bad]
    return known


def _entry(line: str, name: str) -> tuple[str, paramiko.PKey | None]:
    """(marker, key) of a line that is about `name`; no key for any other line."""
    words = line.split()
    marker = words.pop(0).lower() if words and words[0].startswith("@") else ""
    if len(words) < 3 or words[0].startswith("#") or not _is_about(words[0], name):
        return marker, None
    try:
        return marker, paramiko.PKey.from_type_string(words[1], base64.b64decode(words[2], validate=True))
    except Exception:  # noqa: BLE001 - keys of kinds and shapes that paramiko does not know: it raises all sorts
        return marker, None


def _is_about(patterns: str, name: str) -> bool:
    if patterns.startswith("|1|"):
        return _is_hash_of(patterns, name)
    found = False
    for pattern in patterns.split(","):
        # Brackets are part of `[host]:port`, not a set of letters as fnmatch has them.
        plain = pattern.removeprefix("!").replace("[", "[[]")
        if fnmatch.fnmatchcase(name.lower(), plain.lower()):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _is_hash_of(hashed: str, name: str) -> bool:
    try:
        _, _, salt, digest = hashed.split("|")
        made = hmac.new(base64.b64decode(salt), name.encode("utf-8", "surrogateescape"), hashlib.sha1).digest()
        return hmac.compare_digest(made, base64.b64decode(digest))
    except (ValueError, binascii.Error):
        return False


class Unrevoked(paramiko.MissingHostKeyPolicy):
    """A policy in front of another: a revoked key is refused as that, whatever the other would say."""

    def __init__(self, known: Known, policy: Policy) -> None:
        self.known = known
        self.policy = policy

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Raises HostKeyRevoked, or what the policy behind raises."""
        self.known.refuse_revoked(hostname, key)
        self.policy.missing_host_key(client, hostname, key)


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
