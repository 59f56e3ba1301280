"""Why did it fail? The text of a log and the facts of its end in, one cause with its evidence and smallest mend out.

Looked for is the *root*: the first cause, not the last line. A launcher's summary, a peer that waited for a dead rank, a
warning, an error that the run outlived, and the advice inside a message weigh less than the cause itself. What nothing
here knows is `unknown`, with the end of the log as evidence, and never a guess (S13-R21). No network, no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lanes.failure_codes import CODES, UNRECOGNISED, Category, Route
from lanes.failure_signatures import Signature, signatures
from lanes.renames import is_renamed

# A run that went on this many bars or metric lines after an error has outlived it (another rank prints a few).
OUTLIVED_AFTER = 20
# What is left of the weight of an error that was outlived, of a warning or advice, and of a line logged below error level;
# what weighs less than the last number is no cause: better none than a wrong one.
OUTLIVED, HARMLESS, LOGGED, LEAST = 0.2, 0.2, 0.5, 0.75
SILENT_S = 1_800.0
MANY_LINES, END_LINES, LONG_LINE, MANY_HITS = 1_000, 400, 4_000, 16
NEAR_BEFORE, NEAR_AFTER = 400, 600

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_WARNING = re.compile(r"\b[A-Z]\w+Warning\b")
_BELOW_ERROR = re.compile(r"\b(?:Warning|WARN|WARNING|INFO|DEBUG)\b|\[(?:W|I)\d*[ :]")
_ADVICE = re.compile(
    r"\b(?:if (?:you|this|it|there)|to avoid|avoid|prevent|in case of|against|when|whether|retry(?:ing)? (?:after|on)"
    r"|recover(?:ed|ing)? from|handl(?:e|ed|ing)|(?:can|may|could|might) (?:cause|lead|result)|skip(?:ped|ping)?|detect(?:ed|ing)?|not a|no)\W+(?:\w+\W+){0,3}$",
    re.IGNORECASE,
)
# What reports that a process below it failed, and not why.
_LAUNCHER = re.compile(r"CalledProcessError|ChildFailedError|ProcessRaisedException|ProcessExitedException|SystemExit")
_EXCEPTION = re.compile(r"^.{0,120}?\b[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b(?::| ?$)", re.MULTILINE)
# What numbers, addresses and bars are written with.
_NUMBERS = b"0123456789abcdefABCDEF.:,<?|/[]- " + "█▏▎▍▌▋▊▉".encode()
_TROUBLE = re.compile(
    r"rror|xception|[Ff]ail|FAIL|[Kk]ill|[Nn]a[Nn]\b|[Oo]ut of|LIMIT|limit|[Dd]enied|orbidden|not found|[Nn]o module|annot"
    r"|ime[d]? ?out|[Nn]ot |Xid|lost|refus|[Aa]bort|[Ss]tuck|hang|quota|Quota|PREEMPT"
).search


@dataclass(frozen=True)
class FailureFacts:
    """What the supervisor knows of the end. `silent_s`: since the last line or metric; `None`: not known."""

    exit_code: int | None = None
    signal: int | None = None
    cgroup_oom_kills: int = 0
    timed_out: bool = False
    preempted: bool = False
    silent_s: float | None = None
    disk_free_bytes: int | None = None


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


def classify(text: str, facts: FailureFacts | None = None) -> Diagnosis:
    """The root cause that the log and the facts of its end show; `unknown` when they show none.

    Line numbers count line ends only, as an editor does; a progress bar rewritten in place is one line.
    Requirements: S13-R01, S13-R04, S13-R10..R22.
    """
    clean = _ANSI.sub("", text) if "\x1b" in text else text
    every = (*_from_facts(facts or FailureFacts()), *_from_text(clean))
    findings = [finding for finding in every if finding.weight >= LEAST]
    if not findings:
        return _unrecognised(clean)
    root = max(findings, key=lambda finding: (finding.weight, -finding.offset))
    code = _refined(root)
    known = CODES[code]
    number = clean.count("\n", 0, root.offset) + 1 if root.offset >= 0 else 0
    return Diagnosis(
        known.category,
        code,
        (Evidence(root.line, number),),
        known.mend.replace("{name}", root.name or "it"),
        known.routes_to,
    )


def _refined(root: _Finding) -> str:
    return "renamed-argument" if root.code == "unknown-argument" and is_renamed(root.name) else root.code


def _unrecognised(clean: str) -> Diagnosis:
    raised = [found.start() for found in _EXCEPTION.finditer(clean) if not _LAUNCHER.search(found.group())]
    offsets = raised[-1:] if raised else list(_last_lines(clean))
    evidence = tuple(Evidence(_line_at(clean, offset), clean.count("\n", 0, offset) + 1) for offset in offsets)
    known = CODES[UNRECOGNISED]
    return Diagnosis(known.category, UNRECOGNISED, evidence, known.mend, known.routes_to)


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
    killed = facts.signal == 9 or facts.exit_code in {137, -9}
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
    if facts.timed_out:
        yield _Finding("time-limit", 2.4, -1, "ended at its time limit")
    elif killed:
        yield _Finding("host-ram-kill", 1.7, -1, "ended by SIGKILL that nobody here sent")
    elif facts.signal in {1, 2, 15}:
        yield _Finding("terminated", 1.0, -1, f"ended by signal {facts.signal}")
    elif facts.signal == 11:
        yield _Finding("segfault", 1.9, -1, "ended by signal 11")


# --- the text ------------------------------------------------------------------------------------------------------


def _from_text(clean: str) -> Iterator[_Finding]:
    reduced, starts = _reduced(clean)
    probe, outlived = _lower(reduced).replace("\n", " "), _outlived_before(clean)
    for signature in signatures():
        seen: set[int] = set()
        for needle in signature.needles:
            for at in _positions(probe, needle):
                found = _confirmed(signature, reduced, at)
                if found is None or (line := reduced.rfind("\n", 0, at) + 1) in seen:
                    continue
                seen.add(line)
                offset = starts[reduced.count("\n", 0, at)]
                weight = signature.weight * _share(signature, found, reduced, line, is_outlived=offset < outlived)
                name = found.groupdict().get("name") or ""
                yield _Finding(signature.code, weight, offset, _line_at(clean, offset), name.strip())


def _confirmed(signature: Signature, text: str, at: int) -> re.Match[str] | None:
    """The match of the pattern around a needle; it must not end before it."""
    begin = max(0, at - NEAR_BEFORE)
    found = signature.pattern.search(text, begin, min(len(text), at + NEAR_AFTER))
    while found is not None and found.end() <= at:
        found = signature.pattern.search(text, found.end() + 1, min(len(text), at + NEAR_AFTER))
    return found


def _share(signature: Signature, found: re.Match[str], text: str, line: int, *, is_outlived: bool) -> float:
    """What counts of the weight: little in advice, in warnings and in what the run outlived. NaN stays NaN."""
    if CODES[signature.code].category == "divergence_nan":
        return 1.0
    before = text[line : found.start()]
    if _ADVICE.search(before) or _WARNING.search(before):
        return HARMLESS
    return (OUTLIVED if is_outlived else 1.0) * (LOGGED if _BELOW_ERROR.search(before) else 1.0)


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


def _reduced(clean: str) -> tuple[str, list[int]]:
    """The text without repeated lines, and where each line that is left begins in `clean`.

    A log is mostly bars and metrics that differ in numbers and addresses; one of each kind is enough to find what failed.
    Lines that speak of an error count with their numbers (401 is not 404). Of a log that is still long, the end is kept
    whole and of the rest the lines with a word of trouble.
    """
    seen: set[bytes] = set()
    kept: list[tuple[int, str]] = []
    offset = 0
    for line in clean.replace("\r", "\n").split("\n"):
        raw = line.encode("utf-8", "surrogatepass")
        key = raw if b"rror" in raw else raw.translate(None, _NUMBERS)
        if key not in seen:
            seen.add(key)
            kept.extend(_pieces(offset, line))
        offset += len(line) + 1
    if len(kept) > MANY_LINES:
        telling = [pair for pair in kept[:-END_LINES] if _TROUBLE(pair[1])]
        kept = telling[:END_LINES] + telling[END_LINES:][-END_LINES:] + kept[-END_LINES:]
    return "\n".join(line for _, line in kept), [start for start, _ in kept]


def _pieces(offset: int, line: str) -> Iterator[tuple[int, str]]:
    """A line, or of a very long one its two ends."""
    if len(line) <= LONG_LINE:
        yield offset, line
        return
    half = LONG_LINE // 2
    yield offset, line[:half]
    yield offset + len(line) - half, line[-half:]
