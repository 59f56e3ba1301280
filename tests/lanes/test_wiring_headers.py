"""Headers of files: there and as they were, whatever they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.wiring_headers import Headers, header_findings, header_of, is_exempt, rendered
from manifests.verify import CONFIG_FILES, ModuleRow, StatusWords

TEMPLATE = "# -*- coding: utf-8 -*-\n# {project}, {path}"
OWN = "# -*- coding: utf-8 -*-\n# Somebody, elsewhere\n\nVALUE = 1\n"


def row(path: str, *, critical: bool = True) -> ModuleRow:
    name = path.removesuffix(".py").replace("/", ".")
    return ModuleRow(
        name=name, path=path, status="WIRED", critical=critical, words=StatusWords(exists=True, wired=True)
    )


def said(now: str, before: str = "", path: str = "app/work.py") -> list[str]:
    headers = Headers(TEMPLATE, "app", CONFIG_FILES, {path: now}, {path: before})
    return [found.message for found in header_findings(headers, [row(path)])]


@pytest.mark.req("S6-R13", "C18")
def test_presence_is_checked_and_never_the_words() -> None:
    assert said(OWN) == []
    assert said("#!/usr/bin/env python3\n" + OWN) == []
    assert said("VALUE = 1\n") == ["it has no header"]
    assert said('"""Says what it is for."""\n# a comment\n# and another\n') == ["it has no header"]
    assert said("#!/usr/bin/env python3\nVALUE = 1\n") == ["it has no header"]
    assert said("# one line only\nVALUE = 1\n") == ["its header is too short"]


@pytest.mark.req("S6-R13", "C18")
def test_a_header_that_stood_is_kept() -> None:
    assert said(OWN + "VALUE = 2\n", OWN) == []
    assert said(OWN.replace("Somebody", "Another"), OWN) == [
        "its header changed: '# Somebody, elsewhere' became '# Another, elsewhere'"
    ]
    assert said("VALUE = 1\n", OWN) == ["it has no header"]
    assert said(OWN, "VALUE = 1\n") == []  # a new header is no change of one
    assert said(OWN.replace("elsewhere\n", "elsewhere\n# more\n"), OWN) != []


@pytest.mark.req("S6-R13", "C18", "C19")
def test_package_inits_configuration_and_what_is_no_python_carry_none() -> None:
    for path in (
        "app/__init__.py",
        "docs/conf.py",
        "setup.py",
        "app/settings.py",
        "app/logging_config.py",
        "look.ipynb",
    ):
        assert said("VALUE = 1\n", path=path) == [], path
    assert is_exempt("app/generated/rows.py", ("app/generated/*",))
    assert not is_exempt("app/rows.py", CONFIG_FILES)


def test_the_remedy_is_the_template_of_that_file() -> None:
    headers = Headers(TEMPLATE, "app", (), {"app/a.py": "x = 1\n", "app/b.py": "x = 1\n"})
    found = list(header_findings(headers, [row("app/a.py"), row("app/b.py", critical=False)]))
    assert found[0].remedy == "begin it with: # -*- coding: utf-8 -*- | # app, app/a.py"
    assert [each.fails for each in found] == [True, False]
    assert rendered("# {name} {year}", "app", row("app/a.py")) == "# app.a {year}"


@given(st.text(max_size=80), st.lists(st.text(alphabet="#ab !", max_size=10), max_size=4))
def test_any_beginning_has_an_answer(code: str, comments: list[str]) -> None:
    text = "".join(f"#{line}\n" for line in comments) + "x = 1\n" + code
    header = header_of(text)
    assert all(line.startswith("#") for line in header)
    shebang = bool(comments) and comments[0].startswith("!")
    assert len(header) == len(comments) - shebang
