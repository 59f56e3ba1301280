"""The shapes that issuers give their secrets, as documented by each, over bytes. Each begins with what never changes in it.

Most are tried only before a long word that holds a digit (`lanes/redaction_search.py`), which all of them end in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

# Where a word begins: also behind the end of a terminal's colour, an escape in quoted text (`\n`), or one in an address (`%3D`).
START = rb"(?:(?<![A-Za-z0-9])|(?<=\[\dm)|(?<=\[\d\dm)|(?<=;\dm)|(?<=;\d\dm)|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2})|(?<=\\u00[0-9a-f]{2}))"
_END = rb"(?![A-Za-z0-9])"
# Those seen most, and those whose body may be of letters alone or cut by marks: each led by fixed letters, searched through all text.
_POPULAR: tuple[tuple[str, bytes], ...] = (
    ("json-web-token", rb"eyJ[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]*){2,4}"),
    ("hugging-face", rb"hf_[A-Za-z0-9]{20,}" + _END),
    ("gitlab", rb"gl(?:pat|rt|rtr|cbt|ptt|dt|ft|soat|oas|agent|imt|ffct|wt)-[A-Za-z0-9_.-]{20,}"),
    ("openai-anthropic", rb"sk-(?!ssh-|ecdsa-)[A-Za-z0-9_-]{20,}"),
    ("aws", rb"A(?:KIA|SIA|ROA|IDA|BIA|CCA)[A-Z0-9]{16}" + _END),
    ("google", rb"AIza[A-Za-z0-9_-]{35}"),
    ("google", rb"GOCSPX-[A-Za-z0-9_-]{20,}"),
    ("slack", rb"xox[abceoprs](?:\.xox[a-z])?-[A-Za-z0-9-]{10,}"),
    ("package-registry", rb"dckr_[po]at_[A-Za-z0-9_-]{20,}"),
    ("stripe", rb"k_(?:live|test|prod)_[A-Za-z0-9]{10,}" + _END),  # sk_ and rk_
    ("telegram", rb":A(?<=\d{5}:A)[A-Za-z0-9_-]{34}(?![A-Za-z0-9_-])"),
    ("mail", rb"SG\.(?:[A-Za-z0-9_=-]{3,}\.[A-Za-z0-9_=.-]{16,}|[A-Za-z0-9_=.-]{60,})"),
)
# kind -> (its first letters, the whole): the first letters are all that is looked for in most text.
_SHAPES: Mapping[str, tuple[tuple[bytes, bytes], ...]] = {
    "hugging-face": ((rb"api_org_", rb"[A-Za-z0-9]{20,}" + _END),),
    "github": ((rb"gh[pousr]_", rb"[A-Za-z0-9]{30,}" + _END), (rb"github_pat_", rb"[A-Za-z0-9_]{30,}" + _END)),
    "gitlab": ((rb"GR1348941", rb"[A-Za-z0-9_-]{20,}"),),
    "aws": ((rb"ABSK", rb"[A-Za-z0-9+/]{60,}={0,2}"),),
    "google": ((rb"1//0", rb"[A-Za-z0-9_-]{40,}"), (rb"ya29\.", rb"[A-Za-z0-9_.-]{20,}")),
    "slack": ((rb"xapp-", rb"\d-[A-Za-z0-9-]{10,}"),),
    "stripe": ((rb"(?:sk|rk)_", rb"(?:live_|test_|prod_)?[A-Za-z0-9]{20,}" + _END), (rb"whsec_", rb"[A-Za-z0-9+/=]{20,}")),
    "package-registry": (
        (rb"pypi-", rb"[A-Za-z0-9_-]{32,}"),
        (rb"npm_", rb"[A-Za-z0-9]{30,}" + _END),
        (rb"rubygems_", rb"[0-9a-f]{40,}"),
        (rb"(?:AKCp|cmVmd)", rb"[A-Za-z0-9]{58,}"),
        (rb"oy2", rb"[a-z0-9]{43}" + _END),
        (rb"CLOJARS_", rb"[a-z0-9]{60}"),
    ),
    "age": ((rb"(?i:AGE-SECRET-KEY-1)", rb"[A-Za-z0-9]{20,}"),),
    "mail": (
        (rb"(?:pub)?key-", rb"[0-9a-f]{32}" + _END),
        (rb"xkeysib-", rb"[0-9a-f]{64}-[A-Za-z0-9]{16}"),
    ),
    "twilio": ((rb"SK", rb"[0-9a-fA-F]{32}" + _END),),
    "square": ((rb"sq0[a-z]{3}-", rb"[A-Za-z0-9_-]{20,}"), (rb"EAAA", rb"[A-Za-z0-9_-]{56,}")),
    "cloud": (
        (rb"do[oprt]_v1_", rb"[0-9a-f]{60,}"),
        (rb"dapi", rb"[0-9a-f]{32}(?:-\d)?" + _END),
        (rb"hv[sbr]\.", rb"[A-Za-z0-9_-]{20,}"),
        (rb"(?:fo1|fm[12][ar]?)_", rb"[A-Za-z0-9_/+=-]{40,}"),
        (rb"v1\.0-", rb"[0-9a-f]{24}-[0-9a-f]{100,}"),
        (rb"LTAI", rb"[A-Za-z0-9]{17,21}" + _END),
        (rb"sha256~", rb"[A-Za-z0-9_-]{43}"),
        (rb"tskey-", rb"[a-z]+-[A-Za-z0-9-]{16,}"),
        (rb"HRKU-", rb"[A-Za-z0-9_-]{30,}"),
        (rb"pul-", rb"[0-9a-f]{40}"),
        (rb"sbp_", rb"[0-9a-f]{40}"),
        (rb"t1\.[A-Z0-9a-z_-]+=*\.", rb"[A-Za-z0-9_-]{86}=*"),
        (rb"pscale_(?:tkn|pw|oauth)_", rb"[A-Za-z0-9_.=-]{32,}"),
    ),
    "service": (
        (rb"gl(?:c|sa)_", rb"[A-Za-z0-9_+/=]{32,}"),
        (rb"shp(?:at|ca|pa|ss)_", rb"[0-9a-fA-F]{32}"),
        (rb"NR(?:AK|JS|II|AA)-", rb"[A-Za-z0-9_-]{19,}"),
        (rb"(?:ATATT3|ATCTT3)", rb"[A-Za-z0-9_=-]{50,}"),
        (rb"dt0[a-z]\d{2}\.", rb"[A-Za-z0-9]{24}\.[A-Za-z0-9]{64}"),
        (rb"PMAK-", rb"[0-9a-f]{24}-[0-9a-f]{34}"),
        (rb"(?:ntn|secret|lin_api|figd|rdme|tfp|pnu|fio-u|aio|duffel_(?:test|live)|shippo_(?:test|live))[_-]", rb"[A-Za-z0-9_=.-]{28,}"),
        (rb"sntry[su]_", rb"[A-Za-z0-9_+/=-]{40,}"),
        (rb"(?:sgp|sm_aat|sbp|vcp|bkua|CCIPAT|CCIPRJ|ico)[_-]", rb"[A-Za-z0-9_-]{24,}"),
        (rb"dp\.(?:pt|st|ct|sa|scim|audit)\.", rb"[A-Za-z0-9_.-]{40,}"),
        (rb"EZ[AT]K", rb"[A-Za-z0-9]{54}"),
        (rb"EAA[A-Z]", rb"[A-Za-z0-9]{60,}" + _END),
        (rb"FLWSECK(?:_TEST)?-", rb"[A-Za-z0-9-]{12,}"),
        (rb"pat[A-Za-z0-9]{14}\.", rb"[0-9a-f]{64}"),
        (rb"(?:pat|sat)\.[A-Za-z0-9_-]{22}\.", rb"[A-Za-z0-9]{24}\.[A-Za-z0-9]{20}"),
        (rb"ops_eyJ", rb"[A-Za-z0-9+/]{100,}={0,3}"),
        (rb"A3-[A-Z0-9]{6}-", rb"(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})-[A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{5}"),
        (rb"API-", rb"[A-Z0-9]{26}" + _END),
        (rb"live_", rb"[A-Za-z0-9_-]{40}" + _END),
        (rb"tk-us-", rb"[A-Za-z0-9_-]{40,}"),
        (rb"p8e-", rb"[A-Za-z0-9]{32}" + _END),
        (rb"(?:sc|ext|scauth|authress)_[A-Za-z0-9]{5,30}\.", rb"[A-Za-z0-9]{4,6}\.acc[_-][A-Za-z0-9-]{10,32}\.[A-Za-z0-9+/_=-]{30,120}"),
        (rb"s-s4t2(?:ud|af)-", rb"[0-9a-f]{64}"),
    ),
    "machine-learning": (
        (rb"(?:gsk|r8|xai|nvapi|pplx|pcsk|csk|fw|tgp_v1|lsv2_(?:pt|sk)|wandb_v1|kgat|jina)[_-]", rb"[A-Za-z0-9_-]{28,}"),
    ),
}  # fmt: skip
# Those without fixed first letters: known by the mark beside their long part.
_ODD: tuple[tuple[str, bytes], ...] = (
    ("discord", rb"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}"),
    ("mail", rb"[0-9a-f]{32}-us\d{1,2}" + _END),
    ("cloud", rb"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{40,}"),
    ("cloud", rb"[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34}"),
    ("service", rb"\d{15,16}(?:\||%7[Cc])[A-Za-z0-9_-]{27,40}"),
)
WEBHOOK = re.compile(
    rb"://(?P<value>hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/]{20,}|discord(?:app)?\.com/api/webhooks/\d+/[A-Za-z0-9_-]{20,}|"
    rb"[\w.-]{1,100}\.webhook\.office\.com/webhookb?2?/[A-Za-z0-9@/-]{40,})"
)
POPULAR = tuple((kind, re.compile(shape)) for kind, shape in _POPULAR)
_STARTS = b"|".join(first for shapes in _SHAPES.values() for first, _ in shapes)
FIRST = re.compile(rb"(?:" + _STARTS + rb")")
_BEGINS = re.compile(START)
_WHOLE = tuple((kind, re.compile(first + rest)) for kind, shapes in _SHAPES.items() for first, rest in shapes)
_ODD_SHAPE = tuple((kind, re.compile(shape)) for kind, shape in _ODD)
ODD_MARKS = b":.~|-%"


def begins_at(raw: bytes, at: int) -> bool:
    """Whether a word begins here."""
    return _BEGINS.match(raw, at) is not None


def shape_at(raw: bytes, at: int) -> tuple[int, str] | None:
    """The end and the kind of the secret that begins at `at`, where one does."""
    if begins_at(raw, at):
        for kind, whole in _WHOLE:
            found = whole.match(raw, at)
            if found:
                return found.end(), kind
    return None


def odd_shapes(raw: bytes, begin: int, end: int) -> Iterator[tuple[int, int, str]]:
    """(begin, end, kind) of those around a long word which have no letters of their own to begin with."""
    for kind, shape in _ODD_SHAPE:
        found = shape.search(raw, max(0, begin - 32), end + 100)
        if found and found.start() < end and begins_at(raw, found.start()):
            yield found.start(), found.end(), kind
