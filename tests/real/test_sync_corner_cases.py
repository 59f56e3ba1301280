"""What git can be, besides a clone with a branch: a sync does the right thing with it, or says so and leaves all as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from controller.flows import sync as flow
from lanes.merging import Escalation
from manifests.errors import MergeConflict, NeedsPerson, RepositoryError
from tests.real.three_clones import Sync, ThreeClones, make_clones, notebook
from tests.support import WEIRD_NAMES

NAMES = {**WEIRD_NAMES, "not-utf8": os.fsdecode(b"caf\xe9 \xff"), "tab": "a\tb", "option": "--all", "magic": ":(top)x"}


@pytest.fixture
def clones(tmp_path: Path) -> ThreeClones:
    """Local, host, other and origin at one commit."""
    return make_clones(tmp_path)


@pytest.fixture
def sync(clones: ThreeClones) -> Sync:
    """The sync of the local clone with the host's."""
    return Sync(clones)


def clone_anew(clones: ThreeClones, place: str, *options: str) -> None:
    """Another clone in the place of this one."""
    shutil.rmtree(clones.path(place))
    url = clones.path("origin").as_uri()
    subprocess.run(["git", "clone", "-q", *options, url, str(clones.path(place))], check=True, capture_output=True)


def hook(clones: ThreeClones, place: str, name: str, body: str) -> Path:
    """A hook of a clone."""
    path = clones.write(place, f".git/hooks/{name}", f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


# --- names and bytes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(NAMES.values()), ids=list(NAMES))
def test_a_file_of_any_name_goes_both_ways(clones: ThreeClones, sync: Sync, name: str) -> None:
    clones.commit("host", f"src/{name}", "there\n")
    clones.commit("local", f"docs/{name}", "here\n")
    sync()
    assert clones.are_in_step()
    assert (clones.text("local", f"src/{name}"), clones.text("host", f"docs/{name}")) == ("there\n", "here\n")
    clones.commit("host", f"docs/{name}", "one\n")
    clones.publish(f"docs/{name}", "two\n")
    with pytest.raises(MergeConflict) as caught:
        sync("runtime-diverged", "local-edits-host-files")
    assert f"docs/{name}" in caught.value.message
    untouched = clones.write("local", f"docs/{name}", "mine\n")
    clones.git("host", "merge", "--abort")
    assert "local-uncommitted" in sync.questions("runtime-diverged")
    assert untouched.read_text() == "mine\n"


def test_names_that_differ_in_case_alone_stay_two_files(clones: ThreeClones, sync: Sync) -> None:
    clones.write("host", "src/Train.py", "upper\n")
    clones.commit("host", "src/TRAIN.py", "capitals\n")
    sync()
    assert clones.are_in_step()
    for name, content in (("Train.py", "upper\n"), ("TRAIN.py", "capitals\n"), ("train.py", "STEPS = 1\n")):
        assert clones.text("local", f"src/{name}") == content


@pytest.mark.parametrize("how", ["eol=crlf", "autocrlf", "none"])
def test_line_ends_are_those_of_the_checkout(clones: ThreeClones, sync: Sync, how: str) -> None:
    text = notebook().replace("\n", "\r\n") if how == "none" else notebook()
    attributes = {"eol=crlf": "*.ipynb text eol=crlf\n", "autocrlf": "*.ipynb text\n", "none": "* -text\n"}[how]
    clones.write("other", ".gitattributes", attributes)
    clones.publish("n.ipynb", text)
    if how == "autocrlf":
        clones.git("host", "config", "core.autocrlf", "true")
    sync()
    there = clones.path("host", "n.ipynb")
    assert b"\r\n" in there.read_bytes()
    was = there.read_bytes()
    there.write_bytes(was.replace(b"Python 3", b"My env"))
    clones.publish("docs/o.md", "o\n")
    assert sync()[0] == "host discard-metadata"
    assert there.read_bytes() == was
    assert clones.git("host", "status", "--porcelain") == ""


def test_line_ends_alone_are_no_work_and_no_hindrance(clones: ThreeClones, sync: Sync) -> None:
    clones.write("other", ".gitattributes", "*.py text\n")
    clones.publish("src/a.py", "one\ntwo\n")
    sync()
    clones.path("host", "src/a.py").write_bytes(b"one\r\ntwo\r\n")
    clones.publish("docs/o.md", "o")
    # git calls the file changed until its index has been refreshed; whoever is asked may say yes, nothing is lost.
    sync("host-uncommitted")
    assert clones.are_in_step()
    assert clones.path("host", "src/a.py").read_bytes() == b"one\r\ntwo\r\n"


# --- files that git does not know -------------------------------------------------------------------------------------------


@pytest.mark.req("S9-R11")
@pytest.mark.parametrize("place", ["host", "local"])
@pytest.mark.parametrize("how", ["file", "folder", "link", "empty", "below a file", "same"])
def test_ignored_files_are_not_written_over(clones: ThreeClones, sync: Sync, place: str, how: str) -> None:
    path = clones.path(place, "docs/out.log")
    wanted = "docs/out.log/x.md" if how == "below a file" else "docs/out.log"
    if how == "folder":
        clones.write(place, "docs/out.log/inside.log", "mine")
    elif how == "link":
        path.symlink_to("nowhere")
    elif how == "same":
        path.write_text("theirs\n")
    else:
        path.write_text("" if how == "empty" else "mine")
    clones.write("other", wanted, "theirs\n")
    clones.git("other", "add", "--force", wanted)
    clones.publish("docs/o.md", "o")
    before = clones.head(place)
    with pytest.raises(NeedsPerson) as caught:
        sync()
    assert caught.value.code == "untracked-in-the-way"
    assert "docs/out.log" in caught.value.message
    assert clones.head(place) == before
    if how == "link":
        assert path.readlink() == Path("nowhere")
    else:
        left = (path / "inside.log" if how == "folder" else path).read_text()
        assert left == {"empty": "", "same": "theirs\n"}.get(how, "mine")
    path.rename(clones.folder / "elsewhere")
    sync()
    assert clones.are_in_step()


def test_edits_of_which_git_was_told_to_look_away_are_not_lost(clones: ThreeClones, sync: Sync) -> None:
    clones.git("host", "update-index", "--assume-unchanged", "src/train.py")
    clones.write("host", "src/train.py", "STEPS = 7\n")
    clones.publish("src/train.py", "STEPS = 8\n")
    with pytest.raises(RepositoryError, match=r"src/train\.py"):
        sync()
    assert clones.text("host", "src/train.py") == "STEPS = 7\n"


def test_more_changes_than_are_listed_are_still_guarded(clones: ThreeClones, sync: Sync) -> None:
    for number in range(2100):
        clones.write("host", f"out/{number:04}", "x")
    clones.write("host", "zz/last.py", "mine")
    clones.publish("zz/last.py", "theirs")
    with pytest.raises(NeedsPerson, match=r"zz/last\.py"):
        sync()
    assert clones.text("host", "zz/last.py") == "mine"


def test_an_unknown_repository_inside_is_left_alone(clones: ThreeClones, sync: Sync) -> None:
    clones.git("host", "init", "-q", "vendor")
    clones.write("host", "vendor/x.py", "mine")
    clones.publish("docs/o.md", "o")
    sync()
    assert clones.are_in_step()
    clones.publish("vendor/x.py", "theirs")
    with pytest.raises(NeedsPerson, match="vendor"):
        sync()
    assert clones.text("host", "vendor/x.py") == "mine"


# --- kinds of clones -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["host", "local"])
def test_a_shallow_clone_takes_part(clones: ThreeClones, sync: Sync, place: str) -> None:
    clones.publish("docs/o.md", "1")
    clones.publish("docs/o.md", "2")
    clone_anew(clones, place, "--depth", "1")
    sync()
    assert sync.look().host_facts["is_shallow"] == (place == "host")
    clones.commit("host", "src/h.py", "h")
    clones.commit("local", "docs/l.md", "l")
    sync()
    clones.publish("docs/o.md", "3")
    sync()
    assert clones.are_in_step()
    assert clones.path(place, ".git/shallow").exists()


@pytest.mark.parametrize("place", ["host", "local"])
def test_a_sparse_clone_stays_sparse(clones: ThreeClones, sync: Sync, place: str) -> None:
    clones.git(place, "sparse-checkout", "set", "src")
    assert not clones.path(place, "docs").exists()
    clones.publish("docs/guide.md", "# Theirs\n")
    clones.commit("host", "src/h.py", "h")
    sync()
    assert clones.are_in_step()
    assert not clones.path(place, "docs").exists()
    # What lies outside the cone and git does not track is somebody's.
    clones.write(place, "docs/new.md", "mine\n")
    clones.publish("docs/new.md", "theirs\n")
    with pytest.raises(NeedsPerson, match=r"docs/new\.md"):
        sync()
    assert clones.text(place, "docs/new.md") == "mine\n"


def test_a_linked_work_tree_can_be_the_hosts_root(clones: ThreeClones) -> None:
    clones.path("host").rename(clones.path("main-tree"))
    clones.git("main-tree", "switch", "-q", "-c", "elsewhere")
    clones.git("main-tree", "worktree", "add", "-q", str(clones.path("host")), "main")
    sync = Sync(clones)
    clones.commit("host", "src/h.py", "h")
    clones.publish("docs/o.md", "o")
    sync()
    assert clones.are_in_step()
    assert clones.path("host", ".git").is_file()


def test_submodules_are_carried_as_what_they_point_to(clones: ThreeClones, sync: Sync) -> None:
    library = clones.folder / "library"
    subprocess.run(["git", "init", "-q", str(library)], check=True)
    allowed = ["-c", "protocol.file.allow=always"]
    for content in ("1", "2"):
        (library / "x.py").write_text(content)
        subprocess.run(["git", "-C", str(library), "add", "."], check=True)
        subprocess.run(["git", "-C", str(library), "commit", "-qm", content], check=True)
    clones.git("other", *allowed, "submodule", "--quiet", "add", str(library), "vendor/lib")
    clones.publish(".gitmodules.note", "x")
    sync()
    assert clones.are_in_step()
    clones.git("host", *allowed, "submodule", "--quiet", "update", "--init")
    inside = clones.write("host", "vendor/lib/x.py", "mine")
    clones.git("other", "-C", "vendor/lib", "switch", "-q", "--detach", "HEAD~1")
    clones.publish("docs/o.md", "o")
    assert sync.questions() == ["host-overwritten"]
    clones.git("host", "-C", "vendor/lib", "stash", "-q")
    sync()
    assert clones.are_in_step()
    assert inside.read_text() == "2"  # what is checked out inside is the person's to move
    clones.publish("docs/o.md", "o2")
    assert sync.questions() == ["host-uncommitted"]
    sync("host-uncommitted")
    assert clones.are_in_step()


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345\n"


def test_pointers_of_large_files_are_files(clones: ThreeClones, sync: Sync) -> None:
    clones.write("other", ".gitattributes", "*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
    clones.publish("models/a.safetensors", POINTER.format("1" * 64))
    sync()
    assert clones.text("host", "models/a.safetensors") == POINTER.format("1" * 64)
    assert sync.look().host_facts["uses_lfs"]
    clones.commit("host", "models/a.safetensors", POINTER.format("2" * 64))
    sync()
    assert clones.are_in_step()


def test_a_filter_that_is_missing_stops_the_merge_and_nothing_is_lost(clones: ThreeClones, sync: Sync) -> None:
    for key, value in (("smudge", "no-such-program"), ("clean", "no-such-program"), ("required", "true")):
        clones.git("host", "config", f"filter.lfs.{key}", value)
    clones.write("other", ".gitattributes", "*.safetensors filter=lfs -text\n")
    clones.publish("models/a.safetensors", POINTER.format("1" * 64))
    before = clones.head("host")
    with pytest.raises(RepositoryError, match="host: fast-forward"):
        sync()
    assert clones.head("host") == before
    assert clones.text("host", "src/train.py") == "STEPS = 1\n"


@pytest.mark.parametrize("begun", [(), ("local",), ("host",)])
def test_an_empty_repository_is_begun_by_a_person(tmp_path: Path, begun: tuple[str, ...]) -> None:
    clones = ThreeClones(tmp_path)
    subprocess.run(["git", "init", "-q", "--bare", str(clones.path("origin"))], check=True)
    for place in ("local", "host"):
        subprocess.run(
            ["git", "clone", "-q", str(clones.path("origin")), str(clones.path(place))], check=True, capture_output=True
        )
    for place in begun:
        clones.commit(place, "docs/a.md", "a")
    sync = Sync(clones)
    assert set(sync.questions()) <= {"unborn", "no-upstream"}
    assert sync.questions()
    if begun:
        clones.push(begun[0])
        assert sync.questions() == ["unborn"]
        (other,) = {"local", "host"} - set(begun)
        clones.git(other, "pull", "-q", "--ff-only", "origin", "main")
        assert sync() == []


def test_histories_without_a_common_commit_are_not_joined(clones: ThreeClones, sync: Sync) -> None:
    clones.git("host", "switch", "-q", "--orphan", "fresh")
    clones.write("host", "src/train.py", "STEPS = 1000\n")
    clones.git("host", "add", "--all")
    clones.git("host", "commit", "-q", "-m", "Begin again")
    clones.git("host", "branch", "-q", "-M", "fresh", "main")
    before = clones.heads()
    with pytest.raises(RepositoryError, match="unrelated histories"):
        sync()
    assert clones.heads() == before
    assert clones.text("host", "src/train.py") == "STEPS = 1000\n"
    assert sync.look().host_facts["operation"] is None


# --- hooks, locks, settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pre-merge-commit", "commit-msg", "prepare-commit-msg"])
def test_a_hook_that_refuses_a_merge_leaves_it_for_a_person(clones: ThreeClones, sync: Sync, name: str) -> None:
    clones.commit("host", "src/h.py", "h")
    refusing = hook(clones, "host", name, "echo no merges today >&2; exit 1")
    clones.publish("docs/o.md", "o")
    with pytest.raises(MergeConflict, match="a hook refused it: no merges today") as caught:
        sync()
    assert caught.value.code == "merge-not-committed"
    assert sync.questions() == ["operation-in-progress"]
    refusing.unlink()
    assert "hemma run -- git commit --no-edit" in caught.value.remedy
    clones.git("host", "commit", "--no-edit")
    sync()
    assert clones.are_in_step()


def test_a_hook_that_refuses_a_push_leaves_the_commits_on_the_host(clones: ThreeClones, sync: Sync) -> None:
    hook(clones, "host", "pre-push", "echo not yet >&2; exit 1")
    commit, before = clones.commit("host", "src/h.py", "h"), clones.head("origin")
    with pytest.raises(RepositoryError, match="host: push"):
        sync()
    assert (clones.head("host"), clones.head("origin"), clones.head("local")) == (commit, before, before)


def test_a_hook_that_complains_afterwards_changes_nothing(clones: ThreeClones, sync: Sync) -> None:
    for place in ("host", "local"):
        hook(clones, place, "post-merge", "exit 1")
        hook(clones, place, "post-checkout", "exit 1")
    clones.publish("docs/o.md", "o")
    sync()
    assert clones.are_in_step()


def test_an_index_that_gets_locked_on_the_way_stops_the_merge(clones: ThreeClones, sync: Sync) -> None:
    clones.publish("docs/o.md", "o")
    seen = sync.look()
    plan = flow.plan(sync.where, seen)
    lock = clones.path("host", ".git", "index.lock")
    lock.touch()
    before = clones.heads()
    with pytest.raises(RepositoryError, match=r"index\.lock"):
        sync.carry_out(seen, plan)
    lock.unlink()
    assert clones.heads() == before
    sync()
    assert clones.are_in_step()


@pytest.mark.parametrize("place", ["host", "local"])
def test_a_ref_that_another_git_locked_for_good_is_named_and_not_taken_for_a_lost_network(
    clones: ThreeClones, sync: Sync, place: str
) -> None:
    clones.publish("docs/o.md", "o")
    lock = clones.write(place, ".git/refs/remotes/origin/main.lock", "")
    before = clones.heads()
    with pytest.raises(RepositoryError, match=f"{place}: origin cannot be asked: error: cannot lock ref"):
        sync()
    assert clones.heads() == before
    lock.unlink()
    sync()
    assert clones.are_in_step()


def test_fetches_of_one_clone_at_one_moment_all_succeed(clones: ThreeClones, sync: Sync) -> None:
    for number in range(4):
        clones.publish("docs/o.md", str(number))
        with ThreadPoolExecutor(4) as pool:
            looks = [pool.submit(sync.look) for _ in range(4)]
        assert all(look.result().host_facts["fetch"]["is_ok"] for look in looks)


@pytest.mark.req("S9-R08")
@pytest.mark.parametrize(
    "setting",
    [
        "branch.main.mergeOptions=--strategy=ours",
        "branch.main.mergeOptions=--squash",
        "merge.ff=false",
        "merge.ff=only",
        "merge.autoStash=true",
        "pull.rebase=true",
        "branch.main.rebase=true",
        "push.default=nothing",
        "remote.origin.mirror=false",
        "fetch.prune=true",
        "merge.verifySignatures=false",
        "diff.renames=copies",
        "diff.noprefix=true",
        "status.showUntrackedFiles=no",
        "status.relativePaths=false",
        "core.quotePath=true",
        "color.ui=always",
        "core.pager=false",
        "core.editor=false",
        "commit.verbose=true",
        "help.autoCorrect=immediate",
        "log.showSignature=true",
    ],
)
def test_a_users_settings_do_not_bend_a_sync(clones: ThreeClones, sync: Sync, setting: str) -> None:
    name, _, value = setting.partition("=")
    for place in ("host", "local"):
        clones.git(place, "config", name, value)
    there, here = clones.commit("host", "src/h.py", "h"), clones.commit("local", "docs/l.md", "l")
    theirs = clones.publish("docs/o.md", "o")
    sync()
    assert clones.are_in_step()
    for commit in (there, here, theirs):
        clones.git("origin", "merge-base", "--is-ancestor", commit, "main")
    for place in ("local", "host"):
        assert {"src/h.py", "docs/l.md", "docs/o.md"} <= set(clones.git(place, "ls-files").split())
        assert clones.path(place, "docs/o.md").read_text() == "o"


def test_variables_that_name_another_repository_are_not_followed(
    clones: ThreeClones, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    clones.commit("host", "src/h.py", "h")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, str(clones.folder / "nowhere"))
    sync()
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.delenv(name)
    assert clones.are_in_step()


def test_a_file_that_becomes_a_folder_and_a_folder_that_becomes_a_link(clones: ThreeClones, sync: Sync) -> None:
    clones.git("other", "rm", "-q", "docs/guide.md")
    clones.write("other", "docs/guide.md/part.md", "part")
    clones.git("other", "mv", "src", "code")
    clones.path("other", "src").symlink_to("code")
    clones.publish("docs/o.md", "o")
    sync()
    assert clones.are_in_step()
    for place in ("local", "host"):
        assert clones.text(place, "docs/guide.md/part.md") == "part"
        assert clones.path(place, "src").readlink() == Path("code")


def test_a_new_file_that_was_announced_only_is_work(clones: ThreeClones, sync: Sync) -> None:
    clones.write("host", "src/new.py", "mine")
    clones.git("host", "add", "--intent-to-add", "src/new.py")
    clones.publish("docs/o.md", "o")
    found = sync.plan()
    assert isinstance(found, Escalation)
    assert [reason.rule for reason in found.verdict.reasons] == ["host-uncommitted"]
    sync("host-uncommitted")
    assert clones.are_in_step()
    assert clones.text("host", "src/new.py") == "mine"
    (backup,) = clones.backups("host")
    assert clones.git("host", "show", f"{backup}:files/src/new.py") == "mine"


@pytest.mark.parametrize("place", ["host", "local"])
def test_files_that_were_touched_and_not_changed_are_no_hindrance(clones: ThreeClones, sync: Sync, place: str) -> None:
    clones.git(place, "config", "core.safecrlf", "warn")
    clones.git(place, "config", "core.autocrlf", "input")
    for name in ("src/train.py", "docs/guide.md"):
        path = clones.path(place, name)
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        os.utime(path, (1, 1))
    clones.publish("docs/o.md", "o")
    sync()
    assert clones.are_in_step()
