"""The `git` that lies first on a run's PATH: what cannot lose anything goes straight to the real one, the rest is asked about.

A run in a git work tree gets a folder `hemma-git` in its own folder, with two files of plain sh. `git` finds the next git on
PATH, and for a call whose words are harmless becomes it: one start of sh is all that costs. Any other call becomes
git_ask.py, which asks the run's supervisor (git_judge.py). `env.sh` is what bash reads when a login shell or a script starts
(BASH_ENV): a profile that sets PATH anew would leave the guard behind. Both hold no word of the user's.
"""

from __future__ import annotations

import os
import shlex
import sys

FOLDER = "hemma-git"
# Its variables have names that nobody exports: an exported one would change what git's children see. Its lists may be shorter
# than what the judge lets through, never longer (tests/remote/test_git_shim.py holds them to it).
_SHIM = r"""#!/bin/sh
# Hemma's guard of git, first on the PATH of a run. What it says no to is told with the way on; hemma undo brings work back.
hemma_path= hemma_git=@GIT@ # as it was when the run began; looked for when PATH is another now
case $PATH in @PATH@) [ -x "$hemma_git" ] ;; *) false ;; esac || { hemma_path=$PATH: hemma_git=; }
while [ -n "$hemma_path" ]; do # the next git that is none of ours: an environment may have put its own before the system's
    hemma_dir=${hemma_path%%:*} hemma_path=${hemma_path#*:}
    case $hemma_dir in */hemma-git) continue ;; esac
    if [ -f "${hemma_dir:-.}/git" ] && [ -x "${hemma_dir:-.}/git" ]; then hemma_git=${hemma_dir:-.}/git; break; fi
done
if [ -z "$hemma_git" ]; then echo 'git: not found on PATH (behind the guard of hemma)' >&2; exit 127; fi
hemma_verb= hemma_skip= hemma_straight=1
for hemma_word do
    case $hemma_skip:$hemma_word in
        :*) ;;
        value:* | setting:advice.* | setting:color.* | setting:commit.* | setting:core.[efpqs]* | setting:credential.* \
        | setting:diff.* | setting:http.* | setting:init.* | setting:log.* | setting:protocol.* | setting:safe.* \
        | setting:status.* | setting:user.*) hemma_skip=; continue ;;
        *) hemma_straight=; break ;; # a setting that may make a harmless command another one
    esac
    case $hemma_verb:$hemma_word in
        :-C | :--git-dir | :--work-tree | :--namespace) hemma_skip=value ;;
        :-c) hemma_skip=setting ;;
        :-p | :-P | :--paginate | :--no-pager | :--no-optional-locks | :--no-replace-objects | :--literal-pathspecs) ;;
        :--git-dir=* | :--work-tree=* | :--namespace=*) ;;
        :-v | :-h | :--version | :--help | :--exec-path | :--html-path | :--man-path | :--info-path) break ;;
        :rev-parse | :status | :rev-list | :cat-file | :ls-files | :ls-tree | :ls-remote | :merge-base | :name-rev \
        | :describe | :blame | :annotate | :for-each-ref | :show-ref | :hash-object | :count-objects | :check-ignore \
        | :check-attr | :check-ref-format | :var | :version | :write-tree | :commit-tree | :diff-files | :cherry \
        | :upload-pack | :pack-objects | :unpack-objects | :interpret-trailers | :help | :add | :clone) break ;;
        :log | :show | :diff | :diff-tree | :diff-index | :shortlog | :commit | :push | :fetch | :branch | :remote \
        | :stash | :tag | :config | :worktree) hemma_verb=$hemma_word ;;
        :*) hemma_straight=; break ;;
        seen:--o* | *:--ou*) hemma_straight=; break ;; # --output=FILE, however short
        seen:* | log:* | show:* | diff:* | diff-tree:* | diff-index:* | shortlog:*) ;;
        commit:--am*) hemma_straight=; break ;;
        commit:*) ;;
        push:-[uqv] | push:--quiet | push:--verbose | push:--set-upstream | push:--tags | push:--follow-tags) ;;
        fetch:-[pqtv] | fetch:--quiet | fetch:--all | fetch:--tags | fetch:--no-tags | fetch:--prune | fetch:--depth=*) ;;
        branch:-[alrv] | branch:-vv | branch:--show-current | branch:--list | branch:--all | branch:--remotes) ;;
        config:--local | config:--global | config:--system | config:--bool | config:-z | config:--null) ;;
        remote:-v | remote:--verbose | tag:-l | tag:--list) ;;
        remote:get-url | remote:show | stash:list | stash:show | worktree:list) hemma_verb=seen ;;
        config:--get* | config:-l | config:--list | config:get | config:list) hemma_verb=seen ;;
        push:-* | push:[+:]* | fetch:-* | fetch:*:* | fetch:+* | *:-*) hemma_straight=; break ;;
        push:* | fetch:*) ;;
        *) hemma_straight=; break ;;
    esac
done
# `stash` alone puts work away.
if [ -n "$hemma_straight" ] && [ "$hemma_verb" != stash ]; then exec "$hemma_git" "$@"; fi
exec @PYTHON@ -I -B -S -c 'import sys
sys.path.insert(0, sys.argv[1])
try:
    import @PACKAGE@.git_ask as ask
except ImportError as error:
    sys.stderr.write("refused  the guard of this run cannot be loaded (%s), so only harmless git commands run\n" % error)
    sys.exit(75)
ask.main(sys.argv[2], sys.argv[3], sys.argv[4:])' @CODE@ @RUN@ "$hemma_git" "$@"
"""
# In front, not only on PATH: git starts hooks with its own folder before everything.
_ENV = "case $PATH in @FOLDER@:*) ;; *) PATH=@FOLDER@:$PATH ;; esac\n"


def install(run_folder: str, environment: dict[str, str]) -> str | None:
    """Put the guard into a run's folder and first on the PATH of `environment`; returns its folder.

    None where it cannot be: a folder that PATH cannot hold, or from which nothing may be executed. Raises OSError.
    """
    folder = os.path.join(run_folder, FOLDER)
    if ":" in folder:
        return None
    os.mkdir(folder, 0o700)
    path = folder + os.pathsep + environment.get("PATH", os.defpath)
    words = {
        "@PATH@": path,
        "@GIT@": _next_git(path),
        "@PYTHON@": sys.executable or "python3",
        "@CODE@": _place_of_code(),
        "@RUN@": run_folder,
        "@FOLDER@": folder,
    }
    shim = os.path.join(folder, "git")
    _write(shim, _filled(_SHIM, words), 0o700)
    if not os.access(shim, os.X_OK):  # mounted noexec
        return None
    _write(os.path.join(folder, "env.sh"), _filled(_ENV, words), 0o600)
    environment["PATH"] = path
    environment.setdefault("BASH_ENV", os.path.join(folder, "env.sh"))
    return folder


def before_line(folder: str, line: str) -> str:
    """A line for a login shell that has the guard first on PATH, whatever the profiles made of it."""
    return "PATH=%s:$PATH; %s" % (shlex.quote(folder), line)


def without(path: str) -> str:
    """A PATH without guards: for git calls of ours, which must never ask the guard."""
    return os.pathsep.join(part for part in path.split(os.pathsep) if os.path.basename(part) != FOLDER)


def _next_git(path: str) -> str:
    """The first git on a PATH that is none of ours, as the shim would find it; nothing where there is none."""
    places = [os.path.join(part or ".", "git") for part in without(path).split(os.pathsep)]
    return next((place for place in places if os.path.isfile(place) and os.access(place, os.X_OK)), "")


def _filled(text: str, words: dict[str, str]) -> str:
    for name, value in words.items():
        text = text.replace(name, shlex.quote(value))
    return text.replace("@PACKAGE@", str(__package__))


def _write(path: str, text: str, mode: int) -> None:
    handle = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(os.fsencode(text))


def _place_of_code() -> str:
    """What must stand on sys.path for this package: the agent's zip on a host, the checkout in tests."""
    place = os.path.abspath(__file__)
    for _ in range(len(str(__package__).split(".")) + 1):
        place = os.path.dirname(place)
    return place
