"""Some 700 lines that call git: what rewrites, forces, deletes or moves something, straight and in every disguise met so far."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from tests.real.git_sandbox import real_git

# Calls that take something away in the sandbox when plain git runs them.
LOSING = (
    "reset --hard", "reset -q --hard HEAD~1", "reset --hard origin/main", "reset --merge", "reset --keep HEAD~2", "checkout -- .", "checkout a.py",
    "checkout HEAD~1 -- a.py s.py", "checkout -f other", "checkout -q -f ahead", "switch other", "switch -f ahead", "switch --discard-changes side2",
    "restore .", "restore -s HEAD~1 -SW a.py", "restore --staged new.py", "clean -fd", "clean -fdx", "clean -fX", "clean -f u.txt",
    "stash drop", "stash clear", "branch -D ahead", "branch -f ahead main", "branch -M merged ahead", "tag -d v1", "tag -f v1 main",
    "update-ref refs/heads/ahead HEAD", "update-ref -d refs/heads/ahead", "update-ref refs/heads/main HEAD~1 HEAD", "commit --amend --no-edit",
    'commit -m "two (y)" --amend', "push -q --force origin HEAD~3:main", "push -q origin +HEAD~3:main", "push -q origin :feature", "push -q -f origin base:main",
    "diff --output=a.py", "log -1 --output=u.txt", "archive -o u.txt HEAD", "rm -q -f s.py a.py", "rm -qrf .", "mv -f b.py u.txt", "read-tree --reset -u HEAD~1",
    "checkout-index -f -a", "worktree remove --force ../wt", "notes remove HEAD", "fetch -q origin +main:ahead", "rebase -q --autostash base",
    "symbolic-ref refs/heads/ahead refs/heads/main", "reflog expire --expire=now --all", "wipe", "purge", "any reset --hard",
)  # fmt: skip
# More of every verb: some take something away, some do not, and none may be lost.
MORE = (
    "reset", "reset -q HEAD~1", "reset --soft HEAD~1", "reset --mixed base", "reset HEAD a.py", "reset a.py", "reset -- new.py", "reset --hard @{u}", "reset --har",
    "checkout", "checkout HEAD -- d.py", "checkout -", "checkout base", "checkout --detach", "checkout -B main HEAD~1", "checkout -B fresh", "checkout -m other",
    "checkout -b topic", "checkout feature", "checkout d.py", "checkout --theirs a.py", "checkout -p", "checkout ahead", "checkout other x.env", "checkout other -- x.env",
    "switch -c topic", "switch -C ahead", "switch -C fresh", "switch --detach base", "switch side", "switch merged", "switch ahead", "switch -m other", "switch --orphan nothing",
    "restore a.py", "restore --worktree s.py", "restore -S s.py", "restore -s other x.env", "restore --staged .", "restore -p",
    "clean", "clean -n", "clean -fdn", "clean -ff -dx ckpt", "clean -fe -n", "-c clean.requireForce=false clean", "-c clean.requireForce=false clean -dx",
    "stash", "stash -u", "stash -a", "stash -k", "stash pop", "stash pop stash@{1}", "stash apply", "stash drop stash@{1}", "stash branch sb", "stash push -- a.py", "stash list", "stash show -p",
    "branch fresh", "branch -d ahead", "branch -d merged", "branch -D merged", "branch -m ahead aha", "branch -C side ahead", "branch -c ahead aha", "branch -rd origin/feature", "branch -M trunk",
    "tag v2", "tag -d base", "tag -f base", "tag -f v7", "tag -a -m x v3", "update-ref refs/heads/fresh HEAD", "update-ref HEAD HEAD~1", "update-ref --no-deref HEAD base", "update-ref -d HEAD",
    "update-ref refs/tags/v1 HEAD", "update-ref refs/stash HEAD", "update-ref -d refs/stash", "update-ref -d refs/notes/commits", "update-ref refs/remotes/origin/feature HEAD",
    "commit -q -m x", "commit -qam x", "commit --amend -a --no-edit", "commit --am -m y", "commit -q -m x -- a.py", "commit -q --allow-empty -m --amend",
    "push -q", "push -q origin main", "push -q --delete origin feature", "push -q --mirror origin", "push -q --prune origin refs/heads/*:refs/heads/*", "push -q --force-with-lease origin HEAD~3:main", "push -q origin ahead", "push -q --all", "push -q --tags", "push -qf origin HEAD~2:main",
    "diff", "diff --stat", "diff --output u.txt", "diff HEAD --output=my.env", "show --output=s.py", "log -p --output=ckpt/model.bin", "archive --output=a.py HEAD", "format-patch -q -1 -o notes", "bundle create -q my.env HEAD", "shortlog --output=u.txt HEAD", "diff-tree --output=u.txt HEAD HEAD~1",
    "rm -q b.py", "rm --cached -q a.py", "rm -q --cached -f s.py", "mv b.py c.py", "mv -f b.py a.py", "mv -f b.py my.env", "mv -f src ckpt",
    "read-tree HEAD", "read-tree HEAD~1", "read-tree --empty", "read-tree -m -u HEAD HEAD~1", "checkout-index -f a.py", "checkout-index -a", "checkout-index -u -f -a",
    "worktree list", "worktree add -q ../w2", "worktree remove ../wt", "worktree prune", "worktree add -q -B ahead ../w3 main", "worktree move -f ../wt ../wm",
    "notes add -f -m z", "notes append -m z", "notes prune", "notes merge -q -s theirs refs/notes/x", "fetch -q", "fetch -q --prune", "fetch -q -f origin main:side", "fetch -q origin +refs/heads/*:refs/heads/*", "fetch -q -u -f origin main:main", "fetch -q origin main:fresh",
    "pull -q", "pull -q --rebase", "pull -q --no-rebase origin feature", "pull -q --autostash --rebase origin feature", "pull -q --ff-only", "-c pull.rebase=true pull -q --autostash origin feature",
    "symbolic-ref HEAD refs/heads/ahead", "symbolic-ref HEAD", "rebase base", "rebase --root", "-c core.editor=true rebase -i --root --autostash", "merge -q ahead", "merge -q other", "merge --no-commit ahead", "merge -q --squash ahead", "merge -q -s ours ahead", "merge -q --autostash ahead", "merge feature",
    "cherry-pick ahead", "cherry-pick -n ahead", "revert --no-edit HEAD", "revert -n HEAD~1", "apply --check u.txt", "am --abort", "bisect start", "bisect reset", "gc -q", "gc -q --prune=now", "prune", "repack -adq", "reflog delete HEAD@{1}", "pack-refs --all --prune",
    "filter-branch -f --msg-filter cat HEAD", "replace HEAD HEAD~1", "update-index --refresh", "update-index --force-remove a.py", "update-index --assume-unchanged a.py", "sparse-checkout set src", "sparse-checkout disable",
    "remote -v", "remote prune origin", "remote remove origin", "remote rename origin up", "config alias.z reset", "submodule foreach 'git reset --hard'", "bisect run git clean -fdx", "stash store HEAD", "rerere clear", "unpack-file HEAD:a.py", "init", "add -A", "add -f my.env", "st", "lg", "any status",
    "-C src reset --hard", "--git-dir=.git --work-tree=. checkout -f", "-c core.hooksPath=/dev/null push -q --force origin base:main", "-c alias.q='reset --hard' q", "-c alias.q='!git clean -fdx' q",
)  # fmt: skip
HARMLESS = (
    "status --short", "log --oneline -2", "commit -qam wip", "add -A", "fetch -q", "branch fresh", "push -q", "stash list", "diff --stat", "rev-parse HEAD",
)  # fmt: skip


def _python(call: str) -> str:
    return "python3 -c " + shlex.quote(f"import subprocess; subprocess.call({['git', *shlex.split(call)]!r})")


def _redirected(call: str) -> str:
    first, _, rest = call.partition(" ")
    return f"git {first} >../log 2>&1 {rest}"


def _script(call: str, shell: str) -> str:
    return f"printf '%s\\n' {shlex.quote('git ' + call)} > ../go.sh; {shell} ../go.sh"


def _makefile(call: str) -> str:
    return f"printf 'x:\\n\\tgit %s\\n' {shlex.quote(call)} > ../mk; make -s -f ../mk x"


def _hook(call: str) -> str:
    text = shlex.quote("#!/bin/sh\ngit " + call + "\n")
    return f"mkdir -p .git/hooks; printf %s {text} > .git/hooks/post-commit; chmod +x .git/hooks/post-commit; git commit -q --allow-empty -m x"


WAYS: dict[str, Callable[[str], str]] = {
    "absolute path": lambda c: f"{real_git()} {c}",
    "git's own folder": lambda c: f'"$(git --exec-path)/git" {c}',
    "env -S": lambda c: "env -S " + shlex.quote("git " + c),
    "env": lambda c: f"env A=1 git {c}",
    "env -i": lambda c: f'env -i HOME="$HOME" PATH=/usr/bin:/bin git {c}',
    "sh -c": lambda c: "sh -c " + shlex.quote("git " + c),
    "bash -lc": lambda c: "bash -lc " + shlex.quote("git " + c),
    "sh -lc": lambda c: "sh -lc " + shlex.quote("git " + c),
    "bash -lc in bash -lc": lambda c: "bash -lc " + shlex.quote("bash -lc " + shlex.quote("git " + c)),
    "script": lambda c: _script(c, "sh"),
    "bash script": lambda c: _script(c, "bash"),
    "make": _makefile,
    "python": _python,
    "os.system": lambda c: "python3 -c " + shlex.quote(f"import os; os.system({'git ' + c!r})"),
    "perl": lambda c: "perl -e " + shlex.quote("system @ARGV") + f" git {c}",
    "heredoc": lambda c: f"sh <<'END'\ngit {c}\nEND",
    "heredoc to bash -l": lambda c: f"bash -ls <<'END'\ngit {c}\nEND",
    "-c alias": lambda c: f"git -c alias.zz={shlex.quote(c)} zz",
    "-c !alias": lambda c: f"git -c alias.zz={shlex.quote('!git ' + c)} zz",
    "alias in the environment": lambda c: f"GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=alias.zz GIT_CONFIG_VALUE_0={shlex.quote(c)} git zz",
    "alias in the clone": lambda c: f"git config alias.zz {shlex.quote(c)} && git zz",
    "alias of an alias": lambda c: f"git config alias.y {shlex.quote(c)}; git config alias.zz y; git zz",
    "user's alias": lambda c: f"git any {c}",
    "variable": lambda c: f"g=git; $g {c}",
    "continuation": lambda c: f"git \\\n  {c}",
    "redirection between": _redirected,
    "timeout": lambda c: f"timeout 20 git {c}",
    "nice, nohup": lambda c: f"nice -n 3 nohup git {c} < /dev/null",
    "xargs": lambda c: f"printf '%s' {shlex.quote(c)} | xargs git",
    "find -exec": lambda c: f"find . -maxdepth 0 -exec git {c} \\;",
    "eval": lambda c: "eval " + shlex.quote("git " + c),
    "pipeline": lambda c: f"(git {c}) 2>&1 | cat",
    "background": lambda c: f"git {c} & wait",
    "setsid": lambda c: f"setsid -w git {c}",
    "function": lambda c: f'git() {{ command git "$@"; }}; git {c}',
    "no hooks": lambda c: f"git -c core.hooksPath=/dev/null {c}",
    "from elsewhere": lambda c: f'here=$PWD; cd /; git -C "$here" {c}',
    "GIT_DIR": lambda c: f"export GIT_DIR=$PWD/.git GIT_WORK_TREE=$PWD; git {c}",
    "trap": lambda c: f"trap {shlex.quote('git ' + c)} EXIT; true",
    "a hook of git": _hook,
    "submodule foreach": lambda c: "git -c protocol.file.allow=always submodule add -q ../origin.git sub; git submodule foreach -q " + shlex.quote(f"git -C ../ {c}"),
    "bisect run": lambda c: f"git bisect start -q; git bisect run git {c}; true",
    "unset": lambda c: f"unset HEMMA_RUN_DIR HEMMA_RUN_ID BASH_ENV; git {c}",
    "two at once": lambda c: f"git status -s; git {c}; git {c}",
}  # fmt: skip
# Lines of no pattern.
OTHERS = (
    "cd ../wt && git clean -fdx", "cd ../wt && git reset --hard", "git worktree add -q ../w9 && cd ../w9 && git branch -D ahead",
    "git update-ref --stdin <<< 'delete refs/heads/ahead'", "printf 'update refs/heads/main base\\n' | git update-ref --stdin",
    "git stash && git stash drop", "git stash && git stash pop && git reset --hard", "git add -A && git reset -q --hard", "git add -A && git commit -qm x && git reset -q --hard HEAD~1",
    "for b in ahead merged v1; do git branch -D $b; git tag -d $b; done", "git branch | grep ahead | xargs git branch -D", "git clean -fdx || git clean -fd",
    "git checkout other 2>/dev/null || git checkout -f other", "git fetch -q && git reset -q --hard FETCH_HEAD", "git pull -q --rebase || git rebase --skip", "(cd src; git checkout .)",
    "git --work-tree=src checkout -f", "GIT_WORK_TREE=src git checkout -f", "git -c core.worktree=$PWD/src checkout -f", "git remote add x ../origin.git; git push -q --force x base:main",
    "git push -q --force ../origin.git base:main", "git config remote.origin.push +refs/heads/*:refs/heads/*; git push -q origin", "git config push.default matching; git push -q -f",
    "git clone -q . ../copy; cd ../copy; git reset -q --hard HEAD~1; git clean -fdx", "echo 'git reset --hard' | sh", "echo git reset --hard | bash -s", "PATH=/usr/bin:/bin; git reset --hard",
    "git GC 2>/dev/null; git Reset --hard", "git 'reset' '--hard'", 'git "re"set --hard', "git reset $'--hard'", "git reset ${X:---hard}", "o=--hard; git reset $o", "git reset --hard;", "! git reset --hard",
    "true && { git clean -fdx; }", "if true; then git stash clear; fi", "case x in x) git tag -d v1;; esac", "while :; do git branch -D ahead; break; done", "x=$(git reset --hard)", "git status; exec git reset --hard",
)  # fmt: skip


def lines() -> list[tuple[str, str]]:
    """(way, line): every call straight, every way over a turning choice of calls, and the rest; always the same."""
    found = [("direct", f"git {call}") for call in (*LOSING, *MORE)]
    for number, (way, made) in enumerate(WAYS.items()):
        losing = [LOSING[(number * 7 + step * 5) % len(LOSING)] for step in range(8)]
        harmless = [HARMLESS[(number + step * 3) % len(HARMLESS)] for step in range(2)]
        found += [(way, made(call)) for call in dict.fromkeys([*losing, *harmless])]
    return found + [("other", line) for line in OTHERS]
