"""The first stage: what `python3 -c` runs on the host before anything of ours is there.

It reads one line, `<sha256> <length> <state folder as JSON>`, from stdin. A zip of that digest in the cache is started at once; else it asks for
the bytes, checks them, stores them by rename and starts them. Everything it says begins with MAGIC, so that banners and
start-up files that print are skipped by the reader. It must parse on any Python 3, to be able to say that 3.9 is needed.
"""

# This file's source is sent as it is. On the host `source` is the binary stdin it came from.

import hashlib
import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

MAGIC = b"\x00hemma\x01\xf5"
OLDEST = (3, 9)


def say(word: str) -> None:
    """One word to the controller, after the magic token."""
    os.write(1, MAGIC + word.encode("utf-8", "replace") + b"\n")


def digest_of(path: str) -> str:
    """The sha256 of a file, or an empty string when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except (IOError, OSError):
        return ""


def make_private(path: str) -> None:
    """Make a folder and whatever is missing above it with mode 0700."""
    if not os.path.isdir(path):
        make_private(os.path.dirname(path))
        os.mkdir(path, 0o700)


def receive(source: "BinaryIO", length: int, digest: str, path: str) -> None:
    """Read exactly `length` bytes, check them, put them in place by one rename."""
    data = b""
    while len(data) < length:
        piece = source.read(length - len(data))
        if not piece:
            sys.exit(0)
        data += piece
    if hashlib.sha256(data).hexdigest() != digest:
        say("BROKEN digest")
        sys.exit(1)
    temporary = "%s.%d" % (path, os.getpid())
    handle = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    os.rename(temporary, path)


def main(source: "BinaryIO") -> None:
    """Find or fetch the agent and become it."""
    digest, length, place = source.readline().decode("ascii").split(" ", 2)
    state_dir = json.loads(place)
    if sys.version_info[:2] < OLDEST:
        say("OLD " + sys.version.split()[0])
        sys.exit(1)
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "hemma", "agent")
    if state_dir:  # whoever keeps the state elsewhere has no room, or no right to write, in the home
        cache = os.path.join(os.path.expanduser("~"), os.path.expanduser(state_dir), "agent")
    path = os.path.join(cache, digest + ".zip")
    try:
        make_private(cache)
        # Whoever else may write there could put another agent between the look at its digest and its start.
        if os.lstat(cache).st_uid != os.geteuid() or os.stat(cache).st_mode & 0o022:
            say("DISK %s: it is not yours alone (see ls -ld)" % cache)
            sys.exit(1)
        if digest_of(path) != digest:
            say("SEND")
            receive(source, int(length), digest, path)
    except (IOError, OSError) as error:
        say("DISK %s: %s" % (cache, error.strerror))
        sys.exit(1)
    say("READY")
    sys.path.insert(0, path)
    from hemma_agent import serve  # type: ignore[import-not-found]

    sys.exit(serve.main())  # type: ignore[import-not-found]


if __name__ == "__main__":
    main(globals()["source"])
