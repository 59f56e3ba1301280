"""What `hemma init --ci` writes: a GitHub workflow and pre-commit hooks that run `hemma verify` (S19-R05).

Where the repository has a memory or runbooks of its own, their checks as well (S2-R08, S17-R16).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, cast

from controller.flows import init
from manifests.commands import command
from manifests.errors import UsageError
from manifests.files import atomic_write

VERIFY, MEMORY, RUNBOOKS = "hemma verify", "hemma memory check", "hemma runbook check"
_HOOKS = {
    VERIFY: """\
      - id: hemma-verify
        name: every module is wired (hemma verify)
        entry: hemma verify --since HEAD
        language: system
        types_or: [python, jupyter, toml]
        pass_filenames: false
""",
    MEMORY: """\
      - id: hemma-memory
        name: the project's memory only grows (hemma memory check)
        entry: hemma memory check --staged
        language: system
        always_run: true
        pass_filenames: false
""",
    RUNBOOKS: """\
      - id: hemma-runbooks
        name: the runbooks hold (hemma runbook check)
        entry: hemma runbook check
        language: system
        files: ^runbooks/
        pass_filenames: false
""",
}

WORKFLOW = """\
# Every module is wired, and none is a copy or a stub. Made by `hemma init --ci`; yours to change.
name: verify
on:
  push:
    branches: [main, master]
  pull_request:
permissions:
  contents: read
jobs:
  verify:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
        with:
          fetch-depth: 0
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - run: python -m pip install hemma
      - run: hemma verify --format github
"""
WORKFLOW_PATH = ".github/workflows/hemma-verify.yml"
HOOK_PATH = ".pre-commit-config.yaml"


_FIRST_ITEM = re.compile(r"^repos:[ \t]*\n(?:[ \t]*(?:#[^\n]*)?\n)*([ \t]*)-", re.MULTILINE)
_OUR_STEP = re.compile(r"^([ ]*)- run: hemma verify[^\n]*\n", re.MULTILINE)


def write(root: str, checks: Sequence[str] = (VERIFY,)) -> list[str]:
    """Write what is missing below `root`; returns each change in words, [] when all is there. Nothing is overwritten.

    Raises UsageError when there is a .pre-commit-config.yaml into which a hook cannot be put without touching the rest.
    """
    changes: list[str] = []
    for name in (WORKFLOW_PATH, HOOK_PATH):
        path = os.path.join(root, name)
        old = init.read(path)
        if name == WORKFLOW_PATH:
            new = with_steps(WORKFLOW if old is None else old, checks)
        else:
            new = with_hooks("repos:\n" if old is None else old, path, checks)
        if new != old:
            atomic_write(path, new.encode("utf-8"), mode=None)
            changes.append(f"{name} created" if old is None else f"{name} {' and '.join(_new(old, new, checks))}")
    return changes


def _new(old: str, new: str, checks: Sequence[str]) -> list[str]:
    return [check for check in checks if check in new and check not in old]


def with_steps(text: str, checks: Sequence[str]) -> str:
    """A workflow with a step for each check behind ours; the same text when they are there, or ours is not. Pure."""
    ours = _OUR_STEP.search(text)
    missing = [check for check in checks if check not in text]
    if ours is None or not missing:
        return text
    steps = "".join(f"{ours.group(1)}- run: {check}\n" for check in missing)
    return text[: ours.end()] + steps + text[ours.end() :]


def with_hooks(text: str, name: str, checks: Sequence[str] = (VERIFY,)) -> str:
    """A pre-commit configuration with our hooks before its first one; the same text when they are there. Pure.

    Raises UsageError with what to paste when the text has no `repos:` list in block style.
    """
    before = _parsed(text, name)
    missing = [check for check in checks if not _has_hook(before, check)]
    if not missing:
        return text
    block = "  - repo: local\n    hooks:\n" + "".join(_HOOKS[check] for check in missing)
    if text == "repos:\n":
        return text + block
    fits = _FIRST_ITEM.search(text)
    if fits is not None:
        indent = fits.group(1)
        lines = [indent + line.removeprefix("  ") + "\n" for line in block.splitlines()]
        start = text.rindex("\n", 0, fits.end()) + 1
        new = text[:start] + "".join(lines) + text[start:]
        after = _parsed(new, name)
        if after.get("repos", [])[1:] == before.get("repos"):
            return new
    raise UsageError(
        f"{name} has no `repos:` list that a hook can be put into", remedy=command("add this to repos: {}", block)
    )


def _has_hook(config: dict[str, Any], check: str) -> bool:
    repos = [repo for repo in config.get("repos") or [] if isinstance(repo, dict)]
    hooks = [hook for repo in repos for hook in cast("dict[str, Any]", repo).get("hooks") or []]
    return any(check in str(hook.get("entry", "")) for hook in hooks if isinstance(hook, dict))


def _parsed(text: str, name: str) -> dict[str, Any]:
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{name} is no YAML: {error}", remedy=command("mend {}", name)) from error
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
