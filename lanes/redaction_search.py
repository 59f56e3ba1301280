"""Where secrets stand in text: a quick look for what all of them have, and a precise one only there.

The quick look is a search of fixed letters over bytes (about a nanosecond per byte and anchor); the precise one is an expression
per kind, tried at the places found. A character counts as one byte throughout, so places are places in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lanes.redaction_marks import FINDERS
from lanes.redaction_names import QUALIFIED, Beside, family_of, is_opaque, is_random, is_value
from lanes.redaction_shapes import FIRST, ODD_MARKS, POPULAR, begins_at, odd_shapes, shape_at
from lanes.redaction_source import Finder, Source, Span

_LONG = 16
_LONG_OF_LETTERS = 30
_BEFORE = 32
_INTO = 12
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_PLAIN = bytes(0x61 if byte in _LETTERS else 0x20 for byte in range(256))
_DIGIT = re.compile(rb"[0-9]")
_HEXADECIMAL = re.compile(rb"[0-9a-f]+\Z")
_LEADS = (b"-", b"_", b".", b"|")
_WORD = re.compile(rb"(?<![A-Za-z0-9+/_=.~-])[A-Za-z0-9+/_-]{24,512}={0,2}(?![A-Za-z0-9+/_=-])")
_WORD_BEFORE = re.compile(rb"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]+\Z")
_DIGEST_BEFORE = re.compile(rb"(?i)\bsha-?\d{1,3}[:=-]|\b_Z[A-Z0-9]")


def spans(text: str) -> list[Span]:
    """Every secret of `text`, in no order; they may overlap. What is masked already is left alone."""
    source = Source.of(text)
    found = [span for finder in _FINDERS for span in finder(source)]
    if not found or b"[redacted: " not in source.raw:
        return found
    masked = [(each.start(), each.end()) for each in re.finditer(rb"\[redacted: [a-z-]+\]", source.raw)]
    return [span for span in found if not any(begin < span.end and span.begin < end for begin, end in masked)]


# --- long words -------------------------------------------------------------------------------------------------------


def _popular(source: Source) -> Iterator[Span]:
    """Secrets of the issuers seen most, by their first letters."""
    raw = source.raw
    for kind, shape in POPULAR:
        for found in shape.finditer(raw):
            begin = found.start() - (kind == "stripe")
            if kind == "telegram" or begins_at(raw, begin):
                yield Span(begin, found.end(), kind)


def _long_words(source: Source) -> Iterator[Span]:
    """Secrets with a shape of their own, and words that only chance makes: all have a long part of letters and digits."""
    raw, plain = source.raw, source.raw.translate(_PLAIN)
    wanted, at = b"a" * _LONG, 0
    while (at := plain.find(wanted, at)) >= 0:
        end = plain.find(b" ", at)
        end = end if end >= 0 else len(plain)
        # A digest, the most frequent long word of logs: nothing that leads a secret stands before it.
        is_digest = raw[at - 1 : at] not in _LEADS and _HEXADECIMAL.match(raw, at, end) and raw[end : end + 1] != b"-"
        if not is_digest and (end - at >= _LONG_OF_LETTERS or _DIGIT.search(raw, at, end)):
            yield from _in_word(source, at, end)
        at = end


def _in_word(source: Source, begin: int, end: int) -> Iterator[Span]:
    raw, at = source.raw, max(0, begin - _BEFORE)
    while (first := FIRST.search(raw, at, begin + _INTO)) and first.start() <= begin:
        found = shape_at(raw, first.start())
        at = first.start() + 1
        if found and found[0] > begin:
            yield Span(first.start(), *found)
            return
    if raw[begin - 1 : begin] in ODD_MARKS or raw[end : end + 1] in ODD_MARKS:
        yield from (Span(*odd) for odd in odd_shapes(raw, begin, end))
    word = _WORD_BEFORE.search(raw, max(0, begin - 256), begin)
    whole = _WORD.match(raw, word.start() if word else begin)
    if (
        whole
        and not _DIGEST_BEFORE.search(raw, max(0, whole.start() - 10), whole.start() + 10)
        and is_random(whole[0].decode("ascii"))
    ):
        lead = len(whole[0]) - len(whole[0].lstrip(b"/"))
        yield Span(whole.start() + lead, whole.end(), "unnamed-token")


# --- names ------------------------------------------------------------------------------------------------------------

_OPERATOR = (
    rb"""(?P<op>(?:\\{0,3}["'`])?[\])]?[ \t]{0,3}(?:=>|:=|={1,3}|\|\||[=:]|,(?=\s{0,3}\\{0,3}["']))\s{0,3}|>(?=[^<>\n]{4,200}</)|"""
    rb"""\\?["'][ \t]{1,10}value[ \t]{0,3}=[ \t]{0,3}(?=["'])|[ \t]+(?:is|was)[ \t]+(?=\S*[0-9])|[ \t]+(?=["'])|[ \t]+)"""
)
_TAIL = rb"(?:s|\d{1,2})?(?:[_-](?:value|string|plain|b64|base64|text|old|new|data|base|key|hash))?"
_QUOTED = re.compile(
    rb"""(?:[rbuf]{0,2})(?P<quote>\\{0,3}["'`])(?!(?P=quote))(?P<value>[^\n]{1,2000}?)(?P=quote)""", re.IGNORECASE
)
_BARE = re.compile(rb"""[^\s"'`,;&|(){}<>\[\]\\\x00-\x1f]{4,2000}""")
# What still belongs to a bare value that was found to be a secret: marks in it that may also end one, unless a name follows.
_REST = re.compile(
    rb"""(?:[,;&|(){}<>\[\]\\](?![A-Za-z_][\w.-]{0,40}["']?[=:])[^\s"'`,;&|(){}<>\[\]\\\x00-\x1f]{1,200})*"""
)
_NAME_BEFORE = re.compile(rb"[\w.-]{0,64}\Z")
_LOGIN_BEFORE = re.compile(rb"(?:login|account|user|machine|default)(?:\s+\S{1,80})?\s+\Z", re.IGNORECASE)


def _pattern(anchor: bytes) -> re.Pattern[bytes]:
    return re.compile(anchor + _TAIL + _OPERATOR)


_NAMES = tuple(
    _pattern(anchor)
    for anchor in (
        b"token", b"secret", rb"pass(?:w(?:or)?d|phrase|code|(?<![a-z]pass))", b"credential", b"pwd",
    )
)  # fmt: skip
_KEY = _pattern(b"key")
_QUALIFIER = re.compile(rf"(?:{QUALIFIED})[_. -]?\Z".encode())


def _named(source: Source) -> Iterator[Span]:
    """Values beside the name of a secret."""
    for pattern in _NAMES:
        for name in pattern.finditer(source.low):
            yield from _beside(source, name)
    for name in _KEY.finditer(source.low):
        yield from _beside_key(source, name)


def _beside(source: Source, name: re.Match[bytes], said: str = "") -> Iterator[Span]:
    """The value behind a name that was found, where it is a secret."""
    raw, at = source.raw, name.end()
    operator = name["op"]
    is_pass = name[0].startswith(b"pass")
    # What most names of every day stand beside: cheap to see, and half of the lines of a training say it.
    if not is_pass and (_COUNT.match(raw, at) or (operator.isspace() and not _may_lead(raw, name))):
        return
    mark = operator.strip(b" \t\"'`\\)]").removeprefix(b"value").strip()
    quoted = _QUOTED.match(raw, at)
    bare = None if quoted else _BARE.match(raw, at)
    value = quoted or bare
    if value is None:
        return
    before = _NAME_BEFORE.search(raw, max(0, name.start() - 64), name.start())
    whole = (before[0] if before else b"") + raw[name.start() : name.start("op")]
    begin, end = value.span("value") if quoted else value.span()
    is_option = whole.startswith(b"-") and not mark
    if not mark and not quoted and not is_option:
        is_login = _SQL_NAME.match(name[0]) and _LOGIN_BEFORE.search(raw, max(0, name.start() - 180), name.start())
        if not is_login and not (whole.isupper() and _is_set(raw, name.start("op") - len(whole))):
            return
        is_option = True
    if not mark and quoted and (operator == b"" or not _SQL_NAME.match(name[0])):
        return
    if quoted and quoted["quote"].endswith(b"`") and b"=" not in mark:
        return  # code in a page
    if mark == b"," and raw[name.start() - 1 : name.start()] in (b"/", b"."):
        return  # a path among others
    family = family_of(said or whole.decode("ascii"))
    beside = Beside(
        is_quoted=quoted is not None,
        is_close=is_option or operator in (b"=", b":=", b">") or _is_alone(raw, name, whole, end),
        is_pair=mark == b"," and not whole.startswith(b"-"),
        after=raw[end : end + 2].decode("ascii"),
        is_set=whole.isupper() and _is_set(raw, name.start("op") - len(whole)),
    )
    if is_option and not quoted and family != "phrase" and not _ends_option(raw, end):
        beside = Beside()
    if mark in (b"is", b"was") and family != "phrase":
        return
    if is_value(source.text[begin:end], family, beside):
        rest = _REST.match(raw, end) if bare else None
        yield Span(begin, rest.end() if rest else end, "named-value")


def _may_lead(raw: bytes, name: re.Match[bytes]) -> bool:
    """Whether a name with nothing but space behind it may lead to a value: an option, what a command sets."""
    word = max(raw.rfind(mark, max(0, name.start() - 64), name.start()) for mark in (b" ", b"\n", b"\t"))
    return raw[word + 1 : word + 2] in (b"-", b'"', b"'") or raw[name.start() : name.start() + 1].isupper()


_COUNT = re.compile(rb"[\d.,]+(?=[\s,;)}\]]|\Z)")
_WORTH = re.compile(rb"""[rbuf]{0,2}\\{0,3}["'`]?[^\s"'`,;(){}\[\]]{6}""")
_SQL_NAME = re.compile(rb"passw(?:or)?d|passphrase")


def _is_set(raw: bytes, at: int) -> bool:
    """Whether a command that sets a variable stands before this place."""
    return (
        re.search(
            rb"(?:^|[\s;&|])(?:export|set|setenv|%env|%set_env|env|arg)[ \t]+\Z",
            raw[max(0, at - 20) : at],
            re.IGNORECASE,
        )
        is not None
    )


def _ends_option(raw: bytes, end: int) -> bool:
    """Whether an option's value is all that stands there, as on a command line and not in a sentence."""
    rest = raw[end : end + 4].lstrip(b" \t")
    return not rest[:1].isalpha() or rest[:1] in b"\n\r"


def _is_alone(raw: bytes, name: re.Match[bytes], whole: bytes, end: int) -> bool:
    """Whether name and value are all of their line, as in YAML and INI."""
    begin = name.start("op") - len(whole)
    line = max(raw.rfind(b"\n", 0, begin) + 1, begin - 200)
    stop = raw[end : end + 2].lstrip(b" \t\r,")
    before = raw[line:begin].strip(b" \t-\"'")
    is_first = before in (b"", b"export") or before[-1:] in (
        b":",
        b"]",
        b"|",
        b">",
    )  # of the line, or of what a log says
    return (not stop or stop[:1] in (b"\n", b"#")) and is_first and raw[end : end + 1] != b","


def _beside_key(source: Source, name: re.Match[bytes]) -> Iterator[Span]:
    """`key` alone is a name of every day; it counts with a word before it that tells, in capitals, or as Kaggle writes it."""
    raw, low, at = source.raw, source.low, name.start()
    if not _WORTH.match(raw, name.end()) or (name["op"].isspace() and not _may_lead(raw, name)):
        return
    told = _QUALIFIER.search(low, max(0, at - 24), at)
    if told:
        yield from _beside(source, name, said=(told[0].strip(b" ._-") + b"_key").decode("ascii"))
        return
    value = _KEY_VALUE.match(raw, name.end())
    if value is None or not family_of("api_" + raw[at : name.start("op")].decode("ascii")):
        return
    said = _NAME_BEFORE.search(raw, max(0, at - 64), at)
    before = said[0].decode("ascii") if said else ""
    is_short = (
        not before and re.fullmatch(rb"[0-9a-f]{32}", value["value"]) and raw[at - 1 : at] in (b'"', b"'")
    )  # kaggle.json
    is_long = (
        bool(before)
        and (raw[at - 1 : at] in (b"_", b"-") or raw[at : at + 1] == b"K")
        and is_opaque(before + "_key", value["value"].decode("ascii"))
    )
    if is_short or is_long:
        yield Span(*value.span("value"), "named-value")


_KEY_VALUE = re.compile(
    rb"""(?P<quote>\\{0,3}["'])?(?P<value>(?(quote)[A-Za-z0-9+/_=.~-]{16,200}|[A-Za-z0-9+/_-]{16,200}={0,2}))(?![\w(.\[])"""
)

_FINDERS: tuple[Finder, ...] = (_popular, _long_words, _named, *FINDERS)
