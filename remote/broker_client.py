"""The thin side of the broker: find it, start it, connect to it. Standard library only, on the `hemma run` path.

The socket's name carries a stamp of the code and of the interpreter, so a new version starts a broker of its own and the
old one leaves when it is idle. Where no broker can run (Windows, HEMMA_BROKER=off), a thread of this process serves.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
import zlib

from manifests.commands import command
from manifests.errors import HemmaError, Unreachable
from manifests.places import private_dir, state_dir

# sun_path holds 108 bytes on Linux and 104 on macOS, with a final NUL.
_LONGEST_NAME = 100
_READY_TIMEOUT_S = 15.0
# What it and the programs it may start (ProxyCommand, `ssh -G`) need to find their files and credentials.
_PASSED_ON = frozenset(
    (
        "HOME",
        "PATH",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "TZ",
        "TMPDIR",
        "TERM",
        "DISPLAY",
        "KRB5CCNAME",
        "HEMMA_STATE_DIR",
        "HEMMA_CONFIG_DIR",
        "HEMMA_CACHE_DIR",
        "HEMMA_SSH_CONFIG",
        "HEMMA_BROKER_IDLE_S",
        "SSH_AUTH_SOCK",
    )
)
_PASSED_ON_PREFIXES = ("LC_", "XDG_", "COVERAGE_")
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_STAMPED = ("remote", os.path.join("remote", "agent"))


def stamp() -> str:
    """A short word that changes with our code and with the interpreter: brokers of two versions never meet."""
    seen = [sys.executable, _ROOT]
    for folder in _STAMPED:
        with os.scandir(os.path.join(_ROOT, folder)) as entries:
            facts = [(entry.name, entry.stat()) for entry in entries if entry.name.endswith(".py")]
        seen += sorted(f"{name}.{stat.st_mtime_ns}.{stat.st_size}" for name, stat in facts)
    return f"{zlib.crc32('|'.join(seen).encode()):08x}"


def socket_path() -> str:
    """The broker's socket: in the state folder, or below the temporary folder where that name would be too long."""
    folder = os.path.join(state_dir(), "broker")
    path = os.path.join(folder, stamp() + ".sock")
    if len(os.fsencode(path)) <= _LONGEST_NAME:
        return path
    # Its owner and mode are checked before it is used (_own_folder), so a guessable name does no harm.
    short = f"/tmp/hemma-{os.getuid()}-{zlib.crc32(os.fsencode(folder)):08x}"  # noqa: S108
    return os.path.join(short, stamp() + ".sock")


def all_sockets() -> list[str]:
    """The sockets of every broker of this user's state folder: of this version and of earlier ones that still run."""
    folders = {os.path.join(state_dir(), "broker"), os.path.dirname(socket_path())}
    found = [os.path.join(folder, name) for folder in folders if os.path.isdir(folder) for name in os.listdir(folder)]
    return sorted(path for path in found if path.endswith(".sock"))


def _own_folder(path: str) -> str:
    """Make the socket's folder, and refuse one that somebody else could have put there."""
    private_dir(path)
    facts = os.lstat(path)
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise HemmaError(f"{path} is not a private folder of yours", remedy=command("remove it: rm -r {}", path))
    return path


def can_have_broker() -> bool:
    """Whether a broker process can serve here: not on Windows, and not when HEMMA_BROKER=off."""
    return hasattr(socket, "AF_UNIX") and hasattr(os, "posix_spawn") and os.environ.get("HEMMA_BROKER", "on") != "off"


def connect(may_start: bool = True) -> socket.socket | None:
    """A connection to the broker, which is started when needed; None when `may_start` is False and none runs.

    Raises Unreachable when the broker cannot be started.
    """
    if not can_have_broker():
        from remote import broker

        return broker.serve_inline()
    path = socket_path()
    sock = open_socket(path)
    if sock is not None or not may_start:
        return sock
    log = ""
    for _ in range(3):
        log = _start(path)
        sock = open_socket(path)
        if sock is not None:
            return sock
    raise Unreachable("the local broker does not start", remedy=command("see {}, or go without: HEMMA_BROKER=off", log))


def open_socket(path: str) -> socket.socket | None:
    """A connection to the broker that listens on this socket, or None when none does any more."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        return None
    return sock


def _broker_environ() -> dict[str, str]:
    """What a broker needs of our environment. Not the rest: it lives on, and a secret exported here would live with it."""
    return {
        name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }


def _start(path: str) -> str:
    """Start a broker and wait until it listens (it says so by closing its stdout); returns the name of its log."""
    _own_folder(os.path.dirname(path))
    log = os.path.join(private_dir(os.path.join(state_dir(), "broker")), "broker.log")
    reader, writer = os.pipe()
    door = os.path.join(_ROOT, "hemma", "__main__.py")
    if not os.path.exists(door):
        door = os.path.join(os.path.dirname(_ROOT), "__main__.py")  # installed: ours lies in hemma/_app
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, writer, 1),
        (os.POSIX_SPAWN_OPEN, 2, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
    ]
    argv = [sys.executable, "-I", door, "broker", "serve", path]
    os.posix_spawn(sys.executable, argv, _broker_environ(), file_actions=actions)
    os.close(writer)
    try:
        import select

        if select.select([reader], [], [], _READY_TIMEOUT_S)[0]:
            os.read(reader, 1)
    finally:
        os.close(reader)
    return log
