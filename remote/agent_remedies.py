"""The remedies that our own agent gives with a refusal: texts of this tree, which stand when a host says them.

Whatever else a host calls a remedy is a stranger's word, and is shown as advice (SECURITY.md). Standard library only.
"""

from __future__ import annotations

OF_THE_AGENT = frozenset(
    {
        "--parents makes it",
        "ask for less",
        "cd into one",
        "give more of it; see: hemma undo --list",
        "hemma undo --list",
        "hemma undo --list   and name one",
        "hemma undo --list PATH",
        "hemma undo again when it is done",
        "free some space or inodes there, e.g. `hemma prune`",
        "free some space or inodes there, e.g. `hemma prune`, or point host.state_dir at another disk",
        "give a path relative to the root",
        "give more of the id; see `hemma ps --all`",
        "hemma run -- ls -la",
        "hemma run -- ls -la, and make it writable for your user",
        "git status",
        "install git",
        "leave the last / out",
        "look what is there and remove it or `chmod go-rwx` it, or set host.state_dir to another folder",
        "make it writable for your user, or set host.state_dir",
        "name a file in it",
        "see `hemma ps --all`",
        "try again",
        "try again when it is done",
        "use git to change it",
    }
)
