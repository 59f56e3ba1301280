"""Names that secrets stand under, and whether what stands beside one is a secret at all: a place, a name in code, a number are not."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Family = Literal["phrase", "token", ""]

# `\u2026` is `…` as JSON in ASCII writes it.
PLACE = re.compile(r"[{$<(%].*|\[redacted.*|.*(?:\*\*\*|\.\.\.|…|\\u2026).*", re.DOTALL)
# Not a value: a reference to one, a word in place of one (three x in a row stand in one random key of a thousand), a name of a variable, field or type, plain words, a number.
_HARMLESS = re.compile(
    r"""[{$<(%].*|\[redacted.*|.*(?:(?<![a-z0-9])your|example|placeholder|changeme|\*\*\*|\.\.\.|…).*|[A-Za-z_]+"""
    r"""|(?:.*[^A-Za-z0-9])?x{3,}(?:[^A-Za-z0-9].*)?|0x[0-9a-f]{1,16}|0+|(?:[\d.,_:/%+-]|e[+-]?\d|(?<=\d)[KMGTBkmgs](?![a-z]))+(?:/[a-z]+)?"""
    r"""|[A-Za-z]+(?:\.[A-Za-z_]+)+(?:[(\[].*)?|[A-Za-z]+(?:[ ./-][A-Za-z]+)+[.!?:]?|[*&].*|(?:true|false|none|null)"""
    r"""|--?[a-z].*|https?://[^@]*|:?[\w-]+:+|\\[a-z\d].*|.*\[(?:\^|A-Z|a-z|0-9).*|.*\{[\w.()\[\]]*\}.*|.*%[sdr].*""",
    re.DOTALL | re.IGNORECASE,
)
_WORDS_OF_FORMS = re.compile(
    r"pass|pwd|user|secret|token|string|true|false|none|null|undefined|nil|auth|valu|requir|option|invalid|incorrect|wrong|"
    r"missing|empty|fail|denied|accept|chang|expire|default|prompt|field|input|hidden|encrypt|hash|login|account|config|"
    r"environ|getenv|self|args|param|bytes|unicode|object|type|text|credential|keyring|your|example|callback|reset|forgot|update|"
    r"should|must|cannot|needed|never|always|between|before|after|protected|plain|stored|supplied|provided|given|entered|"
    r"specified|disabled|enabled|either|unknown|optional|bool|dict|list|tuple|here|this|that|with|from|when|which|server|client",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_PHRASE = re.compile(r"passw(?:or)?d|passphrase|passcode|(?:^|_)pass$|(?:^|[a-z_])pwd$|(?:^|_)pw$")
_TOKEN = re.compile(
    r"token$|secret|credential|(?:^|_)creds?$|cookie|webhook|(?:^|_)auth$|sessid$|session_?id$|(?:^|_)sig$"
)
QUALIFIED = (
    "api|access|secret|private|account|encryption|encrypt|signing|sign|master|service|shared|auth|application|app|client|consumer|admin|"
    "deploy|storage|subscription|hmac|aes|jwt|write|license|account|security|token|decryption|functions|host|server|webhook|bot|"
    "site|integration|project_api|personal"
)
_KEY = re.compile(rf"(?:^|[a-z_])(?:{QUALIFIED}|pass)_?keys?$|(?:^|_)key_?(?:data|base|b64)$")
# `eos_token`, `max_tokens`, `tokenizer`, `token_count`: words of every day of whoever trains language models.
_PLAIN = re.compile(
    r"(?:^|_)(?:bos|eos|eot|eod|pad|padding|unk|sep|cls|mask|image|video|audio|special|stop|added|extra|start|end|begin|first|last|next|"
    r"prev|previous|new|num|n|max|min|total|per|prompt|completion|think|tool|fim|prefix|suffix|middle|decoder_start|forced|"
    r"chat|response|instruction|csrf_cookie|per_token|loss|current|by|each|sub|lookahead|unknown|cancellation|cancel|continuation|"
    r"sync|page|pagination|resume|auto|is|has|use|no|add|get|set|with|skip|ignore|show|find|read|parse|split)_?(?:token|key|auth)s?$"
    r"|tokeni|author|authen|authoriz|authority|(?:^|_)(?:public|cache|primary|foreign|sort|group|partition|ssh_host|state|row|pass)_keys?$"
    r"|(?:^|_)tokens$|_(?:file|path|dir|folder|env|var|name|names|id|ids|type|types|count|length|len|limit|size|stdin|uri|prompt|helper|policy|"
    r"ttl|expiry|expires|expiration|format|backend|provider|mode|method|sock|socket|store|manager|hash|hint|url|command|callback|index|"
    r"level|min|max|rotation|version|enabled|required|field|label|class|regex|pattern|loss|acc|accuracy|idx|position|positions|mask)$"
)
_SECRET_TOKENS = re.compile(r"(?:access|api|auth|refresh|bearer|id|session|hub|secret)_?tokens$")
_SUFFIX = re.compile(r"_?(?:s|\d{1,2}|value|string|plain|b64|base64|text|old|new)$")
_HEX_OR_UUID = re.compile(r"(?:0x)?[0-9a-f-]{20,}|[0-9A-F-]{20,}")
_WORD_IN_PATH = re.compile(r"(?:^|/)[A-Z]?[a-z_]{4,}(?=/|$)")
_MIN_PART = 16
_MIN_OF_TWO = 28
_MIN_ENTROPY = 4.0
_MIN_ENTROPY_LOWER = 3.5


@dataclass(frozen=True)
class Beside:
    """How a value stands beside its name: in quotes, `=` close to both, what follows it, whether it is one of several texts, whether a command sets it."""

    is_quoted: bool = False
    is_close: bool = False
    is_pair: bool = False
    after: str = ""
    is_set: bool = False


def family_of(name: str) -> Family:
    """What a name says of what stands under it: a phrase that people choose, a token, or nothing secret."""
    low = _CAMEL.sub("_", name[-80:]).lower().replace("-", "_").replace(".", "_").replace(" ", "_").strip("_")
    found = _family(low)
    return found or (_family(_SUFFIX.sub("", low)) if _SUFFIX.search(low) and not _PLAIN.search(low) else "")


def _family(low: str) -> Family:
    if _PHRASE.search(low) and not re.search(
        r"_(?:file|path|stdin|prompt|env|hint|hash|policy|length|len|min|max|type)$", low
    ):
        return "phrase"
    if _SECRET_TOKENS.search(low):
        return "token"
    if _PLAIN.search(low):
        return ""
    return "token" if _TOKEN.search(low) or _KEY.search(low) else ""


def is_value(value: str, family: Family, beside: Beside) -> bool:
    """Whether what stands beside a secret's name is the secret. In quotes a plain word may well be one; bare it is often code."""
    if not family or len(value) < 4 or PLACE.fullmatch(value) or is_path(value):
        return False
    if any(c.isspace() for c in value):  # a sentence about it, but for pass phrases
        return family == "phrase" and beside.is_quoted and not beside.is_pair and _is_phrase(value)
    if not beside.is_quoted and beside.after[:1] in ("(", "[") and re.fullmatch(r"[\w.]+", value):
        return False  # a call
    if _is_name_in_code(value, family, beside):
        return False
    if not _HARMLESS.fullmatch(value):
        if beside.is_pair and family == "token" and len(value) < 8:
            return False
        return len(value) >= (4 if beside.is_quoted or family == "phrase" else 6)
    if (family == "phrase" or beside.is_set) and _is_chosen(value, beside):
        return True
    is_mixed = re.search(r"[a-z]", value) is not None and re.search(r"[A-Z0-9]", value[1:]) is not None
    if beside.is_quoted and not beside.is_pair:
        is_word = re.search(r"[0-9]", value) is None and (
            _WORDS_OF_FORMS.search(value) is not None or "key" in value.lower()
        )
        return (
            is_mixed
            and not is_word
            and re.fullmatch(r"[A-Za-z0-9_]+", value) is not None
            and not re.search(r"(?i)your|example|placeholder|changeme|x{3}", value)
        )
    return False


def _is_name_in_code(value: str, family: Family, beside: Beside) -> bool:
    """Whether it is a variable, an attribute or a type: words whose kind of letter changes only where a word begins."""
    if beside.is_quoted or not re.fullmatch(r"_?[A-Za-z]\w*(?:\.[A-Za-z_]\w*)*", value):
        return False
    is_compound = "_" in value or re.search(r"[a-z][A-Z]|[A-Z]{2}[a-z]", value) is not None
    if family == "phrase":
        is_free = beside.is_close and not _WORDS_OF_FORMS.search(value) and not re.match(r"[,)(\[.\]}]", beside.after)
        return not is_free and re.fullmatch(r"[a-z]+(?:_[a-z]+)+\d?", value) is not None
    return is_compound and sum(map(str.isdigit, value)) <= 4 and changes_in(value) < len(value) * 0.3


def is_opaque(name: str, value: str) -> bool:
    """Whether a value under a name that ends in `key` is a key and no word: long, of letters and digits in no order; a hash may not be."""
    low = _CAMEL.sub("_", name).lower().replace("-", "_").replace(".", "_")
    if _PLAIN.search(low) or is_path(value) or not re.search(r"[0-9]", value) or not re.search(r"[A-Za-z]", value):
        return False
    if re.fullmatch(r"[0-9a-fA-F-]+", value):
        return len(value) in (32, 36, 40)
    return changes_in(value) >= len(value) * 0.25 and _entropy(value) >= 3


def _is_phrase(value: str) -> bool:
    """Whether several words may be a pass phrase, which is short and begins as no sentence does."""
    return len(value) <= 80 and not re.search(
        r"[:?!(){}%]|\.(?:\s|$)|(?i:\b(?:password|must|the|your|is|for|not|please|enter)\b)", value
    )


def _is_chosen(value: str, beside: Beside) -> bool:
    """Whether a plain word or a number under a pass phrase's name is one that somebody chose."""
    if re.fullmatch(r"\d{6,12}", value):
        return beside.is_close or beside.is_quoted
    if not re.fullmatch(r"[A-Za-z]{6,40}|[A-Za-z]{4,}[-_.][A-Za-z_.-]{4,60}", value) or _WORDS_OF_FORMS.search(value):
        return False
    if re.search(r"[_.]", value) and not beside.is_quoted:
        return False
    if value.isupper() or re.search(r"(?i)x{3}|changeme|placeholder", value):
        return False
    if beside.is_quoted:
        return not beside.is_pair
    return beside.is_close and not re.match(r"[,)(\[.\]}]", beside.after)


def is_path(value: str) -> bool:
    """Whether it is a place of something, not the thing."""
    return re.fullmatch(r"(?:~|\.{0,2})(?:/[\w.@%+-]+){2,}/?|(?:~|\.{1,2})?/[\w.-]*", value) is not None and (
        _WORD_IN_PATH.search(value) is not None or len(value) < 24
    )


def is_random(word: str) -> bool:
    """Whether only chance makes such a long word: kinds of letters mixed all through, and no path, digest or name in code."""
    if _HEX_OR_UUID.fullmatch(word) or _WORD_IN_PATH.search(word):
        return False
    part = max(re.split(r"[/_-]", word), key=len)
    if len(part) < _MIN_PART:  # names of models and certificates: words and numbers, joined
        return False
    has_lower, has_upper, has_digit = (re.search(each, word) for each in ("[a-z]", "[A-Z]", "[0-9]"))
    if not has_digit or not (has_lower or has_upper):
        return False
    # Names in code and paths change their kind of letter rarely, at the border of words; chance does at every second one.
    if has_lower and has_upper:
        return changes_in(part) >= len(part) * 0.4 and _entropy(word) >= _MIN_ENTROPY
    return (
        len(word) >= _MIN_OF_TWO
        and word.isalnum()
        and changes_in(word) >= len(word) * 0.3
        and _entropy(word) >= _MIN_ENTROPY_LOWER
    )


def changes_in(word: str) -> int:
    """How often the kind of letter changes in it: upper, lower, digit, anything else."""
    kinds = ["d" if c.isdigit() else "u" if c.isupper() else "l" if c.isalpha() else "-" for c in word]
    return sum(before != after for before, after in pairwise(kinds))


def _entropy(word: str) -> float:
    counts = Counter(word)
    return -sum(number / len(word) * math.log2(number / len(word)) for number in counts.values())
