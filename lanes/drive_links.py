"""Every public form of a link to Drive or Colab, read to an id and a resource key (S9-R15, S9-R16).

An id that a person has is used as it is; nothing is searched for when one was given. What is no such link is refused
with the reason, because "not found" later would hide a slip in the address.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from manifests.commands import Remedy, command

from lanes.verdict import Reason, Verdict

Kind = Literal["folder", "file", "unknown"]
RULE = "a link or id names one file or folder of Drive"
EXAMPLE = "https://drive.google.com/drive/folders/ID, or the bare ID"
_COPY = command("copy the address from the browser, e.g. {}", EXAMPLE)
MAX_LENGTH = 4096

_ID = r"[A-Za-z0-9_-]{10,}"
_ACCOUNT = r"(?:a/[^/]+/)?(?:u/\d+/)?"
# (hosts, pattern of the path, kind); the first that fits counts.
_DRIVE = ("drive.google.com", "docs.google.com")
_PATHS: tuple[tuple[tuple[str, ...], str, Kind], ...] = (
    (_DRIVE, rf"{_ACCOUNT}(?:drive/)?(?:mobile/)?{_ACCOUNT}(?:mobile/)?folders/(?:{_ID}/)*(?P<id>{_ID})", "folder"),
    (_DRIVE, rf"{_ACCOUNT}folder/d/(?P<id>{_ID})(?:/.*)?", "folder"),
    (_DRIVE, rf"{_ACCOUNT}file/{_ACCOUNT}d/(?P<id>{_ID})(?:/.*)?", "file"),
    (
        _DRIVE,
        rf"{_ACCOUNT}(?:document|spreadsheets|presentation|forms|drawings|videos|vids)/{_ACCOUNT}d/(?P<id>{_ID})(?:/.*)?",
        "file",
    ),
    (("colab.research.google.com", "colab.google"), rf"{_ACCOUNT}(?:notebooks/)?drive/(?P<id>{_ID})(?:/.*)?", "file"),
    (("lh3.googleusercontent.com",), rf"(?:u/\d+/)?d/(?P<id>{_ID})(?:=.*)?", "file"),
    (("www.googleapis.com", "content.googleapis.com"), rf"(?:upload/)?drive/v[23]/files/(?P<id>{_ID})", "unknown"),
)
# Pages whose `id` parameter names the file: host -> last part of the path -> kind.
_PAGES: dict[str, dict[str, Kind]] = {
    "drive.google.com": {
        "open": "unknown", "uc": "file", "leaf": "unknown", "thumbnail": "file", "viewer": "file",
        "folderview": "folder", "embeddedfolderview": "folder",
    },
    "docs.google.com": {"open": "unknown", "uc": "file", "leaf": "unknown", "viewer": "file", "folderview": "folder"},
    "drive.usercontent.google.com": {"download": "file", "uc": "file"},
}  # fmt: skip
# Pages that lead on to another address, in these parameters.
_WRAPPED = {"accounts.google.com": ("continue", "followup"), "www.google.com": ("q", "url"), "google.com": ("q", "url")}
_SHORT = ("goo.gl", "bit.ly", "tinyurl.com", "t.co", "g.co", "forms.gle")
_KNOWN = {host for hosts, _, _ in _PATHS for host in hosts} | set(_PAGES)


@dataclass(frozen=True)
class DriveLink:
    """What a link names. `resource_key`: what older shared items need besides their id; None when the link holds none."""

    id: str
    kind: Kind = "unknown"
    resource_key: str | None = None


@dataclass(frozen=True)
class _Address:
    host: str
    path: str
    query: dict[str, str]
    fragment: str


def parse_link(text: str) -> DriveLink | Verdict:
    """The id that `text` names, or a verdict that says what it is instead. Requirement: S9-R15, S9-R16.

    Reads links to folders, files, documents and notebooks with any account number, domain, tracking parameter or
    fragment; `open?id=`, `uc?id=`, Colab's `drive/ID` and `#fileId=`, API addresses, links wrapped by a sign-in page
    or a search result, and bare ids; `root` is My Drive. Never asks anyone.
    """
    return _parse(text, depth=0)


def folder_link(folder_id: str) -> str:
    """The address at which a person sees a folder."""
    return f"https://drive.google.com/drive/folders/{folder_id}"


def colab_link(file_id: str) -> str:
    """The address that opens a notebook in Colab."""
    return f"https://colab.research.google.com/drive/{file_id}"


def looks_like_id(text: str) -> bool:
    """Whether a word may be a bare id: random ids of 19 or more characters hold a digit and a capital, names rarely do."""
    return bool(re.fullmatch(r"[A-Za-z0-9_-]{19,100}", text) and re.search(r"\d", text) and re.search(r"[A-Z]", text))


def _parse(text: str, depth: int) -> DriveLink | Verdict:
    given = text.strip().strip("<>\"'`").rstrip(").,;]")
    if not given:
        return _no("nothing was given")
    if len(given) > MAX_LENGTH or any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in given):
        return _no("it is longer than any link or holds control characters")
    if given == "root" or looks_like_id(given):
        return DriveLink(given, "folder" if given == "root" else "unknown")
    address = _address(given)
    if address is None:
        return _no(f"`{_shown(given)}` is no address and too short, or too plain, for an id")
    if address.host in _WRAPPED and depth < 3:
        inner = next((address.query[name] for name in _WRAPPED[address.host] if name in address.query), "")
        return _parse(inner, depth + 1) if inner else _no(f"{address.host} leads to no file by itself")
    return _of(address, depth)


def _of(address: _Address, depth: int) -> DriveLink | Verdict:
    why = _why_not(address)
    if why:
        return why
    key = address.query.get("resourcekey") or address.query.get("resourceKey") or None
    if key is not None and not re.fullmatch(r"[A-Za-z0-9_-]+", key):
        return _no("its resource key holds letters that no key has")
    for hosts, pattern, kind in _PATHS:
        found = re.fullmatch(pattern, address.path) if address.host in hosts else None
        if found:
            return DriveLink(found["id"], kind, key)
    return _by_parameter(address, key) or _by_fragment(address, key, depth) or _no(_without_id(address))


def _by_parameter(address: _Address, key: str | None) -> DriveLink | None:
    page = re.sub(rf"^{_ACCOUNT}", "", address.path)
    page = re.sub(rf"^(?:drive/)?{_ACCOUNT}", "", page)
    kind = _PAGES.get(address.host, {}).get(page)
    value = address.query.get("id") or address.query.get("srcid") or ""
    return DriveLink(value, kind, key) if kind and re.fullmatch(_ID, value) else None


def _by_fragment(address: _Address, key: str | None, depth: int) -> DriveLink | Verdict | None:
    """Older folder links (`#folders/A/B`), and Colab's `#fileId=` with an id or a whole link."""
    folder = re.fullmatch(rf"folders/(?:{_ID}/)*(?P<id>{_ID})", address.fragment)
    if folder and address.host == "drive.google.com":
        return DriveLink(folder["id"], "folder", key)
    file = re.match(r"(?:.*&)?fileId=(?P<id>[^&]+)", address.fragment)
    if not file or not address.host.startswith("colab."):
        return None
    value = _unquoted(file["id"]).partition("?")[0] if "://" not in file["id"] else _unquoted(file["id"])
    if re.fullmatch(_ID, value):
        return DriveLink(value, "file", key)
    return _parse(value, depth + 1) if depth < 3 else None


def _why_not(address: _Address) -> Verdict | None:
    host = address.host
    if host in _SHORT:
        return _no(f"{host} shortens addresses", "open it in a browser and copy the address that it leads to")
    if host not in _KNOWN:
        return _no(f"{host} is neither Drive nor Colab")
    if "/d/e/" in f"/{address.path}":
        return _no("it is a page published to the web, which has no file id", "copy the link of the file itself")
    if host.startswith("colab.") and re.match(r"(?:u/\d+/)?(?:github|gist)/", address.path):
        return _no("the notebook lies on GitHub, not in Drive", "save a copy in Drive, or give a Drive link")
    return None


def _without_id(address: _Address) -> str:
    last = address.path.rstrip("/").rpartition("/")[2]
    pages = ("my-drive", "recent", "starred", "trash", "shared-with-me", "shared-drives", "home", "priority", "search")
    if last in pages:
        return f"it is Drive's page `{last}`, which is no folder"
    return f"the address `{_shown(address.host + '/' + address.path)}` holds no id"


def _address(text: str) -> _Address | None:
    found = re.fullmatch(
        r"(?:(?:https?:)?//)?(?P<host>[A-Za-z0-9.-]+)(?::(?:80|443))?(?:/(?P<path>[^?#]*))?(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?",
        text,
    )
    if not found or "." not in found["host"]:
        return None
    pairs = [part.partition("=") for part in re.split("[&;]", (found["query"] or "").replace("&amp;", "&"))]
    query = {_unquoted(name): _unquoted(value) for name, sign, value in reversed(pairs) if sign}
    path = re.sub("/{2,}", "/", _unquoted(found["path"] or "")).strip("/")
    return _Address(found["host"].lower().rstrip("."), path, query, _unquoted(found["fragment"] or ""))


def _unquoted(text: str) -> str:
    """Percent escapes of ASCII undone; others stay, no id holds any. (urllib is out of bounds here: it can also fetch.)"""
    return re.sub("%([0-7][0-9A-Fa-f])", lambda found: chr(int(found[1], 16)), text)


def _shown(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _no(fact: str, step: Remedy = _COPY) -> Verdict:
    return Verdict(False, (Reason(RULE, fact),), (step,))
