"""Whatever people, syncs, kills and a second controller do to three clones: no commit and no meaningful byte is lost.

Random histories of edits, commits, drift, merges and syncs, some killed in the middle, some two at a time. After each one
every commit that any clone was ever at is reachable from a ref, every uncommitted line is in its work tree or in a backup,
and origin only ever moved forward. HEMMA_HISTORIES sets how many; HEMMA_HISTORIES_SEED makes others.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lanes.merging import ACCEPTABLE
from tests.real.sync_forks import SURPRISE, Forks
from tests.real.three_clones import ThreeClones, make_clones, notebook

HISTORIES = int(os.environ.get("HEMMA_HISTORIES") or (300 if os.environ.get("CI") else 40))
SEED = os.environ.get("HEMMA_HISTORIES_SEED", "0")
AT_ONCE = 10  # histories in one test: enough to share it among workers

PLACES = ("local", "host", "other")
FILES = ("docs/guide.md", "docs/new.md", "src/train.py", "src/new.py", "n.ipynb")
LINES = 7
# How often a sync is killed: about the number of commands that one with some steps has, on both sides.
MOST_COMMANDS = 70


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clones and their origin, made once and copied for each history."""
    folder = tmp_path_factory.mktemp("template")
    clones = make_clones(folder / "clones")
    for name in ("docs/guide.md", "src/train.py"):
        clones.write("other", name, "".join(f"line {number}\n" for number in range(LINES)))
    clones.publish("n.ipynb", notebook())
    for place in ("local", "host"):
        clones.git(place, "pull", "-q", "--ff-only")
    for place in (*PLACES, "origin"):
        hooks = clones.path(place, "hooks" if place == "origin" else ".git/hooks")
        shutil.rmtree(hooks)
    return clones.folder


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    """Where controllers run that may be killed."""
    made = Forks()
    yield made
    made.end()


def copy_of(template: Path, folder: Path) -> ThreeClones:
    shutil.copytree(template, folder, symlinks=True)
    for place in PLACES:
        config = folder / place / ".git/config"
        config.write_text(config.read_text().replace(str(template), str(folder)))
    return ThreeClones(folder)


@dataclass
class History:
    """One random history. `lines` are the uncommitted ones that must not get lost: (place, file) -> text."""

    clones: ThreeClones
    forks: Forks
    chance: random.Random
    told: list[str] = field(default_factory=list[str])
    lines: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    count: int = 0

    def go(self) -> None:
        """A few things happen, then everything is looked for."""
        acts = (self.edit, self.edit_and_commit, self.drift, self.publish, self.sync, self.sync_cut, self.sync_twice)
        for act in self.chance.choices(acts, weights=(3, 6, 2, 3, 4, 4, 2), k=self.chance.randint(4, 8)):
            act()
        self.look_for_everything()

    # -- what people do ----------------------------------------------------------------------------------------------

    def edit(self, place: str | None = None) -> str:
        """Somebody writes one line into a file; returns the place."""
        place = place or self.chance.choice(PLACES)
        name = self.chance.choice(FILES)
        path = self.clones.path(place, name)
        self.count += 1
        text = f"word-{self.count}-{place}"
        if name.endswith(".ipynb"):
            path.write_text(notebook(f"!hemma ps {text}"))
        else:
            old = path.read_text().splitlines() if path.exists() else [f"line {number}" for number in range(LINES)]
            old[self.chance.randrange(len(old))] = text
            path.write_text("\n".join(old) + "\n")
        # Whoever edits a file answers for what else was uncommitted in it.
        self.lines[place, name] = text
        if path.name == "n.ipynb":
            self.lines.pop((place, "kernel"), None)
        self.told.append(f"edit {place} {name} {text}")
        return place

    def edit_and_commit(self, place: str | None = None) -> str:
        """Somebody writes a line and commits all there is, which also ends a merge that waits."""
        place = self.edit(place)
        self.commit(place)
        return place

    def commit(self, place: str) -> None:
        """Commit all there is; what was uncommitted is now part of a commit."""
        self.clones.git(place, "add", "--all")
        self.clones.try_git(place, "commit", "-q", "--no-verify", "-m", f"commit {self.count}")
        self.told.append(f"commit {place}")
        for key in [key for key in self.lines if key[0] == place]:
            del self.lines[key]

    def drift(self) -> None:
        """An editor opens the host's notebook, and writes into it."""
        path = self.clones.path("host", "n.ipynb")
        try:
            found = json.loads(path.read_text())
        except ValueError:
            return
        self.count += 1
        text = f"kernel-{self.count}"
        found["metadata"]["kernelspec"]["display_name"] = text
        path.write_text(json.dumps(found, indent=1) + "\n")
        self.lines.pop(("host", "kernel"), None)
        if ("host", "n.ipynb") not in self.lines:
            self.lines["host", "kernel"] = text
        self.told.append(f"drift {text}")

    def publish(self) -> None:
        """A third person commits, merges and pushes with plain git; a conflict waits for their next commit."""
        self.edit_and_commit("other")
        self.clones.try_git("other", "fetch", "-q", "origin")
        self.clones.try_git("other", "merge", "-q", "--no-edit", "origin/main")
        pushed = self.clones.try_git("other", "push", "-q", "origin", "main").returncode
        self.told.append(f"publish ({pushed})")

    # -- what controllers do -----------------------------------------------------------------------------------------

    def sync(self) -> None:
        """One sync, to its end."""
        self._end(self._begin(self.chance.choice(["local", "local", "other"])))

    def sync_cut(self) -> None:
        """A sync that is killed, with its git commands, somewhere; a person clears away the locks that git left."""
        cut = (self.chance.randint(1, MOST_COMMANDS), self.chance.choice([0, 0.001, 0.003, 0.01]))
        self._end(self._begin(self.chance.choice(["local", "other"]), cut))
        self.clear_locks()

    def sync_twice(self) -> None:
        """Two controllers at once, sometimes two of one clone, sometimes one of them dies."""
        places = self.chance.choice([("local", "other"), ("local", "local")])
        cut = (self.chance.randint(1, MOST_COMMANDS), 0.001) if self.chance.random() < 0.3 else None
        begun = [self._begin(places[0], cut), self._begin(places[1])]
        for pid in begun:
            self._end(pid)
        self.clear_locks()

    def begin(self, place: str, cut: tuple[int, float] | None = None, *, accepts: bool = True) -> int:
        """Begin a sync by the controller at this place; returns its pid."""
        self.told.append(f"sync {place} {'accepting' if accepts else ''} {cut or ''}")
        return self.forks.start(self.clones.folder, place, list(ACCEPTABLE) if accepts else [], cut)

    def _begin(self, place: str, cut: tuple[int, float] | None = None) -> int:
        return self.begin(place, cut, accepts=self.chance.random() < 0.8)

    def _end(self, pid: int) -> None:
        code = self.forks.wait(pid)
        self.told.append(f"  -> {code}")
        assert code != SURPRISE, self.clones.path("said").read_text()

    def clear_locks(self) -> None:
        """What a person does who finds the locks of a git that is gone."""
        for place in (*PLACES, "origin"):
            for lock in self.clones.path(place).rglob("*.lock"):
                if lock.name != "hemma.lock":
                    lock.unlink()

    # -- what must hold ----------------------------------------------------------------------------------------------

    def look_for_everything(self) -> None:
        """Every commit, every line, and origin's way."""
        reachable = {
            commit
            for place in (*PLACES, "origin")
            for commit in self.clones.git(place, "rev-list", "--all", *(["HEAD"] if place != "origin" else [])).split()
        }
        for place in PLACES:
            lost = {new for _, new in moves(self.clones.path(place, ".git/logs/HEAD"))} - reachable
            assert not lost, f"{place} was once at {lost}, which no ref holds any more"
        for (place, name), text in self.lines.items():
            assert self._is_kept(place, text), f"{text} is gone from {name} of {place}"
        self._check_origin()

    def _is_kept(self, place: str, text: str) -> bool:
        """Whether this text is in the work tree or in a backup of the place."""
        for name in FILES:
            path = self.clones.path(place, name)
            if path.exists() and text in path.read_text():
                return True
        backups = self.clones.backups(place)
        return any(
            self.clones.try_git(place, "grep", "-qF", text, ref, "--", "files").returncode == 0 for ref in backups
        )

    def _check_origin(self) -> None:
        graph = {}
        for line in self.clones.git("origin", "rev-list", "--all", "--parents").splitlines():
            commit, *parents = line.split()
            graph[commit] = parents
        way = moves(self.clones.path("origin", "logs/refs/heads/main"))
        assert [old for old, _ in way[1:]] == [new for _, new in way[:-1]]
        for old, new in way[1:]:
            assert old in ancestors(graph, new), f"origin went from {old} to {new}, which is not ahead of it"

    def meets_in_the_end(self) -> None:
        """People finish what waits, and then syncs bring all three together."""
        for _ in range(4):
            for place in ("host", "local"):
                self.commit(place)
            self._end(self.begin("local"))
            if self.clones.are_in_step():
                return
        pytest.fail(f"never in step: {self.clones.heads()}")


def moves(log: Path) -> list[tuple[str, str]]:
    """(old, new) of each line of a reflog."""
    lines = [line.split(" ", 2) for line in log.read_text().splitlines()]
    return [(old, new) for old, new, _ in lines]


def ancestors(graph: dict[str, list[str]], commit: str) -> set[str]:
    """The commit and everything before it."""
    found, waiting = set[str](), [commit]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += graph.get(each, [])
    return found


@pytest.mark.req("S9-R05", "S9-R08", "S9-R11")
@pytest.mark.parametrize("batch", range((HISTORIES + AT_ONCE - 1) // AT_ONCE))
def test_nothing_is_ever_lost_and_origin_only_moves_forward(
    template: Path, forks: Forks, tmp_path: Path, batch: int
) -> None:
    for number in range(batch * AT_ONCE, min(HISTORIES, (batch + 1) * AT_ONCE)):
        folder = tmp_path / str(number)
        history = History(copy_of(template, folder), forks, random.Random(f"{SEED}-{number}"))
        try:
            history.go()
            if number % 3 == 0:
                history.meets_in_the_end()
                history.look_for_everything()
        except BaseException as error:
            error.add_note("\n".join([f"history {number} of seed {SEED} in {folder}:", *history.told]))
            raise
        shutil.rmtree(folder)


def test_a_lost_commit_a_lost_line_and_a_rewound_origin_would_be_seen(
    template: Path, forks: Forks, tmp_path: Path
) -> None:
    history = History(copy_of(template, tmp_path / "x"), forks, random.Random(1))
    history.look_for_everything()
    history.edit("host")
    (key,) = history.lines
    was = history.clones.path(*key).read_bytes() if key[1] in history.clones.git("host", "ls-files") else b""
    history.clones.write("host", key[1], was.replace(history.lines[key].encode(), b"other"))
    with pytest.raises(AssertionError, match="is gone from"):
        history.look_for_everything()
    history.lines.clear()
    history.clones.commit("local", "docs/x.md", "x")
    history.clones.git("local", "reset", "-q", "--hard", "HEAD~1")
    with pytest.raises(AssertionError, match="which no ref holds"):
        history.look_for_everything()
    history.clones.git("local", "reset", "-q", "--hard", "HEAD@{1}")
    history.clones.git("local", "push", "-q", "origin", "main")
    history.clones.git("local", "push", "-q", "--force", "origin", "HEAD~1:main")
    with pytest.raises(AssertionError, match="origin went from"):
        history.look_for_everything()


def test_a_cut_sync_is_cut_and_the_next_one_finishes_it(template: Path, forks: Forks, tmp_path: Path) -> None:
    history = History(copy_of(template, tmp_path / "x"), forks, random.Random(1))
    history.clones.commit("host", "src/h.py", "h")
    for command in range(1, MOST_COMMANDS, 4):
        code = forks.wait(history.begin("local", (command, 0)))
        history.clear_locks()
        assert code in {0, -9}
    assert forks.wait(history.begin("local")) == 0
    assert history.clones.are_in_step()
