"""Secrets in headers, addresses, cookies, armoured keys and lines of commands: found at the mark or word that leads to them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lanes.redaction_commands import spans_in
from lanes.redaction_names import PLACE
from lanes.redaction_shapes import WEBHOOK
from lanes.redaction_source import Finder, Source, Span

# --- headers, addresses, keys -----------------------------------------------------------------------------------------

_SCHEME_END = re.compile(rb"://")
_HAS_LOGIN = re.compile(rb"""://[^\s"'<>`@]{0,600}@""")
_URL = re.compile(
    rb"""://(?P<user>[^\s/:"'<>?#]{0,200}):(?P<password>(?!\d{1,5}(?:[/?#]|@[^\s/]*[:@]\d))[^\s"'<>`]{1,300}?)@(?=[\w.\[$-]+(?:[:/?#\s"'<>`,;)\]]|\Z))(?![^\s/"'<>`]{0,300}@[\w.-]+(?:[:/?#\s"'<>`,;)\]]|\Z))"""
)
_URL_TOKEN = re.compile(
    rb"""://(?P<token>(?=[^\s/@]*[0-9])(?=[^\s/@]*[A-Za-z])[A-Za-z0-9_~%+.=-]{16,300})@(?=[\w.-])"""
)
_URL_WORDS = re.compile(
    r"(?i)\{.*|\$.*|<.*|%[({].*|\*+|x+|\.+|pass(?:w(?:or)?d)?|passwd|pwd|secret|token|your.*|\[redacted.*|access[_-]?token|api[_-]?key|oauth|git"
)
_AUTH_NAME = re.compile(rb"auth")
_AUTHORIZATION = re.compile(
    rb"""authorization\\{0,3}["'`]?\]?\s{0,2}[:=,]\s{0,2}(?:[rbuf]{0,2})\\{0,3}["'`]?(?:(?P<scheme>bearer|basic|token|apikey|digest|negotiate|bot|key|ssws|splunk|aws4-hmac-sha256)[ \t]+)?(?P<value>[^\s"'`\\<>{}$\[(][^\n"'`\\<>{}]{7,2000})"""
)
_SCHEME = re.compile(rb"(?:bearer|basic)[ \t]+(?P<value>(?=\S*[0-9=])[a-z0-9._~+/=-]{8,})")
_AUTH = re.compile(
    rb"""auth\\{0,3}["']?[ \t]{0,2}(?:[=:][ \t]{0,2}\([ \t]{0,2}[rbuf]{0,2}["'][^"'\n]{0,80}["'][ \t]{0,2},[ \t]{0,2}[rbuf]{0,2}["'](?P<second>[^"'\n]{4,200})["']|"""
    rb"""[=:][ \t]{0,2}\\{0,3}["']?(?P<value>[A-Za-z0-9+/_-]{8,2000}={0,2})(?![\w.(\[/+-]))"""
)
_SIGNATURE = re.compile(rb"sig(?:nature)?=(?P<value>[a-z0-9%+/=_.~-]{20,})")
_COOKIE_NAME = re.compile(rb"cookie")
_COOKIE_SET = re.compile(rb"cookie=[\"']?(?P<value>(?=[^\s\"']*[0-9])[^\s\"',;()\[\]{}]{10,})")
_COOKIE = re.compile(
    rb"""cookie\\{0,3}["']?\]?[ \t]{0,2}[:,][ \t]{0,2}\\{0,3}["']?(?P<value>[\w.-]{1,80}=(?=[^\n"'\\]*[0-9])[^\s;,"'\\]{6,}[^\n"'\\]*)"""
)
_SESSION = re.compile(
    rb"sess(?:ion|ion_?id|_?id)(?:=|[\"']?: ?[\"'])(?P<value>(?=[a-z%._~+/:-]*[0-9])[a-z0-9%._~+/:-]{16,})"
)
_IDENTIFIED = re.compile(rb"""identified[ \t]+(?:with[ \t]+\S+[ \t]+)?by[ \t]+["'](?P<value>[^"'\n]{1,200})["']""")
_PGPASS = re.compile(rb":5432:[^:\s]{1,80}:[^:\s]{1,80}:(?P<value>[^\s:@/]{4,200})")
_HEADER = re.compile(rb"-----begin (?:[a-z0-9]+ ){0,3}private key(?: block)?-----")
_FOOTER = re.compile(rb"-----end [a-z0-9 ]+-----")
_BODY = re.compile(rb"(?:(?:\\[nr]|[\s\"'+,\\>])*(?:[A-Za-z0-9+/=]{16,}|[A-Z][A-Za-z-]{2,20}: [^\n\\]{1,80}))+")
_FAR = 20_000
_SHORTEST_KEY = 16


def _in_addresses(source: Source) -> Iterator[Span]:
    raw = source.raw
    for mark in _SCHEME_END.finditer(raw):
        at = mark.start()
        webhook = WEBHOOK.match(raw, at)
        if webhook:
            yield Span(*webhook.span("value"), "webhook")
        if not _HAS_LOGIN.match(raw, at):
            continue
        for pattern, group in ((_URL, "password"), (_URL_TOKEN, "token")):
            found = pattern.match(raw, at)
            if found:
                begin, end = found.span(group)
                value = source.text[begin:end]
                if not _URL_WORDS.fullmatch(value) and not PLACE.fullmatch(value):
                    yield Span(begin, end, "url-password")


def _in_headers(source: Source) -> Iterator[Span]:
    for name in _AUTH_NAME.finditer(source.low):
        for pattern, told in ((_AUTHORIZATION, _header), (_AUTH, _login)):
            found = pattern.match(source.low, name.start())
            if found:
                yield from told(source, found)
    for found in _SCHEME.finditer(source.low):
        if not found["value"].isalpha():
            yield Span(*found.span("value"), "authorization")


def _header(source: Source, found: re.Match[bytes]) -> Iterator[Span]:
    """What an Authorization header holds: of the schemes with several parts all of it."""
    begin, end = found.span("value")
    value, scheme = source.text[begin:end], found["scheme"]
    if scheme is None and " " in value.strip() and not re.match(r"\S*\d\S* ", value):
        return
    word = value if scheme in (b"digest", b"aws4-hmac-sha256") else value.split()[0].rstrip(",;)")
    if not PLACE.fullmatch(word) and "(" not in word and _is_token(word):
        yield Span(begin, begin + len(word), "authorization")


def _is_token(word: str) -> bool:
    return re.search(r"\d|=", word) is not None or (re.search(r"[a-z][A-Z]", word) is not None and len(word) >= 16)


def _login(source: Source, found: re.Match[bytes]) -> Iterator[Span]:
    """`auth` as clients of HTTP take it (a pair), and as Docker and npm keep it (in base64)."""
    group = "second" if found["second"] is not None else "value"
    begin, end = found.span(group)
    value = source.text[begin:end]
    if group == "second":
        if not PLACE.fullmatch(value) and value.lower() not in ("pass", "password", "passwd"):
            yield Span(begin, end, "named-value")
    elif _is_token(value) and re.search(r"[A-Z]", value) and not re.fullmatch(r"[A-Z]?[a-z_]*\d?", value):
        yield Span(begin, end, "named-value")


def _in_signatures(source: Source) -> Iterator[Span]:
    low = source.low
    for found in _SIGNATURE.finditer(low):
        if low[found.start() - 1 : found.start()] in (b"?", b"&", b";", b"6", b"-", b" ", b"") and re.search(
            rb"\d", found["value"]
        ):
            yield Span(*found.span("value"), "signature")


def _in_cookies(source: Source) -> Iterator[Span]:
    for name in _COOKIE_NAME.finditer(source.low):
        found = _COOKIE.match(source.low, name.start()) or _COOKIE_SET.match(source.low, name.start())
        if found and not PLACE.fullmatch(source.text[found.start("value") : found.end("value")]):
            yield Span(*found.span("value"), "cookie")


def _simple(pattern: re.Pattern[bytes], kind: str) -> Finder:
    """A finder of the group `value` of an expression over the text in lower case."""

    def find(source: Source) -> Iterator[Span]:
        for found in pattern.finditer(source.low):
            begin, end = found.span("value")
            if not PLACE.fullmatch(source.text[begin:end]):
                yield Span(begin, end, kind)

    return find


def _in_statements(source: Source) -> Iterator[Span]:
    """Passwords in statements of SQL; in lower case only behind what makes a user, for a sentence may say the same."""
    for found in _IDENTIFIED.finditer(source.low):
        at = found.start()
        if source.raw[at : at + 10].isupper() or b"user" in source.low[max(0, at - 100) : at]:
            yield Span(*found.span("value"), "named-value")


def _private_keys(source: Source) -> Iterator[Span]:
    """A private key, whole; without its end (cut, or named in code) only as far as what follows looks like one."""
    for head in _HEADER.finditer(source.low):
        foot = _FOOTER.search(source.low, head.end(), head.end() + _FAR)
        again = source.low.find(b"-----begin", head.end(), foot.start()) if foot else 0
        if foot and again < 0 and foot.start() - head.end() >= _SHORTEST_KEY:
            yield Span(head.start(), foot.end(), "private-key")
            continue
        body = _BODY.match(source.raw, head.end())
        if body:
            yield Span(head.start(), body.end(), "private-key")


# --- commands in text -------------------------------------------------------------------------------------------------

_SHORT_OPTION = (
    re.compile(rb" -[upawkb](?=[^-])"),
    re.compile(rb"'-[upawkb]"),
    re.compile(rb" --(?:proxy-)?user[ =]"),
    re.compile(rb"login "),
    re.compile(rb"config(?:ure)? set "),
)
_PROGRAM = re.compile(
    rb"(?<![\w.-])(?:curl|mysql\w*|mariadb[\w-]*|sshpass|docker|podman|nerdctl|buildah|skopeo|helm|oras|wandb|vault|az|oc|twine|redis-cli|mongo\w*|"
    rb"ldap\w+|sqlcmd|bcp|zip|unzip|7z\w?|ssh-keygen|smbclient|lftp|htpasswd|kaggle|aws|npm|yarn|pip|comet|openssl|ipmitool|swanlab|neptune)(?:\.exe)?[\"',]*[ \t]"
)
_LINE = 2000
_MOST_IN_LINE = 4
# A command that a page quotes, or that a shell puts in place of itself, ends at its backtick: what follows is prose.
_BACKTICK_BEFORE = re.compile(rb"""(?:(?<![^\s(\[{"'|*>=$+-])|(?<=\\n))`(?=\S)[^`\n]{0,80}\Z|`\Z""")
_BACKTICK = re.compile(rb"(?<!\\)`")
_LISTED_WORD = re.compile(rb"""(?P<mark>["'])[^\n]*?(?P=mark)""")
_SHELL_WORD = re.compile(rb"""(?:"(?:\\.|[^"\\\n])*"|'[^'\n]*'|\\\n|[^\s"'|;&])+""")


def _in_commands(source: Source) -> Iterator[Span]:
    """Secrets in the lines of commands, where only their place tells."""
    for pattern in _SHORT_OPTION:
        scanned = covered = burst = 0
        for option in pattern.finditer(source.low):
            line = source.low.rfind(b"\n", max(0, option.start() - _LINE), option.start()) + 1
            for program in _PROGRAM.finditer(source.low, max(line, option.start() - _LINE, scanned), option.end() + 1):
                # A line of nothing but programs is no command: a few of them are looked at, so that it takes no minutes.
                covered, burst = (program.end() + _LINE, 0) if program.start() >= covered else (covered, burst + 1)
                is_name = source.raw[program.start() - 1 : program.start()] in (b'"', b"'") and b"," not in program[0]
                if burst < _MOST_IN_LINE and not is_name:
                    yield from _in_command(source, program.start())
            scanned = option.start()


def _in_command(source: Source, begin: int) -> Iterator[Span]:
    words: list[str] = []
    places: list[int] = []
    end = source.raw.find(b"\n", begin)
    while end > 0 and source.raw[end - 1 : end] == b"\\" and end - begin < 4000:  # a command over several lines
        end = source.raw.find(b"\n", end + 1)
    stop_at = min(end if end >= 0 else len(source.raw), begin + 2000)
    if _BACKTICK_BEFORE.search(source.raw, max(0, begin - 82), begin):
        closing = _BACKTICK.search(source.raw, begin, stop_at)
        stop_at = closing.start() if closing else stop_at
    is_listed = source.raw[begin - 1 : begin] in (b'"', b"'")  # the words of a command as Python and JSON write a list
    for word in (_LISTED_WORD if is_listed else _SHELL_WORD).finditer(source.raw, begin - is_listed, stop_at):
        text = source.text[word.start() : word.end()]
        lead = len(text) - len(text.lstrip("[(\"'"))
        bare = text[lead:].rstrip("\"')],")
        if bare and bare != "\\\n":
            words.append(bare)
            places.append(word.start() + lead)
    for index, start, stop in spans_in(words):
        yield Span(places[index] + start, places[index] + stop, "named-value")


FINDERS: tuple[Finder, ...] = (
    _private_keys,
    _in_addresses,
    _in_headers,
    _in_signatures,
    _in_cookies,
    _simple(_SESSION, "cookie"),
    _in_statements,
    _simple(_PGPASS, "named-value"),
    _in_commands,
)
