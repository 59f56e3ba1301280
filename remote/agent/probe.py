"""What the doctor needs to know of a host, gathered in one trip. Facts only; lanes/doctor.py judges them.

Nothing here raises: each fact is a dict, or {"error": text} where it could not be had. Reads only, except for one empty
temporary file in each place whose writability is asked for. Slow programs (a broken GPU driver, a huge work tree) are
cut off, so the whole probe ends within about 20 s.
"""

from __future__ import annotations

import os
import platform
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from . import gitfacts, identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SLOW_S = 15.0
FIRST_DIRTY = 10
LOGIND_CONFIGS = ("/usr/lib/systemd/logind.conf", "/run/systemd/logind.conf", "/etc/systemd/logind.conf")


def probe(root: str | None, state_dir: str | None, client_time_s: float) -> dict[str, object]:
    """All facts by name. `root`: the repository on this host, `state_dir`: where runs are kept; `~` is expanded here.

    `client_time_s` is the client's unix time when it asked, handed back beside ours.
    """
    clock = {"host_time_s": time.time(), "client_time_s": client_time_s}  # first: the rest takes time
    home = os.path.expanduser("~")
    state = os.path.expanduser(state_dir or "~/.local/state/hemma")
    repository = os.path.expanduser(root) if root else None
    parts: dict[str, Callable[[], object]] = {
        "host": host_facts,
        "python": python_facts,
        "git": lambda: program_facts("git", "--version"),
        "bash": lambda: program_facts("bash", "--version"),
        "root_disk": lambda: disk_facts(repository or home),
        "state_disk": lambda: disk_facts(state),
        "home": lambda: writable_facts(home),
        "state": lambda: writable_facts(state),
        "gpus": gpu_facts,
        "memory": memory_facts,
        "logind": logind_facts,
        "repository": lambda: repository_facts(repository),
    }
    facts = _all_at_once(parts)
    facts["clock"] = clock
    return facts


def host_facts() -> dict[str, object]:
    """Name, kernel, boot id, load and processor count."""
    return {
        "hostname": socket.gethostname(),
        "user": _user(),
        "system": "%s %s %s" % (platform.system(), platform.release(), platform.machine()),
        "boot_id": identity.boot_id(),
        "load": list(os.getloadavg()),
        "processors": os.cpu_count(),
    }


def python_facts() -> dict[str, object]:
    """The Python that runs this."""
    return {"version": platform.python_version(), "path": sys.executable}


def program_facts(name: str, option: str) -> dict[str, object]:
    """Where a program is and the first line of what it says about its version; path None when it is not there."""
    path = shutil.which(name, path=_path())
    if path is None:
        return {"path": None, "version": None}
    said = _said([path, option]).splitlines()
    return {"path": path, "version": said[0] if said else ""}


def disk_facts(path: str) -> dict[str, object]:
    """Free bytes and inodes of the file system that holds `path`, or would hold it. Inodes None: it has no fixed number."""
    place = _existing(path)
    room = os.statvfs(place)
    return {
        "path": path,
        "free_bytes": room.f_bavail * room.f_frsize,
        "total_bytes": room.f_blocks * room.f_frsize,
        "free_inodes": room.f_favail if room.f_files else None,
        "total_inodes": room.f_files or None,
    }


def writable_facts(path: str) -> dict[str, object]:
    """Whether a file can be made in `path`, or in the nearest folder above it that exists; tried, not guessed."""
    place = _existing(path)
    try:
        handle, name = tempfile.mkstemp(prefix=".hemma-probe-", dir=place)
    except OSError as error:
        return {"path": path, "writable": False, "reason": error.strerror}
    os.close(handle)
    os.unlink(name)
    return {"path": path, "writable": True, "reason": None}


def gpu_facts() -> dict[str, object]:
    """NVIDIA GPUs as nvidia-smi lists them; none where there is no nvidia-smi."""
    path = shutil.which("nvidia-smi", path=_path())
    if path is None:
        return {"tool": None, "gpus": []}
    query = "--query-gpu=name,memory.total,driver_version"
    return {"tool": path, "gpus": parse_gpus(_said([path, query, "--format=csv,noheader,nounits"]))}


def parse_gpus(said: str) -> list[dict[str, object]]:
    """nvidia-smi's lines `name, memory in MiB, driver` as dicts; memory None where the GPU does not tell ([N/A])."""
    found: list[dict[str, object]] = []
    for line in said.splitlines():
        fields = [field.strip() for field in line.rsplit(",", 2)]
        if len(fields) == 3:
            memory = int(fields[1]) if fields[1].isdigit() else None
            found.append({"name": fields[0], "memory_mib": memory, "driver": fields[2]})
    return found


def memory_facts() -> dict[str, object]:
    """Physical memory and the smallest limit of the control groups we are in (None: no limit)."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        limits = [limit for line in file for limit in _cgroup_limits(line.strip())]
    below_total = [limit for limit in limits if limit < total]
    return {"total_bytes": total, "cgroup_limit_bytes": min(below_total) if below_total else None}


def logind_facts() -> dict[str, object]:
    """Whether systemd-logind ends what a user left behind at logout (KillUserProcesses), unless lingering is on."""
    if not os.path.isdir("/run/systemd/system"):
        return {"systemd": False, "kill_user_processes": False, "linger": False}
    user = _user()
    return {
        "systemd": True,
        "kill_user_processes": _kill_user_processes(),
        "linger": os.path.exists("/var/lib/systemd/linger/" + user),
        "user": user,
    }


def repository_facts(root: str | None) -> dict[str, object] | None:
    """The repository at `root`: does it exist, is it a work tree and its top level, what is checked out, what is changed."""
    if root is None:
        return None
    real = os.path.realpath(root)
    top = gitfacts.toplevel(root) if os.path.isdir(root) else None
    facts: dict[str, object] = {
        "path": root,
        "exists": os.path.isdir(root),
        "is_git": top is not None,
        "toplevel": top,
        "is_toplevel": top == real,
    }
    if top is not None:
        head, branch = gitfacts.head(top)
        facts.update({"head": head, "branch": branch, "detached": branch is None})
        facts.update(_dirty(top))
    return facts


def _dirty(top: str) -> dict[str, object]:
    git = shutil.which("git", path=_path())
    if git is None:
        return {"dirty": {"error": "git is not installed"}}
    try:
        # No fsmonitor: it would leave a daemon behind. Optional locks off (see _said): a probe must not touch the index.
        said = _said([git, "-C", top, "-c", "core.fsmonitor=false", "status", "--porcelain=v1", "-z", "--no-renames"])
    except Exception as error:
        return {"dirty": {"error": _text(error)}}
    changed = [entry[3:] for entry in said.split("\0") if entry]
    return {"dirty": {"count": len(changed), "first": changed[:FIRST_DIRTY]}}


def _kill_user_processes() -> bool:
    said = ""
    busctl = shutil.which("busctl", path=_path())
    if busctl is not None:
        place = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
        try:
            said = _said([busctl, "get-property", *place, "KillUserProcesses"])
        except Exception:
            said = ""
    if said.startswith("b "):
        return said.strip() == "b true"
    return kill_user_processes_in(_logind_texts())


def kill_user_processes_in(texts: list[str]) -> bool:
    """What logind's configuration files say, later ones over earlier ones; Debian's and Ubuntu's default is no."""
    value = "no"
    for text in texts:
        for line in text.splitlines():
            key, equals, given = line.strip().partition("=")
            if equals and key.strip() == "KillUserProcesses":
                value = given.strip().lower()
    return value in ("yes", "true", "on", "1")


def _logind_texts() -> list[str]:
    main = [path for path in reversed(LOGIND_CONFIGS) if os.path.isfile(path)][:1]
    drop_ins: dict[str, str] = {}
    for config in LOGIND_CONFIGS:
        folder = config + ".d"
        names = os.listdir(folder) if os.path.isdir(folder) else []
        drop_ins.update({name: os.path.join(folder, name) for name in names if name.endswith(".conf")})
    texts = []
    for path in main + [drop_ins[name] for name in sorted(drop_ins)]:
        with open(path, encoding="utf-8", errors="replace") as file:
            texts.append(file.read())
    return texts


def _cgroup_limits(line: str) -> list[int]:
    """The memory limits that hold for one line of /proc/self/cgroup, from its group up to the root."""
    _, controllers, group = line.split(":", 2)
    if controllers and "memory" not in controllers.split(","):
        return []
    base, name = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes") if controllers else ("/sys/fs/cgroup", "memory.max")
    found = []
    while True:
        try:
            with open(os.path.join(base, group.strip("/"), name), encoding="ascii") as file:
                text = file.read().strip()
            found += [int(text)] if text.isdigit() else []
        except OSError:
            pass
        if group in ("/", ""):
            return found
        group = os.path.dirname(group)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container whose user id has no name
        return str(os.getuid())


def _existing(path: str) -> str:
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def _path() -> str:
    """Where programs are looked for: as commands of a run find them, with the usual places after."""
    usual = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
    return ":".join([os.path.expanduser("~/.local/bin"), os.environ.get("PATH", ""), usual])


def _said(argv: list[str]) -> str:
    """What a program printed. Raises OSError, or RuntimeError with its complaint when it failed or took too long."""
    quiet = dict(os.environ, PATH=_path(), LC_ALL="C", GIT_OPTIONAL_LOCKS="0", GIT_TERMINAL_PROMPT="0")
    name = os.path.basename(argv[0])
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=quiet,
            timeout=SLOW_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError("%s gave no answer within %d s" % (name, SLOW_S)) from None
    if done.returncode != 0:
        complaint = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        raise RuntimeError("%s failed with exit code %d: %s" % (name, done.returncode, complaint[-300:]))
    return done.stdout.decode("utf-8", "surrogateescape")


def _all_at_once(parts: Mapping[str, Callable[[], object]]) -> dict[str, object]:
    """Each part's answer, asked for in threads of their own; one that is late or fails is {"error": ...}."""
    late = {"error": "gave no answer within %d s" % (SLOW_S + 5)}
    facts: dict[str, object] = dict.fromkeys(parts, late)

    def ask(name: str) -> None:
        try:
            facts[name] = parts[name]()
        except Exception as error:
            facts[name] = {"error": _text(error)}

    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in parts]
    for thread in threads:
        thread.start()
    # A call into a dead network file system cannot be cut off; its thread is left behind.
    end = time.monotonic() + SLOW_S + 5
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(facts)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
