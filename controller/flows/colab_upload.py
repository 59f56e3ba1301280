"""The way of `hemma colab run` without Drive: the slice goes to the machine itself, and its results come back from there.

What came back lies in `kept`, and goes out again with the next attempt: it goes on where this one ended (S9-R34).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from controller.flows import colab_collect, colab_status
from controller.flows.drive import Place
from controller.flows.slice_fetch import unpack
from lanes import colab_sessions, colab_upload
from lanes.drive_runs import STATUS, File, judge
from manifests.commands import command
from manifests.errors import HemmaError
from manifests.files import read_json
from manifests.places import private_dir, state_dir
from remote.colab_cli import ColabProgram

FILE_S, PROGRAM_S = 300.0, 900.0
TRIES = 3
# (parts done, parts in all)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Machine:
    """A Colab session as this way uses it. `work` is a folder of ours for its log and for parts; `run` names slice and run."""

    program: ColabProgram
    session: str
    project: str
    run: str
    work: str

    @property
    def log(self) -> str:
        """Where all that the program says is kept."""
        return os.path.join(self.work, "colab.log")


def kept_folder(run: str) -> str:
    """Where results of `run` that came this way lie on this machine, from attempt to attempt."""
    return os.path.join(private_dir(os.path.join(state_dir(), "colab", "runs")), run)


def fetch_earlier(place: Place, run: str) -> None:
    """What the place has of this run comes here, to go along; nothing where it has none or cannot be asked."""
    with suppress(HemmaError):
        _, found = colab_status.find(place, run)
        colab_collect.collect(place, found.name, found.id, kept_folder(run))


def send(machine: Machine, folder: str, progress: Progress) -> int:
    """Bring the slice in `folder`, and what earlier attempts made of it, to the machine; bytes sent.

    Raises HemmaError `colab-run-failed`, also when the machine did not receive the very bytes.
    """
    packed = os.path.join(machine.work, "send.tar.gz")
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(folder, f"{machine.project}/slices/{machine.run}", filter=_writable)
        if os.path.isdir(kept_folder(machine.run)):
            archive.add(kept_folder(machine.run), f"{machine.project}/runs/{machine.run}")
    size, digest = os.path.getsize(packed), hashlib.sha256()
    total = -(-size // colab_upload.PART_BYTES)
    part = os.path.join(machine.work, "part")
    with open(packed, "rb") as whole:
        for number in range(total):
            data = whole.read(colab_upload.PART_BYTES)
            digest.update(data)
            with open(part, "wb") as file:
                file.write(data)
            arguments = colab_sessions.upload(machine.session, part, colab_upload.part_name(number))
            _step(machine, arguments, "the slice could not be sent")
            progress(number + 1, total)
    for path in (packed, part):
        os.unlink(path)
    _said(machine, colab_upload.unpack_program(total, digest.hexdigest()), "the slice could not be unpacked there")
    return size


def receive(machine: Machine, *, is_busy: bool) -> str | None:
    """Bring the run's directory back; the folder it lies in, None when the run never began.

    `is_busy` when the kernel still works: it is ended first. Raises HemmaError `colab-run-failed`; what was kept stays.
    """
    if is_busy:
        _step(machine, colab_sessions.restart(machine.session), "what runs there could not be ended")
    said = _said(machine, colab_upload.pack_program(machine.project, machine.run), "results could not be packed")
    parts = colab_upload.parts_of(said)
    if not parts:
        return None
    packed, part, digest = (
        os.path.join(machine.work, "received.tar.gz"),
        os.path.join(machine.work, "part"),
        hashlib.sha256(),
    )
    with open(packed, "wb") as whole:
        for path in parts:
            _step(machine, colab_sessions.download(machine.session, path, part), "results could not be fetched")
            with open(part, "rb") as file:
                data = file.read()
            digest.update(data)
            whole.write(data)
    if digest.hexdigest() != said.get("sha256"):
        raise HemmaError(
            "what came back is not what was packed", remedy=command("less {}", machine.log), code="colab-run-failed"
        )
    _keep(packed, machine.run)
    os.unlink(packed)
    return kept_folder(machine.run)


def status(machine: Machine) -> dict[str, Any]:
    """How the run stands, from its status.json on the machine. Raises HemmaError when it cannot be had now."""
    path = os.path.join(machine.work, STATUS)
    remote = f"{colab_upload.run_folder(machine.project, machine.run)}/{STATUS}"
    _step(machine, colab_sessions.download(machine.session, remote, path), "no status yet", tries=1)
    return _row(machine.run, path)


def kept_status(run: str) -> dict[str, Any]:
    """How the run stands, from what came back; empty when nothing did."""
    path = os.path.join(kept_folder(run), STATUS)
    return _row(run, path) if os.path.exists(path) else {}


def _row(run: str, path: str) -> dict[str, Any]:
    files = [File(STATUS, run, os.path.getsize(path))]
    return colab_status.as_dict(judge(run, run, files, read_json(path), time.time())) | {"where": "colab"}


def _keep(packed: str, run: str) -> None:
    """Unpack beside what is kept, and put it in its place at once."""
    kept = kept_folder(run)
    fresh, old = f"{kept}.new", f"{kept}.old"
    for path in (fresh, old):
        shutil.rmtree(path, ignore_errors=True)
    with open(packed, "rb") as archive:
        unpack(archive, fresh, run, what="the run's directory")
    with suppress(FileNotFoundError):
        os.rename(kept, old)
    os.rename(os.path.join(fresh, run), kept)
    for path in (fresh, old):
        shutil.rmtree(path, ignore_errors=True)


def _said(machine: Machine, text: str, what: str) -> dict[str, Any]:
    """Run a program of ours in the machine's kernel; what it says of itself. Raises HemmaError `colab-run-failed`."""
    path = os.path.join(machine.work, "program.py")
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    told = machine.program.step(
        colab_sessions.execute(machine.session, path, PROGRAM_S), log=machine.log, timeout_s=PROGRAM_S, what=what
    )
    said = colab_upload.answer(told)
    if "error" in said:
        raise HemmaError(f"{what}: {said['error']}", remedy=command("less {}", machine.log), code="colab-run-failed")
    return said


def _step(machine: Machine, arguments: list[str], what: str, *, tries: int = TRIES) -> str:
    return machine.program.step(arguments, log=machine.log, timeout_s=FILE_S, what=what, tries=tries)


def _writable(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A slice's files are read-only; on a machine that is gone tomorrow that only hinders a second unpacking."""
    member.mode |= 0o600
    return member
