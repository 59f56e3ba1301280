"""`hemma colab run`: a slice on a Colab machine without a hand on it, and the machine always given back (S8-R12..R19).

A session is written down before it is asked for and forgotten when Colab's own list no longer has it. Whatever happens
between, a crash too, leaves a record that `hemma colab sessions` shows as a stray.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import filelock

from controller.flows import colab_dispatch, colab_status
from controller.flows.drive import Place
from lanes import approval, budget, colab_sessions
from lanes.drive_runs import DRIVE_DELAY_S
from lanes.verdict import Verdict
from manifests.errors import HemmaError, NeedsPerson, TimedOut, UsageError
from manifests.files import read_json, write_json
from manifests.places import private_dir, state_dir
from remote.colab_cli import ColabProgram, is_alive, mark_of_process

Event = dict[str, Any]
NEW_S, MOUNT_S, STOP_S, LIST_S = 600.0, 300.0, 120.0, 60.0
STOP_TRIES = 3
FOLLOW_S = 20.0


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


def run(place: Place, request: Request, program: ColabProgram, on_event: Callable[[Event], None]) -> Event:
    """Dispatch the slice, run its notebook on a new Colab machine, follow it through Drive, give the machine back.

    Raises UsageError, NeedsPerson (approval, budget), TimedOut, and HemmaError `colab-run-failed`, `colab-session-lost`
    or `colab-session-left` (the machine could not be given back: the one error that goes on costing).
    """
    gpu = _allowed(request)
    sent = colab_dispatch.dispatch(place, request.folder)
    on_event({"kind": "dispatched", "slice": sent.slice, "sent": len(sent.sent), "link": sent.link})
    name = f"{colab_sessions.OURS}{os.urandom(4).hex()}"
    with _reserved(request, sent.digest, name), _session(program, name, gpu, sent.slice, on_event) as work:
        log = os.path.join(work, "colab.log")
        _step(program, colab_sessions.mount(name), log, MOUNT_S, "Drive could not be mounted")
        on_event({"kind": "mounted", "session": name})
        row = _executed(place, request, program, (name, sent.slice, work), on_event)
    return {"run": sent.slice, "session": name, "status": row, "log": log}


def _executed(
    place: Place,
    request: Request,
    program: ColabProgram,
    names: tuple[str, str, str],
    on_event: Callable[[Event], None],
) -> Event:
    """Run the notebook while its status is followed; the run's last row."""
    name, run_name, work = names
    # The program saves its outputs beside the notebook it is given: it gets a copy.
    notebook = shutil.copy(os.path.join(request.folder, colab_dispatch.NOTEBOOK), os.path.join(work, "notebook.ipynb"))
    limit = request.hours * 3600
    follow = _Follower(place, run_name, on_event)
    told = program.run(
        colab_sessions.execute(name, notebook, limit),
        log=os.path.join(work, "colab.log"),
        timeout_s=limit,
        meanwhile=follow.look,
    )
    row = follow.last(wait=told.code == 0)
    if told.code is None:
        raise TimedOut(
            f"the notebook ran longer than {request.hours:g} hours", remedy="the same again: it goes on where it was"
        )
    if colab_sessions.is_lost(told.text):
        raise HemmaError("Colab took the machine away", remedy="the same again: it goes on", code="colab-session-lost")
    errors = [] if told.code else _cell_errors(os.path.join(work, "notebook_output.ipynb"))
    if told.code or errors:
        said = errors[0] if errors else told.text.strip().rpartition("\n")[2]
        raise HemmaError(f"the notebook failed: {said}", remedy=f"less {work}/colab.log", code="colab-run-failed")
    return row


class _Follower:
    """Looks at the run in Drive now and then, and tells what changed. An outage of Drive ends nothing."""

    def __init__(self, place: Place, run_name: str, on_event: Callable[[Event], None]) -> None:
        self._place, self._run, self._on_event = place, run_name, on_event
        self._row: Event = {}
        self._due = 0.0

    def look(self) -> bool:
        """Never asks to end the program."""
        if time.monotonic() >= self._due:
            with suppress(HemmaError):
                self._tell(colab_status.as_dict(colab_status.find(self._place, self._run)[0]))
            self._due = time.monotonic() + (FOLLOW_S if self._place.is_google else 0.5)
        return False

    def last(self, *, wait: bool) -> Event:
        """The final row; with `wait` as long as Drive may take to show the end."""
        deadline = time.monotonic() + (DRIVE_DELAY_S if wait and self._place.is_google else 0)
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


def _step(program: ColabProgram, arguments: list[str], log: str, timeout_s: float, what: str) -> str:
    told = program.run(arguments, log=log, timeout_s=timeout_s)
    if told.code == 0:
        return told.text
    why = f"no answer in {timeout_s:.0f} s" if told.code is None else told.text.strip().rpartition("\n")[2]
    raise HemmaError(f"{what}: {why}", remedy=f"less {log}", code="colab-run-failed")


# --- may it, and may it cost that ---------------------------------------------------------------------------------------


def _allowed(request: Request) -> str | None:
    """The GPU to ask for. Raises UsageError, NeedsPerson."""
    gpu = colab_sessions.chosen_gpu(request.gpu)
    if isinstance(gpu, Verdict):
        raise UsageError(gpu.reasons[0].fact, remedy=gpu.next_steps[0])
    if not 0 < request.hours <= colab_sessions.MAX_HOURS:
        raise UsageError(
            f"--hours {request.hours:g}: Colab keeps a session at most a day",
            remedy=f"--hours {colab_sessions.MAX_HOURS}",
        )
    resources: dict[str, Any] = {
        "cost_per_hour": request.cost_per_hour,
        "timeout_s": request.hours * 3600,
        "max_cost": request.max_cost,
        "gpu": "required" if gpu else "none",
        "max_gpu_hours": request.hours if gpu else 0.0,
    }
    _go_on(approval.of_training({"resources": resources}, is_approved=request.is_approved))
    return gpu


def _go_on(verdict: Verdict) -> None:
    if not verdict.allowed:
        facts = "; ".join(f"{reason.rule}: {reason.fact}" for reason in verdict.reasons)
        raise NeedsPerson(facts, remedy="; ".join(verdict.next_steps))


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


# --- the session --------------------------------------------------------------------------------------------------------


@contextmanager
def _session(
    program: ColabProgram, name: str, gpu: str | None, slice_: str, on_event: Callable[[Event], None]
) -> Generator[str]:
    """A session for the block; yields a folder for its log. SIGTERM ends the block like Ctrl-C, so it is stopped then too."""
    work = private_dir(os.path.join(_folder(), name))
    facts = {"name": name, "gpu": gpu, "slice": slice_, "pid": os.getpid(), "mark": mark_of_process(os.getpid())}
    write_json(_record(name), {**facts, "started_at": time.time()})
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        _step(program, colab_sessions.new(name, gpu), os.path.join(work, "colab.log"), NEW_S, "no machine was given")
        on_event({"kind": "session", "session": name, "gpu": gpu})
        yield work
    finally:
        # A second signal must not keep the machine running.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            end(program, name)
            on_event({"kind": "stopped", "session": name})
        finally:
            signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(number)


def end(program: ColabProgram, name: str) -> None:
    """Stop a session and see that it is gone from Colab's own list; then it is forgotten here.

    Raises HemmaError `colab-session-left`; the record then stays, and the session is shown as a stray.
    """
    log = os.path.join(private_dir(os.path.join(_folder(), name)), "colab.log")
    for number in range(STOP_TRIES):
        program.run(colab_sessions.stop(name), log=log, timeout_s=STOP_S)
        told = program.run(colab_sessions.sessions(), log=log, timeout_s=LIST_S)
        if told.code == 0 and name not in {each.name for each in colab_sessions.parse_sessions(told.text)}:
            with suppress(FileNotFoundError):
                os.unlink(_record(name))
            return
        time.sleep(min(2.0, 0.1 * 4**number))
    raise HemmaError(
        f"the Colab session {name} could not be stopped and goes on costing",
        remedy=f"colab stop -s {name}; colab sessions   (or end it at https://colab.research.google.com)",
        code="colab-session-left",
    )


def listed(program: ColabProgram) -> tuple[list[colab_sessions.Session], list[colab_sessions.Stray]]:
    """All sessions that run, and which of them are strays of ours. Records of sessions that are gone are dropped."""
    log = os.path.join(private_dir(_folder()), "sessions.log")
    live = colab_sessions.parse_sessions(_step(program, colab_sessions.sessions(), log, LIST_S, "no list of sessions"))
    records = list(_records())
    for record in records:
        if not record["is_alive"] and record["name"] not in {each.name for each in live}:
            os.unlink(_record(record["name"]))
    return live, colab_sessions.strays(records, live)


def _records() -> Iterator[Event]:
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(_folder())):
            if name.endswith(".json"):
                with suppress(HemmaError, KeyError, ValueError, TypeError):
                    record = read_json(os.path.join(_folder(), name))
                    yield {**record, "is_alive": is_alive(int(record["pid"]), str(record["mark"]))}


def _folder() -> str:
    return os.path.join(state_dir(), "colab", "sessions")


def _record(name: str) -> str:
    return os.path.join(_folder(), f"{name}.json")
