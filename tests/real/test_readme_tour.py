"""The tour in README.md, run as it stands: every `$ ` line in order, and what it prints is what the page says."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote import loopback
from tests.support import GIT_CONFIG, end_brokers, make_repository

README = Path(__file__).resolve().parents[2] / "README.md"
ANY_LINES = "..."
MARK = "\x1e"


def tour() -> list[tuple[str, list[str]]]:
    """Each command of the page's console blocks, with the lines that it shows as output."""
    steps: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append((line[2:], []))
            else:
                steps[-1][1].append(line)
    return steps


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of the laptop: `ssh gpu-box` reaches a loopback host with a clone in ~/work/project."""
    laptop, user = tmp_path / "laptop", tmp_path / "host"
    for home in (laptop, user):
        home.mkdir()
        (home / ".gitconfig").write_text(GIT_CONFIG)
    repository = make_repository(tmp_path / "made")
    (repository.path / "pyproject.toml").write_text('[project]\nname = "project"\n')
    repository.git("add", "--all")
    repository.git("commit", "-q", "-m", "Name it")
    repository.git("push", "-q")
    for clone in (laptop / "project", user / "work/project"):
        subprocess.run(["git", "clone", "-q", str(repository.origin), str(clone)], check=True, timeout=60)
    host = loopback.start("tour", state_dir=str(tmp_path / "sshd"), backend="openssh", home=str(user))
    (laptop / ".ssh").mkdir(mode=0o700)
    config = loopback.client_config(host, host.port, host.known_hosts).replace(f"Host {host.alias}", "Host gpu-box")
    (laptop / ".ssh/config").write_text(config)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEMMA_", "XDG_", "GIT_CONFIG"))}
    state = laptop / ".local/state/hemma"
    path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    yield {**kept, "HOME": str(laptop), "USER": "me", "PATH": path, "HEMMA_STATE_DIR": str(state)}
    end_brokers(state)
    loopback.stop("tour", state_dir=str(tmp_path / "sshd"))


def outputs(commands: list[str], environ: dict[str, str]) -> list[str]:
    """What each command prints, stdout and stderr together, all of them in one bash."""
    script = "".join(f"{command}\nprintf '{MARK}'\n" for command in commands)
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", script],
        cwd=environ["HOME"],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=100,
        check=False,
    )
    return done.stdout.decode(errors="replace").split(MARK)[:-1]


def normalised(text: str, environ: dict[str, str]) -> list[str]:
    """Lines with what differs from day to day made equal: paths, ids, times, hashes, the machine's name, widths."""
    laptop = environ["HOME"]
    text = text.replace(laptop, "/home/me").replace(str(Path(laptop).parent / "host"), "/home/user")
    text = text.replace(f"me@{platform.node()}", "me@laptop")
    for pattern, word in (
        (r"\b\d{8}-\d{6}(\d{3})?(-\d+)?-[0-9a-f]{4,}\b", "RUN-ID"),
        (r"\b\d+\.\d+s\b", "TIME"),
        (r"\b[0-9a-f]{7}\.\.[0-9a-f]{7}\b", "RANGE"),
        (r"\b[0-9a-f]{9,12}\b", "COMMIT"),
        (r"\b\d{8}T\d{6}(?:\.\d+)?Z-[0-9a-f]{6}\b", "BACKUP"),
        (r"\bstarting\b", "running"),
    ):
        text = re.sub(pattern, word, text)
    return [" ".join(line.split()) for line in text.splitlines()]


def is_as_shown(shown: list[str], seen: list[str]) -> bool:
    """Whether `seen` is what the page shows, where a line of three dots stands for any lines."""
    if not shown:
        return not seen
    if shown[0] == ANY_LINES:
        return any(is_as_shown(shown[1:], seen[start:]) for start in range(len(seen) + 1))
    return bool(seen) and shown[0] == seen[0] and is_as_shown(shown[1:], seen[1:])


@pytest.mark.req("S9-R13")
def test_the_tour_prints_what_the_page_says(stage: dict[str, str]) -> None:
    steps = tour()
    printed = outputs([command for command, _ in steps], stage)
    assert len(printed) == len(steps)
    for (command, lines), output in zip(steps, printed, strict=True):
        shown, seen = normalised("\n".join(lines), stage), normalised(output, stage)
        assert is_as_shown(shown, seen), f"$ {command}\n" + "\n".join(seen)


def test_three_dots_stand_for_any_lines_and_nothing_else_does() -> None:
    assert is_as_shown(["a", "...", "c"], ["a", "b", "b", "c"])
    assert is_as_shown(["a", "..."], ["a"])
    assert not is_as_shown(["a", "c"], ["a", "b", "c"])
    assert not is_as_shown(["a"], ["a", "b"])
