"""Which line is the cause: first raised, not last printed; hints, source lines and what was caught are none."""

from __future__ import annotations

import pytest

from lanes.failure_codes import UNRECOGNISED
from lanes.failures import FailureFacts, classify
from lanes.log_structure import structure_of

HINTS = """CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""
FRAMES = 'Traceback (most recent call last):\n  File "/srv/job/train.py", line 12, in <module>\n    main()\n'
AGAIN = "\nDuring handling of the above exception, another exception occurred:\n\n"


def raised(message: str, prefix: str = "", frames: str = FRAMES) -> str:
    return "".join(f"{prefix}{line}\n" for line in (frames + message).splitlines())


@pytest.mark.req("S13-R01", "S13-R15", "S13-R21")
@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("an illegal memory access was encountered", "illegal-access"),
        ("no kernel image is available for execution on the device", "binary-mismatch"),
        ("device kernel image is invalid", "binary-mismatch"),
        ("CUDA-capable device(s) is/are busy or unavailable", "gpu-busy"),
        ("all CUDA-capable devices are busy or unavailable", "gpu-busy"),
        ("out of memory", "cuda-oom"),
        ("invalid device ordinal", "no-gpu"),
        ("initialization error", "no-gpu"),
        ("unspecified launch failure", "cuda-error"),
        ("unknown error", "cuda-error"),
        ("CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx( handle, opa, opb)`", "cuda-error"),
        ("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "cuda-oom"),
        ("device-side assert triggered", "device-assert"),
    ],
)
@pytest.mark.parametrize("kind", ["RuntimeError", "torch.AcceleratorError"])
def test_the_hint_under_every_cuda_error_is_no_cause(message: str, code: str, kind: str) -> None:
    found = classify(f"{raised(f'{kind}: CUDA error: {message}')}{HINTS}")
    assert found.code == code
    assert message in found.evidence[0].line
    assert classify(f"{raised(f'{kind}: CUDA error: {message}')}{HINTS}".replace("\n", " ")).code == code


KINDS = {
    "no driver": ("RuntimeError: CUDA driver initialization failed, you might not have a CUDA gpu.", "no-gpu"),
    "no driver, as a warning": (
        (
            "/v/torch/cuda/__init__.py:83: UserWarning: CUDA initialization: CUDA unknown error - this may be due to an incorrectly "
            "set up environment (Triggered internally at c10)\n"
        ),
        "no-gpu",
    ),
    "taken back, and the peers after it": (
        "2026-03-01 10:00:00 the VM is being preempted, SIGTERM in 30 s\n"
        + raised("ConnectionRefusedError: [Errno 111] Connection refused", "[rank1]: ")
        + raised("torch.distributed.DistNetworkError: Connection reset by peer", "[rank0]: "),
        "preempted",
    ),
    "a scheduler took it back": (
        (
            "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-03-01T10:00:00 DUE TO PREEMPTION ***\n"
            "requests.exceptions.ConnectionError: Connection refused\n"
        ),
        "preempted",
    ),
    "a request of an engine that was preempted is no machine": (
        "WARNING [scheduler.py:1057] Sequence group 7 is preempted by PreemptionMode.RECOMPUTE mode\n",
        UNRECOGNISED,
    ),
    "a row by its number": ("KeyError: 0\n", "missing-column"),
    "a column that a library builds": ("KeyError: 'input_ids_j'\n", "missing-column"),
    "a template's turn": ("jinja2.exceptions.UndefinedError: 'str object' has no attribute 'role'\n", "chat-roles"),
    "a template's dict": (
        "---\nUndefinedError     Traceback (most recent call last)\nUndefinedError: 'dict object' has no attribute 'role'\n",
        "chat-roles",
    ),
    "a norm in words": (" iteration 5/ 10 | loss scale: 1.0 | grad norm: nan | skipped iterations: 0 |\n", "nan-loss"),
    "a quantised optimizer's library": (
        "RuntimeError:\n        CUDA Setup failed despite GPU being available. Please run the following command\n",
        "binary-mismatch",
    ),
    "a symbol that was ignored": (
        "libfoo_cuda.so: undefined symbol: _ZN3c104cuda9SetDeviceEi (ignored, using the slow path)\n"
        + raised("KeyError: 'prompt'"),
        "missing-column",
    ),
    "a symbol that was ignored, and nothing else": (
        "could not load libfoo_cuda.so: undefined symbol: _ZN3c10; falling back to eager\n",
        UNRECOGNISED,
    ),
    "the tracker's patience": (
        raised("wandb.errors.CommError: Run initialization has timed out after 90.0 sec."),
        "tracker-unreachable",
    ),
}


@pytest.mark.req("S13-R13", "S13-R15", "S13-R18", "S13-R20", "S13-R22")
@pytest.mark.parametrize(("text", "code"), KINDS.values(), ids=KINDS.keys())
def test_kinds_that_were_misread(text: str, code: str) -> None:
    assert classify(text).code == code


FORMS = {
    "the words in a quoted source line": (
        FRAMES.replace("main()", 'raise RuntimeError("CUDA out of memory")') + "ValueError: something of our own\n",
        UNRECOGNISED,
        "something of our own",
    ),
    "the words in a boxed source line": (
        (
            "╭── Traceback (most recent call last) ──╮\n│ /srv/job/train.py:12 in main │\n"
            "│ ❱ 12 │   raise MemoryError('CUDA out of memory') │\n╰──╯\nValueError: something of our own\n"
        ),
        UNRECOGNISED,
        "something of our own",
    ),
    "a log that ends at the statement": (
        FRAMES.replace("main()", 'raise RuntimeError("CUDA out of memory")'),
        "cuda-oom",
        "CUDA out of memory",
    ),
    "what nobody could catch": (
        raised("KeyError: 'prompt'")
        + "Exception ignored in: <function Pool.__del__ at 0x7f>\n"
        + raised("OSError: [Errno 28] No space left on device"),
        "missing-column",
        "'prompt'",
    ),
    "at exit": (
        raised("KeyError: 'prompt'")
        + "Error in atexit._run_exitfuncs:\n"
        + raised("ModuleNotFoundError: No module named 'gone'"),
        "missing-column",
        "'prompt'",
    ),
    "caught and reported": (
        "2026-03-01 WARNING could not compile the kernel\n"
        + raised("RuntimeError: Error building extension 'x'")
        + raised("KeyError: 'prompt'"),
        "missing-column",
        "'prompt'",
    ),
    "a defect of the program, then its peers' loss": (
        raised("AttributeError: 'Foo' object has no attribute 'bar'", "[rank3]: ")
        + raised("torch.distributed.DistBackendError: NCCL communicator was aborted on rank 1.", "[rank1]: ")
        + "[rank0]:[E ProcessGroupNCCL.cpp:616] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=9)\n",
        UNRECOGNISED,
        "'Foo' object",
    ),
    "the first of a chain": (
        raised("ModuleNotFoundError: No module named 'einops'") + AGAIN + raised("ValueError: no such backend"),
        "no-module",
        "einops",
    ),
    "unknown: the first raised, not the launcher": (
        raised("ValueError: heads must be even")
        + raised("RuntimeError: DataLoader worker (pid(s) 7) exited unexpectedly")
        + raised("subprocess.CalledProcessError: Command 'x' returned non-zero exit status 1."),
        UNRECOGNISED,
        "heads must be even",
    ),
    "a logger before each line": (
        "".join(
            f"2026-03-01 12:57:51,690 - __main__ - INFO - {line}\n"
            for line in raised("KeyError: 'prompt'").splitlines()
        ),
        "missing-column",
        "'prompt'",
    ),
    "a bar rewritten before it": (
        " 1%|▏| 9/900 [00:09<09:00]\r 1%|▏| 10/900 [00:10<09:00]\rKeyError: 'prompt'\n",
        "missing-column",
        "KeyError",
    ),
    "an environment variable is no column": (
        (
            'Traceback (most recent call last):\n  File "/srv/job/dataset.py", line 3, in load\n    x = os.environ["DATA"]\n'
            "  File \"<frozen os>\", line 685, in __getitem__\nKeyError: 'DATA'\n"
        ),
        UNRECOGNISED,
        "DATA",
    ),
    "a model type is no column": (
        (
            'Traceback (most recent call last):\n  File "/v/transformers/models/auto/configuration_auto.py", line 1, in __getitem__\n'
            "    value = self._mapping[key]\nKeyError: 'newmodel4'\n"
        ),
        "incompatible-versions",
        "newmodel4",
    ),
}


@pytest.mark.req("S13-R01")
@pytest.mark.parametrize(("text", "code", "said"), FORMS.values(), ids=FORMS.keys())
def test_the_form_of_the_log_decides_before_its_words(text: str, code: str, said: str) -> None:
    found = classify(text)
    assert (found.code, [said in each.line for each in found.evidence]) == (code, [True])


@pytest.mark.req("S13-R04")
@pytest.mark.parametrize(
    "text",
    [
        raised("RuntimeError: \nthe loader wants a folder"),
        raised("RuntimeError:\n\n    the loader wants a folder"),
        raised("torch.distributed.elastic.multiprocessing.errors.ChildFailedError:") + "the loader wants a folder\n",
        FRAMES.replace("main()", "assert folder, 'the loader wants a folder'") + "AssertionError\n",
        "the loader wants a folder\nTraceback (most recent call last):\n",
    ],
)
def test_evidence_says_something(text: str) -> None:
    (evidence,) = classify(text).evidence[-1:]
    assert "the loader wants a folder" in evidence.line
    assert text.split("\n")[evidence.number - 1].strip() == evidence.line


@pytest.mark.req("S13-R22")
@pytest.mark.parametrize(
    ("exit_code", "code"),
    [(143, "stopped"), (130, "stopped"), (124, "time-limit"), (75, "needs-person"), (127, "not-started")],
)
def test_our_own_endings_are_known(exit_code: int, code: str) -> None:
    facts = FailureFacts(exit_code=exit_code)
    assert classify("step 3/8  loss 2.3\n", facts).code == code
    assert classify(raised("KeyError: 'prompt'"), facts).code == "missing-column"


@pytest.mark.req("S13-R10", "S13-R22")
@pytest.mark.parametrize(
    ("ended", "code"), [("stopped", "stopped"), ("timed-out", "time-limit"), ("", "host-ram-kill")]
)
def test_a_kill_of_our_own_is_no_want_of_memory(ended: str, code: str) -> None:
    assert classify("step 3/8  loss 2.3\n", FailureFacts(exit_code=137, ended=ended)).code == code


@pytest.mark.req("S13-R22")
def test_a_run_that_trains_already_is_known() -> None:
    text = "stopped  already_running: run-1 trains sft right now; one job at a time\n"
    assert classify(text, FailureFacts(exit_code=75)).code == "already-running"


def test_the_structure_of_two_ranks_that_interleave() -> None:
    mine, others = raised("KeyError: 'a'", "[rank1]: ").splitlines(), raised("ValueError: b", "[rank0]: ").splitlines()
    lines = [line for pair in zip(mine, others, strict=True) for line in pair]
    found = structure_of(lines)
    assert [(each.kind, each.message, each.frames[0].function) for each in found.raised] == [
        ("KeyError", "'a'", "<module>"),
        ("ValueError", "b", "<module>"),
    ]
    assert found.source == {4, 5}
