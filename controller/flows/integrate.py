"""`hemma integrate`: an adapter on the host is checked there against its base, and registered in the repository (S14-R11).

The code goes by value, as for `hemma train`; what it finds comes back as JSON lines while it works.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from controller.flows import host_tools
from controller.flows.host_paths import on_host
from manifests.errors import HemmaError, UsageError
from manifests.train import TrainManifest

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
    """The request as the host takes it. Raises UsageError for a name or a digest that cannot be."""
    if manifest.method == "causal-lm" or manifest.lora is None:
        raise UsageError(f"{name} trains no adapter (it has no lora)", remedy="name the manifest it was trained by")
    if called is not None and not _NAME.fullmatch(called):
        raise UsageError(f"--name {called!r}: letters, digits, dot, dash and underscore", remedy="--name my-adapter")
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise UsageError(f"--sha256 {sha256!r} is no sha256", remedy="64 characters of 0-9 and a-f")
    return {
        "adapter": on_host(adapter),
        "name": called or manifest.name,
        "sha256": sha256,
        "integrate": manifest.integrate.as_dict(),
        "manifest": name,
        "job": manifest.job(),
    }


def integrate(settings: dict[str, Any], request: Event, on_event: Callable[[Event], None]) -> dict[str, Any]:
    """Run it on the host to its end; returns what was found and registered.

    Raises NotIntegrated when a check did not hold, and the host's own refusal (base-mismatch, digest-mismatch ...).
    """
    answer = host_tools.call(settings, "integrate", request, on_event)
    kind = answer.last["kind"] if answer.last else ""
    if answer.last and kind == "not-integrated":
        raise NotIntegrated(answer.last["data"])
    if answer.last and kind == "integrated" and answer.exit_code == 0:
        return {**answer.last["data"], "run_id": answer.run_id}
    raise answer.failed("integration-failed")
