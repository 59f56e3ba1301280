"""`hemma dashboard`: the host's trackio, served on its own loopback only, looked at here through an SSH tunnel (S12-R12)."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Generator
from typing import Any

from controller.flows import run as run_flow
from controller.flows import train
from manifests.errors import HemmaError
from remote.tunnel import forwarded

START_TIMEOUT_S = 60.0
LEASE_S = 30.0
# trackio prints the address twice, once with a token that may write: that one is not shown to anybody.
ADDRESS = re.compile(rb"launched at: http://127\.0\.0\.1:(\d+)")
NO_BROWSER = {"PYTHONUNBUFFERED": "1", "BROWSER": "true", "NO_COLOR": "1", "GRADIO_ANALYTICS_ENABLED": "0"}


@contextlib.contextmanager
def served(settings: dict[str, Any], run: str, *, local_port: int = 0) -> Generator[str]:
    """Within this, the address it gives shows the metrics of a training run. Raises no-training-run, dashboard-failed."""
    job = _job(settings, run)
    root = settings["host"]["root"]
    argv = [train.python_of(job), "-m", "trackio.cli", "show", "--project", job["name"]]
    env = {**job.get("environment", {}), **NO_BROWSER}
    request = run_flow.request_of(settings, {"lease_s": LEASE_S, "env": env}, argv)
    server = _Server(settings, request)
    try:
        port = server.port(root)
        with forwarded(settings["host"], port, local_port=local_port) as here:
            yield f"http://127.0.0.1:{here}/?project={job['name']}"
    finally:
        server.stop()


def _job(settings: dict[str, Any], run: str) -> dict[str, Any]:
    found = train.files_of(settings, run, train.JOB)
    if found[train.JOB] is None:
        raise HemmaError(f"run {found['run_id']} is no training run", remedy="hemma ps --all", code="no-training-run")
    return json.loads(found[train.JOB])


class _Server:
    """trackio's own server as a run on the host, followed in a thread; it ends with us, by its lease at the latest."""

    def __init__(self, settings: dict[str, Any], request: dict[str, Any]) -> None:
        self._said, self._known = bytearray(), threading.Event()
        self._port: int | None = None
        self._session = run_flow.session_for(settings, request, (self._take, self._take))
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def port(self, root: str) -> int:
        """The port it serves on, once it does."""
        self._known.wait(START_TIMEOUT_S)
        if self._port is None:
            said = bytes(self._said).decode("utf-8", "replace").strip().splitlines()
            raise HemmaError(
                f"the dashboard did not start in {root}: {said[-1] if said else 'it said nothing'}",
                remedy="is trackio in the manifest's python? hemma run -- PYTHON -m pip show trackio",
                code="dashboard-failed",
            )
        return self._port

    def stop(self) -> None:
        """End it and wait for the thread."""
        self._session.send_signal(15)
        self._thread.join(10)

    def _follow(self) -> None:
        with contextlib.suppress(HemmaError, OSError):
            self._session.follow()
        self._known.set()

    def _take(self, piece: memoryview) -> None:
        self._said += piece
        found = ADDRESS.search(self._said)
        if found and self._port is None:
            self._port = int(found[1])
            self._known.set()
