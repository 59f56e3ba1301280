"""A piece of the training room that runs on the host by itself, outside a training run: sent by value, it answers in lines.

Its module has `main(request path) -> exit code` and prints events as JSON lines, the last of them its result or refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from controller.flows import run as run_flow
from controller.flows import train as train_flow
from controller.flows.host_events import EventLines
from manifests.commands import command
from manifests.errors import HemmaError, from_dict
from remote.payload import PREFIX

# A constant: what varies goes in as arguments.
PROGRAM = (
    "import importlib, sys; sys.path.insert(0, sys.argv[1]); "
    f"sys.exit(importlib.import_module('{PREFIX}.training.' + sys.argv[2]).main(sys.argv[3]))"
)
TIMEOUT_S = 3600.0

Event = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """How it ended: its last event, its exit code, and the run it was."""

    last: Event | None
    exit_code: int
    run_id: str
    printed: str

    def failed(self, code: str) -> HemmaError:
        """The error of an end without a result."""
        lines = self.printed.strip().splitlines()
        return HemmaError(
            f"it ended with {self.exit_code} before it was done: {lines[-1] if lines else 'it said nothing'}",
            remedy=command("hemma logs {}", self.run_id),
            code=code,
        )


def call(settings: dict[str, Any], module: str, request: Event, on_event: Callable[[Event], None]) -> Answer:
    """Run `training.<module>.main` on the host with this request, whose `job` names python and environment.

    Raises the host's own refusal (an event `refused`), as the error that it is.
    """
    payload, job = train_flow.sent(settings, request)
    last: list[Event] = []
    printed = run_flow.Capture()
    options = {"lease_s": settings["lease_s"], "timeout_s": TIMEOUT_S, "env": request["job"].get("environment") or {}}
    sent = run_flow.request_of(
        settings, options, [train_flow.python_of(request["job"]), "-I", "-c", PROGRAM, payload, module, job]
    )

    def take(event: Event) -> None:
        last[:] = [event]
        on_event(event)

    session = run_flow.session_for(settings, sent, (EventLines(take).write, printed.write))
    code = run_flow.exit_code_of(run_flow.follow(session), session.run_id)
    answer = Answer(last[0] if last else None, code, session.run_id, str(printed.fields("said").get("said", "")))
    if answer.last and answer.last["kind"] == "refused":
        raise from_dict(answer.last["data"], is_ours=False)
    return answer
