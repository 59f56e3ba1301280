"""The environment in which git is started here: without prompts, editors, or variables that name another repository."""

from __future__ import annotations

import os

# Of the user's GIT_* these hold: how to reach origin, who commits, which settings. The rest names a repository.
_KEPT = (
    "GIT_SSH",
    "GIT_ASKPASS",
    "GIT_SSL_",
    "GIT_AUTHOR_",
    "GIT_COMMITTER_",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_NOSYSTEM",
)


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of every git command here: no prompt, no editor, C locale, no lock for a mere look."""
    kept = {n: value for n, value in os.environ.items() if not n.startswith("GIT_") or n.startswith(_KEPT)}
    fixed = {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_EDITOR": "true",
        "GIT_MERGE_AUTOEDIT": "no",
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C",
    }
    return {**kept, **fixed, **(extra or {})}
