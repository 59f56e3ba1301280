"""The agent by value: one deterministic zip, named by its digest, and the first stage that finds or fetches it."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import zipfile

_AGENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "agent")
# A fixed time for every entry: the same sources give the same bytes, hence the same digest, on every machine.
_EPOCH = (1980, 1, 1, 0, 0, 0)
PACKAGE = "hemma_agent"
# The judge of git calls is one for everybody: these files travel as they are, and may be no newer than the agent.
TRAVELLING = tuple(
    f"lanes/{name}.py"
    for name in ("__init__", "git_config", "git_guard", "git_harms", "git_safety", "git_words", "verdict")
) + ("manifests/__init__.py", "manifests/commands.py")


@functools.cache
def agent_zip() -> tuple[bytes, str]:
    """(zip bytes, sha256 hex) of remote/agent packed as the package `hemma_agent`; equal sources, equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(os.listdir(_AGENT)):
            if name.endswith(".py") and name != "bootstrap.py":
                _add(archive, os.path.join(_AGENT, name), f"{PACKAGE}/{name}")
        for name in TRAVELLING:
            _add(archive, os.path.join(_AGENT, "..", "..", name), name)
    data = buffer.getvalue()
    return data, hashlib.sha256(data).hexdigest()


def _add(archive: zipfile.ZipFile, path: str, name: str) -> None:
    with open(path, "rb") as file:
        archive.writestr(zipfile.ZipInfo(name, _EPOCH), file.read(), zipfile.ZIP_DEFLATED)


def first_stage() -> bytes:
    """The source of the first stage, to be sent as the first bytes on stdin."""
    with open(os.path.join(_AGENT, "bootstrap.py"), "rb") as file:
        return file.read()


def command_line(python: str) -> str:
    """The one shell line that starts an agent. Nothing of the user's is in it but the interpreter's path.

    It must mean the same in sh, bash, zsh, fish and csh, and it must leave the shell as our parent process: the
    kernel then still shows the environment that sshd gave it (remote/agent/identity.py).
    """
    quoted = "'" + python.replace("'", "'\\''") + "'" if not python.replace("/", "").isalnum() else python
    if python.startswith("~/"):
        quoted = "~/'" + python[2:].replace("'", "'\\''") + "'"
    read = f"import sys;source=sys.stdin.buffer;exec(source.read({len(first_stage())}).decode())"
    # Isolated: a types.py in the account's home is not Python's own, and PYTHONHOME of a start-up file is not for us.
    return f"{quoted} -I -c '{read}' || exit 127"


def greeting(state_dir: str | None = None) -> bytes:
    """What follows the command line: the first stage's source, the agent's digest and length, and where to keep it."""
    data, digest = agent_zip()
    return first_stage() + f"{digest} {len(data)} {json.dumps(state_dir or '')}\n".encode("ascii")
