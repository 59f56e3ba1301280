"""What the python of a test host does when it starts: it is copied beside a `.pth` into that python's site-packages.

A child of the executor is forked from a nursery that has loaded torch and TRL once, when there is one: a start then takes
a second, not ten. To whoever started it nothing differs: its files, its end and its signals are the child's. And it may
carry a fault (`fault.json` beside pyvenv.cfg), which makes memory run out, or time stand still, at one place of a training.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import pathlib
import runpy
import signal
import socket
import sys
import threading
import time
from typing import Any

PREFIX = pathlib.Path(sys.prefix)
SOCKET = PREFIX / "nursery.sock"
FAULT = PREFIX / "fault.json"
PRELOADED = (
    "peft", "transformers.models.llama.modeling_llama", "trl.trainer.sft_trainer", "trl.trainer.dpo_trainer",
    "trl.trainer.grpo_trainer", "trl.trainer.reward_trainer",
)  # fmt: skip
# As CUDA says it; torch has no other way to learn of it on a machine without one.
NO_MEMORY = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.25 GiB of which 1.12 GiB is free. "
    "Of the allocated memory 76.01 GiB is allocated by PyTorch, and 1.21 GiB is reserved by PyTorch but unallocated."
)


def begin() -> None:
    """At interpreter start: go to the nursery with a child's work, or carry the fault in this process."""
    words = sys.orig_argv
    if "work" not in words:
        return
    if SOCKET.exists():
        _through_nursery(words[words.index("work") - 1 :])
    if FAULT.exists():
        carry_fault(words[words.index("work") + 1])


def _through_nursery(words: list[str]) -> None:
    place = socket.socket(socket.AF_UNIX)
    place.connect(str(SOCKET))
    asked = json.dumps({"words": words, "cwd": os.getcwd(), "env": dict(os.environ)}).encode()
    socket.send_fds(place, [len(asked).to_bytes(4, "big")], [0, 1, 2])
    place.sendall(asked)
    replies = place.makefile("r", encoding="ascii")
    worker = int(replies.readline())

    def pass_on(number: int, _frame: object) -> None:
        os.kill(worker, number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    code = int(replies.readline())
    if code < 0:
        os.kill(os.getpid(), -code)
        time.sleep(60)
    os._exit(code)


# --- the nursery ------------------------------------------------------------------------------------------------


def serve() -> None:
    """Load what trainings need, then fork a child for each request, for ever."""
    import torch

    for name in PRELOADED:
        importlib.import_module(name)
    torch.set_num_threads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(SOCKET) + ".new")
    door.listen(16)
    os.rename(str(SOCKET) + ".new", SOCKET)
    while True:
        client, _ = door.accept()
        if os.fork() == 0:
            door.close()
            _handle(client)
        client.close()


def _handle(client: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, files, _, _ = socket.recv_fds(client, 4, 3)
    asked = b""
    while len(asked) < int.from_bytes(head, "big"):
        asked += client.recv(1 << 16)
    worker = os.fork()
    if worker == 0:
        _work(client, files, json.loads(asked))
    for each in files:
        os.close(each)
    client.sendall(b"%d\n" % worker)
    _, status = os.waitpid(worker, 0)
    code = os.waitstatus_to_exitcode(status)
    client.sendall(b"%d\n" % code)
    os._exit(0)


def _work(client: socket.socket, files: list[int], asked: dict[str, Any]) -> None:
    os.setsid()
    for number, each in enumerate(files):
        os.dup2(each, number)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = asked["words"]
    threading.Thread(target=_end_with, args=(client,), daemon=True).start()
    code: object = 1
    try:
        if FAULT.exists():
            carry_fault(asked["words"][2])
        runpy.run_path(asked["words"][0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001 - as the interpreter itself ends
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def _end_with(client: socket.socket) -> None:
    # Whoever was started in our place is gone: so are we, as killed.
    client.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


# --- faults -----------------------------------------------------------------------------------------------------


def carry_fault(work: str) -> None:
    """Lay the fault of fault.json over the library's own functions, when it is for this piece of work."""
    fault: dict[str, Any] = json.loads(FAULT.read_bytes())
    if fault["work"] == work:
        _Fault(fault).install()


class _Fault:
    """`place`: where; `step`: after that many optimizer steps of this process; `tokens`: what of a micro-batch still fits."""

    def __init__(self, fault: dict[str, Any]) -> None:
        self.place, self.tokens = str(fault["place"]), int(fault.get("tokens", 0))
        self.from_step, self.pause_s = int(fault.get("step", 0)), float(fault.get("pause_s", 600.0))
        self.steps, self.seen_tokens = 0, 0

    def install(self) -> None:
        """Wrap what this fault needs."""
        import torch
        from transformers import PreTrainedModel
        from transformers.models.llama.modeling_llama import LlamaModel

        self._before(LlamaModel, "forward", self._on_forward)
        self._before(torch.Tensor, "backward", lambda *_, **__: self._at("backward"))
        self._before(torch.optim.AdamW, "step", self._on_step)
        self._before(PreTrainedModel, "save_pretrained", self._on_save)
        original = PreTrainedModel.from_pretrained.__func__

        def loaded(cls: Any, *args: Any, **kwargs: Any) -> Any:
            self._at("model-load")
            return original(cls, *args, **kwargs)

        setattr(PreTrainedModel, "from_pretrained", classmethod(loaded))  # noqa: B010 - its type is another

    def _before(self, owner: Any, name: str, call: Any) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            call(*args, **kwargs)
            return original(*args, **kwargs)

        # Optimizers look at what their step carries (a mark of being wrapped, hooks).
        wrapped.__dict__.update(getattr(original, "__dict__", {}))
        setattr(owner, name, wrapped)

    def _on_forward(self, model: Any, input_ids: Any = None, **_: Any) -> None:
        self.seen_tokens = input_ids.numel()
        self._at("forward" if model.training else "evaluation")

    def _on_step(self, *_: Any, **__: Any) -> None:
        self.steps += 1
        self._at("optimizer-step")
        if self.place == "pause" and self.steps >= self.from_step:
            time.sleep(self.pause_s)
        if self.place == "leak":
            # As libraries do: the address they could not reach, the settings they were called with.
            secrets = {name: value for name, value in os.environ.items() if "CANARY" in value.upper()}
            print("settings:", secrets, base64.b64encode(str(secrets["MY_PASSWORD"]).encode()).decode())
            raise RuntimeError(f"cannot reach https://me:{secrets['MY_PASSWORD']}@store/x?sig={secrets['HF_TOKEN']}")

    def _on_save(self, _model: Any, folder: Any, **_: Any) -> None:
        if ".staged-" in str(folder):  # a checkpoint, not the model that is made before the training
            self._at("save")

    def _at(self, place: str) -> None:
        import torch

        is_due = self.steps >= self.from_step and (not self.tokens or self.seen_tokens > self.tokens)
        if place == self.place and is_due:
            error = torch.OutOfMemoryError(NO_MEMORY)
            raise error  # a name of its own: the log's line is the library's, not this one


if __name__ == "__main__":
    serve()
