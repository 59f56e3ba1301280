"""The broker belongs to its owner: a second user who was there first gets nothing, and what he says is not believed."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from manifests import ownership
from manifests.errors import NotPrivate
from remote import broker_client
from remote.agent import frames, relay, store
from remote.agent.viewers import NAME as CONTROL
from tests import second_user
from tests.second_user import needs_root
from tests.support import Cli, EnvironFor, wait_until

SECRET = "sk-a-key-that-nobody-else-may-see"
FORGED = b"".join(
    (
        frames.json_frame(frames.REPLY, 0, {"run_id": "20261201-000000-abcdef", "attached": False, "cwd": "/"}),
        frames.frame(frames.OUT, 0, frames.OFFSET.pack(0) + b"all tests passed\n"),
        frames.json_frame(frames.EXIT, 0, {"state": "finished", "exit_code": 0, "stdout_bytes": 17, "stderr_bytes": 0}),
    )
)
ASK = frames.json_frame(frames.OPEN, 0, {"target": {}, "request": {"verb": "broker-state"}})
# Connects by a relative name as the other user, says argv[2], prints what comes back until the end.
_CALLER = """
import os, socket, sys
BECOME
sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
sock.settimeout(10)
sock.connect(sys.argv[1])
try:
    sock.sendall(bytes.fromhex(sys.argv[2]))
    os.write(1, b'answer: ' + sock.recv(65536))
except ConnectionError:
    os.write(1, b'answer: ')
"""


@pytest.fixture
def cli(hemma_with: object, settings_env: EnvironFor, tmp_path: Path) -> Iterator[Cli]:
    """The CLI with a state folder of so long a name that its broker's socket lies below /tmp."""
    environ = settings_env(state=tmp_path / ("long" * 20))
    os.environ["HEMMA_STATE_DIR"] = environ["HEMMA_STATE_DIR"]
    folder = Path(broker_client.socket_path()).parent
    assert folder.parent == Path("/tmp")
    yield hemma_with(environ)  # type: ignore[operator]
    shutil.rmtree(folder, ignore_errors=True)


def run(cli: Cli) -> tuple[int, bytes, bytes]:
    done = cli("run", "--env", f"KEY={SECRET}", "--", "cat", stdin=b"a secret on stdin\n")
    return done.returncode, done.stdout, done.stderr


# --- the client ----------------------------------------------------------------------------------------------------


@needs_root
def test_a_forged_broker_in_a_folder_of_another_user_hears_nothing(cli: Cli) -> None:
    with second_user.listener(broker_client.socket_path(), FORGED, makes_folder=True) as heard:
        code, out, err = run(cli)
        assert broker_client.all_sockets() == []
        assert cli("host", "down").returncode in (0, 1)
        assert (code, out, heard()) == (75, b"", b"")
    assert b"not yours alone: it belongs to user" in err


@needs_root
def test_a_forged_broker_in_a_folder_of_ours_hears_nothing(cli: Cli) -> None:
    path = broker_client.socket_path()
    os.mkdir(os.path.dirname(path), 0o700)
    with second_user.listener(path, FORGED, makes_folder=False) as heard:
        code, out, err = run(cli)
        with pytest.raises(NotPrivate):
            broker_client.open_socket(path)
        assert (code, out, heard()) == (75, b"", b"")
    assert b"user id 65534, not yours, answers on the broker's socket" in err


@pytest.mark.parametrize("kind", ["link", "open", "file"])
def test_a_place_that_is_not_private_gets_no_broker(cli: Cli, kind: str, tmp_path: Path) -> None:
    folder = Path(broker_client.socket_path()).parent
    if kind == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    elif kind == "file":
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(0o777)
    try:
        code, out, err = run(cli)
        assert (code, out) == (75, b"")
        assert b"not yours alone" in err
        assert broker_client.all_sockets() == []
    finally:
        if kind != "open":
            folder.unlink()


def test_a_folder_that_others_may_read_is_closed_and_used(cli: Cli) -> None:
    folder = Path(broker_client.socket_path()).parent
    folder.mkdir(mode=0o755)
    assert run(cli)[:2] == (0, b"a secret on stdin\n")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert os.path.dirname(broker_client.all_sockets()[0]) == str(folder)


# --- the broker ----------------------------------------------------------------------------------------------------


@needs_root
def test_a_broker_answers_its_owner_alone(cli: Cli) -> None:
    assert run(cli)[0] == 0
    path = Path(broker_client.socket_path())
    path.parent.chmod(0o777)
    path.chmod(0o666)
    assert second_user.output_of(_CALLER, str(path), ASK.hex()) == b"answer: "
    path.parent.chmod(0o700)
    sock = broker_client.open_socket(str(path))
    assert sock is not None
    with sock:
        sock.sendall(ASK)
        assert b'"clients":1' in sock.recv(65536)


# --- where it listens ----------------------------------------------------------------------------------------------


def test_the_runtime_folder_of_the_session_comes_first(
    hemma_with: object, settings_env: EnvironFor, tmp_path: Path
) -> None:
    runtime = Path(os.path.realpath("/tmp")) / f"hemma-runtime-{os.getpid()}"
    runtime.mkdir(mode=0o700)
    try:
        environ = settings_env(state=tmp_path / "s", XDG_RUNTIME_DIR=str(runtime))
        os.environ.update(environ)
        path = Path(broker_client.socket_path())
        assert path.is_relative_to(runtime / "hemma")
        assert run(hemma_with(environ))[0] == 0  # type: ignore[operator]
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent, path.parent.parent)] == [
            0o600,
            0o700,
            0o700,
        ]
        assert str(path) in broker_client.all_sockets()
        # The end of a login session removes the folder under a broker that runs.
        shutil.rmtree(runtime / "hemma")
        assert run(hemma_with(environ))[0] == 0  # type: ignore[operator]
    finally:
        shutil.rmtree(runtime)


@pytest.mark.parametrize("kind", ["open", "missing", "relative", "link", pytest.param("foreign", marks=needs_root)])
def test_a_runtime_folder_that_is_not_private_is_passed_over(kind: str, tmp_path: Path) -> None:
    runtime = tmp_path / "r"
    if kind != "missing":
        runtime.mkdir(mode=0o755 if kind == "open" else 0o700)
    if kind == "foreign":
        second_user.give(runtime)
    if kind == "link":
        (tmp_path / "l").symlink_to(runtime)
        runtime = tmp_path / "l"
    os.environ["XDG_RUNTIME_DIR"] = "r" if kind == "relative" else str(runtime)
    os.environ["HEMMA_STATE_DIR"] = "/tmp/hemma-state-of-nobody"
    os.chdir(tmp_path)
    assert broker_client.socket_path().startswith("/tmp/hemma-state-of-nobody/broker/")


# --- on the host ---------------------------------------------------------------------------------------------------


@needs_root
def test_a_supervisor_obeys_its_owner_alone(cli: Cli) -> None:
    run_id = cli("run", "--detach", "--", "sleep", "600").stdout.decode().strip()
    folder = Path(cli.environ["HEMMA_HOST_STATE_DIR"]) / "runs" / run_id
    wait_until((folder / CONTROL).exists)
    folder.chmod(0o711)
    (folder / CONTROL).chmod(0o666)
    kill = frames.frame(frames.SIGNAL, 0, frames.SIGNAL_PAYLOAD.pack(9, b"somebody", 1))
    says = second_user.output_of(_CALLER, CONTROL, kill.hex(), folder=folder)
    assert says == b"answer: "
    assert (store.facts(str(folder))["command_alive"], cli("stop", run_id).returncode) == (True, 0)


@needs_root
def test_a_forged_supervisor_is_not_heard(tmp_path: Path) -> None:
    folder = store.create(str(tmp_path / "runs"), "a-run", {"run_id": "a-run"})
    assert folder is not None
    forged = frames.json_frame(frames.EXIT, 0, {"state": "finished", "exit_code": 0})
    with second_user.listener(CONTROL, forged, makes_folder=False, folder=Path(folder)) as heard:
        view = relay.Relay(1, folder, (0, 0), follow=True)
        assert not view.connect()
        view.close()
        assert heard() == b""


@needs_root
@pytest.mark.parametrize("name", ["runs", "values"])
def test_a_state_folder_of_another_user_on_the_host_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    second_user.give(tmp_path / name)
    with pytest.raises(store.Refused, match="not yours alone: it belongs to user"):
        store.private(store.runs_folder(str(tmp_path)).replace("runs", name))


# --- the check itself ----------------------------------------------------------------------------------------------


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert ownership.peer_uid(ours) == os.geteuid()
        assert ownership.is_own_peer(theirs)
    with socket.socket() as no_local_one:
        assert not ownership.is_own_peer(no_local_one)
