"""Would a change move logic of the repository into a notebook's cells? (S9-R12, S18-R01)"""

from __future__ import annotations

from lanes.notebook_rules import Finding, check_thin

# Findings of the thin-notebook lint that are logic; a secret or a broken cell is a fault of another kind.
LOGIC = frozenset({"archive-resolution", "class", "command", "function", "logic", "row-selection", "training-loop"})


def logic_gained(before: bytes | None, after: bytes | None) -> tuple[Finding, ...]:
    """The logic in the cells of `after`, when `before` had none (None: there was, or will be, no notebook). Never raises.

    A notebook that held logic already is for `hemma notebook check`: asking again at each of its edits would only teach
    people to say yes.
    """
    if after is None or after == before:
        return ()
    found = _logic(after)
    return found if found and not (before is not None and _logic(before)) else ()


def _logic(notebook: bytes) -> tuple[Finding, ...]:
    return tuple(finding for finding in check_thin(notebook) if finding.rule in LOGIC)
