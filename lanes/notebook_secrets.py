"""Secrets written into a notebook: by the shapes that issuers give them, and by names that hold nothing else (S18-R08, S20-R02).

What it does not see: a secret without a known shape under a harmless name. No finding repeats the value (S20-R03).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_SHAPES = {
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{20,}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})\b",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "an OpenAI or Anthropic key": r"\bsk-[A-Za-z0-9_-]{20,}",
    "an AWS access key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a Google API key": r"\bAIza[A-Za-z0-9_-]{35}",
    "a Google OAuth token": r"\bya29\.[A-Za-z0-9_-]{20,}",
    "a Slack token": r"\bxox[abpors]-[A-Za-z0-9-]{10,}",
    "a PyPI token": r"\bpypi-[A-Za-z0-9_-]{32,}",
    "a JSON web token": r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    "a private key": r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----",
    "a password in a URL": r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@{}$\"']{1,80}:[^\s/@{}$\"'<>]{3,80}@",
}
_SHAPE = {what: re.compile(shape) for what, shape in _SHAPES.items()}
_NAMED = re.compile(
    r"""(?P<name>\b\w{0,40}(?:api_?key|token|secret|passw(?:or)?d|credential|access_?key)s?\b)["']?\]?\s{0,4}"""
    r"""(?:=|:|,|\s)\s{0,4}(?P<quote>["'])(?P<value>[^"'\n]{6,400})(?P=quote)""",
    re.IGNORECASE,
)
_ENVIRONMENT = re.compile(
    r"^[ \t]*(?:%env|%set_env|!?[ \t]*export)[ \t]+(?P<name>\w*(?:KEY|TOKEN|SECRET|PASSWORD)\w*)(?:=|[ \t])[ \t]*(?P<value>\S+)",
    re.IGNORECASE | re.MULTILINE,
)
# Not a value: a reference to a variable, a word in place of one, the name of a variable or a field, plain words.
_HARMLESS = re.compile(
    r"""[{$<(%].*|.*(?:your|example|placeholder|changeme|xxx|\*\*\*|\.\.\.).*"""
    r"""|[A-Z][A-Z_]*|[a-z][a-z_]*|[A-Za-z]+(?:[ ./-][A-Za-z]+)+[.!?:]?""",
    re.DOTALL,
)


def secrets_in(text: str) -> Iterator[tuple[int, str]]:
    """Line (from 1) and what it looks like, for each secret in `text`; one per line at most."""
    found: dict[int, str] = {}
    for what, shape in _SHAPE.items():
        for match in shape.finditer(text):
            found.setdefault(_line(text, match.start()), what)
    for match in (*_NAMED.finditer(text), *_ENVIRONMENT.finditer(text)):
        if not _HARMLESS.fullmatch(match["value"]):
            found.setdefault(_line(text, match.start()), f"a value for {match['name']}")
    yield from sorted(found.items())


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
