#!/usr/bin/env python3
"""What a host may have in place of Python: speaks as Hemma's agent does, and says what the file `says` beside it holds.

`says` is JSON: a list of [kind, payload as latin-1 text, length that the header claims or null] and perhaps another channel than the
request's and how often; `@RUN@` in a payload is the run id of the request. Without that file it is silent. It runs by itself on the host, hence its own copy of the wire's constants.
"""

import json
import os
import struct
import sys
import time

HEADER = struct.Struct(">BII")
MAGIC = b"\x00hemma\x01\xf5"
OPEN, REPLY = 1, 17
HERE = os.path.dirname(os.path.abspath(__file__))


def tell(data: bytes) -> None:
    """Write all of it."""
    while data:
        data = data[os.write(1, data) :]


def frame(kind: int, channel: int, payload: bytes, length: "int | None" = None) -> bytes:
    """A frame whose header claims any length."""
    return HEADER.pack(kind, channel, len(payload) if length is None else length) + payload


def heard(size: int) -> bytes:
    """So many bytes of what the broker sends; ends with the connection."""
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            sys.exit(0)
        data += piece
    return data


def main() -> None:
    """Answer every request with what the file says now."""
    os.read(0, 4096)
    tell(MAGIC + b"READY\n")
    tell(frame(REPLY, 0, json.dumps({"python": "3.11.0", "pid": os.getpid(), "boot_id": "b"}).encode()))
    while True:
        kind, channel, length = HEADER.unpack(heard(HEADER.size))
        payload = heard(length)
        if kind != OPEN:
            continue
        try:
            with open(os.path.join(HERE, "says"), encoding="utf-8") as file:
                says = json.load(file)
        except OSError:
            continue
        asked = json.loads(payload)
        run = str(asked.get("run_id") or asked.get("run") or "r1").encode()
        for kind, text, claimed, *more in says:
            if kind == 0:
                time.sleep(float(text))
                continue
            said = frame(kind, more[0] if more else channel, text.encode("latin-1").replace(b"@RUN@", run), claimed)
            for _ in range(more[1] if len(more) > 1 else 1):
                tell(said)


main()
