"""Is this host fit to work on? Facts of one trip in, one finding per thing out, each no with the command that mends it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from manifests.commands import Remedy, command

Level = Literal["ok", "warn", "fail", "not checked"]
Facts = Mapping[str, Any]

GIB = 1 << 30
DISK_WARN_BYTES, DISK_FAIL_BYTES = 10 * GIB, 1 * GIB
INODES_WARN, INODES_FAIL = 100_000, 5_000
SKEW_WARN_S, SKEW_FAIL_S = 2.0, 60.0
PYTHON_AT_LEAST = (3, 9)


@dataclass(frozen=True)
class Finding:
    """One thing looked at: its name, how it stands, the fact, and the command (or step) that mends it."""

    name: str
    level: Level
    fact: str
    mend: Remedy = ""


@dataclass(frozen=True)
class Problem:
    """Why the host could not be spoken to: an error's code word, message and remedy."""

    code: str
    message: str
    remedy: Remedy


@dataclass(frozen=True)
class Trip:
    """What came of one trip to a host. `sent_s` and `received_s` are this machine's unix times around the probe."""

    alias: str
    address: str
    problem: Problem | None = None
    probe: Facts | None = None
    sent_s: float = 0.0
    received_s: float = 0.0


# The connection's steps in order: what an error code says has failed; those before it were passed on the way.
CONNECTING = ("ssh alias", "host key", "login", "python")
_STEP = {
    "host-key-unknown": "host key",
    "host-key-changed": "host key",
    "authentication-refused": "login",
    "agent-unavailable": "python",
    "host-disk-full": "disk space",
}
AFTER = (
    "git",
    "bash",
    "disk space",
    "inodes",
    "gpu and driver",
    "clock",
    "repository",
    "repository clean",
    "home writable",
    "kill user processes",
)


def diagnose(trip: Trip) -> list[Finding]:
    """One finding for each thing, always all of them and in the same order.

    When the host could not be spoken to, the step that failed carries the error, and what lies behind it is not checked.
    """
    if trip.problem is not None:
        return _unreached(trip, trip.problem)
    if trip.probe is None:
        return _unreached(trip, Problem("unreachable", "the host gave no facts", "hemma host check"))
    facts = trip.probe
    return [
        Finding("ssh alias", "ok", f"{trip.alias} is {trip.address}"),
        Finding("host key", "ok", "known and unchanged"),
        Finding("login", "ok", f"as {_get(facts, 'host').get('user', '?')}"),
        _python(_get(facts, "python")),
        _program("git", _get(facts, "git"), "the host commits and pushes with it"),
        _program("bash", _get(facts, "bash"), "commands run in it"),
        _disk([_get(facts, "root_disk"), _get(facts, "state_disk")]),
        _inodes([_get(facts, "root_disk"), _get(facts, "state_disk")]),
        _gpu(_get(facts, "gpus")),
        _clock(_get(facts, "clock"), trip),
        _repository(facts.get("repository")),
        _clean(facts.get("repository")),
        _writable([_get(facts, "home"), _get(facts, "state")]),
        _logind(_get(facts, "logind")),
    ]


def is_fit(findings: list[Finding]) -> bool:
    """Whether nothing failed; warnings do not count."""
    return all(finding.level != "fail" for finding in findings)


def _unreached(trip: Trip, problem: Problem) -> list[Finding]:
    failed = _STEP.get(problem.code, "ssh alias")
    reached = CONNECTING.index(failed) if failed in CONNECTING else len(CONNECTING) - 1
    found: list[Finding] = []
    for position, name in enumerate(CONNECTING + AFTER):
        if name == failed:
            found.append(Finding(name, "fail", problem.message, problem.remedy))
        elif position < reached:
            found.append(Finding(name, "ok", f"{trip.alias} is {trip.address}" if name == "ssh alias" else "passed"))
        else:
            found.append(Finding(name, "not checked", "the host could not be asked"))
    return found


def _get(facts: Facts, name: str) -> Facts:
    value: object = facts.get(name)
    return cast("Facts", value) if isinstance(value, Mapping) else {"error": "the host did not say"}


def _unknown(name: str, facts: Facts, mend: Remedy = "") -> Finding:
    return Finding(name, "warn", f"could not be checked: {facts['error']}", mend)


def _python(facts: Facts) -> Finding:
    if "error" in facts:
        return _unknown("python", facts)
    version = str(facts.get("version", ""))
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    fact = f"{version} at {facts.get('path')}"
    if numbers < PYTHON_AT_LEAST:
        return Finding(
            "python", "fail", f"{fact}; 3.9 or newer is needed", "hemma host add NAME SSH --python PATH_TO_NEWER"
        )
    return Finding("python", "ok", fact)


def _program(name: str, facts: Facts, purpose: str) -> Finding:
    if "error" in facts:
        return _unknown(name, facts)
    if facts.get("path") is None:
        return Finding(
            name, "fail", f"not installed ({purpose})", command("sudo apt-get install {}   (on the host)", name)
        )
    return Finding(name, "ok", f"{facts.get('version')} at {facts['path']}")


def _disk(places: list[Facts]) -> Finding:
    if failed := [facts for facts in places if "error" in facts]:
        return _unknown("disk space", failed[0])
    tightest = min(places, key=lambda facts: int(facts["free_bytes"]))
    free, path = int(tightest["free_bytes"]), str(tightest["path"])
    level: Level = "fail" if free < DISK_FAIL_BYTES else "warn" if free < DISK_WARN_BYTES else "ok"
    mend = "" if level == "ok" else command("du -xh {} | sort -h | tail   (on the host; then make room)", path)
    return Finding("disk space", level, f"{free / GIB:.1f} GiB free at {path}", mend)


def _inodes(places: list[Facts]) -> Finding:
    if failed := [facts for facts in places if "error" in facts]:
        return _unknown("inodes", failed[0])
    counted = [facts for facts in places if facts.get("free_inodes") is not None]
    if not counted:
        return Finding("inodes", "ok", "the file system has no fixed number of them")
    tightest = min(counted, key=lambda facts: int(facts["free_inodes"]))
    free, path = int(tightest["free_inodes"]), str(tightest["path"])
    level: Level = "fail" if free < INODES_FAIL else "warn" if free < INODES_WARN else "ok"
    mend = (
        "" if level == "ok" else command("du -x --inodes {} | sort -n | tail   (on the host; then remove files)", path)
    )
    return Finding("inodes", level, f"{free:,} free at {path}", mend)


def _gpu(facts: Facts) -> Finding:
    name = "gpu and driver"
    if "error" in facts:
        return Finding(
            name, "fail", str(facts["error"]), "nvidia-smi   (on the host: driver and kernel module must match)"
        )
    if facts.get("tool") is None:
        return Finding(name, "ok", "none found (no nvidia-smi); training needs one, running commands does not")
    gpus = cast("list[Facts]", facts.get("gpus") or [])
    if not gpus:
        return Finding(name, "warn", "nvidia-smi is there and lists no GPU", "nvidia-smi -L   (on the host)")
    described = [f"{gpu['name']} ({_mib(gpu.get('memory_mib'))}, driver {gpu['driver']})" for gpu in gpus]
    each = {text: described.count(text) for text in described}
    return Finding(name, "ok", "; ".join(f"{count} x {text}" if count > 1 else text for text, count in each.items()))


def _mib(memory_mib: object) -> str:
    return f"{memory_mib / 1024:.0f} GiB" if isinstance(memory_mib, int) else "memory unknown"


def skew_s(host_s: float, sent_s: float, received_s: float) -> float:
    """Seconds the host's clock is ahead (negative: behind) at least; 0 when it lies within the time of the trip."""
    if host_s < sent_s:
        return host_s - sent_s
    return max(0.0, host_s - received_s)


def _clock(facts: Facts, trip: Trip) -> Finding:
    if "error" in facts:
        return _unknown("clock", facts)
    skew = skew_s(float(facts["host_time_s"]), trip.sent_s, trip.received_s)
    size = abs(skew)
    level: Level = "fail" if size > SKEW_FAIL_S else "warn" if size > SKEW_WARN_S else "ok"
    fact = f"the host is {size:.1f} s {'ahead' if skew > 0 else 'behind'}" if size else "agrees with this machine's"
    return Finding("clock", level, fact, "" if level == "ok" else "sudo timedatectl set-ntp true   (where it is wrong)")


def _repository(value: object) -> Finding:
    name = "repository"
    if not isinstance(value, Mapping):
        return Finding(name, "warn", "no root is configured", "hemma init --host ALIAS --root PATH")
    facts = cast("Facts", value)
    if "error" in facts:
        return _unknown(name, facts)
    path = str(facts.get("path"))
    if not facts.get("exists"):
        return Finding(
            name, "fail", f"{path} does not exist (exit 66)", command("git clone URL {}   (on the host)", path)
        )
    if not facts.get("is_git"):
        return Finding(
            name, "fail", f"{path} is no git work tree (exit 67)", "hemma init --force --root PATH_OF_THE_CLONE"
        )
    if not facts.get("is_toplevel"):
        top = str(facts.get("toplevel"))
        fact = f"{path} is not the root of its repository, {top} is (exit 68)"
        return Finding(name, "fail", fact, command("hemma init --force --root {}", top))
    if facts.get("detached"):
        return Finding(name, "warn", f"{path} has a detached HEAD", "git switch BRANCH   (on the host)")
    return Finding(name, "ok", f"{path} on {facts.get('branch')} at {str(facts.get('head') or 'no commit')[:12]}")


def _clean(value: object) -> Finding:
    name = "repository clean"
    dirty = cast("Facts", value).get("dirty") if isinstance(value, Mapping) else None
    if not isinstance(dirty, Mapping):
        return Finding(name, "not checked", "there is no repository to look at")
    facts = cast("Facts", dirty)
    if "error" in facts:
        return _unknown(name, facts)
    count = int(facts["count"])
    if count == 0:
        return Finding(name, "ok", "nothing changed, nothing untracked")
    first = [str(path) for path in facts.get("first", [])][:3]
    more = f" and {count - len(first)} more" if count > len(first) else ""
    return Finding(name, "warn", f"{count} changed or untracked: {', '.join(first)}{more}", "hemma run -- git status")


def _writable(places: list[Facts]) -> Finding:
    name = "home writable"
    if failed := [facts for facts in places if "error" in facts]:
        return _unknown(name, failed[0])
    for facts in places:
        if not facts.get("writable"):
            path = str(facts["path"])
            return Finding(name, "fail", f"{path}: {facts.get('reason')}", command("ls -ld {}   (on the host)", path))
    return Finding(name, "ok", " and ".join(dict.fromkeys(str(facts["path"]) for facts in places)))


def _logind(facts: Facts) -> Finding:
    name = "kill user processes"
    if "error" in facts:
        return _unknown(name, facts)
    if facts.get("kill_user_processes") and not facts.get("linger"):
        mend = command("sudo loginctl enable-linger {}   (on the host)", str(facts.get("user")))
        return Finding(name, "fail", "systemd ends runs when the last connection closes", mend)
    return Finding(name, "ok", "runs outlive the connection")


def summary(findings: list[Finding]) -> str:
    """One line: how many of each level, worst first."""
    return ", ".join(_counts([finding.level for finding in findings]))


def _counts(levels: list[Level]) -> Iterator[str]:
    order: tuple[Level, ...] = ("fail", "warn", "ok", "not checked")
    return (f"{levels.count(level)} {level}" for level in order if level in levels)
