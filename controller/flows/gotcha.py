"""The learning loop: a failed run becomes a draft, a draft waits for a person, what is approved is written and checked (S17).

Drafts live with the user (the state folder), never in the repository. Nothing of a runbook changes without `approve`.
"""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from controller.flows import gotcha_queue as queue
from controller.flows import personal, runbook, work_tree
from controller.settings import explain, read_files
from lanes import runbook_edits, runbook_routing
from lanes.failures import Diagnosis, FailureFacts, classify
from lanes.gotcha_match import Match, matching, pattern_of, without_verdict
from lanes.redaction import redact, secret_values
from lanes.runbook_routing import CATALOGUE, Candidate
from lanes.runbook_rules import check
from manifests.commands import command
from manifests.errors import HemmaError, NotARepository, UsageError
from manifests.files import atomic_write
from manifests.places import state_dir
from manifests.runbooks import About, Basis, Correction, Gotcha, Proposal

MOST_LOG = 1 << 20
MOST_HINTS = 2
INSTRUCTIONS = ("CLAUDE.md", "AGENTS.md")
_FIELDS = ("symptom", "cause", "fix")


class NotReady(HemmaError):
    """The proposal lacks something, or what it would write does not pass the checks; nothing was written."""

    code = "proposal-not-ready"


class LargerThanAnEntry(HemmaError):
    """What was said is more than one entry: it is a task of its own, and nothing was drafted or written (S17-R08)."""

    code = "larger-than-an-entry"


@dataclass(frozen=True)
class Draft:
    """What a person says about a failure; everything may be left to the classifier but the truth of it."""

    about: str | None = None
    platform: str | None = None
    symptom: str = ""
    cause: str = ""
    fix: str = ""
    sources: Sequence[str] = ()
    basis: str | None = None
    general: bool = False
    corrects: str | None = None


@dataclass(frozen=True)
class Patch:
    """One file that approving changes: its path, what it holds now (None: nothing), what it will hold."""

    path: str
    before: str | None
    after: str

    def diff(self) -> str:
        """The change, as git would show it."""
        old, new = (self.before or "").splitlines(keepends=True), self.after.splitlines(keepends=True)
        return "".join(difflib.unified_diff(old, new, self.path, self.path))


def hints(text: str, code: str = "", start: str | None = None, most: int = MOST_HINTS) -> list[Match]:
    """The known failures that a text fits: of the repository around `start` and of ours; never raises.

    What is known of one platform comes by a code alone only where the personal memory says that the host is one of it.
    """
    try:
        libraries = runbook.layers(start or os.getcwd())
    except (HemmaError, OSError):
        return []
    files = [file for library in libraries for _, file in library.files()]
    found = matching(text, (entry for file in files for entry in file.gotchas), code)
    platforms = {entry.id: file.platform for file in files if file.scope == "platform" for entry in file.gotchas}
    # Asked only where it matters: most failures are known by their text, or not at all.
    is_doubtful = any(not match.is_text and match.entry.id in platforms for match in found)
    here = _platform_here(start or os.getcwd()) if is_doubtful else None
    return [match for match in found if match.is_text or platforms.get(match.entry.id, here) == here][:most]


def _platform_here(start: str) -> str | None:
    """The platform that the personal memory knows of this folder's host (S17-R12)."""
    try:
        host = explain(read_files(start, os.environ)).settings.host.name
    except HemmaError:
        return None
    return personal.read().value("platform", host)


def propose(
    text: str, draft: Draft, environ: Mapping[str, str], today: dt.date, facts: FailureFacts | None = None
) -> dict[str, Any]:
    """Draft an entry from what a failed run wrote; returns {"proposal", "known", "path"}.

    What is known already is named and not drafted again, unless the draft corrects it. The same failure proposed again
    counts up. Secrets are masked before anything is kept (S17-R11). Raises UsageError.
    """
    entries = [entry for library in runbook.layers(os.getcwd()) for entry in library.entries()]
    diagnosis = classify(text[-MOST_LOG:], facts)
    secrets = secret_values(environ)
    evidence = tuple(redact(seen.line, secrets).text[:500] for seen in diagnosis.evidence)
    known = [match for match in matching("\n".join((text[-8_000:], *evidence)), entries) if match.is_text]
    if draft.corrects is None and known and not (draft.symptom or draft.cause):
        return {"proposal": None, "known": [match.entry.as_dict() for match in known], "path": ""}
    if draft.corrects is not None:
        if draft.corrects not in {entry.id for entry in entries}:
            raise UsageError(f"no entry is called {draft.corrects!r}", remedy="hemma runbook list --gotchas")
    elif not evidence and not draft.symptom:
        raise UsageError("the log says nothing", remedy="--symptom TEXT, what one sees")
    made = _proposal(draft, diagnosis, evidence, today)
    old = queue.find(made.id)
    if old is not None and old.status == "open":
        made = _routed(_merged(old, made))
    path = queue.write(made)
    return {"proposal": made.as_dict(), "known": [match.entry.as_dict() for match in known], "path": path}


def completed(name: str, draft: Draft) -> Proposal:
    """An open proposal with what the person adds now, routed anew; not written. Raises NoProposal, UsageError."""
    old = queue.opened(name)
    return _routed(_merged(old, _said(old, draft), again=False))


def asked_for(proposal: Proposal) -> list[str]:
    """The options of `approve` that say what the proposal lacks."""
    asked = [("--source", "URL") if name == "sources" else (f"--{name}", "TEXT") for name in proposal.missing]
    return [word for option in asked for word in option]


def patches(proposal: Proposal, today: dt.date, start: str | None = None) -> list[Patch]:
    """What approving would write. Raises NotReady when something is missing or the checks would find more than before."""
    missing = proposal.missing
    if missing:
        raise NotReady(
            f"{proposal.id} lacks: {', '.join(missing)}",
            remedy=command("hemma gotcha approve {} {}", proposal.id, asked_for(proposal)),
        )
    top = _top(start or os.getcwd())
    if proposal.corrects:
        return _checked(_correction(proposal, today, top), today, top)
    if proposal.route in CATALOGUE:
        return _checked(_catalogue(proposal, today, top), today, top)
    if proposal.route == "project":
        path = next((p for p in (os.path.join(top, n) for n in INSTRUCTIONS) if os.path.exists(p)), "")
        path = path or os.path.join(top, INSTRUCTIONS[1])
        before = _text(path)
        return [Patch(path, before, runbook_edits.with_note(before, proposal.symptom, proposal.fix))]
    return [_own_note(proposal)]


def approve(proposal: Proposal, changes: Sequence[Patch]) -> Proposal:
    """Write the changes and close the proposal. A file that changed since it was read is not written over."""
    for change in changes:
        if _text(change.path) != change.before:
            raise NotReady(f"{change.path} changed meanwhile", remedy=command("hemma gotcha approve {}", proposal.id))
    for change in changes:
        atomic_write(change.path, change.after.encode("utf-8"), mode=None)
    done = proposal.model_copy(update={"status": "approved", "written": changes[0].path if changes else ""})
    queue.write(done)
    return done


def reject(name: str, why: str) -> Proposal:
    """Close an open proposal without writing anything; it stays in the queue with its reason."""
    done = queue.opened(name).model_copy(update={"status": "rejected", "why": why})
    queue.write(done)
    return done


# --- drafting ------------------------------------------------------------------------------------------------------


def _proposal(draft: Draft, diagnosis: Diagnosis, evidence: tuple[str, ...], today: dt.date) -> Proposal:
    line = without_verdict(evidence[0]) if evidence else ""
    key = f"{draft.corrects or ''}|{diagnosis.code}|{re.sub(r'[0-9]+', '#', draft.symptom or line)}"
    stem = draft.corrects or (diagnosis.code if diagnosis.is_known else "failure")
    name = f"{stem[:40]}-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    pattern, about = pattern_of(line), _about(draft, diagnosis)
    base = Proposal(
        id=name,
        created=today,
        about=about,
        platform=_platform_here(os.getcwd()) if about == "platform" and not draft.platform else None,
        route="note",
        category=diagnosis.category,
        code=diagnosis.code if diagnosis.is_known else "",
        evidence=evidence,
        symptom="" if draft.corrects else re.sub(r"\S*/\S+|\[redacted[^\]]*\]", "…", line)[:300],
        fix="",
        matches=(pattern,) if pattern and not draft.corrects else (),
        corrects=draft.corrects,
    )
    return _routed(_merged(base, _said(base, draft), again=False))


def _about(draft: Draft, diagnosis: Diagnosis) -> About:
    for word in get_args(About):
        if draft.about == word:
            return word
    if draft.about is not None:
        raise UsageError(f"--about {draft.about!r} is none", remedy="one of: " + ", ".join(get_args(About)))
    return "platform" if draft.platform else runbook_routing.about(diagnosis.code)


def _said(base: Proposal, draft: Draft) -> Proposal:
    """What a person says, as a proposal of its own. Raises UsageError for a word that is none, LargerThanAnEntry."""
    more = runbook_routing.larger_than_an_entry({name: getattr(draft, name) for name in _FIELDS}, len(draft.sources))
    if more:
        raise LargerThanAnEntry(
            f"this is larger than one entry: {more}",
            remedy="make it a task of its own: an issue or a branch that changes the runbooks, checked by hemma runbook check",
        )
    said = {name: redact(getattr(draft, name)).text for name in _FIELDS}
    values = {**base.as_dict(), **said, "sources": list(draft.sources), "basis": draft.basis, "general": draft.general}
    values |= {"about": draft.about or base.about, "platform": draft.platform or base.platform}
    try:
        return Proposal.parse(values, "the proposal")
    except HemmaError as error:
        raise UsageError(error.message, remedy="hemma gotcha propose --help") from error


def _merged(old: Proposal, new: Proposal, *, again: bool = True) -> Proposal:
    """The old one with what the new one says; seen once more when the failure itself came again."""
    said: dict[str, Any] = {name: getattr(new, name) or getattr(old, name) for name in (*_FIELDS, "basis", "platform")}
    said |= {"sources": tuple(dict.fromkeys([*old.sources, *new.sources])), "general": old.general or new.general}
    return old.model_copy(update={**said, "about": new.about, "seen": old.seen + (1 if again else 0)})


def _routed(proposal: Proposal) -> Proposal:
    candidate = Candidate(
        about=proposal.about,
        symptom=proposal.symptom,
        cause=proposal.cause,
        fix=proposal.fix,
        sources=proposal.sources,
        basis=proposal.basis,
        general=proposal.general,
        platform=proposal.platform,
        seen=proposal.seen,
    )
    if proposal.corrects:
        said = any(getattr(proposal, name) for name in _FIELDS)
        lacks = (() if said else ("fix",)) + (() if proposal.sources else ("sources",))
        return proposal.model_copy(
            update={"route": "correction", "reasons": ("it corrects an entry",), "missing": lacks}
        )
    found = runbook_routing.route(candidate)
    return proposal.model_copy(update={"route": found.place, "reasons": found.reasons, "missing": found.missing})


# --- writing -------------------------------------------------------------------------------------------------------


def _catalogue(proposal: Proposal, today: dt.date, top: str) -> list[Patch]:
    folder = os.path.join(top, runbook.FOLDER)
    entry = Gotcha(
        id=_free_id(proposal, top),
        symptom=proposal.symptom,
        cause=proposal.cause,
        fix=proposal.fix,
        sources=proposal.sources,
        verified=f"{today:%Y-%m}",
        basis=cast("Basis", proposal.basis),
        matches=proposal.matches,
        codes=(proposal.code,) if proposal.code else (),
    )
    place = {
        "training": ("training/learned.yaml", "training", "Learned here"),
        "universal": ("gotchas/learned.yaml", "universal", "Learned here"),
        "profile": (f"gotchas/platform-{proposal.platform}.yaml", "platform", str(proposal.platform)),
    }
    path, scope, title = place[proposal.route]
    full = os.path.join(folder, path)
    platform = proposal.platform if scope == "platform" else None
    before = _text(full)
    after = runbook_edits.with_entry(before, entry, title=title, scope=scope, platform=platform)
    found = [Patch(full, before, after)]
    profile = os.path.join(folder, "profiles", f"{proposal.platform}.md")
    text = _text(profile) if scope == "platform" else None
    if text is not None:
        found.append(Patch(profile, text, runbook_edits.named_in_profile(text, entry.id)))
    return found


def _correction(proposal: Proposal, today: dt.date, top: str) -> list[Patch]:
    """The entry with what is new, what it said before and why, and a new stamp (S17-R05)."""
    library = runbook.load(top)
    places = [(path, entry) for path, file in library.files() for entry in file.gotchas]
    found = next((place for place in places if place[1].id == proposal.corrects), None)
    if library.is_shipped or found is None:
        raise NotReady(
            f"{proposal.corrects} came with Hemma and is not this repository's",
            remedy="offer it upstream: the proposal has what is needed",
        )
    path, old = found
    changed = {name: getattr(proposal, name) for name in _FIELDS if getattr(proposal, name)}
    notes = [
        Correction.model_validate(
            {"field": name, "old": getattr(old, name), "new": new, "source": proposal.sources[0], "day": today}
        )
        for name, new in changed.items()
        if getattr(old, name) != new
    ]
    if not notes:
        raise NotReady(f"{old.id} says that already", remedy=command("hemma gotcha reject {}", proposal.id))
    update = {**changed, "sources": tuple(dict.fromkeys([*old.sources, *proposal.sources]))}
    update |= {"verified": f"{today:%Y-%m}", "corrections": (*old.corrections, *notes)}
    text = library.texts[path]
    after = runbook_edits.with_changed(text, old.model_copy(update=update))
    return [Patch(os.path.join(library.folder, path), text, after)]


def _checked(changes: list[Patch], today: dt.date, top: str) -> list[Patch]:
    """The same changes, when the runbooks hold as well with them as without (S17-R09). Raises NotReady."""
    folder = os.path.join(top, runbook.FOLDER)
    now = runbook.load(top) if os.path.isdir(folder) else runbook.Library(folder, False, {}, frozenset())
    after = dict(now.texts)
    for change in changes:
        after[os.path.relpath(change.path, folder).replace(os.sep, "/")] = change.after
    before = {(found.path, found.rule, found.says) for found in check(now.texts, now.others, today)}
    worse = [found for found in check(after, now.others, today) if (found.path, found.rule, found.says) not in before]
    # A repository's first entry comes before its first page: the index is not this change's matter.
    worse = [found for found in worse if found.rule != "index"]
    if worse:
        first = worse[0]
        raise NotReady(
            f"it would not pass: {first.path}:{first.line} {first.rule}: {first.says}", remedy="hemma runbook check"
        )
    return changes


def _own_note(proposal: Proposal) -> Patch:
    """A note of one's own: one fact, one file; the same fact keeps its file."""
    folder = "memory" if proposal.route == "memory" else "notes"
    path = os.path.join(state_dir(), folder, f"{proposal.id}.md")
    lines = [f"# {proposal.symptom[:100]}", "", proposal.symptom]
    lines += [f"\n{label}: {text}" for label, text in (("Cause", proposal.cause), ("Do", proposal.fix)) if text]
    lines += [
        "",
        *(f"    {line}" for line in proposal.evidence),
        f"\nSeen {'once' if proposal.seen == 1 else f'{proposal.seen} times'}, since {proposal.created}.",
    ]
    return Patch(path, _text(path), "\n".join(lines) + "\n")


def _free_id(proposal: Proposal, top: str) -> str:
    words = re.findall(r"[a-z]{2,}", proposal.symptom.lower())
    name = "-".join(words[:6])[:50].strip("-") or proposal.id
    taken = (
        {entry.id for entry in runbook.load(top).entries()}
        if os.path.isdir(os.path.join(top, runbook.FOLDER))
        else set()
    )
    return name if name not in taken else f"{name}-{proposal.id.rpartition('-')[2]}"


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _top(start: str) -> str:
    try:
        return work_tree.top(start)
    except NotARepository:
        return start
