"""Run directories on the host: made whole or not at all, changed by rename, listed as facts, removed only when dead.

    <state>/runs/<run id>/  run.json status.json events.jsonl logs/stdout.log logs/stderr.log control.sock

Folders are 0700 and files 0600. A rename makes a change atomic for readers and across a crash of the agent; it is not
fsynced, since a command must not wait for the disk: power loss may take the last seconds of a run's record.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from typing import Iterator

from . import frames, identity, ownership, shapes

STREAMS: tuple[str, ...] = ("stdout", "stderr")
# Room that must be there before a run starts: its record, and a little output.
NEEDED_BYTES = 1 << 20
NEEDED_INODES = 16


# What is looked for in the runs' folder is a folder of this name; anything else there is none of ours.
_IS_RUN = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,127}").fullmatch
_RECORDS = {"run.json": shapes.RECORD, "status.json": shapes.STATUS}


class Refused(Exception):
    """An expected failure on the host; `fields` is what the controller's error tree is rebuilt from."""

    def __init__(self, code: str, message: str, remedy: str = "", exit_code: int = 1) -> None:
        Exception.__init__(self, message)
        self.fields: dict[str, object] = {"error": code, "message": message, "remedy": remedy, "exit_code": exit_code}


def now_iso() -> str:
    """The current time, UTC, ISO 8601 with milliseconds."""
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + ".%03dZ" % (seconds % 1 * 1000)


def runs_folder(state_dir: str | None) -> str:
    """The folder of all runs; `state_dir` None means $XDG_STATE_HOME/hemma or ~/.local/state/hemma.

    Every verb comes by here, so it is looked at here whose it is. Raises Refused (not-private).
    """
    if not state_dir:
        state_dir = os.path.join(os.environ.get("XDG_STATE_HOME") or "~/.local/state", "hemma")
    return private(os.path.join(os.path.expanduser(state_dir), "runs"))


def private(path: str) -> str:
    """The folder itself, which is ours alone or not there yet. Raises Refused (not-private)."""
    fault = ownership.fault_of(path)
    if fault:
        raise Refused(
            "not-private",
            "%s on the host is not yours alone: %s" % (path, fault),
            "look what is there and remove it or `chmod go-rwx` it, or set host.state_dir to another folder",
            75,
        )
    return path


def spool_path(folder: str, stream: str) -> str:
    """The file that holds everything the command wrote to `stream`."""
    return os.path.join(folder, "logs", stream + ".log")


def make_private(path: str) -> None:
    """Make a folder and whatever is missing above it with mode 0700. Raises OSError, Refused (not-private)."""
    ownership.make(path)
    private(path)


def create(runs: str, run_id: str, record: dict[str, object]) -> str | None:
    """Make the run's directory with its record and empty spools; None when it exists (a repeated submit, S9-R18).

    Raises Refused (host-disk-full, state-not-writable); then nothing half-written is left.
    """
    folder = os.path.join(runs, run_id)
    try:
        make_private(runs)
        room = os.statvfs(runs)
        if room.f_bavail * room.f_frsize < NEEDED_BYTES or (room.f_files and room.f_favail < NEEDED_INODES):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.mkdir(folder, 0o700)
    except FileExistsError:
        return None
    except OSError as error:
        raise refusal(error, runs) from None
    try:
        os.mkdir(os.path.join(folder, "logs"), 0o700)
        for stream in STREAMS:
            os.close(os.open(spool_path(folder, stream), os.O_CREAT | os.O_WRONLY, 0o600))
        write(folder, "run.json", record)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise refusal(error, runs) from None
    return folder


def refusal(error: OSError, path: str) -> Refused:
    """The named refusal for a disk that is full or a folder that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(
            "host-disk-full",
            "the host has no room left in %s: the command was not started" % path,
            "free some space or inodes there, e.g. `hemma prune`, or point host.state_dir at another disk",
            255,
        )
    return Refused(
        "state-not-writable",
        "the host cannot write %s: %s" % (path, error.strerror),
        "make it writable for your user, or set host.state_dir",
        255,
    )


def write(folder: str, name: str, fields: dict[str, object]) -> None:
    """Replace `name` in the run's folder by `fields` as JSON, in one rename. Raises OSError."""
    path = os.path.join(folder, name)
    temporary = path + ".new"
    handle = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(json.dumps(fields, indent=1).encode("ascii") + b"\n")
    os.replace(temporary, path)


def read(folder: str, name: str) -> dict[str, object] | None:
    """The record in `name`, or None when it is missing or damaged."""
    return _looked_at(folder, name)[0]


def _looked_at(folder: str, name: str) -> tuple[dict[str, object] | None, str | None]:
    """(the record in `name`, what is wrong with it); the command itself may have written there, so it is read as a stranger's."""
    try:
        handle = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            content = file.read(frames.MAX_PAYLOAD + 1)
        if len(content) > frames.MAX_PAYLOAD:
            return None, "%s is too long" % name
        fields = frames.fields_of(content)
        _RECORDS[name](fields)
    except OSError as error:
        return None, None if isinstance(error, FileNotFoundError) else "%s: %s" % (name, error.strerror)
    except frames.BadFrame as bad:
        return None, "%s is %s" % (name, bad)
    except shapes.BadShape as bad:
        return None, "in %s, %s" % (name, bad)
    return fields, None


def add_event(folder: str, event: str, **fields: object) -> None:
    """Append one line to events.jsonl; a full disk loses the line, never the run."""
    line = json.dumps(dict(fields, at=now_iso(), event=event), sort_keys=True).encode("ascii") + b"\n"
    try:
        handle = os.open(os.path.join(folder, "events.jsonl"), os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    except OSError:
        return
    try:
        os.write(handle, line)
    except OSError:
        pass
    finally:
        os.close(handle)


def find(runs: str, name: str) -> str:
    """The folder of the run called `name`: its id, an unambiguous beginning or ending of it, or `last`.

    Raises Refused (no-such-run, ambiguous-run).
    """
    ids = ids_in(runs)
    if name == "last" and ids:
        return os.path.join(runs, ids[-1])
    if name in ids:
        return os.path.join(runs, name)
    matching = [run_id for run_id in ids if name and (run_id.startswith(name) or run_id.endswith(name))]
    if len(matching) == 1:
        return os.path.join(runs, matching[0])
    if matching:
        raise Refused(
            "ambiguous-run", "%d runs match %r" % (len(matching), name), "give more of the id; see `hemma ps --all`"
        )
    raise Refused("no-such-run", "there is no run %r on the host" % name, "see `hemma ps --all`")


def facts(folder: str, *, with_record: bool = True) -> dict[str, object]:
    """What is known of one run: record, status, sizes, and whether its supervisor and command still live."""
    status, damage = _looked_at(folder, "status.json")
    record, damage_of_record = _looked_at(folder, "run.json") if with_record else (None, None)
    sizes, times = dict.fromkeys(STREAMS, 0), [0.0]
    for stream in (*STREAMS, None):
        try:
            known = os.stat(spool_path(folder, stream) if stream else os.path.join(folder, "status.json"))
        except OSError:
            continue
        times.append(known.st_mtime)
        if stream:
            sizes[stream] = known.st_size
    boot_id = identity.boot_id()
    found: dict[str, object] = {
        "run_id": os.path.basename(folder),
        "record": record,
        "status": status,
        "sizes": sizes,
        "supervisor_alive": identity.is_alive(status.get("supervisor") if status else None, boot_id),
        "command_alive": identity.is_alive(status.get("command") if status else None, boot_id),
        "boot_id": boot_id,
        "modified_s": max(times) or _modified(folder),
    }
    if damage or damage_of_record:
        found["damaged"] = str(damage or damage_of_record)[:400]
    return found


def _modified(folder: str) -> float:
    try:
        return os.stat(folder).st_mtime
    except OSError:
        return 0.0


def ids_in(runs: str) -> list[str]:
    """The ids of all runs, oldest first; nothing is read of them."""
    try:
        with os.scandir(runs) as entries:
            return sorted(each.name for each in entries if _IS_RUN(each.name) and each.is_dir(follow_symlinks=False))
    except OSError:
        return []


def list_facts(runs: str) -> Iterator[dict[str, object]]:
    """The facts of every run, oldest first."""
    return (facts(os.path.join(runs, run_id)) for run_id in ids_in(runs))


def is_due(runs: str, interval_s: float) -> bool:
    """Whether the daily clean-up has not been asked for within `interval_s` seconds; asking counts as having done it."""
    stamp = os.path.join(os.path.dirname(runs), "pruned")
    try:
        if time.time() - os.stat(stamp).st_mtime < interval_s:
            return False
    except OSError:
        pass
    os.close(os.open(stamp, os.O_CREAT | os.O_WRONLY, 0o600))
    os.utime(stamp)
    return True


def remove(runs: str, run_ids: list[str]) -> dict[str, object]:
    """Remove these runs' folders, except where a supervisor or command still lives; says which went and which stayed.

    The choice is the controller's (lanes.retention); that a live run never goes is checked again here, last.
    """
    removed: list[str] = []
    kept: list[str] = []
    present = set(ids_in(runs))
    for run_id in run_ids:
        if run_id not in present:  # no name but a run's own may ever reach rmtree
            kept.append(run_id)
            continue
        folder = os.path.join(runs, run_id)
        known = facts(folder)
        fresh = time.time() - float(str(known["modified_s"])) < 60
        if known["supervisor_alive"] or known["command_alive"] or (known["status"] is None and fresh):
            kept.append(run_id)
            continue
        shutil.rmtree(folder, ignore_errors=True)
        removed.append(run_id)
    return {"removed": removed, "kept": kept}
