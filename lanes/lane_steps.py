"""The safe next commands for work of a lane (S9-R02, S9-R05): what a person, or an agent, can paste.

Pure text: nothing here runs anything, and no command here discards anything (merge only; local copies go to the stash).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from manifests.commands import Command, Remedy, command, joined
from manifests.run import Lane

# How a file of the work tree stands against its last commit. `asked`: it is only asked about.
# `removed`: deleted and staged so. `gone`: staged as new, and removed again before any commit.
State = Literal["asked", "untracked", "added", "changed", "deleted", "removed", "conflicted", "gone"]
# How git makes a patch that can be applied elsewhere, whatever the user's settings are.
_PATCH = Command("diff-index -p --binary")
_PINNED_DIFF = Command(
    "diff --binary -U3 --no-color --no-relative --no-textconv --no-ext-diff --submodule=short "
    "--src-prefix=a/ --dst-prefix=b/"
)
_NOT_IN_INDEX: tuple[State, ...] = ("asked", "untracked")
_NO_FILE: tuple[State, ...] = ("deleted", "removed")
_NOT_IN_HEAD: tuple[State, ...] = ("untracked", "added")


@dataclass(frozen=True)
class Edit:
    """One file to do something about: its name as commands take it (a folder's ends with a slash), and how it stands."""

    name: str
    state: State = "asked"


def first_step(lane: Lane, edit: Edit) -> Remedy:
    """The next safe command for one file."""
    if edit.state == "conflicted":
        return command("git mergetool -- {}   (or leave the merge: git merge --abort)", edit.name)
    if edit.state == "gone":
        return command("{} rm --cached -- {}", _git([edit.name]), edit.name)
    if lane == "local":
        return _local([edit])[0]
    if edit.state == "asked":
        return joined(_edits([edit]), "")
    return _put(edit.name) if edit.state in _NOT_IN_HEAD else _patch([edit.name], "HEAD")


def steps(lane: Lane, edits: Sequence[Edit]) -> tuple[Remedy, ...]:
    """All commands that bring these files of one lane into the history, in order; MESSAGE stands for your words.

    Host-backed work goes to the host, is committed and pushed there, and comes back by a merge; what was edited here is
    kept in the stash. Documents are committed here. An unfinished merge is finished first.
    """
    if not edits:
        return ()
    stuck = [edit for edit in edits if edit.state == "conflicted"]
    if stuck:
        return tuple(first_step(lane, edit) for edit in stuck)
    if gone := [edit for edit in edits if edit.state == "gone"]:
        rest = [edit for edit in edits if edit.state != "gone"]
        return (*(first_step(lane, edit) for edit in gone), *steps(lane, rest))
    return _local(edits) if lane == "local" else _hosted(lane, edits)


def revision_steps(lane: Lane, names: Sequence[str], revision: str) -> tuple[Remedy, ...]:
    """The commands that bring what differs from `revision` (or within A..B) in these files to where it belongs.

    It may be committed here already, so nothing is put aside: the host's commit and ours meet in a merge.
    """
    if lane == "local":
        return ("hemma sync",)
    return (_patch(names, revision), *_on_host([]), "hemma sync")


def command_steps(lane: Lane, argv: Sequence[str]) -> tuple[Remedy, ...]:
    """How to start a command in its lane; nothing for Colab, where a slice starts it."""
    text = command("{}", argv)
    already = argv[:2] == ["hemma", "run"] or argv[:1] == ["run-hemma"]
    return (
        {"hemma": (text if already else command("hemma run -- {}", text),), "local": (text,), "colab": ()}[lane]
        if text
        else ()
    )


def shell_steps(lane: Lane, text: str) -> tuple[Remedy, ...]:
    """How to start a shell line in its lane."""
    # The line itself is what was asked about; one with line ends goes to a shell of its own, as one word.
    here = Command(text) if text.isprintable() else command("bash -c {}", text)
    return {"hemma": (command("hemma run --shell {}", text),), "local": (here,), "colab": ()}[lane]


def _local(edits: Sequence[Edit]) -> tuple[Remedy, ...]:
    names = [edit.name for edit in edits]
    new = [edit.name for edit in edits if edit.state in _NOT_IN_INDEX]
    add = (command("{} add -- {}", _git(new), new),) if new else ()
    return (*add, command("{} commit -m MESSAGE -- {}", _git(names), names), "hemma sync")


def _hosted(lane: Lane, edits: Sequence[Edit]) -> tuple[Remedy, ...]:
    check = tuple(_check(edit) for edit in edits if lane == "colab" and edit.state not in _NO_FILE)
    if all(edit.state == "asked" for edit in edits):
        names = [edit.name for edit in edits if not edit.name.endswith("/")]
        return (*_edits(edits), *check, *_on_host(names), "hemma sync")
    return (*check, *_moved(edits), *_put_aside(edits), "hemma sync")


def _moved(edits: Sequence[Edit]) -> tuple[Remedy, ...]:
    """New files alone are put; else all of it goes as one patch, which the host merges and stages, or refuses whole."""
    names = [edit.name for edit in edits]
    if all(edit.state in _NOT_IN_HEAD for edit in edits):
        return (*(_put(name) for name in names), *_on_host(names))
    new = [edit.name for edit in edits if edit.state == "untracked"]
    add = (command("{} add -- {}", _git(new), new),) if new else ()
    return (*add, _patch(names, "HEAD"), *_on_host([]))


def _on_host(names: Sequence[str]) -> tuple[Remedy, ...]:
    """Commit these files there, or with none what is staged, and push."""
    return (command("hemma commit -m MESSAGE -- {}", names) if names else "hemma commit -m MESSAGE", "hemma push")


def _put_aside(edits: Sequence[Edit]) -> tuple[Remedy, ...]:
    # The stash takes only what the index knows (or nobody does), so a staged removal is unstaged first.
    removed = [edit.name for edit in edits if edit.state == "removed"]
    names = [edit.name for edit in edits]
    unstage = (command("{} restore --staged -- {}", _git(removed), removed),) if removed else ()
    return (*unstage, command("{} stash push --include-untracked -m 'now on the host' -- {}", _git(names), names))


def _put(name: str) -> Command:
    return command("hemma put --parents {}", _operand(name))


def _patch(names: Sequence[str], revision: str) -> Command:
    # A range is for `git diff` only, which asks the user's settings: colours, prefixes, or a program of their own would
    # make the patch unusable. diff-index asks none of them.
    how = _PINNED_DIFF if ".." in revision else _PATCH
    return command("{} {} {} -- {} | hemma apply -", _git(names), how, revision, names)


def _edits(edits: Sequence[Edit]) -> tuple[Remedy, ...]:
    # A folder cannot be opened; the files in it are asked about one by one.
    return tuple(command("hemma edit {}", _operand(edit.name)) for edit in edits if not edit.name.endswith("/"))


def _check(edit: Edit) -> Command:
    return command("hemma notebook check {}", _operand(edit.name))


def _operand(name: str) -> Command:
    return command("-- {}" if name.startswith("-") else "{}", name)


def _git(names: Sequence[str]) -> Command:
    """`git`, told to take names as they are where one of them would be a pattern to it (`*.md`, `:top`)."""
    return Command("git --literal-pathspecs" if any(set(name) & set("*?[\\:") for name in names) else "git")
