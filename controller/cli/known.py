"""What the runbooks know of a failure, said on stderr by every verb that meets one (S17-R04)."""

from __future__ import annotations


def say(text: str, code: str = "") -> None:
    """Name the entries that fit these words or this code; nothing where none does. Loaded only once something failed."""
    from controller.flows import gotcha
    from controller.reports import hints

    hints.show(gotcha.hints(text, code))
