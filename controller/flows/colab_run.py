"""`hemma colab run`: a slice on a Colab machine without a hand on it, and the machine always given back (S8-R12..R19).

The session itself, and what is left of one after a crash: controller/flows/colab_session.py.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import filelock

from controller.flows import colab_dispatch, colab_status, colab_upload
from controller.flows.colab_session import session
from controller.flows.colab_upload import Machine
from controller.flows.drive import Place
from lanes import approval, budget, colab_sessions
from lanes.drive_runs import DRIVE_DELAY_S
from lanes.verdict import Verdict
from manifests.commands import command, joined
from manifests.errors import HemmaError, NeedsPerson, TimedOut, UsageError
from manifests.files import read_json
from manifests.places import private_dir, state_dir
from remote.colab_cli import ColabProgram

Event = dict[str, Any]
MOUNT_S = 300.0
FOLLOW_S, QUICK_S = 20.0, 0.5


@dataclass(frozen=True)
class Request:
    """What is asked for. Costs per hour and in all in your currency; None: not known. `hours` is the longest it may take."""

    folder: str
    gpu: str | None = None
    hours: float = 1.0
    cost_per_hour: float | None = None
    max_cost: float = 0.0
    max_gpu_hours: float | None = None
    is_approved: bool = False
    is_upload: bool = False


def run(place: Place, request: Request, program: ColabProgram, on_event: Callable[[Event], None]) -> Event:
    """Run the slice's notebook on a new Colab machine and give the machine back; `way` in the result says how its files went.

    A run that is finished already needs no machine: it is told, `session` is None.
    `drive`: the slice lies in the place, the machine mounts it. `upload`, when that is refused or asked for: the slice goes
    to the machine itself, and the results come back from there into the place. Raises UsageError, NeedsPerson (approval,
    budget), TimedOut, and HemmaError `colab-run-failed`, `colab-session-lost` or `colab-session-left` (the machine could
    not be given back: the one error that goes on costing).
    """
    index = colab_dispatch.proven(request.folder)
    slice_ = f"{index['name']}-{index['digest'][:12]}"
    before = _finished(place, slice_, index)
    if before is not None:
        return {"run": slice_, "session": None, "way": None, "status": before, "log": None}
    gpu = _allowed(request)
    if not request.is_upload:
        sent = colab_dispatch.dispatch(place, request.folder)
        on_event({"kind": "dispatched", "slice": slice_, "sent": len(sent.sent), "link": sent.link})
    name = f"{colab_sessions.OURS}{os.urandom(4).hex()}"
    with _reserved(request, str(index["digest"]), name), session(program, name, gpu, slice_, on_event) as work:
        machine = Machine(program, name, str(index["project"]), slice_, work)
        is_drive = not request.is_upload and _mounted(machine, on_event)
        row = (_on_drive if is_drive else _by_upload)(place, request, machine, on_event)
    way = "drive" if is_drive else "upload"
    return {"run": slice_, "session": name, "way": way, "status": row, "log": machine.log}


def _finished(place: Place, run_name: str, index: Event) -> Event | None:
    """The run's row when nothing of it is left to do: no machine is paid for to find that out."""
    with suppress(HemmaError):
        row = colab_status.as_dict(colab_status.find(place, run_name)[0])
        retries = row["quarantined"] and index["resume"]["quarantined"] == "retry"
        return row if row["state"] == "finished" and not retries else None
    return None


def _mounted(machine: Machine, on_event: Callable[[Event], None]) -> bool:
    """Whether Drive is mounted there now. A consent that only a person can give is not waited for."""

    def asks() -> bool:
        with open(machine.log, encoding="utf-8", errors="replace") as log:
            return colab_sessions.consent_link(log.read()) is not None

    arguments = colab_sessions.mount(machine.session)
    told = machine.program.run(arguments, log=machine.log, timeout_s=MOUNT_S, meanwhile=asks)
    if told.code == 0 and colab_sessions.is_mounted(told.text):
        on_event({"kind": "mounted", "session": machine.session})
        return True
    link = colab_sessions.consent_link(told.text)
    why = "it wants your consent" if link else told.text.strip().rpartition("\n")[2] or "no answer"
    on_event({"kind": "unmounted", "session": machine.session, "why": why, "link": link})
    return False


def _on_drive(place: Place, request: Request, machine: Machine, on_event: Callable[[Event], None]) -> Event:
    """Run the notebook on the mounted Drive; the run's last row there."""

    def look() -> Event:
        return colab_status.as_dict(colab_status.find(place, machine.run)[0])

    follow = _Follower(look, FOLLOW_S if place.is_google else QUICK_S, on_event)
    _executed(request, machine, follow)
    return follow.last(DRIVE_DELAY_S if place.is_google else 0)


def _by_upload(place: Place, request: Request, machine: Machine, on_event: Callable[[Event], None]) -> Event:
    """Send the slice and what there is of its run, run the notebook, bring the run back into the place; its last row.

    What an attempt that failed or was interrupted has done is brought back too; only a machine that is gone keeps it.
    """
    colab_upload.fetch_earlier(place, machine.run)
    size = colab_upload.send(
        machine, request.folder, lambda done, of: on_event({"kind": "sending", "part": done, "of": of})
    )
    on_event({"kind": "sent", "session": machine.session, "size_bytes": size})
    follow = _Follower(lambda: colab_upload.status(machine), QUICK_S, on_event)
    try:
        _executed(request, machine, follow)
    except (HemmaError, KeyboardInterrupt) as error:
        if getattr(error, "code", "") != "colab-session-lost":
            with suppress(HemmaError):
                _brought(
                    place, machine, on_event, is_busy=not isinstance(error, HemmaError) or isinstance(error, TimedOut)
                )
        raise
    return _brought(place, machine, on_event, is_busy=False)


def _brought(place: Place, machine: Machine, on_event: Callable[[Event], None], *, is_busy: bool) -> Event:
    on_event({"kind": "fetching", "session": machine.session})
    kept = colab_upload.receive(machine, is_busy=is_busy)
    if kept is None:
        return {}
    colab_dispatch.bring_run(place, kept, machine.run)
    return colab_upload.kept_status(machine.run)


def _executed(request: Request, machine: Machine, follow: _Follower) -> None:
    """Run the notebook while its status is followed. Raises TimedOut, HemmaError colab-session-lost or colab-run-failed."""
    # The program saves its outputs beside the notebook it is given: it gets a copy.
    work, limit = machine.work, request.hours * 3600
    notebook = shutil.copy(os.path.join(request.folder, colab_dispatch.NOTEBOOK), os.path.join(work, "notebook.ipynb"))
    told = machine.program.run(
        colab_sessions.execute(machine.session, notebook, limit),
        log=machine.log,
        timeout_s=limit,
        meanwhile=follow.look,
    )
    if told.code is None:
        raise TimedOut(
            f"the notebook ran longer than {request.hours:g} hours", remedy="the same again: it goes on where it was"
        )
    if colab_sessions.is_lost(told.text):
        raise HemmaError("Colab took the machine away", remedy="the same again: it goes on", code="colab-session-lost")
    errors = [] if told.code else _cell_errors(os.path.join(work, "notebook_output.ipynb"))
    if told.code or errors:
        said = errors[0] if errors else told.text.strip().rpartition("\n")[2]
        less = command("less {}", machine.log)
        other = command("{}   (that Drive is not the one of the settings? --upload)", less)
        raise HemmaError(
            f"the notebook failed: {said}",
            remedy=other if "the slice is not there" in said else less,
            code="colab-run-failed",
        )


class _Follower:
    """Looks at the run now and then, and tells what changed. That it cannot be seen for a while ends nothing."""

    def __init__(self, read: Callable[[], Event], every_s: float, on_event: Callable[[Event], None]) -> None:
        self._read, self._every_s, self._on_event = read, every_s, on_event
        self._row: Event = {}
        self._due = 0.0

    def look(self) -> bool:
        """Never asks to end the program."""
        begun = time.monotonic()
        if begun >= self._due:
            with suppress(HemmaError):
                self._tell(self._read())
            # A look that is dear is taken less often.
            now = time.monotonic()
            self._due = now + max(self._every_s, 4 * (now - begun))
        return False

    def last(self, wait_s: float) -> Event:
        """The final row, waited for as long as Drive may take to show the end."""
        deadline = time.monotonic() + wait_s
        while True:
            self._due = 0.0
            self.look()
            if self._row.get("is_over") or time.monotonic() >= deadline:
                return self._row
            time.sleep(FOLLOW_S / 4)

    def _tell(self, row: Event) -> None:
        if (row["state"], row["done"]) != (self._row.get("state"), self._row.get("done")):
            self._on_event({"kind": "status", **row})
        self._row = row


def _cell_errors(path: str) -> list[str]:
    try:
        return colab_sessions.cell_errors(read_json(path))
    except HemmaError:
        return ["the notebook with its outputs was not saved"]


# --- may it, and may it cost that ---------------------------------------------------------------------------------------


def _allowed(request: Request) -> str | None:
    """The GPU to ask for. Raises UsageError, NeedsPerson."""
    gpu = colab_sessions.chosen_gpu(request.gpu)
    if isinstance(gpu, Verdict):
        raise UsageError(gpu.reasons[0].fact, remedy=gpu.next_steps[0])
    if not 0 < request.hours <= colab_sessions.MAX_HOURS:
        raise UsageError(
            f"--hours {request.hours:g}: Colab keeps a session at most a day",
            remedy=command("--hours {}", colab_sessions.MAX_HOURS),
        )
    resources: dict[str, Any] = {
        "cost_per_hour": request.cost_per_hour,
        "timeout_s": request.hours * 3600,
        "max_cost": request.max_cost,
        "gpu": "required" if gpu else "none",
        "max_gpu_hours": request.hours if gpu else 0.0,
    }
    verdict = approval.of_training({"resources": resources}, is_approved=request.is_approved)
    known = request.cost_per_hour is not None
    step = "--yes" if known else "--cost-per-hour N   (0 when it is free), or --yes"
    _go_on(dataclasses.replace(verdict, next_steps=(step,)))
    return gpu


def _go_on(verdict: Verdict) -> None:
    if not verdict.allowed:
        facts = "; ".join(f"{reason.rule}: {reason.fact}" for reason in verdict.reasons)
        raise NeedsPerson(facts, remedy=joined(verdict.next_steps, "; "))


@contextmanager
def _reserved(request: Request, digest: str, attempt: str) -> Generator[None]:
    """Money and GPU time of one attempt: reserved before, settled after, over all attempts at this slice (S8-R15)."""
    path = os.path.join(private_dir(os.path.join(state_dir(), "colab")), f"ledger-{digest[:16]}.jsonl")
    hours = request.hours if request.gpu else 0.0
    known = request.cost_per_hour or 0.0
    cap_hours = request.max_gpu_hours if request.max_gpu_hours is not None else hours
    cap = budget.Amount(round(request.max_cost * budget.MICROS), round(cap_hours * 3600))
    amount = _amount(known, hours, request.hours)
    with filelock.FileLock(path + ".lock"):
        entry = budget.reserve(_entries(path), attempt, amount, cap)
        if isinstance(entry, Verdict):
            _go_on(entry)
        else:
            _append(path, entry)
    begun = time.monotonic()
    try:
        yield
    finally:
        took = (time.monotonic() - begun) / 3600
        with filelock.FileLock(path + ".lock"):
            _append(path, budget.Entry("settle", attempt, _amount(known, took if request.gpu else 0.0, took)))


def _amount(cost_per_hour: float, gpu_hours: float, hours: float) -> budget.Amount:
    return budget.Amount(round(cost_per_hour * hours * budget.MICROS), round(gpu_hours * 3600))


def _entries(path: str) -> list[budget.Entry]:
    found: list[budget.Entry] = []
    with suppress(FileNotFoundError), open(path, encoding="ascii") as file:
        for line in file:
            with suppress(ValueError, KeyError, TypeError):  # a line that a crash cut short was never granted
                each = json.loads(line)
                found.append(budget.Entry(each["kind"], each["attempt"], budget.Amount(**each["amount"])))
    return found


def _append(path: str, entry: budget.Entry) -> None:
    with open(path, "a", encoding="ascii") as file:
        file.write(json.dumps(dataclasses.asdict(entry)) + "\n")
        file.flush()
        os.fsync(file.fileno())
