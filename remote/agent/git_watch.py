"""The supervisor's ear for a run's git calls: each question is judged in a child of its own, so the run never waits for one."""

from __future__ import annotations

import os
import selectors
import signal
import socket
from typing import Callable

from . import git_ask, ownership, store

# A question is a command line; the kernel takes none that is longer.
_MOST_BYTES = 8 << 20
_QUESTION_S = 30


class GitWatch:
    """Listens in the run's folder; the loop that owns `selector` calls what it registers."""

    def __init__(self, selector: selectors.BaseSelector, folder: str) -> None:
        self.selector = selector
        self.folder = folder
        self.children: set[int] = set()
        self.listener: socket.socket | None = None

    def listen(self, *, is_wanted: bool) -> None:
        """Open the socket in the current folder, which must be the run's: by a relative name, since a path may be too long."""
        if not is_wanted:
            return
        self.listener = listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(git_ask.NAME)
        os.chmod(git_ask.NAME, 0o600)
        listener.listen(128)
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ, self._on_question)

    def close(self) -> None:
        """Take no more questions; from now on whoever asks judges for himself."""
        if self.listener is None:
            return
        self.selector.unregister(self.listener)
        self.listener.close()
        self.listener = None
        try:
            os.unlink(git_ask.NAME)
        except OSError:
            pass

    def _reap(self) -> None:
        for pid in list(self.children):
            try:
                is_over = os.waitpid(pid, os.WNOHANG)[0] == pid
            except ChildProcessError:
                is_over = True
            if is_over:
                self.children.discard(pid)

    def _on_question(self) -> None:
        assert self.listener is not None
        self._reap()
        try:
            sock, _ = self.listener.accept()
        except OSError:
            return
        from . import git_judge  # once, here: the children have it from then on

        try:
            pid = os.fork()
        except OSError:  # no room for a process: the caller hears the end, and refuses
            sock.close()
            return
        if pid == 0:
            try:
                _keep_only(sock)
                _answer(sock, git_judge.answer, self.folder)
            finally:
                os._exit(0)
        sock.close()
        self.children.add(pid)


def _keep_only(sock: socket.socket) -> None:
    """In the child: none of the supervisor's files (a command's pipes must end when it ends them) and none of its signals."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    keep = sock.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, max(keep + 2, max(int(name) for name in os.listdir("/proc/self/fd")) + 1))


def _answer(sock: socket.socket, judge: Callable[[list[str], str], tuple[str, list[str]]], folder: str) -> None:
    sock.setblocking(True)
    sock.settimeout(_QUESTION_S)
    if not ownership.is_own_peer(sock):
        return
    head, _, data = sock.recv(1 << 16).partition(b"\0")
    length = int(head)
    if length > _MOST_BYTES:
        return
    sock.send(git_ask.HEARD)
    while len(data) < length:
        piece = sock.recv(1 << 16)
        if not piece:
            return
        data += piece
    try:
        word, rest = judge(git_ask.unpacked(data), folder)
    except Exception as error:
        store.add_event(folder, "git-judge-failed", error=repr(error)[:200])
        return  # the caller finds that there is no answer, and closes
    sock.settimeout(_QUESTION_S)
    sock.sendall(git_ask.packed([word, *rest, "end"]))
