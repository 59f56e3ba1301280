"""The structure in a project's memory: its words are those of `hemma verify`, and it is what its change log comes to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controller.flows import memory_structure as flow
from controller.flows import verify
from controller.flows.memory import Memory
from controller.flows.memory_check import MemoryShrank, check
from lanes import memory_structure as structure
from manifests.errors import HemmaError, UsageError
from manifests.memory import CHANGES, STRUCTURE
from tests.real.test_memory import commit, git, hemma, root
from tests.real.test_verify_evidence import FILES, run
from tests.verify_trees import TREES

__all__ = ["root"]  # the fixture

ROOT = Path(__file__).resolve().parent.parent.parent


def plant(root: Path) -> Path:
    """An app whose modules are tested, not tested, run and not run."""
    for name, text in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    commit(root, "an app")
    return root


def shown(root: Path, *words: str) -> dict[str, dict[str, Any]]:
    """The structure by name, after `hemma memory structure` with these words."""
    said = json.loads(hemma(root, "memory", "structure", *words, "--json"))
    return {each["name"]: each for each in said["modules"]}


def updated(root: Path, stored: str | None = None) -> dict[str, dict[str, Any]]:
    """The structure by name, after the code was read again."""
    said = flow.update(Memory(str(root), ".claude"), verify.Request(str(root)), stored)
    assert json.loads((root / ".claude" / STRUCTURE).read_text()) == said
    return {each["name"]: each for each in said["modules"]}


def ran(root: Path) -> str:
    """Coverage data of a real run of the app."""
    assert run(root, "-m", "coverage", "run", "--data-file=.coverage.real", "-m", "app.cli") == 0
    return ".coverage.real"


@pytest.mark.req("S2-R14", "S2-R15", "S19-R07")
def test_the_status_of_a_planted_tree_is_what_verify_says(root: Path) -> None:
    tree = next(each for each in TREES if each.name == "unwired")
    tree.plant(root)
    commit(root, "a tree")
    said = updated(root)
    for name, wiring in tree.statuses.items():
        module = said[name]
        assert (module["wiring"], module["status"]) == (wiring, "active" if wiring == "WIRED" else "planned"), name
        words = module["verified"]
        assert (words["wired"], words["tested"], words["active"], words["complete"]) == (
            wiring == "WIRED",
            None,
            None,
            None,
        )
    assert (said["tests.test_only"]["status"], "verified" in said["tests.test_only"]) == (None, False)


@pytest.mark.req("S2-R14", "S19-R06", "S19-R09")
def test_complete_needs_a_test_and_a_run_and_holds_as_long_as_the_code(root: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PYTHONPATH", str(plant(root)))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    assert {each["status"] for each in updated(root).values()} == {"active", None}
    refused = json.loads(hemma(root, "memory", "structure", "--progress", "--json", code=1))
    assert (refused["error"], "percent" in refused) == ("progress-unmeasured", False)
    said = shown(root, "--run-tests", "--active", ran(root))
    assert {name for name, each in said.items() if each["status"] == "complete"} == {"app", "app.work"}
    assert said["app.rare"]["verified"]["tested"] is False
    # Without the evidence at hand it stands, for the code is the same; and then a share may be told.
    assert shown(root, "--update") == said
    told = json.loads(hemma(root, "memory", "structure", "--progress", "--json"))
    assert (told["complete"], told["modules"], told["percent"]) == (2, 5, 40.0)
    (root / "app/work.py").write_text("def run(limit):\n    return limit + 3\n")
    assert updated(root)["app.work"]["status"] == "active"
    with pytest.raises(flow.Unmeasured):
        flow.progress(Memory(str(root), ".claude"), verify.Request(str(root)))


@pytest.mark.req("S2-R14", "S19-R06")
def test_a_stored_report_says_who_is_complete_while_it_is_of_this_code(root: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PYTHONPATH", str(plant(root)))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    report = verify.verify(
        verify.Request(str(root), active=(str(root / ran(root)),), run_tests=lambda _done, _total, _what: None)
    )
    (root / "report.json").write_text(report.model_dump_json())
    (root / "app/rare.py").write_text("def run():\n    return 1  # mended\n")
    said = updated(root, str(root / "report.json"))
    assert said["app.work"]["status"] == "complete"
    assert said["app.rare"]["verified"]["tested"] is None  # the report is of other code
    (root / "report.json").write_text('{"modules": 3}')
    with pytest.raises(HemmaError, match=r"report\.json"):
        updated(root, str(root / "report.json"))


@pytest.mark.req("C2", "S2-R04", "S2-R06")
def test_the_structure_is_what_its_change_log_comes_to(root: Path) -> None:
    memory = Memory(str(plant(root)), ".claude")
    updated(root)
    file = root / ".claude" / STRUCTURE
    standing = json.loads(file.read_text())
    standing["modules"][0]["owner"] = "me"
    standing["later"] = "kept"
    file.write_text(json.dumps(standing))
    (root / "app/more.py").write_text('"""More."""\n')
    git(root, "add", "-A")
    after = updated(root)
    assert after[standing["modules"][0]["name"]]["owner"] == "me"
    assert json.loads(file.read_text())["later"] == "kept"
    entries = json.loads((root / ".claude" / CHANGES).read_text())["entries"]
    assert [each["by"] for each in entries] == ["verify", "hand", "verify"]
    assert {each["name"]: each for each in structure.replayed(entries)} == after
    updated(root)
    assert len(json.loads((root / ".claude" / CHANGES).read_text())["entries"]) == 3  # nothing changed, nothing is said
    file.write_text("<<<<<<< ours\n")
    with pytest.raises(HemmaError, match="marks of a merge") as refused:
        memory.structure()
    assert refused.value.remedy == "hemma memory structure --rebuild"
    assert shown(root, "--rebuild") == after
    # A file that was cut short is made whole: what the log knows never goes.
    file.write_text(json.dumps({"modules": [{"name": standing["modules"][0]["name"]}]}))
    assert updated(root) == after
    assert memory.structure()["modules"] == structure.replayed(entries)


@pytest.mark.req("C2", "S2-R06", "S2-R08", "S19-R06")
def test_check_finds_what_the_log_knows_and_the_file_lost_and_what_nobody_proved(root: Path) -> None:
    plant(root)
    updated(root)
    commit(root, "a structure")
    memory = Memory(str(root), ".claude")
    assert check(memory) > 0
    file, log = root / ".claude" / STRUCTURE, root / ".claude" / CHANGES
    kept, changes = file.read_text(), log.read_text()
    file.write_text(kept.replace('"active"', '"complete"', 1))
    with pytest.raises(MemoryShrank, match="without a verify report"):
        check(memory)
    file.write_text(json.dumps({**json.loads(kept), "modules": json.loads(kept)["modules"][1:]}))
    with pytest.raises(MemoryShrank, match="dropped from the structure"):
        check(memory)
    file.write_text(kept)
    log.write_text('{"entries": []}')
    with pytest.raises(MemoryShrank, match="removed or rewritten"):
        check(memory)
    log.write_text(changes)
    check(memory)


@pytest.mark.req("C2", "S2-R08")
def test_two_branches_structures_both_survive_a_merge(root: Path) -> None:
    plant(root)
    updated(root)
    commit(root, "a structure")
    git(root, "checkout", "-q", "-b", "side")
    (root / "app/side.py").write_text('"""Side."""\n')
    (root / "app/work.py").write_text("from app import side\n\n\ndef run(limit):\n    return limit + bool(side)\n")
    git(root, "add", "-A")
    updated(root)
    commit(root, "side")
    git(root, "checkout", "-q", "main")
    shown(root, "--plan", "app.later", "--purpose", "later")
    (root / "app/rare.py").write_text("def run():\n    return 4\n\n\ndef more():\n    return 5\n")
    updated(root)
    commit(root, "main")
    git(root, "merge", "-q", "--no-edit", "side")
    merged = {each["name"]: each for each in json.loads((root / ".claude" / STRUCTURE).read_text())["modules"]}
    assert merged["app.later"]["purpose"] == "later"
    assert merged["app.side"]["path"] == "app/side.py"
    assert merged["app.work"]["dependencies"] == ["app"]
    assert merged["app.rare"]["public_api"] == ["run()", "more()"]
    assert check(Memory(str(root), ".claude")) > 0
    after = updated(root)
    assert set(after) == set(merged)
    assert check(Memory(str(root), ".claude")) > 0


@pytest.mark.req("S2-R14", "S2-R18")
def test_modules_under_src_are_called_as_imports_call_them(root: Path) -> None:
    shown(root, "--plan", "shop.later", "--purpose", "later")
    tree = {
        "pyproject.toml": '[project]\nname = "shop"\nversion = "1"\n[project.scripts]\nshop = "shop.cli:main"\n',
        "src/shop/__init__.py": '"""A shop."""\n',
        "src/shop/cli.py": "from . import later\n\n\ndef main():\n    return later.total()\n",
        "src/shop/later.py": "def total():\n    return 3\n",
        "tests/test_shop.py": "from shop import later\n\n\ndef test_total():\n    assert later.total() == 3\n",
    }
    for name, text in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    commit(root, "a shop")
    said = updated(root)
    assert set(said) == {"shop", "shop.cli", "shop.later", "tests.test_shop"}
    assert (said["shop.cli"]["path"], said["shop.cli"]["dependencies"]) == ("src/shop/cli.py", ["shop"])
    # What was planned under the name that imports use is the module that was written.
    assert (said["shop.later"]["status"], said["shop.later"]["purpose"]) == ("active", "later")


@pytest.mark.req("S2-R18", "S2-R06")
def test_a_module_is_planned_in_words_before_there_is_code(root: Path) -> None:
    plant(root)
    updated(root)
    assert "--purpose" in hemma(root, "memory", "structure", "--plan", "app.cache", code=2)
    said = shown(root, "--plan", "app.cache", "--purpose", "keeps answers for a day")
    assert said["app.cache"] == {"name": "app.cache", "status": "planned", "purpose": "keeps answers for a day"}
    assert updated(root)["app.cache"]["status"] == "planned"
    assert "is there already" in hemma(root, "memory", "structure", "--plan", "app.work", "--purpose", "x", code=2)
    (root / "app/cache.py").write_text("def keep():\n    return 1\n")
    git(root, "add", "-A")
    written = updated(root)["app.cache"]
    assert (written["status"], written["purpose"]) == ("planned", "keeps answers for a day")  # there, and not wired yet
    (root / "app/work.py").write_text("from app.cache import keep\n\n\ndef run(limit):\n    return limit + keep()\n")
    assert updated(root)["app.cache"]["status"] == "active"
    git(root, "rm", "-q", "-f", "app/cache.py")
    gone = updated(root)["app.cache"]
    assert (gone["status"], gone["purpose"]) == ("removed", "keeps answers for a day")


@pytest.mark.req("S2-R14", "S19-R04", "S19-R06")
def test_this_repository_is_active_and_nothing_of_it_is_complete_without_evidence(tmp_path: Path) -> None:
    found = flow.modules_of(ROOT)
    report = verify.verify(verify.Request(str(ROOT)))
    said = {each["path"]: each for each in structure.judged(found, [], report)}
    tracked = [row for row in report.modules if row.path in said]
    assert len(tracked) > 200
    for row in tracked:
        assert said[row.path]["status"] == ("active" if row.words.exists and row.words.wired else "planned"), row.path
    assert said["tests/conftest.py"]["status"] is None
    counts, unmeasured = structure.progress(list(said.values()))
    assert (counts["complete"], len(unmeasured)) == (0, counts["active"])


def test_a_report_that_is_none_and_a_plan_without_words_are_refused(root: Path) -> None:
    memory = Memory(str(root), ".claude")
    with pytest.raises(HemmaError):
        flow.update(memory, verify.Request(str(root)), str(root / "no-such-file"))
    (root / "pyproject.toml").write_text("[project]\n")
    # A file of the user's own that is none: nothing advises to move it away.
    with pytest.raises(UsageError, match="no report of hemma verify") as refused:
        flow.update(memory, verify.Request(str(root)), str(root / "pyproject.toml"))
    assert refused.value.remedy.startswith("hemma verify --run-tests --json --out")
    flow.plan(memory, "app.later", "later")
    assert flow.plan(memory, "app.later", "other words")["modules"][-1]["purpose"] == "other words"
    with pytest.raises(UsageError):
        flow.update(memory, verify.Request(str(root), active=(str(root / "no-such-file"),)))
