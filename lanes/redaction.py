"""Text, argument lists and environments with their secrets masked: before anything is kept or sent (S20-R01..R03).

Found by the shapes that issuers give them, by the names they stand under, and by value where the caller knows values. A
long mixed word that is nothing else (no digest, path or name in code) is masked too: here a word too many costs nothing.
What this does not see: a short secret in plain words under a harmless name. No result repeats what was masked.
"""

from __future__ import annotations

import base64
import itertools
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

# Where a word begins: also behind the `m` that ends a colour of a terminal.
_START = r"(?:(?<![A-Za-z0-9])|(?<=\[\dm)|(?<=\[\d\dm)|(?<=;\dm)|(?<=;\d\dm))"
SHAPES: Mapping[str, str] = {
    "private-key": r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----[\s\S]*?(?:-----END [A-Z0-9 ]+-----|\Z)",
    "url-password": r"(?<=://)[^\s/:@\[\]\"'<>]{0,80}:(?!\[redacted)[^\s/@\"'<>]{1,200}(?=@)",
    "authorization": r"(?i:(?<=authorization: )|(?<=authorization:)|(?:(?<=\bbearer )|(?<=\bbasic ))(?=\S*[0-9=]))"
    r"(?!(?i:bearer|basic)\b)[A-Za-z0-9._~+/=-]{8,}",
    "json-web-token": rf"{_START}eyJ[A-Za-z0-9_-]{{8,}}\.eyJ[A-Za-z0-9_-]{{8,}}\.[A-Za-z0-9_-]{{8,}}",
    "hugging-face": rf"{_START}(?:hf|api_org)_[A-Za-z0-9]{{20,}}\b",
    "github": rf"{_START}(?:gh[pousr]_[A-Za-z0-9]{{30,}}|github_pat_[A-Za-z0-9_]{{30,}})\b",
    "gitlab": rf"{_START}gl(?:pat|rt|cbt|ptt|dt)-[A-Za-z0-9_.-]{{20,}}",
    "openai-anthropic": rf"{_START}sk-[A-Za-z0-9_-]{{20,}}",
    "aws": rf"{_START}(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{{16}}\b",
    "google": rf"{_START}AIza[A-Za-z0-9_-]{{35}}|{_START}ya29\.[A-Za-z0-9_-]{{20,}}|{_START}GOCSPX-[A-Za-z0-9_-]{{20,}}",
    "slack": rf"{_START}xox[abeoprs]-[A-Za-z0-9-]{{10,}}|{_START}hooks\.slack\.com/services/[A-Za-z0-9/]{{20,}}",
    "stripe": rf"{_START}(?:sk|rk|whsec)_(?:live_|test_)?[A-Za-z0-9]{{20,}}\b",
    "package-registry": rf"{_START}pypi-[A-Za-z0-9_-]{{32,}}|{_START}npm_[A-Za-z0-9]{{30,}}\b|{_START}dckr_pat_[A-Za-z0-9_-]{{20,}}",
    "discord": rf"{_START}discord(?:app)?\.com/api/webhooks/\d+/[A-Za-z0-9_-]{{20,}}",
}
# Searched for by its end, not from its beginning: a name of any length costs nothing.
_KEY = (
    r"(?:api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key|token|secret|passw(?:or)?d|passphrase|credential)s?"
)
_VALUE = r"""(?:(?P<quote>\\?["'])(?P<quoted>[^\n]{4,2000}?)(?P=quote)|(?P<bare>[^\s"'`,;&|(){}<>\[\]\\]{6,2000}))"""
_NAMED = re.compile(
    rf"""(?P<before>{_KEY}(?:\\?["'])?\]?\s{{0,3}}(?:=>|:=|[=:]|,(?=\s{{0,3}}["']))\s{{0,3}}|"""
    rf"""(?<!\S)--?[A-Za-z][\w-]{{0,40}}?{_KEY}[ \t]+){_VALUE}""",
    re.IGNORECASE,
)
_SET = re.compile(
    r"(?P<before>(?:^|[\s;&|])(?:export|set|setenv|%env|%set_env|ENV|ARG)[ \t]+\w*(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL)\w*(?:=|[ \t])[ \t]*)"
    r"""(?P<quote>["']?)(?P<value>[^\s"']{4,})""",
    re.MULTILINE,
)
# Not a value: a reference to one, a word in place of one (three x in a row stand in one random key of a thousand), a name of a variable, field or type, plain words, a number.
_HARMLESS = re.compile(
    r"""[{$<(%].*|\[redacted.*|.*(?:(?<![a-z0-9])your|example|placeholder|changeme|\*\*\*|\.\.\.|…).*|[A-Z][A-Z_]*|[A-Za-z_]+"""
    r"""|(?:.*[^A-Za-z0-9])?x{3,}(?:[^A-Za-z0-9].*)?"""
    r"""|[A-Za-z_]+(?:\.[A-Za-z_]+)+(?:[(\[].*)?|[A-Za-z]+(?:[ ./-][A-Za-z]+)+[.!?:]?|[\d.,_]{1,12}|[*&].*|(?:true|false|none|null)""",
    re.DOTALL | re.IGNORECASE,
)
_PLACE = re.compile(r"[{$<(%].*|\[redacted.*|.*(?:\*\*\*|\.\.\.|…).*", re.DOTALL)
_WORD = re.compile(r"(?<![A-Za-z0-9+/_=.~-])[A-Za-z0-9+/_-]{24,512}={0,2}(?![A-Za-z0-9+/_=-])")
_HEX_OR_UUID = re.compile(r"[0-9a-f-]{20,}|[0-9A-F-]{20,}")
_SECRET_NAME = re.compile(
    r"KEY$|TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|AUTH(?!OR)|WEBHOOK|COOKIE|PRIVATE", re.IGNORECASE
)
_PHRASE = re.compile(r"passw(?:or)?d|passphrase", re.IGNORECASE)
_WORD_IN_PATH = re.compile(r"(?:^|/)[a-z_]{4,}(?=/|$)")
_MIN_KNOWN = 6
_MIN_ENTROPY = 4.0
_SHAPE = {kind: re.compile(shape) for kind, shape in SHAPES.items()}


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
    counts: Counter[str] = Counter()
    for value in _forms(known):
        found = text.count(value)
        if found:
            counts["known-value"] += found
            text = text.replace(value, mask("known-value"))
    for kind, shape in _SHAPE.items():
        text, found = shape.subn(mask(kind), text)
        counts[kind] += found
    text = _NAMED.sub(lambda match: _named(match, counts), text)
    text = _SET.sub(lambda match: _set(match, counts), text)
    text = _WORD.sub(lambda match: _word(match[0], counts), text)
    return Redacted(text, {kind: number for kind, number in counts.items() if number})


def redact_argv(argv: Sequence[str], known: Collection[str] = ()) -> list[str]:
    """The words of a command with secrets masked, also one that follows its option as a word of its own."""
    masked: list[str] = []
    for before, word in zip(["", *argv], argv, strict=False):
        name = before.lstrip("-") if before.startswith("-") and "=" not in before else ""
        is_value = bool(name and _is_secret_name(name)) and not word.startswith("-") and not _PLACE.fullmatch(word)
        masked.append(mask("named-value") if is_value else redact(word, known).text)
    return masked


def redact_env(env: Mapping[str, str], known: Collection[str] = ()) -> dict[str, str]:
    """The environment with the values of secret-sounding names masked, and secrets in other values."""
    return {
        name: mask("named-value") if value and _is_secret_name(name) else redact(value, known).text
        for name, value in env.items()
    }


def secret_values(env: Mapping[str, str]) -> list[str]:
    """Values of `env` that stand under secret-sounding names, for `known`; too short ones would mask plain words."""
    return sorted({value for name, value in env.items() if len(value) >= _MIN_KNOWN and _is_secret_name(name)})


def _is_secret_name(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _forms(known: Iterable[str]) -> list[str]:
    """Each known value as it may stand in text, longest first, so that no rest of a longer one is left."""
    forms: set[str] = set()
    for value in known:
        if len(value) < _MIN_KNOWN or value.startswith("[redacted"):
            continue
        raw = value.encode("utf-8", "surrogatepass")
        coded = base64.b64encode(raw).decode("ascii").rstrip("=")
        forms |= {value, _percent_encoded(raw), value.replace("\\", "\\\\").replace('"', '\\"')}
        forms |= {coded, base64.urlsafe_b64encode(raw).decode("ascii").rstrip("="), raw.hex()}
    return sorted(forms, key=lambda form: (-len(form), form))


def _named(match: re.Match[str], counts: Counter[str]) -> str:
    before, quote = match["before"], match["quote"] or ""
    value = match["quoted"] if quote else match["bare"]
    is_named = not before.rstrip().endswith(",")
    if not _is_value(value, is_quoted=bool(quote) and is_named, is_phrase=_PHRASE.search(before) is not None):
        return match[0]
    counts["named-value"] += 1
    return f"{before}{quote}{mask('named-value')}{quote}"


def _is_value(value: str, *, is_quoted: bool, is_phrase: bool) -> bool:
    """Whether what stands beside a secret's name is the secret. In quotes a plain word may well be one; bare it is code."""
    if _PLACE.fullmatch(value):
        return False
    if any(c.isspace() for c in value):  # a sentence about it, but for pass phrases
        return is_quoted and is_phrase
    if not _HARMLESS.fullmatch(value):
        return True
    return is_quoted and re.search(r"[a-z]", value) is not None and re.search(r"[A-Z0-9]", value[1:]) is not None


def _set(match: re.Match[str], counts: Counter[str]) -> str:
    if _PLACE.match(match["value"]):
        return match[0]
    counts["named-value"] += 1
    return f"{match['before']}{match['quote']}{mask('named-value')}"


def _word(word: str, counts: Counter[str]) -> str:
    """A long word that only chance makes: upper, lower and digits mixed all through, and no path, digest or name in code."""
    if _HEX_OR_UUID.fullmatch(word) or _WORD_IN_PATH.search(word) or not _is_mixed(word):
        return word
    counts["unnamed-token"] += 1
    return mask("unnamed-token")


def _is_mixed(word: str) -> bool:
    has_all = all(re.search(part, word) for part in ("[a-z]", "[A-Z]", "[0-9]"))
    if not has_all or _entropy(word) < _MIN_ENTROPY:
        return False
    # Names in code and paths change their kind of letter rarely, at the border of words; chance does at every second one.
    kinds = ["d" if c.isdigit() else "u" if c.isupper() else "l" if c.isalpha() else "-" for c in word]
    changes = sum(before != after for before, after in itertools.pairwise(kinds))
    return changes >= len(word) * 0.4


def _entropy(word: str) -> float:
    counts = Counter(word)
    return -sum(number / len(word) * math.log2(number / len(word)) for number in counts.values())


def _percent_encoded(raw: bytes) -> str:
    """`raw` as it stands in an address (RFC 3986, nothing left out). Of our own: lanes may not touch urllib, which can dial."""
    kept = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    return "".join(chr(byte) if byte in kept else f"%{byte:02X}" for byte in raw)
