"""The one way of text to a terminal: whatever a terminal would obey, or would not show, is shown as an escape instead.

A file name, a commit's subject, a host's words or our own arguments may hold anything: a sequence that sets the window's
title, a newline that begins a line of its own (`ok  all good`), letters that run backwards. Text that is not ours goes
through `one_line`, or, where it is content of several lines, through `lines`; nothing else makes it fit for a screen.
The bytes of the user's own command are none of this: `hemma run`, `logs` and `attach` hand them on as they are.

Standard library only: the `hemma run` path imports this module.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def one_line(text: str) -> str:
    r"""`text` on one line: controls, formats (bidi, zero width), lone surrogates and odd spaces as escapes such as `\x1b`.

    What stays is what `str.isprintable` calls printable: letters, marks, numbers, signs and the plain space.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


def lines(text: str) -> str:
    """`text` with its line ends and tabs, each line as `one_line` has it: for content, never for a field of a line."""
    if text.isprintable():
        return text
    return "\n".join("\t".join(one_line(part) for part in each.split("\t")) for each in text.split("\n"))


def json_text(value: Any, indent: int | None = None) -> str:
    """`value` as ASCII JSON without a newline at its end; no control character is left, DEL neither."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")
