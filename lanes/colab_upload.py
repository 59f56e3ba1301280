"""When Drive cannot be mounted: the programs that unpack a slice on a Colab machine and pack its results there (S9-R30).

Colab's program runs them in the machine's kernel and ends with 0 whatever happens in it; so each says in one line how it
went, and `answer` reads that line. What travels is cut into parts: each is one request, whole in memory on both sides.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

# In place of a Drive: the notebook looks below $HEMMA_DRIVE before it mounts anything.
HOME = "/content/hemma-drive"
_IN, _OUT = "/content/hemma-in", "/content/hemma-out"
PART_BYTES = 8 << 20
_MARK = "hemma-says: "

_UNPACK = """\
def _unpack():
    import hashlib, os, tarfile

    digest = hashlib.sha256()
    with open(WHOLE, "wb") as whole:
        for part in PARTS:
            with open(part, "rb") as file:
                data = file.read()
            digest.update(data)
            whole.write(data)
    if digest.hexdigest() != SHA256:
        raise ValueError("what arrived is not what was sent")
    with tarfile.open(WHOLE) as archive:
        archive.extractall(HOME, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    for path in [*PARTS, WHOLE]:
        os.unlink(path)
    os.environ["HEMMA_DRIVE"] = HOME
    return {"files": len(os.listdir(HOME))}
"""
_PACK = """\
def _pack():
    import hashlib, os, tarfile

    if not os.path.isdir(RUN):
        return {"parts": [], "sha256": ""}
    with tarfile.open(WHOLE, "w:gz") as archive:
        archive.add(RUN, os.path.basename(RUN))
    parts, digest = [], hashlib.sha256()
    with open(WHOLE, "rb") as whole:
        while data := whole.read(PART_BYTES):
            path = f"{WHOLE}-{len(parts):05d}"
            with open(path, "wb") as file:
                file.write(data)
            digest.update(data)
            parts.append(path)
    os.unlink(WHOLE)
    return {"parts": parts, "sha256": digest.hexdigest()}
"""
_SAY = """\
try:
    _said = {call}()
except Exception as _error:
    _said = {{"error": f"{{type(_error).__name__}}: {{_error}}"}}
import json
print({mark!a} + json.dumps(_said))
"""


def part_name(number: int) -> str:
    """Where part `number` of what is sent lies on the machine."""
    return f"{_IN}-{number:05d}"


def unpack_program(parts: int, sha256: str) -> str:
    """Joins the parts, proves them, unpacks them into HOME and names HOME to the notebook, which runs in the same kernel."""
    names = [part_name(number) for number in range(parts)]
    return _program(_UNPACK, "_unpack", HOME=HOME, WHOLE=_IN, PARTS=names, SHA256=sha256)


def pack_program(project: str, run: str) -> str:
    """Packs the run's directory into parts; says their paths and the sha256 of all of them, no part where there is no run."""
    return _program(_PACK, "_pack", RUN=run_folder(project, run), WHOLE=_OUT, PART_BYTES=PART_BYTES)


def run_folder(project: str, run: str) -> str:
    """Where the notebook puts the run's directory."""
    return f"{HOME}/{project}/runs/{run}"


def answer(text: str) -> dict[str, Any]:
    """What the last such program said of itself; `error` says why it could not, also when it said nothing."""
    lines = [line for line in text.splitlines() if line.startswith(_MARK)]
    if not lines:
        return {"error": text.strip().rpartition("\n")[2] or "it said nothing"}
    try:
        said: object = json.loads(lines[-1].removeprefix(_MARK))
    except ValueError:
        return {"error": "its answer is cut off"}
    return (
        {str(key): value for key, value in said.items()} if isinstance(said, dict) else {"error": "no answer of ours"}
    )


def parts_of(said: dict[str, Any]) -> Sequence[str]:
    """The paths of the packed parts. Only ours: the machine does not choose what is fetched from it."""
    found = said.get("parts")
    parts = [str(part) for part in found] if isinstance(found, list) else []
    return parts if parts == [f"{_OUT}-{number:05d}" for number in range(len(parts))] else []


def _program(text: str, call: str, **values: Any) -> str:
    return (
        "".join(f"{name} = {value!a}\n" for name, value in values.items()) + text + _SAY.format(call=call, mark=_MARK)
    )
