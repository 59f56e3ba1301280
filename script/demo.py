"""The daily loop, narrated: every command is the real one, every result is checked. Run it with script/demo.

The last chapter trains a tiny model; it needs the training environment (script/setup-train), and --no-train leaves it out.

Everything lies under .state/demo: the loopback host with its keys, a bare origin, the authoritative clone on the host and
the clone of the laptop. Exits 1 at the first step that does not do what it says, and always stops what it started.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from remote import local_process, loopback
from script.chapters import gather_text, go_through_colab, keep_it_honest, train
from script.telling import (
    COMMAND_TIMEOUT_S,
    DRIVE,
    GIT_ENVIRON,
    HOST_CLONE,
    LAPTOP_CLONE,
    ORIGIN,
    REPOSITORY,
    STATE,
    StepFailed,
    check,
    environ,
    run,
    show_command,
    show_output,
    step,
)

HOST = "demo"
STREAMED_LINES = 30
# Of the host's clone, where a commit is made by the host's git.
HOST_CONFIG = {
    "user.name": "A Demo",
    "user.email": "demo@example.invalid",
    "commit.gpgSign": "false",
    "core.hooksPath": ".git/hooks",
}


# --- the story ---------------------------------------------------------------------------------------------------


def start_the_host() -> None:
    """A loopback host, a bare origin, and two clones of this repository."""
    step("A host: a real SSH server on this machine, with keys of its own")
    run("hemma", "host", "up", HOST, "--loopback", cwd=STATE)
    step("The repository: an origin, the authoritative clone on the host, and the laptop's clone")
    make_origin()
    for clone in (HOST_CLONE, LAPTOP_CLONE):
        run("git", "clone", "--quiet", str(ORIGIN), str(clone), cwd=STATE)
    for name, value in HOST_CONFIG.items():
        run("git", "-C", str(HOST_CLONE), "config", name, value, quiet=True)
    root = f"--root={HOST_CLONE}"
    env = [f"--env={name}={value}" for name, value in GIT_ENVIRON.items()]
    show_command(["hemma", "init", f"--host={HOST}", root, "--env=..."])
    run("hemma", "init", f"--host={HOST}", root, *env, "--force", quiet=True)
    run("git", "commit", "--quiet", "--all", "--message=Say where this runs")
    run("git", "push", "--quiet")
    run("hemma", "sync")


def make_origin() -> None:
    """A bare repository whose main is what is committed here (or what lies here, when this is no clone)."""
    run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(ORIGIN), cwd=STATE, quiet=True)
    run("git", "-C", str(ORIGIN), "config", "receive.shallowUpdate", "true", cwd=STATE, quiet=True)
    source = REPOSITORY
    if not (REPOSITORY / ".git").exists():
        source = STATE / "source"
        shutil.copytree(
            REPOSITORY, source, ignore=shutil.ignore_patterns(".state", ".venv", "__pycache__", ".pdm-build")
        )
        for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=As unpacked"]):
            run("git", *arguments, cwd=source, quiet=True)
    run("git", "push", "--quiet", str(ORIGIN), "HEAD:refs/heads/main", cwd=source, quiet=True)


def run_commands() -> None:
    """Arguments, streams and exit codes arrive as they are."""
    step("Run commands on the host, as if they ran here")
    where = run("hemma", "run", "--", "git", "rev-parse", "--show-toplevel")
    check(where.strip() == str(HOST_CLONE), "it ran in the authoritative clone")
    words = ["two  words", "it's", "$HOME", "*", ""]
    told = run("hemma", "run", "--", "printf", "<%s>\\n", *words)
    check(told == "".join(f"<{word}>\n" for word in words), "every argument arrived byte for byte")
    counted = run("hemma", "run", "--", "wc", "-c", stdin=b"piped through\n")
    check(counted.strip() == "14", "stdin was piped through, with its end")
    run("hemma", "run", "--shell", "echo to stderr >&2; exit 3", expect=3)
    check(True, "the exit code is the command's own")


def edit_on_the_host() -> None:
    """The host is the truth: what it runs is edited, committed and pushed there."""
    step("Where does an edit belong?")
    told = run("hemma", "lane", "configs/rate.yaml", "README.md", expect=13)
    check("host" in told and "local" in told, "a mixed change: one file is the host's, one is the laptop's")
    step("Edit, commit and push on the host")
    run("hemma", "run", "--shell", "mkdir -p configs && echo 'lr: 3e-4' > configs/rate.yaml")
    said = run("hemma", "commit", "--message=Note the learning rate", "configs/rate.yaml")
    check("Hemma-Run: " in said, "the commit says on which host, in which lane and run it was made")
    run("hemma", "push")


def bring_clones_together() -> None:
    """Local, host and origin differ; a sync merges them, and nothing ever rewrites them."""
    step("Meanwhile the laptop has a document; bring the three clones together")
    with (LAPTOP_CLONE / "README.md").open("a", encoding="utf-8") as file:
        file.write("\nTried 3e-4.\n")
    check("README.md" in run("hemma", "where"), "where names each changed file, its lane and the next command")
    run("git", "commit", "--quiet", "--all", "--message=Note what was tried")
    run("hemma", "status")
    run("hemma", "sync")
    heads = [
        run("git", "-C", str(path), "rev-parse", "main", quiet=True) for path in (LAPTOP_CLONE, HOST_CLONE, ORIGIN)
    ]
    check(len(set(heads)) == 1, "laptop, host and origin are at the same commit")
    graph = run("git", "log", "--graph", "--format=%h %s", "-4")
    check("Note the learning rate" in graph and "Merge" in graph, "it is a merge: nothing was rewritten")
    step("What would rewrite history is refused, with the command that does not")
    run("hemma", "run", "--", "git", "push", "--force", expect=75)
    check(True, "nothing was started on the host")


def cut_the_connection() -> None:
    """Every SSH connection is killed in the middle of a stream; the output is whole all the same."""
    step("Cut the SSH connection in the middle of a streaming command")
    line = f"for n in $(seq {STREAMED_LINES}); do echo line $n; sleep 0.1; done; exit 7"
    argv = ["hemma", "run", "--shell", line]
    show_command(argv)
    started = subprocess.Popen(
        argv, cwd=LAPTOP_CLONE, env=environ(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    notices: list[bytes] = []
    # Read apart, or the client could stall on a full pipe.
    reader = threading.Thread(target=lambda: notices.extend(started.stderr or []), daemon=True)
    reader.start()
    lines = stream_and_cut(started)
    code = started.wait(COMMAND_TIMEOUT_S)
    reader.join(5)
    show_output(b"".join(notices).decode(errors="replace"))
    wanted = [f"line {number}" for number in range(1, STREAMED_LINES + 1)]
    check(lines == wanted, f"all {STREAMED_LINES} lines, each once, in order")
    check(code == 7, "and the exit code of the command, 7")


def stream_and_cut(started: subprocess.Popen[bytes]) -> list[str]:
    """Show the lines as they come, and kill the host's SSH sessions after the tenth; returns all lines."""
    timer = threading.Timer(COMMAND_TIMEOUT_S, started.kill)
    timer.start()
    lines: list[str] = []
    for raw in started.stdout or []:
        lines.append(raw.decode().rstrip("\n"))
        if len(lines) % 5 == 0:
            show_output(lines[-1])
        if len(lines) == 10:
            check(cut_sessions() > 0, "cut: the server's side of every SSH connection was killed")
    timer.cancel()
    return lines


def cut_sessions() -> int:
    """Kill the SSH sessions of the host; the server itself, and the commands, live on. Returns how many there were."""
    host = loopback.find(HOST, str(STATE / "hemma/state"))
    if host is None:
        raise StepFailed("the loopback host is not running")
    if host.backend == "asyncssh":  # one process serves all sessions: it is stopped and started
        loopback.stop(HOST, str(STATE / "hemma/state"))
        loopback.start(HOST, str(STATE / "hemma/state"), "asyncssh", host.home)
        return 1
    sessions = local_process.descendants(host.pid, "sshd")
    for pid in sessions:
        os.kill(pid, signal.SIGKILL)
    return len(sessions)


def detach() -> None:
    """A run that nobody waits for, and how to come back to it."""
    step("Start a detached run, look at it, follow it")
    line = "for epoch in 1 2 3 4 5; do echo epoch $epoch; sleep 0.4; done"
    run_id = run("hemma", "run", "--detach", "--shell", line).strip()
    check(bool(run_id) and " " not in run_id, "it printed a run id and left")
    listed = run("hemma", "ps")
    check(run_id in listed, "ps lists it")
    followed = run("hemma", "logs", "-f", run_id)
    check(followed == "".join(f"epoch {n}\n" for n in range(1, 6)), "logs -f showed it from its beginning to its end")
    run("hemma", "wait", run_id)
    check(True, "wait says how it ended: 0")


STORY = (
    start_the_host,
    run_commands,
    edit_on_the_host,
    bring_clones_together,
    cut_the_connection,
    detach,
    gather_text,
    go_through_colab,
)
LAST = (keep_it_honest,)

# --- beginning and end -------------------------------------------------------------------------------------------


def clean_up() -> None:
    """Stop the broker and the host, of this demo or of one that was killed; then nothing of it runs."""
    if (STATE / "hemma").is_dir():
        subprocess.run(["hemma", "host", "down", "--all"], cwd=STATE, env=environ(), capture_output=True, check=False)
    loopback.stop(HOST, str(STATE / "hemma/state"))


def still_running() -> dict[int, str]:
    """pid -> command line of each process that works below .state/demo (Linux; elsewhere nothing can be told)."""
    found: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            argv, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(STATE) in argv + b"\0" + environment and int(entry.name) != os.getpid():
            found[int(entry.name)] = argv.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def on_signal(number: int, frame: FrameType | None) -> NoReturn:
    """A signal ends the demo the way a failed step does: with everything stopped."""
    del frame
    raise StepFailed(f"interrupted by signal {signal.Signals(number).name}")


def main() -> int:
    """Tell the story; returns 0 when every step did what it says and nothing is left running."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-train", action="store_true", help="leave the training step (and its 5.6 GB) out")
    story = (*STORY, *LAST) if parser.parse_args().no_train else (*STORY, train, *LAST)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    started_s = time.monotonic()
    clean_up()
    shutil.rmtree(STATE, ignore_errors=True)
    for folder in (ORIGIN.parent, LAPTOP_CLONE.parent, STATE / "hemma", DRIVE):
        folder.mkdir(parents=True)
    failure = ""
    try:
        for chapter in story:
            chapter()
        step("Stop everything")
        run("hemma", "host", "down", "--all", cwd=STATE)
    except (StepFailed, subprocess.TimeoutExpired) as problem:
        failure = str(problem)
    finally:
        clean_up()
        if not local_process.holds_within(lambda: not still_running(), 1 if failure else 10):
            failure = failure or "left running: " + "; ".join(still_running().values())
            local_process.end([(pid, local_process.started(pid)) for pid in still_running()])
    return conclude(failure, time.monotonic() - started_s)


def conclude(failure: str, took_s: float) -> int:
    """Print the last line; returns the exit code."""
    print(
        f"\ndemo: failed: {failure}" if failure else f"\ndemo: ok, in {took_s:.0f} s, nothing left running", flush=True
    )
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
