"""The structure of a project, decided: what a verify report says of each module, what changed, and what that comes to.

The file is a projection: it is what its append-only change log comes to when it is replayed (C2). A word without evidence
is null, and a status is never made up (S2-R14, S19-R06).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from manifests.memory import Verified
from manifests.verify import ModuleRow, VerifyReport

from lanes.memory import Lost

Module = Mapping[str, Any]
Change = dict[str, Any]
_MEASURED = ("tested", "active")


# --- what verify says -----------------------------------------------------------------------------------------------


def judged(
    found: Sequence[Module], standing: Sequence[Module], report: VerifyReport, stored: VerifyReport | None = None
) -> list[dict[str, Any]]:
    """The modules `found` in the code, each with its status and the words of the report (S2-R14, S19-R07).

    `stored`: a report of earlier, for what only a run can tell (tested, active). That, and what stands, counts as long as
    the code is the same. A file that the report does not speak of (a test) keeps the status it has, or has none.
    """
    now, before = _by_path(report.modules), _by_path(stored.modules if stored else ())
    known = {str(each.get("name")): each for each in standing}
    made: list[dict[str, Any]] = []
    for module in found:
        row = now.get(str(module["path"]))
        stands = known.get(str(module["name"]), {})
        if row is None:
            made.append({**module, "status": stands.get("status", module.get("status"))})
            continue
        words = Verified.model_validate(_words(row, before.get(row.path), stands))
        made.append({**module, "status": _status(words), "wiring": row.status, "verified": words.as_dict()})
    return made


def _by_path(rows: Iterable[ModuleRow]) -> dict[str, ModuleRow]:
    return {row.path: row for row in rows}


def _words(row: ModuleRow, stored: ModuleRow | None, stands: Module) -> dict[str, Any]:
    """The five words; a measured one is the report's, else the stored report's, else what stands, all of the same code."""
    words: dict[str, Any] = {"exists": row.words.exists, "wired": row.words.wired, "digest": row.digest}
    kept = verified(stands)
    for word in _MEASURED:
        said = getattr(row.words, word)
        if said is None and stored is not None and stored.digest == row.digest:
            said = getattr(stored.words, word)
        if said is None and kept.get("digest") == row.digest:
            said = kept.get(word)
        words[word] = said
    is_known = all(words[word] is not None for word in _MEASURED)
    words["complete"] = all(words[word] for word in ("exists", "wired", *_MEASURED)) if is_known else None
    return words


def _status(words: Verified) -> str:
    """The word of S2-R14: `complete` is proven, `active` is there and wired, all else is still a plan."""
    if words.complete:
        return "complete"
    return "active" if words.exists and words.wired else "planned"


def progress(modules: Sequence[Module]) -> tuple[dict[str, int], list[str]]:
    """How many modules there are of each status, and those whose completeness nobody measured (S19-R04, S19-R06).

    What was removed and what verify does not judge (tests) is not counted; a plan without a file counts as planned.
    """
    counts = {"planned": 0, "active": 0, "complete": 0}
    unmeasured: list[str] = []
    for module in modules:
        status, words = str(module.get("status")), verified(module)
        if status not in counts or (status != "planned" and not words):
            continue
        counts[status] += 1
        if status == "active" and words.get("complete") is None:
            unmeasured.append(str(module.get("name")))
    return counts, unmeasured


def verified(module: Module) -> dict[str, Any]:
    """The words of verify that stand at a module; none where it was never judged."""
    words: object = module.get("verified")
    return cast("dict[str, Any]", words) if isinstance(words, dict) else {}


# --- what changed, and what that comes to ---------------------------------------------------------------------------


def merged(standing: Sequence[Module], found: Sequence[Module], today: str) -> list[dict[str, Any]]:
    """What stands, with what the code says now: fields of ours are renewed, others kept, vanished modules marked."""
    now = {str(each["name"]): each for each in found}
    known = {str(each.get("name")) for each in standing}
    result: list[dict[str, Any]] = []
    for module in standing:
        fresh = now.get(str(module.get("name")))
        if fresh is not None:
            result.append({**module, **fresh})
        elif module.get("status") == "removed" or (module.get("status") == "planned" and "verified" not in module):
            result.append(dict(module))
        else:
            result.append({**module, "status": "removed", "removed_on": today})
    return result + [dict(each) for name, each in now.items() if name not in known]


def restored(standing: Sequence[Module], replay: Sequence[Module]) -> list[dict[str, Any]]:
    """What stands, with every module and field that the change log knows and the file lost (S2-R04)."""
    now = {str(each.get("name")): each for each in standing}
    known = {str(each.get("name")) for each in replay}
    kept = [{**each, **now.get(str(each.get("name")), {})} for each in replay]
    return kept + [dict(each) for each in standing if str(each.get("name")) not in known]


def changes(before: Sequence[Module], after: Sequence[Module]) -> list[Change]:
    """What makes `after` out of `before`: for each module that differs, the fields that do. Nothing ever goes."""
    stood = {str(each.get("name")): each for each in before}
    made: list[Change] = []
    for module in after:
        name = str(module.get("name"))
        old = stood.get(name, {})
        fields = {key: value for key, value in module.items() if key not in old or old[key] != value}
        if fields:
            made.append({"name": name, "set": fields})
    return made


def replayed(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The modules that the change log comes to, in the order in which they came (C2)."""
    modules: dict[str, dict[str, Any]] = {}
    for entry in entries:
        listed: object = entry.get("changes")
        for change in cast("list[Change]", listed) if isinstance(listed, list) else []:
            modules.setdefault(str(change.get("name")), {}).update(change.get("set") or {})
    return list(modules.values())


# --- two branches ---------------------------------------------------------------------------------------------------


def merged_branches(base: Module, ours: Module, theirs: Module) -> dict[str, Any]:
    """The structure of both branches: every module and field of each; of a field that both changed, ours.

    What the code says of such a field comes with the next update, and both branches' words are in the change log.
    """
    lists = [{str(each.get("name")): each for each in version.get("modules") or ()} for version in (base, ours, theirs)]
    names = list(dict.fromkeys([*lists[1], *lists[2]]))
    modules = [_both(*(version.get(name, {}) for version in lists)) for name in names]
    return {**_both(base, ours, theirs), "modules": modules}


def _both(base: Module, ours: Module, theirs: Module) -> dict[str, Any]:
    def is_theirs(key: str) -> bool:
        return key in theirs and (key not in ours or (ours[key] == base.get(key) and theirs[key] != ours[key]))

    return {key: theirs[key] if is_theirs(key) else ours[key] for key in dict.fromkeys([*ours, *theirs])}


# --- what a check finds ---------------------------------------------------------------------------------------------


def lost_modules(before: Sequence[Module], after: Sequence[Module]) -> list[Lost]:
    """Modules, and fields of modules, that the structure dropped (S2-R04)."""
    now = {str(each.get("name")): each for each in after}
    found: list[Lost] = []
    for module in before:
        name = str(module.get("name"))
        if name not in now:
            found.append(Lost("a module was dropped from the structure", {"name": name}))
            continue
        gone = [key for key in module if key not in now[name]]
        if gone:
            found.append(Lost("fields of a module were dropped", {"name": name, "fields": gone}))
    return found


def unproven(before: Sequence[Module], after: Sequence[Module]) -> list[Lost]:
    """Modules that became `complete` without the words of a verify report that prove it (S19-R06)."""
    was = {str(each.get("name")) for each in before if each.get("status") == "complete"}
    found: list[Lost] = []
    for module in after:
        proven = verified(module).get("complete") is True
        if module.get("status") == "complete" and not proven and str(module.get("name")) not in was:
            found.append(Lost("a module is `complete` without a verify report", {"name": module.get("name")}))
    return found
