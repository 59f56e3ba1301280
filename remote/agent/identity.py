"""Who a process is beyond its number: pid + start time + boot id (S9-R19), so a reused pid never looks alive."""

from __future__ import annotations

import os


def boot_id() -> str:
    """The kernel's id of this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def start_ticks(pid: int) -> int | None:
    """When `pid` started, in clock ticks since boot; None when there is no such process (or only its zombie)."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return None
    # Fields count from the state, the third field of proc(5): state is 0, starttime (the 22nd) is 19.
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def of(pid: int) -> dict[str, object]:
    """The identity to write down for a living process."""
    return {"pid": pid, "start_ticks": start_ticks(pid), "boot_id": boot_id()}


def is_alive(identity: object, boot_id_now: str | None = None) -> bool:
    """Whether the very process that `identity` was taken of still runs; who asks for many says which boot this is."""
    if not isinstance(identity, dict) or identity.get("boot_id") != (boot_id_now or boot_id()):
        return False
    pid, ticks = identity.get("pid"), identity.get("start_ticks")
    return isinstance(pid, int) and isinstance(ticks, int) and start_ticks(pid) == ticks


def own_environment() -> dict[str, str]:
    """The environment as sshd gave it to the login shell, before that shell's start-up files changed it (S9-R21).

    sshd starts `$SHELL -c COMMAND`, and bash reads .bashrc even then. That shell is our parent, and the kernel still
    shows the environment it was started with. Where it cannot be read, our own is used.
    """
    try:
        with open("/proc/%d/environ" % os.getppid(), "rb") as file:
            raw = file.read()
    except OSError:
        raw = b""
    pairs = [pair.partition(b"=") for pair in raw.split(b"\0") if b"=" in pair]
    first = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
    return first if "SSH_CONNECTION" in first and "HOME" in first else dict(os.environ)
