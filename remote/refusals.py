"""What the host would not do, as an error with everything it said. Standard library only: the `hemma run` path."""

from __future__ import annotations

from manifests.errors import HemmaError, from_dict
from remote.agent_remedies import OF_THE_AGENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class HostRefused(HemmaError):
    """The host did not do what was asked; `fields` has everything it said, e.g. the guard's facts."""

    def __init__(self, fields: dict[str, Any]) -> None:
        known = from_dict(fields, is_ours=fields.get("remedy") in OF_THE_AGENT)
        super().__init__(known.message, remedy=known.remedy, exit_code=known.exit_code, code=known.code)
        self.advice = known.advice
        self.fields = fields
