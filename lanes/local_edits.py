"""May these files be committed in a local clone? Not those that the host commits (S9-R02, S9-R03)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from manifests.commands import Remedy

from lanes.classification import Change, Decision
from lanes.lane_steps import Edit, steps
from lanes.verdict import Reason, Verdict

# The variable with which a person commits such a file here all the same, knowingly.
OVERRIDE = "HEMMA_LOCAL_EDIT"
# More than this is not listed one by one.
_MOST_SHOWN = 10


def judge_commit(change: Change, edits: Mapping[str, Edit]) -> Verdict:
    """Whether a commit in a local clone may hold `change`; a *no* names each file of the host and how it gets there.

    `edits` says of each subject how its file stands. The steps are commands to paste, in order.
    """
    hosted = [group for group in change.groups if group.commits == "host"]
    found = [decision for group in hosted for decision in group.decisions]
    if not found:
        return Verdict(allowed=True)
    if len(found) > _MOST_SHOWN:
        return Verdict(allowed=False, reasons=_reasons(found), next_steps=("hemma where",))
    # In order, and each group whole: a patch of the second group wants a commit of its own.
    todo: list[Remedy] = [
        step for group in hosted for step in steps(group.lane, [edits[each.subject] for each in group.decisions])
    ]
    return Verdict(allowed=False, reasons=_reasons(found), next_steps=tuple(todo))


def _reasons(found: Sequence[Decision]) -> tuple[Reason, ...]:
    shown = [Reason(each.rule, f"{each.subject} is committed on the host: {each.why}") for each in found[:_MOST_SHOWN]]
    more = len(found) - len(shown)
    return (*shown, Reason("more", f"and {more} more")) if more > 0 else tuple(shown)
