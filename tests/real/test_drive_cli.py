"""`hemma drive` and `hemma colab` as a person types them: sign-in, dispatch, status, logs, doctor, collect."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.conftest import REPOSITORY
from tests.drive_emulator import CLIENT, REFRESH, Emulator, serving
from tests.drive_support import START, here, make_slice, put_run, run_files, status_of
from tests.support import EnvironFor, RepositoryOnHost

# What a browser does: it asks, and goes where it is sent.
BROWSER = """\
import http.client, sys, urllib.parse
address = sys.argv[1]
for _ in range(2):
    parts = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    connection.request("GET", f"{parts.path}?{parts.query}", headers={"connection": "close"})
    answer = connection.getresponse()
    answer.read()
    address = answer.getheader("location") or address
    connection.close()
"""


@pytest.fixture
def drive() -> Iterator[Emulator]:
    with serving() as server:
        yield server
        assert server.violations == []


class Hemma:
    """The command line in a process of its own, in a folder with settings of its own."""

    def __init__(self, folder: Path, drive_setting: str, **environ: str) -> None:
        self.folder = folder
        subprocess.run(["git", "init", "-q", str(folder)], check=True)
        self.environ = {
            **os.environ,
            **{f"HEMMA_{n}_DIR": str(folder / n.lower()) for n in ("CONFIG", "STATE", "CACHE")},
        }
        self.environ |= environ
        (folder / "pyproject.toml").write_text(f"[tool.hemma]\ndrive = {json.dumps(drive_setting)}\n")
        self("trust", "--yes")

    def __call__(self, *arguments: str, code: int = 0) -> str:
        ended, shown, self.errors = here(self.folder, self.environ, *arguments)
        assert ended == code, self.errors
        return shown

    def in_a_process(self, *arguments: str) -> str:
        """The same as a person starts it."""
        argv = [sys.executable, "-c", START, *arguments]
        environ = {**self.environ, "PYTHONPATH": str(REPOSITORY)}
        told = subprocess.run(argv, capture_output=True, cwd=self.folder, env=environ, timeout=60, check=False)
        self.errors = told.stderr.decode()
        assert (told.returncode, "Traceback" in self.errors) == (0, False), self.errors
        return told.stdout.decode()

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))


@pytest.fixture
def on_drive(drive: Emulator, tmp_path: Path) -> Hemma:
    made = Hemma(tmp_path, "root", HEMMA_DRIVE_ENDPOINT=drive.address)
    token = {
        "type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": REFRESH,
        "token_uri": f"{drive.address}/token", "scopes": ["https://www.googleapis.com/auth/drive"],
    }  # fmt: skip
    (tmp_path / "config").mkdir()
    (tmp_path / "config/drive-token.json").write_text(json.dumps(token))
    (tmp_path / "config/drive-token.json").chmod(0o600)
    return made


@pytest.mark.req("S20-R01", "S20-R03")
def test_a_person_signs_in_with_a_browser_and_few_rights(drive: Emulator, tmp_path: Path) -> None:
    script = tmp_path / "browser.py"
    script.write_text(BROWSER)
    client = {
        "client_id": CLIENT[0], "client_secret": CLIENT[1], "auth_uri": f"{drive.address}/o/oauth2/auth",
        "token_uri": f"{drive.address}/token", "redirect_uris": ["http://localhost"],
    }  # fmt: skip
    (tmp_path / "client.json").write_text(json.dumps({"installed": client}))
    hemma = Hemma(
        tmp_path, "root", HEMMA_DRIVE_ENDPOINT=drive.address, OAUTHLIB_INSECURE_TRANSPORT="1",
        OAUTHLIB_RELAX_TOKEN_SCOPE="1", BROWSER=f"{sys.executable} {script} %s &",
    )  # fmt: skip
    shown = hemma.in_a_process("drive", "login", "--client", "client.json")
    assert "drive.file" in shown
    assert drive.counts["scope https://www.googleapis.com/auth/drive.file"] == 1
    token = tmp_path / "config/drive-token.json"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert REFRESH in token.read_text()
    assert REFRESH not in shown + hemma.errors
    assert hemma.json("drive", "check")["account"] == "person@example.invalid"
    assert "My Drive" in hemma("drive", "check")
    hemma("drive", "logout")
    assert not token.exists()


@pytest.mark.req("S20-R01", "S20-R03")
@pytest.mark.parametrize("way", ["--service-account", "--adc"])
def test_a_service_account_signs_in_without_a_browser(drive: Emulator, tmp_path: Path, way: str) -> None:
    pair = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    secret = pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    drive.drive.account_key = pair.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    key = {
        "type": "service_account", "client_email": "hemma@project.invalid", "private_key": secret, "private_key_id": "1",
        "project_id": "p", "token_uri": f"{drive.address}/token",
    }  # fmt: skip
    (tmp_path / "key.json").write_text(json.dumps(key))
    more = {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json")} if way == "--adc" else {}
    hemma = Hemma(tmp_path, "root", HEMMA_DRIVE_ENDPOINT=drive.address, **more)
    hemma("drive", "login", way, *([] if more else ["key.json"]), "--read-all")
    token = tmp_path / "config/drive-token.json"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert "PRIVATE KEY" not in token.read_text() + hemma.errors  # where it lies is kept, not what it is
    assert hemma.json("drive", "check")["account"] == "person@example.invalid"
    asked = "https://www.googleapis.com/auth/drive.file https://www.googleapis.com/auth/drive.readonly"
    assert drive.counts[f"scope {asked}"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["drive", "login"], 2, "one way to sign in"),
        (["drive", "login", "--client", "no.json"], 75, "no OAuth client"),
        (["drive", "login", "--service-account", "pyproject.toml"], 75, "no key of a service account"),
        (["drive", "login", "--adc", "--client", "x"], 2, "one way"),
        (["drive", "login", "--full", "--read-all", "--adc"], 2, "holds"),
        (["drive", "check", "https://example.org/x"], 2, "neither Drive nor Colab"),
        (["drive", "check", "1" + "Ab9" * 10], 1, "not there"),
        (["colab", "collect", "last", "--to", "moon"], 2, "where is that"),
        (["colab", "status", "nobody"], 2, "names no run"),
        (["colab", "dispatch", "."], 2, "is no slice"),
        (["colab", "logs", "x"], 2, "names no run"),
    ],
)
def test_a_slip_is_said_in_words(on_drive: Hemma, arguments: list[str], code: int, said: str) -> None:
    ended, _, errors = here(on_drive.folder, on_drive.environ, *arguments)
    assert (ended, said in errors, "do " in errors) == (code, True, True), errors


def test_without_a_setting_or_a_sign_in_the_next_step_is_named(tmp_path: Path) -> None:
    hemma = Hemma(tmp_path, "root", GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "none.json"))
    hemma("colab", "status", code=75)
    assert "hemma drive login" in hemma.errors
    (tmp_path / "pyproject.toml").write_text("[tool.hemma]\n")
    hemma("colab", "status", code=2)
    assert 'drive = "folder:PATH"' in hemma.errors
    Hemma(tmp_path, "root", HEMMA_DRIVE_ENDPOINT="https://evil.example")("drive", "check", code=2)


def test_the_token_goes_nowhere_but_to_google_or_here(on_drive: Hemma) -> None:
    on_drive.environ["HEMMA_DRIVE_ENDPOINT"] = "http://127.0.0.1.evil.example"
    on_drive("drive", "check", code=2)
    assert "only name this machine" in on_drive.errors


@pytest.mark.req("S9-R14", "S9-R30")
def test_a_slice_goes_out_and_results_come_back(on_drive: Hemma, drive: Emulator, tmp_path: Path) -> None:
    slice_ = make_slice(tmp_path / "slices")
    shown = on_drive.in_a_process("colab", "dispatch", str(slice_))
    assert "https://colab.research.google.com/drive/" in shown
    assert "0 files sent" in on_drive("colab", "dispatch", str(slice_))
    runs = drive.drive.add("runs")
    made = put_run(
        drive, runs, "run-1", run_files("run-1", last_error={"row": "r7", "error": "no", "at": "2026-01-01T00:00:00Z"})
    )
    (row,) = on_drive.json("colab", "status")
    assert (row["run"], row["state"], row["done"], row["alert"]) == ("run-1", "running", 40, "row r7: no")
    table = on_drive("colab", "status")
    assert all(word in table for word in ("run-1", "running", "40/100 (1 set aside)", "2/s", "30s", "row r7: no"))
    assert on_drive("colab", "logs", "last") == "log of run-1\n"
    told = on_drive("colab", "doctor", "run-1", code=1)
    assert "8 of 8 files" in told
    assert "set aside: 1 of 100 rows" in told
    drive.drive.files[made["run.json"]]["capabilities"] = {"canDownload": False}
    assert "run.json can be seen" in on_drive("colab", "doctor", "run-1", code=1)
    found = on_drive.json("colab", "collect", "last", "--to", "local", code=1)
    assert [each["path"] for each in found["failed"]] == ["run.json"]
    assert (tmp_path / "results/colab/run-1/logs/run.log").read_bytes() == b"log of run-1\n"
    drive.drive.files[made["run.json"]]["capabilities"] = {"canDownload": True}
    drive.drive.fill(made["status.json"], status_of("run-1", state="finished", exit_code=0))
    on_drive("colab", "collect", "run-1", "--to", "local", "--trash")
    assert drive.drive.files[made[""]]["trashed"] is True


def test_a_plain_folder_needs_no_account(tmp_path: Path) -> None:
    hemma = Hemma(tmp_path, "folder:my drive")
    hemma("drive", "check", code=1)
    assert "mkdir -p" in hemma.errors
    (tmp_path / "my drive").mkdir()
    assert "0 entries" in hemma("drive", "check")
    slice_ = make_slice(tmp_path / "slices")
    assert str(tmp_path / "my drive/slices" / slice_.name / "notebook.ipynb") in hemma("colab", "dispatch", str(slice_))
    assert "looks in a folder called hemma" in hemma.errors
    for path, content in run_files("run-1").items():
        target = tmp_path / "my drive/runs/run-1" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    assert hemma.json("colab", "status", "run-1")[0]["done"] == 40
    assert "8 files" in hemma("colab", "collect", "last", "--to", "local", "--into", "out")
    assert "0 files" in hemma("colab", "collect", "last", "--to", "local", "--into", "out")
    assert (tmp_path / "out/artifacts/report.md").read_bytes() == b"# Report\n"


@pytest.mark.req("S9-R14")
def test_watching_goes_on_until_all_is_over(tmp_path: Path) -> None:
    hemma = Hemma(tmp_path, "folder:drive")
    status = tmp_path / "drive/runs/run-1/status.json"
    status.parent.mkdir(parents=True)
    status.write_bytes(status_of("run-1", done=40))
    argv = [sys.executable, "-c", START, "colab", "status", "--watch"]
    environ = {**hemma.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(argv, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        first = [watching.stdout.readline() for _ in range(2)]
        assert "40/100" in first[1]
        whole = tmp_path / "whole.json"
        whole.write_bytes(status_of("run-1", done=99, state="finished", exit_code=3))
        whole.replace(status)
        rest, _ = watching.communicate(timeout=30)
    assert (watching.returncode, "99/100" in rest, "finished" in rest) == (0, True, True)


@pytest.mark.req("S9-R24")
def test_results_go_to_the_host(settings_env: EnvironFor, repo_on_host: RepositoryOnHost, tmp_path: Path) -> None:
    environ = settings_env(HEMMA_DRIVE_PLACE=f"folder:{tmp_path}/drive")
    hemma = Hemma(tmp_path, "root", **environ)
    hemma.environ = environ
    for path, content in run_files("run-h").items():
        target = tmp_path / "drive/runs/run-h" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    for changed in (8, 0):
        # Not in this process: the broker that it starts would be its child.
        found = json.loads(
            hemma.in_a_process("colab", "collect", "run-h", "--into", "results/colab/from-test", "--json")
        )
        assert (len(found["changed"]), found["on_host"]) == (changed, "results/colab/from-test")
    assert (repo_on_host.path / "results/colab/from-test/logs/run.log").read_bytes() == b"log of run-h\n"
    for path in sorted((repo_on_host.path / "results").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (repo_on_host.path / "results").rmdir()


@pytest.mark.req("S9-R14", "S9-R24")
def test_runs_of_the_host_and_of_drive_are_one_table(
    settings_env: EnvironFor, repo_on_host: RepositoryOnHost, tmp_path: Path
) -> None:
    hemma = Hemma(tmp_path / "here", "root")
    hemma.environ = settings_env(HEMMA_DRIVE_PLACE=f"folder:{tmp_path}/drive")
    hemma("trust", "--yes")
    for path, content in run_files("run-d").items():
        target = tmp_path / "drive/runs/run-d" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    run_id = hemma.in_a_process("run", "--detach", "--", "sleep", "60").strip()
    try:
        rows = json.loads(hemma.in_a_process("colab", "status", "--json"))
        assert {(row["where"], row["run"], row["state"]) for row in rows} >= {
            ("host", run_id, "running"),
            ("drive", "run-d", "running"),
        }
        assert all(word in hemma.in_a_process("status") for word in (f"{run_id}  host", "run-d", "WHERE"))
        assert [row["run"] for row in json.loads(hemma.in_a_process("colab", "status", "run-d", "--json"))] == ["run-d"]
    finally:
        hemma.in_a_process("stop", run_id)
    hemma.environ["HEMMA_SSH_CONFIG"] = str(tmp_path / "none")
    (tmp_path / "none").write_text("Host *\n  HostName 127.0.0.1\n  Port 1\n")
    hemma.environ["HEMMA_BROKER"] = "off"
    assert "run-d" in hemma.in_a_process("colab", "status")
    assert "its runs are not shown" in hemma.errors


@pytest.mark.req("S9-R30")
def test_a_slice_goes_to_the_folder_that_is_named(on_drive: Hemma, drive: Emulator, tmp_path: Path) -> None:
    slice_ = make_slice(tmp_path / "slices")
    other, file = drive.drive.add("elsewhere"), drive.drive.add("a-file", content=b"x")
    found = on_drive.json("colab", "dispatch", str(slice_), "--to", f"https://drive.google.com/drive/folders/{other}")
    assert drive.drive.files[found["folder_id"]]["parents"] == [other]
    assert "sent to another folder" in found["note"]
    on_drive("colab", "dispatch", str(slice_), "--to", file, code=2)
    assert "is no folder" in on_drive.errors
    (tmp_path / "plain").mkdir()
    on_drive.environ["HEMMA_DRIVE_PLACE"] = f"folder:{tmp_path}/plain"
    on_drive("colab", "dispatch", str(slice_), "--to", "none", code=2)
    assert f"mkdir -p {tmp_path}/plain/none" in on_drive.errors


def test_a_link_says_itself_which_drive_is_meant(on_drive: Hemma, drive: Emulator, tmp_path: Path) -> None:
    on_drive.environ["HEMMA_DRIVE_PLACE"] = f"folder:{tmp_path}"
    found = drive.drive.add("elsewhere")
    assert on_drive.json("drive", "check", f"https://drive.google.com/drive/folders/{found}")["name"] == "elsewhere"


@pytest.mark.req("S9-R30", "S9-R31")
def test_a_slice_that_lies_on_the_host_goes_out_from_here(
    settings_env: EnvironFor, repo_on_host: RepositoryOnHost, tmp_path: Path
) -> None:
    environ = settings_env(HEMMA_DRIVE_PLACE=f"folder:{tmp_path}/drive")
    (tmp_path / "drive").mkdir()
    hemma = Hemma(tmp_path / "here", "root", **environ)
    hemma.environ = environ
    issued = make_slice(repo_on_host.path / "slices", files={"files/data.bin": bytes(range(256)) * 2000})
    name = f"slices/{issued.name}"
    try:
        found = json.loads(hemma.in_a_process("colab", "dispatch", name, "--json"))
        assert len(found["sent"]) == 5
        for path in (path for path in issued.rglob("*") if path.is_file()):
            assert (tmp_path / "drive" / name / path.relative_to(issued)).read_bytes() == path.read_bytes()
        missing = subprocess.run(
            [sys.executable, "-m", "hemma", "colab", "dispatch", "slices/none"],
            cwd=hemma.folder, env=environ, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert missing.returncode == 1
        assert "neither here nor on the host" in missing.stderr
    finally:
        shutil.rmtree(repo_on_host.path / "slices")
