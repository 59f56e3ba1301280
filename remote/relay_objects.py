"""Objects between the two clones over the SSH connection, for a host that has no way to origin: git bundles, by value.

Only refs of ours move by this (refs/remotes/origin/*, refs/hemma/host/*), never a branch; what becomes of the objects is
a merge like any other.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

from manifests.errors import RepositoryError
from remote.host import target_of
from remote.repository import HostRepository, LocalRepository, checked
from remote.run_ids import new_run_id
from remote.session import Session

# Fixed scripts: names arrive as arguments, data on stdin and stdout.
_RECEIVE = (
    'set -e; file=$(mktemp); trap \'rm -f "$file"\' EXIT; cat > "$file"; git fetch --quiet --no-tags "$file" "$1"'
)
_SEND = 'exec git bundle create --quiet - "$@"'


def to_host(local: LocalRepository, host: HostRepository, source: str, target: str, known: str | None) -> None:
    """Bring the commits of our ref `source` to the host, as its ref `target`; `known` is what that has now.

    Raises RepositoryError; its code is shallow-clone when our history is cut off above what the host has.
    """
    tip = checked(local.steps([{"argv": ["rev-parse", "--verify", source]}]), "local: read what origin has")[-1]
    commit = str(tip["stdout"].strip())
    base = known if known and _has(local, known) else None
    _whole(local, commit, base)
    with tempfile.TemporaryDirectory(prefix="hemma-") as folder:
        bundle = os.path.join(folder, "bundle")
        wanted = [source, *([f"^{base}"] if base else [])]
        made = local.steps([{"argv": ["bundle", "create", "--quiet", bundle, *wanted]}])
        if made[-1]["code"] and "empty bundle" in made[-1]["stderr"]:
            note(host, target, commit)
            return
        checked(made, "local: bundle origin's commits")
        with open(bundle, "rb") as file:
            # Forced: what origin has is not ours to judge here, and it may have been moved back.
            refspec = f"+{source}:{target}"
            argv = ["bash", "-c", _RECEIVE, "bash", refspec]
            _run(host, argv, file.fileno(), None, "host: take origin's commits")


def note(host: HostRepository, ref: str, commit: str) -> None:
    """Let the host's remote-tracking `ref` say what origin has. Raises RepositoryError."""
    read = {"argv": ["rev-parse", "--verify", "--quiet", ref], "may_fail": True}
    was = host.steps([read])[-1]["stdout"].strip() or "0" * len(commit)
    checked(host.steps([{"argv": ["update-ref", ref, commit, was]}]), "host: note what origin has")


def keep(host: HostRepository, ref: str, commit: str) -> None:
    """Let the host's `ref` keep this commit, unless it keeps one that is not part of it. Raises RepositoryError."""
    asked = {"argv": ["merge-base", "--is-ancestor", ref, commit], "may_fail": True}
    if host.steps([asked])[-1]["code"] != 1:
        checked(host.steps([{"argv": ["update-ref", ref, commit]}]), "host: note what origin had")


def _whole(local: LocalRepository, commit: str, base: str | None) -> None:
    """Raise RepositoryError when the way from `base` to `commit` runs over a cut in our history (a shallow clone)."""
    asked = {"argv": ["rev-parse", "--path-format=absolute", "--git-path", "shallow"]}
    path = checked(local.steps([asked]), "local: look at its history")[-1]["stdout"].removesuffix("\n")
    try:
        with open(path, encoding="ascii") as file:
            cuts = set(file.read().split())
    except FileNotFoundError:
        return
    words = ["rev-list", commit, *([f"^{base}"] if base else []), "--"]
    listed = checked(local.steps([{"argv": words, "keep_bytes": 8 << 20}]), "local: look at its history")
    if cuts & set(listed[-1]["stdout"].split()):
        raise RepositoryError(
            "the host cannot reach origin, and the local clone is shallow: its history is cut off above what the host has, "
            "so it cannot be passed on whole",
            remedy="git fetch --unshallow, then hemma sync",
            code="shallow-clone",
        )


def from_host(host: HostRepository, local: LocalRepository, branch: str, known: str | None) -> str:
    """Bring the host's `branch` here; returns the ref that holds it. Raises RepositoryError."""
    kept = f"refs/hemma/host/{branch}"
    with tempfile.TemporaryDirectory(prefix="hemma-") as folder:
        bundle = os.path.join(folder, "bundle")
        wanted = [f"refs/heads/{branch}", *([f"^{known}"] if known else [])]
        with open(bundle, "wb") as file:
            _run(host, ["bash", "-c", _SEND, "bash", *wanted], None, file.fileno(), "host: bundle its commits")
        # Forced: the ref is ours, and two hosts of one repository take turns with it.
        fetched = local.steps([{"argv": ["fetch", "--quiet", "--no-tags", bundle, f"+refs/heads/{branch}:{kept}"]}])
        checked(fetched, "local: take the host's commits")
    return kept


def _has(local: LocalRepository, commit: str) -> bool:
    return local.steps([{"argv": ["cat-file", "-e", f"{commit}^{{commit}}"], "may_fail": True}])[-1]["code"] == 0


def _run(host: HostRepository, argv: list[str], stdin: int | None, stdout: int | None, what: str) -> None:
    """Run a fixed command on the host with a file of ours as its input or output."""
    from remote.stdio import demand_written, write_to

    said = bytearray()
    spec = host.host.spec
    request: dict[str, Any] = {
        "verb": "run",
        "run_id": new_run_id(),
        "state_dir": spec.get("state_dir"),
        "root": spec.get("root"),
        "argv": argv,
        "env": {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
        "lease_s": 60.0,
        "stdin": stdin is not None,
        "lane": "hemma",
    }
    output = write_to(stdout) if stdout is not None else None
    sink = output or said.extend
    end = Session(target_of(spec), request, (sink, said.extend), stdin=stdin).follow()
    demand_written([output] if output else [], "df -h")
    if end.get("exit_code") != 0:
        lines = said.decode("utf-8", "replace").strip().splitlines()
        raise RepositoryError(f"{what}: {lines[-1] if lines else end.get('reason')}", remedy="hemma status")
