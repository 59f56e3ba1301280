"""`hemma slice`: issued on the host from its clone (or here, where this clone is the one that counts); proven anywhere (S9-R30)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from controller.flows import host_tools, slice_engine, work_tree
from controller.flows.host_events import event_of
from controller.flows.train import text_on_host
from lanes.slice_compare import compare, localized_paths
from manifests.commands import command
from manifests.errors import HemmaError, NeedsPerson, UsageError, from_dict
from manifests.files import atomic_write, read_json
from manifests.slices import PATHS_FILE, ROWS_FILE, SLICE_JSON, SliceIndex, SliceManifest, parse_slice_manifest
from remote.payload import payload_zip
from training.rows import bundle

Event = dict[str, Any]
_MODULE = "rows.issue"
_NO_PROGRAM = (126, 127)


def request_of(manifest: SliceManifest, name: str, **options: Any) -> Event:
    """The request as the issuing side takes it; `options` are out, dry, notebook, without."""
    job = {"python": manifest.python, "environment": manifest.environment}
    return {"manifest": name, "engine": slice_engine.as_request(), "job": job, **options}


# --- on the host ----------------------------------------------------------------------------------------------------


def manifest_on_host(settings: dict[str, Any], path: str) -> tuple[SliceManifest, str]:
    """(the manifest as the host's clone has it, its path there). Raises UsageError with every fault."""
    text, name = text_on_host(settings, path, example="hemma slice example")
    return parse_slice_manifest(text, name), name


def issue_on_host(settings: dict[str, Any], request: Event, on_event: Callable[[Event], None]) -> Event:
    """Issue a slice in the host's clone; returns state, folder, index, warnings and run_id. Raises the host's refusal."""
    answer = host_tools.call(settings, _MODULE, request, on_event)
    if answer.exit_code in _NO_PROGRAM and not answer.last:
        raise HemmaError(
            f"{request['job']['python']} is not on the host, or cannot be run",
            remedy=command("name one that has pydantic and pyyaml: python: in {}", request["manifest"]),
            code="slice-failed",
        )
    if answer.exit_code or not answer.last or answer.last["kind"] != "slice":
        raise answer.failed("slice-failed")
    return {**answer.last["data"], "run_id": answer.run_id}


# --- here -----------------------------------------------------------------------------------------------------------


def demand_authority(folder: str, host_root: str | None) -> str:
    """The top of the clone around `folder`, if slices may be issued in it: no host is named, or it is the host's own clone.

    Raises NeedsPerson otherwise: work that others rely on starts from the clone that counts.
    """
    top = work_tree.top(folder)
    if host_root is not None and os.path.realpath(os.path.expanduser(host_root)) != os.path.realpath(top):
        raise NeedsPerson(
            f"this clone is not the one that counts: the host's is ({host_root})",
            remedy="leave --here away: hemma slice issue MANIFEST",
            code="not-the-authority",
        )
    return top


def manifest_here(top: str, folder: str, path: str) -> tuple[SliceManifest, str]:
    """(the manifest, its path from the top of the clone). Raises UsageError with every fault."""
    full = os.path.realpath(os.path.join(folder, path))
    name = os.path.relpath(full, os.path.realpath(top)).replace(os.sep, "/")
    try:
        with open(full, encoding="utf-8", errors="replace") as file:
            return parse_slice_manifest(file.read(), name), name
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", remedy="hemma slice example > manifests/slices/NAME.yaml"
        ) from error


def issue_here(top: str, request: Event, on_event: Callable[[Event], None]) -> Event:
    """The same in the clone at `top`, in a process of its own: the repository's code never runs in this one."""
    python = os.path.join(top, os.path.expanduser(request["job"]["python"]))
    with tempfile.TemporaryDirectory(prefix="hemma-slice-") as folder:
        payload, job = os.path.join(folder, "payload.zip"), os.path.join(folder, "request.json")
        for path, content in ((payload, payload_zip()[0]), (job, json.dumps(request).encode("ascii"))):
            atomic_write(path, content)
        argv = [
            python if os.path.exists(python) else sys.executable,
            "-I",
            "-c",
            host_tools.PROGRAM,
            payload,
            _MODULE,
            job,
        ]
        environ = {**os.environ, **request["job"]["environment"]}
        done = subprocess.run(argv, cwd=top, env=environ, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    last = _last_event(done.stdout, on_event)
    if last is not None and last["kind"] == "slice":
        return last["data"]
    if last is not None and last["kind"] == "refused":
        raise from_dict(last["data"], is_ours=True)
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    fact = f"it ended with {done.returncode} before it was done: {said[-1] if said else 'it said nothing'}"
    raise HemmaError(fact, remedy=command("does {} have pydantic and pyyaml?", argv[0]), code="slice-failed")


def _last_event(printed: bytes, on_event: Callable[[Event], None]) -> Event | None:
    last: Event | None = None
    for line in printed.splitlines():
        event = event_of(line)
        if event is not None:
            last = event
            on_event(last)
    return last


# --- a bundle -------------------------------------------------------------------------------------------------------


def read(folder: str) -> SliceIndex:
    """slice.json of the slice in `folder`, its digest proven. Raises HemmaError: slice-broken, file-missing."""
    if not os.path.exists(os.path.join(folder, SLICE_JSON)):
        raise UsageError(
            f"{folder} is no slice: it has no {SLICE_JSON}",
            remedy="hemma slice issue MANIFEST   (one that lies on the host: hemma colab dispatch brings it from there)",
        )
    bundle.read_index(folder)
    return SliceIndex.read(os.path.join(folder, SLICE_JSON))


def verify(folder: str) -> tuple[SliceIndex, list[str]]:
    """(the index, everything in the folder that is not as it was issued). Raises as `read` does."""
    index = read(folder)
    return index, bundle.faults(folder, index.as_dict())


def show(folder: str) -> Event:
    """What a slice is: its index, its size, and its paths as they are on this machine."""
    index = read(folder)
    return {
        **index.as_dict(),
        "folder": folder,
        "size_bytes": sum(each.size_bytes for each in index.files),
        "paths": bundle.local_paths(folder, index.as_dict()),
    }


def localize(folder: str, words: Sequence[str]) -> Event:
    """Set localizable paths for this machine; writes paths.json and nothing else. Returns the paths (S9-R32).

    Raises UsageError for a name that is not declared, slice-broken when the rest is not what was issued.
    """
    index = read(folder)
    path = os.path.join(folder, PATHS_FILE)
    present: Mapping[str, Any] = read_json(path) if os.path.exists(path) else {}
    made = localized_paths(index, present, words)
    if words and made != present:
        atomic_write(path, json.dumps(made, indent=2).encode("ascii") + b"\n", mode=0o644)
    bundle.verify(folder)
    return bundle.local_paths(folder, index.as_dict())


def diff(one: str, other: str) -> Event:
    """How two slices differ in rows, files and settings. Raises as `read` does."""
    return compare(read(one), read(other), (_rows(one), _rows(other)))


def _rows(folder: str) -> dict[str, Any]:
    try:
        return dict(bundle.rows_of(folder))
    except OSError as error:
        raise HemmaError(
            f"{os.path.join(folder, ROWS_FILE)}: {error.strerror}",
            remedy=command("hemma slice verify {}", folder),
            code="slice-broken",
        ) from error
