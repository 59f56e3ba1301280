"""Status of runs in Drive and the collect of results, beside PyDrive2 and rclone on the same emulated Drive.

    benchmarks/drive.py [--json FILE] [--quick] [--pydrive2 PYTHON]

The Drive is tests/drive_emulator.py in a process of its own, with 80 ms before each answer for status and 20 ms for
collect. PyDrive2 (a Python that has it: --pydrive2) does what a person writes with it: list each folder, read each
status. It reads no more than we do: the metadata of every file of every run, and each run's status.json. rclone, where
it is installed, copies the same folder; it is told to be as quick as it can (its own default waits 100 ms between
calls). Times are of the work itself, without the start of Python; both sides speak TLS in the collect.
"""

from __future__ import annotations

import datetime as dt
import http.client
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from harness import table
from harness.table import Row

REPOSITORY = Path(__file__).resolve().parent.parent
TOKEN = {"access_token": "a-token", "token_type": "Bearer", "expiry": "2099-01-01T00:00:00Z"}

OURS = """
import json, os, resource, sys, time
sys.path.insert(0, {repository!r})
from google.oauth2.credentials import Credentials
from controller.flows import colab_collect, colab_status
from controller.flows.drive import Place
from remote.drive.google import GoogleStore
what, address, root, target = sys.argv[1:]
times, store = [], GoogleStore(Credentials("a-token"), endpoint=address)
def go_on(folder):
    for entry in store.list(folder):
        if entry.name == "status.json":
            text = b"".join(store.read(entry.id)) + b"\\n"
            with open(target, "wb") as file:
                file.write(text)
            store.upload(target, folder, entry.name, file_id=entry.id, is_new=False)
            return True
    return any(go_on(entry.id) for entry in store.list(folder) if entry.kind == "folder")
for turn in range(3 if what == "status" else 1):
    between = -store.calls
    if turn == 2:
        assert go_on(root)
    between += store.calls
    before, begun = store.calls, time.perf_counter()
    if what == "status":
        found = len(colab_status.rows(Place(store, root, root)))
    else:
        done = colab_collect.collect(Place(store, root, root), "run", root, target)
        assert not done.failed, done.failed
        found = len(done.changed)
    times.append((time.perf_counter() - begun, store.calls - before, found))
print(json.dumps({{"times": times, "between": between, "peak_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}}))
"""

PYDRIVE2 = """
import json, os, resource, sys, time
import httplib2
from googleapiclient import discovery, discovery_cache
from oauth2client.client import AccessTokenCredentials
from pydrive2.auth import GoogleAuth
from pydrive2.drive import GoogleDrive
what, address, root, target = sys.argv[1:]
document = json.loads(discovery_cache.get_static_doc("drive", "v2"))
document.update(rootUrl=address + "/", baseUrl=address + "/drive/v2/")
auth = GoogleAuth(settings={{"client_config_backend": "settings", "oauth_scope": [], "client_config": {{"client_id": "c", "client_secret": "s"}}}})
auth.credentials = AccessTokenCredentials("a-token", "bench")
auth.service = discovery.build_from_document(document, http=auth.credentials.authorize(httplib2.Http()))
drive = GoogleDrive(auth)

def children(folder):
    return drive.ListFile({{"q": "'" + folder + "' in parents and trashed = false", "maxResults": 1000}}).GetList()

def tree(folder, path=""):
    for each in children(folder):
        here = path + "/" + each["title"]
        if each["mimeType"].endswith(".folder"):
            yield from tree(each["id"], here)
        else:
            yield here, each

begun = time.perf_counter()
if what == "status":
    (runs,) = [each for each in children(root) if each["title"] == "runs"]
    found = 0
    for run in children(runs["id"]):
        files = dict(tree(run["id"]))
        json.loads(files["/status.json"].GetContentString())
        found += 1
else:
    found = 0
    for path, each in tree(root):
        os.makedirs(os.path.dirname(target + path), exist_ok=True)
        each.GetContentFile(target + path)
        found += 1
took = time.perf_counter() - begun
print(json.dumps({{"times": [(took, 0, found)], "peak_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}}))
"""


@dataclass(frozen=True)
class Size:
    """How much there is: runs for status; small files and large ones (count, bytes each) for collect; rounds of each."""

    runs: int = 50
    small: int = 2000
    large: int = 4
    large_bytes: int = 512 << 20
    rounds: int = 3


QUICK = Size(runs=5, small=20, large=1, large_bytes=9 << 20, rounds=1)


class Bench:
    """A temporary folder, the certificate in it, and the peers."""

    def __init__(self, pydrive2: str | None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hemma-bench-drive-"))
        self.pydrive2 = pydrive2 or os.environ.get("HEMMA_BENCH_PYDRIVE2") or sys.executable
        self.certificate = certificate(self.folder)
        self.scripts = {"ours": self.folder / "ours.py", "pydrive2": self.folder / "with_pydrive2.py"}
        for name, text in (("ours", OURS), ("pydrive2", PYDRIVE2)):
            self.scripts[name].write_text(textwrap.dedent(text).format(repository=str(REPOSITORY)), encoding="utf-8")
        self.turn = 0

    def python_of(self, who: str) -> str:
        """The interpreter that runs this side."""
        return self.pydrive2 if who == "pydrive2" else sys.executable

    def has_pydrive2(self) -> bool:
        """Whether that Python has PyDrive2."""
        return not subprocess.run([self.pydrive2, "-c", "import pydrive2"], capture_output=True, check=False).returncode

    def environ(self) -> dict[str, str]:
        """What every side runs in: state of its own, and our certificate as the only authority."""
        self.turn += 1
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEMMA_", "PYTHON"))}
        bundle = str(self.certificate)
        return {**kept, "HEMMA_STATE_DIR": str(self.folder / f"state{self.turn}"), "HTTPLIB2_CA_CERTS": bundle}

    def run(self, who: str, what: str, address: str, root: str) -> dict[str, Any]:
        """One side does the work in a process of its own; its own account of it."""
        target = self.folder / f"to-{who}-{self.turn}"
        argv = [self.python_of(who), str(self.scripts[who]), what, address, root, str(target)]
        told = subprocess.run(argv, capture_output=True, text=True, env=self.environ(), check=False, timeout=900)
        shutil.rmtree(target, ignore_errors=True)
        if told.returncode:
            raise SystemExit(f"{who} failed:\n{told.stderr[-3000:]}")
        return json.loads(told.stdout)


def certificate(folder: Path) -> Path:
    """A certificate of our own for this machine and for Google's name, key and all in one file."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hemma bench")])
    names = [
        x509.DNSName("www.googleapis.com"),
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def emulator(bench: Bench, tree: list[Any], latency_ms: float) -> Generator[str]:
    """A Drive with this tree in a process of its own; its address."""
    file = bench.folder / "tree.json"
    file.write_text(json.dumps(tree), encoding="utf-8")
    argv = [sys.executable, str(REPOSITORY / "tests/drive_emulator.py"), "--tree", str(file)]
    argv += ["--latency-ms", str(latency_ms), "--tls", str(bench.certificate)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        address = process.stdout.readline().strip()
        try:
            yield address
            wrong = ask(address, "violations")
            if wrong:
                raise SystemExit(f"requests that the API does not know: {wrong[:5]}")
        finally:
            process.stdin.close()


def ask(address: str, what: str) -> Any:
    """What the emulator tells of itself."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", f"/_control/{what}")
        return json.load(connection.getresponse())
    finally:
        connection.close()


def calls(address: str) -> int:
    """How many calls there were since the last question."""
    total = sum(ask(address, "counts").values())
    ask(address, "reset")
    return total


def file_id(number: int) -> str:
    """An id as Drive draws them."""
    return f"1Bench{number:027d}"


# --- status --------------------------------------------------------------------------------------------------------------


def runs_tree(size: Size) -> list[Any]:
    """Runs of eight files each, in the folders that a run has."""
    now = dt.datetime.now(dt.UTC).isoformat()
    status = {
        "kind": "rows", "state": "running", "counts": {"total": 100, "done": 7}, "heartbeat_at": now, "heartbeat_s": 10.0,
    }  # fmt: skip
    tree: list[Any] = [["project", "root", file_id(0), None], ["runs", file_id(0), file_id(1), None]]
    for run in range(size.runs):
        base = 100 * (run + 1)
        tree.append([f"run-{run:03}", file_id(1), file_id(base), None])
        for at, name in enumerate(("logs", "spool", "evidence", "artifacts"), 1):
            tree.append([name, file_id(base), file_id(base + at), None])
        files = [("status.json", 0, json.dumps(status)), ("run.json", 0, "{}"), ("events.jsonl", 0, "{}\n")]
        files += [("run.log", 1, "log\n"), ("shard-0.jsonl", 2, "{}\n"), ("shard-1.jsonl", 2, "{}\n")]
        files += [("versions.json", 3, "{}"), ("report.md", 4, "# Report\n")]
        tree += [[name, file_id(base + at), file_id(base + 10 + n), text] for n, (name, at, text) in enumerate(files)]
    return tree


def status(bench: Bench, size: Size) -> list[Row]:
    """All runs as rows, once from nothing and once more, beside PyDrive2."""
    # Seconds and calls of the first look, of the second, calls of the third.
    rounds: list[tuple[float, int, float, int, int]] = []
    theirs: list[tuple[float, int]] = []
    with emulator(bench, runs_tree(size), 80) as address:
        for _ in range(size.rounds):
            calls(address)
            told = bench.run("ours", "status", address, file_id(0))
            (first, first_calls, found), (second, second_calls, again), (_, third_calls, once_more) = told["times"]
            counted = first_calls + second_calls + told["between"] + third_calls
            if not found == again == once_more == size.runs or calls(address) != counted:
                raise SystemExit(f"the counts differ: {told}")
            rounds.append((first, first_calls, second, second_calls, third_calls))
            if bench.has_pydrive2():
                told = bench.run("pydrive2", "status", address, file_id(0))
                theirs.append((told["times"][0][0], calls(address)))
    first, first_calls, second, second_calls, third_calls = sorted(rounds)[len(rounds) // 2]
    peer, peer_calls = sorted(theirs)[len(theirs) // 2] if theirs else (None, None)
    what = f"status of {size.runs} runs of 8 files, 80 ms"
    return [
        Row(what, first * 1000, peer and peer * 1000, "ms", "<= 0.25", "PyDrive2"),
        Row("… calls", first_calls, peer_calls, "", "<= 0.3", "PyDrive2"),
        Row("second status: calls", second_calls, 2, "", "<= 1", "allowed"),
        Row("third, after one run went on: calls", third_calls, 2, "", "<= 1", "allowed"),
        Row("second status", second * 1000, peer and peer * 1000, "ms", None, "PyDrive2"),
    ]


# --- collect -------------------------------------------------------------------------------------------------------------


def results_tree(size: Size) -> list[Any]:
    """One run with small files in 20 folders, and large ones."""
    tree: list[Any] = [["run", "root", file_id(0), None]]
    tree += [[f"part{n:02}", file_id(0), file_id(n + 1), None] for n in range(20)]
    tree += [
        [f"row-{n:05}.json", file_id(n % 20 + 1), file_id(1000 + n), json.dumps({"row": n, "text": "x" * 1500})]
        for n in range(size.small)
    ]
    return tree + [[f"model-{n}.bin", file_id(0), file_id(100_000 + n), size.large_bytes] for n in range(size.large)]


def collect(bench: Bench, size: Size) -> list[Row]:
    """Everything of a run to the disk, beside rclone and PyDrive2 (once: it takes minutes)."""
    ours: list[tuple[float, int]] = []
    rclone: list[float] = []
    tree = results_tree(size)
    with emulator(bench, tree, 20) as address:
        secure = address.replace("http:", "https:")
        for _ in range(size.rounds):
            told = bench.run("ours", "collect", secure, file_id(0))
            ours.append((told["times"][0][0], told["peak_kb"]))
            if shutil.which("rclone"):
                rclone.append(with_rclone(bench, address, size))
        theirs = bench.run("pydrive2", "collect", secure, file_id(0)) if bench.has_pydrive2() else None
    peer_peak = theirs["peak_kb"] / 1024 if theirs else None
    took, peak = sorted(ours)[len(ours) // 2]
    total = (size.large * size.large_bytes + size.small * 1520) / 1e6
    what = f"collect of {size.small:,} small files and {size.large * size.large_bytes / 1e9:.1f} GB, 20 ms"
    rows = [Row("… peak memory", peak / 1024, peer_peak, "MiB", None, "PyDrive2")]
    if theirs:
        rows.insert(0, Row(what, total / took, total / theirs["times"][0][0], "MB/s", ">= 4", "PyDrive2"))
    if rclone:
        speed = total / sorted(rclone)[len(rclone) // 2]
        rows.insert(0, Row(what, total / took, speed, "MB/s", ">= 0.9", "rclone, unpaced"))
    return rows


def with_rclone(bench: Bench, address: str, size: Size) -> float:
    """Seconds that rclone takes for the same, as many at once as we do, its waits between calls switched off."""
    config = bench.folder / "rclone.conf"
    config.write_text(
        f"[bench]\ntype = drive\nscope = drive\nclient_id = c\nclient_secret = s\ntoken = {json.dumps(TOKEN)}\n"
        f"root_folder_id = {file_id(0)}\n",
        encoding="utf-8",
    )
    target = bench.folder / "to-rclone"
    argv = ["rclone", "--config", str(config), "--ca-cert", str(bench.certificate), "copy", "bench:", str(target)]
    argv += ["--transfers", "12", "--checkers", "12", "--drive-pacer-min-sleep", "1ms", "--drive-pacer-burst", "10000"]
    environ = {**bench.environ(), "HTTPS_PROXY": address}
    begun = time.perf_counter()
    told = subprocess.run(argv, capture_output=True, text=True, env=environ, check=False, timeout=900)
    took = time.perf_counter() - begun
    count = sum(1 for path in target.rglob("*") if path.is_file())
    shutil.rmtree(target, ignore_errors=True)
    if told.returncode or count != size.small + size.large:
        raise SystemExit(f"rclone copied {count} files:\n{told.stderr[-3000:]}")
    return took


def _leave(number: int, _frame: object) -> None:
    """`timeout` ends us so: the emulator must not stay behind."""
    sys.exit(128 + number)


def main() -> int:
    """Measure and show; returns 0 when every target holds, else 1 (--quick: always 0)."""
    parser = table.parser_for(__doc__ or "")
    parser.add_argument("--pydrive2", metavar="PYTHON", help="a Python that has PyDrive2")
    options = parser.parse_args()
    size = QUICK if options.quick else Size()
    signal.signal(signal.SIGTERM, _leave)
    bench = Bench(options.pydrive2)
    try:
        rows = [*status(bench, size), *collect(bench, size)]
    finally:
        shutil.rmtree(bench.folder, ignore_errors=True)
    table.show("Drive: status and collect", rows, options.json)
    return int(not options.quick and any(row.holds is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
