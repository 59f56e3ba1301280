"""What the first-run interview asks, and which answers it takes: an answer in; itself made regular, or why not, out (S17-R10).

No answer may hold a credential: one that looks like a secret is refused, and no refusal repeats what was answered (S17-R11).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal, cast

from manifests.commands import Remedy, command, listed

from lanes.redaction import redact

About = Literal["project", "host", "person"]
Gpu = Literal["required", "optional", "none"]
MOST_LETTERS = 300
MOST_HOURS, MOST_GB = 24.0 * 365, 1e6
GENERIC = "ssh-host"
_NOT_A_KEY = "give the name of the variable, or the path of the file, that holds it"


@dataclass(frozen=True)
class Question:
    """One thing to know: whose fact it is, and the words it is asked with."""

    key: str
    about: About
    asks: str


# The host comes first: what follows is often known of it.
QUESTIONS: tuple[Question, ...] = (
    Question("host", "person", "ssh alias of the host"),
    Question("platform", "host", "what kind of machine it is"),
    Question("root", "project", "path of the repository on the host"),
    Question("entry", "project", "what a run starts: a file or module of this repository"),
    Question("configs", "project", "the folder of its configurations"),
    Question("tracker", "person", "your name at the tracker; as OWNER/SPACE, hemma train mirrors runs there"),
    Question("tracker_key", "person", "where the tracker's key lives: a variable's name or a path, never the key"),
    Question("gpu", "host", "usual GPU plan: none, optional or required, and the hours at most, as in `required 8h`"),
    Question("disk_gb", "host", "disk budget for what runs keep there, in GB"),
)
KEYS = tuple(question.key for question in QUESTIONS)


@dataclass(frozen=True)
class GpuPlan:
    """Whether runs need a GPU, and GPU hours at most; None: nothing said."""

    gpu: Gpu
    max_hours: float | None = None


class Refused(ValueError):
    """An answer that is not taken: the rule, without the answer, and what to do."""

    def __init__(self, rule: str, mend: Remedy) -> None:
        super().__init__(rule)
        self.rule = rule
        self.mend: Remedy = mend


def accepted(key: str, answer: str, *, platforms: Collection[str] = (), known: Collection[str] = ()) -> str:
    """The answer in its regular form. `known`: values of secrets of this environment. Raises Refused (S17-R11)."""
    if len(answer) > MOST_LETTERS:
        raise Refused(f"is longer than {MOST_LETTERS} letters", "give a short name or path")
    text = answer.strip()
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise Refused("is not UTF-8 text", "type it in UTF-8")
    if not text.isprintable() or not text:
        raise Refused("must be one line of text, not empty", "give one line")
    if _is_secret(text, known):
        raise Refused("looks like a secret itself", _NOT_A_KEY)
    return _RULES[key](text, platforms)


def gpu_plan(text: str) -> GpuPlan:
    """The plan that a text such as `required 8h` means. Raises Refused."""
    found = re.fullmatch(r"(none|optional|required)(?:[ ,]+(\d{1,5}(?:\.\d{1,3})?) ?h(?:ours?)?)?", text.lower())
    hours = float(found[2]) if found and found[2] else None
    if found is None or (hours is not None and not 0 < hours <= MOST_HOURS):
        raise Refused("must be none, optional or required, and perhaps hours", "for example: required 8h")
    return GpuPlan(cast("Gpu", found[1]), hours)


def gigabytes(text: str) -> float:
    """The number of GB that a text such as `500`, `500 GB` or `1.5 TB` means. Raises Refused."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?) ?(gb|gib|tb|tib)?", text.lower())
    value = float(found[1]) * (1000 if (found[2] or "").startswith("t") else 1) if found else math.nan
    if not 0 < value <= MOST_GB:
        raise Refused("must be a number of GB above 0", "for example: 500")
    return value


def aliases(ssh_config: str) -> list[str]:
    """The hosts that an ssh_config names one by one, in order, patterns left out."""
    found: list[str] = []
    for line in ssh_config.splitlines():
        words = line.strip().replace("=", " ", 1).split()
        if words[:1] and words[0].lower() == "host":
            found += [word for word in words[1:] if not re.search(r"[*?!\"]", word)]
    return list(dict.fromkeys(found))


def repositories_in(root: str, name: str) -> str | None:
    """The folder on the host that a repository called `name` lies in, when `root` is that repository."""
    parent, slash, last = root.rstrip("/").rpartition("/")
    return parent if slash and parent and last == name else None


# --- the rules -------------------------------------------------------------------------------------------------------


def _is_secret(text: str, known: Collection[str]) -> bool:
    # The key of a well-known tracker is 40 hexadecimal letters, which redaction takes for a digest; no answer here is one.
    # What a variable says is a path (of a file of credentials, of an agent's socket) is a place, not a secret.
    values = [value for value in known if not value.startswith(("/", "~"))]
    if redact(text, values).total or re.search(r"[0-9a-fA-F]{32}", text):
        return True
    # Part by part too: as the last part of a path a chance word would pass for a name.
    return any(redact(part).total for part in re.split(r"[/:@=,\s]", text))


def _platform(text: str, platforms: Collection[str]) -> str:
    name = GENERIC if text.lower() == "ssh" else text.lower()
    if name not in platforms:
        raise Refused(
            "is no platform that the runbooks know",
            command("one of: {}", listed(["ssh", *sorted(set(platforms) - {GENERIC})])),
        )
    return name


def _host(text: str, _: Collection[str]) -> str:
    if re.search(r":[^@]*@", text):
        raise Refused("holds a password", "put the key into ssh's agent, and give [user@]host[:port]")
    if text.startswith("-") or any(letter.isspace() for letter in text):
        raise Refused("must be an ssh alias or [user@]host[:port]", "for example: gpu-box")
    return text


def _root(text: str, _: Collection[str]) -> str:
    if not text.startswith(("/", "~")):
        raise Refused("must be a path on the host that starts with / or ~", "for example: ~/work/repo")
    return text


def _inside(text: str, _: Collection[str]) -> str:
    text = text.removeprefix("./").rstrip("/")
    if not text or text.startswith(("/", "~", "-")) or ".." in text.split("/"):
        raise Refused("must be inside the repository", "give its path from the repository's root")
    return text


def _entry(text: str, platforms: Collection[str]) -> str:
    if not re.fullmatch(r"[\w./-]+(?::\w+)?", text):
        raise Refused("must be a file or a module of this repository", "for example: train.py, or package.module")
    return _inside(text, platforms)


def _tracker(text: str, _: Collection[str]) -> str:
    if not re.fullmatch(r"\w[\w.-]*(?:/\w[\w.-]*)?", text):
        raise Refused("must be a name, or OWNER/SPACE", "for example: me/runs")
    return text


def _key_place(text: str, _: Collection[str]) -> str:
    """A variable's name or a path. A key of capitals alone could pass for a name: one without `_` must end as names do."""
    if text.startswith(("/", "~/", "./")):
        return text
    parts = text.split("_")
    is_name = all(re.fullmatch(r"[A-Z]{1,16}\d{0,2}|\d{1,2}|", part) for part in parts) and text[0].isalpha()
    if not is_name or (len(parts) == 1 and not re.search(r"(?:KEY|TOKEN|SECRET|PASSWORD)\d?$", text)):
        raise Refused("is neither a variable's name nor a path, and may be a secret", _NOT_A_KEY)
    return text


def _gpu(text: str, _: Collection[str]) -> str:
    plan = gpu_plan(text)
    return plan.gpu if plan.max_hours is None else f"{plan.gpu} {plan.max_hours:g}h"


def _disk(text: str, _: Collection[str]) -> str:
    return f"{gigabytes(text):g}"


_RULES: Mapping[str, Callable[[str, Collection[str]], str]] = {
    "host": _host,
    "platform": _platform,
    "root": _root,
    "entry": _entry,
    "configs": _inside,
    "tracker": _tracker,
    "tracker_key": _key_place,
    "gpu": _gpu,
    "disk_gb": _disk,
    # Not asked: it follows from the path of a repository on its host.
    "repositories": _root,
}
