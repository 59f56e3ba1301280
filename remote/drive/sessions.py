"""Addresses of unfinished uploads on disk, so that the next process goes on where this one broke."""

from __future__ import annotations

import threading
from collections.abc import Iterator, MutableMapping

from manifests.errors import HemmaError
from manifests.files import read_json, write_json

KEPT = 200  # Drive forgets them after a week; a crash loop must not grow the file


class UploadSessions(MutableMapping[str, str]):
    """A small dict in the file at `path`, 0600: whoever has an address can write that one upload. One process at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._known = {key: str(value) for key, value in read_json(path).items()}
        except HemmaError:
            self._known = {}

    def __getitem__(self, key: str) -> str:
        return self._known[key]

    def __setitem__(self, key: str, value: str) -> None:
        with self._lock:
            self._known.pop(key, None)
            self._known[key] = value
            for old in list(self._known)[:-KEPT]:
                del self._known[old]
            write_json(self._path, dict(self._known))

    def __delitem__(self, key: str) -> None:
        with self._lock:
            del self._known[key]
            write_json(self._path, dict(self._known))

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._known))

    def __len__(self) -> int:
        return len(self._known)
