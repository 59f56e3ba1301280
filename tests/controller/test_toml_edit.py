"""Edits of people's TOML: exactly what was asked for changes, and nothing of the text is lost."""

from __future__ import annotations

import string
import tomllib
from typing import Any

import pytest
import tomlkit
from hypothesis import assume, given
from hypothesis import strategies as st

from controller.flows import toml_edit
from manifests.errors import UsageError

keys = st.text(string.ascii_letters + string.digits + "-_. é\"'", min_size=1, max_size=6)
leaves = st.booleans() | st.integers(-(2**40), 2**40) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
tables = st.recursive(
    st.dictionaries(keys, leaves, max_size=3),
    lambda inner: st.dictionaries(keys, inner | leaves, max_size=3),
    max_leaves=8,
)


@given(old=tables, path=st.lists(keys, max_size=3), values=st.dictionaries(keys, leaves, min_size=1, max_size=3))
def test_a_put_means_the_old_data_and_the_new_values(
    old: dict[str, Any], path: list[str], values: dict[str, Any]
) -> None:
    text = tomlkit.dumps(old)
    wanted = tomllib.loads(text)
    here = wanted
    for key in path:
        here = here.setdefault(key, {})
        assume(isinstance(here, dict))  # otherwise refused: see below
    assume(not any(isinstance(here.get(key), dict) for key in values))
    here.update(values)
    try:
        assert tomllib.loads(toml_edit.put(text, tuple(path), values, "f.toml")) == wanted
    except UsageError as refused:
        assume("edited safely" not in refused.message and "is no table" not in refused.message)
        raise


AWKWARD = """\
# top comment
[tool.black]   # formatter
line-length = 100

[project]
name = "x" # keep me

[tool.hemma]   # ours
host = 'old'   # why

[[tool.other]]
a = 1

[tool.pdm.scripts]
test = "pytest"
"""


def test_comments_order_and_format_stay() -> None:
    text = toml_edit.put(AWKWARD, ("tool", "hemma"), {"host": "new", "root": "~/r"}, "f")
    text = toml_edit.put(text, ("tool", "pdm", "scripts"), {"run-hemma": {"cmd": "run-hemma"}}, "f")
    text = toml_edit.put(text, ("tool", "hemma", "env"), {"A": "b"}, "f")
    kept = [line for line in AWKWARD.splitlines() if not line.startswith("host")]
    assert [line for line in text.splitlines() if line in kept and line] == [line for line in kept if line]
    assert tomllib.loads(text)["tool"]["hemma"] == {"host": "new", "root": "~/r", "env": {"A": "b"}}
    assert "# why" in text


def test_windows_line_ends_and_the_byte_order_mark_stay() -> None:
    old = "\ufeff[project]\r\nname = 'x'\r\n"
    text = toml_edit.put(old, ("tool", "hemma"), {"host": "gpu"}, "f")
    assert text.startswith("\ufeff[project]\r\n")
    assert "\n" not in text.replace("\r\n", "")


def test_a_top_level_key_goes_before_the_tables() -> None:
    text = toml_edit.put('[hosts.gpu]\nssh = "a"\n', (), {"default_host": "gpu"}, "f")
    assert tomllib.loads(text) == {"default_host": "gpu", "hosts": {"gpu": {"ssh": "a"}}}


@pytest.mark.parametrize("text", ['tool = { hemma = "x" }', "tool = 1"])
def test_a_layout_that_cannot_be_edited_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no table"):
        toml_edit.put(text, ("tool", "hemma"), {"host": "x"}, "f")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('a = "g"\n[hosts.g]\nssh = "x"\n', 'a = "g"\n'),
        ('[hosts]\n[hosts.g]\nssh = "x"\n', ""),
        ('hosts.g.ssh = "x"\n', ""),
        ('hosts = { g = { ssh = "x" } }\n', ""),
        ('# c\n[hosts.g]\nssh = "x"\n[hosts.g.env]\nA = "1"\n[other]\nb = 1\n', "# c\n[other]\nb = 1\n"),
    ],
)
def test_the_only_one_can_be_dropped_and_its_table_goes_too(text: str, left: str) -> None:
    assert toml_edit.drop(text, ("hosts", "g"), "f") == left


def test_a_drop_takes_out_one_thing() -> None:
    text = '# c\ndefault_host = "a"\n[hosts.a]\nssh = "x"\n# about b\n[hosts.b]\nssh = "y"\n'
    assert tomllib.loads(toml_edit.drop(text, ("hosts", "a"), "f")) == {
        "default_host": "a",
        "hosts": {"b": {"ssh": "y"}},
    }
    assert "# about b" in toml_edit.drop(text, ("default_host",), "f")
