"""Dispatch, status and collect, against Drive and against a plain folder: nothing doubled, nothing wrong, nothing lost."""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller import trust
from controller.flows import colab_collect, colab_dispatch, colab_status, colab_view
from controller.flows.drive import Place
from controller.settings import read_files
from manifests.errors import HemmaError, NotTrusted, UsageError
from remote.drive.calling import Patience
from remote.drive.folder import FolderStore
from remote.drive.store import DriveUnreachable, NotInDrive
from tests.drive_emulator import SHORTCUT, Drawn, Emulator, Faults, serving
from tests.drive_support import make_slice, place_on, put_run, run_files, status_of

FULL = os.environ.get("HEMMA_FULL") == "1"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of a Drive is kept for this test alone."""
    monkeypatch.setenv("HEMMA_STATE_DIR", str(tmp_path / "hemma"))


@pytest.fixture
def drive() -> Iterator[Emulator]:
    with serving() as server:
        yield server
        assert server.violations == []


@pytest.fixture
def place(drive: Emulator) -> Iterator[Place]:
    made = place_on(drive)
    yield made
    made.store.close()


@pytest.fixture
def folder_place(tmp_path: Path) -> Place:
    (tmp_path / "drive").mkdir()
    return Place(FolderStore(str(tmp_path / "drive")), ".", "folder")


def tree_of(drive: Emulator, *names: str) -> dict[str, bytes | Drawn]:
    """path -> content of everything below a folder; fails when a name is there twice."""
    (top,) = drive.drive.named(*names)
    found: dict[str, bytes | Drawn] = {}

    def read(folder: str, start: str) -> None:
        children = [f for f in drive.drive.files.values() if folder in f["parents"] and not f["trashed"]]
        counted = Counter(child["name"] for child in children)
        assert max(counted.values(), default=1) == 1, counted
        for child in children:
            path = start + child["name"]
            if child["id"] in drive.drive.content:
                found[path] = drive.drive.content[child["id"]]
            else:
                read(child["id"], path + "/")

    read(top["id"], "")
    return found


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- dispatch -----------------------------------------------------------------------------------------------------


@pytest.mark.req("S9-R30", "S9-R31")
def test_a_slice_arrives_whole_with_the_link_that_opens_it(drive: Emulator, place: Place, tmp_path: Path) -> None:
    slice_ = make_slice(tmp_path, files={"files/data/words.txt": b"a\nb\n", "files/ü.bin": bytes(999)})
    done = colab_dispatch.dispatch(place, str(slice_))
    assert tree_of(drive, "slices", slice_.name) == files_in(slice_)
    (notebook,) = drive.drive.named("slices", slice_.name, "notebook.ipynb")
    assert done.link == f"https://colab.research.google.com/drive/{notebook['id']}"
    assert (len(done.sent), done.present, done.size_bytes) == (6, (), sum(map(len, files_in(slice_).values())))
    log = drive.drive.log
    index = drive.drive.named("slices", slice_.name, "slice.json")[0]["id"]
    assert max(log.index(file["id"]) for file in drive.drive.below("root")) == log.index(index)


def test_a_second_dispatch_sends_nothing(drive: Emulator, place: Place, tmp_path: Path) -> None:
    slice_ = make_slice(tmp_path)
    first = colab_dispatch.dispatch(place, str(slice_))
    before = dict(drive.counts)
    second = colab_dispatch.dispatch(place, str(slice_))
    assert (second.sent, second.link, second.folder_id) == ((), first.link, first.folder_id)
    assert drive.counts["drive.files.create"] == before["drive.files.create"]
    assert drive.counts["drive.files.update"] == 0


def test_another_machine_finds_what_is_there(drive: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slice_ = make_slice(tmp_path)
    for machine in ("one", "two"):
        monkeypatch.setenv("HEMMA_STATE_DIR", str(tmp_path / machine))
        place = place_on(drive)
        done = colab_dispatch.dispatch(place, str(slice_))
        place.store.close()
        assert len(done.sent) == (4 if machine == "one" else 0)
    tree_of(drive, "slices", slice_.name)


def test_a_damaged_or_doubled_file_is_made_right_by_id(drive: Emulator, place: Place, tmp_path: Path) -> None:
    slice_ = make_slice(tmp_path)
    colab_dispatch.dispatch(place, str(slice_))
    (rows,) = drive.drive.named("slices", slice_.name, "rows.jsonl")
    drive.drive.fill(rows["id"], b"damaged")
    (folder,) = drive.drive.named("slices", slice_.name)
    drive.drive.add("notebook.ipynb", folder["id"], b"a copy that Colab saved")
    done = colab_dispatch.dispatch(place, str(slice_))
    assert done.sent == ("rows.jsonl",)
    assert drive.drive.content[rows["id"]] == (slice_ / "rows.jsonl").read_bytes()
    assert drive.drive.content[done.notebook_id or ""] == (slice_ / "notebook.ipynb").read_bytes()


def test_what_a_person_threw_away_is_made_anew(drive: Emulator, place: Place, tmp_path: Path) -> None:
    slice_ = make_slice(tmp_path)
    first = colab_dispatch.dispatch(place, str(slice_))
    drive.drive.files[first.folder_id]["trashed"] = True
    second = colab_dispatch.dispatch(place, str(slice_))
    assert second.folder_id != first.folder_id
    assert tree_of(drive, "slices", slice_.name) == files_in(slice_)
    assert first.notebook_id
    drive.drive.files[second.notebook_id or ""]["trashed"] = True
    third = colab_dispatch.dispatch(place, str(slice_))
    assert third.notebook_id != second.notebook_id
    assert tree_of(drive, "slices", slice_.name) == files_in(slice_)


def test_a_slice_that_was_changed_is_not_sent(drive: Emulator, place: Place, tmp_path: Path) -> None:
    slice_ = make_slice(tmp_path)
    (slice_ / "rows.jsonl").write_bytes(b'{"id": "b"}\n')
    with pytest.raises(HemmaError, match=r"rows\.jsonl") as caught:
        colab_dispatch.dispatch(place, str(slice_))
    assert caught.value.code == "slice-broken"
    with pytest.raises(UsageError, match="is no slice"):
        colab_dispatch.dispatch(place, str(tmp_path))
    assert drive.counts.total() == 0


def test_a_folder_takes_a_slice_as_drive_does(folder_place: Place, tmp_path: Path) -> None:
    slice_ = make_slice(tmp_path, files={"files/a/b.txt": b"x"})
    first = colab_dispatch.dispatch(folder_place, str(slice_))
    target = tmp_path / "drive/slices" / slice_.name
    assert files_in(target) == files_in(slice_)
    assert first.link == str(target / "notebook.ipynb")
    (target / "rows.jsonl").write_bytes(b"x")
    assert colab_dispatch.dispatch(folder_place, str(slice_)).sent == ("rows.jsonl",)
    assert files_in(target) == files_in(slice_)


def test_a_break_at_any_moment_leaves_nothing_double(tmp_path: Path) -> None:
    """The server goes away after each request in turn; the dispatch is started again until it is done."""
    slice_ = make_slice(tmp_path, files={"files/a.txt": b"a"})
    for number in range(1, 16 if not FULL else 40):
        with serving() as drive:
            requests = iter(range(1, 10**6))
            drive.faults.choose = lambda possible, n=number, r=requests: _break_from(possible, n, next(r))
            place = place_on(drive, patience=Patience(tries=1, timeout_s=5))
            with pytest.raises(DriveUnreachable) if number < 12 else _may(DriveUnreachable):
                colab_dispatch.dispatch(place, str(slice_))
            place.store.close()
            drive.faults.choose = None
            again = place_on(drive)
            colab_dispatch.dispatch(again, str(slice_))
            again.store.close()
            assert tree_of(drive, "slices", slice_.name) == files_in(slice_)
            assert len(drive.drive.named("slices")) == 1


def _break_from(possible: set[str], first: int, number: int) -> str:
    if number < first:
        return ""
    return "done-but-500" if "done-but-500" in possible and number == first else "503"


class _may:  # noqa: N801 - reads as a word where it is used
    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, self.error)


# --- status -------------------------------------------------------------------------------------------------------


@pytest.mark.req("S9-R14", "S9-R24")
def test_fifty_runs_are_read_in_few_calls_and_again_in_one(drive: Emulator, place: Place) -> None:
    runs = drive.drive.add("runs")
    made = [put_run(drive, runs, f"run-{n:02}", run_files(f"run-{n:02}", done=n)) for n in range(50)]
    rows = colab_status.rows(place)
    assert [(row.run, row.done, row.files) for row in rows] == [(f"run-{n:02}", n, 8) for n in range(50)]
    assert drive.counts.total() <= 1 + 1 + 1 + 1 + 4 + 50
    drive.counts.clear()
    assert [dataclasses.replace(row, age_s=0) for row in colab_status.rows(place)] == [
        dataclasses.replace(row, age_s=0) for row in rows
    ]
    assert drive.counts == {"drive.changes.list": 1}
    drive.counts.clear()
    drive.drive.fill(made[7]["status.json"], status_of("run-07", done=99))
    assert colab_status.rows(place)[7].done == 99
    assert drive.counts.total() == 2


def test_a_view_follows_new_gone_moved_and_renamed_runs(drive: Emulator, place: Place) -> None:
    runs, elsewhere = drive.drive.add("runs"), drive.drive.add("elsewhere")
    made = [put_run(drive, runs, f"run-{n}") for n in range(4)]
    assert len(colab_status.rows(place)) == 4
    put_run(drive, runs, "run-9")
    drive.drive.files[made[0][""]]["trashed"] = True
    drive.drive.files[made[1][""]]["parents"] = [elsewhere]
    drive.drive.files[made[2][""]]["name"] = "renamed"
    for number in (0, 1, 2):
        drive.drive.log.append(made[number][""])
    drive.drive.files.pop(made[3]["logs/run.log"])
    drive.drive.log.append(made[3]["logs/run.log"])
    drive.counts.clear()
    rows = colab_status.rows(place)
    assert [(row.run, row.files) for row in rows] == [("renamed", 8), ("run-3", 7), ("run-9", 8)]
    assert drive.counts["drive.files.list"] <= 3
    assert [row.run for row in colab_status.rows(place, is_fresh=True)] == ["renamed", "run-3", "run-9"]


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b'{"format": 1', b"[1]", b'{"format":1,"place":["drive","root"],"entries":[3]}']
)
def test_a_damaged_view_is_made_anew(drive: Emulator, place: Place, damage: bytes) -> None:
    put_run(drive, drive.drive.add("runs"), "run-1")
    colab_status.rows(place)
    Path(colab_view._path(place)).write_bytes(damage)
    assert [row.run for row in colab_status.rows(place)] == ["run-1"]


def test_a_token_that_drive_forgot_means_to_look_anew(drive: Emulator, place: Place) -> None:
    put_run(drive, drive.drive.add("runs"), "run-1")
    colab_status.rows(place)
    drive.drive.log.clear()
    assert [row.run for row in colab_status.rows(place)] == ["run-1"]


@pytest.mark.req("S9-R16")
def test_what_can_be_seen_and_not_read_is_said(drive: Emulator, place: Place) -> None:
    runs = drive.drive.add("runs")
    sealed = put_run(drive, runs, "run-sealed")
    for path in ("status.json", "artifacts/report.md", "logs/run.log"):
        drive.drive.files[sealed[path]]["capabilities"] = {"canDownload": False}
    torn = put_run(drive, runs, "run-torn", {"status.json": status_of("x")[:40]})
    drive.drive.add("notes", torn[""], mime="application/vnd.google-apps.document")
    put_run(drive, runs, "run-young", {"run.json": b"{}"})
    rows = {row.run: row for row in colab_status.rows(place)}
    assert [each.path for each in rows["run-sealed"].unread] == ["status.json", "logs/run.log", "artifacts/report.md"]
    assert "not downloading" in rows["run-sealed"].alert
    assert (rows["run-torn"].state, rows["run-young"].state) == ("unreadable", "unknown")
    assert "not whole" in rows["run-torn"].alert
    found = colab_status.doctor(place, "run-sealed")
    assert [(each["path"], each["metadata"], each["content"]) for each in found["files"][:3]] == [
        ("status.json", True, False), ("run.json", True, True), ("logs/run.log", True, False),
    ]  # fmt: skip
    assert any("can be seen" in each["fact"] for each in found["findings"])


@pytest.mark.req("S9-R15")
def test_a_link_is_used_without_a_search(drive: Emulator, place: Place) -> None:
    made = put_run(drive, drive.drive.add("somewhere else"), "run-far")
    for link in (
        f"https://drive.google.com/drive/u/1/folders/{made['']}?usp=sharing",
        f"https://drive.google.com/file/d/{made['status.json']}/view",
        made[""],
    ):
        drive.counts.clear()
        (row,) = colab_status.rows(place, [link])
        assert (row.run, row.files) == ("run-far", 8)
        assert drive.counts["drive.files.list"] <= 2
    with pytest.raises(NotInDrive):
        colab_status.rows(place, ["1" + "Ab9" * 10])


def test_runs_behind_shortcuts_and_of_doubled_names_are_found(drive: Emulator, place: Place) -> None:
    runs = drive.drive.add("runs")
    far = put_run(drive, drive.drive.add("shared"), "run-far")
    details = {"targetId": far[""], "targetMimeType": "application/vnd.google-apps.folder"}
    drive.drive.add("run-near", runs, mime=SHORTCUT, shortcutDetails=details)
    twins = [put_run(drive, runs, "twin", {"status.json": status_of("twin", done=n)}) for n in range(2)]
    drive.drive.add("a loop", twins[0][""], mime=SHORTCUT, shortcutDetails={**details, "targetId": runs})
    rows = colab_status.rows(place)
    assert len(rows) == 3
    assert {row.done for row in rows} == {40, 0, 1}
    drive.drive.fill(far["status.json"], status_of("run-far", done=77))
    assert {row.done for row in colab_status.rows(place)} == {77, 0, 1}


def test_a_folder_shows_its_runs(folder_place: Place, tmp_path: Path) -> None:
    for path, content in run_files("run-1", done=3, ago_s=9000).items():
        target = tmp_path / "drive/runs/run-1" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (row,) = colab_status.rows(folder_place)
    assert (row.run, row.state, row.done, row.files) == ("run-1", "silent", 3, 8)
    found = colab_status.doctor(folder_place, "last")
    assert "Run all" in found["findings"][0]["do"]
    (tmp_path / "drive/runs/run-1/status.json").write_bytes(status_of("run-1", state="finished", exit_code=0))
    assert colab_status.rows(folder_place, ["run-1"])[0].state == "finished"


def test_logs_are_given_once_and_followed_to_the_end(folder_place: Place, tmp_path: Path) -> None:
    log, status = tmp_path / "drive/runs/r/logs/run.log", tmp_path / "drive/runs/r/status.json"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"one\n")
    status.write_bytes(status_of("r"))
    seen: list[bytes] = []
    notices: list[str] = []

    def go_on() -> None:
        time.sleep(1.2)
        with log.open("ab") as file:
            file.write(b"two \xff\n")
        time.sleep(1.2)
        log.write_bytes(b"new\n")
        status.write_bytes(status_of("r", state="finished", exit_code=0))

    thread = threading.Thread(target=go_on)
    thread.start()
    row = colab_status.logs(folder_place, "r", follow=True, write=seen.append, notice=notices.append)
    thread.join()
    assert (b"".join(seen), row.state) == (b"one\ntwo \xff\nnew\n", "finished")
    assert notices == ["==> logs/run.log", "logs/run.log was written anew"]


# --- collect ------------------------------------------------------------------------------------------------------


@pytest.mark.req("S9-R14", "S9-R24")
def test_a_run_is_collected_and_then_only_what_changed(drive: Emulator, place: Place, tmp_path: Path) -> None:
    made = put_run(drive, drive.drive.add("runs"), "run-1")
    target = tmp_path / "here"
    done = colab_collect.collect(place, "run-1", made[""], str(target))
    assert files_in(target) == tree_of(drive, "runs", "run-1")
    assert (len(done.changed), done.unchanged, done.failed) == (8, 0, [])
    drive.counts.clear()
    again = colab_collect.collect(place, "run-1", made[""], str(target))
    assert (again.changed, again.unchanged) == ([], 8)
    assert drive.counts["drive.files.get"] == 0
    drive.drive.fill(made["logs/run.log"], b"more\n")
    (target / "run.json").write_text("touched here")
    drive.counts.clear()
    third = colab_collect.collect(place, "run-1", made[""], str(target))
    assert sorted(third.changed) == ["logs/run.log", "run.json"]
    assert drive.counts["drive.files.get"] == 2
    assert files_in(target) == tree_of(drive, "runs", "run-1")


def test_a_lost_record_costs_no_transfer(drive: Emulator, place: Place, tmp_path: Path) -> None:
    made = put_run(drive, drive.drive.add("runs"), "run-1")
    colab_collect.collect(place, "run-1", made[""], str(tmp_path / "here"))
    shutil.rmtree(Path(os.environ["HEMMA_STATE_DIR"]) / "drive/collected")
    assert colab_collect.collect(place, "run-1", made[""], str(tmp_path / "here")).changed == []


def test_partial_results_are_usable_and_the_rest_comes_later(drive: Emulator, place: Place, tmp_path: Path) -> None:
    made = put_run(drive, drive.drive.add("runs"), "run-1")
    drive.drive.files[made["artifacts/report.md"]]["capabilities"] = {"canDownload": False}
    done = colab_collect.collect(place, "run-1", made[""], str(tmp_path / "here"))
    assert [each["path"] for each in done.failed] == ["artifacts/report.md"]
    assert len(done.changed) == 7
    drive.drive.files[made["artifacts/report.md"]]["capabilities"] = {"canDownload": True}
    assert colab_collect.collect(place, "run-1", made[""], str(tmp_path / "here")).changed == ["artifacts/report.md"]


def test_a_broken_transfer_goes_on_where_it_broke(drive: Emulator, tmp_path: Path) -> None:
    from remote.drive.google import RANGE

    folder = drive.drive.add("run")
    drive.drive.add("model.bin", folder, Drawn(5 * RANGE))
    media = iter(range(10**6))
    drive.faults.choose = lambda possible: "503" if "wrong-bytes" in possible and next(media) >= 3 else ""
    place = place_on(drive, patience=Patience(tries=1, timeout_s=5))
    with pytest.raises(DriveUnreachable):
        colab_collect.collect(place, "run", folder, str(tmp_path / "here"))
    assert not (tmp_path / "here/model.bin").exists()
    drive.faults.choose = None
    before = drive.counts["drive.files.get"]
    done = colab_collect.collect(place, "run", folder, str(tmp_path / "here"))
    place.store.close()
    assert drive.counts["drive.files.get"] - before == 2
    assert (tmp_path / "here/model.bin").read_bytes() == Drawn(5 * RANGE)[0 : 5 * RANGE]
    assert (done.changed, os.listdir(tmp_path / "here")) == (["model.bin"], ["model.bin"])


@pytest.mark.req("S9-R16")
def test_names_from_drive_stay_inside_the_folder(drive: Emulator, place: Place, tmp_path: Path) -> None:
    folder = drive.drive.add("run")
    for name in ("..", "../../escape", "/etc/passwd", "a\0b", "CON", "x" * 300, "status.json", "status.json"):
        drive.drive.add(name, folder, name.encode())
    drive.drive.add("deep", drive.drive.add("..", folder), b"1")
    done = colab_collect.collect(place, "run", folder, str(tmp_path / "in/here"))
    assert (len(done.changed), done.failed) == (9, [])
    assert [path.name for path in tmp_path.iterdir() if path.name != "hemma"] == ["in"]
    assert os.listdir(tmp_path / "in") == ["here"]
    assert len(files_in(tmp_path / "in/here")) == 9


def test_nothing_is_collected_through_a_link_out_of_the_folder(folder_place: Place, tmp_path: Path) -> None:
    (tmp_path / "drive/runs/run-1/out").mkdir(parents=True)
    (tmp_path / "drive/runs/run-1/out/file").write_text("theirs")
    (tmp_path / "drive/runs/run-1/loop").symlink_to(".")
    (tmp_path / "here").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "here/out").symlink_to(tmp_path / "outside")
    done = colab_collect.collect(folder_place, "run-1", "runs/run-1", str(tmp_path / "here"))
    assert [(each["path"], "leads through a link out of" in each["why"]) for each in done.failed] == [
        ("out/file", True)
    ]
    assert os.listdir(tmp_path / "outside") == []


def test_a_file_that_changes_while_it_is_read_is_never_half_one_and_half_the_other(
    drive: Emulator, place: Place, tmp_path: Path
) -> None:
    folder = drive.drive.add("run")
    file_id = drive.drive.add("spool.jsonl", folder, b"old\n" * 1000)
    asked = iter(range(10**6))

    def rewrite(possible: set[str]) -> str:
        if "wrong-bytes" in possible and next(asked) < 2:
            drive.drive.fill(file_id, b"new!" * (1000 + next(asked)))
        return ""

    drive.faults.choose = rewrite
    done = colab_collect.collect(place, "run", folder, str(tmp_path / "here"))
    assert done.failed == []
    assert (tmp_path / "here/spool.jsonl").read_bytes() == drive.drive.content[file_id]


def test_memory_does_not_grow_with_the_file(drive: Emulator, place: Place, tmp_path: Path) -> None:
    import tracemalloc

    from remote.drive.google import RANGE

    folder = drive.drive.add("run")
    for number in range(2):
        drive.drive.add(f"m{number}", folder, Drawn(6 * RANGE, number))
    tracemalloc.start()
    colab_collect.collect(place, "run", folder, str(tmp_path / "here"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Our Drive lives in the same process and makes each piece, twice for a moment: it counts here as well.
    assert peak < 2 * 6 * RANGE


# --- faults -------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(1800 if FULL else 120)
@pytest.mark.req("S9-R24", "S9-R36")
def test_rounds_of_dispatch_and_collect_under_faults(tmp_path: Path) -> None:
    """Dispatch, status, collect at a fault rate of 10 %: no wrong byte, nothing double, nothing lost.

    30 rounds; HEMMA_FULL=1: 1,000.
    """
    faults = Faults(rate=0.10, seed=5)
    with serving(faults=faults) as drive:
        place = place_on(drive)
        runs = drive.drive.add("runs")
        for number in range(1000 if FULL else 30):
            slice_ = make_slice(tmp_path, f"s{number}", {"files/a.bin": bytes([number % 256]) * (number % 50)})
            colab_dispatch.dispatch(place, str(slice_))
            assert tree_of(drive, "slices", slice_.name) == files_in(slice_)
            content = {"status.json": status_of("r"), "spool/0.jsonl": b'{"row": %d}\n' % number * (number % 9 + 1)}
            made = put_run(drive, runs, f"r{number:04}", content)
            assert colab_status.find(place, made[""])[0].run == f"r{number:04}"
            _collected(place, made[""], tmp_path / f"c{number}", content)
            shutil.rmtree(slice_)
            shutil.rmtree(tmp_path / f"c{number}")
            for file in drive.drive.below(made[""]) + drive.drive.below(drive.drive.named("slices")[0]["id"]):
                drive.drive.files.pop(file["id"])
                drive.drive.content.pop(file["id"], None)
        place.store.close()
        assert drive.violations == []
    assert faults.seen.total() > 40
    assert set(faults.seen) >= {"429", "done-but-500", "truncated"}


def _collected(place: Place, folder: str, target: Path, content: dict[str, bytes]) -> None:
    """Collect until all is there: a stale listing hides a file until it is listed again."""
    found: dict[str, bytes] = {}
    for _ in range(6):
        done = colab_collect.collect(place, "r", folder, str(target))
        assert done.failed == []
        found = files_in(target)
        assert all(found[path] == content[path] for path in found)
        if set(found) == set(content):
            return
    raise AssertionError(f"only {sorted(found)} of {sorted(content)}")


def test_hemma_status_has_the_runs_of_drive_beside_those_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.hemma]\n")
    assert colab_status.beside(str(tmp_path), os.environ) == {"runs": [], "problem": None}
    (tmp_path / "pyproject.toml").write_text('[tool.hemma]\ndrive = "folder:my-drive"\n')
    with pytest.raises(NotTrusted):
        colab_status.beside(str(tmp_path), os.environ)
    trust.allow(str(tmp_path), read_files(str(tmp_path), os.environ).project)
    found = colab_status.beside(str(tmp_path), os.environ)
    assert (found["runs"], found["problem"]["error"]) == ([], "drive-not-found")
    run = tmp_path / "my-drive/runs/run-1"
    run.mkdir(parents=True)
    (run / "status.json").write_bytes(status_of("run-1"))
    assert [each["run"] for each in colab_status.beside(str(tmp_path), os.environ)["runs"]] == ["run-1"]
