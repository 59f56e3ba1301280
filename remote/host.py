"""Questions to one host: one request, one reply, over the same warm link as everything else."""

from __future__ import annotations

import json
import os
import time

from manifests.errors import ConnectionLost, from_dict
from remote import broker_client, clone_witness
from remote.agent import frames
from remote.session import HostRefused, refusal_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

# What reads or changes the clone at the root: the agent compares it with this folder's before it does anything.
CLONE_VERBS = ("git-state", "git-steps", "file-read", "file-write")


class Host:
    """The host that settings describe (`spec` is their `host` part)."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec

    def request(self, verb: str, *, timeout_s: float = 60.0, **fields: Any) -> dict[str, Any]:
        """One frame there, one reply back. Raises the HemmaError that the link or the host gave.

        AnotherRepository when the verb is about the clone and that is not one of this folder's repository.
        """
        request = {"state_dir": self.spec.get("state_dir"), "root": self.spec.get("root"), **fields, "verb": verb}
        if verb not in CLONE_VERBS:
            return ask(target_of(self.spec), request, timeout_s)
        request["clone"] = clone_witness.of(self.spec)
        try:
            reply = ask(target_of(self.spec), request, timeout_s)
        except HostRefused as refused:
            raise clone_witness.judged(refused) from None
        clone_witness.say(self.spec, request["clone"], reply)
        return reply


def target_of(spec: dict[str, Any]) -> dict[str, Any]:
    """The part of a host's settings that says which connection to use; hosts that agree in it share one."""
    names = ("ssh", "ssh_config", "python", "state_dir", "keepalive_s", "connect_timeout_s")
    return {name: spec.get(name) for name in names}


def broker_request(verb: str) -> dict[str, Any] | None:
    """Ask every broker of this user (`broker-state`, `broker-stop`); the last one's answer, None when none runs."""
    answer = None
    for path in broker_client.all_sockets() if broker_client.can_have_broker() else []:
        sock = broker_client.open_socket(path)
        if sock is not None:
            answer = _ask(sock, {}, {"verb": verb}, 5.0)
    return answer


def ask(target: dict[str, Any], request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Send one request through the broker and return its reply; a link that just went away is tried once more."""
    try:
        return _ask(broker_client.connect(), target, request, timeout_s)
    except (ConnectionError, ConnectionLost):
        time.sleep(0.2)
    try:
        return _ask(broker_client.connect(), target, request, timeout_s)
    except ConnectionError as error:
        raise ConnectionLost(f"the local broker went away: {error.strerror or error}", remedy="try again") from error


def _ask(
    sock: socket.socket | None, target: dict[str, Any], request: dict[str, Any], timeout_s: float
) -> dict[str, Any]:
    assert sock is not None
    with sock:
        sock.settimeout(timeout_s)
        fields = {"target": target, "request": request, "auth_sock": os.environ.get("SSH_AUTH_SOCK")}
        sock.sendall(frames.json_frame(frames.OPEN, 0, fields))
        parser, collected = frames.Parser(), b""
        while True:
            try:
                data = sock.recv(1 << 18)
            except TimeoutError:
                raise ConnectionLost(
                    f"the host did not answer within {timeout_s:g} s", remedy="hemma host check"
                ) from None
            if not data:
                raise ConnectionLost("the broker went away", remedy="try again")
            for kind, _, payload in parser.feed(data):
                if kind == frames.LINK_LOST:
                    raise from_dict(dict(frames.fields_of(payload)))
                collected += payload
                if kind == frames.REPLY:
                    return _reply(collected)


def _reply(payload: bytes) -> dict[str, Any]:
    fields = json.loads(payload)
    if "error" in fields:
        raise refusal_of(fields)
    return dict(fields)
