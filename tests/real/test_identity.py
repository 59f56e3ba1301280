"""Nothing acts on the wrong clone: a default host and its root, met from every kind of folder, with real git and sshd."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import Cli, EnvironFor, RepositoryOnHost, make_repository

OTHER = 69


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder; returns its stdout, stripped."""
    argv = ["git", "-C", str(folder), "-c", "protocol.file.allow=always", *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def new(folder: Path, name: str = "train.py", content: str = "mine = 1\n") -> Path:
    """A repository of its own with one commit that has this file."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / name).write_text(content)
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", f"Begin {folder.name}")
    return folder


@dataclass
class Stage:
    """A laptop whose config.toml has one default host with a root; on the host the root is `project`, a clone of `origin`."""

    folder: Path
    hemma: Cli
    project: RepositoryOnHost

    def default_root(self, root: Path) -> None:
        """Let the default host's root be another one."""
        environ = self.hemma.environ
        config = Path(environ["HEMMA_CONFIG_DIR"]) / "config.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        entry = {"ssh": environ["T_ALIAS"], "ssh_config": environ["T_SSH_CONFIG"], "python": environ["T_PYTHON"]}
        lines = [f"{key} = {json.dumps(value)}" for key, value in {**entry, "root": str(root)}.items()]
        config.write_text('default_host = "gpu"\n[hosts.gpu]\n' + "\n".join(lines) + "\n")

    def clone(self, name: str, *options: str, of: Path | None = None) -> Path:
        """A clone on the laptop."""
        git(self.folder, "clone", "-q", *options, f"file://{of or self.project.origin}", name)
        return self.folder / name

    def code(self, cwd: Path, *arguments: str) -> int:
        """The exit code of `hemma` there."""
        return self.hemma(*arguments, cwd=cwd, stdin=b"").returncode


@pytest.fixture
def stage(tmp_path: Path, settings_env: EnvironFor, hemma_with: Callable[[dict[str, str]], Cli]) -> Stage:
    """The laptop of the issue; the broker is shared with all tests of this worker."""
    environ = settings_env(root=None)
    named = {"T_ALIAS": "HEMMA_HOST", "T_SSH_CONFIG": "HEMMA_SSH_CONFIG", "T_PYTHON": "HEMMA_PYTHON"}
    environ |= {name: environ.pop(variable) for name, variable in named.items()}
    (tmp_path / "host").mkdir()
    project = make_repository(tmp_path / "host")
    (project.path / "train.py").write_text("theirs = 1\n")
    project.git("add", "--all")
    project.git("commit", "-q", "-m", "Train")
    # Not below tmp_path: the broker that is shared keeps this environment.
    environ["HEMMA_CONFIG_DIR"] = str(Path(environ["HEMMA_STATE_DIR"]).parent / "default-host")
    made = Stage(tmp_path, hemma_with(environ), project)
    made.default_root(project.path)
    return made


def everything(project: RepositoryOnHost) -> tuple[str, ...]:
    """What acting on the wrong clone would change: files, index, refs, and origin's refs."""
    origin = subprocess.run(
        ["git", "-C", str(project.origin), "for-each-ref"], capture_output=True, text=True, check=True
    )
    text = (project.path / "train.py").read_text()
    return (
        project.git("status", "--porcelain"),
        project.git("for-each-ref"),
        project.git("ls-files", "-s"),
        text,
        origin.stdout,
    )


ACTS = (
    ("put", "train.py"),
    ("put", "-H", "gpu", "train.py"),
    ("get", "train.py"),
    ("edit", "train.py"),
    ("apply", "patch.diff"),
    ("commit", "-a", "-m", "Mine"),
    ("push",),
    ("sync",),
    ("status",),
    ("train", "train.yaml"),
    ("slice", "issue", "slice.yaml"),
    ("hooks", "install", "--host"),
    ("run", "--", "touch", "wrong"),
    ("run", "--detach", "--", "touch", "wrong"),
)


@pytest.mark.parametrize("arguments", ACTS, ids=lambda arguments: "-".join(arguments[:3]))
def test_in_another_repository_a_default_hosts_root_is_never_acted_on(stage: Stage, arguments: tuple[str, ...]) -> None:
    mine = new(stage.folder / "mine")
    (mine / "patch.diff").write_text("--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-theirs = 1\n+theirs = 2\n")
    (stage.project.path / "train.py").write_text("theirs = 1\nuncommitted = 1\n")
    before = everything(stage.project)
    done = stage.hemma(*arguments, cwd=mine, env={"EDITOR": "true", "HEMMA_DEBUG": ""})
    said = done.stderr.decode()
    assert done.returncode == OTHER, (done.stdout, said)
    assert str(stage.project.path) in said
    assert str(mine) in said
    assert everything(stage.project) == before
    assert (mine / "train.py").read_text() == "mine = 1\n"
    assert not (stage.project.path / "wrong").exists()


def test_a_run_with_the_host_said_goes_there_and_says_where(stage: Stage) -> None:
    mine = new(stage.folder / "mine")
    done = stage.hemma("run", "-H", "gpu", "--", "pwd", cwd=mine)
    assert (done.returncode, done.stdout.decode().strip()) == (0, str(stage.project.path))
    assert f"ran in {stage.project.path} on gpu" in done.stderr.decode()
    done = stage.hemma("run", "--json", "-H", "gpu", "--", "true", cwd=mine)
    assert json.loads(done.stdout)["ran_elsewhere"]["root"] == str(stage.project.path)
    assert stage.hemma("run", "-q", "-H", "gpu", "--", "true", cwd=mine).stderr == b""
    refused = stage.hemma("run", "--json", "--", "true", cwd=mine)
    assert json.loads(refused.stdout)["error"] == "another-repository"
    assert "hemma run -H gpu -- " in json.loads(refused.stdout)["remedy"]


def test_in_a_folder_of_no_repository_runs_go_on_and_what_acts_needs_the_host_said(stage: Stage) -> None:
    folder = stage.folder / "plain"
    folder.mkdir()
    (folder / "new.py").write_text("x = 1\n")
    assert stage.hemma("run", "--", "true", cwd=folder).stderr == b""
    for arguments in (("put", "new.py", "new.py"), ("get", "train.py", "x.py"), ("push",), ("commit", "-a", "-m", "M")):
        assert stage.code(folder, *arguments) == OTHER
    assert not (stage.project.path / "new.py").exists()
    assert stage.code(folder, "put", "-H", "gpu", "new.py", "new.py") == 0
    assert (stage.project.path / "new.py").read_text() == "x = 1\n"
    stage.default_root(folder)
    assert stage.code(new(stage.folder / "mine"), "run", "--", "true") == 67


def test_a_clone_may_act_and_a_linked_work_tree_is_the_same_clone(stage: Stage) -> None:
    here = stage.clone("here")
    git(here, "worktree", "add", "-q", "-b", "side", str(stage.folder / "side"))
    for folder in (here, stage.folder / "side"):
        (folder / "new.py").write_text(f"{folder.name} = 1\n")
        done = stage.hemma("put", "new.py", cwd=folder)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
        assert (stage.project.path / "new.py").read_text() == f"{folder.name} = 1\n"
        assert stage.hemma("run", "--", "true", cwd=folder).stderr == b""


def test_a_submodule_is_never_taken_for_the_repository_around_it(stage: Stage) -> None:
    part = new(stage.folder / "part", "part.py")
    here = stage.clone("here")
    git(here, "submodule", "add", "-q", f"file://{part}", "libs/part")
    inside = here / "libs/part"
    for arguments in (("status",), ("put", "part.py"), ("run", "--", "true"), ("sync",)):
        done = stage.hemma(*arguments, cwd=inside)
        assert done.returncode == OTHER, arguments
        assert f"submodule of {here}" in done.stderr.decode()
    assert not (stage.project.path / "part.py").exists()
    # With a root of its own it has a counterpart.
    git(stage.folder, "clone", "-q", f"file://{part}", "part-on-host")
    stage.default_root(stage.folder / "part-on-host")
    assert stage.code(inside, "status") == 0
    assert stage.code(here, "status") == OTHER


def test_a_fork_is_allowed_and_said_once(stage: Stage) -> None:
    fork = stage.folder / "fork.git"
    git(stage.folder, "clone", "-q", "--bare", f"file://{stage.project.origin}", str(fork))
    here = stage.clone("here", of=fork)
    (here / "new.py").write_text("x = 1\n")
    first = stage.hemma("put", "new.py", cwd=here)
    assert (first.returncode, first.stderr.count(b"taken for a fork")) == (0, 1)
    for arguments in (("put", "new.py"), ("run", "--", "true"), ("status",)):
        again = stage.hemma(*arguments, cwd=here)
        assert (again.returncode, again.stderr) == (0, b"")


def test_shallow_clones_are_known_by_their_origin_or_by_a_commit_they_share(stage: Stage) -> None:
    stage.project.git("push", "-q")
    shallow = stage.clone("shallow", "--depth", "1")
    assert stage.code(shallow, "status") == 0
    git(shallow, "remote", "set-url", "origin", "https://forge.example/elsewhere.git")
    assert stage.code(shallow, "status") == 0
    git(shallow, "commit", "-q", "--allow-empty", "-m", "Ahead")
    assert stage.code(shallow, "run", "--", "true") == 0
    stage.default_root(new(stage.folder / "stranger"))
    done = stage.hemma("status", cwd=shallow)
    assert done.returncode == OTHER
    assert b"unshallow" in done.stderr
    on_host = stage.clone("shallow-on-host", "--depth", "1")
    stage.default_root(on_host)
    assert stage.code(stage.clone("deep"), "status") == 0


def test_an_unborn_branch_is_known_by_its_origin(stage: Stage) -> None:
    here = stage.folder / "here"
    here.mkdir()
    git(here, "init", "-q")
    assert stage.code(here, "run", "--", "true") == OTHER
    git(here, "remote", "add", "origin", str(stage.project.origin))
    assert stage.code(here, "run", "--", "true") == 0
    assert stage.code(here, "get", "README.md") == 0
    git(here, "remote", "set-url", "origin", "https://forge.example/elsewhere.git")
    assert stage.code(here, "get", "README.md") == OTHER


def test_two_empty_repositories_are_paired_only_by_a_root_of_this_folders_own(stage: Stage) -> None:
    there, here = stage.folder / "there", stage.folder / "here"
    for folder in (there, here):
        folder.mkdir()
        git(folder, "init", "-q")
    (here / "new.py").write_text("x = 1\n")
    stage.default_root(there)
    assert stage.code(here, "put", "new.py") == OTHER
    assert stage.code(here, "run", "--", "true") == OTHER
    own = {"HEMMA_ROOT": str(there)}
    assert stage.hemma("put", "new.py", cwd=here, env=own).returncode == 0
    git(here, "add", "--all")
    git(here, "commit", "-q", "-m", "Begin")
    assert stage.hemma("put", "new.py", cwd=here, env=own).returncode == 0
    git(there, "add", "--all")
    git(there, "commit", "-q", "-m", "Begin otherwise")
    for arguments in (("put", "new.py"), ("run", "--", "true")):
        assert stage.hemma(*arguments, cwd=here, env=own).returncode == OTHER


def test_one_origin_and_two_histories_are_two_repositories(stage: Stage) -> None:
    mine = new(stage.folder / "mine")
    git(mine, "remote", "add", "origin", str(stage.project.origin))
    done = stage.hemma("put", "train.py", cwd=mine)
    assert done.returncode == OTHER
    assert b"no commit in common" in done.stderr


def test_what_was_proven_is_proven_again_when_a_side_becomes_another(stage: Stage) -> None:
    here = stage.clone("here")
    (here / "new.py").write_text("x = 1\n")
    assert stage.code(here, "put", "new.py") == 0
    assert stage.code(here, "run", "--", "true") == 0
    # The host's clone is made anew from something else, at the same place.
    shutil.rmtree(stage.project.path)
    new(stage.project.path)
    assert stage.code(here, "put", "new.py") == OTHER
    assert stage.code(here, "run", "--", "true") == OTHER
    assert stage.hemma("run", "-H", "gpu", "--", "pwd", cwd=here).returncode == 0
    # This side follows: then they are the same again.
    git(here, "fetch", "-q", str(stage.project.path), "main")
    git(here, "checkout", "-q", "-B", "main", "FETCH_HEAD")
    assert stage.code(here, "put", "new.py") == 0
    # And the host's history moves to an unrelated one.
    git(stage.project.path, "checkout", "-q", "--orphan", "unrelated")
    git(stage.project.path, "commit", "-q", "-m", "Unrelated")
    assert stage.code(here, "put", "new.py") == OTHER


def test_a_warm_run_starts_no_git_here(stage: Stage) -> None:
    here = stage.clone("here")
    assert stage.code(here, "run", "--", "true") == 0
    without = {"PATH": "/nonexistent"}
    assert stage.hemma("run", "--", "true", cwd=here, env=without).returncode == 0
    git(here, "commit", "-q", "--allow-empty", "-m", "Moved")
    done = stage.hemma("run", "--", "true", cwd=here, env=without)
    assert done.returncode == OTHER
    assert b"git cannot be started" in done.stderr
    own = {**without, "HEMMA_ROOT": str(stage.project.path)}
    assert stage.hemma("run", "--", "true", cwd=here, env=own).returncode == 0


def test_no_byte_of_input_is_lost_while_the_hosts_clone_is_looked_at(stage: Stage) -> None:
    here = stage.clone("here")
    data = os.urandom(3 << 20)
    for _ in range(2):
        done = stage.hemma("run", "--", "cat", cwd=here, stdin=data)
        assert (done.returncode, done.stdout) == (0, data)
        stage.project.git("commit", "-q", "--allow-empty", "-m", "Moved")


def test_a_signal_that_comes_while_the_clone_is_looked_at_ends_the_run(stage: Stage) -> None:
    here = stage.clone("here")
    child = stage.hemma.start("run", "--timeout", "30", "--", "sleep", "25", cwd=here)
    child.send_signal(2)
    assert child.wait(20) in (130, -2)
