"""`hemma integrate`: an adapter on the host is checked there against its base, and registered in the repository (S14-R11).

The code goes by value, as for `hemma train`; what it finds comes back as JSON lines while it works.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from controller.flows import run as run_flow
from controller.flows import train as train_flow
from controller.flows.host_paths import on_host
from manifests.adapters import Integrate
from manifests.errors import HemmaError, UsageError, from_dict
from manifests.model import faults
from manifests.train import TrainManifest
from remote.payload import PREFIX

# A constant: what varies goes in as arguments.
PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    f"from {PREFIX}.training.integrate import main; sys.exit(main(sys.argv[2]))"
)
TIMEOUT_S = 3600.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Event = dict[str, Any]


class NotIntegrated(HemmaError):
    """A check did not hold: nothing was registered."""

    code = "not-integrated"

    def __init__(self, found: dict[str, Any]) -> None:
        failed = [each for each in found["checks"] if not each["held"]]
        said = "; ".join(f"{each['prompt'][:60]!r}: {each['fact']}" for each in failed)
        super().__init__(said, remedy="look at the answers (--json), train on, or mend the check in the manifest")
        self.found = found

    def as_dict(self) -> dict[str, Any]:
        """The error as agents read it under --json, with every answer."""
        return {**super().as_dict(), "integration": self.found}


def request_of(manifest: TrainManifest, name: str, adapter: str, *, called: str | None, sha256: str | None) -> Event:
    """The request as the host takes it. Raises UsageError for a name, a digest or checks that cannot be."""
    if manifest.method == "causal-lm" or manifest.lora is None:
        raise UsageError(f"{name} trains no adapter (it has no lora)", remedy="name the manifest it was trained by")
    if called is not None and not _NAME.fullmatch(called):
        raise UsageError(f"--name {called!r}: letters, digits, dot, dash and underscore", remedy="--name my-adapter")
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise UsageError(f"--sha256 {sha256!r} is no sha256", remedy="64 characters of 0-9 and a-f")
    spec = (manifest.model_extra or {}).get("integrate") or {}
    try:
        wanted = Integrate.model_validate(spec)
    except ValidationError as error:
        said = "; ".join(f"integrate.{key}: {rule}" for key, rule in faults(error))
        raise UsageError(f"{name}: {said}", remedy=f"$EDITOR {name}") from error
    return {
        "adapter": on_host(adapter),
        "name": called or manifest.name,
        "sha256": sha256,
        "integrate": wanted.as_dict(),
        "manifest": name,
        "job": manifest.job(),
    }


def integrate(settings: dict[str, Any], request: Event, on_event: Callable[[Event], None]) -> dict[str, Any]:
    """Run it on the host to its end; returns what was found and registered.

    Raises NotIntegrated when a check did not hold, and the host's own refusal (base-mismatch, digest-mismatch ...).
    """
    payload, job = train_flow.sent(settings, request)
    python = request["job"]["python"]
    if not python.startswith(("/", "~")) and "/" in python:
        python = posixpath.join(".", python)
    last: list[Event] = []
    printed = run_flow.Capture()
    options = {"lease_s": settings["lease_s"], "timeout_s": TIMEOUT_S, "env": request["job"].get("environment") or {}}
    sent = run_flow.request_of(settings, options, [python, "-I", "-c", PROGRAM, payload, job])

    def take(event: Event) -> None:
        last[:] = [event]
        on_event(event)

    session = run_flow.session_for(settings, sent, (train_flow.EventLines(take).write, printed.write))
    code = run_flow.exit_code_of(run_flow.follow(session), session.run_id)
    return _judged(last[0] if last else None, code, session.run_id, str(printed.fields("said").get("said", "")))


def _judged(event: Event | None, code: int, run_id: str, printed: str) -> dict[str, Any]:
    data = event["data"] if event else {}
    if event and event["kind"] == "refused":
        raise from_dict(data)
    if event and event["kind"] == "not-integrated":
        raise NotIntegrated(data)
    if event and event["kind"] == "integrated" and code == 0:
        return {**data, "run_id": run_id}
    lines = printed.strip().splitlines()
    raise HemmaError(
        f"it ended with {code} before it was done: {lines[-1] if lines else 'it said nothing'}",
        remedy=f"hemma logs {run_id}",
        code="integration-failed",
    )
