"""A host without SSH: a clone with a request, a python of its own, and the executor started as the supervisor starts it.

What runs is the payload that `hemma train` sends, on real files. Only the way in differs: no sshd, so that one test can
afford several trainings.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.reports import run_page
from manifests.train import parse
from remote.payload import payload_zip
from tests.training import host_python
from tests.training.support import make_tokenizer, rows_of

NAME = "tiny"
MODEL = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 64, "vocab_size": 400, "attention_dropout": 0.1,
}  # fmt: skip
REQUEST: dict[str, Any] = {
    "schema_version": 1,
    "kind": "train",
    "name": NAME,
    "method": "sft",
    "model": {"config": MODEL, "tokenizer": "data/tokenizer"},
    "dataset": {"source": "data/text.jsonl", "eval_fraction": 0.1},
    "sequence_length": 32,
    "packing": "bfd_split",
    "arguments": {
        "max_steps": 8, "save_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 0.003, "logging_steps": 1,
        "gradient_checkpointing": False,
    },
    "references": ["https://huggingface.co/docs/trl/sft_trainer"],
    "resources": {"gpu": "optional", "timeout": "30m"},
    "accept": {"no-gpu": "a model this small trains on a CPU"},
}  # fmt: skip
# Every run of these tests has secrets in its environment, in forms that no shape gives away.
CANARIES = {
    "HF_TOKEN": "Canary.of.the.hub",
    "WANDB_API_KEY": "canary canary canary",
    "MY_PASSWORD": "the-canary-sings",
    "AWS_SECRET_ACCESS_KEY": "CANARY/with+signs=and==more",
}


@dataclass
class Run:
    """One run of the executor: its folder, its exit code, what it printed."""

    run_id: str
    folder: Path
    process: subprocess.Popen[bytes]
    printed: Path
    code: int | None = None

    def wait(self, timeout_s: float = 200) -> Run:
        """Wait for its end."""
        self.code = self.process.wait(timeout_s)
        return self

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """The data of its events of these kinds (all of them when none is named), in order; `kind` rides along."""
        try:
            lines = (self.folder / "events.jsonl").read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        found = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return [{**each["data"], "kind": each["kind"]} for each in found if not kinds or each["kind"] in kinds]

    def stages(self) -> dict[str, str]:
        """stage -> the run that its evidence is of."""
        return {each["stage"]: each["from_run"] for each in self.events("stage")}

    def stop(self) -> dict[str, Any]:
        """The executor's last word."""
        return self.events("stopped")[-1]

    def job(self) -> dict[str, Any]:
        """The job as it was last."""
        return json.loads((self.folder / "job.json").read_text())

    def result(self) -> dict[str, Any]:
        """What the full job found."""
        return json.loads((self.folder / "evidence/job.json").read_text())["facts"]

    def progress(self) -> dict[str, Any]:
        """The job's heartbeat."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.folder / "progress.json").read_bytes())
        return {}

    def steps_kept(self) -> list[int]:
        """The steps of its checkpoints."""
        return sorted(int(path.name.partition("-")[2]) for path in (self.folder / "checkpoints").glob("checkpoint-*"))

    def tail(self) -> str:
        """The end of what it and its children printed."""
        return self.printed.read_text(errors="replace")[-4000:]


@dataclass
class Bench:
    """A test host below `folder`. `is_plain`: children start as everywhere, without the nursery."""

    folder: Path
    is_plain: bool = False
    env: dict[str, str] = field(default_factory=dict)
    count: int = 0
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """The clone."""
        return self.folder / "clone"

    @property
    def state(self) -> Path:
        """Hemma's folder on this host."""
        return self.folder / "state"

    @property
    def python(self) -> Path:
        """The python of the training environment, as the manifest names it."""
        return self.folder / "python/bin/python"

    def prepare(self) -> Bench:
        """Write clone, python and payload; start the nursery."""
        make_tokenizer(self.root / "data/tokenizer")
        rows = rows_of("sft", 120)
        (self.root / "data/text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "a request"]):
            subprocess.run(["git", *words], cwd=self.root, check=True, capture_output=True)
        (self.folder / "payload.zip").write_bytes(payload_zip()[0])
        _make_python(self.folder / "python")
        if not self.is_plain:
            self._start_nursery()
        return self

    def next_folder(self) -> Path:
        """Where the next run will lie, made for it."""
        place = self.state / "runs" / f"run-{self.count + 1:03d}"
        place.mkdir(parents=True)
        return place

    def start(self, **changes: Any) -> Run:
        """Start a run of the request, changed by top-level keys; `arguments` are laid over those there are."""
        self.count += 1
        run_id = f"run-{self.count:03d}"
        place = self.state / "runs" / run_id
        place.mkdir(parents=True, exist_ok=True)
        said = {
            **REQUEST,
            "python": str(self.python),
            "persist": {"destination": str(self.folder / "models")},
            **changes,
        }
        said["arguments"] = REQUEST["arguments"] | changes.get("arguments", {})
        more = {name: said.pop(name, None) for name in ("until", "resume")}
        job = parse(json.dumps(said), "the request").job() | more | {"who": "a test", "manifest": "tiny.yaml"}
        asked, printed = self.folder / f"{run_id}.json", self.folder / f"{run_id}.log"
        asked.write_text(json.dumps(job))
        with printed.open("wb") as out:
            process = subprocess.Popen(
                [self.python, "-I", self.folder / "payload.zip", "execute", asked],
                cwd=self.root,
                env={**self._environ(), "HEMMA_RUN_DIR": str(place), "HEMMA_RUN_ID": run_id},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.started.append(process)
        return Run(run_id, place / "training", process, printed)

    def run(self, *, code: int = 0, **changes: Any) -> Run:
        """A run to its end, which must be with this exit code."""
        done = self.start(**changes).wait()
        assert done.code == code, (done.code, done.events("stopped"), done.tail())
        return done

    @contextlib.contextmanager
    def fault(self, **fault: Any) -> Generator[None]:
        """Within this, children that start carry a fault (tests/training/host_python.py)."""
        place = self.folder / "python" / host_python.FAULT.name
        place.write_text(json.dumps({"work": "full", **fault}))
        try:
            yield
        finally:
            place.unlink()

    def leaks(self) -> list[str]:
        """Where a secret of the environment is found: any file of host, tracker, stored results; commits; report pages."""
        forms = {form for value in CANARIES.values() for form in (value.encode(), base64.b64encode(value.encode()))}
        files = {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        assert len(files) > 50
        commits = ["git", "log", "-p", "--all", "--format=fuller"]
        files["commits"] = subprocess.run(commits, cwd=self.root, check=True, capture_output=True).stdout
        for run in (self.state / "runs").iterdir():
            kept = {name: run / "training" / name for name in run_page.FILES}
            read = {name: path.read_bytes() if path.is_file() else None for name, path in kept.items()}
            if read.get("evidence/index.json"):
                facts = run_page.facts_from(run.name, read)
                files[f"report of {run.name}"] = run_page.page(facts, dt.datetime.now(dt.UTC)).encode()
        return sorted(name for name, content in files.items() if any(form in content for form in forms))

    def end(self) -> None:
        """End everything that was started."""
        for process in self.started:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _start_nursery(self) -> None:
        place = self.folder / "python"
        code = "import host_python; host_python.serve()"
        with (self.folder / "nursery.log").open("wb") as log:
            process = subprocess.Popen(
                [self.python, "-I", "-c", code], env=self._environ(), stdout=log, stderr=log, start_new_session=True
            )
        self.started.append(process)
        wait(lambda: (place / host_python.SOCKET.name).exists() or process.poll() is not None, 90)
        assert process.poll() is None, (self.folder / "nursery.log").read_text()

    def _environ(self) -> dict[str, str]:
        quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
        return {**os.environ, **quiet, **CANARIES, "TRACKIO_DIR": str(self.folder / "trackio"), **self.env}


def _make_python(place: Path) -> None:
    """A virtual environment on top of ours: the same packages, and one module more that is loaded at start."""
    site = place / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    site.mkdir(parents=True)
    (place / "bin").mkdir()
    (place / "bin/python").symlink_to(os.path.realpath(sys.executable))
    home = os.path.dirname(os.path.realpath(sys.executable))
    (place / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    shutil.copyfile(host_python.__file__, site / "host_python.py")
    ours = sysconfig.get_paths()["purelib"]
    (site / "a.pth").write_text(f"import site; site.addsitedir({ours!r})\nimport host_python; host_python.begin()\n")


def wait(condition: Callable[[], object], timeout_s: float = 60) -> None:
    """Wait until `condition()` is true; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
