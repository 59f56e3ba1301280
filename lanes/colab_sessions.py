"""What Google's `colab` program is told and what it tells: command lines, the list of sessions, which of them are strays.

Read from the program's own source (tests/cases/colab_cli/contract.yaml says which): a GPU it does not know it takes for
an A100, a cell that fails does not fail `exec`, and `stop` of an unknown session says nothing wrong. So names are judged
here, errors are read from the notebook it saves, and that a session has ended is seen in its list alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manifests.commands import Command, Remedy, command

from lanes.verdict import Reason, Verdict

GPUS = ("T4", "L4", "G4", "A100", "H100")
# Its keep-alive daemon ends after 24 hours; half an hour is left to stop in good order.
MAX_HOURS = 23.5
OURS = "hemma-"
BY_HAND = "end it at https://colab.research.google.com (Runtime, Manage sessions)"
MOUNT = "/content/drive"


@dataclass(frozen=True)
class Session:
    """One line of `colab sessions`. `name` is `?` when another machine made it."""

    name: str
    endpoint: str
    hardware: str


@dataclass(frozen=True)
class Stray:
    """A session of ours that runs with nobody behind it and burns units, and what to do about it."""

    name: str
    endpoint: str
    why: str
    do: Remedy


def chosen_gpu(text: str | None) -> str | Verdict | None:
    """The GPU as the program knows it, None for none; a verdict for one that it would take for the dearest."""
    if text is None or text.upper() in GPUS:
        return None if text is None else text.upper()
    fact = f"`{text}` is none of {', '.join(GPUS)}; Colab's program would give an A100"
    return Verdict(False, (Reason("only what was asked for is paid for", fact),), ("hemma colab run SLICE --gpu T4",))


def new(name: str, gpu: str | None) -> list[str]:
    """Arguments that make a session."""
    return ["new", "-s", name, *(["--gpu", gpu] if gpu else [])]


def mount(name: str) -> list[str]:
    """Arguments that mount Drive in a session, where the notebook expects it."""
    return ["drivemount", "-s", name, MOUNT]


def is_mounted(text: str) -> bool:
    """Whether `drivemount` said so itself: it ends with 0 also when the mount failed in the machine's kernel."""
    return f"Mounted at {MOUNT}" in text or f"already mounted at {MOUNT}" in text


def consent_link(text: str) -> str | None:
    """Where a person has to allow Drive first; None when `drivemount` did not ask. It would then wait for a key on a terminal."""
    found = re.search(r"Drive Authorization needed.*?(https://\S+)", text, re.DOTALL)
    return found.group(1) if found else None


def upload(name: str, local: str, remote: str) -> list[str]:
    """Arguments that bring one file to the machine."""
    return ["upload", "-s", name, local, remote]


def download(name: str, remote: str, local: str) -> list[str]:
    """Arguments that bring one file from the machine; it works while the machine's kernel is busy."""
    return ["download", "-s", name, remote, local]


def restart(name: str) -> list[str]:
    """Arguments that end what runs in the kernel; the machine and its files stay."""
    return ["restart-kernel", "-s", name]


def execute(name: str, file: str, timeout_s: float) -> list[str]:
    """Arguments that run a notebook or a program; `timeout_s` is for each cell (30 s if not given, which no run keeps to)."""
    return ["exec", "-s", name, "-f", file, "--timeout", str(int(timeout_s))]


def stop(name: str) -> list[str]:
    """Arguments that end a session."""
    return ["stop", "-s", name]


def sessions() -> list[str]:
    """Arguments that list what runs."""
    return ["sessions"]


def parse_sessions(text: str) -> list[Session]:
    """What `colab sessions` printed, other lines left out."""
    found = re.findall(r"(?m)^\[([^\]]*)\] (\S+) \| Hardware: ([^|\n]+)", text)
    return [Session(name, endpoint, hardware.strip()) for name, endpoint, hardware in found if name != "colab"]


def found(live: Iterable[Session], name: str, endpoint: str | None) -> Session | None:
    """The session called `name`, or the one at `endpoint`: after some errors the program forgets a name, and lists it as `?`."""
    return next((each for each in live if each.name == name or (endpoint and each.endpoint == endpoint)), None)


def strays(records: Sequence[Mapping[str, Any]], live: Iterable[Session]) -> list[Stray]:
    """Sessions that we made and that run without us. Each record says `name`, and `is_alive` of the process behind it.

    Sessions of other programs and of other machines are none of ours and are not named.
    """
    by_name = {str(record["name"]): record for record in records}
    by_endpoint = {str(record["endpoint"]): record for record in records if record.get("endpoint")}
    made: list[Stray] = []
    for session in live:
        record = by_name.get(session.name) or by_endpoint.get(session.endpoint)
        name = str(record["name"]) if record is not None else session.name
        do = (
            _do(name)
            if session.name == name
            else command("{}: the program of Colab has forgotten it", Command(BY_HAND))
        )
        if record is None and session.name.startswith(OURS):
            made.append(Stray(name, session.endpoint, "nothing here remembers it", do))
        elif record is not None and not record.get("is_alive"):
            why = f"the process that ran {record.get('slice') or 'a slice'} in it is gone"
            made.append(Stray(name, session.endpoint, why, do))
    return made


def is_lost(text: str) -> bool:
    """Whether the program said that the session went away under it."""
    return "appears to be lost" in text or bool(re.search(r"Session '[^']*' not found", text))


def cell_errors(notebook: Mapping[str, Any]) -> list[str]:
    """Errors in the outputs of a notebook that was run, as `Name: what it said`, in order."""
    outputs = [output for cell in notebook.get("cells") or [] for output in cell.get("outputs") or []]
    errors = [output for output in outputs if output.get("output_type") == "error"]
    return [f"{each.get('ename', 'Error')}: {str(each.get('evalue', '')).partition(chr(10))[0]}" for each in errors]


def _do(name: str) -> Remedy:
    return command("hemma colab sessions --stop   (or: colab stop -s {})", name)
