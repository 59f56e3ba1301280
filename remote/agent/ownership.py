"""Ours alone, on the host: whether a folder, or the process at the other end of a socket, is this user's, whenever it is used.

The same rules as manifests/ownership.py on the controller, which the agent cannot import.
"""

from __future__ import annotations

import os
import pwd
import socket
import stat
import sys

_OTHERS_WRITE = 0o022
_OTHERS = 0o077


def make(path: str) -> None:
    """Make a folder and whatever is missing above it with mode 0700; os.makedirs gives the mode to the last one only."""
    parent = os.path.dirname(path)
    if parent != path and not os.path.isdir(parent):
        make(parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass


def fault_of(path: str) -> str:
    """Why this folder is not ours alone, or "": also where there is no folder. One that others may only read is closed."""
    try:
        facts = os.lstat(path)
        if stat.S_ISLNK(facts.st_mode) and facts.st_uid == os.geteuid():
            facts = os.stat(path)  # a link that we made ourselves, to a bigger disk
    except FileNotFoundError:
        return ""
    if facts.st_uid != os.geteuid():
        return "it belongs to %s" % _name_of(facts.st_uid)
    if not stat.S_ISDIR(facts.st_mode):
        return ""  # whoever needs it will say so
    if facts.st_mode & _OTHERS_WRITE:
        return "others may write it (mode %04o)" % stat.S_IMODE(facts.st_mode)
    if facts.st_mode & _OTHERS:
        os.chmod(path, 0o700)
    return ""


def _name_of(uid: int) -> str:
    try:
        return "user " + pwd.getpwuid(uid).pw_name
    except KeyError:
        return "user id %d" % uid


def is_own_peer(sock: socket.socket) -> bool:
    """Whether the process at the other end of a local socket is this user's; one that cannot be known is not."""
    try:
        if hasattr(socket, "SO_PEERCRED"):  # Linux: struct ucred
            facts = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        else:
            facts = sock.getsockopt(0, 1, 76)  # BSD, macOS: SOL_LOCAL, LOCAL_PEERCRED: struct xucred
    except OSError:
        return False
    # In both the user id is the second number of four bytes.
    return int.from_bytes(facts[4:8], sys.byteorder) == os.geteuid()
