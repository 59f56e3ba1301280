"""Does a link lead anywhere? Asked when it counts: a path is there, a page answers, a second host has the folder (S14-R05)."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from manifests.errors import HemmaError
from training.course import Course
from training.persist_backends import backend_for

TIMEOUT_S = 20.0
_SCHEMES = ("http", "https", "file", "sftp")


def unresolved(course: Course, links: Mapping[str, str]) -> dict[str, str]:
    """Of these links by name, those that do not resolve now, each with why."""
    found = {name: _fault(course, str(url)) for name, url in links.items()}
    return {name: why for name, why in found.items() if why}


def is_link(text: str) -> bool:
    """Whether `text` is a URL that a person can follow: a scheme that is known here, and a host or a path."""
    parts = _parts(text)
    return parts is not None and (bool(parts[1]) if parts[0] != "file" else bool(parts[2]))


def _fault(course: Course, url: str) -> str | None:
    if not is_link(url):
        return f"{url!r} is neither a URL nor a path"
    scheme, _, path = _parts(url) or ("", "", "")
    if scheme == "file":
        return None if Path(path).exists() else f"{path} is not there"
    if scheme == "sftp":
        return _host_fault(course)
    return _page_fault(url)


def _parts(text: str) -> tuple[str, str, str] | None:
    try:
        parts = urlsplit(text.strip())
        host = parts.hostname or ""
    except ValueError:
        return None
    return (parts.scheme, host, unquote(parts.path)) if parts.scheme in _SCHEMES else None


def _host_fault(course: Course) -> str | None:
    try:
        backend_for(course.job["persist"], root=course.root, name=course.job["name"]).resolve()
    except HemmaError as error:
        return error.message
    return None


def _page_fault(url: str) -> str | None:
    """A private page answers to the token alone, which goes to the hub's own address and nowhere else."""
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    token = os.environ.get("HF_TOKEN") if url.startswith(f"{hub}/") else None
    request = urllib.request.Request(  # noqa: S310 - the scheme was looked at
        url, method="HEAD", headers={"Authorization": f"Bearer {token}"} if token else {}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310
            return None
    except urllib.error.HTTPError as error:
        return f"{url} answers {error.code} {error.reason}"
    except (OSError, ValueError) as error:
        return f"{url}: {error}"
