"""A slice that lies on the host comes here for a while, to go on into Drive; its digests are proven before it does (S9-R30)."""

from __future__ import annotations

import os
import posixpath
import shutil
import tarfile
from typing import IO, Any

from controller.flows import run as run_flow
from manifests import places
from manifests.errors import HemmaError
from manifests.slices import SLICE_JSON

TIMEOUT_S = 3600.0


def here(folder: str, settings: dict[str, Any]) -> str:
    """The slice's folder on this machine: `folder` itself, or a copy of the host's under the state folder.

    A slice never changes, so a copy that is whole stays. Raises HemmaError `slice-missing`, and what `hemma run` raises.
    """
    if os.path.isfile(os.path.join(folder, SLICE_JSON)):
        return folder
    parent, name = posixpath.split(folder.rstrip("/"))
    kept = os.path.join(places.state_dir(), "slices", name)
    if os.path.isfile(os.path.join(kept, SLICE_JSON)):
        return kept
    staged = f"{kept}.part-{os.getpid()}"
    shutil.rmtree(staged, ignore_errors=True)
    os.makedirs(staged, mode=0o700)
    try:
        with open(os.path.join(staged, ".tar"), "w+b") as archive:
            _copy(settings, parent or ".", name, archive)
            archive.seek(0)
            unpack(archive, staged, name, what="a slice")
        os.rename(os.path.join(staged, name), kept)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return kept


def _copy(settings: dict[str, Any], parent: str, name: str, archive: IO[bytes]) -> None:
    options = {"lease_s": settings["lease_s"], "timeout_s": TIMEOUT_S}
    request = run_flow.request_of(settings, options, ["tar", "-cf", "-", "-C", parent, "--", name])
    said = run_flow.Capture()

    def keep(piece: memoryview) -> None:
        archive.write(piece)

    session = run_flow.session_for(settings, request, (keep, said.write))
    if run_flow.exit_code_of(run_flow.follow(session), session.run_id):
        raise HemmaError(
            f"there is no slice {posixpath.join(parent, name)}, neither here nor on the host",
            remedy="hemma slice issue manifests/slices/NAME.yaml   prints its folder",
            code="slice-missing",
        )


def unpack(archive: IO[bytes], into: str, name: str, *, what: str) -> None:
    """Plain files below `name` only: whatever else an archive from another machine holds is no part of `what`.

    Raises HemmaError `slice-broken`.
    """
    with tarfile.open(fileobj=archive) as packed:
        for member in packed:
            parts = member.name.split("/")
            if parts[0] != name or ".." in parts or not (member.isfile() or member.isdir()):
                raise HemmaError(
                    f"{member.name} is no part of {what}", remedy="hemma slice verify SLICE", code="slice-broken"
                )
            target = os.path.join(into, *parts)
            if member.isdir():
                os.makedirs(target, exist_ok=True)
                continue
            source = packed.extractfile(member)
            assert source is not None
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as file:
                shutil.copyfileobj(source, file)
