"""Origin that moved back, was rewritten or lost the branch: a sync undoes nothing of it, and going along loses nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lanes.merging import Escalation
from manifests.errors import MergeConflict, NeedsPerson, RepositoryError
from tests.real.three_clones import Sync, ThreeClones, make_clones


@pytest.fixture
def clones(tmp_path: Path) -> ThreeClones:
    """Local, host, other and origin at one commit."""
    return make_clones(tmp_path)


@pytest.fixture
def sync(clones: ThreeClones) -> Sync:
    """The sync of the local clone with the host's."""
    return Sync(clones)


def publish_and_sync(clones: ThreeClones, sync: Sync, *names: str) -> list[str]:
    """Somebody else's commits, in all clones; oldest first."""
    made = [clones.publish(name, f"{name}\n") for name in names]
    sync()
    assert clones.are_in_step()
    return made


def roll_back(clones: ThreeClones, count: int = 1) -> str:
    """origin's owner takes the last commits away; returns what origin has then."""
    clones.git("other", "reset", "-q", "--hard", f"HEAD~{count}")
    clones.git("other", "push", "-q", "--force", "origin", "HEAD:main")
    return clones.head("origin")


def fact(sync: Sync) -> str:
    """The one fact that needs a person now."""
    found = sync.plan()
    assert isinstance(found, Escalation)
    (reason,) = found.verdict.reasons
    return reason.fact


# --- moved back ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known_by", ["the fetch", "a fetch before", "no reflog", "neither"])
def test_a_rollback_of_origin_is_not_undone(clones: ThreeClones, sync: Sync, known_by: str) -> None:
    if known_by in ("no reflog", "neither"):
        for place in ("local", "host"):
            clones.git(place, "config", "core.logAllRefUpdates", "false")
            clones.git(place, "reflog", "expire", "--expire=now", "--all")
    _, secret = publish_and_sync(clones, sync, "docs/a.md", "src/secret.py")
    sync()
    back = roll_back(clones)
    if known_by in ("a fetch before", "neither"):
        for place in ("local", "host"):
            clones.git(place, "fetch", "-q", "origin")
    before = clones.snapshot()
    for _ in range(2):  # the second look has the rollback behind it
        assert sync.questions() == ["origin-rewritten"]
        assert (clones.head("origin"), clones.snapshot()) == (back, before)
    told = fact(sync)
    assert secret[:7] in told
    assert "src/secret.py" in told
    assert "1 commit that it had" in told
    assert "the host's clone and the local clone" in told
    assert str(clones.path("origin")) in told  # who may force a push there


def test_going_along_moves_both_clones_and_keeps_what_they_had(clones: ThreeClones, sync: Sync) -> None:
    _, secret = publish_and_sync(clones, sync, "docs/a.md", "src/secret.py")
    clones.write("host", "src/train.py", "STEPS = 7\n")
    clones.write("local", "docs/mine.md", "mine\n")
    back = roll_back(clones)
    assert sync("origin-rewritten") == ["host follow", "local follow"]
    assert set(clones.heads().values()) == {back}
    for place in ("local", "host"):
        assert not clones.path(place, "src/secret.py").exists()
        (kept,) = [ref for ref in clones.backups(place) if secret == clones.git(place, "rev-parse", f"{ref}^1")]
        assert clones.git(place, "show", f"{kept}^1:src/secret.py") == "src/secret.py"
        assert clones.git(place, "reflog", "-1", "--format=%gs", "main") == "hemma sync: go along with origin"
    assert clones.text("host", "src/train.py") == "STEPS = 7\n"
    assert clones.git("host", "status", "--porcelain") == "M src/train.py"
    assert clones.text("local", "docs/mine.md") == "mine\n"
    assert sync() == []


def test_restoring_gives_origin_its_commits_again_without_force(clones: ThreeClones, sync: Sync) -> None:
    _, second = publish_and_sync(clones, sync, "docs/a.md", "docs/b.md")
    roll_back(clones)
    clones.git("origin", "config", "receive.denyNonFastForwards", "true")
    sync(restores=True)
    assert set(clones.heads().values()) == {second}
    assert sync() == []


def test_a_rewritten_origin_names_who_made_what_it_has_now(clones: ThreeClones, sync: Sync) -> None:
    (commit,) = publish_and_sync(clones, sync, "docs/a.md")
    clones.git(
        "other",
        "-c",
        "user.name=Ada Owner",
        "-c",
        "user.email=ada@example.org",
        "commit",
        "-q",
        "--amend",
        "-m",
        "Anew",
    )
    clones.git("other", "push", "-q", "--force", "origin", "HEAD")
    anew = clones.head("origin")
    assert "Ada Owner <ada@example.org>" in fact(sync)
    assert commit[:7] in fact(sync)
    sync("origin-rewritten")
    assert set(clones.heads().values()) == {anew}
    (after,) = publish_and_sync(clones, sync, "docs/c.md")
    roll_back(clones)
    clones.git("other", "push", "-q", "origin", f"{after}:refs/heads/elsewhere")
    sync(restores=True)
    assert set(clones.heads().values()) == {after}


def test_a_forced_push_from_one_of_the_clones_is_told_as_that(clones: ThreeClones, sync: Sync) -> None:
    publish_and_sync(clones, sync, "docs/a.md", "docs/b.md")
    clones.git("local", "config", "user.name", "Me Myself")
    clones.git("local", "reset", "-q", "--hard", "HEAD~1")
    clones.git("local", "push", "-q", "--force")
    assert sync.questions() == ["origin-rewritten"]
    assert "still in the host's clone;" in fact(sync)
    sync("origin-rewritten")
    assert clones.are_in_step()
    clones.git("host", "config", "user.name", "Me There")
    clones.commit("host", "src/x.py", "x")
    clones.push("host")
    clones.git("host", "push", "-q", "--force", "origin", "HEAD~1:main")
    assert "it was pushed from the host's clone, by Me There" in fact(sync)


def test_own_commits_on_lost_ones_are_picked_anew(clones: ThreeClones, sync: Sync) -> None:
    publish_and_sync(clones, sync, "docs/a.md", "src/secret.py")
    own = [clones.commit("host", f"src/{name}.py", name) for name in ("one", "two")]
    mine = clones.commit("local", "docs/mine.md", "mine")
    back = roll_back(clones)
    sync("origin-rewritten")
    assert clones.git("host", "log", "--format=%s", f"{back}..HEAD").splitlines() == [
        "host: b'src/two.py'",
        "host: b'src/one.py'",
    ]
    sync()
    assert clones.are_in_step()
    for place in ("local", "host"):
        assert not clones.path(place, "src/secret.py").exists()
        assert (clones.text(place, "src/two.py"), clones.text(place, "docs/mine.md")) == ("two", "mine")
    for commit, place in ((own[1], "host"), (mine, "local")):
        assert commit in [clones.git(place, "rev-parse", f"{ref}^1") for ref in clones.backups(place)]


def test_an_own_commit_that_conflicts_waits_for_a_person(clones: ThreeClones, sync: Sync) -> None:
    clones.publish("src/x.py", "1\n")
    publish_and_sync(clones, sync, "docs/a.md")
    clones.publish("src/x.py", "2\n")
    sync()
    own = clones.commit("host", "src/x.py", "3\n")
    roll_back(clones)
    with pytest.raises(MergeConflict) as caught:
        sync("origin-rewritten")
    assert own[:7] in caught.value.message
    assert "hemma run -- git cherry-pick --continue" in caught.value.remedy
    assert sync.questions() == ["operation-in-progress"]
    clones.write("host", "src/x.py", "3\n")
    clones.git("host", "add", "src/x.py")
    clones.git("host", "-c", "core.editor=true", "cherry-pick", "--continue")
    sync("origin-rewritten")
    sync()
    assert clones.are_in_step()
    assert clones.text("local", "src/x.py") == "3\n"


def test_own_merges_are_not_picked_and_nothing_is_moved(clones: ThreeClones, sync: Sync) -> None:
    publish_and_sync(clones, sync, "docs/a.md")
    clones.git("host", "switch", "-q", "-c", "side", "HEAD~1")
    clones.commit("host", "src/side.py", "s")
    clones.git("host", "switch", "-q", "main")
    clones.git("host", "merge", "-q", "--no-edit", "side")
    roll_back(clones)
    before = clones.snapshot()
    assert sync.questions("origin-rewritten") == ["origin-rewritten"]
    assert clones.snapshot() == before
    sync(restores=True)
    assert clones.are_in_step()


def test_nobody_to_sign_the_picked_commits_leaves_all_as_it_was(
    clones: ThreeClones, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_and_sync(clones, sync, "docs/a.md")
    clones.commit("host", "src/own.py", "own")
    roll_back(clones)
    clones.git("host", "config", "user.useConfigOnly", "true")
    for place in ("host", "local"):
        clones.git(place, "config", "user.name", "")
        clones.git(place, "config", "user.email", "")
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    before = clones.heads()
    with pytest.raises(RepositoryError, match="pick your own commits anew"):
        sync("origin-rewritten")
    assert clones.heads() == before
    assert clones.git("host", "status", "--porcelain") == ""
    assert sync.look().host_facts["operation"] is None


# --- what is in the way of going along -----------------------------------------------------------------------------------


def test_uncommitted_changes_in_the_way_stop_it(clones: ThreeClones, sync: Sync) -> None:
    clones.publish("src/x.py", "1\n")
    clones.publish("src/x.py", "2\n")
    sync()
    roll_back(clones)
    for place, rule in (("host", "host-overwritten"), ("local", "local-uncommitted")):
        clones.write(place, "src/x.py", "mine\n")
        assert sync.questions("origin-rewritten") == [rule]
        assert clones.text(place, "src/x.py") == "mine\n"
        clones.git(place, "stash", "push", "-q")
    sync("origin-rewritten")
    assert clones.are_in_step()


@pytest.mark.parametrize("place", ["host", "local"])
def test_ignored_files_are_not_written_over_on_the_way_back(clones: ThreeClones, sync: Sync, place: str) -> None:
    clones.write("other", "docs/kept.log", "theirs\n")
    clones.git("other", "add", "--force", "docs/kept.log")
    clones.publish("docs/a.md", "a")
    clones.git("other", "rm", "-q", "docs/kept.log")
    clones.publish("docs/b.md", "b")
    sync()
    mine = clones.write(place, "docs/kept.log", "mine\n")
    roll_back(clones)
    before = clones.head(place)
    with pytest.raises(NeedsPerson, match=r"docs/kept\.log") as caught:
        sync("origin-rewritten")
    assert caught.value.code == "untracked-in-the-way"
    assert (clones.head(place), mine.read_text()) == (before, "mine\n")


def test_a_live_run_holds_the_tree_on_the_way_back(clones: ThreeClones, sync: Sync) -> None:
    publish_and_sync(clones, sync, "src/a.py")
    roll_back(clones)
    seen = sync.look()
    seen.host_facts["holding"] = [{"run_id": "r1"}]
    from controller.flows import sync as flow

    found = flow.plan(sync.where, seen, ["origin-rewritten"])
    assert isinstance(found, Escalation)
    assert [reason.rule for reason in found.verdict.reasons] == ["runs-hold-the-tree"]
    assert not isinstance(flow.plan(sync.where, seen, ["origin-rewritten", "runs-hold-the-tree"]), Escalation)


def test_a_commit_that_comes_meanwhile_is_not_moved_away(clones: ThreeClones, sync: Sync) -> None:
    publish_and_sync(clones, sync, "docs/a.md")
    roll_back(clones)
    seen, plan = sync.look(), sync.plan("origin-rewritten")
    late = clones.commit("host", "src/late.py", "late")
    with pytest.raises(NeedsPerson, match="right now"):
        sync.carry_out(seen, plan)
    assert clones.head("host") == late


def test_commits_that_origin_never_had_are_no_loss(clones: ThreeClones, sync: Sync) -> None:
    publish_and_sync(clones, sync, "docs/a.md", "docs/b.md")
    for place in ("host", "local"):
        clones.git(place, "reset", "-q", "--hard", "HEAD~2")
    clones.commit("host", "src/h.py", "h")
    roll_back(clones)
    assert sync() == ["host fetch", "host merge", "host push", "local fetch", "local fast-forward"]
    assert clones.are_in_step()


# --- a branch that is gone -----------------------------------------------------------------------------------------------


def on_feature(clones: ThreeClones, sync: Sync) -> str:
    """Both clones on a branch that origin has; returns its last commit."""
    for place in ("local", "host"):
        clones.git(place, "switch", "-q", "-c", "feature")
    commit = clones.commit("host", "src/f.py", "f")
    del commit
    clones.git("host", "push", "-q", "-u", "origin", "feature")
    clones.git("local", "fetch", "-q")
    sync()
    return clones.git("host", "rev-parse", "HEAD")


def merged_and_deleted(clones: ThreeClones, *, is_squashed: bool) -> None:
    clones.git("other", "fetch", "-q")
    clones.git("other", "merge", "-q", "--squash" if is_squashed else "--no-ff", "origin/feature")
    if is_squashed:
        clones.git("other", "commit", "-q", "-m", "All of feature")
    clones.git("other", "push", "-q", "origin", "HEAD", ":feature")


@pytest.mark.parametrize(
    ("prune", "is_squashed"),
    [("unset", False), ("fetch.prune", True), ("remote.origin.prune", False), ("by hand", False)],
)
def test_a_branch_deleted_after_its_merge_is_not_made_again(
    clones: ThreeClones, sync: Sync, prune: str, is_squashed: bool
) -> None:
    last = on_feature(clones, sync)
    merged_and_deleted(clones, is_squashed=is_squashed)
    for place in ("local", "host"):
        if "." in prune:
            clones.git(place, "config", prune, "true")
        elif prune == "by hand":
            clones.git(place, "fetch", "-q", "--prune")
    clones.commit("local", "docs/late.md", "late")
    found = sync.plan()
    assert isinstance(found, Escalation)
    assert [reason.rule for reason in found.verdict.reasons] == ["origin-branch-gone"]
    told = found.verdict.reasons[0].fact
    assert f"origin had a branch feature, last at {last[:9]}" in told
    assert "in no branch of origin, as after a squash" in told  # docs/late.md, and with a squash all of it
    assert "hemma run -- git switch main && git switch main && hemma sync" in found.verdict.next_steps[0]
    assert "set-branches" not in str(found.verdict.next_steps)
    assert sync.questions("origin-rewritten") == ["origin-branch-gone"]
    assert "feature" not in clones.git("origin", "branch")
    # going along, by the very commands
    for place in ("host", "local"):
        clones.git(place, "switch", "-q", "main")
    sync()
    assert clones.are_in_step()
    assert "feature" in clones.git("host", "branch")


def test_a_branch_that_is_gone_is_made_again_when_a_person_says_so(clones: ThreeClones, sync: Sync) -> None:
    last = on_feature(clones, sync)
    clones.git("other", "push", "-q", "origin", ":feature")
    assert "feature" in fact(sync)
    assert sync(restores=True) == ["host push"]
    assert clones.git("origin", "rev-parse", "feature") == last
    assert sync() == []


def test_a_branch_that_origin_never_had_is_begun_by_a_person_as_before(clones: ThreeClones, sync: Sync) -> None:
    for place in ("local", "host"):
        clones.git(place, "switch", "-q", "-c", "fresh")
    clones.commit("host", "src/f.py", "f")
    assert set(sync.questions()) == {"no-upstream"}


# --- remotes -------------------------------------------------------------------------------------------------------------


def test_remotes_of_any_name_are_origin(clones: ThreeClones, sync: Sync) -> None:
    clones.git("local", "remote", "rename", "origin", "up-stream")
    clones.git("host", "remote", "rename", "origin", "hub/main")
    clones.git("host", "remote", "add", "a-fork", str(clones.folder / "fork.git"))
    there, here = clones.commit("host", "src/h.py", "h"), clones.commit("local", "docs/l.md", "l")
    clones.publish("docs/o.md", "o")
    sync()
    assert clones.are_in_step()
    for commit in (there, here):
        clones.git("origin", "merge-base", "--is-ancestor", commit, "main")
    back = roll_back_to(clones, there)
    assert sync.questions() == ["origin-rewritten"]
    assert clones.head("origin") == back


def roll_back_to(clones: ThreeClones, commit: str) -> str:
    clones.git("other", "fetch", "-q")
    clones.git("other", "push", "-q", "--force", "origin", f"{commit}:main")
    return clones.head("origin")


def test_a_narrow_refspec_is_named_with_the_remotes_own_name(clones: ThreeClones, sync: Sync) -> None:
    on_feature(clones, sync)
    clones.git("local", "remote", "rename", "origin", "hub")
    clones.git("local", "config", "remote.hub.fetch", "+refs/heads/main:refs/remotes/hub/main")
    clones.git("local", "update-ref", "-d", "refs/remotes/hub/feature")
    found = sync.plan()
    assert isinstance(found, Escalation)
    assert found.verdict.next_steps == ("git remote set-branches --add hub feature",)


def test_a_refspec_without_force_is_named_when_origin_was_rewritten(clones: ThreeClones, sync: Sync) -> None:
    publish_and_sync(clones, sync, "docs/a.md")
    for place in ("local", "host"):
        clones.git(place, "config", "remote.origin.fetch", "refs/heads/*:refs/remotes/origin/*")
    roll_back(clones)
    with pytest.raises(RepositoryError, match=r"local: origin cannot be asked: ! \[rejected\]") as caught:
        sync()
    assert "git fetch origin +refs/heads/main:refs/remotes/origin/main" in caught.value.remedy
    for place in ("local", "host"):
        clones.git(place, "fetch", "-q", "origin", "+refs/heads/main:refs/remotes/origin/main")
    assert sync.questions() == ["origin-rewritten"]


@pytest.mark.parametrize("key", ["remote.pushDefault", "branch.main.pushRemote"])
def test_a_clone_that_pushes_elsewhere_is_told_so_by_name(clones: ThreeClones, sync: Sync, key: str) -> None:
    fork = clones.folder / "fork.git"
    subprocess.run(["git", "init", "-q", "--bare", str(fork)], check=True)
    clones.git("host", "remote", "add", "fork", str(fork))
    clones.git("host", "config", key, "fork")
    clones.publish("docs/o.md", "o")
    sync()  # nothing is pushed: nothing speaks against it
    before = clones.commit("host", "src/h.py", "h")
    found = sync.plan()
    assert isinstance(found, Escalation)
    (reason,) = found.verdict.reasons
    assert reason.rule == "push-elsewhere"
    assert (
        f"pushes main to fork ({key.lower() if key.startswith('remote') else 'branch.main.pushremote'})" in reason.fact
    )
    assert clones.head("host") == before
    clones.git("host", "config", "branch.main.pushRemote", "origin")
    sync()
    assert clones.are_in_step()
    assert subprocess.run(["git", "-C", str(fork), "branch"], capture_output=True, check=True).stdout == b""


def test_push_addresses_of_the_same_repository_are_used(clones: ThreeClones, sync: Sync) -> None:
    url = clones.path("origin").as_uri()
    clones.git("host", "remote", "set-url", "--push", "origin", url)
    clones.git("local", "config", f"url.{url}.pushInsteadOf", str(clones.path("origin")))
    for place in ("host", "local"):
        hook = clones.write(place, ".git/hooks/pre-push", f'#!/bin/sh\necho "$2" >> {clones.folder}/pushed-{place}\n')
        hook.chmod(0o755)
    clones.commit("host", "src/h.py", "h")
    clones.commit("local", "docs/l.md", "l")
    sync()
    assert clones.are_in_step()
    for place in ("host", "local"):
        assert (clones.folder / f"pushed-{place}").read_text().split() == [url]


def test_a_push_address_of_another_repository_is_told(clones: ThreeClones, sync: Sync) -> None:
    subprocess.run(
        ["git", "clone", "-q", "--bare", str(clones.path("origin")), str(clones.folder / "twin.git")], check=True
    )
    clones.git("host", "remote", "set-url", "--push", "origin", str(clones.folder / "twin.git"))
    clones.commit("host", "src/h.py", "h")
    before = clones.head("local")
    with pytest.raises(RepositoryError, match="another repository than a fetch comes from") as caught:
        sync()
    assert (caught.value.code, clones.head("local")) == ("push-elsewhere", before)


def pre_receive(clones: ThreeClones, body: str) -> None:
    hook = clones.write("origin", "hooks/pre-receive", f"#!/bin/sh\n{body}\n")
    hook.chmod(0o755)


def test_the_words_of_origins_hook_are_shown(clones: ThreeClones, sync: Sync) -> None:
    from controller.flows import sync as flow

    pre_receive(clones, "echo 'CI: see build 42' >&2; printf 'no newline' >&2")
    clones.commit("host", "src/h.py", "h" * 10_000)
    said: list[str] = []
    seen = sync.look()
    plan = flow.plan(sync.where, seen)
    assert not isinstance(plan, Escalation)
    flow.carry_out(seen, plan, said.append)
    assert [line for line in said if line.startswith("origin: ")] == ["origin: CI: see build 42", "origin: no newline"]
    pre_receive(clones, "echo 'policy 7: no models in git' >&2; exit 1")
    clones.commit("local", "docs/l.md", "l")
    with pytest.raises(RepositoryError, match="origin said: policy 7: no models in git") as caught:
        sync()
    assert "pre-receive hook declined" in caught.value.message


# --- refs that are no files ----------------------------------------------------------------------------------------------


def test_reftable_repositories_take_part(tmp_path: Path) -> None:
    asked = subprocess.run(
        ["git", "init", "-q", "--ref-format=reftable", str(tmp_path / "try")], capture_output=True, check=False
    )
    if asked.returncode:
        pytest.skip("this git knows no reftable (it needs 2.45)")
    clones = make_clones(tmp_path / "clones", ref_format="reftable")
    sync = Sync(clones)
    assert clones.path("host", ".git/HEAD").read_text() == "ref: refs/heads/.invalid\n"
    clones.commit("host", "src/h.py", "h")
    clones.commit("local", "docs/l.md", "l")
    clones.publish("docs/o.md", "o")
    sync()
    assert clones.are_in_step()
    from remote.agent import gitfacts

    assert gitfacts.head(str(clones.path("host"))) == (clones.head("host"), "main")
    publish_and_sync(clones, sync, "src/secret.py")
    clones.commit("host", "src/secret.py", "mine\n")
    roll_back(clones)
    assert sync.questions() == ["origin-rewritten"]
    with pytest.raises(MergeConflict):
        sync("origin-rewritten")
    assert sync.questions() == ["operation-in-progress"]
