"""The owner of one command on the host: own session, spools on disk, exit code on disk (S9-R13, S9-R20, S9-R22).

It is forked from the agent and outlives it, the SSH connection and the client. Anyone may come back later over
control.sock in the run's folder. What it guarantees: every byte the command wrote before its end is in the spool before
the end is reported; a link that breaks changes nothing. What it does not: survive a reboot, or its own SIGKILL.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import time

from . import frames, git_watch, identity, run_backup, stdin, store, terminal, viewers
from .spool import Spool, drain_late

HEARTBEAT_S = 10.0
KILL_GRACE_S = 10.0
# After the command's end, how long its pipes may stay silent while something else still holds them open.
QUIET_S = 0.25
# A foreground command may be this far ahead of its client before it has to wait, as with any pipe.
AHEAD_BYTES = 64 << 20
SIGNALS = (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Supervisor:
    """Runs one command to its end. Single-threaded; everything happens in `loop`."""

    def __init__(
        self, folder: str, request: dict[str, object], environment: dict[str, str], control: socket.socket
    ) -> None:
        self.folder = folder
        self.request = request
        self.environment = environment
        self.selector = selectors.DefaultSelector()
        self.viewers = viewers.Viewers(self.selector, self._on_frame, self._hold_back)
        self.viewers.add(control)
        self.input = stdin.Input(self.selector, self.viewers.tell)
        self.spools: list[Spool] = []
        self.git = git_watch.GitWatch(self.selector, folder)
        self.process: subprocess.Popen[bytes] | None = None
        self.acknowledged = dict.fromkeys(store.STREAMS, 0)
        self.lease_s = _seconds(request.get("lease_s"))
        self.lease_end = None if self.lease_s is None else time.monotonic() + self.lease_s
        self.timeout_end: float | None = None
        self.kill_at: float | None = None
        self.reason: str | None = None
        self.exited_at: float | None = None
        self.return_code = 0
        self.next_heartbeat = time.monotonic() + HEARTBEAT_S
        self.is_disk_full = False
        self.signals_seen: dict[bytes, int] = {}
        self.wakeup = -1
        self.status: dict[str, object] = {
            "schema_version": 1,
            "state": "starting",
            "run_id": os.path.basename(folder),
            "supervisor": identity.of(os.getpid()),
            "pid": None,
            "started_at": None,
            "heartbeat_at": store.now_iso(),
        }

    # -- start ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the control socket, start the command and write the first status."""
        os.chdir(self.folder)
        self._watch_children()
        try:
            self.viewers.listen()
            self.git.listen(is_wanted=bool(self.request.get("git_guard")))
        except OSError as error:
            self.reason = "not-started"
            self._finish(255, None, "the host cannot keep the run's record: %s" % error.strerror)
            return
        run_backup.take(self.folder, self.request)
        try:
            self._spawn()
        except OSError as error:
            self._not_started(error)
            return
        assert self.process is not None
        self.status.update(
            state="running", pid=self.process.pid, command=identity.of(self.process.pid), started_at=store.now_iso()
        )
        timeout_s = _seconds(self.request.get("timeout_s"))
        self.timeout_end = None if timeout_s is None else time.monotonic() + timeout_s
        self._write_status()
        store.add_event(self.folder, "started", pid=self.process.pid)

    def _spawn(self) -> None:
        spools = [
            os.open(store.spool_path(self.folder, name), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            for name in store.STREAMS
        ]
        argv = [frames.bytes_of(word) for word in _texts(self.request["exec_argv"])]
        environment = {frames.bytes_of(name): frames.bytes_of(value) for name, value in self.environment.items()}
        cwd = frames.bytes_of(str(self.request["cwd"]))
        size = self.request.get("pty")
        if isinstance(size, dict):
            self.process, master = terminal.spawn(argv, environment, cwd, size)
            self.input.use(master, None, is_terminal=True)
            self._add_spool("stdout", master, spools[0])
            return
        self.process = process = subprocess.Popen(
            argv,
            env=environment,
            cwd=cwd,
            stdin=subprocess.PIPE if self.request.get("stdin") else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        for name, pipe, spool in zip(store.STREAMS, (process.stdout, process.stderr), spools):
            self._add_spool(name, pipe.fileno(), spool)
        if process.stdin is not None:
            self.input.use(process.stdin.fileno(), process.stdin.close, is_terminal=False)

    def _add_spool(self, name: str, source: int, file: int) -> None:
        spool = Spool(name, source, file)
        self.spools.append(spool)
        self._read_again(spool)

    def _not_started(self, error: OSError) -> None:
        word = _texts(self.request["exec_argv"])[0]
        code = 127 if isinstance(error, FileNotFoundError) or not word else 126
        self.reason = "not-started"
        self._finish(code, None, "%s: %s" % (word, "command not found" if code == 127 else error.strerror or error))

    def _watch_children(self) -> None:
        for number in SIGNALS:
            # A handler that does nothing, not SIG_IGN: an ignored signal would stay ignored in the command.
            signal.signal(number, _wake)
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.wakeup = reader
        self.selector.register(reader, selectors.EVENT_READ, self._on_child)

    # -- the loop ------------------------------------------------------------------------------------------------

    def loop(self) -> None:
        """Serve until the command has ended, its output is on disk and everyone was told; then linger for late output."""
        while not self._is_over():
            for key, _ in self.selector.select(self._pause()):
                key.data()
            self._on_time()
        self.viewers.close()
        self.git.close()
        drain_late(self.spools)

    def _pause(self) -> float:
        if self.exited_at is not None or self.is_disk_full:
            return 0.05
        moments = [self.next_heartbeat, self.lease_end, self.timeout_end, self.kill_at]
        return max(0.0, min(moment for moment in moments if moment is not None) - time.monotonic())

    def _is_over(self) -> bool:
        return self.status["state"] == "finished"

    def _on_time(self) -> None:
        now = time.monotonic()
        if self.is_disk_full:
            self._retry_disk()
        if self.exited_at is not None and not self._is_over():
            self._maybe_finish(now)
            return
        if self.lease_end is not None and now >= self.lease_end:
            self.lease_end = None
            self._end("lease-expired", signal.SIGHUP, None)
        if self.timeout_end is not None and now >= self.timeout_end:
            self.timeout_end = None
            self._end("timed-out", signal.SIGTERM, KILL_GRACE_S)
        if self.kill_at is not None and now >= self.kill_at:
            self.kill_at = None
            self.signal(signal.SIGKILL)
        if now >= self.next_heartbeat:
            self.next_heartbeat = now + HEARTBEAT_S
            self.status["heartbeat_at"] = store.now_iso()
            self._write_status()

    def _end(self, reason: str, number: int, grace_s: float | None) -> None:
        self.reason = reason
        store.add_event(self.folder, reason)
        self.signal(number)
        if grace_s is not None:
            self.kill_at = time.monotonic() + grace_s

    def signal(self, number: int) -> None:
        """Send a signal to the command's whole process group."""
        if self.process is None:
            return
        store.add_event(self.folder, "signal", number=number)
        try:
            os.killpg(self.process.pid, number)
        except OSError:
            pass

    # -- output --------------------------------------------------------------------------------------------------

    def _on_output(self, spool: Spool) -> None:
        try:
            is_open = spool.read()
        except OSError as error:
            self._disk_full(error)
            return
        if not is_open:
            self._close_output(spool)
        self.viewers.tell(frames.frame(frames.GREW, 0, self._sizes()))
        self._hold_back()

    def _close_output(self, spool: Spool, *, hangs_up: bool = False) -> None:
        """Read this stream no more. A terminal stays open until the command has ended, else it would be hung up on."""
        if spool.source is None:
            return
        self._stop_reading(spool)
        pipe = getattr(self.process, spool.name, None)
        if pipe is not None:
            pipe.close()
        elif hangs_up:
            self.input.close()
            os.close(spool.source)
        spool.source = None

    def _stop_reading(self, spool: Spool) -> None:
        if spool.source is not None and spool.source in self.selector.get_map():
            self.selector.unregister(spool.source)

    def _read_again(self, spool: Spool) -> None:
        if spool.source is not None and not spool.unwritten and spool.source not in self.selector.get_map():
            self.selector.register(spool.source, selectors.EVENT_READ, lambda: self._on_output(spool))

    def _hold_back(self) -> None:
        """Stop reading a stream whose client is far behind: the command waits, as it would on any full pipe."""
        may_hold = self.lease_s is not None and bool(self.viewers.all) and self.exited_at is None
        for spool in self.spools:
            if may_hold and spool.size - self.acknowledged[spool.name] > AHEAD_BYTES:
                self._stop_reading(spool)
            else:
                self._read_again(spool)

    def _disk_full(self, error: OSError) -> None:
        """Hold the command, not its output: nothing is dropped, and it goes on when there is room."""
        if not self.is_disk_full:
            self.viewers.tell(frames.json_frame(frames.NOTICE, 0, {"notice": "disk-full", "detail": error.strerror}))
        self.is_disk_full = True
        for spool in self.spools:
            if spool.unwritten:
                self._stop_reading(spool)

    def _retry_disk(self) -> None:
        try:
            for spool in self.spools:
                spool.flush()
        except OSError:
            return
        self.is_disk_full = False
        self.viewers.tell(frames.json_frame(frames.NOTICE, 0, {"notice": "disk-room"}))
        self.viewers.tell(frames.frame(frames.GREW, 0, self._sizes()))
        self._hold_back()
        if self.exited_at is not None:
            for spool in self.spools:
                self._read_to_end(spool)

    def _sizes(self) -> bytes:
        sizes = {spool.name: spool.size for spool in self.spools}
        return frames.OFFSETS.pack(sizes.get("stdout", 0), sizes.get("stderr", 0))

    # -- the end -------------------------------------------------------------------------------------------------

    def _on_child(self) -> None:
        try:
            os.read(self.wakeup, 4096)
        except BlockingIOError:
            pass
        code = self.process.poll() if self.process is not None and self.exited_at is None else None
        if code is None:
            return
        self.return_code = code
        self.exited_at = time.monotonic()
        for spool in self.spools:
            self._read_to_end(spool)
        self._maybe_finish(time.monotonic())

    def _read_to_end(self, spool: Spool) -> None:
        before = -1
        while spool.source is not None and spool.size != before and not self.is_disk_full:
            before = spool.size
            self._on_output(spool)

    def _maybe_finish(self, now: float) -> None:
        """Finish once all output is in, or what is left of it is somebody else's (a background child) and silent."""
        is_open = any(spool.source is not None for spool in self.spools)
        quiet_since = max(
            [self.exited_at or now] + [spool.last_read_s for spool in self.spools if spool.source is not None]
        )
        if self.is_disk_full or (is_open and now - quiet_since < QUIET_S):
            return
        code = self.return_code
        number = -code if code < 0 else None
        self.reason = self.reason or ("exited" if number is None else "signalled")
        detail = "a background process still holds the output" if is_open else None
        plain = code if number is None else 128 + number
        self._finish(124 if self.reason == "timed-out" else plain, number, detail)

    def _finish(self, code: int, number: int | None, detail: str | None) -> None:
        stdout_bytes, stderr_bytes = frames.OFFSETS.unpack(self._sizes())
        self.status.update(
            state="finished",
            ended_at=store.now_iso(),
            heartbeat_at=store.now_iso(),
            exit_code=code,
            signal=number,
            reason=self.reason,
            detail=detail,
            stdout_bytes=stdout_bytes,
            stderr_bytes=stderr_bytes,
        )
        is_kept = self._write_status()
        store.add_event(self.folder, "finished", exit_code=code, reason=self.reason)
        self.viewers.tell(frames.json_frame(frames.EXIT, 0, self.status))
        if not is_kept:  # a full disk: clients need not wait for room, the record does
            self.viewers.close()
            while os.path.isdir(self.folder) and not self._write_status():
                time.sleep(0.5)

    def _write_status(self) -> bool:
        try:
            store.write(self.folder, "status.json", self.status)
        except OSError:
            return False
        return True

    # -- what viewers say ----------------------------------------------------------------------------------------

    def _on_frame(self, viewer: viewers.Viewer, kind: int, payload: bytes) -> None:
        if kind == frames.ACK:
            self._on_acknowledged(payload)
        elif kind == frames.IN:
            self.input.take(viewer, frames.OFFSET.unpack_from(payload)[0], payload[frames.OFFSET.size :])
        elif kind == frames.IN_EOF:
            self.input.end()
        elif kind == frames.SIGNAL:
            self._on_signal(*frames.SIGNAL_PAYLOAD.unpack(payload))
        elif kind == frames.RESIZE and self.input.is_terminal and self.input.file is not None:
            terminal.resize(self.input.file, *frames.SIZE.unpack(payload))
        elif kind == frames.CLOSE_STREAM:
            self._close_stream(payload)
        elif kind == frames.OPEN:
            self._on_open(viewer, frames.fields_of(payload))

    def _on_signal(self, number: int, sender: bytes, place: int) -> None:
        """Pass a client's signal on, once: after a break it sends all of them again."""
        if place > self.signals_seen.get(sender, 0) and (sender in self.signals_seen or len(self.signals_seen) < 1000):
            self.signals_seen[sender] = place
            self.signal(number)

    def _on_open(self, viewer: viewers.Viewer, fields: dict[str, object]) -> None:
        if fields.get("verb") == "stop":
            self._end("stopped", signal.SIGTERM, _seconds(fields.get("grace_s")))
        if fields.get("hold"):
            self._renew()
        self.viewers.send(viewer, frames.frame(frames.IN_ACK, 0, frames.OFFSET.pack(self.input.received)))
        self.viewers.send(viewer, frames.frame(frames.GREW, 0, self._sizes()))

    def _on_acknowledged(self, payload: bytes) -> None:
        for name, offset in zip(store.STREAMS, frames.OFFSETS.unpack(payload)):
            self.acknowledged[name] = max(self.acknowledged[name], offset)
        self._renew()
        self._hold_back()

    def _renew(self) -> None:
        if self.lease_s is not None and self.lease_end is not None:
            self.lease_end = time.monotonic() + self.lease_s

    def _close_stream(self, payload: bytes) -> None:
        """The client's reader is gone: close the pipe, so that the command learns it by SIGPIPE as in a local pipe."""
        for spool in self.spools:
            if spool.name.encode() == payload:
                self._close_output(spool, hangs_up=True)


def _wake(number: int, frame: object) -> None:
    """The wake-up file has told the loop already."""


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _texts(value: object) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list) else []
