"""The scope guard: every hostile edit of the case files is refused, every legal one passes, and nothing breaks it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lanes.scope import Material, ScopeVerdict, compare
from lanes.scope_table import GENERIC, NEUTRAL, PROTECTED
from lanes.scope_values import canonical

CASES = Path(__file__).resolve().parents[1] / "cases" / "scope"
BASES: dict[str, dict[str, Any]] = yaml.safe_load((CASES / "base.yaml").read_text(encoding="utf-8"))
EDITS = {
    "set",
    "drop",
    "edit",
    "append",
    "prepend",
    "argv",
    "replace_argv",
    "add_argv",
    "env",
    "unset",
    "files",
    "before",
    "devices",
}
OPTIONS = {"renames", "justified", "digests"}


def cases(folder: str) -> list[Any]:
    """Every case of every file in the folder: add a file, no code."""
    return [
        pytest.param(case, id=f"{file.stem}-{number}")
        for file in sorted((CASES / folder).glob("*.yaml"))
        for number, case in enumerate(yaml.safe_load(file.read_text(encoding="utf-8")), 1)
    ]


HOSTILE, LEGAL = cases("hostile"), cases("legal")


def put(config: dict[str, Any], dotted: str, value: object) -> None:
    *sections, name = dotted.split(".")
    for section in sections:
        config = config.setdefault(section, {})
    config[name] = value


def drop(config: dict[str, Any], dotted: str) -> None:
    *sections, name = dotted.split(".")
    for section in sections:
        config = config[section]
    del config[name]


def changed(base: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """The base with a case's edits; an edit that changes nothing is a mistake in the case."""
    side = copy.deepcopy(base)
    config, files = side.setdefault("config", {}), side.setdefault("files", {})
    for dotted, value in case.get("set", {}).items():
        put(config, dotted, value)
    for dotted in case.get("drop", []):
        drop(config, dotted)
    default = next(iter(files), "")
    for key, value in case.get("edit", {}).items():
        name, pairs = (key, value) if isinstance(value, list) else (default, [[key, value]])
        for old, new in pairs:
            assert old in files[name], f"{old!r} is not in {name}"
            files[name] = files[name].replace(old, new)
    files.update(case.get("files", {}))
    if "append" in case:
        files[default] += case["append"]
    if "prepend" in case:
        files[default] = case["prepend"] + files[default]
    words = [str(word) for word in case.get("argv", side.get("argv", []))]
    side["argv"] = [str(case.get("replace_argv", {}).get(word, word)) for word in words] + case.get("add_argv", [])
    side["env"] = {**side.get("env", {}), **case.get("env", {})}
    for name in case.get("unset", []):
        del side["env"][name]
    side["devices"] = case.get("devices", side.get("devices"))
    return side


def material(side: dict[str, Any], digests: dict[str, str]) -> Material:
    known = {key: value for key, value in side.items() if value is not None}
    known["argv"] = tuple(known.get("argv", ()))
    return Material(**known, digests=digests)


def judged(case: dict[str, Any]) -> ScopeVerdict:
    assert set(case) <= {"base", "why"} | EDITS | OPTIONS, set(case)
    base = BASES[case["base"]] if "base" in case else {}
    before = changed(base, case.get("before", {}))
    after = changed(before, {key: value for key, value in case.items() if key in EDITS - {"before"}})
    assert repr(before) != repr(after), "the case changes nothing"
    digests = case.get("digests", {})
    return compare(
        material(before, digests),
        material(after, digests),
        legal_renames=case.get("renames"),
        justified=case.get("justified"),
    )


def told(verdict: ScopeVerdict) -> str:
    return "\n".join(f"{reason.rule}: {reason.fact}" for reason in verdict.reasons)


@pytest.mark.req("S13-R40", "S13-R41", "S13-R42", "S13-R43", "S13-R45")
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_edit_is_refused(case: dict[str, Any]) -> None:
    """D4: nested, by another name, by flag, environment or code, and undeclared."""
    verdict = judged(case)
    assert not verdict.allowed, case["why"]
    assert verdict.reasons
    assert verdict.next_steps
    assert any(not change.allowed for change in verdict.changes)


@pytest.mark.req("S13-R46", "S13-R30", "S12-R09")
@pytest.mark.parametrize("case", LEGAL)
def test_a_legal_edit_passes(case: dict[str, Any]) -> None:
    verdict = judged(case)
    assert verdict.allowed, told(verdict)


def test_enough_cases_of_enough_kinds() -> None:
    assert len(HOSTILE) >= 200
    assert len(LEGAL) >= 100
    for many, least in ((HOSTILE, 200), (LEGAL, 100)):
        whys = [case.values[0]["why"] for case in many]
        assert len(set(whys)) == len(whys)
        assert len(whys) >= least


@pytest.mark.parametrize("name", BASES)
def test_the_same_on_both_sides_is_allowed_and_without_a_change(name: str) -> None:
    side = material(changed(BASES[name], {}), {})
    verdict = compare(side, side)
    assert verdict.allowed
    assert verdict.changes == ()


# --- for every input ----------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["max_length", "model", "packing", "x", "training", "lora", "r", "seed", "a.b", "", "report_to"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)
CONFIGS = st.dictionaries(NAMES, VALUES, max_size=5)
TEXTS = st.lists(
    st.sampled_from(
        ["x = 1", "f(a, b=2)", "ds[:3]", "if True:", "  pass", "'", "os.environ['A'] = 'b'", "import x", "\0", "a" * 50]
    )
    | st.text(max_size=12),
    max_size=6,
).map("\n".join)
ENDINGS = st.sampled_from(["a.py", "a.yaml", "a.json", "a.toml", "a.sh", "a.md", "requirements.txt", "a.jinja", "a"])


@given(CONFIGS, CONFIGS)
def test_every_pair_of_configurations_is_judged_the_same_way_each_time(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    verdict = compare(before, after)
    assert verdict == compare(before, after)
    assert compare(before, before).allowed
    assert compare(before, copy.deepcopy(before)).changes == ()
    assert verdict.allowed == all(change.allowed for change in verdict.changes)
    verdict.as_dict()


@given(TEXTS, TEXTS, ENDINGS)
def test_every_pair_of_texts_is_judged(before: str, after: str, name: str) -> None:
    assert isinstance(compare(Material(files={name: before}), Material(files={name: after})).allowed, bool)
    assert compare(Material(files={name: before}), Material(files={name: before})).allowed


@given(st.lists(st.text(max_size=8), max_size=6), st.lists(st.text(max_size=8), max_size=6))
def test_every_pair_of_command_lines_is_judged(before: list[str], after: list[str]) -> None:
    compare(Material(argv=tuple(before)), Material(argv=tuple(after)))
    assert compare(Material(argv=tuple(before)), Material(argv=tuple(before))).allowed


@pytest.mark.req("S13-R31")
@given(st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4]))
def test_the_batch_may_be_split_in_any_way_that_comes_to_the_same(micro: int, steps: int, devices: int) -> None:
    before = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4}
    after = {"per_device_train_batch_size": micro, "gradient_accumulation_steps": steps}
    verdict = compare(Material(config=before, devices=2), Material(config=after, devices=devices))
    assert verdict.allowed == (micro * steps * devices == 64)


def test_texts_that_unfold_without_end_are_answered() -> None:
    bomb = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
    )
    assert not compare(Material(files={"a.yaml": "a: 1"}), Material(files={"a.yaml": bomb})).allowed
    deep = "x = " + "(" * 500 + "1" + ")" * 500
    compare(Material(files={"a.py": "x = 1"}), Material(files={"a.py": deep}))
    power = "max_length = 9 ** 9 ** 9 ** 9"
    assert not compare(Material(files={"a.py": "max_length = 9"}), Material(files={"a.py": power})).allowed


# --- for every name that the tables know --------------------------------------------------------------------------

PROTECTED_NAMES = sorted(
    {name for names in PROTECTED.values() for key, more in names.items() for name in (key, *more.split())}
)
SCRIPT = "args = SFTConfig(output_dir='out')\n"


def ways(name: str, value: object) -> dict[str, Material]:
    """One setting made in every way that a side has to make it."""
    text = repr(value)
    return {
        "config": Material(config={name: value}, files={"a.py": SCRIPT}),
        "capitals": Material(config={name.upper(): value}, files={"a.py": SCRIPT}),
        "nested": Material(config={"a": {"training": [{"b": {name: value}}]}}, files={"a.py": SCRIPT}),
        "flag": Material(argv=(f"--{name.replace('_', '-')}", str(value)), files={"a.py": SCRIPT}),
        "override": Material(argv=(f"training.{name}={value}",), files={"a.py": SCRIPT}),
        "environment": Material(env={name.upper(): str(value)}, files={"a.py": SCRIPT}),
        "yaml": Material(files={"a.py": SCRIPT, "b.yaml": yaml.safe_dump({"x": {name: value}})}),
        "keyword": Material(files={"a.py": f"args = SFTConfig(output_dir='out', {name}={text})\n"}),
        "attribute": Material(files={"a.py": f"{SCRIPT}args.{name} = {text}\n"}),
        "setattr": Material(files={"a.py": f"{SCRIPT}setattr(args, {name!r}, {text})\n"}),
        "item": Material(files={"a.py": f"{SCRIPT}vars(args)[{name!r}] = {text}\n"}),
        "dict": Material(files={"a.py": f"{SCRIPT}args = replace(args, **{{{name!r}: {text}}})\n"}),
        "name": Material(files={"a.py": f"{SCRIPT}{name} = {text}\n"}),
        "environ": Material(files={"a.py": f"import os\n{SCRIPT}os.environ[{name.upper()!r}] = {str(value)!r}\n"}),
    }


@pytest.mark.req("S13-R41", "S13-R45")
@pytest.mark.parametrize("name", PROTECTED_NAMES)
def test_every_protected_name_is_guarded_in_every_way_to_set_it(name: str) -> None:
    before, after = ways(name, 7), ways(name, 9)
    # A call of setattr with a generic word may be about anything; the same word as an attribute or item is seen.
    open_ways = [
        way for way in before if compare(before[way], after[way]).allowed and not (way == "setattr" and name in GENERIC)
    ]
    assert open_ways == []


@pytest.mark.parametrize("name", sorted(NEUTRAL - {"stage", "tokenizer"}))
def test_every_neutral_name_is_free_in_a_configuration_and_on_a_command_line(name: str) -> None:
    before, after = ways(name, 7), ways(name, 9)
    for way in ("config", "flag", "environment", "keyword"):
        assert compare(before[way], after[way]).allowed, way


def test_a_configuration_without_end_is_refused_and_never_read_to_its_end() -> None:
    """YAML aliases unfold to more than anyone wrote."""
    knot: dict[str, Any] = {"max_length": 1}
    for _level in range(8):
        knot = {str(number): knot for number in range(9)}
    verdict = compare({"max_length": 1}, knot)
    assert not verdict.allowed
    assert any(change.facet == "unreadable" for change in verdict.changes)


def test_values_of_every_type_have_one_form() -> None:
    assert canonical({"b": [1, 2.0], "a": {3}}) == (("a", (3,)), ("b", (1, 2)))
    assert canonical(float("nan")) == "nan"
    assert canonical("[a, 'b']") == ("a", "b")
    assert canonical("hf://datasets/org/x") == canonical("org/x/")
    assert canonical("1_024") == 1024
    assert canonical("-inf") == "-inf"


@pytest.mark.parametrize("path", sorted((CASES.parents[2] / "lanes").glob("scope*.py")), ids=lambda path: path.name)
def test_real_code_is_read_and_a_comment_changes_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    verdict = compare(Material(files={"a.py": text}), Material(files={"a.py": f"{text}\n# a comment\n"}))
    assert verdict.changes == ()


def test_code_that_has_no_source_of_its_own_is_described() -> None:
    text = "SEP = '\\\\'\nname = f'{SEP.join(parts)}'\nf(f'{SEP}', *rest, **more)\nrows = [*a, *b][1:]\n"
    assert compare(Material(files={"a.py": text}), Material(files={"a.py": text})).changes == ()
    assert not compare(Material(files={"a.py": text}), Material(files={"a.py": text.replace("1:", "9:")})).allowed
