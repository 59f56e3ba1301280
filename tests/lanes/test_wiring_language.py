"""The language check: other languages are seen in comments, docstrings and names; English is left alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.wiring_language import foreign, language_findings
from manifests.verify import Finding, ModuleRow, StatusWords

ROOT = Path(__file__).resolve().parent.parent.parent
ENGLISH = "Keep what stands there, and put the new entry behind it: nothing is ever written over."
# Sentences made for this test, as people comment their code.
OTHERS = {
    "Romanian": "Dacă fișierul nu este aici, se face unul nou din șablon pentru proiect.",
    "German": "Wenn die Datei nicht da ist, wird eine neue aus der Vorlage gemacht.",
    "French": "Si le fichier n'est pas dans le dossier, une copie est faite pour vous.",
    "Spanish": "Cuando el archivo no está en la carpeta, se hace una copia para el proyecto.",
    "Italian": "Quando il file non è nella cartella, viene fatta una copia per il progetto, che resta.",
    "Portuguese": "Quando o ficheiro não está na pasta, uma cópia é feita para o projeto.",
    "Polish": "Jeśli pliku nie ma, jest tworzony nowy na podstawie szablonu dla projektu.",
}


def found(text: str) -> list[Finding]:
    words = StatusWords(exists=True, wired=True)
    said = (text, ast.parse(text))
    return list(language_findings({"a.py": said}, [ModuleRow(name="a", path="a.py", status="WIRED", words=words)]))


@pytest.mark.req("S6-R21", "C17")
@pytest.mark.parametrize("language", OTHERS)
def test_a_sentence_reads_as_its_language(language: str) -> None:
    assert foreign(OTHERS[language]) == language
    assert foreign(ENGLISH) is None
    text = f'"""{ENGLISH}"""\n\n# {ENGLISH}\nVALUE = 1\n\n\ndef run():\n    """{OTHERS[language]}"""\n    return 1\n'
    (only,) = found(text)
    assert (only.kind, only.line, only.fails) == ("language", 8, True)
    assert only.message.startswith(f"this reads as {language}: ")
    assert OTHERS[language][:20] in only.message


@pytest.mark.req("S6-R21", "C17")
def test_comment_blocks_are_read_whole_and_one_is_told_from_the_next() -> None:
    first, last = OTHERS["German"][:30], OTHERS["German"][30:]
    text = f"# {ENGLISH}\nVALUE = 1\n# {first}\n# {last}\nOTHER = 2  # {OTHERS['Polish']}\n"
    assert [(each.line, each.message.split()[3]) for each in found(text)] == [(3, "German:")]
    text = text.replace("OTHER", "\nOTHER")
    assert [(each.line, each.message.split()[3]) for each in found(text)] == [(3, "German:"), (6, "Polish:")]


@pytest.mark.req("S6-R21")
def test_names_are_ascii_and_values_may_be_anything() -> None:
    (only,) = found("def grüße(größe):\n    länge = größe\n    return länge, 'Übergröße', other.größer\n")
    assert only.message == "names that are no English words: größe, grüße, länge"
    assert found(f"TEXT = '''{OTHERS['French']}'''\n") == []


def test_this_code_base_reads_as_english() -> None:
    """Every file of the rooms, and the tests' own: none is taken for another language."""
    files = [path for room in ("lanes", "manifests", "controller/flows") for path in (ROOT / room).glob("*.py")]
    wrong = {path.name: [each.message for each in found(path.read_text("utf-8"))] for path in files}
    assert len(files) > 100
    assert {name: said for name, said in wrong.items() if said} == {}


@given(st.text(max_size=200))
def test_any_text_has_an_answer(text: str) -> None:
    assert foreign(text) is None or foreign(text) in OTHERS
    assert all(each.line >= 1 for each in found(f"# {text.encode('unicode_escape').decode()}\nVALUE = {text!r}\n"))
