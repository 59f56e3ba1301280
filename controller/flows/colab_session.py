"""A Colab session that is always given back: written down before it is asked for, forgotten when Colab's list has it no more.

Whatever happens between, a crash too, leaves a record that `hemma colab sessions` shows as a stray.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lanes import colab_sessions
from manifests.commands import Command, command
from manifests.errors import HemmaError
from manifests.files import read_json, write_json
from manifests.places import private_dir, state_dir
from remote.colab_cli import ColabProgram, is_alive, mark_of_process

Event = dict[str, Any]
NEW_S, STOP_S, LIST_S = 600.0, 120.0, 60.0
STOP_TRIES = 3
LOOK = "hemma colab sessions --stop"


@contextmanager
def session(
    program: ColabProgram, name: str, gpu: str | None, slice_: str, on_event: Callable[[Event], None]
) -> Generator[str]:
    """A session for the block; yields a folder for its log. SIGTERM ends the block like Ctrl-C, so it is stopped then too.

    Raises HemmaError `colab-run-failed`, and at the end `colab-session-left`.
    """
    work = private_dir(os.path.join(_folder(), name))
    facts = {"name": name, "gpu": gpu, "slice": slice_, "pid": os.getpid(), "mark": mark_of_process(os.getpid())}
    write_json(_record(name), {**facts, "started_at": time.time()})
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    for number in (signal.SIGTERM, signal.SIGHUP):
        # A closed terminal ends it in good order too, but not what was started with nohup.
        if before[number] != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        log = os.path.join(work, "colab.log")
        program.step(colab_sessions.new(name, gpu), log=log, timeout_s=NEW_S, what="no machine was given")
        _note_endpoint(program, name, log)
        on_event({"kind": "session", "session": name, "gpu": gpu})
        yield work
    finally:
        # A second signal must not keep the machine running.
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        try:
            end(program, name)
            on_event({"kind": "stopped", "session": name})
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(number)


def end(program: ColabProgram, name: str) -> None:
    """Stop a session and see that it is gone from Colab's own list; then it is forgotten here.

    Raises HemmaError `colab-session-left`; the record then stays, and the session is shown as a stray.
    """
    log = os.path.join(private_dir(os.path.join(_folder(), name)), "colab.log")
    endpoint = _endpoint_of(name)
    for number in range(STOP_TRIES):
        program.run(colab_sessions.stop(name), log=log, timeout_s=STOP_S)
        told = program.run(colab_sessions.sessions(), log=log, timeout_s=LIST_S)
        there = colab_sessions.found(colab_sessions.parse_sessions(told.text), name, endpoint)
        if told.code == 0 and there is None:
            with suppress(FileNotFoundError):
                os.unlink(_record(name))
            return
        time.sleep(min(2.0, 0.1 * 4**number))
    raise HemmaError(
        f"the Colab session {name} could not be stopped and goes on costing",
        remedy=command("colab stop -s {}; colab sessions   (or {})", name, Command(colab_sessions.BY_HAND)),
        code="colab-session-left",
    )


def _note_endpoint(program: ColabProgram, name: str, log: str) -> None:
    """Write down by what else than its name the session is known: the program forgets names, the machine goes on."""
    told = program.run(colab_sessions.sessions(), log=log, timeout_s=LIST_S)
    there = colab_sessions.found(colab_sessions.parse_sessions(told.text), name, None)
    if there is not None:
        write_json(_record(name), {**read_json(_record(name)), "endpoint": there.endpoint})


def _endpoint_of(name: str) -> str | None:
    with suppress(HemmaError):
        return read_json(_record(name)).get("endpoint")
    return None


def listed(program: ColabProgram) -> tuple[list[colab_sessions.Session], list[colab_sessions.Stray]]:
    """All sessions that run, and which of them are strays of ours. Records of sessions that are gone are dropped."""
    log = os.path.join(private_dir(_folder()), "sessions.log")
    told = program.step(colab_sessions.sessions(), log=log, timeout_s=LIST_S, what="no list of sessions")
    live = colab_sessions.parse_sessions(told)
    records = list(_records())
    for record in records:
        if not record["is_alive"] and colab_sessions.found(live, record["name"], record.get("endpoint")) is None:
            os.unlink(_record(record["name"]))
    return live, colab_sessions.strays(records, live)


def left_behind() -> list[dict[str, str]]:
    """Sessions whose process here is gone: they may still run and cost. Told by our own records; Colab is not asked."""
    return [
        {"fact": f"the Colab session {record['name']} was left behind and may still cost", "do": LOOK}
        for record in _records()
        if not record["is_alive"]
    ]


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
