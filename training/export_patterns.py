"""Patterns out of text: pages, commits, logs and chats. Pure: the text comes in, the same patterns come out every time.

A pattern here is a plain dict: category, context, content, decision, line. What each is for each source:

    source  category                          context                    content              decision
    docs    rule | procedure | reference      page > heading > heading   the section          sentences that say what to do
    git     fix | change                      subject, files touched     the patch (fixes)    why, in the commit's own words
    logs    the classifier's category         around the error           the error            the smallest mend
    chats   dialogue                          what was asked             -                    what was answered
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from lanes.failures import classify

LONGEST = 8_000
SHORTEST = 24
MOST_DECISIONS = 4
_HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.+?)[ \t]*#*$")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_SAYS_WHAT_TO_DO = re.compile(
    r"\b(must|never|always|shall|should|do not|don't|only|because|instead|decided?|decision)\b", re.IGNORECASE
)
_SENTENCE = re.compile(r"(?<=[.!?:])\s+|\n{2,}|\n(?=\s*[-*|] )")
_FIX = re.compile(
    r"\b(fix(e[sd])?|bug|repair(s|ed)?|mend(s|ed)?|correct(s|ed)?|regression|crash(e[sd])?|fail(s|ed|ure)?|error|broken|broke"
    r"|leak(s|ed)?|race|deadlock|hang(s)?|revert(s|ed)?|workaround|no longer|instead of)\b",
    re.IGNORECASE,
)
_TRACEBACK = "Traceback (most recent call last):"
_CHAINED = re.compile(r"During handling of the above|direct cause of the following")
_ERROR_LINE = re.compile(r"\b(ERROR|FATAL|CRITICAL|Error:|Exception:|error:|panic:|Segmentation fault|Killed)")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Drawn:
    """What was drawn from one place in an item; `line` counts from 1."""

    category: str
    context: str
    content: str
    decision: str
    line: int | None = None


@dataclass(frozen=True)
class Commit:
    """A commit as git tells it."""

    id: str
    subject: str
    body: str
    files: tuple[str, ...] = ()
    patch: str = ""


# --- pages --------------------------------------------------------------------------------------------------------


def from_page(text: str, name: str) -> Iterator[Drawn]:
    """A pattern for each section of a Markdown page that says something."""
    front = _FRONT_MATTER.match(text)
    first = text.count("\n", 0, front.end()) if front else 0
    for titles, line, body in _sections(text[front.end() :] if front else text):
        words = body.strip()
        if len(words) < SHORTEST:
            continue
        for part in _parts(words):
            yield Drawn(_kind_of(part), " > ".join([name, *titles]), part, what_to_do(part), first + line)


def _sections(text: str) -> Iterator[tuple[list[str], int, str]]:
    """(headings above, first line, body) of each section; headings inside fenced code are code."""
    titles: list[tuple[int, str]] = []
    begun, body, fence = 1, list[str](), ""
    for number, line in enumerate(text.splitlines(), 1):
        fence = _fence_after(fence, line)
        heading = None if fence else _HEADING.match(line)
        if heading is None:
            body.append(line)
            continue
        yield [title for _, title in titles], begun, "\n".join(body)
        level = len(heading[1])
        titles = [*(each for each in titles if each[0] < level), (level, heading[2].strip())]
        begun, body = number, []
    yield [title for _, title in titles], begun, "\n".join(body)


def _fence_after(fence: str, line: str) -> str:
    """The fence that is open after this line, empty for none."""
    found = _FENCE.match(line)
    if found is None:
        return fence
    if not fence:
        return found[1]
    return "" if found[1].startswith(fence) else fence


def _parts(text: str) -> Iterator[str]:
    """`text` in parts of at most LONGEST characters, cut between paragraphs where there are any."""
    part = ""
    for paragraph in text.split("\n\n"):
        if part and len(part) + len(paragraph) + 2 > LONGEST:
            yield part
            part = ""
        part = f"{part}\n\n{paragraph}" if part else paragraph
        while len(part) > LONGEST:
            yield part[:LONGEST]
            part = part[LONGEST:]
    if part.strip():
        yield part


def _kind_of(text: str) -> str:
    if re.search(r"\b(must|never|always|shall)\b", text, re.IGNORECASE):
        return "rule"
    return "procedure" if _FENCE.search(text) or re.search(r"^ {4}\S|^\s*\d+[.)] ", text, re.MULTILINE) else "reference"


def what_to_do(text: str) -> str:
    """The sentences of `text` that say what to do or why, the first few; empty when there are none."""
    found = [
        each.strip(" \n-*|") for each in _SENTENCE.split(text) if _SAYS_WHAT_TO_DO.search(each) and " | " not in each
    ]
    return "\n".join(each for each in found[:MOST_DECISIONS] if len(each) >= SHORTEST)


# --- commits ------------------------------------------------------------------------------------------------------


def is_fix(commit: Commit) -> bool:
    """Whether the commit's own words say that it mends something."""
    return _FIX.search(f"{commit.subject}\n{commit.body}") is not None


def from_commit(commit: Commit) -> Iterator[Drawn]:
    """One pattern: error to fix with its patch, or a change with its reason."""
    files = ", ".join(commit.files[:12]) + (f" and {len(commit.files) - 12} more" if len(commit.files) > 12 else "")
    if is_fix(commit):
        yield Drawn("fix", f"{commit.subject}\nfiles: {files}", _cut(commit.patch), commit.body or commit.subject)
    else:
        yield Drawn("change", f"files: {files}", f"{commit.subject}\n\n{commit.body}".strip(), what_to_do(commit.body))


def _cut(text: str) -> str:
    """At most LONGEST characters, cut at the end of a line, saying how much is left out."""
    if len(text) <= LONGEST:
        return text.strip()
    kept = text[:LONGEST].rpartition("\n")[0] or text[:LONGEST]
    return f"{kept}\n… {len(text) - len(kept)} characters more"


# --- logs ---------------------------------------------------------------------------------------------------------


def from_log(text: str) -> Iterator[Drawn]:
    """A pattern for each error: a whole traceback, or lines that say ERROR, with what stood before it."""
    lines = _ANSI.sub("", text).splitlines()
    for begin, end in _blocks(lines):
        block = "\n".join(lines[begin:end])
        found = classify(block)
        before = "\n".join(line for line in lines[max(0, begin - 4) : begin] if line.strip())
        yield Drawn(found.category, before, _cut(block), found.smallest_mend if found.is_known else "", begin + 1)


def _blocks(lines: list[str]) -> Iterator[tuple[int, int]]:
    """(first line, line after the last) of each error, from 0."""
    at = 0
    while at < len(lines):
        if _TRACEBACK in lines[at]:
            end = _end_of_traceback(lines, at)
        elif _ERROR_LINE.search(lines[at]):
            end = at + 1
            while end < min(len(lines), at + 20) and _ERROR_LINE.search(lines[end]) and _TRACEBACK not in lines[end]:
                end += 1
        else:
            at += 1
            continue
        yield at, end
        at = end


def _end_of_traceback(lines: list[str], begin: int) -> int:
    """The line after the exception; chained tracebacks belong together, for the first of them is the cause."""
    prefix, at = lines[begin][: lines[begin].index(_TRACEBACK)], begin + 1
    while at < min(len(lines), begin + 400):
        line = lines[at].removeprefix(prefix)
        at += 1
        if not line or line.startswith((" ", "\t")):
            continue
        ahead = range(at, min(len(lines), at + 6))
        chained = next((each for each in ahead if _TRACEBACK in lines[each]), None)
        if chained is None or not any(_CHAINED.search(lines[each]) for each in range(at, chained)):
            break
        at = chained + 1
    return at


def log_key(drawn: Drawn) -> str:
    """What is the same in errors that differ in times, counts and addresses only."""
    return re.sub(r"0x[0-9a-f]+|\d+", "0", drawn.content)


# --- chats --------------------------------------------------------------------------------------------------------


def from_chat(messages: Iterable[tuple[str, str, int]]) -> Iterator[Drawn]:
    """A pattern for each question with its answer, from (role, text, line); what nobody answered is left out."""
    asked, asked_at, answer = list[str](), 0, list[str]()
    for role, text, line in messages:
        if role == "user":
            if asked and answer:
                yield _dialogue(asked, answer, asked_at)
            if answer or not asked:
                asked, asked_at, answer = [], line, []
            asked.append(text)
        elif role == "assistant" and asked:
            answer.append(text)
    if asked and answer:
        yield _dialogue(asked, answer, asked_at)


def _dialogue(asked: list[str], answer: list[str], line: int) -> Drawn:
    return Drawn("dialogue", _cut("\n\n".join(asked)), "", _cut("\n\n".join(answer)), line)


def chat_messages(value: object, line: int) -> Iterator[tuple[str, str, int]]:
    """(role, text, line) of one JSON line of a transcript.

    Known: {role, content}, {messages: [...]}, {conversations: [{from, value}]}, and {type, message: {role, content}} of
    coding agents; content is text or a list of blocks, of which those of type text count.
    """
    if not isinstance(value, dict):
        return
    entry = cast("dict[str, Any]", value)
    for key in ("messages", "conversations"):
        if isinstance(entry.get(key), list):
            for each in entry[key]:
                yield from chat_messages(each, line)
            return
    if isinstance(entry.get("message"), dict):
        yield from chat_messages(entry["message"], line)
        return
    role = {"human": "user", "gpt": "assistant", "model": "assistant"}.get(
        str(entry.get("role") or entry.get("from")), str(entry.get("role") or entry.get("from"))
    )
    text = _text_of(entry.get("content", entry.get("value")))
    if role in ("user", "assistant", "system") and text.strip():
        yield role, text.strip(), line


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    blocks = cast("list[Any]", content) if isinstance(content, list) else []
    return "\n".join(
        str(each.get("text", "")) for each in blocks if isinstance(each, dict) and each.get("type") == "text"
    )


def read_chat(text: str) -> tuple[list[tuple[str, str, int]], str]:
    """(messages, cause): the messages of a transcript in JSON lines or one JSON document; why lines gave nothing."""
    try:
        whole: object = json.loads(text)
    except ValueError:
        pass
    else:
        entries = cast("list[object]", whole) if isinstance(whole, list) else [whole]
        found = [message for entry in entries for message in chat_messages(entry, 1)]
        return found, "" if found else "JSON, but no messages in it"
    messages, broken = list[tuple[str, str, int]](), list[int]()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            messages += chat_messages(json.loads(line), number)
        except (ValueError, RecursionError):
            broken.append(number)
    if broken:
        more = f" and {len(broken) - 1} more lines" if len(broken) > 1 else ""
        return messages, f"line {broken[0]} is not JSON{more}"
    return messages, "" if messages else "no messages in it"
