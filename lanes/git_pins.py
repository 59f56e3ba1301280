"""Settings of git that are pinned wherever what it prints is read: the same as on a host (remote.agent.gitcall.PINS).

What a person set for their own eyes (colours, prefixes of patches, dates, an order) must not bend what a program reads.
Patches say `--no-ext-diff --no-textconv` as well: git knows no setting for these.
"""

from __future__ import annotations

from collections.abc import Mapping

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
GIT = ("git", *CONFIG)
# Of the environment these change what git prints, and name no repository.
_LOUD = ("GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS", "GIT_PAGER", "GIT_TRACE", "GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS")


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` for a git whose words are read: in English, without questions, locks, or variables that change what it prints.

    Variables that name a repository (GIT_DIR, GIT_INDEX_FILE) stay: a hook is called with them.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith(_LOUD) or name == "GIT_TRACE2"}
    return {**kept, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
