"""The guard of git where git is called: what it refuses, what it saves first, whom it acts for, and when it closes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remote import delivery
from tests.real.git_sandbox import PRECIOUS, Sandbox, real_git

pytestmark = pytest.mark.req("S9-R08")


@pytest.fixture(scope="module")
def sandbox_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    made = Sandbox(tmp_path_factory.mktemp("guard"))
    yield made
    made.close()


@pytest.fixture
def sandbox(sandbox_of_module: Sandbox) -> Sandbox:
    """The clone with everything that can be lost, new."""
    sandbox_of_module.renew()
    return sandbox_of_module


def events(folder: str) -> list[dict[str, str]]:
    """What the run's record says happened."""
    return [json.loads(line) for line in (Path(folder) / "events.jsonl").read_text().splitlines()]


# Ordinary lines that once passed a judge of words, and lost work.
SLIPS = (
    'git commit -m "two (y)" --amend',
    "git push -q \\\n  --force origin base:main",
    "git reset >../log 2>&1 --hard",
    "git update-ref refs/heads/main HEAD~1 HEAD",
    "git diff --output=b.py",
    "git config alias.z 'reset --hard' && git z",
    "git switch other",
    "env -S 'git reset --hard'",
    "find . -maxdepth 0 -exec git clean -fdx \\;",
    "git -c core.hooksPath=/dev/null reset --hard",
    "printf 'x:\\n\\tgit reset --hard\\n' > ../mk; make -f ../mk x",
    "echo 'git stash clear' > ../go.sh; sh ../go.sh",
    "bash -lc 'git reset --hard'",
    "git -c alias.x='!git clean -fdx' x",
    "git purge",
    "git submodule -q foreach true; git bisect start -q; git bisect run git clean -fdx",
)


@pytest.mark.parametrize("line", SLIPS)
def test_a_slip_loses_nothing(sandbox: Sandbox, line: str) -> None:
    sandbox.ask("take", root=str(sandbox.clone), precious=PRECIOUS)
    done = sandbox.run(line)
    assert sandbox.lost() == []
    words = {event["event"] for event in events(done["folder"])}
    assert {"git-refused", "git-saved"} & words, done
    if "git-refused" in words:
        log = sandbox.box / "log"
        assert "refused  `git " in done["stderr"] + done["stdout"] + (log.read_text() if log.exists() else "")


def test_a_program_that_runs_by_absolute_path_meets_the_backup_of_the_runs_start(sandbox: Sandbox) -> None:
    sandbox.ask("take", root=str(sandbox.clone), precious=PRECIOUS)
    assert sandbox.run(f"{real_git()} reset -q --hard; {real_git()} clean -qfdx")["exit_code"] == 0
    assert sandbox.lost() == []


def test_a_refusal_is_75_with_the_way_on_and_nothing_else(sandbox: Sandbox) -> None:
    done = sandbox.run(None, ["git", "stash", "drop"])
    assert (done["exit_code"], done["stdout"]) == (75, "")
    first, second = done["stderr"].splitlines()
    assert first == "refused  `git stash drop` throws stashed work away (rule: keep-refs)"
    assert second.startswith("do       git stash list")
    (event,) = [event for event in events(done["folder"]) if event["event"] == "git-refused"]
    assert (event["verb"], event["rules"]) == ("stash", ["keep-refs"])


@pytest.mark.parametrize("more", [{"pty": {"rows": 24, "columns": 80, "term": "dumb"}}, {"login": True}], ids=str)
def test_a_terminal_and_a_login_shell_are_guarded_too(sandbox: Sandbox, more: dict[str, Any]) -> None:
    assert sandbox.run(None, ["git", "reset", "--hard"], **more)["exit_code"] == 75
    assert sandbox.run("git reset --hard", **more)["exit_code"] == 75
    assert sandbox.lost() == []


def test_what_words_leave_open_the_repository_settles(sandbox: Sandbox) -> None:
    run = sandbox.run
    assert run("git checkout a.py")["exit_code"] == 75
    assert run("git reset -q a.py && git reset -q HEAD s.py")["exit_code"] == 0
    assert (
        run("git stash -q && git checkout -q merged && git checkout -q - && git checkout -q feature")["exit_code"] == 0
    )
    assert sandbox.git("branch", "--show-current") == "feature\n"
    assert run("git branch -M trunk && git branch -f fresh HEAD && git checkout -q -B newest")["exit_code"] == 0
    assert run("git branch -M newest && git branch -M ahead")["exit_code"] == 75
    assert run("git update-ref refs/heads/merged merged~0 && git update-ref refs/heads/merged main")["exit_code"] == 0
    assert run("git update-ref refs/heads/merged base main")["exit_code"] == 75
    assert sandbox.lost() == []


@pytest.mark.parametrize(
    ("line", "is_let"),
    [
        ("git branch -D nonexistent; git tag -d nothing; git checkout -- nothing; git stash drop stash@{9}", True),
        ("git branch -D merged", True),  # main has all of it
        ("git branch -D ahead", False),
        ("git branch again ahead && git branch -D ahead", True),
        ("git branch again ahead && git branch -D again ahead", False),
        ("git tag -d base", True),
        ("git tag -d v1", False),  # the only one that holds its commit
        ("git tag -a -m 'of mine' mine && git tag -d mine", False),  # its words are its own
        ("git tag -a -m shared shared && git push -q origin shared && git tag -d shared", True),
        ("git checkout src", True),
        ("git checkout -- src b.py", True),
        ("git checkout a.py", False),
        ("git restore -SW s.py", False),
        ("git commit -qam all && git checkout . && git restore .", True),
        ("git restore --source=base b.py", True),
        ("git stash drop", False),
        ("git stash -q && git switch -qc mine origin/main && git pull -q --rebase", True),
        ("git stash -q && git pull -q --rebase", False),
        ("git stash -q && git switch -qc mine origin/main && git pull -q -r origin main", True),
    ],
)
def test_what_loses_nothing_is_let_through(sandbox: Sandbox, line: str, is_let: bool) -> None:
    done = sandbox.run(line)
    assert ("git-refused" not in {event["event"] for event in events(done["folder"])}) == is_let, done["stderr"]
    assert sandbox.lost() == []


def test_ignored_files_that_another_branch_would_write_over_are_kept(sandbox: Sandbox) -> None:
    assert sandbox.run("git stash -q && git switch -q other && cat x.env")["stdout"] == "what other tracks\n"
    assert sandbox.lost() == []


def test_it_acts_for_the_clone_its_work_trees_and_submodules_and_for_no_other(sandbox: Sandbox) -> None:
    other = "git clone -q . ../copy && cd ../copy && git reset -q --hard HEAD~1 && git clean -qfdx && git branch -qM x"
    assert sandbox.run(other)["exit_code"] == 0
    assert sandbox.run("git init -q ../new && git -C ../new commit -q --allow-empty --amend -m x")["exit_code"] == 128
    for line in ("cd ../wt && git clean -fd", "git -C ../wt reset --hard", "cd /; git -C {0} reset --hard"):
        assert sandbox.run(line.format(shlex.quote(str(sandbox.clone))))["exit_code"] == 75, line
    assert sandbox.run("git submodule --quiet add ../origin.git sub")["exit_code"] == 0
    assert sandbox.run("cd sub && git reset --hard HEAD~1")["exit_code"] == 75
    assert sandbox.run("git submodule -q foreach 'git reset --hard HEAD~1'")["exit_code"] != 0
    assert sandbox.git("rev-parse", "HEAD", where="clone/sub") == sandbox.git("rev-parse", "main", where="origin.git")


def test_a_call_keeps_its_stdin_its_exit_code_and_its_process(sandbox: Sandbox) -> None:
    assert (
        sandbox.run("echo 'from stdin' | git commit -q --allow-empty -F - && git log -1 --format=%s")["stdout"]
        == "from stdin\n"
    )
    assert (
        sandbox.run("echo 'create refs/heads/made HEAD' | git update-ref --stdin && git rev-parse -q made")["exit_code"]
        == 0
    )
    assert sandbox.run("git diff a.py | git apply -R -; git diff --quiet a.py")["exit_code"] == 0
    assert sandbox.run("git switch nowhere")["exit_code"] == 128
    assert sandbox.run("git merge-base --is-ancestor main base")["exit_code"] == 1
    # Python ignores SIGPIPE; git must not inherit that.
    line = "git -c alias.ignored='!grep SigIgn /proc/self/status' ignored"
    assert sandbox.run(line)["stdout"] == sandbox.run(line, guard=False)["stdout"] != ""
    told = sandbox.run("sh -c 'echo $$; exec git -c alias.pid=\"!echo \\$PPID; :\" pid'")["stdout"].split()
    assert told[0] == told[1]


def test_the_run_goes_on_while_a_call_is_judged(sandbox: Sandbox) -> None:
    """A git that hangs until the run has written more than a pipe holds: a supervisor that waited would never read it."""
    slow = sandbox.box / "slow"
    slow.mkdir()
    (slow / "git").write_text(
        f'#!/bin/sh\nwhile ! [ -e {sandbox.box}/written ]; do sleep 0.05; done\nexec {real_git()} "$@"\n'
    )
    (slow / "git").chmod(0o755)
    line = f"PATH=${{PATH%%:*}}:{slow}:$PATH; git switch -q nowhere & head -c 300000 /dev/zero; touch {sandbox.box}/written; wait"
    done = sandbox.run(line)
    assert (done["state"], done["stdout_bytes"]) == ("finished", 300_000)


def test_many_calls_at_once_are_all_answered(sandbox: Sandbox) -> None:
    line = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do git stash drop 2>../said-$i & done; wait; cat ../said-* | grep -c '^refused  `git stash'"
    assert sandbox.run(line)["stdout"] == "12\n"


def test_what_a_run_leaves_behind_is_guarded_when_its_supervisor_is_gone(sandbox: Sandbox) -> None:
    folder = sandbox.run("true")["folder"]
    guard = f"{folder}/hemma-git"
    environ = {**sandbox.environ, "PATH": f"{guard}:{sandbox.environ['PATH']}"}

    def call(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", *argv], cwd=sandbox.clone, env=environ, capture_output=True, text=True, check=False
        )

    assert call("reset", "--hard").returncode == 75
    assert (call("stash").returncode, call("switch", "other").returncode) == (0, 0)
    assert sandbox.lost() == []


def test_without_its_code_only_harmless_calls_run(sandbox: Sandbox, tmp_path: Path) -> None:
    folder = Path(sandbox.run("true")["folder"])
    shim = folder / "hemma-git/git"
    moved = tmp_path / "hemma-git"
    moved.mkdir()
    (moved / "git").write_text(shim.read_text().replace(str(sandbox.folder / "agent.zip"), "/nowhere.zip"))
    (moved / "git").chmod(0o755)
    environ = {**sandbox.environ, "PATH": f"{moved}:{sandbox.environ['PATH']}"}
    run = [
        subprocess.run(["git", *argv], cwd=sandbox.clone, env=environ, capture_output=True, text=True, check=False)
        for argv in (["status"], ["switch", "other"])
    ]
    assert [done.returncode for done in run] == [0, 75]
    assert "cannot be loaded" in run[1].stderr


@pytest.mark.parametrize("ending", ["silent", "hangs up", "noise"])
def test_a_supervisor_that_does_not_answer_closes_the_guard(tmp_path: Path, ending: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(tmp_path)
        listener.bind("git.sock")
        listener.listen()
        (tmp_path / "agent.zip").write_bytes(delivery.agent_zip()[0])
        code = "import sys; sys.path.insert(0, sys.argv[1]); from hemma_agent import git_ask; git_ask._HEARD_S = 0.5; git_ask.main(sys.argv[2], '/bin/echo', ['reset', '--hard'])"
        argv = [sys.executable, "-I", "-B", "-c", code, str(tmp_path / "agent.zip"), str(tmp_path)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asking:
            if ending != "silent":
                peer, _ = listener.accept()
                peer.recv(10)
                if ending == "noise":
                    peer.sendall(b".exec\0\0--version")
                peer.close()
            out, err = asking.communicate(timeout=30)
    assert (asking.returncode, out) == (75, "")
    assert err.startswith("refused  the guard of this run cannot look at this git command: ")


def test_a_run_without_git_gets_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    done = sandbox.run('printf "%s" "$PATH"; printf "%s" "${BASH_ENV-none}" >&2', root=str(tmp_path))
    assert "hemma-git" not in done["stdout"]
    assert done["stderr"] == "none"
    assert not (Path(done["folder"]) / "hemma-git").exists()
    assert not (Path(done["folder"]) / "git.sock").exists()


def test_a_person_may_go_without_and_the_record_says_so(sandbox: Sandbox) -> None:
    done = sandbox.run("git stash drop -q", guard=False)
    assert (done["exit_code"], done["record"]["git_guard"]) == (0, False)
    assert sandbox.run("true")["record"]["git_guard"] is True


def test_no_variable_of_a_run_puts_the_guard_aside(sandbox: Sandbox) -> None:
    line = "unset ${!HEMMA*} BASH_ENV; export HEMMA_GIT_GUARD=off HEMMA_GUARD=0 HEMMA_NO_GUARD=1; git stash drop"
    assert sandbox.run(line)["exit_code"] == 75


def test_interrupting_a_call_that_is_judged_leaves_no_trace_of_python(sandbox: Sandbox) -> None:
    slow = sandbox.box / "slow"
    slow.mkdir()
    (slow / "git").write_text(f"#!/bin/sh\ntouch {sandbox.box}/asked; sleep 20\n")
    (slow / "git").chmod(0o755)
    line = (
        f"PATH=${{PATH%%:*}}:{slow}:$PATH; set -m; git switch -q other & while ! [ -e {sandbox.box}/asked ]; do sleep 0.05; done;"
        " kill -INT %1; wait %1; echo $?"
    )
    done = sandbox.run(line)
    assert done["stdout"] == f"{128 + signal.SIGINT}\n"
    assert "Traceback" not in done["stderr"]
