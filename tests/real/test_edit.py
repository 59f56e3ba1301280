"""`hemma edit` against a real host: the editor sees the host's file, and only that very file is replaced."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.flows import editors
from tests.support import WEIRD_NAMES, Cli, EnvironFor, RepositoryOnHost, make_repository, wait_until

Make = Callable[[dict[str, str]], Cli]


@pytest.fixture
def clone(tmp_path: Path) -> RepositoryOnHost:
    """A clone on the host that the test may change."""
    (tmp_path / "on-host").mkdir()
    return make_repository(tmp_path / "on-host")


@pytest.fixture
def cli(hemma_with: Make, settings_env: EnvironFor, clone: RepositoryOnHost, tmp_path: Path) -> Cli:
    """The CLI for that clone; everything Hemma keeps lies in the test's own folder."""
    return hemma_with(settings_env(root=clone.path, state=tmp_path / "hemma"))


def editor(folder: Path, body: str, name: str = "editor") -> str:
    """An editor as $EDITOR has it: a shell script whose $1 is the file."""
    script = folder / name
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    return f"'{script}'"


def edit(cli: Cli, body: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return cli("edit", *arguments, env={"EDITOR": editor(cli.folder, body)})


def kept_copies(cli: Cli) -> list[Path]:
    return [path for path in Path(cli.environ["HEMMA_STATE_DIR"], "edits").rglob("*") if path.is_file()]


@pytest.mark.req("S9-R02")
def test_what_was_saved_takes_the_files_place(cli: Cli, clone: RepositoryOnHost, tmp_path: Path) -> None:
    there = clone.path / "train.py"
    there.write_bytes(b"x = 1\r\n\xff\x00")
    there.chmod(0o640)
    done = edit(cli, f'stat -c "%a %n" "$1" > {tmp_path}/seen; printf more >> "$1"', "train.py")
    assert done.returncode == 0, done.stderr
    assert there.read_bytes() == b"x = 1\r\n\xff\x00more"
    assert stat.S_IMODE(there.stat().st_mode) == 0o640
    mode, _, name = (tmp_path / "seen").read_text().strip().partition(" ")
    assert (mode, os.path.basename(name)) == ("600", "train.py")
    assert kept_copies(cli) == []


@pytest.mark.parametrize(
    "body",
    ["sleep 1.1", 'cp "$1" "$1.swp"; rm "$1.swp"; sleep 1.1', 'rm "$1"'],
    ids=["nothing", "swap-file", "removed"],
)
def test_without_a_change_nothing_is_written(cli: Cli, clone: RepositoryOnHost, body: str) -> None:
    before = (clone.path / "README.md").stat()
    done = edit(cli, body, "README.md")
    assert (done.returncode, b"not changed" in done.stdout) == (0, True)
    assert (clone.path / "README.md").stat() == before
    assert kept_copies(cli) == []


def test_an_editor_that_comes_back_before_its_window_is_closed_loses_nothing(
    cli: Cli, clone: RepositoryOnHost, tmp_path: Path
) -> None:
    save = f'(while [ ! -e {tmp_path}/now ]; do sleep 0.05; done; echo mine > "$1"; touch {tmp_path}/saved) >/dev/null 2>&1 &'
    done = edit(cli, f"{save} sleep 1.1", "README.md")
    (copy,) = [path for path in kept_copies(cli) if path.name == "README.md"]
    assert (done.returncode, f"hemma put {copy} README.md".encode() in done.stderr) == (0, True)
    (tmp_path / "now").touch()
    wait_until((tmp_path / "saved").exists)
    assert copy.read_text() == "mine\n"
    # What was saved there later stays; what was never changed goes, a day later.
    edit(cli, "true", "README.md")
    for mark in (path for path in kept_copies(cli) if path.name.endswith(".unchanged")):
        os.utime(mark, (0, 0))
    edit(cli, "echo more >> $1", "README.md")
    assert [path.read_text() for path in kept_copies(cli)] == ["mine\n"]
    assert cli("put", copy, "README.md").returncode == 0


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        ("code", "code --wait"),
        ("/usr/bin/code -n", "code --wait"),
        ("subl", "subl --wait"),
        ("gvim", "gvim -f"),
        ("open -t", "open -W"),
        ("emacsclient -n", "nano"),
        ("xdg-open", "nano"),
    ],
)
def test_an_editor_that_is_known_to_come_back_at_once_is_not_started(cli: Cli, command: str, remedy: str) -> None:
    refused = cli("edit", "README.md", env={"EDITOR": command})
    assert (refused.returncode, remedy in refused.stderr.decode()) == (2, True)


def test_the_same_editors_are_taken_when_they_wait() -> None:
    for command in ("code --wait", "code -nw -w", "emacsclient -t", "gvim -f", "nano", "vim 'unbalanced"):
        assert editors.editor({"EDITOR": command}) == command


def test_a_file_that_changed_meanwhile_is_not_overwritten(cli: Cli, clone: RepositoryOnHost) -> None:
    there = clone.path / "README.md"
    done = edit(cli, f'echo mine > "$1"; echo theirs > {there}', "README.md")
    assert done.returncode == 75
    assert there.read_text() == "theirs\n"
    (copy,) = kept_copies(cli)
    assert copy.read_text() == "mine\n"
    assert str(copy).encode() in done.stderr
    assert copy.stat().st_mode & 0o077 == 0
    assert cli("put", copy, "README.md").returncode == 0
    assert there.read_text() == "mine\n"


def test_a_file_that_was_removed_meanwhile_is_not_made_again(cli: Cli, clone: RepositoryOnHost) -> None:
    done = edit(cli, f'echo mine > "$1"; rm {clone.path}/README.md', "README.md")
    assert done.returncode == 75
    assert not (clone.path / "README.md").exists()
    assert len(kept_copies(cli)) == 1


def test_an_editor_that_crashes_writes_nothing_and_loses_nothing(cli: Cli, clone: RepositoryOnHost) -> None:
    for body, kept in (("exit 3", 0), ('echo half > "$1"; kill -SEGV $$', 1)):
        done = edit(cli, body, "README.md")
        assert done.returncode == 1
        assert b"nothing was written" in done.stderr
        assert len(kept_copies(cli)) == kept
    assert (clone.path / "README.md").read_text() == "# A project\n"


def test_a_hemma_that_is_killed_leaves_the_text_behind(cli: Cli, clone: RepositoryOnHost, tmp_path: Path) -> None:
    body = f'echo mine > "$1"; touch {tmp_path}/saved; exec sleep 2'
    child = cli.start("edit", "README.md", env={"EDITOR": editor(cli.folder, body)})
    wait_until((tmp_path / "saved").exists)
    child.kill()
    child.wait()
    assert [path.read_text() for path in kept_copies(cli)] == ["mine\n"]
    assert (clone.path / "README.md").read_text() == "# A project\n"


def test_of_two_who_edit_at_once_one_is_told(cli: Cli, clone: RepositoryOnHost, tmp_path: Path) -> None:
    meet = f"touch {tmp_path}/open.$$; while [ $(ls {tmp_path} | grep -c open.) -lt 2 ]; do sleep 0.05; done"
    children = [
        cli.start("edit", "README.md", env={"EDITOR": editor(cli.folder, f'{meet}; echo {who} >> "$1"', who)})
        for who in ("one", "two")
    ]
    codes = [child.wait(timeout=30) for child in children]
    assert sorted(codes) == [0, 75]
    winner = ("one", "two")[codes.index(0)]
    assert (clone.path / "README.md").read_text() == f"# A project\n{winner}\n"
    assert [path.read_text() for path in kept_copies(cli)] != []


def test_a_new_file_needs_create_and_gets_its_folders(cli: Cli, clone: RepositoryOnHost) -> None:
    refused = edit(cli, 'echo new > "$1"', "src/deep/new.py")
    assert (refused.returncode, b"--create" in refused.stderr) == (1, True)
    empty = edit(cli, "true", "--create", "src/deep/new.py")
    assert (empty.returncode, (clone.path / "src").exists()) == (0, False)
    assert edit(cli, 'echo new > "$1"', "--create", "src/deep/new.py").returncode == 0
    assert (clone.path / "src/deep/new.py").read_text() == "new\n"
    made = edit(cli, f'echo mine > "$1"; echo theirs > {clone.path}/other', "--create", "other")
    assert made.returncode == 75
    assert (clone.path / "other").read_text() == "theirs\n"


@pytest.mark.parametrize("name", list(WEIRD_NAMES.values()), ids=list(WEIRD_NAMES))
def test_any_name_can_be_edited(cli: Cli, clone: RepositoryOnHost, name: str) -> None:
    (clone.path / name).write_text("old\n")
    done = edit(cli, 'echo new >> "$1"', "--", name)
    assert done.returncode == 0, done.stderr
    assert (clone.path / name).read_text() == "old\nnew\n"


def test_the_editors_command_may_have_options_and_visual_comes_first(cli: Cli, clone: RepositoryOnHost) -> None:
    script = editor(cli.folder, 'echo "$1" >> "$2"', "my editor")
    done = cli("edit", "README.md", env={"VISUAL": f"{script} --wait", "EDITOR": "false"})
    assert done.returncode == 0, done.stderr
    assert (clone.path / "README.md").read_text() == "# A project\n--wait\n"
    missing = cli("edit", "README.md", env={"EDITOR": "no-such-editor"})
    assert (missing.returncode, b"127" in missing.stderr) == (1, True)


def test_what_is_no_file_cannot_be_edited(cli: Cli, clone: RepositoryOnHost) -> None:
    (clone.path / "folder").mkdir()
    for name, code in (("folder", 2), ("none/", 2), ("none", 1), ("../x", 2), (".", 2)):
        assert edit(cli, 'echo x > "$1"', name).returncode == code, name
    assert edit(cli, 'echo x > "$1"', "--create", ".git/x").returncode == 2


def test_a_path_of_the_local_lane_gets_a_note(cli: Cli, clone: RepositoryOnHost) -> None:
    assert b"local lane" in edit(cli, "true", "README.md").stderr
