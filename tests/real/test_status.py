"""`hemma status`: three clones side by side, in one round trip, and nothing is changed by looking."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.flows import status
from tests.real.three_clones import Sync, ThreeClones, make_clones, notebook
from tests.support import Cli, EnvironFor

Make = Callable[[dict[str, str]], Cli]


@pytest.fixture
def clones(tmp_path: Path) -> ThreeClones:
    """Local, host, other and origin at one commit."""
    return make_clones(tmp_path / "clones")


@pytest.fixture
def cli(hemma_with: Make, settings_env: EnvironFor, clones: ThreeClones) -> Cli:
    """The CLI in the local clone, for the host's clone."""
    made = hemma_with(settings_env(root=clones.path("host")))
    made.folder = clones.path("local")
    return made


def picture(clones: ThreeClones, *, fetch: bool = True) -> Any:
    sync = Sync(clones)
    seen = status.read(sync.local, sync.host, fetch=fetch)
    assert sync.asked == ["git-state"]
    return seen


def test_each_clone_is_told_apart_with_its_relation_to_origin(clones: ThreeClones) -> None:
    seen = picture(clones)
    assert (seen["local"]["relation"], seen["host"]["relation"], seen["problem"]) == ("equal", "equal", None)
    assert seen["host"]["against_local"] == [0, 0]
    clones.commit("host", "src/h.py", "h")
    assert picture(clones)["host"]["relation"] == "ahead"
    assert picture(clones)["host"]["against_local"] is None
    clones.publish("docs/o.md", "o")
    assert picture(clones, fetch=False)["host"]["relation"] == "ahead"
    seen = picture(clones)
    assert (seen["local"]["relation"], seen["host"]["relation"]) == ("behind", "diverged")
    assert (seen["host"]["ahead"], seen["host"]["behind"]) == (1, 1)
    assert seen["origin"]["head"] == clones.head("origin")


def test_what_is_uncommitted_unfinished_or_put_aside_is_shown(clones: ThreeClones) -> None:
    clones.commit("host", "n.ipynb", notebook())
    clones.write("host", "src/train.py", "STEPS = 2\n")
    clones.git("host", "stash", "push", "-q")
    clones.write("host", "n.ipynb", notebook(count=3))
    clones.write("host", "a b\nc", "x")
    host = picture(clones)["host"]
    assert [(each["path"], each["kind"], each["drift"]) for each in host["dirty"]] == [
        ("n.ipynb", "changed", "metadata-only"),
        ("a b\nc", "untracked", None),
    ]
    assert host["stash_count"] == 1
    clones.git("host", "restore", "n.ipynb")
    clones.git("host", "switch", "-q", "-c", "side", "HEAD~1")
    clones.commit("host", "n.ipynb", notebook("!hemma status"))
    clones.try_git("host", "merge", "main")
    host = picture(clones)["host"]
    assert (host["branch"], host["operation"]) == ("side", "merge")
    assert ("n.ipynb", "conflicted") in [(each["path"], each["kind"]) for each in host["dirty"]]


def test_looking_changes_nothing(clones: ThreeClones) -> None:
    clones.write("host", "src/train.py", "STEPS = 2\n")
    clones.commit("local", "docs/l.md", "l")
    before, index = clones.snapshot(), clones.path("host", ".git", "index").read_bytes()
    picture(clones)
    assert clones.snapshot() == before
    assert clones.path("host", ".git", "index").read_bytes() == index


def test_the_table_and_the_json_say_the_same(clones: ThreeClones, cli: Cli) -> None:
    clones.commit("host", "src/h.py", "h")
    clones.write("local", "docs/\x1b[31m.md", "x")
    told = cli("status", "--fetch")
    assert told.returncode == 0, told.stderr
    rows = {line.split()[0]: line for line in told.stdout.decode().splitlines()[1:4]}
    assert clones.head("host")[:9] in rows["host"]
    assert "ahead 1" in rows["host"]
    assert "equal" in rows["local"]
    assert "\x1b" not in told.stdout.decode()
    answer = json.loads(cli("status", "--json").stdout)
    assert answer["host"]["head"] == clones.head("host")
    assert answer["local"]["dirty"][0]["path"] == "docs/\x1b[31m.md"


def test_a_password_in_the_address_of_origin_is_not_shown(clones: ThreeClones) -> None:
    clones.git("local", "remote", "set-url", "origin", "https://me:hunter2@example.invalid/x.git")
    seen = picture(clones, fetch=False)
    assert seen["origin"]["url"] == "https://example.invalid/x.git"
    assert "hunter2" not in json.dumps(seen)


@pytest.mark.parametrize("kind", ["worktree", "clone"])
def test_the_local_side_may_be_a_linked_work_tree(clones: ThreeClones, tmp_path: Path, kind: str) -> None:
    if kind == "worktree":
        clones.git("local", "switch", "-q", "-c", "elsewhere")
        clones.git("local", "worktree", "add", "-q", str(clones.path("linked")), "main")
    else:
        clones.git("local", "clone", "-q", str(clones.path("origin")), str(clones.path("linked")))
    sync = Sync(clones, "linked")
    clones.commit("host", "src/h.py", "h")
    assert sync() == ["host push", "local fetch", "local fast-forward"]
    assert clones.text("linked", "src/h.py") == "h"


def test_status_loads_what_it_needs_and_no_models() -> None:
    code = "import controller.cli.sync, sys; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"pydantic", "yaml", "pathspec", "lanes.notebooks", "lanes.rules"} & set(told.stdout.split()) == set()
