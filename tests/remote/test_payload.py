"""The training code travels by value: deterministic, prefixed in place, beside a user's own `training`."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote import payload

ROOT = Path(__file__).resolve().parents[2]


def test_the_same_sources_give_the_same_bytes() -> None:
    first, digest = payload.payload_zip()
    payload.payload_zip.cache_clear()
    again, its_digest = payload.payload_zip()
    assert its_digest == digest  # before the bytes: a difference of megabytes takes pytest minutes to show
    assert again == first


def test_every_import_of_our_rooms_is_under_the_prefix() -> None:
    data, _ = payload.payload_zip()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            for node in ast.walk(ast.parse(archive.read(name))):
                if isinstance(node, ast.ImportFrom) and not node.level:
                    assert (node.module or "").partition(".")[0] not in payload.ROOMS, name


def test_lines_stay_where_they_are() -> None:
    for path in payload._sources("lanes"):
        source = (ROOT / path).read_text(encoding="utf-8")
        sent = payload.prefixed(source).splitlines()
        for before, after in zip(source.splitlines(), sent, strict=True):
            assert before == after or after == before.replace("from ", f"from {payload.PREFIX}.", 1)


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("from lanes.gates import x\n", "from hemma_payload.lanes.gates import x\n"),
        ("if 1:\n    from training import y; z = 1\n", "if 1:\n    from hemma_payload.training import y; z = 1\n"),
        ("from lanesx import a\nfrom .lanes import b\n", "from lanesx import a\nfrom .lanes import b\n"),
        (
            "'ü'; from lanes import (\n    a,\n    b,\n)\n",
            "'ü'; from hemma_payload.lanes import (\n    a,\n    b,\n)\n",
        ),
        ("text = 'from lanes import a'\n", "text = 'from lanes import a'\n"),
    ],
)
def test_only_imports_of_ours_move(source: str, wanted: str) -> None:
    assert payload.prefixed(source) == wanted


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\0\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=40)
)
def test_text_in_strings_is_left_alone(text: str) -> None:
    source = f"x = {text!r}; y = {text.encode()!r}\nfrom lanes.a import b\n"
    assert payload.prefixed(source).startswith(source.partition("\n")[0])


def test_an_import_that_would_find_the_users_own_is_refused() -> None:
    with pytest.raises(ValueError, match="by value"):
        payload.prefixed("import lanes.gates\n")


@pytest.mark.req("S8-R01")
def test_a_users_own_training_package_imports_beside_ours(tmp_path: Path) -> None:
    sent = tmp_path / "payload.zip"
    sent.write_bytes(payload.payload_zip()[0])
    own = tmp_path / "repo/training"
    own.mkdir(parents=True)
    (own / "__init__.py").write_text("WHO = 'the user'\n")
    code = (
        f"import sys; sys.path[:0] = [{str(sent)!r}, {str(own.parent)!r}]\n"
        "import training; from hemma_payload.lanes import gates\n"
        "print(training.WHO, gates.__name__)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "the user hemma_payload.lanes.gates"


def test_what_is_asked_of_it_wrongly_gets_its_usage(tmp_path: Path) -> None:
    sent = tmp_path / "payload.zip"
    sent.write_bytes(payload.payload_zip()[0])
    done = subprocess.run([sys.executable, "-I", str(sent)], capture_output=True, text=True, check=False)
    assert (done.returncode, "usage" in done.stderr, "Traceback" in done.stderr) == (2, True, False)
