"""Is this command of a notebook a committed surface, an install, or a look at the machine? Everything else is logic (S18-R01)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from lanes.notebook_code import Command

# (rule, what was found)
Fault = tuple[str, str]

# Looking at the machine or making a place changes no data.
_LOOKS = {
    "[", "cat", "cd", "date", "df", "du", "echo", "export", "false", "free", "hostname", "ls", "lscpu", "mkdir", "nproc",
    "nvidia-smi", "printf", "pwd", "set", "sleep", "tail", "test", "true", "uname", "uptime", "wait", "which", "whoami",
}  # fmt: skip
_INSTALLS: dict[str, set[str]] = {
    "apt": {"install", "update", "list"}, "apt-get": {"install", "update"}, "conda": {"install", "env", "list", "create"},
    "mamba": {"install", "env", "list", "create"}, "micromamba": {"install", "env", "list", "create"},
    "pdm": {"install", "sync", "add", "list"}, "pip": {"install", "uninstall", "list", "show", "freeze", "check"},
    "poetry": {"install", "sync", "add"}, "uv": {"pip", "sync", "venv", "add", "tool", "python"},
}  # fmt: skip
_GIT = {
    "branch",
    "checkout",
    "clone",
    "fetch",
    "lfs",
    "log",
    "pull",
    "rev-parse",
    "show",
    "status",
    "submodule",
    "switch",
}
_GIT_NEVER = {"--force", "-f", "--rebase", "-r", "--hard"}
_BEFORE = {"command", "env", "exec", "nohup", "sudo", "time"}
_SURFACES = {"hemma", "run-hemma", "just", "make"}
_LAUNCHERS = {"accelerate", "deepspeed", "torchrun"}
_ARCHIVES = {"7z", "bunzip2", "gdown", "gunzip", "gzip", "rclone", "tar", "unrar", "unxz", "unzip", "xz", "zip", "zstd"}
_ROWS = {"awk", "cut", "duckdb", "grep", "head", "jq", "mlr", "sed", "shuf", "sort", "split", "sqlite3", "uniq"}
_MAGICS = {
    "autoreload", "cd", "colors", "config", "env", "load_ext", "ls", "matplotlib", "mkdir", "pwd", "reload_ext",
    "set_env", "tensorboard", "who", "whos", "xmode",
}  # fmt: skip
_INSTALL_MAGICS = {"conda", "mamba", "micromamba", "pip", "uv"}
_ARCHIVE_MODULES = {"gzip", "tarfile", "zipfile"}
_ARCHIVE_NAME = re.compile(r"\.(?:zip|tgz|tar|7z|rar|(?:tar\.)?(?:gz|bz2|xz|zst))\b", re.IGNORECASE)
_PYTHON = re.compile(r"^(?:.*/)?python[\d.]*$|^(?:\{sys\.executable\}|\$sys\.executable)$")
_SCRIPT = re.compile(r"^(?!/tmp/|/dev/|~)(?!.*(?:^|/)\.\./)[\w./{}$~ -]*[\w}-]$")
_OPTIONS_WITH_VALUE = {"-W", "-X"}


def judge(command: Command) -> Fault | None:
    """What is wrong with a command in a cell, or None when a thin notebook may hold it."""
    if command.kind == "shell":
        return judge_shell(command.text) or _judge_captured(command)
    name, _, rest = command.text.partition(" ")
    if command.kind == "cell-magic":
        return _judge_cell_magic(name)
    if name in _INSTALL_MAGICS:
        return judge_shell(f"{name} {rest}")
    if name == "run":
        return judge_shell(f"python {rest}")
    if name == "sql":
        return "row-selection", "%sql chooses rows in the cell"
    return None if name in _MAGICS else ("command", f"%{name} is no committed command")


def _judge_captured(command: Command) -> Fault | None:
    program = command.text.split(maxsplit=1)[0] if command.is_captured and command.text else ""
    if program == "ls":
        return "archive-resolution", "takes a list of files into the cell"
    return ("logic", f"takes what {program} prints into the cell") if program in {"cat", "tail"} else None


def _judge_cell_magic(name: str) -> Fault | None:
    if name == "sql":
        return "row-selection", "%%sql chooses rows in the cell"
    if name in {"writefile", "file"}:
        return "command", f"%%{name} keeps a source file in the cell"
    return "command", f"%%{name} runs code that lives in the cell"


def judge_shell(text: str) -> Fault | None:
    """The same for a line of shell: every command in it must be allowed."""
    if "$(" in text or "`" in text:
        return "command", f"what runs is computed by the shell: {_short(text)}"
    try:
        parts = list(_parts(text))
    except ValueError:
        return "command", f"cannot be read as a shell command: {_short(text)}"
    return next((fault for words, is_written in parts if (fault := judge_words(words, is_written=is_written))), None)


def _parts(text: str) -> Iterator[tuple[list[str], bool]]:
    """The simple commands of a shell line, each with whether its output goes to a file. Raises ValueError."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    is_written = is_target = False
    for token in lexer:
        if token.startswith("#"):
            break
        is_operator = bool(token) and not token.strip("();<>|&")
        if is_operator and ("<" in token or ">" in token):
            is_written, is_target = is_written or token in {">", ">>"}, True
            # The number before it is a stream, not an argument.
            words = words[:-1] if words and words[-1].isdigit() else words
        elif is_operator:
            yield words, is_written
            words, is_written, is_target = [], False, False
        elif is_target:
            is_target = False
        else:
            words.append(token)
    yield words, is_written


def judge_words(words: Sequence[str], *, is_written: bool = False) -> Fault | None:
    """The same for the words of one command; `is_written` says that its output goes to a file."""
    rest = list(words)
    while rest and (rest[0] in _BEFORE or re.match(r"^\w+=", rest[0])):
        rest.pop(0)
    if not rest:
        return None
    program, arguments = rest[0], rest[1:]
    if _PYTHON.match(program):
        return _judge_python(arguments)
    if program in _LOOKS:
        return ("command", f"{program} writes a file from the cell") if is_written else None
    return _judge_program(program, arguments)


def _judge_program(program: str, arguments: list[str]) -> Fault | None:
    if program in _SURFACES:
        return judge_words(arguments[arguments.index("--") + 1 :]) if "--" in arguments else None
    if program == "git":
        return _judge_git(arguments)
    if program.rstrip("3") == "pip" or program in _INSTALLS:
        return _judge_install(program.rstrip("3"), arguments)
    if program in _LAUNCHERS:
        is_committed = "-m" in arguments or any(word.endswith(".py") and _SCRIPT.match(word) for word in arguments)
        return None if is_committed else ("command", f"{program} starts no committed script or module")
    if program in {"bash", "sh", "zsh"}:
        return _judge_script(program, arguments)
    return _known_fault(program, arguments)


def _known_fault(program: str, arguments: list[str]) -> Fault | None:
    name = program.rpartition("/")[2]
    if name in _ARCHIVES:
        return "archive-resolution", f"{name} fetches or opens an archive in the cell"
    if name in {"curl", "wget"}:
        is_archive = any(_ARCHIVE_NAME.search(word) for word in arguments)
        return ("archive-resolution" if is_archive else "command"), f"{name} downloads in the cell"
    if name in _ROWS:
        return "row-selection", f"{name} chooses lines in the cell"
    # A path below the clone is a committed script; a bare name is anything.
    is_script = "/" in program and not program.startswith("/") and _SCRIPT.match(program)
    return None if is_script else ("command", f"{_short(program)} is no committed command")


def _judge_git(arguments: list[str]) -> Fault | None:
    verb = next((word for word in arguments if not word.startswith("-")), "")
    # `git -C folder verb`: the folder is not the verb.
    if arguments[:1] == ["-C"]:
        return _judge_git(arguments[2:])
    if verb not in _GIT or _GIT_NEVER & set(arguments):
        return "command", f"git {' '.join(arguments[:3])} does more than fetch the source"
    return None


def _judge_install(program: str, arguments: list[str]) -> Fault | None:
    verb = next((word for word in arguments if not word.startswith("-")), "")
    if verb == "run":
        after = arguments[arguments.index("run") + 1 :]
        return judge_words([word for word in after if word != "--"])
    return None if verb in _INSTALLS[program] else ("command", f"{program} {verb} installs nothing".rstrip())


def _judge_script(program: str, arguments: list[str]) -> Fault | None:
    script = next((word for word in arguments if not word.startswith("-")), "")
    if any(word.startswith("-") and "c" in word for word in arguments[:2]) or not _SCRIPT.match(script):
        return "command", f"{program} runs code that lives in the cell"
    return None


def _judge_python(arguments: list[str]) -> Fault | None:
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] not in {"-m", "-c", "-"}:
        rest = rest[2 if rest[0] in _OPTIONS_WITH_VALUE else 1 :]
    if rest[:1] == ["-m"] and len(rest) > 1:
        return _judge_module(rest[1], rest[2:])
    if not rest:
        return (
            None if {"--version", "-V", "-VV"} & set(arguments) else ("command", "python reads its code from the cell")
        )
    if rest[0] in {"-c", "-", "-m"}:
        return "command", "python runs code that lives in the cell"
    is_script = rest[0].endswith(".py") and _SCRIPT.match(rest[0])
    return None if is_script else ("command", f"{_short(rest[0])} is no committed script")


def _judge_module(module: str, arguments: list[str]) -> Fault | None:
    if module in _INSTALL_MAGICS:
        return _judge_install(module, arguments)
    if module in _ARCHIVE_MODULES:
        return "archive-resolution", f"python -m {module} opens an archive in the cell"
    if not re.match(r"^[A-Za-z_][\w.]*$", module):
        return "command", f"which module runs is decided in the cell: {_short(module)}"
    return None


def _short(text: str) -> str:
    # Only the beginning: a command line may hold a secret in its arguments.
    first = text.split(maxsplit=1)[:1]
    return first[0][:40] if first else "(nothing)"
