"""The root cause of a log: on excerpts of real issues, in whole logs built to mislead, and for any text at all."""

from __future__ import annotations

import collections
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lanes.failure_codes import CATEGORIES, CODES, UNRECOGNISED
from lanes.failure_signatures import signatures
from lanes.failures import SILENT_S, Diagnosis, FailureFacts, classify

CASES = Path(__file__).resolve().parents[1] / "cases" / "failures"
HALVES = ("dev", "held-out")
LEAST_ACCURACY, LEAST_MACRO_F1, LEAST_CASES, LEAST_PER_CATEGORY = 0.95, 0.92, 300, 15


def half(name: str) -> list[dict[str, Any]]:
    return yaml.safe_load((CASES / f"{name}.yaml").read_text(encoding="utf-8"))


def repository(case: dict[str, Any]) -> str:
    return "/".join(case["source"].lower().split("/")[3:5])


def diagnosed(case: dict[str, Any]) -> Diagnosis:
    return classify(case["text"], FailureFacts(**case.get("facts", {})))


# --- excerpts of public issues ------------------------------------------------------------------------------------


def test_the_corpus_is_large_and_its_halves_share_no_repository() -> None:
    dev, held_out = half("dev"), half("held-out")
    every = dev + held_out
    assert len(every) >= LEAST_CASES
    assert len({case["source"] for case in every}) == len(every)
    assert not {repository(case) for case in dev} & {repository(case) for case in held_out}
    count = collections.Counter(case["category"] for case in every)
    assert set(count) == set(CATEGORIES)
    assert min(count.values()) >= LEAST_PER_CATEGORY
    assert all(CODES[case["code"]].category == case["category"] and case["because"] for case in every)


@pytest.mark.req("S13-R10", "S13-R11", "S13-R12", "S13-R13", "S13-R14", "S13-R15", "S13-R16", "S13-R17", "S13-R18")
@pytest.mark.req("S13-R19", "S13-R20", "S13-R21")
@pytest.mark.parametrize("name", HALVES)
def test_categories_of_real_issues_are_found(name: str) -> None:
    pairs = [(case["category"], diagnosed(case).category, case["source"]) for case in half(name)]
    wrong = [f"{said} is {truth}: {source}" for truth, said, source in pairs if truth != said]
    accuracy = 1 - len(wrong) / len(pairs)
    scores = [f1(category, [pair[:2] for pair in pairs]) for category in CATEGORIES]
    report = f"accuracy {accuracy:.3f}, macro F1 {sum(scores) / len(scores):.3f}\n" + "\n".join(wrong)
    assert accuracy >= LEAST_ACCURACY, report
    assert sum(scores) / len(scores) >= LEAST_MACRO_F1, report


def f1(category: str, pairs: list[tuple[str, str]]) -> float:
    hits = sum(truth == said == category for truth, said in pairs)
    return 2 * hits / (sum(truth == category for truth, _ in pairs) + sum(said == category for _, said in pairs))


@pytest.mark.req("S13-R22")
@pytest.mark.parametrize("name", HALVES)
def test_codes_of_real_issues_are_found(name: str) -> None:
    cases = half(name)
    wrong = [f"{diagnosed(c).code} is {c['code']}: {c['source']}" for c in cases if diagnosed(c).code != c["code"]]
    assert len(wrong) <= 0.08 * len(cases), "\n".join(wrong)


@pytest.mark.req("S13-R10")
def test_no_kill_for_host_memory_goes_to_the_ladder_of_the_card() -> None:
    cases = [case for name in HALVES for case in half(name)]
    for case in cases:
        assert (diagnosed(case).routes_to == "oom-ladder") == (case["code"] == "cuda-oom"), case["source"]


# --- whole logs ---------------------------------------------------------------------------------------------------

START = """[2026-03-01 10:00:00,000] [INFO] [real_accelerator.py:222:get_accelerator] Setting ds_accelerator to cuda
/venv/lib/python3.11/site-packages/torch/nn/utils.py:12: FutureWarning: this may fail in a later release
/venv/lib/python3.11/site-packages/x.py:5: UserWarning: No module named 'flash_attn'; falling back to sdpa
Detected kernel version 5.4.0, which is below the recommended minimum of 5.5.0; this can cause the process to hang.
If you encounter CUDA out of memory, reduce per_device_train_batch_size.
"""
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
LAUNCHER = """Traceback (most recent call last):
  File "/venv/bin/torchrun", line 8, in <module>
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
  exitcode  : 1 (pid: 77)
  error_file: <N/A>
"""
NCCL = (
    "[rank{0}]:[E ProcessGroupNCCL.cpp:616] [Rank {0}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=9)"
)


def bars(count: int, end: str = "\n") -> str:
    return "".join(
        f" {n}%|{'█' * (n % 30)}| {n}/900 [00:{n % 60:02d}<09:00, 1.{n % 100:02d}it/s]{end}" for n in range(count)
    )


def traceback(message: str, prefix: str = "") -> str:
    lines = ["Traceback (most recent call last):", '  File "train.py", line 12, in <module>', "    main()", message]
    return "".join(f"{prefix}{line}\n" for line in lines)


AGAIN = "\nDuring handling of the above exception, another exception occurred:\n\n"
CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
WHOLE = {
    "the launcher's summary is last": (START + bars(50) + traceback(OOM) + LAUNCHER, "cuda-oom"),
    "peers time out after a rank's cause": (
        START + bars(9) + traceback(OOM, "[rank3]: ") + "".join(NCCL.format(n) + "\n" for n in (0, 1, 2)) + LAUNCHER,
        "cuda-oom",
    ),
    "ranks interleave": (
        "".join(
            f"{mine}\n{others}\n"
            for mine, others in zip(
                traceback("KeyError: 'prompt'", "[rank1]: ").splitlines(),
                traceback("RuntimeError: Connection reset by peer", "[rank0]: ").splitlines(),
                strict=True,
            )
        ),
        "missing-column",
    ),
    "a chain's cause is first": (
        traceback("datasets.table.CastError: Couldn't cast")
        + CAUSE
        + traceback("datasets.exceptions.DatasetGenerationError: An error occurred while generating the dataset"),
        "column-cast",
    ),
    "a full disk hides behind a position": (
        traceback(
            "RuntimeError: [enforce fail at inline_container.cc:778] . PytorchStreamWriter failed writing file data/1: x"
        )
        + AGAIN
        + traceback("RuntimeError: [enforce fail at inline_container.cc:664] . unexpected pos 704 vs 598"),
        "disk-full",
    ),
    "an error that the run outlived": (
        START + OOM + " (batch skipped)\n" + bars(200) + traceback("KeyError: 'chosen'"),
        "missing-column",
    ),
    "a column that only this data has": (
        traceback("x").replace("x\n", "")
        + '  File "/venv/lib/python3.11/site-packages/trl/trainer/sft_trainer.py", line 1, in tokenize\n'
        + '  File "/venv/lib/python3.11/site-packages/datasets/formatting/formatting.py", line 277, in __getitem__\n'
        + "    value = self.data[key]\nKeyError: 'my_text'\n",
        "missing-column",
    ),
    "a key of something else": (START + traceback("KeyError: 'my_registry'"), UNRECOGNISED),
    "colours": (START + "\x1b[1;31mtorch.OutOfMemoryError\x1b[0m: \x1b[31mCUDA out of memory\x1b[0m.\n", "cuda-oom"),
    "a bar rewritten in place": (bars(300, "\r") + traceback(OOM), "cuda-oom"),
    "only warnings and bars": (START + bars(300), UNRECOGNISED),
    "a kill in silence": (START + bars(100) + "Killed\n", "host-ram-kill"),
    "a kill that a launcher reports": (
        START + bars(3) + "[ERROR] [launch.py:325:sigkill_handler] exits with return code = -9\n",
        "host-ram-kill",
    ),
    "NaN, and a crash after it": (
        START
        + "{'loss': 0.0, 'grad_norm': nan, 'epoch': 0.1}\n" * 30
        + bars(60)
        + traceback("TypeError: Input must be callable"),
        "nan-loss",
    ),
    "the missing torch of a build is not the job's": (
        "Building wheel for flash-attn\n  error: subprocess-exited-with-error\n      ModuleNotFoundError: No module named 'torch'\n",
        "wheel-build",
    ),
    "the word of a value, not of a failure": (
        START + "max_length=1024, out_of_memory_retry=False, nan_filter=False\n",
        UNRECOGNISED,
    ),
}


@pytest.mark.req("S13-R01")
@pytest.mark.parametrize(("text", "code"), WHOLE.values(), ids=WHOLE.keys())
def test_the_root_is_found_in_a_whole_log(text: str, code: str) -> None:
    assert classify(text).code == code


def test_the_evidence_is_the_line_itself_and_its_number() -> None:
    text = START + bars(40, "\r") + "\n" + traceback(OOM) + LAUNCHER
    (evidence,) = classify(text).evidence
    assert evidence.line == OOM
    assert text.split("\n")[evidence.number - 1] == OOM


def test_a_mend_names_what_the_log_names() -> None:
    assert "einops" in classify("ModuleNotFoundError: No module named 'einops'").smallest_mend
    assert "evaluation_strategy" in classify("got an unexpected keyword argument 'evaluation_strategy'").smallest_mend
    assert "'" not in classify("KeyError: 'prompt'").smallest_mend.replace("data's", "")


# --- the facts of the end -----------------------------------------------------------------------------------------

FACTS = {
    "a kill counted by the kernel": (FailureFacts(signal=9, cgroup_oom_kills=1), "", "cgroup-kill"),
    "a kill outweighs words of the card": (FailureFacts(exit_code=137, cgroup_oom_kills=2), OOM, "cgroup-kill"),
    "a kill without a reason": (FailureFacts(exit_code=-9), bars(5), "host-ram-kill"),
    "the time limit": (FailureFacts(timed_out=True, signal=15), bars(5), "time-limit"),
    "the time limit after a long silence is a hang": (
        FailureFacts(timed_out=True, silent_s=SILENT_S),
        bars(5),
        "silent",
    ),
    "a cause outweighs the time limit": (FailureFacts(timed_out=True), traceback(OOM), "cuda-oom"),
    "the machine was taken back": (FailureFacts(preempted=True, signal=15), bars(5), "preempted"),
    "no room": (FailureFacts(disk_free_bytes=0, exit_code=1), traceback("OSError: write failed"), "disk-full"),
    "somebody ended it": (FailureFacts(signal=15), bars(5), "terminated"),
    "nothing is known": (FailureFacts(exit_code=1), "", UNRECOGNISED),
}


@pytest.mark.req("S13-R10", "S13-R22")
@pytest.mark.parametrize(("facts", "text", "code"), FACTS.values(), ids=FACTS.keys())
def test_facts_and_text_together(facts: FailureFacts, text: str, code: str) -> None:
    assert classify(text, facts).code == code


# --- for any text -------------------------------------------------------------------------------------------------

MEAN = st.sampled_from(
    [needle for signature in signatures() for needle in signature.needles]
    + [
        "\r",
        "\n",
        "\x1b[31m",
        "Traceback (most recent call last):\n",
        OOM,
        "İ",
        "\udcff",
        "nan",
        "'",
        "Error: ",
        "it/s",
    ]
)
TEXTS = st.lists(MEAN | st.text(max_size=6), max_size=40).map(" ".join)


@given(TEXTS, st.booleans())
def test_any_text_has_a_diagnosis_with_evidence_from_it(text: str, killed: bool) -> None:
    facts = FailureFacts(signal=9, cgroup_oom_kills=1) if killed else FailureFacts()
    diagnosis = classify(text, facts)
    assert diagnosis == classify(text, facts)
    assert diagnosis.category == CODES[diagnosis.code].category
    assert "{" not in diagnosis.smallest_mend
    if killed:
        assert diagnosis.routes_to != "oom-ladder"
    for evidence in diagnosis.evidence:
        assert 0 <= evidence.number <= text.count("\n") + 1


def test_every_code_has_a_mend_and_every_category_codes() -> None:
    assert {code.category for code in CODES.values()} == set(CATEGORIES)
    assert {code.routes_to for code in CODES.values() if code.category == "oom"} > {"oom-ladder"}
    assert [name for name, code in CODES.items() if code.routes_to == "oom-ladder"] == ["cuda-oom"]


def test_every_needle_is_lower_case_and_every_signature_has_its_code() -> None:
    assert {each.code for each in signatures()} <= set(CODES)
    assert all(needle and needle == needle.lower() for each in signatures() for needle in each.needles)


def megabyte(kind: str) -> str:
    chance = random.Random(7)
    unit = {
        "bars": lambda: bars(1, "\r") + f"{{'loss': {chance.random():.4f}, 'grad_norm': {chance.random():.6f}}}\n",
        "info": lambda: (
            f"[{chance.random()}] NCCL INFO Channel {chance.randrange(32)}: 0[{chance.getrandbits(40):x}]\n"
        ),
        "errors": lambda: OOM + "\n",
    }[kind]
    parts: list[str] = []
    while sum(map(len, parts[-200:])) * len(parts) / max(1, len(parts[-200:])) < 1_010_000:
        parts.append(unit())
    return "".join(parts) + traceback(OOM) + LAUNCHER


@pytest.mark.parametrize("kind", ["bars", "info", "errors"])
def test_the_cause_is_found_in_a_megabyte_of_log(kind: str) -> None:
    text = megabyte(kind)
    assert len(text) >= 1_000_000
    assert classify(text).code == "cuda-oom"
