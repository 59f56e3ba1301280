"""`hemma memory` in a real repository: many writers, writers that are killed, two branches, and git as the witness."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from controller.flows.memory import Memory, append, entry_of
from lanes import memory as decide
from manifests.errors import HemmaError
from manifests.memory import ARCHIVE, CONCEPT, LOG, STRUCTURE
from tests.support import make_repository

HEMMA = str(Path(sys.executable).with_name("hemma"))
IS_FULL = os.environ.get("HEMMA_FULL") == "1"
# What the product promises: 10,000 entries, 20 writers at once, 200 kills. HEMMA_FULL=1 does that, else a few of each.
STANDING, WRITERS, KILLS = (10_000, 20, 200) if IS_FULL else (300, 6, 8)
# One writer, which says each number only once its entry is on the disk.
WRITER = """
import os, sys
from controller.flows import memory
place = memory.Memory(sys.argv[1], ".claude")
for number in range(int(sys.argv[3])):
    memory.append(place, [memory.entry_of(f"{sys.argv[2]}-{number}", "done", status="success", notes="x" * 300)])
    os.write(1, f"{sys.argv[2]}-{number}\\n".encode())
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with an empty, committed memory."""
    monkeypatch.setenv("HEMMA_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("HEMMA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(Path(HEMMA).parent) + os.pathsep + os.environ["PATH"])
    (tmp_path / "repo").mkdir()
    place = make_repository(tmp_path / "repo").path
    hemma(place, "memory", "init")
    commit(place, "a memory")
    return place


def hemma(root: Path, *words: str, code: int = 0) -> str:
    """What `hemma` says; it must end with `code`."""
    done = subprocess.run([HEMMA, *words], cwd=root, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done.stdout if code == 0 or "--json" in words else done.stderr


def git(root: Path, *words: str, code: int = 0) -> str:
    """What git says; it must end with `code`."""
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done.stdout + done.stderr


def commit(root: Path, message: str) -> None:
    """Commit everything."""
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", message)


def entries(root: Path) -> list[dict[str, Any]]:
    """The log's entries, read by a plain JSON reader."""
    return json.loads((root / ".claude" / LOG).read_text("utf-8"))["entries"]


@pytest.mark.req("S2-R09", "S2-R10", "S2-R16")
def test_the_files_are_made_and_grow(root: Path) -> None:
    assert {path.name for path in (root / ".claude").glob("*.json")} == {CONCEPT, STRUCTURE, LOG}
    hemma(root, "memory", "log", "halve the rate", "3e-4 -> 1.5e-4", "--file", "rate.yaml", "--notes", "tried twice")
    assert hemma(root, "memory", "init") == "ok       everything is there\n"
    assert git(root, "status", "--short").split() == ["M", f".claude/{LOG}"]  # and no lock beside it
    (entry,) = entries(root)
    assert entry["files_touched"] == ["rate.yaml"]
    assert set(entry) >= {"date", "time", "requested", "executed", "status", "notes"}
    assert "halve the rate" in hemma(root, "memory", "show")
    assert json.loads(hemma(root, "memory", "search", "RATE", "twice", "--json")) == [entry]
    hemma(root, "memory", "search", "nothing like it", code=1)
    assert "success, partial, failed" in hemma(root, "memory", "log", "a", "b", "--status", "fine", code=2)


@pytest.mark.req("S2-R12", "S2-R13")
def test_the_concept_needs_approval_once_it_says_something(root: Path) -> None:
    hemma(root, "memory", "concept", "--set", "vision", "one host")
    assert "--approve" in hemma(root, "memory", "concept", "--set", "vision", "two hosts", code=75)
    hemma(root, "memory", "concept", "--set", "vision", "two hosts", "--approve")
    hemma(root, "memory", "concept", "--set", "core_goals", "fast", "safe")
    said = json.loads(hemma(root, "memory", "concept", "--json"))
    assert (said["vision"], said["core_goals"]) == ("two hosts", ["fast", "safe"])
    commit(root, "a concept")
    hemma(root, "memory", "check")
    (root / ".claude" / CONCEPT).write_text(json.dumps({**said, "vision": "something else"}))
    assert "changed without approval" in hemma(root, "memory", "check", code=1)


@pytest.mark.req("S2-R14", "S2-R15")
def test_the_structure_comes_from_the_code_and_forgets_nothing(root: Path) -> None:
    (root / "pkg").mkdir()
    (root / "pkg/__init__.py").write_text('"""A package."""\n')
    (root / "pkg/work.py").write_text("import json\nfrom . import other\ndef run(a, *, b=1): ...\ndef _own(): ...\n")
    (root / "pkg/other.py").write_text("def broken(:\n")
    commit(root, "code")
    hemma(root, "memory", "structure", "--update")
    modules = {each["name"]: each for each in json.loads(hemma(root, "memory", "structure", "--json"))["modules"]}
    work = modules["pkg.work"]
    assert (work["dependencies"], work["public_api"]) == (["json", "pkg"], ["run(a, *, b=1)"])
    assert work["last_modified"].startswith("20")
    assert "cannot be parsed" in modules["pkg.other"]["notes"]
    git(root, "rm", "-q", "pkg/other.py")
    hemma(root, "memory", "structure", "--update")
    modules = {each["name"]: each for each in json.loads(hemma(root, "memory", "structure", "--json"))["modules"]}
    assert modules["pkg.other"]["status"] == "removed"


def filled(root: Path) -> Memory:
    """A memory with what stands in it before the writers come."""
    place = Memory(str(root), ".claude")
    standing = [entry_of(f"standing-{number}", "done", status="success", notes="y" * 300) for number in range(STANDING)]
    place.write(LOG, decide.appended(decide.EMPTY, standing))
    return place


@pytest.mark.req("S2-R19")
@pytest.mark.timeout(600)
def test_writers_at_once_lose_nothing(root: Path) -> None:
    filled(root)

    def write(name: int) -> str:
        words = [sys.executable, "-c", WRITER, str(root), f"w{name}", "5"]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=300).stdout

    with ThreadPoolExecutor(WRITERS) as pool:
        said = "".join(pool.map(write, range(WRITERS))).split()
    assert len(said) == 5 * WRITERS
    there = [each["requested"] for each in entries(root)]
    assert there[:STANDING] == [f"standing-{number}" for number in range(STANDING)]
    assert sorted(there[STANDING:]) == sorted(said)


@pytest.mark.req("S2-R19")
@pytest.mark.timeout(1200)
def test_writers_that_are_killed_lose_no_entry_they_spoke_of(root: Path) -> None:
    place, chance = filled(root), random.Random(20261121)
    spoken: set[str] = set()
    for number in range(KILLS):
        words = [sys.executable, "-c", WRITER, str(root), f"k{number}", "1000"]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            spoken.add(f"k{number}-0")
            time.sleep(chance.uniform(0, 0.05))
            writer.send_signal(signal.SIGKILL)
            spoken |= {line.decode().strip() for line in writer.stdout}
        decide.parse((root / ".claude" / LOG).read_text("utf-8"))
    append(place, [entry_of("after", "done", status="success")])
    there = [each["requested"] for each in entries(root)]
    assert spoken <= set(there)
    assert len(set(there)) == len(there)
    assert there[:STANDING] == [f"standing-{number}" for number in range(STANDING)]
    assert list((root / ".claude").glob(".*.tmp")) == []


@pytest.mark.req("S2-R19")
def test_what_a_killed_writer_left_is_cleared_and_the_archive_move_repeats_nothing(root: Path) -> None:
    place = Memory(str(root), ".claude")
    folder = root / ".claude"
    (folder / f".{LOG}.123.abcdef.tmp").write_text('{"entries": [')
    (folder / ".someone-elses.tmp").write_text("theirs")
    old = [entry_of(f"task {number}", "done", status="success") | {"date": "2020-01-01"} for number in range(250)]
    place.write(LOG, decide.appended(decide.EMPTY, old))
    # As a kill between the two writes of an archive move leaves it: everything in both files.
    place.write(ARCHIVE, decide.appended(decide.EMPTY, old))
    assert append(place, [entry_of("new", "done", status="success")]) == 1
    assert sorted(path.name for path in folder.glob(".*.tmp")) == [".someone-elses.tmp"]
    both = [*place.log(ARCHIVE).entries, *place.log().entries]
    assert [each["requested"] for each in both] == [*(f"task {number}" for number in range(250)), "new"]


@pytest.mark.req("S2-R04", "S2-R19")
def test_a_log_that_somebody_else_edited_is_read_before_it_grows(root: Path) -> None:
    place, file = Memory(str(root), ".claude"), root / ".claude" / LOG
    new = [entry_of("a", "done", status="success")]
    assert [append(place, new), append(place, new)] == [1, 2]
    by_hand = decide.appended(file.read_text(), [{"by": "hand", "umlaut": "ö"}])
    file.write_text(by_hand, encoding="utf-8")
    assert append(place, new) == 4
    assert file.read_text("utf-8").startswith(by_hand[: by_hand.rindex("}\n")].rstrip(" ]\n"))
    (cached,) = Path(os.environ["HEMMA_CACHE_DIR"], "memory").iterdir()
    for odd in ("", "[]", '["x", 1]', "null", json.dumps([json.loads(cached.read_text())[0], "1", 2, 3])):
        cached.write_text(odd)
        assert append(place, new) == len(entries(root))
    file.write_text('{"entries": [}')
    with pytest.raises(HemmaError, match="is no log"):
        append(place, new)


@pytest.mark.req("S2-R08")
def test_two_branches_entries_both_survive_a_merge(root: Path) -> None:
    git(root, "checkout", "-q", "-b", "side")
    hemma(root, "memory", "log", "on the side", "done")
    commit(root, "side")
    git(root, "checkout", "-q", "main")
    hemma(root, "memory", "log", "on main", "done")
    commit(root, "main")
    git(root, "merge", "-q", "--no-edit", "side")
    assert {each["requested"] for each in entries(root)} == {"on the side", "on main"}
    assert "it only grew" in hemma(root, "memory", "check")


@pytest.mark.req("S2-R04", "S2-R08")
def test_history_tells_who_made_it_forget(root: Path) -> None:
    hemma(root, "memory", "log", "first", "done")
    hemma(root, "memory", "log", "second", "done")
    commit(root, "two entries")
    log = root / ".claude" / LOG
    kept = log.read_text("utf-8")
    log.write_text(kept.replace("first", "fisrt"))
    assert "not committed yet" in hemma(root, "memory", "check", code=1)
    commit(root, "rewritten")
    log.write_text(kept)
    commit(root, "and back")
    found = json.loads(hemma(root, "memory", "check", "--json", code=1))
    assert [each for each in found["findings"] if "first" in each], found
    assert "it only grew" in hemma(root, "memory", "check", "--since", "HEAD")


@pytest.mark.req("S2-R08")
def test_a_merge_that_takes_one_side_is_found(root: Path) -> None:
    git(root, "checkout", "-q", "-b", "side")
    hemma(root, "memory", "log", "on the side", "done")
    commit(root, "side")
    git(root, "checkout", "-q", "main")
    (root / "other.txt").write_text("x")
    commit(root, "main")
    git(root, "merge", "-q", "--no-edit", "-s", "ours", "side")
    assert "on the side" in hemma(root, "memory", "check", code=1)


@pytest.mark.req("S2-R08")
def test_the_pre_commit_hook_refuses_to_forget(root: Path) -> None:
    hemma(root, "memory", "log", "kept", "done")
    commit(root, "an entry")
    hemma(root, "hooks", "install")
    (root / ".claude" / LOG).write_text(decide.EMPTY)
    git(root, "add", "-A")
    assert "kept" in git(root, "commit", "-q", "-m", "forget", code=1)


@pytest.mark.req("S2-R11", "S21-R09")
def test_what_hemma_changes_is_noted_with_secrets_masked(root: Path) -> None:
    secret = "hf_" + "a1B2c3D4" * 4
    hemma(root, "commit", "-m", f"token={secret}", code=2)
    (entry,) = entries(root)
    assert entry["status"] == "failed"
    assert entry["requested"].startswith("hemma commit")
    assert secret not in (root / ".claude" / LOG).read_text("utf-8")


@pytest.mark.req("S2-R11")
def test_what_only_asks_leaves_no_note_and_what_changes_does(root: Path) -> None:
    hemma(root, "init", "--show")
    hemma(root, "hooks", "install", "--help")
    assert entries(root) == []
    hemma(root, "hooks", "install")
    hemma(root, "init", "--host", "gpu-box", "--root", "~/work/repo", "--no-interview")
    assert [entry["requested"].split()[1] for entry in entries(root)] == ["hooks", "init"]


@pytest.mark.req("C17")
def test_what_is_said_is_english_whatever_the_locale(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> list[str]:
        return [
            hemma(root, "memory", "log", "--help"),
            hemma(root, "memory", "log", "a", "b", "--status", "gata", code=2),
            hemma(root, "memory", "check", "--since", "no-such-revision", code=2),
        ]

    before = said()
    for name, value in (("LC_ALL", "ro_RO.UTF-8"), ("LANG", "ro_RO.UTF-8"), ("LANGUAGE", "ro")):
        monkeypatch.setenv(name, value)
    assert said() == before


def test_a_broken_log_is_never_written_over(root: Path) -> None:
    (root / ".claude" / LOG).write_text('{"entries": [')
    assert "is no log" in hemma(root, "memory", "log", "a", "b", code=1)
    assert (root / ".claude" / LOG).read_text() == '{"entries": ['


@pytest.mark.req("S2-R08", "C18")
def test_a_clone_without_the_driver_is_told_how_to_merge_by_entries(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    git(root, "clone", "-q", str(root), str(other))
    git(other, "checkout", "-q", "-b", "side")
    hemma(other, "memory", "log", "on the side", "done")
    commit(other, "side")
    git(other, "checkout", "-q", "main")
    hemma(other, "memory", "log", "on main", "done")
    commit(other, "main")
    rows = json.loads(hemma(other, "doctor", "--offline", "--json", code=1))["rows"]
    assert [row["mend"] for row in rows if (row["part"], row["name"]) == ("memory", "merging")] == ["hemma memory init"]
    assert "CONFLICT" in git(other, "merge", "--no-edit", "side", code=1)
    said = hemma(other, "memory", "check", code=1)
    assert "marks of a merge" in said
    remedy = re.search(r"^do +(hemma .*?) {3}\(", said, re.MULTILINE)
    assert remedy, said
    subprocess.run(["sh", "-c", remedy[1]], cwd=other, check=True, capture_output=True)
    commit(other, "merged")
    assert {each["requested"] for each in entries(other)} == {"on the side", "on main"}
    assert "it only grew" in hemma(other, "memory", "check")
    rows = json.loads(hemma(other, "doctor", "--offline", "--json", code=1))["rows"]
    assert not [row for row in rows if row["name"] == "merging"]


@pytest.mark.req("S2-R05", "S2-R13")
def test_two_sides_of_the_concept_need_a_person_who_may_say_so_afterwards(root: Path) -> None:
    git(root, "checkout", "-q", "-b", "side")
    hemma(root, "memory", "concept", "--set", "platform", "Linux")
    commit(root, "side")
    git(root, "checkout", "-q", "main")
    hemma(root, "memory", "concept", "--set", "platform", "macOS")
    commit(root, "main")
    git(root, "merge", "--no-edit", "side", code=1)
    assert "--approve" in hemma(root, "memory", "concept", code=1)
    git(root, "checkout", "--theirs", str(root / ".claude" / CONCEPT))
    commit(root, "merged")
    said = hemma(root, "memory", "check", code=1)
    assert "1 thing was lost" in said
    assert "hemma memory concept --set FIELD VALUE --approve" in said
    hemma(root, "memory", "concept", "--set", "platform", "Linux")  # nobody approved
    assert "without approval" in hemma(root, "memory", "check", code=1)
    hemma(root, "memory", "concept", "--set", "platform", "Linux", "--approve")
    assert "it only grew" in hemma(root, "memory", "check")
    git(root, "add", "-A")
    assert "it only grew" in hemma(root, "memory", "check", "--staged")


@pytest.mark.req("S2-R08", "C18")
def test_a_commit_that_broke_the_log_is_a_finding_and_what_follows_is_looked_at(root: Path) -> None:
    log = root / ".claude" / LOG
    hemma(root, "memory", "log", "first", "done")
    commit(root, "first")
    kept = log.read_text()
    log.write_text(kept[:-4])
    broke = hemma(root, "memory", "check", code=1)
    assert "it ends in the middle" in broke
    assert "git diff HEAD -- " in broke
    commit(root, "cut")
    log.write_text(kept)
    assert "could not be read there" in hemma(root, "memory", "check", code=1)
    commit(root, "back")
    log.write_text(decide.EMPTY)
    found = json.loads(hemma(root, "memory", "check", "--json", code=1))["findings"]
    assert [each.partition(": ")[2][:20] for each in found] == ["a file of the memory", "an entry was removed"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("concept", "stray"), "no field is named"),
        (("concept", "--set", "vison", "x"), "did you mean 'vision'"),
        (("check", "--since", "bogus"), "git knows no revision 'bogus'"),
        (("merge", "no", "such", "file"), "cannot be read"),
    ],
)
def test_a_slip_on_the_command_line_is_refused_and_changes_nothing(
    root: Path, words: tuple[str, ...], said: str
) -> None:
    before = {path: path.read_bytes() for path in (root / ".claude").iterdir()}
    told = hemma(root, "memory", *words, code=2)
    assert said in told
    assert "\ndo " in told
    assert {path: path.read_bytes() for path in (root / ".claude").iterdir()} == before


def test_one_is_one(root: Path) -> None:
    assert hemma(root, "memory", "search", "nothing", code=1) == "warn     no entry holds all of these words\n"
    hemma(root, "memory", "log", "first", "done")
    commit(root, "first")
    assert "in 2 steps\n" in hemma(root, "memory", "check")
    assert "in 1 step\n" in hemma(root, "memory", "check", "--since", "HEAD")


def test_outside_a_clone_nothing_is_noted_and_nothing_fails(tmp_path: Path) -> None:
    done = subprocess.run([HEMMA, "export", "--help"], cwd=tmp_path, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0
    done = subprocess.run(
        [HEMMA, "put", "nothing"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 67, done.stderr
