"""Text, argument lists and environments with their secrets masked: before anything is kept, shown or sent (S20-R01..R03).

The one masker of Hemma. Found by the shapes that issuers give them, by the names they stand under, by their place in a command,
and by value where the caller knows values. A long mixed word that is nothing else (no digest, path or name in code) is masked
too: here a word too many costs nothing. What this does not see: a short secret in plain words under a harmless name, and one
without a name or shape in hexadecimal letters, which digests are made of. No result repeats what was masked.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lanes.redaction_commands import spans_in
from lanes.redaction_names import family_of, is_path
from lanes.redaction_search import spans
from lanes.redaction_source import Span

# Of a variable the name says enough: here a value too many is only masked in what is shown.
_SECRET_NAME = re.compile(
    r"KEY$|TOKEN(?!I[ZS])|SECRET|PASSW|PASSPHRASE|CREDENTIAL|AUTH(?!OR)|WEBHOOK|COOKIE|PRIVATE|(?:^|_)PASS$|[A-Z_]PWD$|(?:^|_)DSN$",
    re.IGNORECASE,
)
_NO_SECRET_NAMES = frozenset({"OLDPWD", "PWD"})
_MIN_KNOWN = 6
_MIN_KNOWN_LINE = 16
_KNOWN = "known-value"


@dataclass(frozen=True)
class Redacted:
    """`text` with its secrets masked as `[redacted: kind]`, and how many there were of each kind."""

    text: str
    counts: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def total(self) -> int:
        """How many were masked."""
        return sum(self.counts.values())


def mask(kind: str) -> str:
    """What stands in place of a secret."""
    return f"[redacted: {kind}]"


def redact(text: str, known: Collection[str] = ()) -> Redacted:
    """`text` without secrets; `known` are values to mask wherever they stand, also in base64 and URL quoting.

    Masking twice changes nothing more. Lines stay lines, but for a private key, which becomes one word.
    """
    found = _found(text, known)
    return _masked(text, found) if found else Redacted(text)


def redact_up_to(text: str, end: int, known: Collection[str] = ()) -> tuple[str, int]:
    """(the masked beginning of `text`, where its rest begins): the end as asked, or where a secret that crosses it ends."""
    found = _found(text, known)
    end = next((span.end for span in found if span.begin < end < span.end), max(0, end))
    return _masked(text[:end], [span for span in found if span.end <= end]).text, end


def redact_argv(argv: Sequence[str], known: Collection[str] = ()) -> list[str]:
    """The words of a command with secrets masked: those with a place of their own in it (`-p` of mysql), the rest as text."""
    placed: dict[int, list[tuple[int, int]]] = {}
    for index, begin, end in spans_in(argv):
        placed.setdefault(index, []).append((begin, end))
    masked: list[str] = []
    for index, word in enumerate(argv):
        for begin, end in sorted(placed.get(index, ()), reverse=True):
            word = word[:begin] + mask("named-value") + word[end:]  # noqa: PLW2901 - from its end to its beginning
        masked.append(redact(word, known).text)
    return masked


def redact_command(argv: Sequence[str], shell: str | None = None, known: Collection[str] = ()) -> str:
    """A command as one line to show: `shell` where it is a line of a shell, else the words, quoted as a shell takes them."""
    return redact(shell, known).text if shell else shlex.join(redact_argv(argv, known))


def redact_value(value: object, known: Collection[str] = (), name: str = "") -> object:
    """Nested data with the secrets in its texts masked, by the name each stands under too; lists of `argv` as commands."""
    if isinstance(value, str):
        is_named = bool(value) and bool(name) and bool(family_of(name)) and not is_path(value)
        return redact(value, known).text if not is_named else _named(name, value, known)
    if isinstance(value, Mapping):
        pairs: Iterable[tuple[object, object]] = value.items()  # type: ignore[reportUnknownMemberType]
        return {key: redact_value(each, known, str(key)) for key, each in pairs}
    if isinstance(value, list | tuple):
        items: list[object] = list(value)  # type: ignore[reportUnknownArgumentType]
        if name in ("argv", "command") and all(isinstance(each, str) for each in items):
            return redact_argv([str(each) for each in items], known)
        return [redact_value(each, known, name) for each in items]
    return value


def secret_values(env: Mapping[str, str]) -> list[str]:
    """Values of `env` that stand under secret-sounding names, for `known`; too short ones would mask plain words."""
    return sorted({value for name, value in env.items() if len(value) >= _MIN_KNOWN and _is_secret_name(name)})


def _named(name: str, value: str, known: Collection[str]) -> str:
    """A value as it would be masked beside its name on a line of its own."""
    (masked,) = redact_argv([f"{name.replace(' ', '_')}={value}"], known)
    return masked.partition("=")[2]


def _is_secret_name(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None and name not in _NO_SECRET_NAMES


def _found(text: str, known: Collection[str]) -> list[Span]:
    return _joined([*spans(text), *(span for form in _forms(known) for span in _places(text, form))])


def _masked(text: str, found: Iterable[Span]) -> Redacted:
    counts: Counter[str] = Counter()
    pieces: list[str] = []
    at = 0
    for span in found:
        pieces += [text[at : span.begin], mask(span.kind)]
        counts[span.kind] += 1
        at = span.end
    return Redacted("".join([*pieces, text[at:]]), dict(counts))


def _joined(found: Iterable[Span]) -> list[Span]:
    """The spans in order, those that overlap as one: no rest of a secret is left beside its mask."""
    joined: list[Span] = []
    for span in sorted(found, key=lambda each: (each.begin, -each.end)):
        if joined and span.begin < joined[-1].end:
            last = joined[-1]
            kind = _KNOWN if _KNOWN in (last.kind, span.kind) else last.kind
            joined[-1] = Span(last.begin, max(last.end, span.end), kind)
        else:
            joined.append(span)
    return joined


def _places(text: str, form: str) -> Iterable[Span]:
    at = text.find(form)
    while at >= 0:
        yield Span(at, at + len(form), _KNOWN)
        at = text.find(form, at + 1)


def _forms(known: Iterable[str]) -> list[str]:
    """Each known value as it may stand in text; one of several lines also line by line."""
    forms: set[str] = set()
    for value in known:
        lines = value.splitlines()
        wanted = [value, *(line for line in lines if len(line) >= _MIN_KNOWN_LINE)] if len(lines) > 1 else [value]
        for each in wanted:
            if len(each) < _MIN_KNOWN or each.startswith("[redacted"):
                continue
            raw = each.encode("utf-8", "surrogatepass")
            coded = base64.b64encode(raw).decode("ascii").rstrip("=")
            forms |= {each, _percent_encoded(raw), each.replace("\\", "\\\\").replace('"', '\\"')}
            forms |= {coded, base64.urlsafe_b64encode(raw).decode("ascii").rstrip("="), raw.hex()}
    return sorted(forms, key=lambda form: (-len(form), form))


def _percent_encoded(raw: bytes) -> str:
    """`raw` as it stands in an address (RFC 3986, nothing left out). Of our own: lanes may not touch urllib, which can dial."""
    kept = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    return "".join(chr(byte) if byte in kept else f"%{byte:02X}" for byte in raw)
