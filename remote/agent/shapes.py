"""What JSON between the two machines may look like: a shape per word, for what comes and what lies on disk, on both sides.

A shape is a function that looks at a value and raises BadShape where it is another one; it changes nothing. Whoever reads
a record, a reply or a request has passed it through one first, and needs no further look. Standard library, no typing:
`hemma run` and the agent load this.
"""

from __future__ import annotations

import re

from . import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Mapping

    Shape = Callable[[object], None]

# The longest word of an argv (MAX_ARG_STRLEN), as text that may need a surrogate per byte.
WORD = 131_072
LONGEST_PATH = 4096
COUNT = 1 << 62
SECONDS = 1e12


class BadShape(Exception):
    """A value of another shape: `what` says which, and where it stands."""

    def __init__(self, what: str, where: str = "") -> None:
        Exception.__init__(self, what)
        self.what = what
        self.where = where

    def __str__(self) -> str:
        return "%s is %s" % (self.where or "it", self.what)

    def within(self, name: str) -> BadShape:
        """The same, seen from one level further out."""
        return BadShape(self.what, name + self.where)


# --- the parts -------------------------------------------------------------------------------------------------------


def flag(value: object) -> None:
    """True or false."""
    if value is not True and value is not False:
        raise BadShape(_kind(value) + " instead of a yes or no")


def whole(least: int = 0, most: int = COUNT) -> Shape:
    """A whole number from `least` to `most`; a bool is none."""

    def check(value: object) -> None:
        if type(value) is not int or not least <= value <= most:
            raise BadShape("%s instead of a number from %d to %d" % (_kind(value), least, most))

    return check


def number(value: object) -> None:
    """Any number of a sensible size, such as a unix time."""
    if type(value) not in (int, float) or not -SECONDS <= value <= SECONDS:  # type: ignore[operator]
        raise BadShape(_kind(value) + " instead of a number")


def text(most: int = LONGEST_PATH, pattern: str | None = None) -> Shape:
    """A text of at most `most` letters that matches `pattern` as a whole."""
    matches = re.compile(pattern).fullmatch if pattern else None

    def check(value: object) -> None:
        if type(value) is not str:
            raise BadShape(_kind(value) + " instead of a text")
        if len(value) > most:
            raise BadShape("a text of %d letters" % len(value))
        if matches is not None and not matches(value):
            raise BadShape("a text of another form")

    return check


def encoded(most: int) -> Shape:
    """Base64 of at most `most` bytes, so that decoding it cannot fail."""
    form = text((most + 2) // 3 * 4, "[A-Za-z0-9+/]*={0,2}")

    def check(value: object) -> None:
        form(value)
        if len(str(value)) % 4:
            raise BadShape("base64 that ends too early")

    return check


def either(*words: object) -> Shape:
    """One of these."""

    def check(value: object) -> None:
        if type(value) is not str or value not in words:
            raise BadShape(_kind(value) + " instead of one of %s" % ", ".join(map(str, words)))

    return check


def maybe(shape: Shape) -> Shape:
    """That, or nothing."""

    def check(value: object) -> None:
        if value is not None:
            shape(value)

    return check


def listed(shape: Shape, most: int = frames.MAX_VALUES) -> Shape:
    """A list of that."""

    def check(value: object) -> None:
        if type(value) is not list:
            raise BadShape(_kind(value) + " instead of a list")
        if len(value) > most:
            raise BadShape("a list of %d" % len(value))
        for place, each in enumerate(value):
            try:
                shape(each)
            except BadShape as bad:
                raise bad.within("[%d]" % place) from None

    return check


def pair(shape: Shape) -> Shape:
    """A list of two of that."""
    form = listed(shape, 2)

    def check(value: object) -> None:
        form(value)
        if type(value) is not list or len(value) != 2:
            raise BadShape("not a list of two")

    return check


def mapped(shape: Shape, most: int = frames.MAX_VALUES) -> Shape:
    """An object with that under any name."""

    def check(value: object) -> None:
        if type(value) is not dict:
            raise BadShape(_kind(value) + " instead of an object")
        if len(value) > most:
            raise BadShape("an object of %d" % len(value))
        for name, each in value.items():
            try:
                shape(each)
            except BadShape as bad:
                raise bad.within("." + name[:40]) from None

    return check


def record(needed: Mapping[str, Shape], more: Mapping[str, Shape], *, is_open: bool = False) -> Shape:
    """An object with all of `needed` and any of `more`; with names besides only when it is open (nobody reads those)."""
    known = dict(needed, **more)

    def check(value: object) -> None:
        if type(value) is not dict:
            raise BadShape(_kind(value) + " instead of an object")
        for name in needed:
            if name not in value:
                raise BadShape("missing", "." + name)
        for name, each in value.items():
            shape = known.get(name)
            if shape is None:
                if is_open:
                    continue
                raise BadShape("unknown here", "." + name[:40])
            try:
                shape(each)
            except BadShape as bad:
                raise bad.within("." + name) from None

    return check


def both(one: Shape, other: Shape) -> Shape:
    """That and the other."""

    def check(value: object) -> None:
        one(value)
        other(value)

    return check


def anything(value: object) -> None:
    """What is only shown or handed on, never computed with: its depth and size were bounded when it was read."""


def _kind(value: object) -> str:
    if value is None or type(value) in (bool, int, float):
        return str(value)[:24]
    return "a list" if type(value) is list else "an object" if type(value) is dict else "a text"


# --- the words -------------------------------------------------------------------------------------------------------

RUN_ID = text(128, "[A-Za-z0-9][A-Za-z0-9._-]*")
COMMIT = text(64, "[0-9a-f]{40}|[0-9a-f]{64}")
DIGEST = text(64, "[0-9a-f]{64}")
PATH = text(LONGEST_PATH * 4)
LINE = text(1 << 16)
TIME = text(40, r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)")
EXIT_CODE = whole(0, 255)
SIZES = record({"stdout": whole(), "stderr": whole()}, {})
PROCESS = record({"pid": whole(0, 1 << 31), "start_ticks": maybe(whole()), "boot_id": text(64)}, {})

# run.json; what a command wrote into it itself is no better than what a host says.
RECORD = record(
    {},
    {
        "run_id": RUN_ID,
        "argv": maybe(listed(text(WORD))),
        "shell": maybe(text(WORD)),
        "root": maybe(PATH),
        "commit": maybe(COMMIT),
        "created_at": maybe(TIME),
        "detached": maybe(flag),
        **dict.fromkeys(("cwd", "lane", "branch", "who", "host", "user"), maybe(PATH)),
    },
    is_open=True,
)
_STATUS: dict[str, Shape] = {
    "state": either("starting", "running", "finished"),
    "exit_code": maybe(EXIT_CODE),
    "signal": maybe(whole(0, 255)),
    "reason": maybe(LINE),
    "detail": maybe(text(1 << 18)),
    "pid": maybe(whole(0, 1 << 31)),
    "supervisor": maybe(PROCESS),
    "command": maybe(PROCESS),
    "stdout_bytes": whole(),
    "stderr_bytes": whole(),
    **dict.fromkeys(("started_at", "heartbeat_at", "ended_at"), maybe(TIME)),
}
# status.json, and what a supervisor says at its run's end.
STATUS = record({"state": _STATUS["state"]}, _STATUS, is_open=True)
# The last frame of a followed run. `sent`: where both streams ended, so that a gap at their end shows as well.
END = record(
    {"sent": pair(whole())},
    {
        **_STATUS,
        "supervisor_alive": flag,
        "command_alive": flag,
        "boot_id_now": text(64),
    },
    is_open=True,
)
# What is known of a clone (clone.py), and how it is told from another.
CLONE = record(
    {},
    {
        "roots": listed(COMMIT, 64),
        "ends": listed(COMMIT, 64),
        "head": maybe(COMMIT),
        **dict.fromkeys(("origin", "path"), maybe(PATH)),
        **dict.fromkeys(("host", "said"), maybe(LINE)),
        "is_shallow": flag,
    },
    is_open=True,
)
_RELATED = {"relation": maybe(text(32)), "here": CLONE, "there": CLONE}
GUARD = record(
    {},
    {
        **dict.fromkeys(("root", "toplevel", "cwd"), maybe(PATH)),
        **dict.fromkeys(
            ("root_exists", "is_repository", "is_toplevel", "cwd_exists", "cwd_is_inside"),
            flag,
        ),
        **_RELATED,
    },
    is_open=True,
)
# Something expected that went wrong: no refusal may pass for success.
REFUSAL = record(
    {"error": text(64, "[a-z0-9][a-z0-9-]*"), "message": LINE, "exit_code": whole(1, 255)},
    {"remedy": LINE, "guard": text(64), "facts": GUARD},
    is_open=True,
)
LINK_LOST = record(
    {"error": text(64, "[a-z0-9][a-z0-9-]*"), "message": LINE, "exit_code": whole(1, 255)},
    {"remedy": LINE, "is_final": whole(0, 1)},
    is_open=True,
)
NOTICE = record({"notice": text(64)}, {}, is_open=True)
PROGRESS = record({"notice": either("progress"), "text": text(400)}, {})
STARTED = record({"run_id": RUN_ID, "attached": flag, "cwd": PATH}, _RELATED, is_open=True)
ATTACHED = record({"run_id": RUN_ID, "offsets": pair(whole())}, {}, is_open=True)
HELLO = record({"python": text(64), "pid": whole(0, 1 << 31), "boot_id": text(64)}, {}, is_open=True)
