"""Google's own client against our Drive, held to the discovery document; and a plain folder that does the same."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.oauth2.credentials import Credentials

from lanes.pacing import Bucket
from remote.drive.calling import Patience
from remote.drive.folder import BIN, FolderStore
from remote.drive.google import PIECE, RANGE, GoogleStore
from remote.drive.store import (
    DigestMismatch,
    DriveError,
    DriveUnreachable,
    NotInDrive,
    NotReadable,
    NotSignedIn,
    QuotaUsedUp,
    Store,
)
from remote.drive.tree import walk
from tests.drive_emulator import REFRESH, SHORTCUT, Drawn, Emulator, Faults, Refusal, serving
from tests.drive_support import QUICK, store_of

pytestmark = pytest.mark.req("S9-R14", "S9-R16", "S9-R24")

FULL = os.environ.get("HEMMA_FULL") == "1"
ALL_FAULTS = Faults().kinds
# Of what can only befall one of the requests of that test.
FAULTS_OF = {"wrong-bytes": 1, "stale": 1, "twice": 1, "wrong-checksum": 1, "done-but-500": 1}


@pytest.fixture
def drive() -> Iterator[Emulator]:
    with serving() as server:
        yield server
        assert server.violations == []


@pytest.fixture
def google(drive: Emulator) -> Iterator[GoogleStore]:
    store = store_of(drive)
    yield store
    store.close()


@pytest.fixture(params=["google", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "google":
        return request.getfixturevalue("google")
    (tmp_path / "drive").mkdir()
    return FolderStore(str(tmp_path / "drive"))


def root_of(store: Store) -> str:
    return "root" if isinstance(store, GoogleStore) else "."


def put(store: Store, tmp_path: Path, parent: str, name: str, content: bytes) -> str:
    source = tmp_path / "source"
    source.write_bytes(content)
    (file_id,) = store.new_ids(1, parent, [name])
    entry = store.upload(str(source), parent, name, file_id=file_id, is_new=True)
    assert (entry.name, entry.size, entry.kind) == (name, len(content), "file")
    return entry.id


# --- both alike ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\r\n--\r\n\r\nx\r\n", b"\r", b"a\r\r", b"\n", bytes(range(256)) * 99], ids=len
)
def test_what_goes_in_comes_out(store: Store, tmp_path: Path, content: bytes) -> None:
    file_id = put(store, tmp_path, root_of(store), "a file.bin", content)
    assert b"".join(store.read(file_id)) == content
    for offset in (0, 1, len(content)):
        assert b"".join(store.read(file_id, offset, size=len(content))) == content[offset:]


@pytest.mark.parametrize("size", [PIECE, PIECE + 1, RANGE + 12345])
def test_large_files_go_and_come_in_parts(store: Store, tmp_path: Path, size: int) -> None:
    content = Drawn(size)[0:size]
    file_id = put(store, tmp_path, root_of(store), "large", content)
    pieces = list(store.read(file_id, 7, size=size))
    assert b"".join(pieces) == content[7:]
    assert max(map(len, pieces)) <= RANGE


def test_folders_hold_what_was_put_there(store: Store, tmp_path: Path) -> None:
    (folder_id,) = store.new_ids(1, root_of(store), ["runs"])
    folder = store.make_folder(root_of(store), "runs", file_id=folder_id)
    assert store.make_folder(root_of(store), "runs", file_id=folder_id).id == folder.id
    names = {put(store, tmp_path, folder.id, name, b"1"): name for name in ("a", "b", "ü 'q' \\ %41", "-x")}
    assert {entry.id: entry.name for entry in store.list(folder.id)} == names
    assert {entry.parents for entry in store.list_many([folder.id])} == {(folder.id,)}
    assert [entry.id for entry in store.list(root_of(store))] == [folder.id]


def test_the_bin_takes_and_gives_nothing_away(store: Store, tmp_path: Path) -> None:
    file_id = put(store, tmp_path, root_of(store), "gone", b"still here")
    store.trash(file_id)
    assert store.list(root_of(store)) == []
    if isinstance(store, GoogleStore):
        assert store.metadata(file_id).is_trashed
    else:
        assert (tmp_path / "drive" / BIN / "gone.0").read_bytes() == b"still here"


def test_what_is_not_there_is_said_to_be_missing(store: Store) -> None:
    for ask in (store.metadata, store.list, lambda name: list(store.read(name))):
        with pytest.raises(NotInDrive):
            ask("0A" + "x" * 31)


def test_a_new_revision_takes_the_place_of_the_old(store: Store, tmp_path: Path) -> None:
    file_id = put(store, tmp_path, root_of(store), "status.json", b"old")
    before = store.metadata(file_id).version
    (tmp_path / "new").write_bytes(b"newer")
    entry = store.upload(str(tmp_path / "new"), root_of(store), "status.json", file_id=file_id, is_new=False)
    assert (entry.id, entry.size, entry.version != before) == (file_id, 5, True)
    assert b"".join(store.read(file_id)) == b"newer"
    assert len(store.list(root_of(store))) == 1


# --- a folder -----------------------------------------------------------------------------------------------------


def test_a_folder_lets_nothing_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (tmp_path / "drive").mkdir()
    (tmp_path / "drive/link").symlink_to(tmp_path)
    (tmp_path / "drive/pipe").parent.joinpath("pipe").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "drive/pipe")
    store = FolderStore(str(tmp_path / "drive"))
    for name in ("../secret", "link/secret", "link", str(tmp_path / "secret"), "a\0b"):
        with pytest.raises(NotInDrive):
            list(store.read(name))
    assert [entry.name for entry in store.list(".")] == ["pipe"]
    with pytest.raises(NotReadable):
        list(store.read("pipe"))
    for name in ("..", "a/b", "", BIN):
        with pytest.raises(DriveError):
            store.new_ids(1, ".", [name])


def test_linked_folders_in_a_circle_are_read_once(tmp_path: Path) -> None:
    for folder in ("a", "b", "a/deep"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text(folder)
    for link, target in (
        ("a/b", "../b"),
        ("b/a", "../a"),
        ("a/deep/up", "../.."),
        ("a/self", "."),
        ("b/twice", "../a/deep"),
    ):
        (tmp_path / link).symlink_to(target)
    store = FolderStore(str(tmp_path))
    nodes = walk(store, ".")
    files = [node for node in nodes if node.entry.kind == "file"]
    assert sorted(b"".join(store.read(node.entry.id)) for node in files) == [b"a", b"a/deep", b"b"]
    assert len(nodes) == 3 + 3 + 5
    assert min(node.path for node in walk(store, "a/deep") if node.entry.kind == "file") == "file"


def test_a_folder_that_is_not_mounted_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(NotInDrive, match="is not there"):
        FolderStore(str(tmp_path / "nowhere")).list(".")


# --- Drive's own ways ---------------------------------------------------------------------------------------------


def test_lists_of_several_pages_come_whole(drive: Emulator, google: GoogleStore) -> None:
    folder = drive.drive.add("many")
    made = {drive.drive.add(f"f{number}", folder, b"x") for number in range(2501)}
    assert {entry.id for entry in google.list(folder)} == made
    assert drive.counts["drive.files.list"] == 3


def test_same_names_are_told_apart_by_id(drive: Emulator, google: GoogleStore) -> None:
    ids = {drive.drive.add("twin", content=str(number).encode()) for number in range(3)}
    assert {entry.id for entry in google.list("root")} == ids
    assert {b"".join(google.read(file_id)) for file_id in ids} == {b"0", b"1", b"2"}


def test_many_folders_are_listed_in_few_calls(drive: Emulator, google: GoogleStore) -> None:
    folders = [drive.drive.add(f"run{number}") for number in range(120)]
    made = {drive.drive.add("status.json", folder, b"{}"): folder for folder in folders}
    found = {entry.id: entry.parents[0] for entry in google.list_many(folders)}
    assert (found, drive.counts["drive.files.list"]) == (made, 3)


def test_a_group_that_drive_answers_with_nothing_is_asked_one_by_one(drive: Emulator, google: GoogleStore) -> None:
    folders = [drive.drive.add(f"run{number}") for number in range(5)]
    made = {drive.drive.add("x", folder, b"x") for folder in folders}
    drive.group_is_blind = True
    assert {entry.id for entry in google.list_many(folders)} == made


def test_shortcuts_shared_drives_and_documents_say_what_they_are(drive: Emulator, google: GoogleStore) -> None:
    shared = drive.drive.add("in a shared drive", content=b"s", driveId="0AbcDEF")
    details = {"targetId": shared, "targetMimeType": "text/plain"}
    drive.drive.add("a way there", mime=SHORTCUT, shortcutDetails=details)
    drive.drive.add("a page", mime="application/vnd.google-apps.document")
    found = {entry.name: entry for entry in google.list("root")}
    assert (found["a way there"].kind, found["a way there"].target, found["a way there"].target_kind) == (
        "shortcut", shared, "file",
    )  # fmt: skip
    assert (found["in a shared drive"].drive_id, found["a page"].kind) == ("0AbcDEF", "document")


def test_an_item_behind_a_resource_key_needs_it(drive: Emulator, google: GoogleStore) -> None:
    file_id = drive.drive.add("old", content=b"behind a key", resourceKey="0-key_1")
    with pytest.raises(NotInDrive):
        google.metadata(file_id)
    google.use_key(file_id, "0-key_1")
    assert google.metadata(file_id).name == "old"
    assert b"".join(google.read(file_id)) == b"behind a key"


def test_metadata_without_content_is_told_apart_from_absence(drive: Emulator, google: GoogleStore) -> None:
    file_id = drive.drive.add("sealed", content=b"x", capabilities={"canDownload": False})
    assert google.metadata(file_id).may_download is False
    with pytest.raises(NotReadable, match="cannotDownloadFile"):
        list(google.read(file_id))


def test_changes_tell_what_is_new_and_what_is_gone(drive: Emulator, google: GoogleStore) -> None:
    kept, lost = drive.drive.add("kept", content=b"1"), drive.drive.add("lost", content=b"1")
    token = google.start_token()
    assert token is not None
    assert google.changes(token).entries == ()
    drive.drive.fill(kept, b"22")
    drive.drive.files.pop(lost)
    drive.drive.log.append(lost)
    for number in range(1500):
        drive.drive.add(f"n{number}", content=b"")
    changed = google.changes(token)
    assert (len(changed.entries), changed.gone) == (1501, (lost,))
    assert next(entry.size for entry in changed.entries if entry.id == kept) == 2
    assert google.changes(changed.token).entries == ()


# --- faults -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [*ALL_FAULTS, "page"])
def test_each_fault_is_overcome(drive: Emulator, google: GoogleStore, tmp_path: Path, fault: str) -> None:
    drive.faults.next = [fault] * FAULTS_OF.get(fault, 2)
    file_id = put(google, tmp_path, "root", "f", b"some bytes")
    google.list("root")
    content = b"".join(google.read(file_id, size=10))
    assert content == b"some bytes" or fault == "wrong-bytes"
    assert drive.faults.seen[fault] == FAULTS_OF.get(fault, 2)
    assert len(drive.drive.named("f")) == 1


@pytest.mark.parametrize("fault", ["truncated", "hang-up", "503", "expired"])
def test_a_large_upload_goes_on_after_a_break(drive: Emulator, google: GoogleStore, tmp_path: Path, fault: str) -> None:
    content = Drawn(3 * PIECE + 5)[0 : 3 * PIECE + 5]
    drive.faults.choose = every_second_part(fault, 2)
    put(google, tmp_path, "root", "large", content)
    (file,) = drive.drive.named("large")
    assert drive.drive.content[file["id"]] == content
    # At worst a part is sent again for each break; nothing begins anew.
    assert drive.counts["upload part"] <= 4 + 2 * 3


def every_second_part(fault: str, most: int) -> Callable[[set[str]], str]:
    """This fault at every second request for a part of an upload, `most` times."""
    turns = itertools.count()

    def choose(possible: set[str]) -> str:
        is_part = not possible & {"stale", "done-but-500", "wrong-bytes"}
        turn = next(turns) if is_part else 0
        return fault if turn % 2 and turn < 2 * most else ""

    return choose


def test_an_upload_is_taken_up_by_another_process(drive: Emulator, tmp_path: Path) -> None:
    source, sessions = tmp_path / "large", dict[str, str]()
    source.write_bytes(Drawn(4 * PIECE)[0 : 4 * PIECE])
    first = store_of(drive, Patience(tries=1), sessions=sessions)
    (file_id,) = first.new_ids(1, "root", ["large"])
    drive.faults.choose = lambda _: "503" if drive.counts["upload part"] >= 3 else ""
    with pytest.raises(DriveUnreachable):
        first.upload(str(source), "root", "large", file_id=file_id, is_new=True)
    drive.faults = Faults()
    sent = drive.counts["upload part"]
    second = store_of(drive, sessions=sessions)
    entry = second.upload(str(source), "root", "large", file_id=file_id, is_new=True)
    second.close()
    first.close()
    assert (entry.md5, sessions) == (Drawn(4 * PIECE).md5(), {})
    assert drive.counts["upload part"] - sent == 1 + 2


def test_a_wait_that_drive_asks_for_is_kept(drive: Emulator, google: GoogleStore) -> None:
    drive.refusals.append(Refusal(429, "rateLimitExceeded", **{"Retry-After": "1"}))
    google.metadata("root")
    first, second = drive.moments
    assert second - first >= 1.0


def test_a_silent_server_is_given_up_after_all_tries(drive: Emulator) -> None:
    store = store_of(drive, Patience(tries=2, first_s=0.001, most_s=0.01, timeout_s=0.15))
    drive.faults.next = ["slow"] * 4
    with pytest.raises(DriveUnreachable, match="2 tries") as caught:
        store.metadata("root")
    store.close()
    assert caught.value.exit_code == 255


def test_nobody_there_is_unreachable_not_a_traceback() -> None:
    store = GoogleStore(
        Credentials("a-token"), endpoint="http://127.0.0.1:9", patience=Patience(2, first_s=0.001, most_s=0.01)
    )
    with pytest.raises(DriveUnreachable):
        store.metadata("root")


def test_a_sign_in_that_was_withdrawn_says_so(drive: Emulator) -> None:
    credentials = Credentials(
        "old", refresh_token="no", token_uri=f"{drive.address}/token", client_id="c", client_secret="s"
    )
    store = GoogleStore(credentials, endpoint=drive.address, patience=QUICK)
    with pytest.raises(NotSignedIn) as caught:
        store.metadata("root")
    store.close()
    assert (caught.value.exit_code, caught.value.remedy) == (75, "hemma drive login")


def test_an_expired_token_is_renewed_without_a_word(drive: Emulator) -> None:
    credentials = Credentials(
        "old", refresh_token=REFRESH, token_uri=f"{drive.address}/token", client_id="c", client_secret="s"
    )
    store = GoogleStore(credentials, endpoint=drive.address, patience=QUICK)
    assert store.metadata("root").kind == "folder"
    store.close()
    assert drive.counts["token"] == 1


def test_a_quota_that_is_used_up_is_not_tried_again(drive: Emulator, google: GoogleStore) -> None:
    drive.refusals.append(Refusal(403, "storageQuotaExceeded"))
    with pytest.raises(QuotaUsedUp):
        google.metadata("root")
    assert drive.counts["drive.files.get"] == 1


def test_bytes_that_never_arrive_right_are_an_error(drive: Emulator, google: GoogleStore, tmp_path: Path) -> None:
    drive.faults.next = ["wrong-checksum"] * 3
    with pytest.raises(DigestMismatch):
        put(google, tmp_path, "root", "f", b"x")


def test_threads_have_their_own_connections_and_share_the_pace(drive: Emulator) -> None:
    store = store_of(drive, bucket=Bucket(rate_per_s=200, burst=1))
    ids = [drive.drive.add(f"f{number}", content=str(number).encode()) for number in range(60)]
    begun = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda file_id: b"".join(store.read(file_id)), ids))
    took = time.monotonic() - begun
    store.close()
    assert found == [str(number).encode() for number in range(60)]
    assert took >= 59 / 200
    assert threading.active_count() < 40


@pytest.mark.parametrize("seed", range(40 if FULL else 4))
def test_under_many_faults_nothing_is_wrong_doubled_or_lost(seed: int, tmp_path: Path) -> None:
    """Ten files each way at 25 % faults; HEMMA_FULL=1: 40 seeds, else 4. Read again until the checksum is right."""
    faults = Faults(rate=0.25, seed=seed)
    with serving(faults=faults) as drive:
        store = store_of(drive)
        made = {put(store, tmp_path, "root", f"f{n}", f"content {n}".encode() * n): n for n in range(10)}
        for file_id, number in made.items():
            md5 = store.metadata(file_id).md5
            content = f"content {number}".encode() * number
            assert md5 in (hashlib.md5(content).hexdigest(), "0" * 32)
            while b"".join(store.read(file_id)) != content:
                assert faults.seen["wrong-bytes"]
        store.close()
        assert sorted(file["name"] for file in drive.drive.below("root")) == [f"f{n}" for n in range(10)]
        assert drive.violations == []
    assert faults.seen.total() > 5
