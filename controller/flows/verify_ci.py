"""What `hemma init --ci` writes: a GitHub workflow and a pre-commit hook that run `hemma verify` (S19-R05)."""

from __future__ import annotations

import os
import re
from typing import Any, cast

from controller.flows import init
from manifests.errors import UsageError
from manifests.files import atomic_write

HOOK = """\
repos:
  - repo: local
    hooks:
      - id: hemma-verify
        name: every module is wired (hemma verify)
        entry: hemma verify --since HEAD
        language: system
        types_or: [python, jupyter, toml]
        pass_filenames: false
"""

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


def write(root: str) -> list[str]:
    """Write what is missing below `root`; returns each change in words, [] when all is there. Nothing is overwritten.

    Raises UsageError when there is a .pre-commit-config.yaml into which the hook cannot be put without touching the rest.
    """
    changes: list[str] = []
    workflow = os.path.join(root, WORKFLOW_PATH)
    if not os.path.exists(workflow):
        atomic_write(workflow, WORKFLOW.encode("ascii"), mode=None)
        changes.append(f"{WORKFLOW_PATH} created")
    path = os.path.join(root, HOOK_PATH)
    old = init.read(path)
    new = HOOK if old is None else with_hook(old, path)
    if new != old:
        atomic_write(path, new.encode("utf-8"), mode=None)
        changes.append(f"{HOOK_PATH} created" if old is None else f"{HOOK_PATH} hook hemma-verify")
    return changes


def with_hook(text: str, name: str) -> str:
    """A pre-commit configuration with our hook before its first one; the same text when it is there. Pure.

    Raises UsageError with what to paste when the text has no `repos:` list in block style.
    """
    before = _parsed(text, name)
    if _has_hook(before):
        return text
    fits = _FIRST_ITEM.search(text)
    if fits is not None:
        indent = fits.group(1)
        lines = [indent + line.removeprefix("  ") + "\n" for line in HOOK.splitlines()[1:]]
        start = text.rindex("\n", 0, fits.end()) + 1
        new = text[:start] + "".join(lines) + text[start:]
        after = _parsed(new, name)
        if after.get("repos", [])[1:] == before.get("repos"):
            return new
    raise UsageError(f"{name} has no `repos:` list that a hook can be put into", remedy="add to repos:\n" + HOOK[7:])


def _has_hook(config: dict[str, Any]) -> bool:
    repos = [repo for repo in config.get("repos") or [] if isinstance(repo, dict)]
    hooks = [hook for repo in repos for hook in cast("dict[str, Any]", repo).get("hooks") or []]
    return any("hemma verify" in str(hook.get("entry", "")) for hook in hooks if isinstance(hook, dict))


def _parsed(text: str, name: str) -> dict[str, Any]:
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{name} is no YAML: {error}", remedy=f"mend {name}") from error
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
