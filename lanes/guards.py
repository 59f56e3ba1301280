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


def judge(facts: dict[str, Any]) -> HemmaError | None:
    """The refusal that these guard facts call for, or None when a command may start.

    66 the root is not there, 67 it is no git work tree, 68 the working directory is not (in) the root of its repository.
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
