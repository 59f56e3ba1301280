"""The Python of a cell against what a thin notebook may hold: imports, paths, settings, prints, and calls of committed commands."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lanes.notebook_commands import Fault, judge_shell, judge_words

Located = tuple[int | None, Fault]

_ARCHIVE_MODULES = {"gdown", "gzip", "lzma", "py7zr", "rarfile", "tarfile", "zipfile"}
_ARCHIVE_CALLS = {
    "extract", "extractall", "glob", "iglob", "iterdir", "listdir", "open_archive", "rglob", "scandir", "snapshot_download",
    "unpack_archive", "urlopen", "urlretrieve", "walk",
}  # fmt: skip
_ROW_CALLS = {
    "dropna", "drop_duplicates", "filter", "groupby", "isin", "nlargest", "nsmallest", "query", "sample", "select", "shuffle",
    "sort_values", "take", "train_test_split", "where",
}  # fmt: skip
_TRAINING_CALLS = {
    "backward",
    "fit",
    "fit_generator",
    "train",
    "train_on_batch",
    "train_step",
    "training_step",
    "zero_grad",
}

_SIMPLE_FUNCTIONS = {
    "Markdown", "Path", "PosixPath", "PurePath", "PurePosixPath", "RuntimeError", "SystemExit", "bool", "dict", "display", "float",
    "getpass", "int", "len", "list", "print", "set", "str", "tuple",
    "auth.authenticate_user", "drive.flush_and_unmount", "drive.mount", "getpass.getpass", "os.chdir", "os.environ.get",
    "os.environ.setdefault", "os.getcwd", "os.getenv", "os.makedirs", "pathlib.Path", "sys.exit", "sys.path.append",
    "sys.path.insert", "userdata.get",
}  # fmt: skip
# Methods of paths, strings and machine facts; each is harmless on whatever simple thing it is called.
_SIMPLE_METHODS = {
    "absolute", "as_posix", "cwd", "device_count", "exists", "expanduser", "format", "get_device_name", "home", "is_available",
    "is_dir", "is_file", "joinpath", "lower", "lstrip", "mkdir", "relative_to", "resolve", "rstrip", "startswith", "endswith",
    "strip", "upper", "with_name", "with_suffix",
}  # fmt: skip
_PROCESS = {"call", "check_call", "check_output", "run", "Popen"}
_SHELLS = {"getoutput", "getstatusoutput", "os.popen", "os.system", "system"}


def judge_python(statements: list[ast.stmt]) -> Iterator[Located]:
    """Everything in the code of a cell that belongs into the repository. One finding per line and rule."""
    seen: set[tuple[int, str]] = set()
    named: set[int] = set()
    for node in (node for statement in statements for node in ast.walk(statement)):
        for fault in _faults(node):
            line = getattr(node, "lineno", 0)
            if (line, fault[0]) not in seen:
                seen.add((line, fault[0]))
                yield line, fault
            named.add(line)
    for statement in statements:
        yield from _leftovers(statement, named)


def _leftovers(statement: ast.stmt, named: set[int]) -> Iterator[Located]:
    """The statements of no allowed form in which no rule found anything by name."""
    lines = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
    is_named = any(line in named for line in lines)
    if isinstance(statement, ast.If | ast.Try):
        if isinstance(statement, ast.If) and not _is_simple(statement.test) and statement.lineno not in named:
            yield statement.lineno, ("logic", "decides something in the cell")
        for inner in _inside(statement):
            yield from _leftovers(inner, named)
    elif not is_named and not _is_allowed(statement):
        yield statement.lineno, ("logic", f"{_WORDS.get(type(statement), 'a statement')} of the cell's own")


_WORDS: dict[type[ast.AST], str] = {
    ast.For: "a loop", ast.AsyncFor: "a loop", ast.While: "a loop", ast.With: "a with block", ast.Expr: "a call",
    ast.Assign: "a computation", ast.AugAssign: "a computation", ast.AnnAssign: "a computation", ast.Match: "a decision",
}  # fmt: skip


def _inside(statement: ast.If | ast.Try) -> list[ast.stmt]:
    inner = [*statement.body, *statement.orelse]
    if isinstance(statement, ast.Try):
        inner += [line for handler in statement.handlers for line in handler.body] + statement.finalbody
    return inner


# --- by name -----------------------------------------------------------------------------------------------------


def _faults(node: ast.AST) -> Iterator[Fault]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield "function", f"defines the function {node.name}"
        case ast.Lambda():
            yield "function", "defines a function (lambda)"
        case ast.ClassDef():
            yield "class", f"defines the class {node.name}"
        case ast.Import() | ast.ImportFrom():
            yield from _import_faults(node)
        case ast.Subscript():
            yield from _subscript_faults(node)
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            # Without a condition it is a loop like another, found as what has no allowed form.
            yield from [("row-selection", "chooses items with a condition")] * any(part.ifs for part in node.generators)
        case ast.Call():
            yield from _call_faults(node)
        case _:
            return


def _import_faults(node: ast.Import | ast.ImportFrom) -> Iterator[Fault]:
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    for module in modules:
        if module.partition(".")[0] in _ARCHIVE_MODULES:
            yield "archive-resolution", f"imports {module}"


def _subscript_faults(node: ast.Subscript) -> Iterator[Fault]:
    if isinstance(node.value, ast.Attribute) and node.value.attr in {"loc", "iloc"}:
        yield "row-selection", f"chooses rows with .{node.value.attr}"
    elif isinstance(node.slice, ast.Slice):
        yield "row-selection", "takes a slice"
    elif any(isinstance(inner, ast.Compare) for inner in ast.walk(node.slice)):
        yield "row-selection", "chooses rows with a condition"


def _call_faults(node: ast.Call) -> Iterator[Fault]:
    name = _dotted(node.func)
    last = name.rpartition(".")[2]
    if (last in _TRAINING_CALLS and "." in name) or last.endswith("Trainer"):
        yield "training-loop", f"trains in the cell: {last}()"
    elif last in _ROW_CALLS:
        yield "row-selection", f"chooses rows with {last}()"
    elif last in _ARCHIVE_CALLS:
        yield "archive-resolution", f"looks for or opens files with {last}()"
    elif (fault := _process_fault(node, name)) is not None:
        yield fault


def _process_fault(node: ast.Call, name: str) -> Fault | None:
    """What is wrong with a command that Python starts; None too when the call starts none."""
    last = name.rpartition(".")[2]
    if not (name.startswith("subprocess.") and last in _PROCESS) and name not in _SHELLS and last not in _SHELLS:
        return None
    given = node.args[0] if node.args else None
    if isinstance(given, ast.Constant) and isinstance(given.value, str):
        return judge_shell(given.value)
    words = [_word(item) for item in given.elts] if isinstance(given, ast.List | ast.Tuple) else []
    if not words or not words[0]:
        return "command", f"which command {last}() starts is decided in the cell"
    return judge_words(words)


def _word(node: ast.expr) -> str:
    """A word of an argv as far as it stands there; a stand-in for what is computed."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    name = _dotted(node)
    return "python" if name == "sys.executable" else "{value}" if _is_simple(node) else ""


# --- allowed forms -----------------------------------------------------------------------------------------------


def _dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or attribute; for an attribute of anything else `?.c`."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    names.append(node.id if isinstance(node, ast.Name) else "?")
    return ".".join(reversed(names))


def _is_allowed(statement: ast.stmt) -> bool:
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.Pass():
            return True
        case ast.Expr() | ast.AugAssign() | ast.Assign():
            return _is_simple(statement.value)
        case ast.AnnAssign():
            return statement.value is None or _is_simple(statement.value)
        case ast.Assert():
            return _is_simple(statement.test)
        case ast.Raise():
            return statement.exc is None or _is_simple(statement.exc)
        case _:
            return False


_TRANSPARENT = (
    ast.Attribute, ast.BinOp, ast.BoolOp, ast.Compare, ast.Dict, ast.FormattedValue, ast.IfExp, ast.JoinedStr, ast.List, ast.Set,
    ast.Starred, ast.Subscript, ast.Tuple, ast.UnaryOp,
)  # fmt: skip


def _is_simple(node: ast.expr) -> bool:
    """Whether an expression only puts names, constants and paths together."""
    if isinstance(node, ast.Constant | ast.Name):
        return True
    parts = [inner for inner in ast.iter_child_nodes(node) if isinstance(inner, ast.expr)]
    if isinstance(node, ast.Call):
        name = _dotted(node.func)
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        return (_is_simple_call(name) or _is_process(name)) and all(map(_is_simple, [*parts, *arguments]))
    return isinstance(node, _TRANSPARENT) and all(map(_is_simple, parts))


def _is_simple_call(name: str) -> bool:
    is_known = name in _SIMPLE_FUNCTIONS or name.startswith(("os.path.", "platform."))
    return is_known or ("." in name and name.rpartition(".")[2] in _SIMPLE_METHODS)


def _is_process(name: str) -> bool:
    # What it starts was judged by name already.
    return (name.startswith("subprocess.") and name.rpartition(".")[2] in _PROCESS) or name.rpartition(".")[
        2
    ] in _SHELLS
