"""The rules of the house that no linter holds: sizes, names, words in committed text, links, and who imports what."""

from __future__ import annotations

import ast
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote import delivery
from tests.support import HEAVY_MODULES

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = ("hemma", "controller", "remote", "training", "lanes", "manifests")
AGENT = REPOSITORY / "remote/agent"
OLDEST_AGENT_PYTHON = (3, 9)
TRAVELLING = [REPOSITORY / name for name in delivery.TRAVELLING]

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_MEDIAN_LINES = 9
MAX_P90_LINES = 30


Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*folders: str) -> list[Path]:
    """Every Python file below these folders of the repository."""
    return sorted(path for folder in folders for path in (REPOSITORY / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    """The path as messages show it."""
    return str(path.relative_to(REPOSITORY))


def functions(path: Path) -> Iterator[Function]:
    """Every function and method of a file, nested ones too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Function):
            yield node


def body_lines(function: Function) -> int:
    """Lines from the first statement or docstring to the end: a table of arguments is not counted."""
    return (function.end_lineno or function.lineno) - function.body[0].lineno + 1


def committed_files() -> list[Path]:
    """Files that git tracks or would add now."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [REPOSITORY / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


# --- size and shape ----------------------------------------------------------------------------------------------


def test_no_file_is_longer_than_its_budget() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources(*ROOMS, "script")}
    assert {name: count for name, count in lengths.items() if count > MAX_FILE_LINES} == {}


def test_no_function_is_longer_than_its_budget() -> None:
    lengths = {
        f"{name_of(path)}:{f.name}": body_lines(f) for path in sources(*ROOMS, "script") for f in functions(path)
    }
    assert {name: count for name, count in lengths.items() if count > MAX_FUNCTION_LINES} == {}


def test_most_functions_are_short() -> None:
    lengths = sorted(body_lines(function) for path in sources(*ROOMS) for function in functions(path))
    assert statistics.median(lengths) <= MAX_MEDIAN_LINES
    assert lengths[int(len(lengths) * 0.9)] <= MAX_P90_LINES


def test_every_public_function_is_documented() -> None:
    def undocumented(nodes: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in nodes:
            if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
                if ast.get_docstring(node) is None and not is_overload(node):
                    yield prefix + node.name
                if isinstance(node, ast.ClassDef):
                    yield from undocumented(node.body, f"{prefix}{node.name}.")

    def is_overload(node: Function | ast.ClassDef) -> bool:
        return any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in node.decorator_list)

    found = [
        name
        for path in sources(*ROOMS, "script")
        for name in undocumented(ast.parse(path.read_text(encoding="utf-8")).body, f"{name_of(path)}:")
    ]
    assert found == []


def test_every_file_says_what_it_is_for() -> None:
    silent = [
        p for p in sources(*ROOMS, "script") if ast.get_docstring(ast.parse(p.read_text(encoding="utf-8"))) is None
    ]
    assert [name_of(path) for path in silent] == []


def test_no_file_is_empty_and_none_is_a_drawer_for_everything() -> None:
    files = committed_files()
    drawers = {"utils.py", "util.py", "helpers.py", "helper.py", "misc.py", "common.py"}
    assert [name_of(path) for path in files if path.stat().st_size == 0 or path.name in drawers] == []


# --- committed text ----------------------------------------------------------------------------------------------

MACHINE_PATH = re.compile(rb"(?<![\w~.})])/(?:home|root|work|Users)/(?!me\b|you\b|user\b)[\w.-]|file:///[\w]")
# Data of tests: paths as users have them, which no machine of ours has.
MAY_HOLD_PATHS = ("tests/cases/", "tests/old_versions/")


def test_no_committed_text_names_a_path_of_this_machine() -> None:
    found = [
        f"{name_of(path)}:{number}"
        for path in committed_files()
        if not name_of(path).startswith(MAY_HOLD_PATHS)
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def headings(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [p for p in committed_files() if p.suffix == ".md"], ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    dead: list[str] = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = (page.parent / target) if target else page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in headings(path.read_text("utf-8"))):
            dead.append(link)
    assert dead == []


# --- imports -----------------------------------------------------------------------------------------------------


def test_the_hot_path_loads_nothing_heavy() -> None:
    """`hemma run` answers in milliseconds because these stay out of it."""
    code = "import hemma.__main__ as door, sys; door._open_door(); import controller.cli.run; print(*sys.modules)"
    told = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert told.returncode == 0, told.stderr
    loaded = {name.partition(".")[0] for name in told.stdout.split()}
    assert "controller" in loaded
    assert loaded & set(HEAVY_MODULES) == set()


def imported_names(path: Path) -> Iterator[str]:
    """Top-level names of the absolute imports of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


def test_the_agent_imports_the_standard_library_and_itself_alone() -> None:
    known = sys.stdlib_module_names | {"hemma_agent"}  # its name on the host
    strangers = {name_of(path): set(imported_names(path)) - known for path in AGENT.rglob("*.py")}
    # One judge of git calls for everybody: it is pure, and travels beside the agent.
    assert strangers.pop("remote/agent/git_judge.py") == {"lanes"}
    assert {name: names for name, names in strangers.items() if names} == {}
    assert {name for path in TRAVELLING for name in imported_names(path)} <= {
        *sys.stdlib_module_names,
        "lanes",
        "manifests",
    }


def test_what_the_agent_takes_of_other_rooms_is_all_that_it_needs() -> None:
    names = {path.stem for path in TRAVELLING}
    for path in [*TRAVELLING, AGENT / "git_judge.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in ("lanes", "manifests"):
                assert {alias.name for alias in node.names} <= names
            elif isinstance(node, ast.ImportFrom) and str(node.module).startswith(("lanes.", "manifests.")):
                assert str(node.module).partition(".")[2] in names


@pytest.mark.parametrize("path", sorted([*AGENT.rglob("*.py"), *TRAVELLING]), ids=lambda path: path.name)
def test_the_agent_is_written_in_the_oldest_python_it_promises(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=OLDEST_AGENT_PYTHON)


def oldest_pythons() -> list[str]:
    """Interpreters of the oldest promised version on this machine, e.g. pyenv's; empty where there is none."""
    name = "python{}.{}".format(*OLDEST_AGENT_PYTHON)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path(sys.base_prefix).parent)
    version = "{}.{}".format(*OLDEST_AGENT_PYTHON)
    candidates = [
        shutil.which(name),
        *map(str, pyenv.glob(f"{version}.*/bin/python")),
        *pyenv.glob(f"versions/{version}.*/bin/python"),
    ]
    code = f"import sys; sys.exit(sys.version_info[:2] != {OLDEST_AGENT_PYTHON})"
    return [str(found) for found in candidates if found and _succeeds([str(found), "-c", code])]


def _succeeds(argv: list[str]) -> bool:
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def test_the_agent_loads_in_a_real_python_of_that_version(tmp_path: Path) -> None:
    pythons = oldest_pythons()
    if not pythons:
        pytest.skip("no python{}.{} on this machine; its syntax was checked by ast".format(*OLDEST_AGENT_PYTHON))
    shutil.copytree(AGENT, tmp_path / "hemma_agent", ignore=shutil.ignore_patterns("*.toml", "__pycache__"))
    for path in TRAVELLING:
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / path.parent.name)
    modules = [f"hemma_agent.{path.stem}" for path in AGENT.glob("*.py") if path.stem not in ("__main__", "__init__")]
    code = f"import importlib; [importlib.import_module(m) for m in {modules!r}]; print('all loaded')"
    told = subprocess.run([pythons[0], "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (told.stdout, told.stderr) == ("all loaded\n", ""), pythons[0]
