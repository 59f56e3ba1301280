"""May a command start in this place on the host? The guard before every command (S9-R21).

The controller sends `REQUIREMENTS` along with the request; the agent only compares facts with them, in order, and starts
nothing when one does not hold. What a broken one means is said here. Standard library only: the `hemma run` path.
"""

from __future__ import annotations

from manifests.commands import command, literal
from manifests.errors import HemmaError, NotARepository, RootMissing, WrongDirectory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# In the order in which they are judged; the first that fails decides the exit code.
REQUIREMENTS: tuple[tuple[str, bool], ...] = (
    ("root_exists", True),
    ("is_repository", True),
    ("is_toplevel", True),
    ("cwd_exists", True),
    ("cwd_is_inside", True),
)

# How the host's clone may be related to this folder's (the words of remote/agent/clone.py) for it to be proven the same.
PROVEN = ("same", "fork", "same-origin", "shared-commit")
# No proof, and nothing that speaks against it: one side has no commit yet, is cut off, or git could not look.
_NOTHING_AGAINST = ("unborn", "no-witness", "unreadable")


def accepted_relations(*, is_run: bool, is_root_own: bool, is_host_said: bool) -> list[str] | None:
    """The relations of the host's clone to this folder's with which a request may go on; None: any.

    `is_root_own`: the root was said for this folder (its [tool.hemma], or a variable), not for all folders of this user;
    only then may two clones be paired of which one is still empty. `is_host_said`: with -H, for this very command; a run
    may then go anywhere, what changes a clone may not.
    """
    if is_run and is_host_said:
        return None
    if not is_root_own:
        return list(PROVEN)
    return [*PROVEN, *(_NOTHING_AGAINST if is_run else _NOTHING_AGAINST[:1])]


def may_act_without_repository(*, is_run: bool, is_root_own: bool, is_host_said: bool) -> bool:
    """Whether a request may go on from a folder that lies in no repository, where nothing can be compared."""
    return is_run or is_root_own or is_host_said


def judge(facts: dict[str, Any]) -> HemmaError | None:
    """The refusal that these guard facts call for, or None when a command may start.

    66 the root is not there, 67 it is no git work tree, 68 the working directory is not (in) the root of its repository.
    (69, a clone of another repository: lanes.clone_identity.)
    """
    root, cwd, toplevel = facts.get("root"), facts.get("cwd"), facts.get("toplevel")
    if not facts.get("root_exists"):
        return _root_missing(root)
    if not facts.get("is_repository"):
        return NotARepository(
            f"{root} on the host is not a git repository", remedy=command("on the host: git clone ORIGIN {}", str(root))
        )
    if not facts.get("is_toplevel"):
        return WrongDirectory(
            f"{root} on the host lies inside the repository {toplevel}, it is not its root",
            remedy=command(
                "set root = {} in [tool.hemma], and use --cwd for the folder below it", literal(str(toplevel))
            ),
        )
    if not facts.get("cwd_exists"):
        return WrongDirectory(
            f"the working directory {cwd} does not exist on the host", remedy="check --cwd (relative to the root)"
        )
    if not facts.get("cwd_is_inside"):
        return WrongDirectory(
            f"the working directory {cwd} is not inside the root {root}", remedy="give --cwd relative to the root"
        )
    return None


def _root_missing(root: object) -> HemmaError:
    if not root:
        return RootMissing(
            "no repository root is set for this host", remedy='set root = "~/path/to/repo" in [tool.hemma]: hemma init'
        )
    return RootMissing(
        f"the root {root} does not exist on the host",
        remedy="clone the repository there, or mend root in [tool.hemma]: hemma config",
    )
