"""Which git settings, given for one call (`-c`) or for good (`git config`), make a harmless command a harmful one?"""

from __future__ import annotations

from collections.abc import Callable

from lanes import git_harms as harms
from lanes.git_harms import Harm

_OFF = ("false", "no", "off", "0", "")
_REBASING = Harm(harms.MERGE_ONLY, "makes pull rewrite commits", ("git pull --no-rebase", "git merge <branch>"))
_CORRECTING = ("never", "show", "prompt", *_OFF)
_TRACKED = ("refs/remotes/", "refs/hemma/")


def setting_harm(name: str, value: str | None) -> Harm | None:
    """What the setting `name` = `value` would do, or None when it is harmless; a value of None is not known here."""
    section, _, rest = name.lower().partition(".")
    key = rest.rpartition(".")[2]
    if rest and section in ("alias", "include", "includeif"):
        return harms.HIDES
    harm, is_harmful = _SETTINGS.get((section, key), (None, None))
    return harm if is_harmful and (value is None or is_harmful(value.lower())) else None


def _is_on(value: str) -> bool:
    return value not in _OFF


def _is_off(value: str) -> bool:
    return value in _OFF


def _always(_: str) -> bool:
    return True


def _forces_push(refspec: str) -> bool:
    return refspec.startswith("+") or (refspec.startswith(":") and refspec != ":")


def _forces_fetch(refspec: str) -> bool:
    _, colon, destination = refspec.partition(":")
    return refspec.startswith("+") and bool(colon) and not destination.startswith(_TRACKED)


def _corrects(value: str) -> bool:
    return value not in _CORRECTING


def _sets_up_rebase(value: str) -> bool:
    return value != "never"


def _rewrites(value: str) -> bool:
    return value == "rebase" or value.startswith("!")


_SETTINGS: dict[tuple[str, str], tuple[Harm, Callable[[str], bool]]] = {
    ("pull", "rebase"): (_REBASING, _is_on),
    ("branch", "rebase"): (_REBASING, _is_on),
    ("branch", "autosetuprebase"): (_REBASING, _sets_up_rebase),
    ("submodule", "update"): (_REBASING, _rewrites),
    ("help", "autocorrect"): (harms.HIDES, _corrects),
    ("remote", "mirror"): (harms.MIRRORS, _is_on),
    ("remote", "push"): (harms.FORCES_ORIGIN, _forces_push),
    ("remote", "fetch"): (harms.MIRRORS, _forces_fetch),
    ("remote", "prunetags"): (harms.DELETES_REF, _is_on),
    ("fetch", "prunetags"): (harms.DELETES_REF, _is_on),
    ("core", "logallrefupdates"): (harms.FORGETS, _is_off),
    ("gc", "pruneexpire"): (harms.PRUNES, _always),
    ("gc", "reflogexpire"): (harms.FORGETS, _always),
    ("gc", "reflogexpireunreachable"): (harms.FORGETS, _always),
    ("gc", "worktreepruneexpire"): (harms.FORGETS_TREE, _always),
}
