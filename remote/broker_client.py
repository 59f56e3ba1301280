"""The thin side of the broker: find it, start it, connect to it. Standard library only, on the `hemma run` path.

The socket's name carries a stamp of the code and of the interpreter, so a new version starts a broker of its own and the
old one leaves when it is idle. Where no broker can run (Windows, HEMMA_BROKER=off), a thread of this process serves.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import zlib

from manifests import ownership
from manifests.commands import command
from manifests.errors import HemmaError, NotPrivate, Unreachable, UsageError
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


def _folders(runtime: str) -> list[str]:
    """Where this user's brokers may listen, best first: the session's runtime folder, the state folder, below /tmp."""
    state = os.path.join(state_dir(), "broker")
    mark = f"{zlib.crc32(os.fsencode(state)):08x}"
    # Whoever makes this name first gains nothing: owner, mode and the peer are looked at whenever it is used.
    folders = [state, f"/tmp/hemma-{os.geteuid()}-{mark}"]  # noqa: S108
    if os.path.isabs(runtime) and ownership.is_private_folder(runtime):
        folders.insert(0, os.path.join(runtime, "hemma", mark))
    return folders


def socket_path() -> str:
    """The broker's socket: in the best folder for which its name is not too long. It need not exist."""
    name = stamp() + ".sock"
    paths = [os.path.join(folder, name) for folder in _folders(os.environ.get("XDG_RUNTIME_DIR", ""))]
    return next((path for path in paths if len(os.fsencode(path)) <= _LONGEST_NAME), paths[-1])


def all_sockets() -> list[str]:
    """The sockets of every broker of this user's state folder: of this version and of earlier ones that still run.

    A folder that is not ours alone is not even listed.
    """
    # The second: a broker of a login session, asked for from outside of one (cron, su).
    folders = {*_folders(os.environ.get("XDG_RUNTIME_DIR", "")), *_folders(f"/run/user/{os.geteuid()}")}
    private = [folder for folder in folders if ownership.is_private_folder(folder)]
    found = [os.path.join(folder, name) for folder in private for name in os.listdir(folder)]
    return sorted(path for path in found if path.endswith(".sock"))


def can_have_broker() -> bool:
    """Whether a broker process can serve here: not on Windows, not where a peer's user is unknown, not with HEMMA_BROKER=off."""
    has_sockets = hasattr(socket, "AF_UNIX") and hasattr(os, "posix_spawn") and ownership.HAS_PEERS
    return has_sockets and os.environ.get("HEMMA_BROKER", "on") != "off"


def connect(may_start: bool = True) -> socket.socket | None:
    """A connection to the broker, which is started when needed; None when `may_start` is False and none runs.

    Raises Unreachable when the broker cannot be started, NotPrivate when somebody else stands where it would be.
    """
    if not can_have_broker():
        from remote import broker

        return broker.serve_inline()
    path = socket_path()
    sock = open_socket(path)
    if sock is not None or not may_start:
        return sock
    log = ""
    try:
        for _ in range(3):
            log = _start(path)
            sock = open_socket(path)
            if sock is not None:
                return sock
    except OSError as error:
        raise _not_here(error) from error
    raise Unreachable(
        f"the local broker does not start: {_last_line(log)}",
        remedy=command("see {}, or go without: HEMMA_BROKER=off", log),
        code="no-broker",
    )


def _not_here(error: OSError) -> HemmaError:
    """Why no broker can be started on this machine, where that is not the broker's own fault."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Unreachable(
            "this machine lets Hemma have too few open files", remedy="ulimit -n 1024", code="too-many-open-files"
        )
    return UsageError(
        f"Hemma's state folder {state_dir()} cannot be used: {error.filename or state_dir()}: {error.strerror}",
        remedy="make it a folder that you can write, or name another: export HEMMA_STATE_DIR=~/.local/state/hemma",
    )


def _last_line(log: str) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            return file.read().decode("utf-8", "replace").strip().rpartition("\n")[2] or "it left no word"
    except OSError as error:
        return f"and its log cannot be read: {error.strerror}"


def open_socket(path: str) -> socket.socket | None:
    """A connection to the broker that listens on this socket, or None when none does any more.

    Raises NotPrivate when its folder, or the process that answers, is not this user's; then not a byte was sent.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        ownership.demand_folder(os.path.dirname(path), may_be_link=False)
        sock.connect(path)
    except OSError:
        sock.close()
        return None
    except NotPrivate:
        sock.close()
        raise
    if not ownership.is_own_peer(sock):
        uid = ownership.peer_uid(sock)
        sock.close()
        raise NotPrivate(
            f"a process of user id {uid}, not yours, answers on the broker's socket {path}: nothing was sent to it",
            remedy=command("see whose it is: ls -la {}; go without a broker: HEMMA_BROKER=off", os.path.dirname(path)),
        )
    return sock


def _broker_environ() -> dict[str, str]:
    """What a broker needs of our environment. Not the rest: it lives on, and a secret exported here would live with it."""
    return {
        name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }


def _start(path: str) -> str:
    """Start a broker and wait until it listens (it says so by closing its stdout); returns the name of its log."""
    ownership.demand_folder(private_dir(os.path.dirname(path)), may_be_link=False)
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
