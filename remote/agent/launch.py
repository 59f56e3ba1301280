"""From a request to a supervised command: guard facts, environment, argument list, run record, fork."""

from __future__ import annotations

import os
import pwd
import signal
import socket

from . import clone, frames, git_shim, gitfacts, run_backup, store, supervisor

# Variables that make bash read a file, or redefine commands, before the first one runs (S9-R21).
SHELL_START_UP = ("BASH_ENV", "ENV", "CDPATH", "GLOBIGNORE", "SHELLOPTS", "BASHOPTS", "PROMPT_COMMAND")


def guard_facts(root: str | None, cwd: str | None) -> dict[str, object]:
    """What lanes.guards judges: does the root exist, is it the top of a git work tree, does the working directory lie in it."""
    home = os.path.expanduser("~")
    wanted = os.path.join(home, os.path.expanduser(root)) if root else ""
    path = os.path.realpath(wanted) if wanted else ""
    exists = bool(path) and os.path.isdir(path)
    top = gitfacts.toplevel(path) if exists else None
    directory = os.path.realpath(os.path.join(path, cwd or "."))
    return {
        "root": path or root,
        "root_exists": exists,
        "is_repository": top is not None,
        "toplevel": top,
        "is_toplevel": top is not None and top == path,
        "cwd": directory,
        "cwd_exists": os.path.isdir(directory),
        "cwd_is_inside": directory == path or directory.startswith(path.rstrip("/") + "/"),
    }


def clone_facts(request: dict[str, object], facts: dict[str, object]) -> dict[str, object]:
    """What lanes.clone_identity judges of the clone behind these guard facts: its `relation` to the one the request is about.

    Empty where the request brings no clone, or there is no work tree to compare it with. A relation that a child found
    already (`related`) is taken as it is.
    """
    here, found = request.get("clone"), request.get("related")
    if not isinstance(here, dict) or not facts["is_toplevel"]:
        return {}
    if isinstance(found, dict):
        relation, there = found.get("relation"), found.get("there")
    else:
        relation, there = clone.related(here, str(facts["root"]), clones_folder(request))
    if not isinstance(there, dict):
        relation, there = clone.UNREADABLE, {}
    return {
        "relation": relation,
        "here": here,
        "there": dict(there, host=socket.gethostname(), path=facts["root"]),
    }


def clones_folder(request: dict[str, object]) -> str:
    """Where the agent keeps what it found out about clones."""
    return os.path.join(os.path.dirname(store.runs_folder(_text(request.get("state_dir")))), "clones")


def demand_clone(request: dict[str, object], facts: dict[str, object]) -> dict[str, object]:
    """The guard facts with those of the clone. Raises Refused, with them, unless the relation is one the request accepts."""
    facts = dict(facts, **clone_facts(request, facts))
    here = request.get("clone")
    accepted = here.get("accept") if isinstance(here, dict) else None
    if "relation" in facts and isinstance(accepted, list) and facts["relation"] not in accepted:
        refused = store.Refused("another-repository", "%s is another repository" % facts["root"], exit_code=69)
        refused.fields.update(guard="relation", facts=facts)
        raise refused
    return facts


def unusual(facts: dict[str, object]) -> dict[str, object]:
    """What a reply says of a clone that is not simply the same: its relation, and what is known of it."""
    if facts.get("relation") in (None, clone.SAME):
        return {}
    return {"relation": facts["relation"], "there": facts["there"]}


def settled(request: dict[str, object]) -> dict[str, object] | None:
    """The request with how its clone is related, from what is kept of it; None where git has to be asked first.

    A run starts in the agent's own process, which must not wait for git; a clone that was looked at before costs nothing.
    """
    here, facts = request.get("clone"), guard_facts(_text(request.get("root")), None)
    if not isinstance(here, dict) or "related" in request or not facts["is_toplevel"]:
        return dict(request, related=request.get("related") or {})
    there = clone.known(str(facts["root"]), clones_folder(request))
    found = clone.relation(here, there) if there is not None else None
    if found not in (clone.SAME, clone.FORK, clone.SAME_ORIGIN):
        return None
    return dict(request, related={"relation": found, "there": there})


def environment_for(request: dict[str, object], first: dict[str, str], folder: str) -> dict[str, str]:
    """The command's environment: what sshd gave, less shell start-up hooks, ~/.local/bin first on PATH, then the request's."""
    environment = {
        name: value for name, value in first.items() if name not in SHELL_START_UP and not name.startswith("BASH_FUNC_")
    }
    home = environment.setdefault("HOME", os.path.expanduser("~"))
    local_bin = os.path.join(home, ".local", "bin")
    rest = [part for part in environment.get("PATH", os.defpath).split(os.pathsep) if part != local_bin]
    environment["PATH"] = os.pathsep.join([local_bin] + rest)
    environment["HEMMA_RUN_ID"] = os.path.basename(folder)
    environment["HEMMA_RUN_DIR"] = frames.text_of(os.fsencode(folder))
    pty = request.get("pty")
    if isinstance(pty, dict) and pty.get("term"):
        environment["TERM"] = str(pty["term"])
    given = request.get("env")
    if isinstance(given, dict):
        environment.update({str(name): str(value) for name, value in given.items()})
    return environment


def exec_argv(request: dict[str, object], guard: str | None = None) -> list[str]:
    """What is executed: the command itself, or bash for a shell line; with `login` through a login shell.

    The folder `guard` comes first on PATH there too, after the profiles have made theirs.
    """
    shell, words = request.get("shell"), request.get("argv")
    argv = [str(word) for word in words] if isinstance(words, list) else []
    if request.get("login"):
        line = str(shell) if shell is not None else 'exec "$@"'
        line = git_shim.before_line(guard, line) if guard else line
        return ["bash", "--login", "-c", line, "bash"] + argv
    if shell is not None:
        return ["bash", "--noprofile", "--norc", "-c", str(shell), "bash"] + argv
    return argv


def record_of(request: dict[str, object], facts: dict[str, object]) -> dict[str, object]:
    """The content of run.json; of the environment only the names."""
    commit, branch = gitfacts.head(str(facts["root"])) if facts["is_repository"] else (None, None)
    env = request.get("env")
    return {
        "schema_version": 1,
        "run_id": request["run_id"],
        "argv": request.get("argv"),
        "shell": request.get("shell"),
        "cwd": facts["cwd"],
        "root": facts["root"],
        "lane": request.get("lane", "hemma"),
        "commit": commit,
        "branch": branch,
        "who": request.get("who"),
        "host": socket.gethostname(),
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "created_at": store.now_iso(),
        "detached": request.get("lease_s") is None,
        "pty": request.get("pty") is not None,
        "login": bool(request.get("login")),
        "git_guard": request.get("git_guard") is not False,
        "env_names": sorted(env) if isinstance(env, dict) else [],
        "timeout_s": request.get("timeout_s"),
        "lease_s": request.get("lease_s"),
    }


def start(
    request: dict[str, object], first_environment: dict[str, str]
) -> tuple[str, socket.socket | None, dict[str, object]]:
    """Start the command under a supervisor of its own; returns (run folder, connection to the supervisor, guard facts).

    The connection is None when a run of that id exists already: then it is only attached to. Raises store.Refused when a
    required fact does not hold (the facts ride along under `facts`) or the host has no room.
    """
    facts = guard_facts(_text(request.get("root")), _text(request.get("cwd")))
    for name, needed in _pairs(request.get("require")):
        if facts.get(name) != needed:
            refused = store.Refused("guard", "%s does not hold" % name)
            refused.fields.update(guard=name, facts=facts)
            raise refused
    facts = demand_clone(request, facts)
    runs = store.runs_folder(_text(request.get("state_dir")))
    run_id = str(request["run_id"])
    if "/" in run_id or run_id.startswith("."):
        raise store.Refused("usage", "%r is no run id" % run_id, exit_code=2)
    folder = store.create(runs, run_id, record_of(request, facts))
    if folder is None:
        return os.path.join(runs, run_id), None, facts
    environment = environment_for(request, first_environment, folder)
    guard = _git_guard(request, facts, folder, environment)
    request = dict(request, cwd=facts["cwd"], exec_argv=exec_argv(request, guard), git_guard=guard is not None)
    request["backup_root"] = run_backup.root_of(facts)
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        _become_supervisor(folder, request, environment, theirs)
    theirs.close()
    return folder, ours, facts


def _git_guard(
    request: dict[str, object], facts: dict[str, object], folder: str, environment: dict[str, str]
) -> str | None:
    """The folder of the guard of git, now first on PATH; None for a run without git, or whose person wants none."""
    if not facts["is_repository"] or request.get("git_guard") is False:
        return None
    try:
        guard = git_shim.install(folder, environment)
    except OSError as error:
        store.add_event(folder, "git-unguarded", error=str(error))
        return None
    if guard is None:
        store.add_event(folder, "git-unguarded", error="PATH cannot hold %s, or nothing may be executed there" % folder)
    return guard


def _become_supervisor(
    folder: str, request: dict[str, object], environment: dict[str, str], control: socket.socket
) -> None:
    """In the child: own session, none of the agent's files (sshd waits for their end), then the command."""
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        keep = control.fileno()
        os.closerange(3, keep)
        os.closerange(keep + 1, max(keep + 2, _highest_file()))
        owner = supervisor.Supervisor(folder, request, environment, control)
        owner.start()
        owner.loop()
        run_backup.tidy(request)
    except BaseException as error:  # the last resort of a process nobody watches: leave a trace, then go
        store.add_event(folder, "supervisor-failed", error=repr(error))
    finally:
        os._exit(0)


def _highest_file() -> int:
    try:
        return max(int(name) for name in os.listdir("/proc/self/fd")) + 1
    except (OSError, ValueError):
        return 1024


def _pairs(value: object) -> list[tuple[str, object]]:
    return [(str(pair[0]), pair[1]) for pair in value] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return str(value) if value is not None else None
