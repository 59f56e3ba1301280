"""Leaving on Ctrl-C and SIGTERM, whatever the host does: nobody waits for a thread that waits for an answer.

A verb that passes signals on to a run (`run`, `attach`, `wait`) has handlers of its own while it does (flows/run.py).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

# After SIGTERM, for temporary files to be removed; then we go in any case.
GRACE_S = 0.8
_LAST_INTERRUPT = 3


class Leaving:
    """What the person who started us has said of leaving."""

    def __init__(self) -> None:
        self.code = 0
        self._interrupts = 0

    def on_interrupt(self, _number: int, _frame: object) -> None:
        """Ctrl-C ends what is under way; the third time nothing is tidied up any more."""
        self.code = 128 + signal.SIGINT
        self._interrupts += 1
        if self._interrupts >= _LAST_INTERRUPT:
            os._exit(self.code)
        raise KeyboardInterrupt

    def on_terminate(self, _number: int, _frame: object) -> None:
        """SIGTERM ends what is under way, and us a moment later."""
        self.code = 128 + signal.SIGTERM
        watch = threading.Timer(GRACE_S, os._exit, (self.code,))
        watch.daemon = True
        watch.start()
        raise KeyboardInterrupt


def guarded(action: Callable[[], int]) -> int:
    """Run `action`, which gives an exit code; 130 after Ctrl-C, 143 after SIGTERM, and no traceback of either."""
    leaving = Leaving()
    for number, handler in ((signal.SIGINT, leaving.on_interrupt), (signal.SIGTERM, leaving.on_terminate)):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and `&` want it
            signal.signal(number, handler)
    try:
        code = action()
    except KeyboardInterrupt:
        code = leaving.code
    if not leaving.code or "coverage" in sys.modules:
        return code
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 1
    os._exit(leaving.code if code else 0)  # a thread may wait for the host still
