"""The rules that say which lane a piece of work belongs to: those of every ML repo, and those of [tool.hemma.lanes].

Rules are ordered and the first that matches decides. Globs are those of .gitignore (lanes/globs.py):
without a slash they match at any depth, `!` makes an exception within its rule.
"""

from __future__ import annotations

import functools
import re
import shlex
from dataclasses import dataclass
from typing import Literal

from manifests.commands import command, literal
from manifests.errors import UsageError
from manifests.run import Lane
from manifests.settings import LaneRules, lane_rules

from lanes.globs import Globs, fault_of

Kind = Literal["path", "notebook", "dependency", "command", "manifest"]
KINDS: tuple[Kind, ...] = ("path", "notebook", "dependency", "command", "manifest")
# Kinds that judge a path; a notebook rule looks at notebooks only.
PATH_KINDS: tuple[Kind, ...] = ("path", "notebook", "dependency")
TABLE = "[tool.hemma.lanes]"


@dataclass(frozen=True)
class Rule:
    """One rule. `patterns` are globs (path kinds), leading words with wildcards (command) or FIELD=GLOB (manifest).

    `mark`: the rule holds only for notebooks whose own metadata name this lane (hemma.lane).
    """

    name: str
    lane: Lane
    kind: Kind
    patterns: tuple[str, ...]
    why: str
    mark: Lane | None = None


def rules_from(table: LaneRules) -> tuple[Rule, ...]:
    """The rules of [tool.hemma.lanes], in their order, and then the default ones.

    Raises UsageError naming the rule, what is wrong with it, and the mend.
    """
    try:
        said = lane_rules(table)
    except ValueError as error:
        raise UsageError(
            f"{TABLE}: {error}", remedy='mend the rule in [tool.hemma.lanes], e.g. "docs/**" = "local"'
        ) from error
    mine = tuple(
        Rule(rule.name or patterns[0], rule.lane, kind, patterns, rule.why or f"{TABLE} says so")
        for rule in said
        for kind in KINDS
        if (patterns := rule.patterns(kind))
    )
    for rule in mine:
        _check(rule)
    return mine + DEFAULT_RULES


@functools.lru_cache(maxsize=512)
def globs(patterns: tuple[str, ...]) -> Globs:
    """The matcher for these globs; ValueError or re.error for one that is none."""
    return Globs(patterns)


@functools.lru_cache(maxsize=512)
def words(pattern: str) -> tuple[str, ...]:
    """The words of a command pattern, quoted as in a shell; ValueError for an open quote."""
    return tuple(shlex.split(pattern))


def _check(rule: Rule) -> None:
    for pattern in rule.patterns:
        wrong, example = _fault(rule.kind, pattern)
        if wrong:
            raise UsageError(
                f"{TABLE}: rule `{rule.name}`: `{pattern}` {wrong}",
                remedy=command("mend {} in [tool.hemma.lanes], e.g. {} = {}", pattern, rule.kind, literal(example)),
            )
    if rule.kind in PATH_KINDS and all(pattern.startswith("!") for pattern in rule.patterns):
        raise UsageError(
            f"{TABLE}: rule `{rule.name}` has exceptions only, so it never matches",
            remedy=command(
                "name in [tool.hemma.lanes] what they are exceptions of, e.g. {} = ['docs/**', '!docs/api/**']",
                rule.kind,
            ),
        )


def _fault(kind: Kind, pattern: str) -> tuple[str, str]:
    """What is wrong with a pattern ("" when nothing is) and an example of a good one."""
    if fault_of(pattern):
        return fault_of(pattern), '"docs/**"'
    if kind == "command":
        return ("" if _reads_as_words(pattern) else "is no command (words, quoted as in a shell)"), '"mkdocs build"'
    if kind == "manifest":
        field, equals, _ = pattern.partition("=")
        return ("" if field.strip() and equals else "is not FIELD=GLOB"), '"stage=report"'
    return ("" if _reads_as_glob(pattern) else "is no glob as .gitignore has them"), '"docs/**"'


def _reads_as_words(pattern: str) -> bool:
    try:
        return bool(words(pattern))
    except ValueError:
        return False


def _reads_as_glob(pattern: str) -> bool:
    try:
        kinds = globs((pattern,)).kinds
    except (ValueError, re.error):
        return False
    # A comment, a blank or a lone slash is no error to git, and matches nothing: in a rule it can only be a slip.
    return bool(kinds) and None not in kinds and bool(pattern.strip("!/ "))


def _files(*patterns: str) -> tuple[str, ...]:
    """Globs for files only: what lies in a folder of such a name is not meant (`notes.md/train.py` is no document)."""
    return (*patterns, *(f"!**/{pattern}/**" for pattern in patterns))


_NO_RUN = "nothing runs it: planning and documents may be edited and committed here"

# Order is policy: notebooks and dependency files before documents (docs/requirements.txt builds something), documents
# before data and source (docs/ is read, whatever lies in it), source and data before other prose (prompts/x.md is input).
DEFAULT_RULES: tuple[Rule, ...] = (
    Rule("marked-colab", "colab", "notebook", ("*.ipynb",), "its metadata say hemma.lane = colab", mark="colab"),
    Rule("marked-hemma", "hemma", "notebook", ("*.ipynb",), "its metadata say hemma.lane = hemma", mark="hemma"),
    Rule(
        "colab-notebooks",
        "colab",
        "notebook",
        ("**/colab/**", "*.colab.ipynb", "*_colab.ipynb", "*-colab.ipynb", "colab_*.ipynb", "colab-*.ipynb"),
        "a disposable notebook that drives committed commands on Colab; the host issues it and commits what is kept",
    ),
    Rule(
        "notebooks",
        "hemma",
        "notebook",
        ("*.ipynb",),
        "its source tree is the host's: edited there; metadata that only opening it wrote is no change",
    ),
    Rule(
        "dependencies",
        "hemma",
        "dependency",
        (
            *("pyproject.toml", "setup.py", "setup.cfg", "*.lock", "Pipfile", "pixi.toml", "conda-lock.yml"),
            *("requirements*.txt", "requirements*.in", "requirements/", "constraints*.txt"),
            *("environment*.yml", "environment*.yaml", ".python-version", ".tool-versions"),
            *("Dockerfile", "Dockerfile.*", "*.Dockerfile", "docker-compose*.yml", "docker-compose*.yaml"),
            *("compose.yml", "compose.yaml", ".dockerignore", "*.def"),
        ),
        "it makes the environment in which the host runs: resolved, tried and committed there",
    ),
    Rule(
        "documents",
        "local",
        "path",
        (
            *_files("README", "README.*", "CHANGELOG*", "CONTRIBUTING*", "CODE_OF_CONDUCT*", "SECURITY.md"),
            *_files("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENSE-*", "LICENCE*", "COPYING", "NOTICE"),
            *_files("AUTHORS", "AUTHORS.*", "CITATION.cff", "mkdocs.yml"),
            "docs/**",
        ),
        _NO_RUN,
    ),
    Rule(
        "memory",
        "local",
        "path",
        (".claude/project_*.json",),
        "the project's memory: whoever acts writes it where they are, and git merges it entry by entry",
    ),
    Rule(
        "source",
        "hemma",
        "path",
        (
            *("*.py", "*.pyi", "*.pyx", "*.sh", "*.bash", "*.sbatch", "*.slurm", "*.sql", "Makefile", "justfile"),
            *("*.c", "*.h", "*.cc", "*.cpp", "*.hpp", "*.cu", "*.cuh", "*.rs", "*.go", "*.js", "*.ts"),
        ),
        "the host runs it, so it is edited, committed and pushed there",
    ),
    Rule(
        "manifests",
        "hemma",
        "path",
        ("manifests/",),
        "a manifest is committed on the host: runs and slices start there",
    ),
    Rule(
        "artifacts",
        "hemma",
        "path",
        (
            *("data/", "datasets/", "artifacts/", "checkpoints/", "models/", "outputs/", "results/", "runs/", "logs/"),
            *("evidence/", "slices/", "spool/", "wandb/", "mlruns/", "prompts/", "templates/"),
            *("*.safetensors", "*.pt", "*.pth", "*.ckpt", "*.onnx", "*.gguf", "*.bin", "*.pkl", "*.npy", "*.npz"),
            *("*.parquet", "*.arrow", "*.jsonl", "*.csv", "*.tsv", "*.h5", "*.tar", "*.zip", "*.gz", "*.zst"),
        ),
        "the host is the truth for data, checkpoints and other artifacts",
    ),
    Rule(
        "host-folders",
        "hemma",
        "path",
        (
            *("src/", "tests/", "test/", "training/", "scripts/", "script/", "bin/", "configs/", "config/", "conf/"),
            *("experiments/", "benchmarks/", "recipes/"),
            *("*.yaml", "*.yml", "*.toml", "*.json", "*.cfg", "*.ini", "*.jinja", "*.j2"),
        ),
        "it is part of what the host runs, so it is edited, committed and pushed there",
    ),
    Rule(
        "repository",
        "hemma",
        "path",
        (".gitignore", ".gitattributes", ".gitmodules", ".lfsconfig", ".githooks/", ".github/"),
        "it changes how every clone behaves, the host's first",
    ),
    Rule(
        "prose",
        "local",
        "path",
        (*_files("*.md", "*.rst", "*.adoc"), "planning/**", "plans/**", "notes/**"),
        _NO_RUN,
    ),
    Rule("runs-on-the-host", "hemma", "command", ("hemma run", "run-hemma"), "it asks for the host by name"),
    Rule("runs-on-colab", "colab", "command", ("hemma colab",), "it asks for Colab by name"),
    Rule("hemma-itself", "local", "command", ("hemma",), "it runs here and reaches the host by itself"),
    Rule(
        "git-reads",
        "local",
        "command",
        (
            *("git log", "git show", "git diff", "git status", "git blame", "git grep", "git shortlog"),
            *("git rev-parse", "git ls-files", "git describe", "git cat-file"),
        ),
        "it only reads this clone",
    ),
    Rule(
        "git-writes",
        "hemma",
        "command",
        ("git",),
        "commits and pushes are the host's: hemma commit, hemma push, hemma sync",
    ),
    Rule("document-tools", "local", "command", ("mkdocs", "markdownlint", "mdformat", "vale"), _NO_RUN),
    Rule(
        "execution",
        "hemma",
        "command",
        (
            *("python", "python[0-9]*", "ipython", "jupyter", "papermill", "pytest", "tox", "nox", "coverage"),
            *("pip", "pip[0-9]*", "uv", "uvx", "pdm", "poetry", "conda", "mamba", "micromamba", "pixi"),
            *("torchrun", "accelerate", "deepspeed", "trl", "vllm", "ray", "dvc", "hf", "huggingface-cli", "trackio"),
            *("tensorboard", "wandb", "nvidia-smi", "nvcc", "nsys", "sbatch", "srun", "salloc", "squeue", "scancel"),
            *("docker", "podman", "apptainer", "singularity", "make", "just", "bash", "sh", "zsh", "ruff", "pyright"),
        ),
        "it runs, installs or checks what the host holds",
    ),
    Rule("says-hemma", "hemma", "manifest", ("lane=hemma",), "the manifest says lane: hemma"),
    Rule("says-colab", "colab", "manifest", ("lane=colab",), "the manifest says lane: colab"),
    Rule("says-local", "local", "manifest", ("lane=local",), "the manifest says lane: local"),
)
