"""`hemma verify` on three public packages as their authors published them: source distributions from the package index.

Fetched by pip from the index that it is configured for, pinned by version and sha256; nothing of their code is kept here. All
three are built by flit, which tells pip their metadata without running anything of theirs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from controller.flows import verify as flow
from manifests.verify import VerifyReport

BUILDER = "flit_core==3.12.0 --hash=sha256:e7a0304069ea895172e3c7bb703292e992c5d1555dd1233ab7b5621b5b69e62c"
SDISTS = {
    # A library in a src layout that starts nowhere: no script, no __main__, no plugin.
    "itsdangerous": "itsdangerous==2.2.0 --hash=sha256:e0050c0b7da1eea53ffaf149c0cfbb5c6e2e2b69c4bef22c81fa6eb73e5f6173",
    # A program: a console script, a __main__, a plugin of distutils, vendored code, lazy imports, conditional fallbacks.
    "wheel": "wheel==0.45.1 --hash=sha256:661e1abd9198507b1409a20c02106d9670b2576e916d58f520316666abca6729",
    # A plugin by convention in a namespace package, flat: the host program imports it by the name in its own settings.
    "sphinxcontrib": "sphinxcontrib-serializinghtml==2.0.0"
    " --hash=sha256:e9d912827f872c029017a53f0ef2180b327c3f7fd23c87229f7a8e8b70031d4d",
}
SECONDS = 90


def pip(folder: Path, *words: str, requirements: list[str]) -> None:
    """Run pip; where the index does not answer the test is skipped, in CI it fails."""
    wanted = folder / "requirements.txt"
    wanted.write_text("\n".join(requirements) + "\n")
    argv = [
        sys.executable,
        "-m",
        "pip",
        *words,
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--requirement",
        str(wanted),
    ]
    environ = {**os.environ, "PYTHONPATH": str(folder / "builder"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False, timeout=SECONDS)
        said = done.stderr if done.returncode else ""
    except subprocess.TimeoutExpired:
        said = f"pip said nothing for {SECONDS} s"
    if said:
        last = said.strip().splitlines()[-1]
        assert "HASHES" not in said, said  # what came is not what was pinned: never skipped
        if os.environ.get("CI"):
            pytest.fail(f"the package index cannot be reached: {last}")
        pytest.skip(f"the package index cannot be reached: {last}")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three trees, as they were published."""
    folder = tmp_path_factory.mktemp("sdists")
    pip(folder, "install", "--target", str(folder / "builder"), requirements=[BUILDER])
    got = str(folder / "got")
    pip(folder, "download", "--no-binary=:all:", "--no-build-isolation", "--dest", got, requirements=[*SDISTS.values()])
    for archive in (folder / "got").iterdir():
        with tarfile.open(archive) as file:
            file.extractall(folder / "trees", filter="data")
    return {name: next((folder / "trees").glob(f"{name}*")) for name in SDISTS}


def verified(tree: Path, more: str = "", without: str = "") -> VerifyReport:
    """The report on a tree, with `more` in its pyproject.toml and one line left out; the tree is as before afterwards."""
    project = tree / "pyproject.toml"
    kept = project.read_text(encoding="utf-8")
    assert without in kept
    try:
        project.write_text(kept.replace(without, "") + more, encoding="utf-8")
        return flow.verify(flow.Request(str(tree)))
    finally:
        project.write_text(kept, encoding="utf-8")


def named(report: VerifyReport, status: str) -> dict[str, str]:
    """Module -> why, of those with that status."""
    return {row.name: row.why for row in report.modules if row.status == status}


def failing(report: VerifyReport) -> set[tuple[str, str]]:
    """What ends the check, besides modules that are not wired."""
    return {(found.kind, found.path) for found in report.findings if found.fails and found.kind != "not-wired"}


@pytest.mark.req("S19-R02", "S19-R03", "S19-R04", "S19-R09")
@pytest.mark.timeout(300)
def test_three_public_packages_are_judged_as_a_reader_would(
    unpacked: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEMMA_CACHE_DIR", str(tmp_path / "cache"))
    a_library_is_wired_once_it_says_that_it_is_one(unpacked["itsdangerous"])
    a_program_is_wired_through_its_script_and_its_plugin(unpacked["wheel"])
    a_plugin_by_convention_is_wired_once_it_is_named(unpacked["sphinxcontrib"])


def a_library_is_wired_once_it_says_that_it_is_one(tree: Path) -> None:
    """As published nothing starts there but Sphinx on docs/conf.py: right, for a library runs only when somebody imports it."""
    alone = verified(tree)
    assert (alone.counts["modules"], alone.counts["wired"], alone.counts["not_wired"]) == (9, 1, 8)
    assert named(alone, "WIRED") == {"docs.conf": "entry point: docs/conf.py, run by sphinx"}
    assert named(alone, "NOT WIRED")["itsdangerous"] == "nothing imports it"
    # The package's own __init__ gives out the rest, and `_json` is used by the class that it gives out.
    declared = verified(tree, '\n[tool.hemma.verify]\nentry = "itsdangerous"\n')
    assert (declared.ok, declared.counts["wired"], named(declared, "NOT WIRED")) == (True, 9, {})
    assert named(declared, "WIRED")["itsdangerous._json"] == "used by itsdangerous.url_safe:URLSafeSerializerMixin"


def a_program_is_wired_through_its_script_and_its_plugin(tree: Path) -> None:
    """All 30 modules, vendored ones included, which nothing declares; two inits are empty, and that is said."""
    whole = verified(tree)
    assert (whole.counts["modules"], whole.counts["wired"]) == (30, 30)
    empty = {("empty", f"src/wheel/vendored/{name}__init__.py") for name in ("", "packaging/")}
    assert failing(whole) == empty
    why = named(whole, "WIRED")
    assert why["wheel.cli.unpack"] == "used by wheel.cli:unpack_f"  # imported inside the function
    assert why["wheel.bdist_wheel"].startswith("entry point: pyproject.toml [project.entry-points.distutils.commands]")
    assert verified(tree, "\n[tool.hemma.verify]\nallow_empty_init = true\n").ok
    # Without the line that announces the plugin, what only the plugin uses is not wired any more, and nothing else.
    less = named(verified(tree, without='bdist_wheel = "wheel.bdist_wheel:bdist_wheel"\n'), "NOT WIRED")
    assert less["wheel.bdist_wheel"] == "only tests import it: tests.test_bdist_wheel"
    assert set(less) == {
        "wheel.bdist_wheel",  # the plugin
        "wheel._bdist_wheel",  # what it falls back to with an old setuptools
        "wheel._setuptools_logging",  # used by that alone
        "wheel.macosx_libfile",  # used by its get_platform
        # Used by the platform tags of the vendored packaging.tags, which the plugin alone asks for: the script needs only
        # parse_tag and Tag of that module, so the module itself stays wired.
        "wheel.vendored.packaging._manylinux",
        "wheel.vendored.packaging._musllinux",
        "wheel.vendored.packaging._elffile",
    }


def a_plugin_by_convention_is_wired_once_it_is_named(tree: Path) -> None:
    """Sphinx imports it because a user's conf.py names it: no file here says so, and only its people can."""
    alone = verified(tree)
    assert (alone.counts["modules"], alone.counts["wired"], len(alone.entries)) == (2, 0, 0)
    assert set(named(alone, "NOT WIRED")) == {"sphinxcontrib.serializinghtml", "sphinxcontrib.serializinghtml.jsonimpl"}
    declared = verified(tree, '\n[tool.hemma.verify]\nentry = "sphinxcontrib.serializinghtml:setup"\n')
    assert declared.ok
    assert named(declared, "WIRED")["sphinxcontrib.serializinghtml.jsonimpl"].startswith(
        "used by sphinxcontrib.serializinghtml:JSONHTMLBuilder"
    )
