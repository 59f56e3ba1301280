"""One language per file, where a repository wants it ([tool.hemma.verify] language = "en"): S6-R21, C17.

A name with a letter outside ASCII is no English name. A comment block or docstring reads as another language when it
holds three or more different words that are among the commonest of that language, and fewer of the English ones. What
this does not see: a few words that hold none of them, and languages that are not listed.
"""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping

from manifests.verify import Finding, ModuleRow


def _common(words: str) -> frozenset[str]:
    return frozenset(words.split())


ENGLISH = _common(
    "the and is of to in for that with not are it be as by this from or when which has at an on if no all"
)
# Words of other languages that are neither English words nor usual names in code.
OTHERS: Mapping[str, frozenset[str]] = {
    "Romanian": _common(
        "și si este pentru sunt nu să această acest aceasta dacă daca cu pe către într unde când cand din la"
    ),
    "German": _common(
        "und nicht ist wird werden eine einen der das für fuer mit wenn auch nach über sind oder nur kein dem den von zu"
    ),
    "French": _common("et est les des une pour dans avec qui sont cette pas être aux nous vous que sur ce le la"),
    "Spanish": _common("el los las una para con que por está son del como este pero cuando se la es un"),
    "Italian": _common("il che una per con sono della nel questo gli anche viene dei di la è quando"),
    "Portuguese": _common("não uma para que por são dos como mas quando da é em"),
    "Polish": _common("nie jest się na dla oraz które lub przez jeśli być jako tylko od"),
}
_ENOUGH = 3
_WORD = re.compile(r"[^\W\d_]+")


Said = tuple[str, ast.Module]


def language_findings(files: Mapping[str, Said], rows: Iterable[ModuleRow]) -> Iterator[Finding]:
    """A finding for each block and each file's names that are not in English. `files`: text and tree by path."""
    for row in rows:
        if row.path not in files:
            continue
        text, tree = files[row.path]
        names = sorted({name for name in _names(tree) if not name.isascii()})
        if names:
            said = f"names that are no English words: {', '.join(names[:3])}"
            yield Finding.of(row, "language", said, "rename them")
        for line, block in sorted([*_docstrings(tree), *_comments(text)]):
            language = foreign(block)
            if language is not None:
                said = f"this reads as {language}: {_short(block)!r}"
                yield Finding.of(row, "language", said, "say it in English", line)


def foreign(block: str) -> str | None:
    """The language that a text reads as, when that is not English; None for English and for what is too short to tell."""
    words = {word.casefold() for word in _WORD.findall(block)}
    hits = {language: len(words & common) for language, common in OTHERS.items()}
    likely = max(hits, key=lambda language: hits[language])
    return likely if hits[likely] >= _ENOUGH and hits[likely] > len(words & ENGLISH) else None


def _names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            said = ast.get_docstring(node)
            if said is not None:
                yield node.body[0].lineno, said


def _comments(text: str) -> Iterator[tuple[int, str]]:
    """Comment blocks: lines that follow one another, joined; with the line of the first."""
    block: list[str] = []
    first = last = 0
    for line, said in _comment_lines(text):
        if block and line != last + 1:
            yield first, " ".join(block)
            block = []
        first = first if block else line
        block.append(said.lstrip("# "))
        last = line
    if block:
        yield first, " ".join(block)


def _comment_lines(text: str) -> Iterator[tuple[int, str]]:
    lines = iter(text.splitlines(keepends=True))
    try:
        for token in tokenize.generate_tokens(lambda: next(lines, "")):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string
    except (tokenize.TokenError, SyntaxError):
        return


def _short(block: str) -> str:
    said = " ".join(block.split())
    return said if len(said) <= 60 else said[:59] + "…"
