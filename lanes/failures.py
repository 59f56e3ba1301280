"""Why did it fail? The text of a log and the facts of its end in, one cause with its evidence and smallest mend out.

Looked for is the *root*: what was raised first, not what was printed last. The form of the log is read before its words
(lanes/log_structure.py): source lines and hints are no evidence at all; a launcher's summary, a peer that waited for a dead
rank, a warning, an exception that was caught and reported, and an error that the run outlived weigh less than the cause.
What nothing here knows is `unknown`, with what was raised first as evidence, and never a guess (S13-R21). No network, no
model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lanes.failure_codes import CODES, UNRECOGNISED, Category, Route
from lanes.failure_rules import judge
from lanes.failure_signatures import Signature, signatures
from lanes.log_reduction import reduced
from lanes.log_structure import HINTS, Raised, Structure, body_of, structure_of, without_hints
from lanes.renames import is_renamed

# A run that went on this many bars or metric lines after an error has outlived it (another rank prints a few).
OUTLIVED_AFTER = 20
# What is left of the weight of an error that was outlived, of a warning or advice, and of a line logged below error level;
# what weighs less than the last number is no cause: better none than a wrong one.
OUTLIVED, HARMLESS, LOGGED, LEAST = 0.2, 0.2, 0.5, 0.75
SILENT_S = 1_800.0
MANY_HITS = 16
NEAR_BEFORE, NEAR_AFTER = 400, 600
# How Hemma itself ends a command (README, Exit codes): weaker than a cause in the log, except the time it was given.
OWN_ENDINGS: Mapping[int, tuple[str, float, str]] = {
    75: ("needs-person", 0.8, "ended with 75: a person must decide"),
    124: ("time-limit", 2.4, "ended with 124: past its --timeout"),
    126: ("not-started", 1.2, "ended with 126: the command was found and cannot be executed"),
    127: ("not-started", 1.2, "ended with 127: the command was not found"),
    130: ("stopped", 1.0, "ended with 130: interrupted"),
    143: ("stopped", 1.0, "ended with 143: stopped"),
}

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_WARNING = re.compile(r"\b[A-Z]\w+Warning\b")
_BELOW_ERROR = re.compile(r"\b(?:Warning|WARN|WARNING|INFO|DEBUG)\b|\[(?:W|I)\d*[ :]|\A[WI]\d{0,4} ")
_ADVICE = re.compile(
    r"\b(?:if (?:you|this|it|there)|to avoid|avoid|prevent|in case of|against|when(?! i\b)|whether|retry(?:ing)? (?:after|on)"
    r"|recover(?:ed|ing)? from|handl(?:e|ed|ing)|(?:can|may|could|might) (?:cause|lead|result)|skip(?:ped|ping)?|detect(?:ed|ing)?)\W+(?:\w+\W+){0,3}$|\b(?:not a|no)\W+(?:\w+ ){0,1}$",
    re.IGNORECASE,
)
# What follows on the same line when the program went on without what failed, or tries it again.
_WENT_ON = re.compile(
    r"\b(?:ignor(?:ed|ing)|falling back|fall(?:s|ing)? ?back|skipping|(?:will be|is|being) disabled|(?:continu|proceed)ing without"
    r"|not fatal|non-?fatal)\b",
    re.IGNORECASE,
)
_TRIES_AGAIN = re.compile(
    r"\b(?:retrying|will retry|retry loop|trying again|attempt \d+ ?(?:/|of) ?\d+)\b", re.IGNORECASE
)
# torch says as a warning what is the cause: it found no usable card.
_CARD_WARNING = re.compile(r"\w+Warning: (?:CUDA initialization|Can't initialize NVML)")
# What other ranks, workers and clients say after the first of them failed.
CONSEQUENCES = frozenset({"network", "nccl-timeout", "nccl-error", "rendezvous-timeout", "terminated", "stopped"})
_TRANSPORT = re.compile(
    r"Connection|Timeout|TimedOut|OSError|IOError|gaierror|HTTP|SSL|BrokenPipe|EOFError|Remote|Dist\w*Error|Comm|Socket|Protocol|Retry"
    r"|Interrupt|Exit|Queue|Empty|LocalEntryNotFound|Client|Download"
)
# What reports that a process below it failed, and not why.
_LAUNCHER = re.compile(r"CalledProcessError|ChildFailedError|ProcessRaisedException|ProcessExitedException|SystemExit")
_BARE = re.compile(
    r"(?:[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Failure|StopIteration)|StopIteration|Traceback \(most recent call last\))\s*:?"
    r"|what\(\):|[=\-_*\s]*"
)


@dataclass(frozen=True)
class FailureFacts:
    """What the supervisor knows of the end. `silent_s`: since the last line or metric; `None`: not known.

    `ended` is the supervisor's own word where it ended the command itself: stopped, timed-out, not-started.
    """

    exit_code: int | None = None
    signal: int | None = None
    cgroup_oom_kills: int = 0
    timed_out: bool = False
    preempted: bool = False
    silent_s: float | None = None
    disk_free_bytes: int | None = None
    ended: str = ""


@dataclass(frozen=True)
class Evidence:
    """The line that says it, as it stands in the log, and its number from 1; 0: a fact, not a line."""

    line: str
    number: int


@dataclass(frozen=True)
class Diagnosis:
    """The cause (S13-R04): category and code, what says so, the smallest mend, and who acts on it."""

    category: Category
    code: str
    evidence: tuple[Evidence, ...]
    smallest_mend: str
    routes_to: Route

    @property
    def is_known(self) -> bool:
        """Whether a cause was recognised at all."""
        return self.code != UNRECOGNISED


@dataclass(frozen=True)
class _Finding:
    code: str
    weight: float
    offset: int  # in the cleaned text; -1: a fact
    line: str
    name: str = ""
    is_said_softly: bool = False  # only at the level of a warning or below


def classify(text: str, facts: FailureFacts | None = None) -> Diagnosis:
    """The root cause that the log and the facts of its end show; `unknown` when they show none.

    Line numbers count line ends only, as an editor does; a progress bar rewritten in place is one line.
    Requirements: S13-R01, S13-R04, S13-R10..R22.
    """
    clean = _ANSI.sub("", text) if "\x1b" in text else text
    view = _view(clean)
    every = (*_from_facts(facts or FailureFacts()), *_from_text(view))
    findings = [finding for finding in every if finding.weight >= LEAST]
    if not findings:
        return _unrecognised(view)
    root = max(findings, key=lambda finding: (finding.weight, -finding.offset))
    if (first := _raised_instead(view, root)) is not None:
        return _unrecognised(view, first)
    code = _refined(root)
    known = CODES[code]
    return Diagnosis(
        known.category,
        code,
        _evidence_of(clean, root),
        known.mend.replace("{name}", root.name or "it"),
        known.routes_to,
    )


def _evidence_of(clean: str, root: _Finding) -> tuple[Evidence, ...]:
    """The line of the cause; where only the end tells, what it tells, and of a refusal first what was said last."""
    if root.offset >= 0:
        return (_evidence(clean, root.offset),)
    said = [_evidence(clean, offset) for offset in _last_lines(clean)] if root.code == "needs-person" else []
    return tuple(dict.fromkeys([*said, Evidence(root.line, 0)]))


def _refined(root: _Finding) -> str:
    return "renamed-argument" if root.code == "unknown-argument" and is_renamed(root.name) else root.code


def _unrecognised(view: _View, first: Raised | None = None) -> Diagnosis:
    """Nothing known: what was raised first, else the end of the log."""
    clean = view.clean
    first = first or next(iter(_causes(view)), None)
    offsets = [view.starts[first.line]] if first is not None else list(_last_lines(clean))
    evidence = tuple(_evidence(clean, offset) for offset in offsets)
    known = CODES[UNRECOGNISED]
    return Diagnosis(known.category, UNRECOGNISED, tuple(dict.fromkeys(evidence)), known.mend, known.routes_to)


def _causes(view: _View) -> Iterator[Raised]:
    """What was raised and counts, in order; of a run that outlived errors those after them first."""
    counted = [each for each in view.structure.raised if each.share == 1.0 and not _LAUNCHER.search(each.kind)]
    yield from (each for each in counted if view.starts[each.line] >= view.outlived)
    yield from (each for each in counted if view.starts[each.line] < view.outlived)


def _raised_instead(view: _View, root: _Finding) -> Raised | None:
    """The program's own exception that the root is no cause of: it was raised before a mere consequence, or after a warning."""
    if root.is_said_softly:
        after = (each for each in _causes(view) if view.starts[each.line] > root.offset)
        return next((each for each in after if not _TRANSPORT.search(each.kind)), None)
    if root.code not in CONSEQUENCES:
        return None
    for each in _causes(view):
        if not view.outlived <= view.starts[each.line] < root.offset or _TRANSPORT.search(each.kind):
            continue
        later = next((other for other in view.structure.raised if other.line > each.line), None)
        if later is None or not later.is_linked or view.starts[later.line] > root.offset:
            return each
    return None


def _evidence(clean: str, offset: int) -> Evidence:
    """The line at this place; where it is a bare name or mark, the line that says more: the next, else the one before."""
    line, number = _line_at(clean, offset), clean.count("\n", 0, offset) + 1
    if _says(line):
        return Evidence(line, number)
    lines = clean.split("\n")
    below = range(number, min(len(lines), number + 4))
    above = range(number - 2, max(-1, number - 12), -1)
    for at in (*below, *above):
        said = lines[at].rpartition("\r")[2].strip()[:2_000]
        if _says(said) and not HINTS.search(said):
            return Evidence(said, at + 1)
    return Evidence(line, number)


def _says(line: str) -> bool:
    return not _BARE.fullmatch(body_of(line)[1].strip())


def _last_lines(clean: str, count: int = 3) -> Iterator[int]:
    """Where the last lines that are not empty begin, in order."""
    starts = [found.start() for found in re.finditer(r"^.*\S", clean[-4_000:], re.MULTILINE)][-count:]
    return (max(0, len(clean) - 4_000) + start for start in starts)


def _line_at(clean: str, offset: int) -> str:
    begin = clean.rfind("\n", 0, offset) + 1
    end = clean.find("\n", offset)
    return clean[begin : end if end >= 0 else len(clean)].rpartition("\r")[2].strip()[:2_000]


# --- the facts of the end ------------------------------------------------------------------------------------------


def _from_facts(facts: FailureFacts) -> Iterator[_Finding]:
    is_ours = facts.ended in {"stopped", "timed-out", "not-started"}
    killed = (facts.signal == 9 or facts.exit_code in {137, -9}) and not is_ours
    if facts.preempted:
        yield _Finding("preempted", 4.0, -1, "the machine was taken back")
    if facts.cgroup_oom_kills:
        # The kernel's own count outweighs every word of the log, also those of the card's memory: never the ladder.
        fact = f"{facts.cgroup_oom_kills} process(es) killed by the job's memory limit"
        yield _Finding("cgroup-kill", 4.0 if killed else 2.6, -1, fact)
    if facts.disk_free_bytes is not None and facts.disk_free_bytes < 1 << 20:
        yield _Finding("disk-full", 2.6, -1, f"{facts.disk_free_bytes} bytes free where the job writes")
    silent = facts.silent_s is not None and facts.silent_s >= SILENT_S
    if silent:
        yield _Finding("silent", 2.45 if facts.timed_out else 1.6, -1, f"nothing logged for {facts.silent_s:.0f} s")
    if facts.timed_out or facts.ended == "timed-out":
        yield _Finding("time-limit", 2.4, -1, "ended at its time limit")
    elif facts.ended == "stopped":
        yield _Finding("stopped", 1.0, -1, "it was stopped")
    elif killed:
        yield _Finding("host-ram-kill", 1.7, -1, "ended by SIGKILL that nobody here sent")
    elif facts.signal in {1, 2, 15}:
        yield _Finding("terminated", 1.0, -1, f"ended by signal {facts.signal}")
    elif facts.exit_code is not None and facts.exit_code in OWN_ENDINGS:
        code, weight, fact = OWN_ENDINGS[facts.exit_code]
        yield _Finding(code, weight, -1, fact)
    elif facts.signal == 11:
        yield _Finding("segfault", 1.9, -1, "ended by signal 11")


# --- the text ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _View:
    """A log made ready: `text` has no repeated lines, source lines or hints; `starts`: its lines' places in `clean`."""

    clean: str
    text: str
    starts: list[int]
    structure: Structure
    outlived: int


def _view(clean: str) -> _View:
    lines, starts = reduced(clean)
    structure = structure_of(lines)
    shown = (" " * len(line) if number in structure.source else line for number, line in enumerate(lines))
    return _View(clean, without_hints("\n".join(shown)), starts, structure, _outlived_before(clean))


def _from_text(view: _View) -> Iterator[_Finding]:
    clean, text = view.clean, view.text
    probe = _lower(text).replace("\n", " ")
    for signature in signatures():
        seen: set[int] = set()
        for needle in signature.needles:
            for at in _positions(probe, needle):
                found = _confirmed(signature, text, at)
                if found is None or (line := text.rfind("\n", 0, at) + 1) in seen:
                    continue
                seen.add(line)
                row = text.count("\n", 0, at)
                offset = view.starts[row]
                share = _share(signature, found, text, line, is_outlived=offset < view.outlived)
                weight = signature.weight * share * view.structure.shares.get(row, 1.0)
                name = found.groupdict().get("name") or ""
                is_soft = share == LOGGED and not _CARD_WARNING.search(text, line, found.end() + 1)
                yield _Finding(signature.code, weight, offset, _line_at(clean, offset), name.strip(), is_soft)
    for raised in view.structure.raised:
        offset = view.starts[raised.line]
        share = raised.share * (OUTLIVED if offset < view.outlived else 1.0)
        for judged in judge(raised):
            yield _Finding(judged.code, judged.weight * share, offset, _line_at(clean, offset), judged.name)


def _confirmed(signature: Signature, text: str, at: int) -> re.Match[str] | None:
    """The match of the pattern around a needle; it must not end before it."""
    begin = max(0, at - NEAR_BEFORE)
    found = signature.pattern.search(text, begin, min(len(text), at + NEAR_AFTER))
    while found is not None and found.end() <= at:
        found = signature.pattern.search(text, found.start() + 1, min(len(text), at + NEAR_AFTER))
    return found


def _share(signature: Signature, found: re.Match[str], text: str, line: int, *, is_outlived: bool) -> float:
    """What counts of the weight: little in advice, in warnings and in what the run outlived. NaN stays NaN."""
    if CODES[signature.code].category == "divergence_nan":
        return 1.0
    before = text[line : found.start()]
    if _CARD_WARNING.search(text, line, found.end() + 1):
        return LOGGED
    if _ADVICE.search(before) or _WARNING.search(before):
        return HARMLESS
    after = text[found.end() : (text + "\n").find("\n", found.end())]
    if _WENT_ON.search(after):
        return HARMLESS
    is_logged = _BELOW_ERROR.search(before) or _TRIES_AGAIN.search(after)
    return (OUTLIVED if is_outlived else 1.0) * (LOGGED if is_logged else 1.0)


def _outlived_before(clean: str) -> int:
    """What stands before this place was followed by enough bars or metric lines: the run went on."""
    places: list[int] = []
    for mark in ("it/s", "s/it", "'loss':"):
        at = len(clean)
        for _ in range(OUTLIVED_AFTER):
            if (at := clean.rfind(mark, 0, at)) < 0:
                break
            places.append(at)
    return sorted(places)[-OUTLIVED_AFTER] if len(places) >= OUTLIVED_AFTER else 0


def _positions(probe: str, needle: str) -> Iterable[int]:
    """Where the needle stands: the first and the last few dozen places."""
    found: list[int] = []
    at = probe.find(needle)
    while at >= 0 and len(found) < MANY_HITS:
        found.append(at)
        at = probe.find(needle, at + 1)
    end = len(probe)
    for _ in range(MANY_HITS if at >= 0 else 0):
        end = probe.rfind(needle, found[MANY_HITS - 1] + 1, end)
        if end < 0:
            break
        found.append(end)
    return found


def _lower(text: str) -> str:
    lowered = text.lower()
    # A few letters grow when lowered (U+0130): places in both texts must agree.
    return lowered if len(lowered) == len(text) else "".join(each.lower() if each.isascii() else each for each in text)
