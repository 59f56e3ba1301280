"""A text to mask as the searches see it, and a place in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """A secret: where it begins and ends, and its kind."""

    begin: int
    end: int
    kind: str


@dataclass(frozen=True)
class Source:
    """A text, its characters as bytes (one each; what is not ASCII is `?`), and the same in lower case."""

    text: str
    raw: bytes
    low: bytes

    @classmethod
    def of(cls, text: str) -> Source:
        """The text with its bytes."""
        raw = text.encode("ascii", "replace")
        return cls(text, raw, raw.lower())


Finder = Callable[[Source], Iterator[Span]]
