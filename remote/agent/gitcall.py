"""One way to start git on this machine: no question, no editor, no language, and no setting that bends what is read."""

from __future__ import annotations

import os
import subprocess

# What a person may have set for their own eyes, or as a habit, and what is read here must not depend on. `color.*` one by
# one: color.diff=always stands above color.ui. Patches say --no-ext-diff and --no-textconv as well: git knows no setting
# for these.
PINS = (
    "core.quotePath=false",
    "core.pager=cat",
    "color.ui=false",
    "color.branch=false",
    "color.diff=false",
    "color.status=false",
    "color.push=false",
    "color.remote=false",
    "color.transport=false",
    "column.ui=never",
    "diff.noprefix=false",
    "diff.mnemonicPrefix=false",
    "diff.relative=false",
    "diff.context=3",
    "diff.interHunkContext=0",
    "diff.submodule=short",
    "diff.suppressBlankEmpty=false",
    "log.showSignature=false",
    "log.showRoot=true",
    "log.date=default",
    "log.decorate=false",
    "log.diffMerges=separate",
    "i18n.logOutputEncoding=UTF-8",
    "status.relativePaths=true",
    "status.renames=true",
    "status.showStash=false",
    "status.submoduleSummary=false",
    "fetch.output=full",
    "apply.whitespace=warn",
    "apply.ignoreWhitespace=false",
    "advice.detachedHead=false",
)
CONFIG = tuple(word for pin in PINS for word in ("-c", pin))


def argv(*arguments: str) -> list[str]:
    """A git command with what is pinned, for whoever starts it and reads its words: here, in an agent, in a hook."""
    return ["git", *CONFIG, *arguments]


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


def without_questions(root: str) -> dict[str, str]:
    """ssh that never asks, for the commands that dial; a user's own ssh command stays, wherever it was set."""
    if any(os.environ.get(name) for name in ("GIT_SSH_COMMAND", "GIT_SSH")):
        return {}
    if Repository(root).text("config", "--get", "core.sshCommand"):
        return {}
    return {"GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=10"}


class Repository:
    """One work tree on this machine."""

    def __init__(self, root: str) -> None:
        self.root = root

    def start(self, *argv: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start git with these arguments; several may look at the same time."""
        return subprocess.Popen(
            ["git", *CONFIG, *argv],
            cwd=self.root,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def text(self, *argv: str, timeout_s: float = 120.0) -> str | None:
        """What git printed, without its last line end; None when it failed."""
        return output(self.start(*argv), timeout_s)

    def complaint(self, *argv: str) -> str:
        """What git prints on stderr where it fails, its end; an empty string where it does not."""
        _, err = self.start(*argv).communicate()
        return err.decode("utf-8", "replace").strip()[-2000:]

    def words(self, *argv: str) -> list[str]:
        """What git printed, cut at blanks and line ends; nothing when it failed."""
        return (self.text(*argv) or "").split()


def output(process: subprocess.Popen[bytes], timeout_s: float = 120.0) -> str | None:
    """What a git that was started printed, without its last line end; None when it failed or took too long."""
    try:
        out, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    return None if process.returncode else out.decode("utf-8", "surrogateescape").rstrip("\n")
