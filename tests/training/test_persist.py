"""Results reach a directory, a second host and the hub whole or not at all, and are read back there by digest."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from manifests.errors import HemmaError
from tests.support import WEIRD_NAMES
from tests.training import hub_stand_in
from training.content import tree
from training.errors import NoRoom
from training.persist import MANIFEST, Backend, Held, concrete, digest_of, listing_of
from training.persist_backends import backend_for
from training.persist_host import parsed

NAME = "tiny-text/20261121T101112-1f2e3d4c"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A result with files of every kind of name, in folders, and an empty one."""
    folder = tmp_path / "result"
    for number, name in enumerate(["model.safetensors", "config.json", "tokenizer/vocab.txt", "Z", "a  b", "empty"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"" if name == "empty" else bytes([number]) * (100_000 * number + 17))
    return folder


def directory(tmp_path: Path, destination: str = "store", name: str = NAME) -> Backend:
    """The back-end of a directory below tmp_path."""
    return backend_for({"kind": "directory", "destination": destination}, root=tmp_path, name=name)


# --- destinations -------------------------------------------------------------------------------------------------


@pytest.mark.req("S6-R05")
@pytest.mark.parametrize(
    "destination",
    [
        "",
        " ",
        "your-name/model",
        "<namespace>/x",
        "{org}/x",
        "$HOME/x",
        "TODO",
        "a/../../b",
        "models/*",
        "a\nb",
        "placeholder",
    ],
)
def test_placeholder_is_no_destination(destination: str, tmp_path: Path) -> None:
    with pytest.raises(HemmaError, match="no concrete place"):
        backend_for({"kind": "directory", "destination": destination}, root=tmp_path, name=NAME)


@pytest.mark.req("S6-R05")
@pytest.mark.parametrize(("kind", "destination"), [("host", "no-folder"), ("host", "-oProxyCommand=id:x"), ("host", "h:"), ("hub", "alone"), ("hub", "a/b/c"), ("drive", "x")])  # fmt: skip
def test_destination_of_the_wrong_shape_is_refused(kind: str, destination: str, tmp_path: Path) -> None:
    with pytest.raises(HemmaError) as caught:
        backend_for({"kind": kind, "destination": destination}, root=tmp_path, name=NAME)
    assert caught.value.code == "destination-refused"
    assert caught.value.remedy


def test_ordinary_places_are_concrete() -> None:
    for place in ("~/hemma-models", "/srv/models v2", "backup:models", "me/tiny-text", "models/åäö"):
        assert concrete(place) == place


# --- a directory --------------------------------------------------------------------------------------------------


@pytest.mark.req("S14-R03", "C26")
def test_result_is_there_whole_and_read_back_by_the_digest_of_its_source(tmp_path: Path, result: Path) -> None:
    backend = directory(tmp_path)
    assert backend.resolve()["is_there"] is False
    receipt = backend.put(result)
    assert receipt["sha256"] == tree(result) == backend.verify(receipt)["sha256"]
    place = Path(receipt["destination"])
    assert place == tmp_path / "store" / NAME
    assert receipt["url"] == place.as_uri()
    assert digest_of(listing_of(place)) == receipt["sha256"]
    assert (place / "tokenizer/vocab.txt").read_bytes() == (result / "tokenizer/vocab.txt").read_bytes()
    assert sorted(each.name for each in place.parent.iterdir()) == [place.name]


def test_pushing_twice_changes_nothing(tmp_path: Path, result: Path) -> None:
    first = directory(tmp_path).put(result)
    before = {path: path.stat().st_mtime_ns for path in Path(first["destination"]).rglob("*")}
    second = directory(tmp_path).put(result)
    assert (first["is_new"], second["is_new"]) == (True, False)
    assert before == {path: path.stat().st_mtime_ns for path in Path(first["destination"]).rglob("*")}


def test_other_result_in_its_place_is_never_written_over(tmp_path: Path, result: Path) -> None:
    place = Path(directory(tmp_path).put(result)["destination"])
    (result / "config.json").write_bytes(b"other")
    with pytest.raises(HemmaError) as caught:
        directory(tmp_path).put(result)
    assert caught.value.code == "destination-taken"
    assert (place / "config.json").read_bytes() != b"other"


@pytest.mark.req("S14-R03")
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "add", "empty"])
def test_damage_at_the_destination_is_seen(tmp_path: Path, result: Path, damage: str) -> None:
    backend = directory(tmp_path)
    receipt = backend.put(result)
    file = Path(receipt["destination"]) / "tokenizer/vocab.txt"
    content = file.read_bytes()
    if damage == "remove":
        file.unlink()
    elif damage == "add":
        file.with_name("more.txt").write_bytes(b"")
    else:
        file.write_bytes({"flip": content[:-1] + b"\xff", "truncate": content[:-1], "empty": b""}[damage])
    seen = backend.verify(receipt)
    assert seen["sha256"] != receipt["sha256"]
    assert len(seen["differences"]) == 1
    shutil.rmtree(receipt["destination"])
    with pytest.raises(HemmaError, match="is not there"):
        backend.verify(receipt)


@pytest.mark.req("S14-R04")
def test_push_that_was_killed_shows_nothing_and_is_gone_on_with(tmp_path: Path, result: Path) -> None:
    """SIGKILL in the middle: what was staged whole is kept, and the next push ends it."""
    (result / "big.bin").write_bytes(os.urandom(40 << 20))
    program = (
        "import sys, pathlib; from training.persist_backends import backend_for\n"
        "spec, root = {'kind': 'directory', 'destination': 'store'}, pathlib.Path(sys.argv[1])\n"
        "say = lambda done, total, what: print(what, flush=True)\n"
        "backend_for(spec, root=root, name=sys.argv[2]).put(root / 'result', say)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), NAME], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    with child:
        while "copy big.bin" not in child.stdout.readline():
            assert child.poll() is None
        child.send_signal(signal.SIGKILL)
    place = tmp_path / "store" / NAME
    assert not place.exists()
    staged = place.with_name(f".{place.name}.staged")
    kept = staged / "big.bin"
    assert kept.exists()
    (staged / "stale").write_bytes(b"of another push")
    before = kept.stat().st_ino
    receipt = directory(tmp_path).put(result)
    assert (place / "big.bin").stat().st_ino == before
    assert directory(tmp_path).verify(receipt)["differences"] == []


def test_files_that_change_while_they_are_copied_are_refused(tmp_path: Path, result: Path) -> None:
    def change(_done: int, _total: int | None, what: str) -> None:
        if what.startswith("copy"):
            (result / "config.json").write_bytes(b"changed meanwhile")
            (result / "tokenizer/vocab.txt").write_bytes(b"changed meanwhile")

    with pytest.raises(HemmaError, match="changed while it was copied"):
        directory(tmp_path).put(result, change)
    assert not (tmp_path / "store" / NAME).exists()


def test_nothing_to_keep_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / MANIFEST).write_text("{}")
    with pytest.raises(HemmaError) as caught:
        directory(tmp_path).put(tmp_path / "result")
    assert caught.value.code == "nothing-to-keep"


def test_weird_names_arrive(tmp_path: Path, result: Path, weird_path: Path) -> None:
    (result / weird_path.name).mkdir(exist_ok=True)
    (result / weird_path.name / weird_path.name).write_bytes(b"x")
    receipt = directory(tmp_path).put(result)
    assert directory(tmp_path).verify(receipt)["sha256"] == tree(result)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_write_permission_is_refused_before_the_launch(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o500)
    with pytest.raises(HemmaError, match="cannot be written"):
        directory(tmp_path).resolve()


def test_file_in_the_way_is_refused_before_the_launch(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(HemmaError, match="cannot be written"):
        directory(tmp_path).resolve()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=200", "tmpfs", str(place)], check=False
    ).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_full_disk_is_told_with_its_bytes_and_leaves_nothing(small_disk: Path, tmp_path: Path, result: Path) -> None:
    (result / "big.bin").write_bytes(b"x" * (6 << 20))
    with pytest.raises(NoRoom) as caught:
        directory(tmp_path, str(small_disk)).put(result)
    assert caught.value.needed_bytes > 6 << 20
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []


def test_disk_that_fills_up_meanwhile_leaves_nothing_half_visible(
    small_disk: Path, tmp_path: Path, result: Path
) -> None:
    (result / "big.bin").write_bytes(b"x" * (2 << 20))

    def fill(_done: int, _total: int | None, what: str) -> None:
        if what.startswith("copy"):
            (small_disk / "other").write_bytes(b"y" * shutil.disk_usage(small_disk).free)

    with pytest.raises(NoRoom):
        directory(tmp_path, str(small_disk)).put(result, fill)
    assert [path.name for path in small_disk.rglob("*") if path.is_file()] == ["other"]


# --- a second host ------------------------------------------------------------------------------------------------


def over_ssh(host: str, folder: Path, name: str = NAME) -> Backend:
    """The back-end of a folder of the second host."""
    return backend_for({"kind": "host", "destination": f"{host}:{folder}"}, root=folder, name=name)


@pytest.mark.req("S14-R03")
def test_result_reaches_a_second_host_and_is_hashed_there(second_host: str, tmp_path: Path, result: Path) -> None:
    backend = over_ssh(second_host, tmp_path / "there")
    facts = backend.resolve()
    assert facts["destination"] == f"{second_host}:{tmp_path}/there/tiny-text/{NAME.rpartition('/')[2]}"
    assert facts["free_bytes"] > 0
    receipt = backend.put(result)
    assert receipt["is_new"]
    assert backend.verify(receipt)["sha256"] == tree(result)
    place = tmp_path / "there" / NAME
    assert sorted(each.name for each in place.parent.iterdir()) == [place.name]
    assert (place / MANIFEST).exists()
    assert not backend.put(result)["is_new"]
    (place / "config.json").write_bytes(b"damaged")
    assert backend.verify(receipt)["differences"] == ["config.json is changed"]
    with pytest.raises(HemmaError) as caught:
        backend.put(result)
    assert caught.value.code == "destination-taken"


def test_weird_names_and_folders_are_only_data_over_there(second_host: str, tmp_path: Path, result: Path) -> None:
    names = [name for kind, name in WEIRD_NAMES.items() if kind != "newline"]
    for name in [*names, "two\nlines"]:
        (result / name).mkdir(exist_ok=True)
        (result / name / name).write_bytes(name.encode())
    for name in names:
        if not any(c in name for c in "*?$"):
            backend = over_ssh(second_host, tmp_path / "there" / name, name="run/x")
            assert backend.verify(backend.put(result))["sha256"] == tree(result)


def test_push_to_a_host_goes_on_where_it_stopped(second_host: str, tmp_path: Path, result: Path) -> None:
    staged = tmp_path / "there" / "tiny-text" / f".{NAME.rpartition('/')[2]}.staged"
    staged.mkdir(parents=True)
    shutil.copy(result / "config.json", staged)
    (staged / "Z").write_bytes(b"torn")
    before = (staged / "config.json").stat().st_ino
    receipt = over_ssh(second_host, tmp_path / "there").put(result)
    place = tmp_path / "there" / NAME
    assert (place / "config.json").stat().st_ino == before
    assert over_ssh(second_host, tmp_path / "there").verify(receipt)["differences"] == []


def test_full_disk_over_there_is_told_and_leaves_nothing(
    second_host: str, small_disk: Path, result: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (result / "big.bin").write_bytes(os.urandom(6 << 20))
    with pytest.raises(NoRoom):
        over_ssh(second_host, small_disk).put(result)
    # Also when the room is gone only on the way: df said otherwise.
    backend = over_ssh(second_host, small_disk)
    monkeypatch.setattr(backend, "_demand_room", lambda *_: None)
    with pytest.raises(NoRoom) as caught:
        backend.put(result)
    assert caught.value.needed_bytes > 6 << 20
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []


def test_host_that_does_not_answer_is_refused_with_its_words(second_host: str, tmp_path: Path) -> None:
    with pytest.raises(HemmaError) as caught:
        over_ssh("nobody-knows-this-host", tmp_path).resolve()
    assert caught.value.code == "destination-unreachable"
    assert "nobody-knows-this-host" in caught.value.message


FLAKY = """\
#!/bin/sh
n=$(cat "$0.count" 2>/dev/null || echo 0); n=$((n+1)); echo $n > "$0.count"
case "$*" in *"tar -xf"*) if [ ! -e "$0.cut" ]; then : > "$0.cut"; head -c 60000 >/dev/null; exit 255; fi;; esac
shift; while [ "$1" != -- ]; do shift; done; shift; shift; exec sh -c "$1"
"""


def test_cut_link_is_tried_again(tmp_path: Path, result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bin" / "ssh"
    fake.parent.mkdir()
    fake.write_text(FLAKY)
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(fake.parent), prepend=os.pathsep)
    backend = over_ssh("flaky", tmp_path / "there")
    assert backend.verify(backend.put(result))["sha256"] == tree(result)
    assert (tmp_path / "bin" / "ssh.cut").exists()


def test_hashes_are_read_as_coreutils_writes_them() -> None:
    one, two = "0" * 64, "f" * 64
    said = f"Welcome!\n{one}  ./a b\n\\{two}  ./back\\\\slash\\nnew\n{one}  ./{MANIFEST}\n{two} *./binary\n"
    assert parsed(said) == {"a b": one, "back\\slash\nnew": two, "binary": two}


# --- the hub ------------------------------------------------------------------------------------------------------


def on_hub(tmp_path: Path, destination: str = "team/tiny-text") -> Backend:
    """The back-end of a repository."""
    return backend_for({"kind": "hub", "destination": destination}, root=tmp_path, name=NAME)


@pytest.mark.req("S14-R03")
def test_result_reaches_the_hub_in_one_commit_and_is_read_back(
    hub: hub_stand_in.StandIn, tmp_path: Path, result: Path
) -> None:
    backend = on_hub(tmp_path)
    assert backend.resolve()["is_there"] is False
    receipt = backend.put(result)
    assert receipt["url"] == f"{hub.url}/team/tiny-text/tree/{receipt['revision']}"
    assert backend.verify(receipt)["sha256"] == tree(result) == receipt["sha256"]
    assert "model.safetensors" in hub.large_names
    assert MANIFEST in hub.commits[receipt["revision"]]
    hub.commits[receipt["revision"]]["config.json"] = b"x" * len(hub.commits[receipt["revision"]]["config.json"])
    hub.commits[receipt["revision"]]["model.safetensors"] = b"other"
    del hub.commits[receipt["revision"]]["Z"]
    seen = backend.verify(receipt)
    assert seen["differences"] == ["Z is missing", "config.json is changed", "model.safetensors is changed"]
    assert seen["sha256"] != receipt["sha256"]


@pytest.mark.req("S14-R04")
def test_namespace_that_is_not_ours_is_refused_before_the_launch(hub: hub_stand_in.StandIn, tmp_path: Path) -> None:
    with pytest.raises(HemmaError, match="may not write to stranger") as caught:
        on_hub(tmp_path, "stranger/model").resolve()
    assert caught.value.remedy == "name one of: me, team"


def test_token_that_the_hub_does_not_know_is_refused_and_not_shown(
    hub: hub_stand_in.StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf" + "_" + "unknown-canary")
    with pytest.raises(HemmaError) as caught:
        on_hub(tmp_path).resolve()
    assert "401" in caught.value.message
    assert "canary" not in f"{caught.value.message}{caught.value.remedy}"


def test_hub_that_breaks_off_leaves_no_commit(hub: hub_stand_in.StandIn, tmp_path: Path, result: Path) -> None:
    hub.fails.add("/api/models/team/tiny-text/commit/main")
    with pytest.raises(HemmaError) as caught:
        on_hub(tmp_path).put(result)
    assert caught.value.code == "destination-unreachable"
    assert hub.commits == {}


def test_hub_without_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", hub_stand_in.TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", value=True)
    begun = time.monotonic()
    with pytest.raises(HemmaError) as caught:
        on_hub(tmp_path).resolve()
    assert caught.value.code == "destination-unreachable"
    assert time.monotonic() - begun < 10


# --- digests ------------------------------------------------------------------------------------------------------


def test_digest_is_the_one_of_the_executor(result: Path) -> None:
    """The executor compares with training.content.tree: both must mean the same, whatever sorts before what."""
    for name in ("a/b", "a.b", "a-b", "A", "b/a/c"):
        (result / "deep" / name).parent.mkdir(parents=True, exist_ok=True)
        (result / "deep" / name).write_bytes(name.encode())
    assert digest_of(listing_of(result)) == tree(result)
    assert digest_of({"x": Held(hashlib.sha256(b"").hexdigest(), 0)}) != digest_of({})
