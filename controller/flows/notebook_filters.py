"""Git's hooks into notebooks for one clone: a clean filter, a merge driver, and text for `git diff`.

The clone's own git config says which program; .gitattributes, which is committed, only names it. Where that name is not
configured (another clone, the host), git works on the files as they are.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence

from manifests.commands import command
from manifests.errors import HemmaError, NotARepository, UsageError
from manifests.files import atomic_write
from remote.agent import gitcall

NAME = "hemma-notebook"
ATTRIBUTES = f"*.ipynb filter={NAME} diff={NAME} merge={NAME}"
NEXT_STEP = "git add --renormalize -- '*.ipynb' && git commit -m 'Notebooks in their normal form'"
_SECTIONS = (f"filter.{NAME}", f"merge.{NAME}", f"diff.{NAME}")


def own_command() -> list[str]:
    """How this very installation is called from elsewhere; git knows nothing of virtual environments."""
    script = os.path.join(os.path.dirname(sys.executable), "hemma")
    return [script] if os.access(script, os.X_OK) else [sys.executable, "-P", "-m", "hemma"]


def install_notebook_filters(
    repo_path: str, *, command: Sequence[str] | None = None, keep_outputs: bool = False, force: bool = False
) -> list[str]:
    """Set up filter, merge driver and diff for *.ipynb in the clone at `repo_path`; returns each change in words.

    Doing it again changes nothing. `keep_outputs`: outputs are meant, they stay and they count. Raises NotARepository, or
    UsageError when another tool filters notebooks here and not `force`; nothing has changed then.
    """
    top = _top(repo_path)
    for attribute in ("filter", "diff", "merge"):
        other = _attribute(top, attribute)
        if other not in {"", NAME} and not force:
            raise UsageError(
                f".gitattributes already gives notebooks {attribute}={other}",
                remedy="take that line out, or: hemma hooks install --notebooks --force",
            )
    changes = [
        f"git config {key} = {value}"
        for key, value in _wanted(command, keep_outputs=keep_outputs)
        if _set(top, key, value)
    ]
    path = os.path.join(top, ".gitattributes")
    text = _read(path)
    # The last line that matches decides, so ours goes to the end.
    if _attribute(top, "filter") != NAME or ATTRIBUTES.encode() not in text.splitlines():
        end = b"\r\n" if b"\r\n" in text else b"\n"
        gap = end if text and not text.endswith(b"\n") else b""
        atomic_write(path, _without_line(text) + gap + ATTRIBUTES.encode() + end, mode=None)
        changes.append(f".gitattributes + {ATTRIBUTES}")
    return changes


def remove_notebook_filters(repo_path: str) -> list[str]:
    """Undo `install_notebook_filters`; returns each change in words. Notebooks stay as they are. Raises NotARepository."""
    top = _top(repo_path)
    changes = [
        f"git config - [{section}]"
        for section in _SECTIONS
        if _git(top, "config", "--local", "--remove-section", section, check=False).returncode == 0
    ]
    path = os.path.join(top, ".gitattributes")
    text = _read(path)
    rest = _without_line(text)
    if rest != text:
        changes.append(f".gitattributes - {ATTRIBUTES}")
        if rest:
            atomic_write(path, rest, mode=None)
        else:
            os.unlink(path)
    return changes


def _wanted(command: Sequence[str] | None, *, keep_outputs: bool) -> list[tuple[str, str]]:
    program = shlex.join([*(command or own_command()), "notebook"])
    # Filters and merge drivers replace %x; a path of ours may hold a percent sign.
    expanded = program.replace("%", "%%")
    more = " --outputs" if keep_outputs else ""
    # What a merge makes goes into history without passing the clean filter, hence --strip; a file may be called -x.ipynb.
    return [
        (f"filter.{NAME}.clean", f"{expanded} strip{more}"),
        (f"merge.{NAME}.name", "notebooks cell by cell (Hemma)"),
        (f"merge.{NAME}.driver", f"{expanded} merge --strip{more} -- %O %A %B %P"),
        (f"diff.{NAME}.textconv", f"{program} text{more} --"),
    ]


def _set(top: str, key: str, value: str) -> bool:
    """Write one key of the clone's config; whether it was another before."""
    if _git(top, "config", "--local", "--get-all", key, check=False).stdout == f"{value}\n".encode():
        return False
    _git(top, "config", "--local", "--replace-all", key, value)
    return True


def _attribute(top: str, name: str) -> str:
    """What .gitattributes gives a notebook in the top folder; empty for nothing."""
    told = _git(top, "check-attr", "-z", name, "--", "notebook.ipynb").stdout.split(b"\0")
    value = os.fsdecode(told[2]) if len(told) > 2 else ""
    return "" if value in {"unspecified", "unset", "set"} else value


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _without_line(text: bytes) -> bytes:
    return b"".join(line for line in text.splitlines(keepends=True) if line.strip() != ATTRIBUTES.encode())


def _top(repo_path: str) -> str:
    told = _git(repo_path, "rev-parse", "--show-toplevel", check=False)
    if told.returncode:
        raise NotARepository(f"{repo_path} is no git work tree", remedy=command("git -C {} status", repo_path))
    return os.fsdecode(told.stdout.removesuffix(b"\n"))


def _git(folder: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    # What git passes to a hook (GIT_DIR, GIT_INDEX_FILE) names the repository of that hook, not this one.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or "CONFIG" in name}
    told = subprocess.run(gitcall.argv("-C", folder, *arguments), capture_output=True, check=False, env=environ)
    if check and told.returncode:
        reason = told.stderr.decode("utf-8", "replace").strip()
        raise HemmaError(
            f"git {arguments[0]} failed: {reason}", remedy=command("git -C {} status", folder), code="git-failed"
        )
    return told
