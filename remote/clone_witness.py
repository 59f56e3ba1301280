"""What this folder's repository is, for the request that acts on its clone on the host; and what to say of the answer.

Standard library only: the `hemma run` path. A clone that has not moved is known from a cache (remote/agent/clone.py), so
that no git is started here.
"""

from __future__ import annotations

import os

from lanes import guards
from manifests.places import cache_dir
from remote import stdio
from remote.agent import clone, gitfacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from manifests.errors import HemmaError
    from remote.refusals import HostRefused


def of(spec: dict[str, Any], *, is_run: bool = False) -> dict[str, Any] | None:
    """The clone around the working directory, with the relations to the host's that will do; None outside of any.

    `spec` is the `host` part of the settings. Raises AnotherRepository where that already says that it may not be.
    """
    how = {"is_run": is_run, "is_root_own": bool(spec.get("root_is_own")), "is_host_said": bool(spec.get("is_said"))}
    folder = os.getcwd()
    top, name = gitfacts.toplevel(folder), spec.get("name") or spec.get("ssh")
    if top is None:
        if guards.may_act_without_repository(**how):
            return None
        from lanes import clone_identity

        raise clone_identity.without_repository(folder, str(name), spec.get("root"))
    found: dict[str, Any] = {**clone.learn(top, _cache()), "path": top, "host": name, "is_run": is_run}
    above = gitfacts.toplevel(os.path.dirname(top)) if os.path.isfile(os.path.join(top, ".git")) else None
    if above is not None and os.sep + "modules" + os.sep in (gitfacts.git_dir(top) or ""):
        found["superproject"] = above
    found["accept"] = guards.accepted_relations(**how)
    return found


def record(folder: str) -> str | None:
    """Look at the clone around `folder` and keep what proves which repository it is of; it in words.

    None outside of any, and where git cannot look.
    """
    top = gitfacts.toplevel(folder)
    if top is None:
        return None
    from lanes import clone_identity

    facts = clone.learn(top, _cache(), is_fresh=True)
    return None if facts["said"] else clone_identity.described(facts)


def judged(refused: HostRefused) -> HemmaError:
    """The guard's own error for a refusal that carries the facts of a clone; else the refusal itself."""
    facts = refused.fields.get("facts")
    if not isinstance(facts, dict):
        return refused
    if "relation" not in facts:
        return guards.judge(facts) or refused
    # What speaks against it may change by something that no stamp shows: the next request looks anew.
    top = gitfacts.toplevel(os.getcwd())
    if top is not None:
        clone.forget(top, _cache())
    from lanes import clone_identity

    return clone_identity.refusal(facts)


def say(spec: dict[str, Any], here: dict[str, Any] | None, reply: dict[str, Any] | None) -> None:
    """A line on stderr where the clone there is not simply the same: of a fork once, of a run elsewhere each time."""
    there = reply.get("there") if reply is not None else None
    if here is None or reply is None or not isinstance(there, dict):
        return
    from lanes import clone_identity

    relation, name = reply.get("relation"), str(spec.get("name") or spec.get("ssh"))
    if relation == clone.FORK and not _is_said(here, spec, there):
        stdio.say("note", clone_identity.fork_note(name, here, there))
    elif here["accept"] is None and relation not in guards.PROVEN:
        stdio.say("note", clone_identity.elsewhere_note(name, there))


def elsewhere(reply: dict[str, Any] | None) -> dict[str, Any]:
    """For --json: the root of a clone that is not proven to be this folder's; empty for one that is."""
    there = reply.get("there") if reply is not None else None
    if reply is None or not isinstance(there, dict) or reply.get("relation") in guards.PROVEN:
        return {}
    return {"ran_elsewhere": {"root": there.get("path"), "origin": there.get("origin")}}


def _is_said(here: dict[str, Any], spec: dict[str, Any], there: dict[str, Any]) -> bool:
    """Whether this pair was named before; from now on it was."""
    import zlib

    pair = "\0".join(str(part) for part in (here["path"], spec.get("ssh"), there.get("path"), there.get("origin")))
    mark = os.path.join(_cache(), f"fork-{zlib.crc32(pair.encode('utf-8', 'surrogateescape')):08x}")
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return True
    except OSError:
        return False
    return False


def _cache() -> str:
    return os.path.join(cache_dir(), "clones")
