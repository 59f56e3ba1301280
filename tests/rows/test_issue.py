"""A slice is issued from committed work only, the same every time, holds what is needed and no secret, and proves itself."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from controller.cli import notebook as notebook_cli
from controller.cli import rows as rows_cli
from controller.cli import slice as cli
from controller.flows import slices as flow
from controller.flows.notebook_build import from_slice
from lanes.notebook_rules import check_thin
from lanes.slice_sealed import is_sealed
from manifests.errors import HemmaError, NeedsPerson, UsageError
from manifests.slices import parse_slice_manifest
from tests.rows.slices import MANIFEST, SMALL, a_row, a_slice, commit, engine, issue, issue_apart, make_clone, results
from tests.support import EnvironFor, RepositoryOnHost

pytestmark = pytest.mark.real


def files_in(folder: Path) -> dict[str, bytes]:
    """path -> content of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def verbs() -> typer.Typer:
    """The verbs under test, as the command line has them."""
    app = typer.Typer()
    for module in (cli, rows_cli, notebook_cli):
        module.register(app)
    return app


def invoke(*words: str | Path) -> Any:
    """Run a verb in this process."""
    return CliRunner().invoke(verbs(), [str(word) for word in words])


def put(clone: RepositoryOnHost, **changes: Any) -> None:
    """Change the manifest and commit it."""
    (clone.path / MANIFEST).write_text(yaml.safe_dump({**SMALL, **changes}))
    commit(clone)


@pytest.mark.req("S9-R30", "S9-R31")
def test_it_holds_what_is_needed_and_the_same_bytes_every_time(clone: RepositoryOnHost) -> None:
    first = issue(clone)
    folder = clone.path / first["folder"]
    assert (first["state"], folder.name) == ("issued", f"words-{first['index']['digest'][:12]}")
    found = files_in(folder)
    assert sorted(found) == [
        "README.md", "files/prep/words.txt", "manifest.yaml", "notebook.ipynb", "rows.jsonl", "slice.json", "source.pyz",
    ]  # fmt: skip
    with zipfile.ZipFile(folder / "source.pyz") as archive:
        own = [name for name in archive.namelist() if not name.startswith(("hemma_payload/", "__main__"))]
    assert own == ["prep/__init__.py", "prep/clean.py", "prep/words.py"]
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in found} == {0o444}
    assert issue(clone)["state"] == "there"
    shutil.rmtree(folder)
    assert (issue_apart(clone)["state"], files_in(folder)) == ("issued", found)
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name]
    index = first["index"]
    assert index["commit"] == clone.git("rev-parse", "HEAD")
    assert (index["lane"], index["rows"], index["resume"]["completed"]) == ("colab", 12, "skip")
    assert check_thin(found["notebook.ipynb"]) == []


@pytest.mark.req("S9-R30", "S9-R33")
def test_a_processor_in_a_folder_without_init_is_found(clone: RepositoryOnHost, tmp_path: Path) -> None:
    clone.git("rm", "-q", "prep/__init__.py")
    commit(clone)
    folder = clone.path / issue(clone)["folder"]
    done = engine("run", folder, "--run", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    sealed = tmp_path / "sealed"
    with zipfile.ZipFile(folder / "source.pyz") as archive:
        archive.extractall(sealed)
    environ = {**os.environ, "PYTHONPATH": str(sealed)}
    argv = [sys.executable, "-m", "hemma_payload.training.rows", "verify", str(folder)]
    assert subprocess.run(argv, env=environ, check=False, cwd=tmp_path).returncode == 0
    cells = json.loads(from_slice(str(folder), "sealed"))["cells"]
    assert sum(is_sealed("".join(cell["source"])) for cell in cells) == 1


@pytest.mark.req("S9-R31")
def test_a_dry_run_lists_everything_and_writes_nothing(clone: RepositoryOnHost) -> None:
    dry = issue(clone, dry=True)
    assert (dry["state"], (clone.path / "slices").exists()) == ("dry", False)
    done = issue(clone)
    assert dry["index"] == done["index"]
    folder = clone.path / done["folder"]
    sizes = {each["path"]: each["size_bytes"] for each in dry["index"]["files"]}
    assert sizes == {name: len(content) for name, content in files_in(folder).items() if name != "slice.json"}


def dirty(clone: RepositoryOnHost) -> None:
    (clone.path / "prep/clean.py").write_text("x = 1\n")


def untracked_processor(clone: RepositoryOnHost) -> None:
    (clone.path / "prep/new.py").write_text("def f(row): return row\n")
    text = (clone.path / MANIFEST).read_text().replace("prep.clean:clean", "prep.new:f")
    (clone.path / MANIFEST).write_text(text)
    clone.git("add", MANIFEST)
    clone.git("commit", "-q", "-m", "x")


def secret(clone: RepositoryOnHost) -> None:
    (clone.path / "prep/words.txt").write_text("password = 'correct-Horse-7-battery'\n")
    commit(clone)


def link_out(clone: RepositoryOnHost) -> None:
    (clone.path / "out.txt").symlink_to("/etc/hostname")
    put(clone, files=["out.txt"])


def broken_source(clone: RepositoryOnHost) -> None:
    (clone.path / "prep/words.py").write_text("def (\n")
    commit(clone)


def broken_row(clone: RepositoryOnHost) -> None:
    with (clone.path / "data/rows.jsonl").open("a") as file:
        file.write('{"id": 99,\n')
    commit(clone)


def twice_the_key(clone: RepositoryOnHost) -> None:
    with (clone.path / "data/rows.jsonl").open("a") as file:
        file.write('{"id": 1}\n')
    commit(clone)


REFUSALS: list[tuple[Callable[[RepositoryOnHost], None], str, str]] = [
    (dirty, "not committed: prep/clean.py", "dirty-tree"),
    (untracked_processor, "prep.new is no tracked module", "slice-refused"),
    (secret, "prep/words.txt: named-value 1", "secret-in-slice"),
    (link_out, "out.txt leads out of the repository", "slice-refused"),
    (broken_source, "prep/words.py is not Python", "slice-refused"),
    (broken_row, "line 13 is no JSON", "slice-refused"),
    (twice_the_key, "row 13 has the key '1'", "slice-refused"),
    (lambda clone: put(clone, files=["gone/*.txt"]), "nothing matches gone", "slice-refused"),
    (lambda clone: put(clone, include=["gone.py"]), "gone.py is no tracked file", "slice-refused"),
    (lambda clone: put(clone, rows={"source": "data/none.jsonl"}), "No such file", "slice-refused"),
    (
        lambda clone: put(clone, rows={"source": "data/rows.jsonl", "where": {"id": -1}}),
        "no row is left",
        "slice-refused",
    ),
    (
        lambda clone: put(clone, rows={"source": "data/rows.jsonl", "select": "prep.choose:gone"}),
        "prep.choose:gone cannot be loaded",
        "slice-refused",
    ),
]


@pytest.mark.req("S9-R30", "S9-R35", "S20-R03")
@pytest.mark.parametrize(("spoil", "said", "code"), REFUSALS, ids=[said for _, said, _ in REFUSALS])
def test_a_refusal_says_which_file_and_writes_nothing(
    clone: RepositoryOnHost, spoil: Callable[[RepositoryOnHost], None], said: str, code: str
) -> None:
    spoil(clone)
    with pytest.raises(HemmaError) as told:
        (issue_apart if "prep.choose" in said else issue)(clone)
    assert said in told.value.message
    assert told.value.code == code
    assert told.value.remedy
    assert "correct-Horse" not in told.value.message
    assert not (clone.path / "slices").exists()


@pytest.mark.req("S9-R35", "S9-R36")
def test_rows_are_chosen_by_code_of_the_repository_and_not_twice(clone: RepositoryOnHost, tmp_path: Path) -> None:
    put(clone, rows={"source": "data/rows.jsonl", "key": "id", "select": "prep.choose:even", "limit": 2})
    first = clone.path / issue_apart(clone)["folder"]
    assert engine("run", first, "--run", tmp_path / "run").returncode == 0
    second = clone.path / issue_apart(clone, without=[str(tmp_path / "run")])["folder"]
    keys = [
        [json.loads(line)["key"] for line in (each / "rows.jsonl").read_text().splitlines()] for each in (first, second)
    ]
    assert keys == [["0", "2"], ["4", "6"]]


def test_an_accepted_file_travels_with_its_reason_in_the_manifest(clone: RepositoryOnHost) -> None:
    secret(clone)
    put(clone, accept={"prep/words.txt": "an example in the docs"})
    assert issue(clone)["state"] == "issued"


@pytest.mark.req("S9-R30")
def test_only_the_clone_that_counts_issues(clone: RepositoryOnHost, tmp_path: Path) -> None:
    assert flow.demand_authority(str(clone.path), None) == str(clone.path)
    assert flow.demand_authority(str(clone.path), str(clone.path)) == str(clone.path)
    with pytest.raises(NeedsPerson, match="not the one that counts"):
        flow.demand_authority(str(clone.path), str(tmp_path / "elsewhere"))


# --- a bundle -------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(plain_slice: Path, tmp_path: Path) -> Path:
    """A copy of a slice that may be spoilt."""
    folder = tmp_path / plain_slice.name
    shutil.copytree(plain_slice, folder)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@pytest.mark.req("S9-R30")
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.jsonl", b"{}\n", "rows.jsonl: 3 bytes, not"),
        ("prep.py", b"", "prep.py: is no part of this slice"),
        ("files/prep/words.txt", b"hallo\n", "its content was changed"),
        ("README.md", None, "README.md: No such file"),
        ("slice.json", b"{}", "none of a slice"),
        ("paths.json", b'{"prep": "/x"}', "prep is not declared localizable"),
    ],
)
def test_whatever_is_changed_is_found(copied: Path, name: str, content: bytes | None, said: str) -> None:
    assert invoke("slice", "verify", copied).exit_code == 0
    if content is None:
        (copied / name).unlink()
    else:
        (copied / name).write_bytes(content)
    done = engine("run", copied, "--run", copied.parent / "run")
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert not (copied.parent / "run").exists()
    found = invoke("slice", "verify", copied, "--json")
    assert found.exit_code == 1


def test_a_digest_in_slice_json_cannot_be_edited_along(copied: Path) -> None:
    index = json.loads((copied / "slice.json").read_text())
    index["processor"] = "os:system"
    (copied / "slice.json").write_text(json.dumps(index))
    with pytest.raises(HemmaError, match="changed after it was issued"):
        flow.read(str(copied))


@pytest.mark.req("S9-R32")
def test_localize_changes_the_rows_paths_and_no_other_byte(tmp_path: Path) -> None:
    declared = [{"name": "images", "default": "files/images", "fields": ["path"]}]
    folder = a_slice(tmp_path, [a_row(1, path="a/b.png"), a_row(2)], localizable=declared)
    before = files_in(folder)
    assert engine("run", folder, "--run", tmp_path / "one").returncode == 0
    done = invoke("slice", "localize", folder, "images=/mnt/img", "--json")
    assert json.loads(done.stdout) == {"images": "/mnt/img"}
    assert {name: content for name, content in files_in(folder).items() if name != "paths.json"} == before
    assert invoke("slice", "verify", folder).exit_code == 0
    assert engine("run", folder, "--run", tmp_path / "two").returncode == 0
    paths = [results(tmp_path / run)[0]["result"]["path"] for run in ("one", "two")]
    assert paths == [str(folder / "files/images/a/b.png"), "/mnt/img/a/b.png"]
    with pytest.raises(UsageError, match="no localizable path"):
        flow.localize(str(folder), ["rows=/x"])


def test_show_and_diff_say_what_is_in_slices(clone: RepositoryOnHost) -> None:
    first = clone.path / issue(clone)["folder"]
    put(clone, rows={"source": "data/rows.jsonl", "key": "id", "limit": 10}, gpu="optional")
    second = clone.path / issue(clone)["folder"]
    shown = json.loads(invoke("slice", "show", first, "--json").stdout)
    assert (shown["rows"], shown["processor"]) == (12, "prep.clean:clean")
    assert "words.txt" in invoke("slice", "show", first).stdout
    said = invoke("slice", "diff", first, second).stdout.splitlines()
    assert {"- row 10", "- row 11", "~ file rows.jsonl", "~ gpu: none -> optional"} <= set(said)
    assert invoke("slice", "diff", first, first).stdout == ""


# --- verbs ----------------------------------------------------------------------------------------------------------


@pytest.mark.req("S18-R06")
def test_the_notebook_is_built_from_a_slice_and_from_its_manifest(
    clone: RepositoryOnHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone.path)
    monkeypatch.setenv("HEMMA_CONFIG_DIR", str(tmp_path / "config"))
    folder = clone.path / issue(clone)["folder"]
    for flavour in ("--thin", "--sealed"):
        one, two = tmp_path / "one.ipynb", tmp_path / "two.ipynb"
        assert invoke("notebook", "build", folder, flavour, "-o", one).exit_code == 0
        assert invoke("notebook", "build", MANIFEST, "--here", flavour, "-o", two).exit_code == 0
        assert one.read_bytes() == two.read_bytes()
        assert check_thin(one.read_bytes()) == []
        assert (one.read_bytes() == (folder / "notebook.ipynb").read_bytes()) == (flavour == "--thin")


@pytest.mark.req("S18-R07", "C1")
def test_a_sealed_notebook_is_stale_when_its_source_has_changed(
    clone: RepositoryOnHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone.path)
    monkeypatch.setenv("HEMMA_CONFIG_DIR", str(tmp_path / "config"))
    build = ("notebook", "build", MANIFEST, "--here", "--sealed", "-o", "run.ipynb")
    assert invoke(*build).exit_code == 0
    assert invoke("notebook", "check", "run.ipynb").exit_code == 0
    (clone.path / "prep/words.py").write_text((clone.path / "prep/words.py").read_text() + "# a line more\n")
    commit(clone)
    told = invoke("notebook", "check", "run.ipynb")
    assert (told.exit_code, "carries prep/words.py as it was before" in told.stdout) == (1, True), told.stdout
    assert "hemma notebook build" in told.stdout
    assert invoke(*build).exit_code == 0
    assert invoke("notebook", "check", "run.ipynb").exit_code == 0
    clone.git("rm", "-q", "prep/words.py")
    assert "stale" in invoke("notebook", "check", "run.ipynb").stdout
    shutil.copy("run.ipynb", tmp_path / "elsewhere.ipynb")
    assert invoke("notebook", "check", tmp_path / "elsewhere.ipynb").exit_code == 0  # no repository to compare with


@pytest.mark.req("S9-R30", "S9-R31")
def test_issue_here_lists_files_with_sizes_and_says_what_to_do(
    clone: RepositoryOnHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone.path / "prep")
    monkeypatch.setenv("HEMMA_CONFIG_DIR", str(tmp_path / "config"))
    manifest = f"../{MANIFEST}"
    dry = invoke("slice", "issue", manifest, "--here", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert {"6 files/prep/words.txt", "BYTES FILE"} <= {" ".join(line.split()) for line in dry.stdout.splitlines()}
    assert "12 rows; it would be slices/words-" in dry.stderr
    assert not (clone.path / "slices").exists()
    done = invoke("slice", "issue", manifest, "--here")
    assert "hemma colab dispatch slices/words-" in done.stderr
    assert invoke("slice", "issue", manifest, "--here").stderr.count("was there already, the same") == 1


@pytest.mark.req("S9-R14")
def test_status_reads_the_files_alone(plain_slice: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert engine("run", plain_slice, "--run", run).returncode == 0
    assert "finished, 23 of 23 rows done" in invoke("rows", "status", run).stdout
    path = run / "status.json"
    old = json.loads(path.read_text()) | {"state": "running", "heartbeat_at": "2026-01-01T00:00:00+00:00"}
    path.write_text(json.dumps(old))
    assert "no heartbeat for" in invoke("rows", "status", run).stdout
    assert json.loads(invoke("rows", "status", run, "--json").stdout)["is_late"] is True
    with pytest.raises(UsageError, match=r"no status\.json"):
        rows_cli.status(str(tmp_path))


def test_the_example_manifest_is_one() -> None:
    assert parse_slice_manifest(invoke("slice", "example").stdout, "x.yaml").name == "clean-text"


@pytest.mark.req("S9-R30")
def test_the_host_issues_from_its_own_clone(settings_env: EnvironFor, tmp_path: Path) -> None:
    clone = make_clone(tmp_path / "on-host", [a_row(number) for number in range(3)])
    code = (
        "import json, sys; from controller.cli.run import settings_for; from controller.flows import slices as s; "
        f"m, n = s.manifest_on_host(settings_for(None), {MANIFEST!r}); "
        "print(json.dumps(s.issue_on_host(settings_for(None), s.request_of(m, n), lambda _: None)))"
    )
    environ = settings_env(root=clone.path, PYTHONPATH=str(Path(flow.__file__).parents[2]))
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["state"] == "issued"
    folder = clone.path / found["folder"]
    assert found["index"] == issue(clone)["index"]  # the same from here
    assert engine("verify", folder, "--digest", found["index"]["digest"]).returncode == 0


@pytest.mark.req("S9-R33", "S9-R36")
def test_hemma_rows_is_the_slices_own_engine(plain_slice: Path, tmp_path: Path) -> None:
    code = "import sys; from controller.cli import rows; import typer; app = typer.Typer(); rows.register(app); app()"
    environ = {**os.environ, "PYTHONPATH": str(Path(flow.__file__).parents[2])}

    def hemma(*words: str | Path) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", code, "rows", *map(str, words)]
        return subprocess.run(argv, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = hemma("run", plain_slice, "--run", tmp_path / "run", "--session-limit", "3600")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "finished: 23 of 23 rows done, 0 left"
    checked = hemma("check", plain_slice, "--run", tmp_path / "run")
    assert json.loads(checked.stdout) == {
        "total": 23, "done": 23, "quarantined": 0, "missing": 0, "repeated": 0, "faults": [],
    }  # fmt: skip
    measured = json.loads(hemma("bench", plain_slice, "--rows", "5").stdout)
    assert (measured["rows"], measured["failed"]) == (5, 0)
