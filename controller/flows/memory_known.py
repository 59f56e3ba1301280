"""Which bytes of a log are known to be one, and where its next entry goes: an append then reads nothing of it again.

Kept in the cache folder, under the digest of the whole file: after an edit by anybody else the log is read as ever.
Losing it costs a little time and nothing more.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from contextlib import suppress

from lanes.memory import Place
from manifests.places import cache_dir, private_dir


def recall(path: str, raw: bytes) -> Place | None:
    """The place for the next entry in the log at `path`, if its bytes are those that were kept."""
    try:
        with open(_file(path), encoding="ascii") as file:
            digest, at, count, first = json.load(file)
    except (OSError, ValueError, TypeError):
        return None
    if digest != _digest(raw) or not (isinstance(at, int) and isinstance(count, int) and isinstance(first, str)):
        return None
    return Place(at, count, first)


def keep(path: str, raw: bytes, place: Place) -> None:
    """Note the bytes that a log has now. A cache that cannot be written is none."""
    file = _file(path)
    beside = f"{file}.{os.getpid()}"
    with suppress(OSError):
        private_dir(os.path.dirname(file))
        with open(beside, "w", encoding="ascii") as made:
            json.dump([_digest(raw), *dataclasses.astuple(place)], made)
        os.replace(beside, file)


def _file(path: str) -> str:
    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:24]
    return os.path.join(cache_dir(), "memory", f"{name}.json")


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
