"""The closed taxonomy of failures (S13-R10..R21), the codes under it (S13-R22), and for each code one smallest mend.

The categories are the thirteen of the requirements and never grow; a new kind of failure becomes a code. Where a code
belongs is decided by its mend: a full disk and a defective card need what an unavailable machine needs (wait, or another
place), so they stand under the quota; what no category mends stands under `unknown`, with a code that says what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Category = Literal[
    "oom",
    "bad_import",
    "module_not_found",
    "wrong_trainer_arg",
    "dataset_schema_mismatch",
    "auth_token",
    "quota_flavor_unavailable",
    "build_from_source_failure",
    "timeout",
    "dependency_conflict",
    "hang_no_progress",
    "divergence_nan",
    "unknown",
]
CATEGORIES: tuple[Category, ...] = get_args(Category)

# Who acts on it. Only the card's own memory goes to the ladder; host memory never does (S13-R10).
Route = Literal["oom-ladder", "scope-preserving-edit", "environment", "wait-and-retry", "alert-action", "person"]
UNRECOGNISED = "unrecognised"


@dataclass(frozen=True)
class Code:
    """A second-level code: its category, who acts on it, and the smallest mend. `{name}` is what the log names."""

    category: Category
    routes_to: Route
    mend: str


_EDIT: Route = "scope-preserving-edit"
_CODES: tuple[tuple[Category, Route, Mapping[str, str]], ...] = (
    ("oom", "oom-ladder", {"cuda-oom": "the next rung of the memory ladder; the effective batch size stays"}),
    (
        "oom",
        _EDIT,
        {
            "kv-cache": "give the inference engine more of the card (gpu_memory_utilization) or load it elsewhere",
            "host-ram": "less host memory: fewer data loader workers, memory-mapped data, weights loaded once per host",
            "host-ram-kill": "less host memory: fewer data loader workers, memory-mapped data, no offload to the host",
            "shared-memory": "a larger /dev/shm for the job, or fewer data loader workers",
        },
    ),
    ("oom", "person", {"cgroup-kill": "a larger memory allocation for the job (the card's memory is not at fault)"}),
    ("bad_import", "environment", {"name-missing": "pin the release that has {name}, or import its successor"}),
    (
        "module_not_found",
        "environment",
        {
            "no-module": "add the package that brings {name} to the environment",
            "package-missing": "add the package that the message asks for: {name}",
        },
    ),
    (
        "wrong_trainer_arg",
        _EDIT,
        {
            "renamed-argument": "use the successor of {name} that the installed class has, with the same value",
            "unknown-argument": "remove or correct {name}: the installed class has no such argument",
            "invalid-value": "make the arguments fit each other as the message says; the effective batch size stays",
            "fp16-on-cpu": "turn the half precision off where there is no card, or run where torch sees one",
        },
    ),
    (
        "dataset_schema_mismatch",
        _EDIT,
        {
            "missing-column": "map the column that holds it to {name}; if none does, stop and ask",
            "column-cast": "give all files of the set the same columns and types",
            "chat-roles": "order the turns as the chat template wants them (recorded mapping)",
            "no-chat-template": "name a chat template, or format the turns into text",
            "ragged-rows": "one type and depth per field; pad and truncate in the collator",
            "no-pad-token": "set the tokenizer's pad token",
            "wrong-type": "one text per row where text is expected (no lists, numbers or missing values)",
        },
    ),
    (
        "dataset_schema_mismatch",
        "person",
        {
            "data-missing": "no row is left to train on: the data is not there, or every answer was cut off by the length (the data audit says "
            "which)"
        },
    ),
    (
        "auth_token",
        "person",
        {
            "gated-repo": "ask for access to {name} and give the job a token that has it (as a secret)",
            "push-refused": "give the job a token with write scope for the destination (as a secret)",
            "token-missing": "give the job a token by the name of its environment variable (as a secret)",
            "token-invalid": "replace the token: the service does not know it",
            "tracker-key": "give the tracker its key as a secret, or set report_to explicitly",
        },
    ),
    (
        "quota_flavor_unavailable",
        "wait-and-retry",
        {
            "rate-limited": "wait as long as the service says, then go on from its cache",
            "capacity": "wait, or take an equal or larger machine",
            "no-gpu": "check CUDA_VISIBLE_DEVICES and the driver, or take a machine whose card the job sees",
            "gpu-fault": "another card: this one is defective or gone",
            "gpu-busy": "wait until the card is free, or take another",
            "preempted": "submit again; the job resumes from its newest valid checkpoint",
        },
    ),
    ("quota_flavor_unavailable", "person", {"disk-full": "make room where the job writes, then resume"}),
    (
        "build_from_source_failure",
        "environment",
        {
            "wheel-build": "install a wheel built for this Python, torch and CUDA, or leave the package out",
            "extension-build": "use the prebuilt kernels, or turn the fused kernel off",
            "no-compiler": "use a prebuilt wheel, or install the CUDA toolkit that torch was built with",
        },
    ),
    ("timeout", _EDIT, {"time-limit": "a limit sized from the measured step time; data, epochs and lengths stay"}),
    (
        "timeout",
        "wait-and-retry",
        {
            "network-timeout": "retry with a longer timeout, or fetch the files before the job",
            "rendezvous-timeout": "start all ranks within the timeout, with one reachable address and port",
        },
    ),
    (
        "dependency_conflict",
        "environment",
        {
            "resolver": "pin versions that fit each other",
            "incompatible-versions": "pin versions that fit each other",
            "binary-mismatch": "reinstall the package built for the installed torch, NumPy and CUDA",
            "dataset-script-removed": "pin datasets below 4, or read a converted (parquet) copy of the same data",
            "api-removed": "pin the release that still has {name}",
            "driver-too-old": "a torch built for this driver's CUDA, or a newer driver",
        },
    ),
    (
        "hang_no_progress",
        _EDIT,
        {
            "eval-without-data": "give evaluation its data, or set eval_strategy to no",
            "nccl-timeout": "find the rank that never came to this collective; only then raise the timeout",
            "stuck": "dump the stacks of all ranks; one data loader worker and one rank to narrow it down",
            "silent": "dump the stacks of all ranks; nothing was logged for longer than a step takes",
        },
    ),
    (
        "divergence_nan",
        "alert-action",
        {
            "nan-loss": "go back to the newest valid checkpoint with the learning rate times 0.1 (or as the alert says)",
            "loss-scale-floor": "the learning rate times 0.1, or bf16 where the card has it",
            "nan-probabilities": "go back to the newest valid checkpoint with the learning rate times 0.1",
            "nan-backward": "go back to the newest valid checkpoint with the learning rate times 0.1",
        },
    ),
    (
        "unknown",
        "person",
        {
            "corrupt-checkpoint": "resume from the newest checkpoint that is valid; fetch weights again",
            "device-assert": "run one step with CUDA_LAUNCH_BLOCKING=1 (often a label or token id out of range)",
            "illegal-access": "run one step with CUDA_LAUNCH_BLOCKING=1 and name the kernel",
            "nccl-error": "run with NCCL_DEBUG=INFO and read the first rank that fails",
            "segfault": "run with PYTHONFAULTHANDLER=1 and name the library",
            "terminated": "find who ended the job: nothing in its log did",
            "stopped": "it was stopped (hemma stop, Ctrl-C or a signal): start or resume it if that was not meant",
            "needs-person": "read the last lines: they say what is to be decided, and the command that goes on",
            "cuda-error": "run one step with CUDA_LAUNCH_BLOCKING=1; if it fails elsewhere each time, try another card",
            UNRECOGNISED: "read the whole log; change something specific, never retry unchanged",
        },
    ),
    (
        "unknown",
        "wait-and-retry",
        {
            "network": "fetch the files before the job, or give the host a route to the service",
            "tracker-unreachable": "let the tracker log offline and sync later, or give the host a route to it",
            "already-running": "wait for the other run to end, or stop it: one run of a request at a time",
        },
    ),
    ("unknown", "environment", {"not-started": "name a command that exists on the host, with its path if need be"}),
    (
        "unknown",
        _EDIT,
        {
            "port-in-use": "another port for the rendezvous (0 lets torchrun choose)",
            "device-mismatch": "put the tensors of one operation on one device",
            "tokenizer-mismatch": "use the tokenizer of the checkpoint, or resize the embeddings",
            "no-gradient": "let some parameter require a gradient (enable_input_require_grads with checkpointing)",
        },
    ),
)
CODES: Mapping[str, Code] = {
    name: Code(category, route, mend) for category, route, mends in _CODES for name, mend in mends.items()
}
