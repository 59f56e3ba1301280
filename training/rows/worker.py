"""The child that holds the processor: one row in, one answer out, as JSON lines. What kills it costs a try, not the run."""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO, cast

Processor = Callable[[dict[str, Any]], object]
_PARENT_CHECK_S = 1.0
_MAX_ERROR = 2000


def main(name: str, folder: str) -> int:
    """Load the processor `module:function` and answer rows from stdin until it ends; `folder` is the working directory."""
    answers = _own_stdout()
    # Ctrl-C in a notebook reaches the whole group; the parent decides what becomes of the row at work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    os.chdir(folder)
    try:
        processor = load(name)
    except BaseException as error:  # noqa: BLE001 - whatever the user's module does at import is told, SystemExit too
        _say(answers, {"broken": _words(error)})
        return 1
    _say(answers, {"ready": True})
    for line in sys.stdin.buffer:
        _say(answers, answer(processor, json.loads(line)))
    return 0


def load(name: str) -> Processor:
    """The function that `module:function` names. Raises ImportError, TypeError, and what the module raises."""
    module, _, function = name.partition(":")
    found: object = getattr(importlib.import_module(module), function, None)
    if not callable(found):
        raise TypeError(f"{module} has no function {function}")
    return cast("Processor", found)


def answer(processor: Processor, row: dict[str, Any]) -> dict[str, Any]:
    """{"result": ...} or {"error": ...}. A result that is no JSON object is an error: it could not be kept."""
    started = time.monotonic()
    try:
        result = processor(row)
        if not isinstance(result, dict):
            return {"error": f"TypeError: the processor gave {type(result).__name__}, not a dict"}
        json.dumps(result, allow_nan=False)
    except Exception as error:  # noqa: BLE001 - a row's failure is data
        return {"error": _words(error)}
    return {"result": cast("dict[str, Any]", result), "took_s": time.monotonic() - started}


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_MAX_ERROR]


def _own_stdout() -> BinaryIO:
    """The pipe to the parent, out of reach of whatever the processor prints: that goes to stderr."""
    kept = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    return kept


def _say(answers: BinaryIO, what: dict[str, Any]) -> None:
    answers.write(json.dumps(what).encode("ascii") + b"\n")
    answers.flush()


def _end_with_parent() -> None:
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
