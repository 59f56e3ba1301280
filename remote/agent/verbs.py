"""The questions and small jobs an agent answers with one reply. Each runs in a forked child, so a slow one (a hung GPU
driver, a big folder) never holds up a running command's output.
"""

from __future__ import annotations

import os
import signal
from typing import Callable

from . import files, follow, frames, gitnet, gitwork, identity, launch, listing, probe, run_files, store, values


def answer(request: dict[str, object]) -> dict[str, object]:
    """The reply to one request. Expected failures come back as {"error": code, "message", "remedy", "exit_code"}."""
    verb = VERBS.get(str(request.get("verb")))
    if verb is None:
        return store.Refused("usage", "the agent does not know %r" % request.get("verb"), exit_code=2).fields
    try:
        told = _demand_clone(request) if verb in CLONE_VERBS else {}
        return dict(verb(request), **told)
    except store.Refused as refused:
        return refused.fields
    except OSError as error:
        return store.refusal(error, str(error.filename)).fields


def _demand_clone(request: dict[str, object]) -> dict[str, object]:
    """Before a clone is touched: is it the one that the request is about? What is to be said of it, besides yes.

    A request that names no clone at all is refused, so that no caller can forget to; whoever means that says None.
    """
    if "clone" not in request:
        raise store.Refused("usage", "%r does not say which clone it is about" % request.get("verb"), exit_code=2)
    root = request.get("root")
    facts = launch.demand_clone(request, launch.guard_facts(str(root) if root else None, None))
    return launch.unusual(facts)


def _related(request: dict[str, object]) -> dict[str, object]:
    """How the host's clone is related to the one that a run is about: may ask git, hence not in the agent's own process."""
    root = request.get("root")
    return launch.clone_facts(request, launch.guard_facts(str(root) if root else None, None))


def _runs(request: dict[str, object]) -> str:
    state_dir = request.get("state_dir")
    return store.runs_folder(str(state_dir) if state_dir else None)


def _probe(request: dict[str, object]) -> dict[str, object]:
    root = request.get("root")
    now = request.get("client_time_s")
    folder = os.path.dirname(_runs(request))
    return probe.probe(str(root) if root else None, folder, float(now) if isinstance(now, (int, float)) else 0.0)


def _show(request: dict[str, object]) -> dict[str, object]:
    return store.facts(store.find(_runs(request), str(request["run"])))


def _remove(request: dict[str, object]) -> dict[str, object]:
    ids = request.get("run_ids")
    return store.remove(_runs(request), [str(run_id) for run_id in ids] if isinstance(ids, list) else [])


def _undo(request: dict[str, object]) -> dict[str, object]:
    from . import undo  # loaded when it is asked for, which is seldom

    return undo.answer(request)


def _backup(request: dict[str, object]) -> dict[str, object]:
    from . import undo

    return undo.backup(request)


def _kill(request: dict[str, object]) -> dict[str, object]:
    """Signal a command whose supervisor is gone; only the very process that was started, never one that took its pid."""
    known = store.facts(store.find(_runs(request), str(request["run"])))
    status = known["status"]
    command = status.get("command") if isinstance(status, dict) else None
    if not isinstance(command, dict) or not identity.is_alive(command):
        return {"signalled": False}
    os.killpg(int(command["pid"]), int(str(request.get("signal", signal.SIGTERM.value))))
    return {"signalled": True}


VERBS: dict[str, Callable[[dict[str, object]], dict[str, object]]] = {
    "probe": _probe,
    "list": listing.page,
    "show": _show,
    "remove": _remove,
    "kill": _kill,
    "undo": _undo,
    "backup": _backup,
    "git-state": gitwork.state,
    "git-steps": gitwork.steps,
    "clone-related": _related,
    "git-follow": follow.follow,
    "file-read": files.read,
    "file-write": files.write,
    "run-files": run_files.read,
    "values-missing": values.missing,
    "value-put": values.put,
}

CLONE_VERBS = (_undo, _backup, gitwork.state, gitwork.steps, follow.follow, files.read, files.write)


# Begins a line of progress; a reply is a JSON object.
PROGRESS = b"+"


def _teller(writer: int) -> Callable[[str], bool]:
    """Writes a line of progress into the reply's pipe; false when the agent has closed it, for then nobody waits."""

    def tell(text: str) -> bool:
        try:
            os.write(writer, PROGRESS + text.encode("utf-8", "replace")[:200].replace(b"\n", b" ") + b"\n")
        except OSError:
            return False
        return True

    return tell


def _encoded(request: dict[str, object]) -> bytes:
    """The reply as JSON. A surprise, or more than a reply may be, is a refusal as well: never silence."""
    try:
        payload = frames.json_of(answer(request))
    except Exception as error:  # this process was made for the one question
        return frames.json_of(store.Refused("agent-failed", "the agent failed: %r" % error, exit_code=70).fields)
    if len(payload) > frames.MAX_ANSWER:
        message = "the answer is %d MiB, more than one may be" % (len(payload) >> 20)
        return frames.json_of(store.Refused("answer-too-large", message, "ask for less").fields)
    return payload


def _close_all_but(kept: int) -> None:
    """Let go of what the agent has open: a pipe whose reader we hold as well would never tell that nobody waits."""
    try:
        names = os.listdir("/dev/fd")
    except OSError:
        names = [str(number) for number in range(256)]
    for number in map(int, names):
        if number > 2 and number != kept:
            try:
                os.close(number)
            except OSError:
                pass


def start(request: dict[str, object]) -> int:
    """Answer in a child process; returns the pipe that will hold the reply's JSON and then end.

    Before the reply there may be lines that begin with PROGRESS: what a slow job has to say meanwhile.
    """
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)
            _close_all_but(writer)
            gitnet.listener = _teller(writer)
            payload = _encoded(request)
            with os.fdopen(writer, "wb") as file:
                file.write(payload)
        finally:
            os._exit(0)
    os.close(writer)
    return reader
