"""Ctrl-C while Hemma is still being loaded ends in one line and 130, at whatever import it comes (issue 10 J)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import Cli

# Sends itself SIGINT when the module NAME is looked for, as a person would who is quick.
INTERRUPTED = """
import os, signal, sys
name, entry = sys.argv[1:3]
class AtImport:
    def find_spec(self, wanted, path=None, target=None):
        if wanted == name:
            os.kill(os.getpid(), signal.SIGINT)
            sys.meta_path.remove(self)
        return None
sys.meta_path.insert(0, AtImport())
sys.argv = ["hemma", *sys.argv[3:]]
import hemma.__main__
code = getattr(hemma.__main__, entry)()
print("not interrupted")
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("name", "entry", "verb"),
    [
        ("controller", "main", "run"),
        ("controller.cli.run", "main", "run"),
        ("manifests.errors", "run_hemma", "run"),
        ("remote.session", "run_hemma", "run"),
        ("controller.cli.leaving", "main", "ps"),
        ("typer", "main", "ps"),
        ("rich.console", "main", "ps"),
        ("controller.cli.runs", "main", "ps"),
        ("pydantic", "main", "config"),
        ("controller.cli.sync", "main", "status"),
    ],
)
def test_an_interrupt_during_an_import_is_one_line(
    hemma: Cli, tmp_path: Path, name: str, entry: str, verb: str
) -> None:
    root = Path(__file__).parents[2]
    script = tmp_path / "interrupted.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(root)!r})\n{INTERRUPTED}")
    argv = [sys.executable, "-P", str(script), name, entry, verb, *(["--", "true"] if verb == "run" else [])]
    done = subprocess.run(argv, env=hemma.environ, cwd=hemma.folder, capture_output=True, timeout=60, check=False)
    said = done.stderr.decode()
    assert "Traceback" not in said, said
    assert done.returncode == 130, said
    assert said.count("\n") <= 1, said
