"""Both clones asked at the same moment, and let go at once when whoever asked leaves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

Here = TypeVar("Here")
There = TypeVar("There")


def ask(here: Callable[[], Here], there: Callable[[], There], leave: Callable[[], None]) -> tuple[Here, There]:
    """What both return. Raises what `here` raised, else what `there` did, once both are done.

    When this is interrupted (Ctrl-C), `leave` is called and nothing is waited for: neither thread keeps the process.
    """
    told: dict[str, Any] = {}

    def run(name: str, act: Callable[[], Any]) -> None:
        try:
            told[name] = act()
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that asked
            told[f"{name} failed"] = error

    asked = [
        threading.Thread(target=run, args=each, daemon=True, name=f"hemma-{each[0]}")
        for each in (("here", here), ("there", there))
    ]
    for thread in asked:
        thread.start()
    try:
        for thread in asked:
            thread.join()
    except BaseException:
        leave()
        raise
    for name in ("here failed", "there failed"):
        if name in told:
            raise told[name]
    return told["here"], told["there"]
