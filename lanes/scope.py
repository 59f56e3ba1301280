"""Does a proposed change keep the scope that was frozen: model, data, method, length, batch, precision, watching? (S13-R40..R46)

The guard compares what configurations, command lines, environments and scripts *do* before and after, whatever the author
says of the change. Allowed: another name for the same value, another split of the same effective batch, what is neutral
(paths of outputs, logging, checkpointing, workers, columns), and tuning that an alert or a diagnosis justifies. Refused:
every other change of a protected part, a setting that nobody knows, and a text that cannot be read. A refusal is no
judgement of the change; it says that a person has to make it (S13-R44).
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lanes.scope_facts import BATCH_PARTS, batch_of, generation_batch_of, names_devices
from lanes.scope_keys import classify, normal
from lanes.scope_rules import (
    TRACKING_ON,
    WHEN_ADDED,
    WHEN_GONE,
    Change,
    absent_values,
    alike,
    interval,
    is_interval,
    is_section,
    product_change,
    renamed,
    shown,
    tracked,
    typed,
)
from lanes.scope_script import of_script
from lanes.scope_sources import Facts, Setting, of_argv, of_data, of_dependencies, of_environment, of_mapping, of_shell
from lanes.scope_values import Value, canonical
from lanes.verdict import Reason, Verdict

_READERS = (
    (".py", "script"),
    (".sh", "shell"),
    (".yaml", "data"),
    (".yml", "data"),
    (".json", "data"),
    (".toml", "data"),
)
_DEPENDENCIES = (
    "requirements",
    "pyproject.toml",
    "environment.yml",
    "environment.yaml",
    "pdm.lock",
    "uv.lock",
    "constraints",
)
_PROSE = (".md", ".rst", ".gitignore", ".log")


@dataclass(frozen=True)
class Material:
    """One side of a comparison: all that decides what a training does. `files` maps names to texts.

    `digests` maps paths of data or models, as they are written, to the digest of their content: two paths with the same
    digest are the same thing. `devices` is how many devices the job has where nothing says so.
    """

    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    digests: Mapping[str, str] = field(default_factory=dict[str, str])
    devices: int | None = None


@dataclass(frozen=True)
class ScopeVerdict(Verdict):
    """A verdict with every difference that was found, those that are allowed too."""

    changes: tuple[Change, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The verdict as agents read it under --json."""
        return {**super().as_dict(), "changes": [vars(change) for change in self.changes]}


def compare(
    baseline: Material | Mapping[str, Any],
    proposed: Material | Mapping[str, Any],
    *,
    legal_renames: Mapping[str, str | None] | None = None,
    justified: Collection[str] | None = None,
) -> ScopeVerdict:
    """Whether `proposed` keeps the scope of `baseline`; a mapping stands for a resolved configuration.

    `legal_renames` come from the argument checker on the host: old name -> current name, or None for one that the
    installed version no longer has and whose removal therefore changes nothing. `justified` are the keys that an alert or
    diagnosis gives reason to change (S12-R09): they may differ, and tuning may then differ in no other key; None leaves
    tuning free. Protected keys in `justified` are allowed only for evaluation (hang_no_progress, S13-R19).
    """
    before, after = _material(baseline), _material(proposed)
    renames = {normal(old): new for old, new in (legal_renames or {}).items()}
    rules = _Rules(before, after, renames, None if justified is None else {classify((key,)).name for key in justified})
    changes = tuple(rules.changes())
    refused = [change for change in changes if not change.allowed]
    if not refused:
        return ScopeVerdict(
            True, (Reason("the scope is kept (S13-R40)", f"{len(changes)} allowed changes"),), (), changes
        )
    reasons = tuple(Reason(f"{change.facet} is frozen (S13-R45)", _told(change)) for change in refused)
    steps = ("take these changes back, or ask the owner of the run (S13-R44)",)
    return ScopeVerdict(False, reasons, steps, changes)


def _told(change: Change) -> str:
    def short(value: object) -> str:
        text = str(value)
        return text if len(text) <= 200 else f"{text[:200]}…"

    return f"{change.key}: {short(change.before)} -> {short(change.after)} ({change.why})"


def _material(side: Material | Mapping[str, Any]) -> Material:
    return side if isinstance(side, Material) else Material(config=side)


def _facts(side: Material) -> Facts:
    facts = of_mapping(side.config, "config")
    facts.take(of_argv(side.argv, "argv"))
    facts.take(of_environment(side.env, "env"))
    for name, text in side.files.items():
        facts.take(_of_file(name, text))
    return facts


def _of_file(name: str, text: str) -> Facts:
    base = posixpath.basename(name).lower()
    if base.startswith(_DEPENDENCIES):
        return of_dependencies(text)
    if base.endswith(_PROSE):
        return Facts()
    kind = next((kind for ending, kind in _READERS if base.endswith(ending)), "")
    if kind == "script":
        return of_script(text, name)
    if kind == "shell":
        return of_shell(text, name)
    if kind == "data":
        return of_data(name, text)
    facts = Facts()
    facts.act("unreadable", f"{base}: {text}")
    return facts


class _Rules:
    """The rules of one comparison, each a generator of the differences it finds."""

    def __init__(
        self, before: Material, after: Material, renames: Mapping[str, str | None], justified: Collection[str] | None
    ) -> None:
        self.sides = (before, after)
        self.digests = {canonical(path): digest for path, digest in {**before.digests, **after.digests}.items()}
        self.renames, self.justified = renames, justified
        try:
            self.facts = (_facts(before), _facts(after))
        except (ValueError, RecursionError) as error:
            unreadable = Facts()
            unreadable.act("unreadable", str(error))
            self.facts = (Facts(), unreadable)

    def changes(self) -> Iterator[Change]:
        """Every difference, settings first."""
        old, new = (_by_key(facts, self.renames) for facts in self.facts)
        for name in sorted({*old, *new}):
            settings = [*old.get(name, ()), *new.get(name, ())]
            if settings[0].key.kind != "batch" and name not in BATCH_PARTS:
                yield from self._setting(name, old.get(name, []), new.get(name, []))
        yield from self._batch()
        yield from self._passed()
        yield from self._acts()

    def _setting(self, name: str, old: list[Setting], new: list[Setting]) -> Iterator[Change]:
        key = (old or new)[0].key
        before, after = self._values(old), self._values(new)
        if name in TRACKING_ON:
            before, after = tracked(before, after)
        absent = absent_values(name, key.facet)
        before, after = before - absent, after - absent
        if before == after:
            yield from renamed(name, key.facet, old, new)
            yield from self._moved(name, key.facet, old, new)
            return
        if not after and any(self.renames.get(normal(each.written), "") is None for each in old):
            yield Change(name, key.facet, shown(before), None, True, "the installed version has no such setting")
            return
        allowed, why = self._judge(name, key.kind, key.facet, before, after)
        yield Change(name, key.facet, shown(before), shown(after), allowed, why)

    def _values(self, settings: list[Setting]) -> frozenset[Value]:
        """The values of one key; paths with a known digest by their digest."""
        found: set[Value] = set()
        for each in settings:
            digest = self.digests.get(each.value) if isinstance(each.value, str) else None
            found.add(typed(f"sha256:{digest}" if digest else alike(each.value, each.key.facet)))
        return frozenset(found)

    def _judge(
        self, name: str, kind: str, facet: str, before: frozenset[Value], after: frozenset[Value]
    ) -> tuple[bool, str]:
        if kind == "neutral":
            return interval(name, before, after)
        if kind == "tunable":
            return self._tuning(name, after)
        if self.justified and name in self.justified and facet == "evaluation":
            return True, "the diagnosis asks for it (S13-R19)"
        if facet == "seed" and not before:
            return True, "a seed where there was none (S11-R02)"
        if kind == "unknown":
            return False, "nobody knows what this setting does"
        return False, f"{facet} may not change"

    def _tuning(self, name: str, after: frozenset[Value]) -> tuple[bool, str]:
        if self.justified is not None and name not in self.justified:
            return False, "no alert or diagnosis gives reason to change it (S12-R09)"
        values = [value for _kind, value in after]
        if name == "learning_rate" and not all(isinstance(each, int | float) and 0 < each <= 1 for each in values):
            return False, "a learning rate that trains nothing, or is none"
        return True, "tuning"

    def _moved(self, name: str, facet: str, old: list[Setting], new: list[Setting]) -> Iterator[Change]:
        """A protected value that left its section of a configuration, or its place among several values."""
        if facet in ("neutral", "unknown", "tuning"):
            return
        places = [{each.where for each in side if ":" in each.where} for side in (old, new)]
        strangers = {place for place in places[1] - places[0] if not is_section(place)}
        if places[0] - places[1] and strangers:
            yield Change(name, facet, shown(places[0]), shown(places[1]), False, "moved to where nothing reads it")
        if len({typed(each.value) for each in old}) > 1:
            pairs = [{(each.where, typed(each.value)) for each in side} for side in (old, new)]
            if pairs[0] != pairs[1] and {place for place, _value in pairs[0]} == {place for place, _value in pairs[1]}:
                yield Change(name, facet, shown(pairs[0]), shown(pairs[1]), False, "values changed places")

    def _batch(self) -> Iterator[Change]:
        """Both products; a device count that one side states and the other leaves open is unknown there, not one."""
        stated = any(names_devices(facts.settings) for facts in self.facts)
        known = self.sides[0].devices
        devices = [side.devices or known or (0 if stated else None) for side in self.sides]
        for name, product in (("effective batch size", batch_of), ("generation batch size", generation_batch_of)):
            old, new = (product(facts.settings, count) for facts, count in zip(self.facts, devices, strict=True))
            yield from product_change(name, old, new)

    def _passed(self) -> Iterator[Change]:
        """A protected argument that a config-like call no longer passes, though its value still stands somewhere."""
        old, new = self.facts
        reached = {each.key.name for each in new.settings if each.where in ("attribute", "item", "pair", "argv")}
        for call, keys in old.passed.items():
            now = new.passed.get(call)
            if now is None or "**" in now:
                continue
            for name in sorted(keys - now - reached - {"**"}):
                key = classify((name,))
                if name == "args":
                    yield Change(name, "settings", f"passed to {call}", None, False, "all settings are left out")
                if key.kind != "protected" or self._is_gone_by_rename(name):
                    continue
                if any(each.key.name == name for each in new.settings):
                    yield Change(name, key.facet, f"passed to {call}", None, False, "set aside, and no longer passed")

    def _is_gone_by_rename(self, name: str) -> bool:
        return any(new is None and classify((old,)).name == name for old, new in self.renames.items())

    def _acts(self) -> Iterator[Change]:
        old, new = (facts.acts for facts in self.facts)
        added, gone = Counter(new), Counter(old)
        added.subtract(old)
        gone.subtract(new)
        known = {what.partition(" is ")[0] for facet, what in old if facet == "origin"}
        for (facet, what), count in sorted(added.items()):
            # Another import is no act; the same name from elsewhere is one.
            if facet == "origin" and (old[facet, what] or what.partition(" is ")[0] not in known):
                continue
            if count > 0 and facet not in WHEN_GONE and not (facet == "condition" and is_interval(what)):
                yield Change(what, facet, None, what, False, f"{facet}: added")
        for (facet, what), count in sorted(gone.items()):
            if count > 0 and facet not in WHEN_ADDED:
                yield Change(what, facet, what, None, False, f"{facet}: gone")


def _by_key(facts: Facts, renames: Mapping[str, str | None]) -> dict[str, list[Setting]]:
    """The settings by canonical name, those under a renamed name under its current one."""
    found: dict[str, list[Setting]] = {}
    for each in facts.settings:
        new = renames.get(normal(each.written))
        name = classify((new,)).name if new else each.key.name
        found.setdefault(name, []).append(each)
    return found
