"""`hemma memory`: the project's concept, structure and log, which only ever grow (S2-R04 to S2-R18).

One writer at a time (a file lock), whole files by rename with fsync: an entry that was acknowledged is there after kill -9,
and no reader ever sees half a file (S2-R19).
"""

from __future__ import annotations

import datetime as dt
import getpass
import json
import os
import subprocess
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

from pydantic import ValidationError

from controller.flows import memory_known
from controller.settings import read_files
from lanes import memory as decide
from lanes import memory_structure as structure
from manifests.commands import command
from manifests.errors import HemmaError, NeedsPerson, UsageError
from manifests.files import atomic_write, broken, parse_json
from manifests.memory import ARCHIVE, CHANGES, CONCEPT, FILES, LOG, STRUCTURE, Concept, LogEntry
from manifests.model import faults, near_misses
from remote.agent import gitcall

LOCK_TIMEOUT_S = 60.0
DRIVER = "hemma-memory"
DRIVER_COMMAND = "hemma memory merge %O %A %B"
_EMPTY_STRUCTURE = '{\n  "schema_version": 1,\n  "modules": []\n}\n'

Entry = dict[str, Any]


class Memory:
    """The memory of the repository at `root`, in `folder` (relative to it)."""

    def __init__(self, root: str, folder: str) -> None:
        self.root, self.folder = root, folder

    def path(self, name: str) -> str:
        """Where a file of it lies."""
        return os.path.join(self.root, self.folder, name)

    def exists(self) -> bool:
        """Whether the project has a memory."""
        return os.path.exists(self.path(LOG))

    @contextmanager
    def locked(self) -> Generator[None]:
        """One writer at a time, among processes too. Raises HemmaError when another holds it for a minute."""
        from filelock import FileLock, Timeout

        os.makedirs(os.path.dirname(self.path(LOG)), exist_ok=True)
        lock = self._lock()
        try:
            with FileLock(lock, timeout=LOCK_TIMEOUT_S, poll_interval=0.01):
                self._sweep()
                yield
        except Timeout as error:
            raise HemmaError(
                f"{lock} was held for {LOCK_TIMEOUT_S:.0f} s",
                remedy=command("fuser {}   says by whom", lock),
                code="memory-busy",
            ) from error

    def _lock(self) -> str:
        """Where writers wait: in .git, so that it is never committed; in a linked work tree beside the log."""
        own = os.path.join(self.root, ".git")
        return os.path.join(own, "hemma-memory.lock") if os.path.isdir(own) else self.path(f".{LOG}.lock")

    def _sweep(self) -> None:
        """Remove what writers left that were killed in the middle: who holds the lock is the only one who writes."""
        folder = os.path.dirname(self.path(LOG))
        for name in os.listdir(folder):
            if name.startswith(tuple(f".{each}." for each in FILES)) and name.endswith(".tmp"):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, name))

    def text(self, name: str, default: str) -> str:
        """A file as text, or `default` where there is none. Raises HemmaError file-broken for bytes that are no text."""
        try:
            return self.raw(name, default.encode()).decode("utf-8")
        except UnicodeDecodeError as error:
            raise broken(self.path(name), f"is no UTF-8 ({error})") from error

    def raw(self, name: str, default: bytes) -> bytes:
        """A file's bytes, or `default` where there is none."""
        try:
            with open(self.path(name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return default

    def write(self, name: str, text: str) -> None:
        """Replace a file by a longer one, whole."""
        atomic_write(self.path(name), text.encode("utf-8"), mode=None)

    def log(self, name: str = LOG) -> decide.Log:
        """The log, or the archive. Raises HemmaError file-broken."""
        return parsed(self.text(name, decide.EMPTY), self.path(name))

    def concept(self) -> dict[str, Any]:
        """The concept as it stands; all its fields, empty where nothing was said yet."""
        return {**Concept().as_dict(), **self._object(CONCEPT)}

    def structure(self) -> dict[str, Any]:
        """The structure as it stands."""
        return {"schema_version": 1, "modules": [], **self._object(STRUCTURE)}

    def _object(self, name: str) -> dict[str, Any]:
        text = self.text(name, "")
        return self.mapping(name, text) if text else {}

    def mapping(self, name: str, text: str) -> dict[str, Any]:
        """The JSON object of a file of it. Raises HemmaError file-broken."""
        try:
            return parse_json(text.encode(), self.path(name))
        except HemmaError as error:
            raise _broken(error, self.path(name), text) from error


def of(start: str, environ: Mapping[str, str]) -> Memory:
    """The memory of the project that `start` lies in. Raises UsageError where there is no repository."""
    from controller.flows import work_tree

    folder = read_files(start, environ).project.memory or ".claude"
    return Memory(work_tree.top(start), folder)


def parsed(text: str, name: str, known: decide.Log | None = None) -> decide.Log:
    """The log in `text`; `name` is what an error calls it, `known` an older version. Raises HemmaError file-broken."""
    try:
        return decide.parse(text, known)
    except decide.LogBroken as error:
        raise _broken(broken(name, f"is no log: {error}"), name, text) from error


def _broken(error: HemmaError, path: str, text: str) -> HemmaError:
    """The error for a file of a memory, with a way to mend it: moved away, it would have forgotten everything."""
    name, message = os.path.basename(path), error.message
    has_marks = any(line.startswith("<<<<<<< ") for line in text.splitlines())
    if has_marks:
        message = f"{path} holds the marks of a merge that git could not make"
    if name == STRUCTURE:
        remedy = "hemma memory structure --rebuild"
    elif has_marks and name == CONCEPT:
        remedy = command("choose in {}, then: hemma memory concept --set FIELD VALUE --approve", path)
    elif has_marks:
        remedy = command("hemma memory init && git checkout --merge -- {}   (git merges here by entries then)", path)
    else:
        remedy = command("git diff HEAD -- {}   (mend what it shows: a memory that starts anew has forgotten)", path)
    return HemmaError(message, remedy=remedy, code=error.code)


# --- growing --------------------------------------------------------------------------------------------------------


def create(memory: Memory) -> list[str]:
    """Make the files that are missing (S2-R10); returns their names. What is there is left as it is."""
    first = {CONCEPT: dumped(Concept().as_dict()), STRUCTURE: _EMPTY_STRUCTURE, LOG: decide.EMPTY}
    made: list[str] = []
    with memory.locked():
        for name, text in first.items():
            if not os.path.exists(memory.path(name)):
                memory.write(name, text)
                made.append(os.path.join(memory.folder, name))
    return made + _with_driver(memory)


def _with_driver(memory: Memory) -> list[str]:
    """Let git merge two branches' logs by entries. Returns the files that changed."""
    lines = [f"{memory.folder}/{name} merge={DRIVER}" for name in (LOG, ARCHIVE, CHANGES, STRUCTURE)]
    path = os.path.join(memory.root, ".gitattributes")
    try:
        with open(path, encoding="utf-8") as file:
            there = file.read()
    except FileNotFoundError:
        there = ""
    missing = [line for line in lines if line not in there.splitlines()]
    if missing:
        ended = there if not there or there.endswith("\n") else there + "\n"
        atomic_write(path, (ended + "\n".join(missing) + "\n").encode(), mode=None)
    for key, value in (("name", "entries of both branches"), ("driver", DRIVER_COMMAND)):
        git(memory.root, "config", f"merge.{DRIVER}.{key}", value)
    return [".gitattributes"] if missing else []


def has_driver(memory: Memory) -> bool:
    """Whether this clone's git merges the log by entries: a clone made by others has the attributes, not the driver."""
    words = gitcall.argv("-C", memory.root, "config", "--get", f"merge.{DRIVER}.driver")
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def append(memory: Memory, entries: Iterable[Entry]) -> int:
    """Put entries behind the others; returns how many there are now. Raises UsageError for one that is none.

    What is old goes to the archive on the way, once there is enough of it.
    """
    checked = [_checked(_masked(entry)) for entry in entries]
    with memory.locked():
        path = memory.path(LOG)
        raw = memory.raw(LOG, decide.EMPTY.encode())
        place = memory_known.recall(path, raw) or decide.place_in(memory.log())
        raw, place = decide.grown(raw, place, checked)
        atomic_write(path, raw, mode=None)
        memory_known.keep(path, raw, place)
        return place.count - (_archive(memory, today()) if decide.is_due(place, today()) else 0)


def _masked(entry: Entry) -> Entry:
    """The entry without secrets: the log is committed. What a concept was and is stays, for it is compared word by word."""
    from lanes.redaction import redact_value

    return {key: value if key == "concept" else redact_value(value) for key, value in entry.items()}


def _checked(entry: Entry) -> Entry:
    try:
        return LogEntry.model_validate(entry).as_dict()
    except ValidationError as error:
        said = "; ".join(f"{key}: {rule}" for key, rule in faults(error))
        raise UsageError(f"this is no log entry: {said}", remedy="hemma memory log --help") from error


def entry_of(requested: str, executed: str, *, status: str, files: Sequence[str] = (), notes: str = "") -> Entry:
    """An entry of now (S2-R16); the time is UTC."""
    now = dt.datetime.now(dt.UTC)
    return {
        "date": now.strftime("%Y-%m-%d"),
        "time": now.strftime("%H:%M:%S"),
        "requested": requested,
        "executed": executed,
        "files_touched": list(files),
        "status": status,
        "notes": notes,
    }


def archive(memory: Memory) -> int:
    """Move what is old to the archive, entry for entry; returns how many moved (S2-R17)."""
    with memory.locked():
        return _archive(memory, today())


def _archive(memory: Memory, on: dt.date) -> int:
    log, there = memory.log(), memory.log(ARCHIVE)
    left, grown, count = decide.archived(log.text, there.text, on)
    if count:
        memory.write(ARCHIVE, grown)  # first: a crash in between leaves them twice, never nowhere
        if memory.text(ARCHIVE, "") != grown:
            raise broken(memory.path(ARCHIVE), "was changed by another program while entries moved there")
        memory.write(LOG, left)
    return count


def set_concept(memory: Memory, field: str, value: object, *, approved_by: str | None) -> Entry:
    """Set a field of the concept. One that says something already needs approval (S2-R13), which the log records.

    Raises NeedsPerson without it, UsageError for a value of the wrong kind.
    """
    with memory.locked():
        before = memory.concept()
        old = before.get(field)
        if old not in ("", [], None) and old != value and approved_by is None:
            raise NeedsPerson(
                f"the concept's {field} says {old!r}, and changes only with approval",
                remedy=command("hemma memory concept --set {} ... --approve   (a decision of a person)", field),
            )
        after = {**before, field: value}
        try:
            meant = dict(near_misses(Concept.model_validate(after))).get(field)
        except ValidationError as error:
            raise UsageError(
                "; ".join(f"{key}: {rule}" for key, rule in faults(error)), remedy="hemma memory concept"
            ) from error
        if meant is not None and field not in before:
            raise UsageError(
                f"the concept has no {field!r}; did you mean {meant!r}?",
                remedy=command("hemma memory concept --set {} ...", meant),
            )
        entry = entry_of(f"set the concept's {field}", f"concept: {field}", status="success")
        entry["files_touched"] = [os.path.join(memory.folder, CONCEPT)]
        entry["concept"] = {"field": field, "from": old, "to": value, "approved_by": approved_by}
        memory.write(LOG, decide.appended(memory.log().text, [entry]))
        memory.write(CONCEPT, dumped(after))
    return entry


def merge(base: str, ours: str, theirs: str) -> None:
    """git's merge driver: write the log, or the structure, of both branches over `ours`. Raises HemmaError file-broken."""
    texts: list[str] = []
    for path in (base, ours, theirs):
        try:
            with open(path, encoding="utf-8") as file:
                texts.append(file.read())
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} cannot be read: {error}", remedy="git calls this itself, in a merge") from error
    if _is_structure(texts[1]):
        versions = [parse_json(text.encode(), ours) if text else {} for text in texts]
        merged = dumped(structure.merged_branches(*versions))
    else:
        try:
            merged = decide.merged_log(*(text or decide.EMPTY for text in texts))
        except decide.LogBroken as error:
            raise broken(ours, f"cannot be merged: {error}") from error
    atomic_write(ours, merged.encode("utf-8"), mode=None)


def _is_structure(text: str) -> bool:
    try:
        value: object = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict) and isinstance(cast("dict[str, object]", value).get("modules"), list)


def found(memory: Memory, words: Sequence[str]) -> list[Entry]:
    """The entries that hold every word, those of the archive first."""
    return decide.matching([*memory.log(ARCHIVE).entries, *memory.log().entries], words)


def concept_value(field: str, values: Sequence[str]) -> object:
    """The words of a command line as that field takes them: a list, or one text. Raises UsageError."""
    default = Concept().as_dict().get(field, "")
    if isinstance(default, list):
        return list(values)
    if len(values) != 1:
        raise UsageError(f"{field} takes one value", remedy=command('hemma memory concept --set {} "..."', field))
    return values[0]


def who() -> str:
    """Who approves: the user that git knows, else the account."""
    done = subprocess.run(gitcall.argv("config", "user.email"), capture_output=True, text=True, check=False)
    return done.stdout.strip() or getpass.getuser()


# --- every action's own entry ---------------------------------------------------------------------------------------


def note(argv: Sequence[str], exit_code: int, start: str, environ: Mapping[str, str]) -> None:
    """Append this action's own entry, where the project has a memory (S2-R11, S2-R16). Secrets in it are masked."""
    from lanes.redaction import redact_argv, secret_values

    if "--help" in argv:
        return
    try:
        memory = of(start, environ)
    except HemmaError:  # outside a clone, or where the settings cannot be read (the verb has said so), there is none
        return
    if not memory.exists():
        return
    said = " ".join(redact_argv(argv, secret_values(environ)))
    status = "success" if exit_code == 0 else "failed"
    append(memory, [entry_of(f"hemma {said}", f"hemma {argv[0]}", status=status, notes=f"exit code {exit_code}")])


def today() -> dt.date:
    """The date, in UTC."""
    return dt.datetime.now(dt.UTC).date()


def dumped(value: Mapping[str, Any]) -> str:
    """How the files that are not logs are written."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def git(root: str, *words: str) -> str:
    """What git says, in English (C17). Raises UsageError with its own words when it fails."""
    environ = {**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": ""}
    done = subprocess.run(gitcall.argv("-C", root, *words), capture_output=True, text=True, check=False, env=environ)
    if done.returncode:
        raise UsageError(f"git {words[0]}: {done.stderr.strip()}", remedy=command("git -C {} status", root))
    return done.stdout
