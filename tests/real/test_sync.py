"""Every branch of a sync with real git: merge only, nothing lost, and a person is asked where a person has to judge."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from controller.flows import evidence
from controller.flows import sync as flow
from lanes.merging import Escalation, SyncPlan
from manifests.errors import HemmaError, MergeConflict, NeedsPerson, RepositoryError
from tests.real.three_clones import LOGIC, Sync, ThreeClones, make_clones, notebook
from tests.support import WEIRD_NAMES


@pytest.fixture
def clones(tmp_path: Path) -> ThreeClones:
    """Local, host, other and origin at one commit."""
    return make_clones(tmp_path)


@pytest.fixture
def sync(clones: ThreeClones) -> Sync:
    """The sync of the local clone with the host's."""
    return Sync(clones)


def lay_out(clones: ThreeClones, name: str, content: str | bytes) -> None:
    """A file that all clones and origin have."""
    clones.commit("host", name, content)
    clones.push("host")
    clones.git("local", "pull", "-q", "--ff-only")


# --- directions ------------------------------------------------------------------------------------------------------


@pytest.mark.req("S9-R05")
def test_fresh_clones_need_nothing_and_one_round_trip(clones: ThreeClones, sync: Sync) -> None:
    before = clones.snapshot()
    assert sync() == []
    assert clones.snapshot() == before
    assert sync.asked == ["git-state"]


@pytest.mark.req("S9-R05")
def test_the_hosts_commits_go_to_origin_and_come_here(clones: ThreeClones, sync: Sync) -> None:
    commit = clones.commit("host", "src/train.py", "STEPS = 2\n")
    assert sync() == ["host push", "local fetch", "local fast-forward"]
    assert set(clones.heads().values()) == {commit}
    assert clones.text("local", "src/train.py") == "STEPS = 2\n"
    assert sync() == []


def test_documents_committed_here_go_to_origin_and_the_host(clones: ThreeClones, sync: Sync) -> None:
    commit = clones.commit("local", "docs/guide.md", "# Better\n")
    assert sync() == ["local push", "host fetch", "host fast-forward"]
    assert set(clones.heads().values()) == {commit}
    assert clones.text("host", "docs/guide.md") == "# Better\n"


def test_work_on_both_sides_meets_in_one_merge(clones: ThreeClones, sync: Sync) -> None:
    there, here = clones.commit("host", "src/new.py", "x\n"), clones.commit("local", "docs/new.md", "y\n")
    sync()
    assert clones.are_in_step()
    assert clones.git("origin", "log", "-1", "--format=%P", "main").split() == [here, there]
    assert clones.text("host", "docs/new.md") == "y\n"


def test_what_others_pushed_comes_to_both(clones: ThreeClones, sync: Sync) -> None:
    commit = clones.publish("docs/theirs.md", "theirs\n")
    sync()
    assert set(clones.heads().values()) == {commit}


def test_all_three_moved_and_meet(clones: ThreeClones, sync: Sync) -> None:
    commits = [clones.commit("host", "src/h.py", "h"), clones.commit("local", "docs/l.md", "l")]
    commits.append(clones.publish("docs/o.md", "o"))
    sync()
    assert clones.are_in_step()
    for commit in commits:
        clones.git("origin", "merge-base", "--is-ancestor", commit, "main")
    assert {"src/h.py", "docs/l.md", "docs/o.md"} <= set(clones.git("local", "ls-files").split())


@pytest.mark.req("S9-R10")
def test_documents_of_others_are_merged_on_the_host_but_code_is_asked_about(clones: ThreeClones, sync: Sync) -> None:
    clones.commit("host", "src/h.py", "h")
    clones.publish("docs/o.md", "o")
    assert sync()[:3] == ["host fetch", "host merge", "host push"]
    clones.commit("host", "src/h.py", "h2")
    clones.publish("src/o.py", "o")
    before = clones.snapshot()
    assert sync.questions() == ["runtime-diverged"]
    assert clones.snapshot() == before
    assert "host merge" in sync("runtime-diverged")
    assert clones.are_in_step()


@pytest.mark.req("S9-R03")
def test_commits_made_here_of_the_hosts_files_are_asked_about(clones: ThreeClones, sync: Sync) -> None:
    clones.commit("local", "src/train.py", "STEPS = 9\n")
    assert sync.questions() == ["local-edits-host-files"]
    sync("local-edits-host-files")
    assert clones.text("host", "src/train.py") == "STEPS = 9\n"


def test_a_rename_is_seen_with_both_its_names(clones: ThreeClones, sync: Sync) -> None:
    clones.git("local", "mv", "src/train.py", "docs/train.md")
    clones.git("local", "commit", "-q", "-m", "move")
    assert sync.questions() == ["local-edits-host-files"]


# --- the host's uncommitted work -----------------------------------------------------------------------------------------


@pytest.mark.req("S9-R09")
def test_uncommitted_work_on_the_host_is_asked_about_and_stays_beside_the_merge(
    clones: ThreeClones, sync: Sync
) -> None:
    clones.write("host", "src/train.py", "STEPS = 3\n")
    clones.publish("docs/o.md", "o")
    before = clones.snapshot()
    assert sync.questions() == ["host-uncommitted"]
    assert clones.snapshot() == before
    sync("host-uncommitted")
    assert clones.are_in_step()
    assert clones.text("host", "src/train.py") == "STEPS = 3\n"
    assert clones.git("host", "show", f"{kept(clones)}:files/src/train.py") == "STEPS = 3"


def kept(clones: ThreeClones, place: str = "host") -> str:
    """The one backup of this place."""
    (found,) = clones.backups(place)
    return found


@pytest.mark.parametrize("content", ["theirs\n", "mine\n"])
@pytest.mark.parametrize("is_tracked", [True, False])
def test_what_would_be_written_over_cannot_be_accepted(
    clones: ThreeClones, sync: Sync, content: str, *, is_tracked: bool
) -> None:
    name = "src/train.py" if is_tracked else "new/folder/new.py"
    clones.write("host", name, content)
    clones.publish(name, "theirs\n")
    before = clones.snapshot()
    assert sync.questions(*flow_rules()) == ["host-overwritten"]
    assert clones.snapshot() == before


def flow_rules() -> list[str]:
    from lanes.merging import ACCEPTABLE

    return list(ACCEPTABLE)


def test_uncommitted_work_on_the_host_is_nobodys_business_while_nothing_comes_in(
    clones: ThreeClones, sync: Sync
) -> None:
    clones.write("host", "src/train.py", "STEPS = 3\n")
    clones.commit("local", "README.md", "# Hello\n")
    clones.git("local", "reset", "-q", "--soft", "HEAD~1")
    clones.git("host", "commit", "-q", "--allow-empty", "-m", "empty")
    found = sync.plan()
    assert isinstance(found, SyncPlan)
    assert found.notes[0].endswith("left alone: src/train.py")
    assert sync() == ["host push", "local fetch", "local fast-forward"]
    assert clones.text("host", "src/train.py") == "STEPS = 3\n"


@pytest.mark.req("S18-R03")
def test_metadata_of_a_notebook_is_put_back_after_a_backup(clones: ThreeClones, sync: Sync) -> None:
    lay_out(clones, "n.ipynb", notebook())
    drifted = notebook(kernel="My env", count=7)
    path = clones.write("host", "n.ipynb", drifted)
    path.chmod(0o755)
    clones.git("host", "config", "core.fileMode", "false")
    clones.publish("docs/o.md", "o")
    assert sync()[0] == "host discard-metadata"
    assert clones.text("host", "n.ipynb") == notebook()
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert clones.git("host", "show", f"{kept(clones)}:files/n.ipynb") + "\n" == drifted
    assert clones.git("host", "status", "--porcelain") == ""


@pytest.mark.req("S9-R11", "S18-R03")
@pytest.mark.parametrize(
    ("change", "meant"),
    [
        (notebook("!hemma status"), {}),
        (notebook()[:40], {}),
        ("", {}),
        (notebook(kernel="My env"), {"metadata": "intended"}),
        (notebook(kernel="My env"), {"intended": ["kernelspec"]}),
    ],
    ids=["source", "cut", "empty", "meant", "key-meant"],
)
def test_what_was_meant_in_a_notebook_is_never_touched(clones: ThreeClones, change: str, meant: dict[str, Any]) -> None:
    lay_out(clones, "n.ipynb", notebook())
    sync = Sync(clones, meant=meant)
    clones.write("host", "n.ipynb", change)
    clones.publish("docs/o.md", "o")
    assert sync.questions() == ["host-uncommitted"]
    sync("host-uncommitted")
    assert clones.text("host", "n.ipynb") == change


def test_a_notebook_that_says_its_metadata_is_meant_is_never_touched(clones: ThreeClones, sync: Sync) -> None:
    lay_out(clones, "n.ipynb", notebook(metadata="intended"))
    clones.write("host", "n.ipynb", notebook(kernel="My env", metadata="intended"))
    clones.publish("docs/o.md", "o")
    assert sync.questions() == ["host-uncommitted"]


@pytest.mark.parametrize("how", ["staged", "mode", "link"])
def test_drift_that_is_more_than_content_is_no_metadata(clones: ThreeClones, sync: Sync, how: str) -> None:
    lay_out(clones, "n.ipynb", notebook())
    path = clones.write("host", "n.ipynb", notebook(count=7))
    if how == "staged":
        clones.git("host", "add", "n.ipynb")
    elif how == "mode":
        path.chmod(0o755)
    else:
        clones.write("host", "elsewhere.ipynb", notebook(count=7))
        path.unlink()
        path.symlink_to("elsewhere.ipynb")
    clones.publish("docs/o.md", "o")
    assert sync.questions() == ["host-uncommitted"]


def test_drift_that_became_work_while_we_looked_is_not_put_back(clones: ThreeClones, sync: Sync) -> None:
    lay_out(clones, "n.ipynb", notebook())
    clones.write("host", "n.ipynb", notebook(count=7))
    clones.publish("docs/o.md", "o")
    seen = sync.look()
    plan = flow.plan(sync.where, seen)
    clones.write("host", "n.ipynb", notebook("!hemma status"))
    with pytest.raises(HemmaError, match="changed on the host meanwhile") as caught:
        sync.carry_out(seen, plan)
    assert (caught.value.code, caught.value.exit_code) == ("changed-meanwhile", 75)
    assert clones.text("host", "n.ipynb") == notebook("!hemma status")


def test_a_notebook_with_drift_takes_what_comes_in(clones: ThreeClones, sync: Sync) -> None:
    lay_out(clones, "n.ipynb", notebook())
    clones.write("host", "n.ipynb", notebook(count=7))
    clones.publish("n.ipynb", notebook("!hemma status"))
    sync()
    assert clones.text("host", "n.ipynb") == notebook("!hemma status")


# --- logic in cells --------------------------------------------------------------------------------------------------


@pytest.mark.req("S9-R12")
@pytest.mark.parametrize("way", ["from origin", "from the host", "from here"])
def test_logic_that_moves_into_cells_is_asked_about_whichever_way_it_goes(
    clones: ThreeClones, sync: Sync, way: str
) -> None:
    lay_out(clones, "n.ipynb", notebook())
    if way == "from origin":
        clones.publish("n.ipynb", LOGIC)
    else:
        clones.commit("host" if way == "from the host" else "local", "n.ipynb", LOGIC)
    rules = sync.questions("local-edits-host-files")
    assert rules == ["logic-in-cells"]
    seen = sync.look()
    shown = evidence.of(seen, "logic-in-cells", ["n.ipynb"])
    assert "n.ipynb: cell 0" in shown
    assert "[function]" in shown
    sync("logic-in-cells", "local-edits-host-files")
    assert clones.are_in_step()


def test_a_notebook_of_the_documents_may_hold_what_it_likes(clones: ThreeClones, sync: Sync) -> None:
    clones.commit("local", "docs/tour.ipynb", LOGIC)
    assert sync.questions() == ["local-edits-host-files", "logic-in-cells"]
    clones.write("local", "pyproject.toml", '[tool.hemma.lanes]\n"docs/**" = "local"\n')
    assert Sync(clones).questions() == []


def test_a_notebook_that_held_logic_before_is_not_asked_about_again(clones: ThreeClones, sync: Sync) -> None:
    lay_out(clones, "n.ipynb", LOGIC)
    clones.commit("host", "n.ipynb", notebook("def clean(row):\n    return row"))
    assert sync.questions() == []


@pytest.mark.req("S9-R01")
def test_a_notebook_is_classified_by_what_the_version_under_way_says(clones: ThreeClones, sync: Sync) -> None:
    clones.commit("local", "colab/x.ipynb", notebook())
    assert sync.questions() == []
    clones.commit("local", "colab/x.ipynb", notebook(lane="hemma"))
    clones.write("local", "colab/x.ipynb", notebook())
    assert sync.questions() == ["local-edits-host-files"]


# --- who else works there ----------------------------------------------------------------------------------------------


def test_a_conflict_on_the_host_leaves_both_sides_and_can_be_finished(clones: ThreeClones, sync: Sync) -> None:
    clones.commit("host", "docs/guide.md", "# Host\n")
    clones.publish("docs/guide.md", "# Origin\n")
    before = clones.heads()
    with pytest.raises(MergeConflict) as caught:
        sync("runtime-diverged")
    assert "docs/guide.md" in caught.value.message
    assert "hemma run -- git merge --abort" in caught.value.remedy
    assert caught.value.exit_code == 75
    assert clones.heads() == before
    both = clones.text("host", "docs/guide.md")
    assert "# Host" in both
    assert "# Origin" in both
    assert sync.questions() == ["operation-in-progress"]
    clones.write("host", "docs/guide.md", "# Both\n")
    clones.git("host", "add", "docs/guide.md")
    clones.git("host", "commit", "-q", "--no-edit")
    sync()
    assert clones.are_in_step()
    assert clones.text("local", "docs/guide.md") == "# Both\n"


def test_a_conflict_can_be_given_up_and_all_is_as_before(clones: ThreeClones, sync: Sync) -> None:
    clones.commit("local", "docs/guide.md", "# Here\n")
    clones.commit("host", "docs/guide.md", "# There\n")
    with pytest.raises(MergeConflict, match=r"local: both sides changed docs/guide\.md"):
        sync()
    clones.git("local", "merge", "--abort")
    assert clones.text("local", "docs/guide.md") == "# Here\n"
    assert clones.git("local", "status", "--porcelain") == ""
    with pytest.raises(MergeConflict):
        sync()


def test_uncommitted_work_here_is_in_nobodys_way_or_stops_the_sync(clones: ThreeClones, sync: Sync) -> None:
    clones.write("local", "docs/guide.md", "# Mine\n")
    clones.commit("host", "src/train.py", "STEPS = 2\n")
    sync()
    assert clones.are_in_step()
    assert clones.text("local", "docs/guide.md") == "# Mine\n"
    clones.publish("docs/guide.md", "# Theirs\n")
    before = clones.snapshot()
    assert sync.questions() == ["local-uncommitted"]
    assert clones.snapshot() == before
    clones.git("local", "stash", "push", "-q")
    sync()
    assert clones.are_in_step()


@pytest.mark.parametrize("place", ["local", "host"])
def test_a_clone_that_is_not_ready_is_left_alone(clones: ThreeClones, sync: Sync, place: str) -> None:
    clones.publish("docs/o.md", "o")
    clones.git(place, "switch", "-q", "--detach")
    assert sync.questions() == ["detached"]
    clones.git(place, "switch", "-q", "-c", "other")
    assert sync.questions() == ["other-branch"]
    clones.git(place, "switch", "-q", "main")
    lock = clones.path(place, ".git", "index.lock")
    lock.touch()
    assert sync.questions() == ["index-locked"]
    lock.unlink()
    clones.git(place, "switch", "-q", "--orphan", "new")
    assert sync.questions()[0] == "unborn"
    clones.git(place, "switch", "-q", "main")
    assert sync.questions() == []


@pytest.mark.parametrize("operation", ["merge", "rebase", "cherry-pick", "revert", "bisect", "am"])
def test_an_unfinished_operation_is_named_with_its_way_out(clones: ThreeClones, sync: Sync, operation: str) -> None:
    clones.commit("host", "docs/guide.md", "# One\n")
    clones.git("host", "switch", "-q", "-c", "side", "HEAD~1")
    side = clones.commit("host", "docs/guide.md", "# Two\n")
    patch = clones.git("host", "format-patch", "-1", "--stdout", "HEAD") + "\n"
    clones.git("host", "switch", "-q", "main")
    clones.write("host", ".git/patch", patch)
    started = {
        "merge": ["merge", "side"],
        "rebase": ["rebase", "side"],
        "cherry-pick": ["cherry-pick", side],
        "revert": ["revert", "--no-commit", "HEAD~1"],
        "bisect": ["bisect", "start"],
        "am": ["am", ".git/patch"],
    }
    clones.try_git("host", *started[operation])
    found = sync.plan()
    assert isinstance(found, Escalation)
    reasons = {reason.rule: reason.fact for reason in found.verdict.reasons}
    if operation == "revert":
        assert "operation-in-progress" in reasons or "host-uncommitted" in reasons
        return
    assert operation in reasons["operation-in-progress"]
    way_out = next(step for step in found.verdict.next_steps if operation in step).split("git ")[-1].split()
    clones.git("host", *way_out)
    assert sync.questions() == []


def test_a_new_branch_is_for_a_person_to_begin(clones: ThreeClones, sync: Sync) -> None:
    for place in ("local", "host"):
        clones.git(place, "switch", "-q", "-c", "feature")
    assert sync.questions() == ["no-upstream", "no-upstream"]
    clones.push("host")
    assert sync() == []


# --- races ---------------------------------------------------------------------------------------------------------------


def test_origin_that_moved_meanwhile_is_not_pushed_over(clones: ThreeClones, sync: Sync) -> None:
    clones.commit("host", "src/h.py", "h")
    seen = sync.look()
    plan = flow.plan(sync.where, seen)
    theirs = clones.publish("docs/o.md", "o")
    with pytest.raises(RepositoryError, match="origin has moved meanwhile, nothing was pushed"):
        sync.carry_out(seen, plan)
    assert clones.head("origin") == theirs
    sync()
    assert clones.are_in_step()


@pytest.mark.parametrize("place", ["local", "host"])
def test_a_clone_that_moved_meanwhile_is_not_merged_into(clones: ThreeClones, sync: Sync, place: str) -> None:
    clones.publish("docs/o.md", "o")
    seen = sync.look()
    plan = flow.plan(sync.where, seen)
    commit = clones.commit(place, "docs/m.md", "m")
    with pytest.raises(NeedsPerson, match="somebody commits or switches branches there right now"):
        sync.carry_out(seen, plan)
    assert clones.head(place) == commit


def test_only_what_was_seen_is_merged(clones: ThreeClones, sync: Sync) -> None:
    seen_commit = clones.publish("docs/o.md", "o")
    seen = sync.look()
    plan = flow.plan(sync.where, seen)
    clones.publish("src/late.py", "late")
    sync.carry_out(seen, plan)
    assert clones.head("host") == clones.head("local") == seen_commit


def test_a_hook_of_origins_that_refuses_leaves_the_commits_where_they_are(clones: ThreeClones, sync: Sync) -> None:
    hook = clones.write("origin", "hooks/pre-receive", "#!/bin/sh\necho not on a Friday >&2\nexit 1\n")
    hook.chmod(0o755)
    commit, before = clones.commit("host", "src/h.py", "h"), clones.head("origin")
    with pytest.raises(RepositoryError, match="pre-receive hook declined"):
        sync()
    assert (clones.head("host"), clones.head("origin")) == (commit, before)


def test_an_origin_that_cannot_be_asked_from_here_stops_before_anything(clones: ThreeClones, sync: Sync) -> None:
    clones.git("local", "remote", "set-url", "origin", str(clones.folder / "gone.git"))
    with pytest.raises(RepositoryError, match="local: origin cannot be asked"):
        sync()


# --- what is shown -----------------------------------------------------------------------------------------------------


def test_the_diff_behind_each_question_is_the_change_itself(clones: ThreeClones, sync: Sync) -> None:
    clones.write("host", "src/train.py", "STEPS = 3\n")
    clones.write("host", "src/other.py", "".join(f"line {number}\n" for number in range(500)))
    clones.git("host", "add", "--intent-to-add", "src/other.py")
    seen = sync.look()
    shown = evidence.of(seen, "host-uncommitted", ["src/train.py"])
    assert "+STEPS = 3" in shown
    assert "1 file changed" in shown
    assert "other.py" not in shown
    long = evidence.of(seen, "host-uncommitted", ["src/train.py", "src/other.py"]).splitlines()
    assert len(long) == evidence.MOST_LINES + 1
    assert long[-1].endswith("more lines")


def test_the_diff_of_what_comes_in_and_of_what_goes_out(clones: ThreeClones, sync: Sync) -> None:
    clones.commit("host", "src/h.py", "host\n")
    clones.publish("src/o.py", "origin\n")
    clones.commit("local", "src/l.py", "local\n")
    seen = sync.look()
    coming = evidence.of(seen, "runtime-diverged", ["src/o.py", "src/l.py"])
    assert "+origin" in coming
    assert "+local" in coming
    assert "+host" not in coming
    assert "+local" in evidence.of(seen, "local-edits-host-files", ["src/l.py"])
    assert evidence.of(seen, "detached", []) == ""


@pytest.mark.parametrize("name", [*WEIRD_NAMES.values(), ":(top)x", os.fsdecode(b"caf\xe9")])
def test_a_file_of_any_name_is_shown_by_its_name_alone(clones: ThreeClones, sync: Sync, name: str) -> None:
    lay_out(clones, name, "old\n")
    clones.write("host", name, "new\n")
    clones.write("host", "src/train.py", "hidden\n")
    shown = evidence.of(sync.look(), "host-uncommitted", [name])
    assert "+new" in shown
    assert "hidden" not in shown
