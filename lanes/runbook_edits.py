"""What approving a proposal does to text: an entry appended or corrected in its file, a line in the project's own page.

Every other line of a file stays byte for byte as it was, comments too (S17-R05, S17-R07).
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from manifests.runbooks import Gotcha

_WIDTH = 120
HEADING = "## Known failures"


def entry_text(entry: Gotcha) -> str:
    """An entry as it stands in its file, two spaces in; keys that hold nothing are left out."""
    kept = {key: value for key, value in entry.as_dict().items() if value not in ([], None, "") and value is not False}
    dumped = yaml.safe_dump([kept], sort_keys=False, allow_unicode=True, width=_WIDTH - 4, default_flow_style=False)
    return "".join(f"  {line}\n" for line in dumped.splitlines())


def with_entry(text: str | None, entry: Gotcha, *, title: str, scope: str, platform: str | None) -> str:
    """The file with the entry at its end; a new file where there is none yet."""
    if text is None:
        head: dict[str, Any] = {"title": title, "scope": scope, **({"platform": platform} if platform else {})}
        text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True) + "gotchas:\n"
    return text.rstrip("\n") + "\n" + entry_text(entry)


def with_changed(text: str, entry: Gotcha) -> str:
    """The file with the lines of that entry replaced. Raises KeyError when it has none by that id."""
    lines = text.splitlines(keepends=True)
    items = [at for at, line in enumerate(lines) if re.match(r"\s*-(?: |$)", line)]
    indent = min((len(lines[at]) - len(lines[at].lstrip()) for at in items), default=0)
    # Entries are the items furthest out; lists in them (sources) lie deeper.
    starts = [at for at in items if len(lines[at]) - len(lines[at].lstrip()) == indent]
    for number, start in enumerate(starts):
        end = starts[number + 1] if number + 1 < len(starts) else len(lines)
        if re.search(
            rf"^\s*(?:- )?id:\s*[\"']?{re.escape(entry.id)}[\"']?\s*$", "".join(lines[start:end]), re.MULTILINE
        ):
            # Lines that are blank or a remark before the next entry belong to that one.
            while end > start + 1 and re.match(r"\s*(?:#|$)", lines[end - 1]):
                end -= 1
            return "".join([*lines[:start], entry_text(entry), *lines[end:]])
    raise KeyError(entry.id)


def named_in_profile(text: str, entry_id: str) -> str:
    """A profile whose front matter names the entry too; unchanged where it does already or has no such key."""
    found = re.search(r"^gotchas:(?: \[\])?\n((?:  - .*\n)*)", text, re.MULTILINE)
    if found is None or f"  - {entry_id}\n" in found[1]:
        return text
    return text[: found.start()] + f"gotchas:\n{found[1]}  - {entry_id}\n" + text[found.end() :]


def with_note(text: str | None, symptom: str, fix: str) -> str:
    """The project's page with one more line under its heading of known failures; the same line never twice."""
    line = f"- {_inline(symptom)}" + (f" Do: {_inline(fix)}" if fix else "")
    text = (text or "").rstrip("\n")
    if line in text.splitlines():
        return text + "\n"
    if HEADING not in text.splitlines():
        return (text + "\n\n" if text else "") + f"{HEADING}\n\n{line}\n"
    lines = text.splitlines()
    at = lines.index(HEADING) + 1
    end = next((n for n in range(at, len(lines)) if lines[n].startswith("#")), len(lines))
    while end > at and not lines[end - 1].strip():
        end -= 1
    return "\n".join([*lines[:end], *([""] if end == at else []), line, *lines[end:]]) + "\n"


def _inline(text: str) -> str:
    return " ".join(text.split())
