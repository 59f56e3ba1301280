"""Questions to one host: one request, one reply, over the same warm link as everything else."""

from __future__ import annotations

import os
import time

from manifests.errors import ConnectionLost, from_dict, no_answer
from remote import broker_client, clone_witness
from remote.agent import frames, shapes
from remote.incoming import fields_of, reply_of
from remote.refusals import HostRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

# What reads or changes the clone at the root: the agent compares it with this folder's before it does anything.
CLONE_VERBS = ("undo", "backup", "git-state", "git-steps", "git-follow", "file-read", "file-write")


class Host:
    """The host that settings describe (`spec` is their `host` part)."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec

    def request(
        self, verb: str, *, timeout_s: float = 60.0, hear: Callable[[str], None] | None = None, **fields: Any
    ) -> dict[str, Any]:
        """One frame there, one reply back, within `timeout_s` seconds of silence; `hear` is told of progress on the way.

        Raises the HemmaError that the link or the host gave; AnotherRepository when the verb is about the clone there, and
        that is not one of this folder's repository.
        """
        request = {"state_dir": self.spec.get("state_dir"), "root": self.spec.get("root"), **fields, "verb": verb}
        if verb not in CLONE_VERBS:
            return ask(target_of(self.spec), request, timeout_s, hear)
        request["clone"] = clone_witness.of(self.spec)
        try:
            reply = ask(target_of(self.spec), request, timeout_s, hear)
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


def ask(
    target: dict[str, Any],
    request: dict[str, Any],
    timeout_s: float,
    hear: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Send one request through the broker and return its reply; a link that just went away is tried once more."""
    try:
        return _ask(broker_client.connect(), target, request, timeout_s, hear)
    except (ConnectionError, ConnectionLost):
        time.sleep(0.2)
    try:
        return _ask(broker_client.connect(), target, request, timeout_s, hear)
    except ConnectionError as error:
        raise ConnectionLost(f"the local broker went away: {error.strerror or error}", remedy="try again") from error


def _ask(
    sock: socket.socket | None,
    target: dict[str, Any],
    request: dict[str, Any],
    timeout_s: float,
    hear: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    assert sock is not None
    with sock:
        sock.settimeout(timeout_s)
        fields = {"target": target, "request": request, "auth_sock": os.environ.get("SSH_AUTH_SOCK")}
        sock.sendall(frames.json_frame(frames.OPEN, 0, fields))
        collected = _collected(sock, timeout_s, hear)
    from remote import answers

    return reply_of(collected, answers.shape_of(request), f"the reply to {request.get('verb')}", frames.MAX_VALUES)


def _collected(sock: socket.socket, timeout_s: float, hear: Callable[[str], None] | None) -> bytearray:
    """The payload of one reply, whose parts come in frames of their own; `hear` gets the words of progress before it.

    Raises NoAnswer, and what the link gave.
    """
    parser, collected = frames.Parser(frames.FROM_BROKER), bytearray()
    while True:
        try:
            data = sock.recv(1 << 18)
        except TimeoutError:
            raise ConnectionLost(f"the host did not answer within {timeout_s:g} s", remedy="hemma host check") from None
        if not data:
            raise ConnectionLost("the broker went away", remedy="try again")
        try:
            found = parser.feed(data)
        except frames.BadFrame as bad:
            raise no_answer(bad) from None
        for kind, _, payload in found:
            if kind == frames.LINK_LOST:
                raise from_dict(fields_of(payload, shapes.LINK_LOST, "the broker's word"), is_ours=True)
            if kind == frames.NOTICE:
                said = fields_of(payload, shapes.PROGRESS, "a word of progress")["text"]
                if hear is not None and said:
                    hear(said)
                continue
            if kind not in (frames.OUT, frames.REPLY):
                raise no_answer(f"a frame of kind {kind} to a question")
            collected += payload
            if len(collected) > frames.MAX_ANSWER:
                raise no_answer(f"more than {frames.MAX_ANSWER >> 20} MiB to one question")
            if kind == frames.REPLY:
                return collected
