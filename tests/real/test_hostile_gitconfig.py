"""Every setting of git's that bends what it prints, set at once, here and on the host: no command reads anything wrong."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.three_clones import ThreeClones, make_clones
from tests.support import Cli, EnvironFor

HOSTILE = """
[core]
    quotePath = true
    pager = false
[color]
    ui = always
    diff = always
    status = always
    branch = always
[column]
    ui = always
[diff]
    noprefix = true
    mnemonicPrefix = true
    relative = true
    external = false
    context = 0
    submodule = log
    colorMoved = zebra
    renames = copies
    wordRegex = .
[diff "loud"]
    textconv = tr a-z A-Z <
    command = false
[log]
    showSignature = true
    showRoot = false
    decorate = full
    date = relative
    follow = true
    abbrevCommit = true
[format]
    pretty = oneline
[status]
    short = true
    branch = true
    relativePaths = false
    showUntrackedFiles = no
    renames = copies
    showStash = true
[apply]
    whitespace = error-all
    ignoreWhitespace = change
[fetch]
    output = compact
    prune = true
[push]
    default = nothing
[merge]
    conflictStyle = diff3
    ff = only
[user]
    name = Somebody
    email = somebody@example.org
"""
NAME = "src/caf\u00e9.py"


@pytest.fixture
def clones(tmp_path: Path) -> ThreeClones:
    """Local, host, other and origin at one commit; local and host are a hostile user's."""
    made = make_clones(tmp_path / "clones")
    made.write("other", ".gitattributes", "*.py diff=loud\n")
    made.write("other", "pyproject.toml", '[tool.hemma]\nhost = "box"\n')
    made.publish(NAME, "".join(f"n{number} = {number}\n" for number in range(40)))
    for place in ("local", "host"):
        made.git(place, "pull", "-q")
        settings = made.path(place, ".git/config")
        settings.write_text(settings.read_text(encoding="utf-8") + HOSTILE, encoding="utf-8")
    return made


@pytest.fixture
def cli(hemma_with: Callable[[dict[str, str]], Cli], settings_env: EnvironFor, clones: ThreeClones) -> Cli:
    """The CLI in the local clone, for the host's clone."""
    global_settings = clones.folder / "gitconfig"
    global_settings.write_text(HOSTILE, encoding="utf-8")
    made = hemma_with({**settings_env(root=clones.path("host")), "GIT_CONFIG_GLOBAL": str(global_settings)})
    made.folder = clones.path("local")
    assert made("trust", "--yes").returncode == 0
    return made


def paste(cli: Cli, line: str, folder: str) -> subprocess.CompletedProcess[bytes]:
    """A command as it is shown, pasted into a shell in a folder of the local clone."""
    script = os.path.dirname(cli.argv()[0])
    environ = {**cli.environ, "PATH": f"{os.fsdecode(script)}:{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", line], cwd=cli.folder / folder, env=environ, capture_output=True, check=False)


def to_do(shown: str) -> list[str]:
    """The commands that are shown to be pasted."""
    return [line.split(maxsplit=1)[1] for line in shown.splitlines() if line.startswith("do ")]


def test_an_edit_goes_to_the_host_by_the_commands_that_are_shown(clones: ThreeClones, cli: Cli) -> None:
    edited = clones.text("local", NAME).replace("n7 = 7\n", "n7 = 70 \n").replace("n30 = 30\n", "")
    clones.write("local", NAME, edited)
    clones.write("local", "src/bytes.py", b"\0\1\2")
    shown = cli("where").stdout.decode()
    assert NAME in shown
    lines = [line for line in to_do(shown) if line.startswith("git add ") or "hemma apply" in line]
    assert [line.split()[1] for line in lines] == ["add", "diff-index"]
    for line in lines:
        done = paste(cli, line, ".")
        assert done.returncode == 0, (line, done.stderr)
    assert clones.text("host", NAME) == edited
    assert clones.path("host", "src/bytes.py").read_bytes() == b"\0\1\2"
    state = json.loads(cli("status", "--json").stdout)
    assert sorted(entry["path"] for entry in state["host"]["dirty"]) == ["src/bytes.py", NAME]
    assert sorted(entry["path"] for entry in state["local"]["dirty"]) == ["src/bytes.py", NAME]


def test_what_is_committed_here_goes_to_the_host_as_a_range(clones: ThreeClones, cli: Cli) -> None:
    clones.commit("local", NAME, clones.text("local", NAME).replace("n7 = 7\n", "n7 = 70\n"))
    shown = cli("lane", "--diff", "HEAD~1..HEAD").stdout.decode()
    (line,) = [line for line in to_do(shown) if "hemma apply" in line]
    done = paste(cli, line, ".")
    assert done.returncode == 0, (line, done.stderr)
    assert clones.text("host", NAME) == clones.text("local", NAME)


def test_hooks_and_memory_read_what_is_there(clones: ThreeClones, cli: Cli) -> None:
    assert cli("hooks", "install").returncode == 0
    clones.write("local", NAME, "n = 0\n")
    done = paste(cli, "git commit -qam x", ".")
    assert (done.returncode, NAME.encode() in done.stderr) == (1, True), done.stderr
    assert clones.text("local", NAME) == "n = 0\n"
    assert cli("memory", "init").returncode == 0
    for number in range(2):
        assert cli("memory", "log", f"asked {number}", "done", "--file", NAME).returncode == 0
        clones.git("local", "add", "--all")
        clones.git("local", "commit", "-q", "--no-verify", "-m", "Memory")
    done = cli("memory", "check")
    assert (done.returncode, b"\x1b" in done.stdout) == (0, False), done.stderr
    told = json.loads(cli("memory", "show", "--json").stdout)
    assert NAME in json.dumps(told, ensure_ascii=False)
