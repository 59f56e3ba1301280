"""The chapters of the demo that are about work itself: data, a slice for Colab, a training run, and keeping it all honest."""

from __future__ import annotations

from script.telling import DRIVE, HOST_CLONE, LAPTOP_CLONE, REPOSITORY, check, run, step

TRAIN_TIMEOUT_S = 600
TRAIN_ENVIRONMENT = REPOSITORY / ".venv-train"
SLICE_MANIFEST = "manifests/slices/own-text.yaml"
TRAIN_MANIFEST = "manifests/runs/own-text.yaml"


def gather_text() -> None:
    """What this repository knows becomes data on the host."""
    step("Data: this repository's own text, gathered by `hemma export`, put and committed on the host")
    # The host's environments are its own affair; here they are those beside this repository.
    with (HOST_CLONE / ".git/info/exclude").open("a", encoding="ascii") as file:
        for environment in (REPOSITORY / ".venv", TRAIN_ENVIRONMENT):
            (HOST_CLONE / environment.name).symlink_to(environment, target_is_directory=True)
            file.write(f"{environment.name}\n")
    run("hemma", "export", "--text", "../own-text.jsonl")
    run("hemma", "put", "--parents", "../own-text.jsonl", "data/own-text.jsonl")
    run("hemma", "commit", "--message=This repository's own text", "data/own-text.jsonl")


def go_through_colab() -> None:
    """A slice goes out through Drive (a plain folder here), is processed as Colab would, and its results come back."""
    step("A portable slice for Colab, issued on the host, and brought into Drive (here a plain folder)")
    run("hemma", "slice", "issue", SLICE_MANIFEST)
    name = next((HOST_CLONE / "slices").iterdir()).name
    run("hemma", "colab", "dispatch", f"slices/{name}")
    step("What Colab does when one presses Run: the slice's own source processes its rows")
    run("python3", f"slices/{name}/source.pyz", "run", f"slices/{name}", "--run", f"runs/{name}", cwd=DRIVE)
    step("Status from files alone, and the results to the host")
    told = run("hemma", "colab", "status")
    check("finished" in told or "done" in told, "every row is done, and nobody had to be asked")
    run("hemma", "colab", "doctor", "last")
    run("hemma", "colab", "collect", "last")
    kept = list((HOST_CLONE / "results/colab").rglob("shard-*.jsonl"))
    check(bool(kept), "the host has the results, each compared with its checksum")


def train() -> None:
    """This repository's own text -> tokenizer -> a tiny model, through every gate, to a commit that the laptop pulls."""
    step("Train: a tokenizer for that text, on the host")
    run("hemma", "tokenizer", TRAIN_MANIFEST, "--vocab-size", "2048", timeout_s=TRAIN_TIMEOUT_S)
    run("hemma", "commit", "--message=A tokenizer", "data/tokenizer")
    step("One command from the manifest to a result: audit, smoke, preflight, job, evaluation, commit (about 40 s)")
    run("hemma", "train", TRAIN_MANIFEST, timeout_s=TRAIN_TIMEOUT_S)
    gates = run("hemma", "gates", "last")
    check("missing" not in gates.lower(), "every gate has its evidence")
    run("hemma", "sync")
    results = sorted(path.name for path in LAPTOP_CLONE.glob("results/**/*") if path.is_file())
    check("benchmark_results.json" in results, "the laptop has the committed result")
    run("hemma", "report", "last", "--out", "../report.html")
    check((LAPTOP_CLONE.parent / "report.html").stat().st_size > 0, "the report: .state/demo/laptop/report.html")


def keep_it_honest() -> None:
    """Whether everything is wired, what was done and why, and what is known about trouble."""
    step("Is every module of this program used by something that runs?")
    told = run("hemma", "verify")
    check(" 0 not wired" in told, "and a module that nothing uses would end CI")
    step("The project remembers what was done: files that only grow, proved against git")
    run("hemma", "memory", "init")
    run("hemma", "memory", "log", "show the daily loop", "ran the demo", "--file", "README.md")
    run("git", "add", ".claude", ".gitattributes")
    run("git", "commit", "--quiet", "--message=The project has a memory")
    run("hemma", "memory", "structure", "--update", quiet=True)
    run("hemma", "memory", "check")
    step("Trouble that others had before: symptom, cause, fix, source")
    told = run("hemma", "runbook", "search", "fragments")
    check("memory-in-fragments" in told, "what is known is found by what one sees")
    step("A run that fails, and what is known of it")
    run("hemma", "run", "--", "python3", "-c", "import flash_attn", expect=1)
    run("hemma", "doctor", "last", expect=1)
    run("hemma", "doctor")
