"""A host that answers with real conversations, changed: run as `python -m tests.remote.fuzzing_host SEED COUNT FOLDER`.

The conversations are recorded from a real agent at the start. Each case changes one of them by the grammar of frames and
JSON, plays it to the real client's code over a real socket, and says what came of it. The last line is JSON: what ended
other than an expected failure, how many ended well, and the most memory this process ever had.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from manifests.errors import HemmaError
from remote import broker_client, host
from remote.agent import frames
from remote.session import Session

HANG_S = 5
REFUSED = {"error": "authentication-refused", "message": "no", "remedy": "", "exit_code": 255, "is_final": 1}
Frames = list[tuple[int, bytes, int | None]]
STRANGE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1 << 70,
    1e300,
    "",
    "x" * 5000,
    "\ud800",
    "\x1b[2J\n",
    [],
    [[]],
    {},
    {"a": {}},
)


class Hung(Exception):
    """A case took longer than HANG_S."""


def record(request: dict[str, Any], folder: Path) -> Frames:
    """What a real agent says to one request."""
    code = "import sys; from remote.agent import serve; sys.exit(serve.main())"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=os.getcwd()
    ) as agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        sent = {"state_dir": str(folder / "state"), "root": str(folder / "repo"), "clone": None, **request}
        agent.stdin.write(frames.json_frame(frames.OPEN, 7, sent))
        agent.stdin.flush()
        parser, heard = frames.Parser(frames.FROM_HOST), Frames()
        last = frames.EXIT if request["verb"] in ("run", "attach") else frames.REPLY
        while not any(kind == last for kind, _, _ in heard):
            found = parser.feed(os.read(agent.stdout.fileno(), 1 << 16))
            heard += [(kind, payload, None) for kind, channel, payload in found if channel == 7]
        agent.stdin.close()
    return heard


def requests() -> list[dict[str, Any]]:
    """One of each kind of question; the run comes first, so that there is one."""
    run = {"verb": "run", "run_id": "r1", "argv": ["sh", "-c", "echo out; echo err >&2"], "lease_s": 60.0, "cwd": "."}
    return [
        run,
        {"verb": "attach", "run": "r1", "follow": True},
        {"verb": "list"},
        {"verb": "show", "run": "r1"},
        {"verb": "git-state", "fetch": False, "know": []},
        {"verb": "git-steps", "steps": [{"argv": ["rev-parse", "HEAD"]}]},
        {"verb": "file-read", "path": "README.md"},
        {"verb": "file-read", "path": "README.md", "facts_only": True},
        {"verb": "run-files", "run": "r1", "paths": ["run.json"]},
        {"verb": "values-missing", "names": []},
    ]


# --- changes: each returns whether nothing may end well any more ------------------------------------------------------


def change(chance: random.Random, said: Frames) -> bool:
    """Change a conversation in place."""
    ways = [in_json, in_json, in_json, in_header, in_bytes, in_order, refusal]
    try:
        return chance.choice(ways)(chance, said)
    except (ValueError, IndexError, RecursionError):  # a frame that an earlier change broke, or nothing left in it
        return False


def in_json(chance: random.Random, said: Frames) -> bool:
    """Another value, a missing or a new name, anywhere in the JSON of a frame."""
    places = [place for place, (_, payload, _) in enumerate(said) if payload[:1] == b"{"]
    place = chance.choice(places)
    kind, payload, _ = said[place]
    fields = json.loads(payload)
    inner: list[Any] = [fields]
    for each in inner:
        inner += [v for v in (each.values() if isinstance(each, dict) else each) if isinstance(v, dict | list)]
    target = chance.choice([each for each in inner if each] or [fields])
    key = chance.choice(list(target) if isinstance(target, dict) else range(len(target)))
    if chance.random() < 0.2:
        del target[key]
    elif chance.random() < 0.1:
        said[place] = (kind, payload.replace(b":", b":" + b"[" * chance.choice((40, 5000, 60_000)), 1), None)
        return True
    else:
        target[key] = chance.choice(STRANGE)
    said[place] = (kind, json.dumps(fields).encode(), None)
    is_code = key == "exit_code" and kind == frames.EXIT
    return is_code and target.get(key) not in range(256)


def in_header(chance: random.Random, said: Frames) -> bool:
    """Another length or kind than it has."""
    place = chance.randrange(len(said))
    kind, payload, _ = said[place]
    if chance.random() < 0.5:
        other = chance.choice([k for k in (0, 1, 5, 16, 17, 18, 19, 20, 21, 22, 24, 99, 255) if k != kind])
        said[place] = (other, payload, None)
        return other not in frames.FROM_HOST
    claimed = chance.choice((0xFFFFFFF0, 1 << 31, frames.MAX_PAYLOAD + 1, len(payload) + 5))
    said[place] = (kind, payload, claimed)
    return claimed > frames.MAX_PAYLOAD


def in_bytes(chance: random.Random, said: Frames) -> bool:
    """A few other bytes, or an end within a frame."""
    place = chance.randrange(len(said))
    kind, payload, _ = said[place]
    if chance.random() < 0.5:
        del said[place + 1 :]
        said[place] = (kind, payload[: chance.randrange(len(payload))], len(payload))
        return True
    changed = bytearray(payload)
    for _ in range(chance.randint(1, 4)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    said[place] = (kind, bytes(changed), None)
    return False


def in_order(chance: random.Random, said: Frames) -> bool:
    """A frame twice, not at all, or in another place."""
    place = chance.randrange(len(said))
    is_output = said[place][0] in (frames.OUT, frames.ERR)
    if chance.random() < 0.5:
        said.insert(place, said[place])
        return is_output
    gone = said.pop(place)
    if said and chance.random() < 0.5:
        said.insert(chance.randrange(len(said)), gone)
        return False
    return is_output or gone[0] in (frames.REPLY, frames.EXIT)


def refusal(chance: random.Random, said: Frames) -> bool:
    """A refusal that wants to pass for success."""
    code = chance.choice((0, 1 << 70, -1, True, "0", None, [], 255))
    fields = {"error": "made-up", "message": "ok  all good", "exit_code": code}
    said.insert(chance.randrange(len(said)), (frames.REPLY, json.dumps(fields).encode(), None))
    return True


# --- playing ---------------------------------------------------------------------------------------------------------


class Player:
    """Stands where the broker stands: the first connection hears the conversation, every later one that it may not in."""

    def __init__(self, said: Frames) -> None:
        self.said: bytes | None = b"".join(
            frames.HEADER.pack(kind, 0, len(payload) if claimed is None else claimed) + payload
            for kind, payload, claimed in said
        )
        self.theirs: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """A connection for the client."""
        ours, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        data = frames.json_frame(frames.LINK_LOST, 0, REFUSED) if self.said is None else self.said
        self.said = None
        theirs.sendall(data[: 1 << 20])
        theirs.shutdown(socket.SHUT_WR)
        self.theirs.append(theirs)
        return ours

    def close(self) -> None:
        """Let go of both ends."""
        for sock in self.theirs:
            sock.close()


def play(request: dict[str, Any], said: Frames) -> bool:
    """Whether the client took the conversation for one that ended well. Raises what the client raises."""
    player = Player(said)
    broker_client.connect = player.connect  # type: ignore[assignment]
    try:
        if request["verb"] not in ("run", "attach"):
            host.ask({}, request, 5.0)
            return True
        taken: list[int] = []
        session = Session({}, request, (lambda p: taken.append(len(p)), lambda p: taken.append(len(p))))
        try:
            return session.follow().get("exit_code") == 0
        finally:
            session.detach()
    except HemmaError as error:
        if not 0 < error.exit_code < 256:
            raise
        return False
    finally:
        player.close()


def on_alarm(*_: object) -> None:
    """A case hangs."""
    raise Hung


def main(seed: int, count: int, folder: Path) -> None:
    """Play `count` cases."""
    signal.signal(signal.SIGALRM, on_alarm)
    recorded = [(request, record(request, folder)) for request in requests()]
    untouched = [request["verb"] for request, said in recorded if not play(request, list(said))]
    chance, found, well = random.Random(seed), list[str](), 0
    for number in range(count):
        request, original = chance.choice(recorded)
        said = list(original)
        is_fatal = change(chance, said)
        if said and chance.random() < 0.3:  # which may undo the first
            change(chance, said)
            is_fatal = False
        signal.alarm(HANG_S)
        try:
            is_well = play(request, said)
            well += is_well
            if is_well and is_fatal:
                found.append(f"case {number}: {request['verb']} took {said!r:.2000} for success")
        except BaseException:  # noqa: BLE001 - whatever it is, it is what we look for
            found.append(f"case {number}: {request['verb']} {said!r:.1000}\n{traceback.format_exc()}")
        finally:
            signal.alarm(0)
    status = Path("/proc/self/status").read_text()
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])
    print(json.dumps({"untouched": untouched, "found": found[:5], "well": well, "peak_mb": peak_kib / 1024}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
