"""The structure of a log: what was raised, where and because of what, and which lines only look like a cause.

A line is not its words alone. The same words are a cause at the end of a traceback, a source line inside one, a hint under
an error, or part of an exception that was caught and reported. This is read from the form: Python's tracebacks (plain, of a
notebook, boxed), their chains, the prefixes of ranks and containers, the levels of loggers. No pattern of a failure here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

# What counts of an exception that nobody could catch (in a destructor, at exit) and of one logged below error level.
UNRAISABLE, REPORTED = 0.2, 0.5
MOST_PREFIXES = 3

_LEVEL = r"(?:ERROR|WARNING|INFO|DEBUG|CRITICAL)"
# What stands before the process's own words: a rank, a container, a time with a logger. Only the first kind tells streams apart.
_PREFIX = re.compile(
    r"\s*(?:(\[?rank ?\d+\]?:|\[(?:default|default_rank|rank) ?\d+\]:?|\(\w+ (?:\w+=)?[\w.]+(?:, ip=[\d.]+)?\)|\d{1,3}:|[\w.-]+ +\|) ?"
    r"|> |\d{4}-\d\d-\d\d[ T][\d:.,]+\S* -? ?[\w.]+ - "
    + _LEVEL
    + r" - |"
    + _LEVEL
    + r" \d\d-\d\d [\d:]+ \[[\w.]+:\d+\] "
    r"|[A-Z][a-z]{2} +\d+ [\d:]{8} \S+ \S+\[\d+\]: )",
    re.IGNORECASE,
)
_OPENS = re.compile(r"\bTraceback \(most recent calls? ")
_FRAME = re.compile(r'\s*File "?(?P<file>[^",\n]+)"?, line \d+(?:, in (?P<function>[^\n]+))?')
_NOTEBOOK_FRAME = re.compile(
    r"(?:File )?(?P<file>[\w/~.<>\\\-]+\.py|Cell In\[\d+\])(?::\d+|, line \d+)?(?:,)? in (?P<function>[^\n(]+)"
)
_BOXED_FRAME = re.compile(r"\s*[│|] (?P<file>\S+\.py):\d+ in (?P<function>\w+)")
_BOXED_SOURCE = re.compile(r"\s*│.*│")
_NOTEBOOK_SOURCE = re.compile(r"\s*(?:-+> ?)?\[?\d+\]?(?:\s|$)")
_MARKS = re.compile(r"\s*[\^~][\s\^~]*$")
_HEADER = re.compile(
    r"(?P<kind>(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning|Failure|NotFound|TimedOut|StopIteration)|StopIteration)(?P<colon>:(?: (?P<message>.*)|$)|\s*$)"
)
_INLINE = re.compile(r"(?:^|[\s`'\"(\]>])(?P<kind>(?:[a-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)): (?P<message>\S.*)")
_RAISES = re.compile(r"\b(?:raise|assert)\b")
_CHAIN = re.compile(
    r"(?:was the direct cause of|During handling of) the (?:above|following) exception|above exception was the direct cause"
)
_UNRAISABLE = re.compile(
    r"Exception ignored (?:in|while|on)|Error in atexit\.|Error in sys\.excepthook|Exception ignored in:"
)
_BELOW = re.compile(r"\b(?:WARN|WARNING|INFO|DEBUG)\b|\bwarning:|\[W\d*[ :]")

# Advice that a library prints beside or below an error; it says what to do, never what happened.
HINTS = re.compile(
    "|".join(
        part.replace(" ", r"\s+")
        for part in (
            r"Compile with .?TORCH_USE_CUDA_DSA.? to enable device-side assertions",
            r"For debugging consider passing CUDA_LAUNCH_BLOCKING ?=? ?1?",
            r"CUDA kernel errors might be asynchronously reported at some other API call,? ?so the stacktrace below might be incorrect",
            r"use CUDA_LAUNCH_BLOCKING=1 to get correct traceback",
            r"Search for .cuda\w+. in https?://\S+ for more information",
            r"If reserved memory is >> allocated memory try setting max_split_size_mb to avoid fragmentation",
            r"If reserved but unallocated memory is large try setting \S+ to avoid fragmentation",
            r"Please try increasing the timeout with the [^\n]{0,160}",
            r"(?:try|please|consider) restart(?:ing)? the (?:runtime|kernel)[^\n]{0,80}",
            r"note: This error originates from a subprocess, and is likely not a problem with pip",
            r"To avoid data inconsistency, we are taking the entire process down",
            r"For more information check: \S+",
            r"No error, but",
        )
    ),
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Frame:
    """Where a call stood; `function` is empty where the log does not say it."""

    file: str
    function: str


@dataclass(frozen=True)
class Raised:
    """One exception as a log shows it. `line` counts from 0; `linked`: a later one of the same chain."""

    kind: str
    message: str
    line: int
    frames: tuple[Frame, ...]
    share: float = 1.0
    is_linked: bool = False

    @property
    def name(self) -> str:
        """The class without its modules."""
        return self.kind.rpartition(".")[2]


@dataclass(frozen=True)
class Structure:
    """What the lines are: those that are source or hints, what of a line's weight counts, and all that was raised."""

    source: frozenset[int]
    shares: dict[int, float]
    raised: tuple[Raised, ...]


@dataclass
class _Block:
    share: float
    is_linked: bool
    frames: list[Frame] = field(default_factory=list[Frame])


@dataclass
class _Stream:
    """The lines of one rank or container: its open traceback, and what stood before."""

    block: _Block | None = None
    after_frame: bool = False
    before: str = ""
    next_share: float = 1.0
    is_next_linked: bool = False
    last_source: int = -1


def without_hints(text: str) -> str:
    """The text with its hints as blanks, all places as before."""
    return HINTS.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)


def body_of(line: str) -> tuple[str, str]:
    """The prefixes of a rank or container, and what the process itself wrote."""
    names, rest = "", line
    for _ in range(MOST_PREFIXES):
        found = _PREFIX.match(rest)
        if found is None:
            break
        names, rest = names + (found.group(1) or ""), rest[found.end() :]
    return names, rest


def structure_of(lines: Sequence[str]) -> Structure:
    """Read the lines in order, those of each rank by themselves."""
    streams: dict[str, _Stream] = {}
    source: set[int] = set()
    shares: dict[int, float] = {}
    raised: list[Raised] = []
    for number, line in enumerate(lines):
        prefix, body = body_of(line)
        stream = streams.setdefault(prefix, _Stream())
        if _is_source(stream, body):
            source.add(number)
            stream.last_source = number if _RAISES.search(body) else -1
        else:
            found = _read(stream, number, body)
            if found is not None:
                raised.append(found)
                if not found.message:
                    source.discard(stream.last_source)  # the statement is all that it says
        if stream.block is not None and stream.block.share < 1.0:
            shares[number] = stream.block.share
        if raised and raised[-1].line == number and raised[-1].share < 1.0:
            shares[number] = raised[-1].share
        stream.before = body if body.strip() else stream.before
    # A log that is cut off before the exception: the statement that raised it is all there is.
    source.difference_update(stream.last_source for stream in streams.values() if stream.block is not None)
    return Structure(frozenset(source), shares, tuple(raised))


def _is_source(stream: _Stream, body: str) -> bool:
    """Whether this is a line of program text that a traceback quotes."""
    if stream.block is None or _BOXED_FRAME.match(body):
        return False
    if _BOXED_SOURCE.match(body) or _MARKS.match(body):
        return True
    was_frame, stream.after_frame = stream.after_frame, False
    if was_frame and body[:2].isspace() and not _FRAME.match(body):
        return True
    return bool(_NOTEBOOK_SOURCE.match(body)) and not _HEADER.match(body.strip())


def _read(stream: _Stream, number: int, body: str) -> Raised | None:
    """One line that is not source: a marker, a frame, an exception, or anything else."""
    if _UNRAISABLE.search(body):
        stream.next_share = UNRAISABLE
        return None
    if _CHAIN.search(body):
        stream.is_next_linked, stream.block = True, None
        return None
    opened = _OPENS.search(body)
    if opened:
        below = _BELOW.search(body[: opened.start()]) or _BELOW.search(stream.before)
        share = stream.next_share if stream.next_share < 1.0 else (REPORTED if below else 1.0)
        stream.block = _Block(share, stream.is_next_linked)
        stream.next_share, stream.is_next_linked = 1.0, False
        return None
    frame = _FRAME.match(body) or _BOXED_FRAME.match(body) or (_NOTEBOOK_FRAME.match(body) if stream.block else None)
    if frame:
        stream.block = stream.block or _Block(1.0, is_linked=stream.is_next_linked)
        stream.block.frames.append(Frame(frame["file"].strip(), (frame["function"] or "").strip()))
        stream.after_frame = True
        return None
    return _exception(stream, number, body)


def _exception(stream: _Stream, number: int, body: str) -> Raised | None:
    header = _HEADER.match(body.strip())
    block = stream.block
    if header and not header["kind"].endswith("Warning"):
        stream.block = None
        is_linked = block.is_linked if block else stream.is_next_linked
        stream.is_next_linked = False
        share = block.share if block else (stream.next_share if _UNRAISABLE.search(stream.before) else 1.0)
        frames = tuple(block.frames) if block else ()
        return Raised(header["kind"], (header["message"] or "").strip(), number, frames, share, is_linked)
    inline = _INLINE.search(body)
    if inline and not _BELOW.search(body[: inline.start()]):
        return Raised(inline["kind"], inline["message"].strip(), number, tuple(block.frames) if block else ())
    return None
