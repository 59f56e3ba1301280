"""Ours alone: whether a folder, a file, or the process at the other end of a socket is this user's, looked at when it is used.

A check when something is made says nothing about who stands there later, so every reader and every connection asks anew.
Standard library only, and little of it: the `hemma run` path uses it. On Windows there is nothing to ask.
"""

from __future__ import annotations

import os
import socket
import stat
import sys

from manifests.commands import Remedy, command
from manifests.errors import NotPrivate

HAS_OWNERS = hasattr(os, "geteuid")
HAS_PEERS = hasattr(socket, "SO_PEERCRED") or sys.platform == "darwin" or sys.platform.startswith("freebsd")
_OTHERS_WRITE = 0o022
_OTHERS = 0o077
_ROOT = 0


def private_dir(path: str) -> str:
    """Make `path` and whatever is missing above it with mode 0700, see that it is ours alone, and return it.

    os.makedirs would give the mode to the last folder only. What is missing above `path` is made the same way; what exists
    above it is its owner's business. Raises NotPrivate; OSError when it cannot be made.
    """
    _make(path)
    demand_folder(path)
    return path


def _make(path: str) -> None:
    parent = os.path.dirname(path)
    if parent != path and not os.path.isdir(parent):
        _make(parent)
    if not os.path.isdir(path):
        os.makedirs(path, 0o700, exist_ok=True)


def demand_folder(path: str, *, may_be_link: bool = True) -> None:
    """See that the folder `path` is ours and nobody else may write there; one that others may read is closed to them.

    `may_be_link`: a link that we made ourselves will do. Raises NotPrivate; FileNotFoundError when it is not there.
    """
    if not HAS_OWNERS:
        return
    facts = os.lstat(path)
    if stat.S_ISLNK(facts.st_mode) and may_be_link and facts.st_uid == os.geteuid():
        facts = os.stat(path)
    fault = "it is no folder" if not stat.S_ISDIR(facts.st_mode) else _fault(facts, _OTHERS_WRITE)
    if fault:
        raise NotPrivate(f"the folder {path} is not yours alone: {fault}", remedy=_remedy(path, facts))
    if facts.st_mode & _OTHERS:
        os.chmod(path, 0o700)


def demand_root(path: str) -> None:
    """See that nobody but us, or root, owns or may write the folder that `path` leads to, if there is one; others may read.

    Raises NotPrivate.
    """
    try:
        facts = os.stat(path)
    except OSError:
        return
    fault = _fault(facts, _OTHERS_WRITE, may_be_root=True) if HAS_OWNERS else ""
    if fault:
        raise NotPrivate(f"the folder {path} is not yours alone: {fault}", remedy=_remedy(path, facts))


def is_private_folder(path: str) -> bool:
    """Whether `path` is a folder of ours, no link, with no right for anybody else; nothing is changed."""
    try:
        facts = os.lstat(path)
    except OSError:
        return False
    return not HAS_OWNERS or (stat.S_ISDIR(facts.st_mode) and not _fault(facts, _OTHERS))


def read_own(path: str, *, is_secret: bool = False, is_config: bool = False) -> bytes:
    """The bytes of a file that decides what we do. Raises NotPrivate where it is another user's, or others may write it.

    `is_secret`: others may not read it either. `is_config`: root may own it (a managed machine), and the folder it lies
    in is looked at too. Raises OSError as `open` does.
    """
    with open(path, "rb", buffering=0) as file:
        if HAS_OWNERS:
            _demand_file(path, os.fstat(file.fileno()), is_secret, is_config)
        return file.readall()


def _demand_file(path: str, facts: os.stat_result, is_secret: bool, is_config: bool) -> None:
    fault = _fault(facts, _OTHERS if is_secret else _OTHERS_WRITE, may_be_root=is_config)
    if fault:
        raise NotPrivate(f"{path} is not yours alone: {fault}", remedy=_remedy(path, facts))
    if is_config:
        demand_root(os.path.dirname(path))


def _fault(facts: os.stat_result, refused: int, *, may_be_root: bool = False) -> str:
    """What is wrong with owner and mode; empty when nothing is."""
    if facts.st_uid != os.geteuid() and not (may_be_root and facts.st_uid == _ROOT):
        return f"it belongs to {_name_of(facts.st_uid)}"
    if facts.st_mode & refused:
        verb = "write" if facts.st_mode & _OTHERS_WRITE else "read"
        return f"others may {verb} it (mode {stat.S_IMODE(facts.st_mode):04o})"
    return ""


def _name_of(uid: int) -> str:
    import pwd  # only on the way to a refusal

    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user id {uid}"


def _remedy(path: str, facts: os.stat_result) -> Remedy:
    if facts.st_uid == os.geteuid() and not stat.S_ISLNK(facts.st_mode):
        return command("look what is there, then: chmod go-rwx {}", path)
    return command("see whose it is: ls -ld {}; then remove it, or set HEMMA_STATE_DIR to another folder", path)


def peer_uid(sock: socket.socket) -> int | None:
    """The user id of the process at the other end of a local socket, from the kernel; None where it cannot be known."""
    try:
        if hasattr(socket, "SO_PEERCRED"):  # Linux: struct ucred
            facts = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        elif HAS_PEERS:
            facts = sock.getsockopt(0, 1, 76)  # SOL_LOCAL, LOCAL_PEERCRED: struct xucred
        else:
            return None
    except OSError:
        return None
    # In both the user id is the second number of four bytes.
    return int.from_bytes(facts[4:8], sys.byteorder)


def is_own_peer(sock: socket.socket) -> bool:
    """Whether the process at the other end of a local socket is this user's; one that cannot be known is not."""
    return peer_uid(sock) == os.geteuid()
