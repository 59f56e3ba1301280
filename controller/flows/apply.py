"""`hemma apply`: a patch onto the host's clone with `git apply --3way`, looked at first, applied whole or not at all.

Looking and applying are runs, as with `hemma run`: the patch is their stdin, their record says what was done.
"""

from __future__ import annotations

import re
import select
import tempfile
from dataclasses import dataclass
from typing import IO, Any

from controller.flows import run as run_flow
from controller.flows.files import lane_note
from manifests.errors import HemmaError
from remote.stdio import pumped

# Their messages are read here, so they come in git's own words; nothing may wait for a person.
_ENVIRONMENT = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "true"}
# What the host's user may have set for patches is not meant for ours.
_PINS = ("-c", "apply.whitespace=warn", "-c", "apply.ignoreWhitespace=no", "-c", "core.quotePath=false")
_CHECK = ("git", *_PINS, "apply", "--check", "--3way", "--numstat", "-z")
_APPLY = ("git", *_PINS, "apply", "--3way")
_OUTCOME = re.compile(r"^Applied patch to '(.*?)' (cleanly|with conflicts)\.$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Part:
    """One file of a patch: lines added and removed (None for a binary one), and whether it would conflict."""

    path: str
    added: int | None
    removed: int | None
    is_conflicted: bool = False


@dataclass(frozen=True)
class Applied:
    """What happened. `is_applied` false: nothing was changed. Conflicted parts hold both sides, marked, when applied."""

    is_applied: bool
    parts: tuple[Part, ...]
    messages: tuple[str, ...]
    notes: tuple[str, ...]
    run_id: str

    @property
    def conflicts(self) -> tuple[str, ...]:
        """The paths that do not merge by themselves."""
        return tuple(part.path for part in self.parts if part.is_conflicted)

    def as_dict(self) -> dict[str, Any]:
        """The result as agents read it under --json."""
        files = [{"path": each.path, "added": each.added, "removed": each.removed} for each in self.parts]
        facts = {"applied": self.is_applied, "files": files, "conflicts": list(self.conflicts)}
        return {**facts, "messages": list(self.messages), "notes": list(self.notes), "run_id": self.run_id}


def apply(settings: dict[str, Any], patch: bytes, *, is_check: bool, with_conflicts: bool) -> Applied:
    """Apply `patch` to the host's work tree and index; with `is_check` only say what would happen.

    Without `with_conflicts` a patch that does not merge by itself changes nothing. Raises HemmaError
    (patch-refused) when git cannot apply it at all; then nothing is changed either.
    """
    if not patch.strip():
        raise HemmaError(
            "the patch is empty", remedy="git diff-index -p --binary HEAD | hemma apply -", code="patch-refused"
        )
    with tempfile.TemporaryFile() as file:
        file.write(patch)
        code, out, said, run_id = _git(settings, _CHECK, file)
        if code != 0:
            raise _refused(code, said)
        parts = _parts(out, said)
        notes = tuple(filter(None, (lane_note(settings, part.path) for part in parts)))
        is_stopped = any(part.is_conflicted for part in parts) and not with_conflicts
        if is_check or is_stopped:
            return Applied(is_applied=False, parts=parts, messages=_words(said), notes=notes, run_id=run_id)
        code, _, said, run_id = _git(settings, _APPLY, file)
        # 1 is also how git reports conflicts it left for a person.
        if code != 0 and not (code == 1 and _conflicts(said)):
            raise _refused(code, said)
        parts = tuple(_judged(part, _conflicts(said)) for part in parts)
        return Applied(is_applied=True, parts=parts, messages=_words(said), notes=notes, run_id=run_id)


def _git(settings: dict[str, Any], argv: tuple[str, ...], file: IO[bytes]) -> tuple[int, bytes, str, str]:
    """Run git on the host with the patch on its stdin; returns (exit code, stdout, stderr as text, run id)."""
    file.seek(0)
    out, err = bytearray(), bytearray()
    options = {"env": _ENVIRONMENT, "stdin": True, "lease_s": settings["lease_s"]}
    request = run_flow.request_of(settings, options, list(argv))
    stdin = file.fileno() if hasattr(select, "poll") else pumped(file.fileno())
    session = run_flow.session_for(settings, request, (out.extend, err.extend), stdin=stdin)
    code = run_flow.exit_code_of(run_flow.follow(session), session.run_id)
    return code, bytes(out), err.decode("utf-8", "surrogateescape"), session.run_id


def _parts(numstat: bytes, said: str) -> tuple[Part, ...]:
    """What `--numstat -z` printed: added, removed and name, by tabs; a NUL after each."""
    found: list[Part] = []
    for entry in numstat.decode("utf-8", "surrogateescape").split("\0"):
        fields = entry.split("\t", 2)
        if len(fields) == 3:
            added, removed = (int(text) if text.isdigit() else None for text in fields[:2])
            found.append(Part(fields[2], added, removed))
    return tuple(_judged(part, _conflicts(said)) for part in found)


def _judged(part: Part, conflicts: set[str]) -> Part:
    return Part(part.path, part.added, part.removed, is_conflicted=part.path in conflicts)


def _conflicts(said: str) -> set[str]:
    return {path for path, outcome in _OUTCOME.findall(said) if outcome == "with conflicts"}


def _words(said: str) -> tuple[str, ...]:
    """git's own words, less its commentary on the way it took."""
    passing = ("Falling back to", "Performing three-way merge", "error: repository lacks the necessary blob")
    return tuple(line for line in said.splitlines() if line and not line.startswith(passing))


def _refused(code: int, said: str) -> HemmaError:
    words = [line.removeprefix("error: ").removeprefix("fatal: ") for line in _words(said) if not _OUTCOME.match(line)]
    reasons = [word for word in words if not word.startswith("patch failed: ")] or words
    fact = "; ".join(dict.fromkeys(reasons)) or f"git apply ended with {code}"
    if any("does not match index" in word for word in reasons):
        remedy = "commit what is changed there first: hemma commit -a -m MESSAGE   (see it: hemma run -- git diff)"
    elif any("No valid patches" in word for word in reasons):
        remedy = "git diff-index -p --binary HEAD | hemma apply -"
    else:
        remedy = (
            "make the patch from what the host has: hemma sync, then git diff-index -p --binary HEAD | hemma apply -"
        )
    return HemmaError(f"nothing was applied: {fact}", remedy=remedy, code="patch-refused")
