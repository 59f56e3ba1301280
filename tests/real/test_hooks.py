"""Hooks in real git: what they refuse, what was there before, and that all of it goes again; here and on the host."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controller.flows import hooks as flow
from manifests.errors import HemmaError
from remote.hook_scripts import INSTALLER
from tests.support import Cli, EnvironFor, RepositoryOnHost, make_repository

pytestmark = [pytest.mark.req("S9-R08"), pytest.mark.timeout(180)]
HOOKS = ("pre-rebase", "pre-push", "pre-commit")
PROJECT = '[tool.hemma]\nhost = "gpu"\nroot = "~/repo"\n'


@dataclass(frozen=True)
class Clone:
    """A clone with its origin; `README.md` and docs/ are the laptop's, src/ is the host's."""

    path: Path
    origin: Path

    def run(self, *argv: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> Any:
        """Run git in the clone, whatever comes of it; text in and out."""
        return subprocess.run(
            ["git", *argv],
            cwd=cwd or self.path,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
            encoding="utf-8",
            errors="surrogateescape",
        )

    def git(self, *argv: str, cwd: Path | None = None) -> str:
        """Run git, which must succeed; returns its stdout, stripped."""
        done = self.run(*argv, cwd=cwd)
        assert done.returncode == 0, done.stderr
        return str(done.stdout).strip()

    def write(self, name: str, text: str = "x\n") -> None:
        """Write a file and stage it."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.git("--literal-pathspecs", "add", "--", name)

    def commit(self, name: str, text: str = "x\n") -> str:
        """Commit a file, past the hooks; returns the commit."""
        self.write(name, text)
        self.git("commit", "-q", "--no-verify", "-m", name)
        return self.git("rev-parse", "HEAD")

    def hook(self, name: str, body: str, folder: str = ".git/hooks") -> Path:
        """Write a hook as somebody else would."""
        path = self.path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A clone whose last commit names a host, without hooks."""
    for name in ("CONFIG", "STATE", "CACHE"):
        os.environ[f"HEMMA_{name}_DIR"] = str(tmp_path / name)
    found = make_repository(tmp_path)
    made = Clone(found.path, found.origin)
    made.commit("pyproject.toml", PROJECT)
    made.git("push", "-q")
    return made


def install(clone: Clone) -> flow.Report:
    return flow.here(str(clone.path), "install")


def remove(clone: Clone) -> flow.Report:
    return flow.here(str(clone.path), "remove")


def of_git(clone: Clone) -> dict[str, Any]:
    """Everything an installation could change: config, hooks with their modes and links."""
    folders = [path for path in (clone.path / ".git/hooks", clone.path / ".git/hemma-hooks") if path.exists()]
    files = {
        path: (path.lstat().st_mode, os.readlink(path) if path.is_symlink() else path.read_bytes())
        for folder in folders
        for path in folder.iterdir()
    }
    return {"config": (clone.path / ".git/config").read_bytes(), "files": files}


# --- coming and going ------------------------------------------------------------------------------------------------


def test_twice_is_once_and_removed_is_as_before(clone: Clone) -> None:
    before = of_git(clone)
    first = install(clone)
    assert first.are_in_force
    assert {hook.name for hook in first.hooks} == set(HOOKS)
    assert len(first.changes) == len(HOOKS) + 1
    after = of_git(clone)
    assert install(clone).changes == ()
    assert of_git(clone) == after
    assert not remove(clone).are_in_force
    assert of_git(clone) == before
    assert remove(clone).changes == ()


@pytest.mark.parametrize("value", ["true", "merges", "false", None])
def test_pull_merges_and_later_does_what_it_did(clone: Clone, value: str | None) -> None:
    if value:
        clone.git("config", "pull.rebase", value)
    clone.git("config", "branch.main.rebase", "true")
    report = install(clone)
    assert clone.git("config", "pull.rebase") == "false"
    assert "branch.main.rebase" in report.notes[0]
    install(clone)
    remove(clone)
    assert clone.run("config", "--local", "pull.rebase").stdout.strip() == (value or "")
    assert clone.run("config", "--get-regexp", "hemma").stdout == ""


def test_a_setting_that_was_changed_since_stays(clone: Clone) -> None:
    install(clone)
    clone.git("config", "pull.rebase", "true")
    assert not flow.here(str(clone.path), "status").are_in_force
    remove(clone)
    assert clone.git("config", "pull.rebase") == "true"


def test_a_link_a_disabled_hook_and_odd_bytes_come_back_as_they_were(clone: Clone) -> None:
    (clone.path / "tools").mkdir()
    clone.hook("run-me", "exit 0", "tools")
    (clone.path / ".git/hooks").mkdir(exist_ok=True)
    (clone.path / ".git/hooks/pre-commit").symlink_to("../../tools/run-me")
    clone.hook("pre-push", "exit 1").chmod(0o644)
    (clone.path / ".git/hooks/pre-rebase").write_bytes(b"#!/bin/sh\r\n\xff\x00no last line end")
    before = of_git(clone)
    report = install(clone)
    assert [hook.name for hook in report.hooks if hook.calls_former] == ["pre-commit"]
    clone.commit("a.md")
    assert clone.run("push", "-q").returncode == 0, "git never called a hook that is not executable"
    remove(clone)
    assert of_git(clone) == before


def test_a_hook_that_replaced_ours_is_told_and_kept(clone: Clone) -> None:
    clone.hook("pre-push", "echo first")
    install(clone)
    theirs = clone.hook("pre-push", "echo second")
    report = flow.here(str(clone.path), "status")
    assert {hook.name: hook.state for hook in report.hooks}["pre-push"] == "replaced"
    files = of_git(clone)
    with pytest.raises(HemmaError, match="two hooks are to be kept") as caught:
        install(clone)
    assert caught.value.code == "hooks-refused"
    assert of_git(clone) == files
    assert remove(clone).notes
    assert theirs.read_text() == "#!/bin/sh\necho second\n"
    assert (theirs.parent / "pre-push.before-hemma").read_text() == "#!/bin/sh\necho first\n"


def test_an_installation_that_was_cut_is_finished_by_the_next(clone: Clone) -> None:
    clone.hook("pre-push", "exit 0")
    before = of_git(clone)
    hooks = clone.path / ".git/hooks"
    (hooks / "pre-push").rename(hooks / "pre-push.before-hemma")
    (hooks / "pre-commit").write_text("#!/bin/sh\n# hemma-hook pre-commit: cut he")
    assert install(clone).are_in_force
    remove(clone)
    assert of_git(clone) == before


# --- what they refuse ------------------------------------------------------------------------------------------------


def test_rebase_is_refused_and_pull_merges(clone: Clone) -> None:
    install(clone)
    clone.commit("a.md")
    clone.git("branch", "topic", "HEAD~1")
    clone.git("switch", "-q", "topic")
    clone.commit("b.md")
    for argv in (["rebase", "main"], ["rebase", "-i", "HEAD~1"], ["pull", "--rebase", ".", "main"]):
        done = clone.run(*argv, env={"GIT_SEQUENCE_EDITOR": "true"})
        assert done.returncode != 0
        assert "refused  rebase" in done.stderr
    clone.git("pull", "-q", "--no-edit", ".", "main")
    assert clone.git("rev-list", "--count", "--merges", "HEAD") == "1"


def test_a_push_only_moves_origin_forward(clone: Clone) -> None:
    install(clone)
    first = clone.git("rev-parse", "HEAD")
    clone.commit("a.md")
    clone.git("tag", "v1")
    clone.git("tag", "-m", "one", "v1a")
    clone.git("push", "-q", "origin", "main", "main:spare", "v1", "v1a")
    held = clone.git("ls-remote", "origin")
    clone.git("tag", "-f", "v1", first)
    for argv in (
        ["--force", "origin", f"{first}:main"],
        ["--force-with-lease", "origin", f"{first}:main"],
        ["origin", "+HEAD~1:main"],
        ["origin", "+HEAD@{1 day ago}:main"],
        ["origin", "--delete", "spare"],
        ["origin", ":spare", "HEAD:refs/heads/new"],
        ["--prune", "origin", "refs/heads/*:refs/heads/*"],
        ["--force", "origin", "v1"],
        ["--force", "origin", "HEAD:refs/tags/v1a"],
    ):
        done = clone.run("push", *argv)
        assert done.returncode != 0, argv
        assert "refused  " in done.stderr, (argv, done.stderr)
        assert clone.git("ls-remote", "origin") == held
    clone.commit("b.md")
    clone.git("push", "-q", "--force", "origin", "main", "HEAD:refs/heads/new")
    clone.git("push", "-q", "--all")
    assert clone.run("push", "-q").returncode == 0, "nothing to push is no error"


def test_a_push_over_commits_that_are_not_here_is_refused(clone: Clone, tmp_path: Path) -> None:
    install(clone)
    other = tmp_path / "other"
    clone.git("clone", "-q", str(clone.origin), str(other))
    clone.git("commit", "-q", "--allow-empty", "-m", "theirs", cwd=other)
    clone.git("push", "-q", cwd=other)
    clone.commit("a.md")
    done = clone.run("push", "--force")
    assert done.returncode != 0
    assert "commits there that are not here" in done.stderr
    clone.git("pull", "-q", "--no-edit")
    clone.git("push", "-q")


@pytest.mark.req("S9-R02", "S9-R03")
def test_the_hosts_files_are_not_committed_here(clone: Clone) -> None:
    install(clone)
    head = clone.git("rev-parse", "HEAD")
    for name in ("src/train.py", "src/two\nlines 'n\" $HOME.py", "-n.py", "src/mapp-åäö.py"):
        clone.write(name)
    for how in (["-m", "m"], ["-a", "-m", "m"], ["-m", "m", "--", "src/train.py"]):
        done = clone.run("commit", *how)
        assert done.returncode != 0
        assert "refused  src/train.py is committed on the host" in done.stderr
        assert "do       hemma put --parents" in done.stderr
    assert clone.git("rev-parse", "HEAD") == head
    clone.write("docs/a.md")
    clone.git("commit", "-q", "-m", "a document", "--", "docs/a.md")
    assert clone.git("show", "--format=", "--name-only", "HEAD") == "docs/a.md"


def test_it_can_be_done_knowingly_and_says_so(clone: Clone) -> None:
    install(clone)
    clone.write("src/train.py")
    done = clone.run("commit", "-m", "here", env={"HEMMA_LOCAL_EDIT": "1"})
    assert done.returncode == 0
    assert "HEMMA_LOCAL_EDIT=1" in done.stderr


def test_the_end_of_a_merge_may_hold_the_hosts_files(clone: Clone) -> None:
    base = clone.git("rev-parse", "HEAD")
    clone.git("switch", "-q", "-c", "hosts")
    clone.commit("src/train.py", "theirs\n")
    clone.git("switch", "-q", "main")
    clone.commit("src/train.py", "ours\n")
    install(clone)
    assert clone.run("merge", "-q", "hosts").returncode == 1
    clone.write("src/train.py", "both\n")
    clone.git("commit", "-q", "--no-edit")
    assert clone.git("rev-list", "--count", "--merges", f"{base}..HEAD") == "1"


def test_the_commit_that_names_the_host_is_made_here(clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "fresh").mkdir()
    made = make_repository(tmp_path / "fresh")
    fresh = Clone(made.path, made.origin)
    install(fresh)
    fresh.write("pyproject.toml", PROJECT)
    fresh.git("commit", "-q", "-m", "Say where this runs")
    fresh.write("pyproject.toml", PROJECT + "# more\n")
    assert fresh.run("commit", "-q", "-m", "more").returncode != 0


def test_no_commit_waits_for_a_hemma_that_is_gone_or_broken(clone: Clone) -> None:
    install(clone)
    hook = clone.path / ".git/hooks/pre-commit"
    text = hook.read_text()
    program = text.partition("program='")[2].partition("'")[0]
    for there, said in (("/nonexistent/hemma", "is gone"), ("/bin/false", "could not be told")):
        hook.write_text(text.replace(program, there))
        clone.write("src/train.py", there)
        done = clone.run("commit", "-m", "m")
        assert done.returncode == 0
        assert said in done.stderr
        assert flow.here(str(clone.path), "status").hooks[2].state == "outdated"
    assert clone.run("push", "--force", "origin", "HEAD~3:main").returncode != 0, "this needs no hemma"
    assert install(clone).are_in_force


def test_broken_settings_hold_no_commit_up(clone: Clone) -> None:
    install(clone)
    (clone.path / "pyproject.toml").write_text("[tool.hemma]\nhost =\n")
    clone.write("docs/a.md")
    done = clone.run("commit", "-m", "m")
    assert done.returncode == 0
    assert "is not valid TOML" in done.stderr
    assert "could not be told" in done.stderr


# --- hooks from before -----------------------------------------------------------------------------------------------


def test_a_former_hook_runs_with_its_words_and_input_and_its_failure_blocks(clone: Clone, tmp_path: Path) -> None:
    seen = tmp_path / "it's seen"
    for name in HOOKS[1:]:
        clone.hook(name, f'{{ echo {name} "$#" "$@"; cat; }} >> {shlex.quote(str(seen))}')
    install(clone)
    clone.write("docs/a.md")
    clone.git("commit", "-q", "-m", "m")
    head = clone.git("rev-parse", "HEAD")
    before = clone.git("rev-parse", "origin/main")
    clone.git("push", "-q")
    lines = seen.read_text().splitlines()
    assert lines == [
        "pre-commit 0",
        f"pre-push 2 origin {clone.origin}",
        f"refs/heads/main {head} refs/heads/main {before}",
    ]
    for name in HOOKS[1:]:
        clone.hook(f"{name}.before-hemma", "echo 'not so fast' >&2; exit 3")
    clone.write("docs/b.md")
    assert "not so fast" in clone.run("commit", "-m", "m").stderr
    clone.git("commit", "-q", "--no-verify", "-m", "m")
    done = clone.run("push")
    assert done.returncode != 0
    assert "not so fast" in done.stderr


def test_a_framework_that_installs_itself_again_is_not_called_twice(clone: Clone, tmp_path: Path) -> None:
    """What `pre-commit install` does: the hook it finds becomes NAME.legacy, and is called by its own."""
    framework = (
        "# File generated by pre-commit: https://pre-commit.com\n"
        f'[ -z "$PRE_COMMIT_RUNNING_LEGACY" ] || exit 9\necho framework >> "{tmp_path}/seen"\n'
        '[ ! -x "$0.legacy" ] || PRE_COMMIT_RUNNING_LEGACY=1 "$0.legacy"'
    )
    clone.hook("pre-commit", framework)
    install(clone)
    hooks = clone.path / ".git/hooks"
    (hooks / "pre-commit").rename(hooks / "pre-commit.legacy")
    clone.hook("pre-commit", framework)
    clone.write("docs/a.md")
    clone.git("commit", "-q", "-m", "m")
    assert (tmp_path / "seen").read_text() == "framework\n"
    clone.write("src/a.py")
    assert clone.run("commit", "-m", "m").returncode != 0


@pytest.mark.parametrize("scope", ["tracked folder", "relative", "user-wide"])
def test_hooks_that_lie_elsewhere_are_called_and_not_touched(
    clone: Clone, tmp_path: Path, own_home: Path, scope: str
) -> None:
    folder = tmp_path / "all my $hooks'" if scope == "user-wide" else clone.path / ".husky"
    for name in ("pre-push", "pre-commit", "commit-msg", "post-commit"):
        path = clone.hook(name, f"echo {name} >> '{tmp_path}/seen'")
        folder.mkdir(exist_ok=True)
        shutil.move(path, folder / name)
    configured = {"tracked folder": folder, "relative": ".husky", "user-wide": folder}[scope]
    level = "--global" if scope == "user-wide" else "--local"
    if scope != "user-wide":
        for path in folder.iterdir():
            clone.commit(str(path.relative_to(clone.path)), path.read_text())
    clone.git("config", level, "core.hooksPath", str(configured))
    try:
        before, theirs = of_git(clone), {path: path.read_bytes() for path in folder.iterdir()}
        assert install(clone).are_in_force
        assert install(clone).changes == ()
        clone.git("commit", "-q", "--allow-empty", "-m", "m")
        clone.git("push", "-q")
        assert (tmp_path / "seen").read_text().split() == ["pre-commit", "commit-msg", "post-commit", "pre-push"]
        assert clone.run("push", "--force", "origin", "HEAD~1:main").returncode != 0
        assert clone.run("rebase", "--force-rebase", "HEAD~1").returncode != 0
        assert {path: path.read_bytes() for path in folder.iterdir()} == theirs
        assert clone.git("status", "--short") == ""
        remove(clone)
        assert of_git(clone) == before
        assert clone.git("config", "core.hooksPath") == str(configured)
    finally:
        clone.run("config", "--global", "--unset", "core.hooksPath")


def test_a_clone_that_was_moved_is_put_right_by_installing_again(clone: Clone, tmp_path: Path) -> None:
    clone.hook("commit-msg", f"echo commit-msg >> '{tmp_path}/seen'", ".husky")
    clone.git("config", "core.hooksPath", ".husky")
    before = of_git(clone)["config"]
    install(clone)
    clone.path.rename(tmp_path / "moved")
    moved = Clone(tmp_path / "moved", clone.origin)
    assert not flow.here(str(moved.path), "status").are_in_force
    assert install(moved).are_in_force
    moved.git("commit", "-q", "--allow-empty", "-m", "m")
    assert (tmp_path / "seen").read_text() == "commit-msg\n"
    remove(moved)
    assert of_git(moved)["config"] == before


def test_a_linked_work_tree_shares_the_hooks(clone: Clone, tmp_path: Path) -> None:
    linked = tmp_path / "a linked\ntree"
    clone.git("worktree", "add", "-q", "-b", "topic", str(linked))
    report = flow.here(str(linked), "install")
    assert report.are_in_force
    assert report.folder == str(clone.path / ".git/hooks")
    assert flow.here(str(clone.path), "status").are_in_force
    (linked / "src").mkdir()
    (linked / "src/a.py").write_text("x")
    clone.git("add", "src/a.py", cwd=linked)
    assert "src/a.py is committed on the host" in clone.run("commit", "-m", "m", cwd=linked).stderr
    assert clone.run("push", "--force", "origin", "HEAD~1:main", cwd=linked).returncode != 0


def test_a_clone_under_a_weird_name_gets_its_hooks(weird_path: Path) -> None:
    for name in ("CONFIG", "STATE", "CACHE"):
        os.environ[f"HEMMA_{name}_DIR"] = str(weird_path / name)
    made = make_repository(weird_path)
    clone = Clone(made.path, made.origin)
    clone.hook("commit-msg", "exit 0", ".husky")
    for configured in (None, ".husky"):
        if configured:
            clone.git("config", "core.hooksPath", configured)
        report = install(clone)
        assert report.are_in_force, report
        assert report.folder.endswith(".git/hooks" if configured is None else "/repo/.git/hemma-hooks")
        assert clone.run("rebase", "--force-rebase", "HEAD").returncode != 0
        remove(clone)


# --- the command line, and the host ----------------------------------------------------------------------------------


@pytest.fixture
def both(
    clone: Clone, hemma_with: Callable[[dict[str, str]], Cli], settings_env: EnvironFor, tmp_path: Path
) -> tuple[Cli, RepositoryOnHost]:
    """The CLI in the local clone, and the clone on the host."""
    there = tmp_path / "on-host/repo"
    there.parent.mkdir()
    clone.git("clone", "-q", str(clone.origin), str(there))
    cli = hemma_with(settings_env(root=there, state=tmp_path / "hemma"))
    cli.folder = clone.path
    assert cli("trust", "--yes").returncode == 0
    return cli, RepositoryOnHost(there, clone.origin)


def test_the_host_gets_hooks_that_need_nothing_of_ours(both: tuple[Cli, RepositoryOnHost], clone: Clone) -> None:
    cli, host = both
    done = cli("hooks", "install", "--host", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [hook["name"] for hook in told["host"]["hooks"]] == ["pre-rebase", "pre-push"]
    assert told["host"]["are_in_force"]
    assert host.git("config", "hemma.role") == "host"
    there = Clone(host.path, host.origin)
    there.commit("src/train.py")
    assert cli("run", "--", "git", "push", "-q").returncode == 0
    (host.path / "src/train.py").write_text("more\n")
    assert cli("commit", "-a", "-m", "On the host").returncode == 0
    for argv in (["rebase", "--force-rebase", "HEAD~1"], ["push", "--force", "origin", "HEAD~2:main"]):
        done = there.run(*argv, env={"PATH": "/usr/bin:/bin"})
        assert done.returncode != 0
        assert "refused  " in done.stderr
    assert cli("hooks", "status", "--host").returncode == 0
    assert cli("hooks", "remove", "--host").returncode == 0
    assert cli("hooks", "status", "--host").returncode == 1
    assert not (host.path / ".git/hooks/pre-push").exists()
    assert there.run("config", "--get-regexp", "hemma|pull").stdout == ""


def test_a_sync_passes_the_hooks_of_both_sides(both: tuple[Cli, RepositoryOnHost], clone: Clone) -> None:
    cli, host = both
    assert cli("hooks", "install", "--host").returncode == 0
    Clone(host.path, host.origin).commit("src/train.py")
    clone.write("docs/a.md")
    clone.git("commit", "-q", "-m", "a document")
    done = cli("sync")
    assert done.returncode == 0, done.stderr
    assert clone.git("rev-parse", "main") == host.git("rev-parse", "main") == host.git("rev-parse", "origin/main")
    assert clone.git("rev-list", "--count", "--merges", "main") == "1"


def test_the_hosts_own_clone_commits_its_files(clone: Clone) -> None:
    install(clone)
    clone.git("config", "hemma.role", "host")
    clone.write("src/train.py")
    clone.git("commit", "-q", "-m", "the host is the truth")


def test_a_host_whose_root_is_wrong_is_refused_as_any_run(both: tuple[Cli, RepositoryOnHost]) -> None:
    cli, _ = both
    assert cli("hooks", "status", "--host", env={"HEMMA_ROOT": "/nonexistent"}).returncode == 66


def test_filters_for_notebooks_come_and_go_with_it(both: tuple[Cli, RepositoryOnHost], clone: Clone) -> None:
    cli, _ = both
    done = cli("hooks", "install", "--notebooks")
    assert done.returncode == 0, done.stderr
    assert b"do       git add --renormalize" in done.stdout
    assert clone.git("config", "filter.hemma-notebook.clean").endswith("notebook strip")
    assert b"nothing to change" in cli("hooks", "install", "--notebooks").stdout
    assert cli("hooks", "remove").returncode == 0
    assert clone.git("config", "filter.hemma-notebook.clean")
    assert cli("hooks", "remove", "--notebooks").returncode == 0
    assert clone.run("config", "filter.hemma-notebook.clean").stdout == ""


def test_outside_of_a_clone_it_says_so(both: tuple[Cli, RepositoryOnHost], tmp_path: Path) -> None:
    cli, _ = both
    assert cli("hooks", "install", cwd=tmp_path).returncode == 67


def test_a_hook_that_we_do_not_answer_is_a_usage_error(both: tuple[Cli, RepositoryOnHost]) -> None:
    cli, _ = both
    assert cli("hook", "post-merge").returncode == 2
    assert b" hook " not in cli("--help").stdout


def test_the_installer_is_plain_sh() -> None:
    assert "\t" not in INSTALLER.replace("\\t", "")
    assert len(INSTALLER.encode()) < 1 << 15, "it goes through a pipe that nobody reads yet"
    for shell in ("dash", "bash", "busybox"):
        if found := shutil.which(shell):
            argv = [found, *(["sh"] if shell == "busybox" else []), "-n"]
            assert subprocess.run(argv, input=INSTALLER.encode(), capture_output=True, check=False).returncode == 0
    if found := shutil.which("shellcheck"):
        # -ef is in every sh there is; what stands in single quotes is the text of hooks.
        argv = [found, "--shell=sh", "--exclude=SC3013,SC2016", "-"]
        said = subprocess.run(argv, input=INSTALLER.encode(), capture_output=True, check=False).stdout.decode()
        assert said == ""
