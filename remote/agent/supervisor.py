"""The owner of one command on the host: own session, spools on disk, exit code on disk (S9-R13, S9-R20).

It is forked from the agent and outlives it, the SSH connection and the client. Anyone may come back later over
control.sock in the run's folder. What it guarantees: every byte the command wrote before its end is in the spool before
the end is reported; a link that breaks changes nothing. What it does not: survive a reboot, or its own SIGKILL.
"""

import errno
import fcntl
import os
import selectors
import signal
import socket
import struct
import subprocess
import termios
import time

from . import frames, identity, store

HEARTBEAT_S = 10.0
KILL_GRACE_S = 10.0
# After the command's end, how long its pipes may stay silent while something else still holds them open.
QUIET_S = 0.25
PIPE_BYTES = 1 << 20
F_SETPIPE_SZ = 1031
# A foreground command may be this far ahead of its client before it has to wait, as with any pipe.
AHEAD_BYTES = 64 << 20
SIGNALS = (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Output:
    """One output stream: from the command's pipe (or terminal) to the end of its spool."""

    def __init__(self, name, source, spool):
        # type: (str, int, int) -> None
        self.name = name
        self.source = source  # type: int | None
        self.spool = spool
        self.size = 0
        self.unwritten = b""
        self.last_read_s = time.monotonic()

    def read(self):
        # type: () -> bool
        """Move what is there now to the spool; False at the end of the stream. Raises OSError when the disk is full."""
        if self.source is None:
            return False
        try:
            data = os.read(self.source, PIPE_BYTES)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal whose last user is gone
                raise
            data = b""
        if not data:
            return False
        self.last_read_s = time.monotonic()
        self.unwritten = data
        self.flush()
        return True

    def flush(self):
        # type: () -> None
        """Write what is held back, after a full disk has room again. Raises OSError when it still has none."""
        while self.unwritten:
            written = os.write(self.spool, self.unwritten)
            self.size += written
            self.unwritten = self.unwritten[written:]


class Viewer:
    """One connection to the supervisor: an agent that relays for a client."""

    def __init__(self, sock):
        # type: (socket.socket) -> None
        self.sock = sock
        self.parser = frames.Parser()
        self.outbox = bytearray()

    def send(self, data):
        # type: (bytes) -> None
        """Queue and try to send; a viewer that does not read loses nothing but these wake-ups, the spool has the bytes."""
        if len(self.outbox) < 1 << 20:
            self.outbox += data
        self.flush()

    def flush(self):
        # type: () -> None
        """Send as much as the socket takes."""
        try:
            while self.outbox:
                del self.outbox[: self.sock.send(self.outbox)]
        except (BlockingIOError, OSError):
            pass


class Supervisor:
    """Runs one command to its end. Single-threaded; everything happens in `loop`."""

    def __init__(self, folder, request, environment, control):
        # type: (str, dict[str, object], dict[str, str], socket.socket) -> None
        self.folder = folder
        self.request = request
        self.environment = environment
        self.selector = selectors.DefaultSelector()
        self.viewers = []  # type: list[Viewer]
        self.outputs = []  # type: list[Output]
        self.process = None  # type: subprocess.Popen[bytes] | None
        self.stdin = None  # type: int | None
        self.stdin_queue = bytearray()
        self.stdin_received = 0
        self.stdin_written = 0
        self.stdin_ended = False
        self.acknowledged = {"stdout": 0, "stderr": 0}
        self.lease_s = _seconds(request.get("lease_s"))
        self.lease_end = None if self.lease_s is None else time.monotonic() + self.lease_s
        self.timeout_end = None  # type: float | None
        self.kill_at = None  # type: float | None
        self.reason = None  # type: str | None
        self.exited_at = None  # type: float | None
        self.return_code = None  # type: int | None
        self.status = {}  # type: dict[str, object]
        self.next_heartbeat = time.monotonic() + HEARTBEAT_S
        self.is_disk_full = False
        self._add_viewer(control)

    # -- start ---------------------------------------------------------------------------------------------------

    def start(self):
        # type: () -> None
        """Open the control socket, start the command and write the first status."""
        os.chdir(self.folder)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind("control.sock")  # relative: the path of a folder may be longer than a socket's name
        self.listener.listen(16)
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ, self._accept)
        self._watch_children()
        self.status = {
            "schema_version": 1,
            "state": "starting",
            "run_id": os.path.basename(self.folder),
            "supervisor": identity.of(os.getpid()),
            "pid": None,
            "started_at": None,
            "heartbeat_at": store.now_iso(),
        }
        try:
            self._spawn()
        except OSError as error:
            self._not_started(error)
            return
        assert self.process is not None
        self.status.update(
            state="running",
            pid=self.process.pid,
            command=identity.of(self.process.pid),
            started_at=store.now_iso(),
        )
        timeout_s = _seconds(self.request.get("timeout_s"))
        self.timeout_end = None if timeout_s is None else time.monotonic() + timeout_s
        self._write_status()
        store.add_event(self.folder, "started", pid=self.process.pid)

    def _spawn(self):
        # type: () -> None
        spools = [
            os.open(store.spool_path(self.folder, name), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            for name in store.STREAMS
        ]
        argv = [frames.bytes_of(word) for word in _texts(self.request["exec_argv"])]
        environment = {frames.bytes_of(name): frames.bytes_of(value) for name, value in self.environment.items()}
        cwd = frames.bytes_of(str(self.request["cwd"]))
        if isinstance(self.request.get("pty"), dict):
            self._spawn_on_terminal(argv, environment, cwd, spools)
            return
        has_stdin = bool(self.request.get("stdin"))
        process = subprocess.Popen(
            argv,
            env=environment,
            cwd=cwd,
            stdin=subprocess.PIPE if has_stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            restore_signals=True,
        )
        self.process = process
        assert process.stdout is not None and process.stderr is not None
        for name, pipe, spool in zip(store.STREAMS, (process.stdout, process.stderr), spools):
            self._add_output(Output(name, pipe.fileno(), spool))
        if process.stdin is not None:
            self.stdin = process.stdin.fileno()
            os.set_blocking(self.stdin, False)

    def _spawn_on_terminal(self, argv, environment, cwd, spools):
        # type: (list[bytes], dict[bytes, bytes], bytes, list[int]) -> None
        master, slave = os.openpty()
        self._resize(master, self.request["pty"])

        def take_terminal():
            # type: () -> None
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        try:
            self.process = subprocess.Popen(
                argv, env=environment, cwd=cwd, stdin=slave, stdout=slave, stderr=slave, preexec_fn=take_terminal
            )
        finally:
            os.close(slave)
        os.close(spools[1])
        self.stdin = master
        self._add_output(Output("stdout", master, spools[0]))

    def _add_output(self, output):
        # type: (Output) -> None
        assert output.source is not None
        os.set_blocking(output.source, False)
        try:
            fcntl.fcntl(output.source, F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass  # a terminal, or over the user's pipe limit: the default size works too
        self.outputs.append(output)
        self.selector.register(output.source, selectors.EVENT_READ, lambda: self._on_output(output))

    def _not_started(self, error):
        # type: (OSError) -> None
        word = _texts(self.request["exec_argv"])[0]
        what = error.strerror or str(error)
        code = 127 if isinstance(error, FileNotFoundError) else 126
        message = "%s: command not found" % word if code == 127 else "%s: %s" % (word, what)
        self.reason = "not-started"
        self._finish(code, None, message)

    def _watch_children(self):
        # type: () -> None
        for number in SIGNALS:
            # A handler that does nothing, not SIG_IGN: an ignored signal would stay ignored in the command.
            signal.signal(number, lambda *_: None)
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.wakeup = reader
        self.selector.register(reader, selectors.EVENT_READ, self._on_child)

    # -- the loop ------------------------------------------------------------------------------------------------

    def loop(self):
        # type: () -> None
        """Serve until the command has ended, its output is on disk and everyone was told."""
        while not self._is_over():
            for key, _ in self.selector.select(self._pause()):
                key.data()
            self._on_time()
        self._linger()

    def _pause(self):
        # type: () -> float
        moments = [self.next_heartbeat, self.lease_end, self.timeout_end, self.kill_at]
        if self.exited_at is not None or self.is_disk_full:
            return 0.05
        return max(0.0, min(moment for moment in moments if moment is not None) - time.monotonic())

    def _is_over(self):
        # type: () -> bool
        return self.status.get("state") == "finished"

    def _on_time(self):
        # type: () -> None
        now = time.monotonic()
        if self.is_disk_full:
            self._retry_disk()
        if self.exited_at is not None and not self._is_over():
            self._maybe_finish(now)
            return
        if self.lease_end is not None and now >= self.lease_end:
            self._end("lease-expired", signal.SIGHUP, None)
            self.lease_end = None
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

    def _end(self, reason, number, grace_s):
        # type: (str, int, float | None) -> None
        self.reason = reason
        store.add_event(self.folder, reason)
        self.signal(number)
        if grace_s is not None:
            self.kill_at = time.monotonic() + grace_s

    def signal(self, number):
        # type: (int) -> None
        """Send a signal to the command's whole process group."""
        if self.process is None:
            return
        store.add_event(self.folder, "signal", number=number)
        try:
            os.killpg(self.process.pid, number)
        except OSError:
            pass

    # -- output --------------------------------------------------------------------------------------------------

    def _on_output(self, output):
        # type: (Output) -> None
        try:
            is_open = output.read()
        except OSError as error:
            self._disk_full(error)
            return
        if not is_open:
            self._close_output(output)
        self._tell(frames.frame(frames.GREW, 0, self._sizes()))
        self._hold_back()

    def _close_output(self, output):
        # type: (Output) -> None
        if output.source is None:
            return
        if output.source in self.selector.get_map():
            self.selector.unregister(output.source)
        if output.source != self.stdin:
            self._forget_pipe(output.name)
        output.source = None

    def _forget_pipe(self, name):
        # type: (str) -> None
        pipe = getattr(self.process, name, None)
        if pipe is not None:
            pipe.close()

    def _hold_back(self):
        # type: () -> None
        """Stop reading a stream whose client is far behind: the command waits, as it would on any full pipe."""
        if self.lease_s is None or not self.viewers or self.exited_at is not None:
            self._read_all_again()
            return
        for output in self.outputs:
            if output.source is None:
                continue
            is_far = output.size - self.acknowledged[output.name] > AHEAD_BYTES
            is_read = output.source in self.selector.get_map()
            if is_far and is_read:
                self.selector.unregister(output.source)
            elif not is_far and not is_read:
                self._read_again(output)

    def _read_all_again(self):
        # type: () -> None
        for output in self.outputs:
            if output.source is not None and output.source not in self.selector.get_map() and not output.unwritten:
                self._read_again(output)

    def _read_again(self, output):
        # type: (Output) -> None
        assert output.source is not None
        self.selector.register(output.source, selectors.EVENT_READ, lambda: self._on_output(output))

    def _disk_full(self, error):
        # type: (OSError) -> None
        """Hold the command, not its output: nothing is dropped, and it goes on when there is room."""
        if not self.is_disk_full:
            self._tell(frames.json_frame(frames.NOTICE, 0, {"notice": "disk-full", "detail": error.strerror}))
        self.is_disk_full = True
        for output in self.outputs:
            if output.unwritten and output.source in self.selector.get_map():
                self.selector.unregister(output.source)

    def _retry_disk(self):
        # type: () -> None
        try:
            for output in self.outputs:
                output.flush()
        except OSError:
            return
        self.is_disk_full = False
        self._tell(frames.json_frame(frames.NOTICE, 0, {"notice": "disk-room"}))
        self._tell(frames.frame(frames.GREW, 0, self._sizes()))
        self._read_all_again()

    def _sizes(self):
        # type: () -> bytes
        sizes = {output.name: output.size for output in self.outputs}
        return frames.OFFSETS.pack(sizes.get("stdout", 0), sizes.get("stderr", 0))

    # -- the end -------------------------------------------------------------------------------------------------

    def _on_child(self):
        # type: () -> None
        try:
            os.read(self.wakeup, 4096)
        except BlockingIOError:
            pass
        if self.process is None or self.return_code is not None:
            return
        self.return_code = self.process.poll()
        if self.return_code is not None:
            self.exited_at = time.monotonic()
            self._read_all_again()
            for output in self.outputs:
                while output.source is not None and not self.is_disk_full:
                    before = output.size
                    self._on_output(output)
                    if output.size == before:
                        break
            self._maybe_finish(time.monotonic())

    def _maybe_finish(self, now):
        # type: (float) -> None
        open_outputs = [output for output in self.outputs if output.source is not None]
        if self.is_disk_full or any(now - output.last_read_s < QUIET_S for output in open_outputs):
            return
        if open_outputs and self.exited_at is not None and now - self.exited_at < QUIET_S:
            return
        code = self.return_code
        assert code is not None
        if self.reason == "timed-out":
            self._finish(124, -code if code < 0 else None, None)
        elif code < 0:
            self.reason = self.reason or "signalled"
            self._finish(128 - code, -code, None)
        else:
            self.reason = self.reason or "exited"
            self._finish(code, None, "a background process still holds the output" if open_outputs else None)

    def _finish(self, code, number, detail):
        # type: (int, int | None, str | None) -> None
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
        while not self._write_status():
            time.sleep(0.5)  # a full disk: the exit code is not lost, it waits for room
        store.add_event(self.folder, "finished", exit_code=code, reason=self.reason)
        self._tell(frames.json_frame(frames.EXIT, 0, self.status))

    def _write_status(self):
        # type: () -> bool
        try:
            store.write(self.folder, "status.json", self.status)
        except OSError:
            return False
        return True

    def _linger(self):
        # type: () -> None
        """After the end: no more viewers; keep a background child's late output flowing to the log, then go."""
        try:
            os.unlink("control.sock")
        except OSError:
            pass
        self.listener.close()
        for viewer in self.viewers:
            viewer.sock.setblocking(True)
            viewer.sock.settimeout(5)
            try:
                viewer.sock.sendall(viewer.outbox)
            except OSError:
                pass
            viewer.sock.close()
        for output in self.outputs:
            if output.source is not None:
                os.set_blocking(output.source, True)
        while any(output.source is not None for output in self.outputs):
            self._drain_late()

    def _drain_late(self):
        # type: () -> None
        late = [output for output in self.outputs if output.source is not None]
        with selectors.DefaultSelector() as selector:
            for output in late:
                assert output.source is not None
                selector.register(output.source, selectors.EVENT_READ, output)
            for key, _ in selector.select():
                try:
                    if not key.data.read():
                        key.data.source = None
                except OSError:
                    key.data.unwritten = b""  # the run is over; late output on a full disk is let go

    # -- viewers -------------------------------------------------------------------------------------------------

    def _accept(self):
        # type: () -> None
        try:
            sock, _ = self.listener.accept()
        except OSError:
            return
        self._add_viewer(sock)

    def _add_viewer(self, sock):
        # type: (socket.socket) -> None
        sock.setblocking(False)
        viewer = Viewer(sock)
        self.viewers.append(viewer)
        self.selector.register(sock, selectors.EVENT_READ, lambda: self._on_viewer(viewer))

    def _on_viewer(self, viewer):
        # type: (Viewer) -> None
        viewer.flush()
        self._watch(viewer)
        try:
            data = viewer.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.selector.unregister(viewer.sock)
            viewer.sock.close()
            self.viewers.remove(viewer)
            self._hold_back()
            return
        for kind, _, payload in viewer.parser.feed(data):
            self._on_frame(viewer, kind, payload)

    def _on_frame(self, viewer, kind, payload):
        # type: (Viewer, int, bytes) -> None
        if kind == frames.ACK:
            self._on_acknowledged(payload)
        elif kind == frames.IN:
            self._on_stdin(frames.OFFSET.unpack_from(payload)[0], payload[frames.OFFSET.size :])
        elif kind == frames.IN_EOF:
            self.stdin_ended = True
            self._feed_stdin()
        elif kind == frames.SIGNAL:
            self.signal(payload[0])
        elif kind == frames.RESIZE and isinstance(self.request.get("pty"), dict) and self.stdin is not None:
            rows, columns = frames.SIZE.unpack(payload)
            self._resize(self.stdin, {"rows": rows, "columns": columns})
        elif kind == frames.CLOSE_STREAM:
            self._close_stream(payload)
        elif kind == frames.OPEN:
            self._on_open(viewer, frames.fields_of(payload))

    def _on_open(self, viewer, fields):
        # type: (Viewer, dict[str, object]) -> None
        if fields.get("verb") == "stop":
            self._end("stopped", signal.SIGTERM, _seconds(fields.get("grace_s")))
        if fields.get("hold"):
            self._renew()
        viewer.send(frames.frame(frames.IN_ACK, 0, frames.OFFSET.pack(self.stdin_received)))
        viewer.send(frames.frame(frames.GREW, 0, self._sizes()))

    def _on_acknowledged(self, payload):
        # type: (bytes) -> None
        stdout_offset, stderr_offset = frames.OFFSETS.unpack(payload)
        for name, offset in (("stdout", stdout_offset), ("stderr", stderr_offset)):
            self.acknowledged[name] = max(self.acknowledged[name], offset)
        self._renew()
        self._hold_back()

    def _renew(self):
        # type: () -> None
        if self.lease_s is not None and self.lease_end is not None:
            self.lease_end = time.monotonic() + self.lease_s

    def _close_stream(self, payload):
        # type: (bytes) -> None
        """The client's reader is gone: close the pipe, so that the command learns it by SIGPIPE as in a local pipe."""
        for output in self.outputs:
            if output.name.encode() == payload:
                self._close_output(output)

    def _tell(self, data):
        # type: (bytes) -> None
        for viewer in self.viewers:
            viewer.send(data)
            self._watch(viewer)

    def _watch(self, viewer):
        # type: (Viewer) -> None
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if viewer.outbox else 0)
        if self.selector.get_key(viewer.sock).events != events:
            self.selector.modify(viewer.sock, events, lambda: self._on_viewer(viewer))

    # -- input ---------------------------------------------------------------------------------------------------

    def _on_stdin(self, offset, data):
        # type: (int, bytes) -> None
        fresh = data[self.stdin_received - offset :] if offset <= self.stdin_received else b""
        self.stdin_received += len(fresh)
        self.stdin_queue += fresh
        self._feed_stdin()

    def _feed_stdin(self):
        # type: () -> None
        if self.stdin is None:
            self.stdin_queue.clear()
            return
        try:
            while self.stdin_queue:
                written = os.write(self.stdin, self.stdin_queue[: frames.CHUNK])
                self.stdin_written += written
                del self.stdin_queue[:written]
        except BlockingIOError:
            self._wait_for_stdin()
            return
        except OSError:
            self._close_stdin()  # the command does not read any more
            return
        finally:
            self._tell(frames.frame(frames.IN_ACK, 0, frames.OFFSET.pack(self.stdin_written)))
        if self.stdin_ended:
            self._end_stdin()

    def _wait_for_stdin(self):
        # type: () -> None
        assert self.stdin is not None
        mapped = self.selector.get_map().get(self.stdin)
        if mapped is None:
            self.selector.register(self.stdin, selectors.EVENT_WRITE, self._on_stdin_ready)
        elif mapped.events == selectors.EVENT_READ:
            output = self.outputs[0]
            self.selector.modify(
                self.stdin, selectors.EVENT_READ | selectors.EVENT_WRITE, lambda: self._on_terminal(output)
            )

    def _on_stdin_ready(self):
        # type: () -> None
        if self.stdin is not None and self.stdin in self.selector.get_map():
            self.selector.unregister(self.stdin)
        self._feed_stdin()

    def _on_terminal(self, output):
        # type: (Output) -> None
        assert self.stdin is not None
        self.selector.modify(self.stdin, selectors.EVENT_READ, lambda: self._on_output(output))
        self._on_output(output)
        self._feed_stdin()

    def _end_stdin(self):
        # type: () -> None
        if isinstance(self.request.get("pty"), dict):
            self.stdin_ended = False
            self._on_stdin(self.stdin_received, b"\x04")  # the terminal's own end of file
        else:
            self._close_stdin()

    def _close_stdin(self):
        # type: () -> None
        self.stdin_queue.clear()
        if self.stdin is None or isinstance(self.request.get("pty"), dict):
            return
        if self.stdin in self.selector.get_map():
            self.selector.unregister(self.stdin)
        self._forget_pipe("stdin")
        self.stdin = None
        self._tell(frames.json_frame(frames.NOTICE, 0, {"notice": "stdin-closed"}))

    def _resize(self, terminal, size):
        # type: (int, object) -> None
        if isinstance(size, dict):
            packed = struct.pack("HHHH", int(size["rows"]), int(size["columns"]), 0, 0)
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, packed)


def _seconds(value):
    # type: (object) -> float | None
    return float(value) if isinstance(value, (int, float)) else None


def _texts(value):
    # type: (object) -> list[str]
    return [str(word) for word in value] if isinstance(value, list) else []


def run(folder, request, environment, control):
    # type: (str, dict[str, object], dict[str, str], socket.socket) -> None
    """Supervise one command in this (freshly forked) process and leave it; never returns to the agent's code."""
    code = 1
    try:
        supervisor = Supervisor(folder, request, environment, control)
        supervisor.start()
        supervisor.loop()
        code = 0
    except BaseException as error:  # the last resort of a process nobody watches: leave a trace, then go
        store.add_event(folder, "supervisor-failed", error=repr(error))
    finally:
        os._exit(code)
