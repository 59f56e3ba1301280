"""Where a program begins: what its pyproject.toml, its other configuration and its files say (S19-R02).

    console scripts    [project.scripts], [project.gui-scripts], [project.entry-points.*], [tool.poetry.scripts]
    PDM scripts        [tool.pdm.scripts]: call, and what cmd, shell and composite name
    __main__           every `__main__.py`, and a file with `if __name__ == "__main__"` in a folder that is no package
    files in config    a path or `-m module` in CI, hooks, make files and shell scripts; files that tools run by their name
    notebooks          every .ipynb
    [tool.hemma.verify] entry and sent

A project that names none of these is a library: then its top packages are the entry points, with all that they bind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from manifests.verify import VerifySettings

from lanes.wiring_facts import BODY, MAIN_BLOCK
from lanes.wiring_graph import ALL, Entry, Program, Source

# Files that a tool looks for by name.
CONVENTIONS = {
    "setup.py": "setuptools", "noxfile.py": "nox", "tasks.py": "invoke", "fabfile.py": "fabric", "dodo.py": "doit",
    "pdm_build.py": "pdm-backend", "hatch_build.py": "hatchling", "manage.py": "django", "wsgi.py": "the WSGI server",
    "asgi.py": "the ASGI server", "conf.py": "sphinx", "gunicorn.conf.py": "gunicorn", "sitecustomize.py": "python",
}  # fmt: skip
_CALL = re.compile(r"^\s*([A-Za-z_][\w.]*)\s*:\s*([A-Za-z_][\w.]*)")
_WORDS = re.compile(
    r"-m\s+([A-Za-z_][\w.]*)|([\w./-]+\.py)(?![\w.])|(?<![\w./:])([A-Za-z_][\w.]*:[A-Za-z_]\w*)(?![\w:/])"
)

Missing = list[tuple[str, str]]


def entry_points(
    program: Program, pyproject: Mapping[str, Any], texts: Mapping[str, str], settings: VerifySettings
) -> tuple[list[Entry], Missing]:
    """The entry points, each once, and the names of those that lead to no file here, with who names them.

    `texts`: other configuration, path -> text. Only pyproject.toml and [tool.hemma.verify] can announce a missing one:
    elsewhere a word that looks like a module may be anything.
    """
    missing: Missing = []
    found = [*_declared(program, pyproject, missing), *_own(program, settings, missing)]
    sent = list(_sent(program, settings, missing))
    found += [*_pdm(program, pyproject), *_by_file(program)]
    for path, text in texts.items():
        found += _in_text(program, text, path)
    found += _in_text(program, _strings(pyproject), "pyproject.toml")
    if not found:
        found = list(_library(program))
    unique: dict[tuple[str, str], Entry] = {}
    for entry in [*found, *sent]:
        unique.setdefault((entry.module, entry.part), entry)
    return list(unique.values()), missing


def aliases(settings: VerifySettings) -> dict[str, str]:
    """Other name -> name here, of the modules that `sent` says travel under another name."""
    pairs = (text.split(" as ") for text in settings.sent if " as " in text)
    return {other.strip(): name.strip() for name, other in pairs}


def _called(program: Program, text: str, told_by: str) -> list[Entry]:
    """The entries of `module:function`, a re-exported function followed to where it is written."""
    fits = _CALL.match(text)
    if fits is None:
        return []
    module, chain = fits.groups()
    return [Entry(found, part, told_by) for found, part in program.resolve(f"{module}:{chain}", "")]


def _declared(program: Program, pyproject: Mapping[str, Any], missing: Missing) -> Iterator[Entry]:
    project = _table(pyproject, "project")
    tables = {
        "[project.scripts]": _table(project, "scripts"),
        "[project.gui-scripts]": _table(project, "gui-scripts"),
        "[tool.poetry.scripts]": _table(pyproject, "tool", "poetry", "scripts"),
        **{f"[project.entry-points.{group}]": _table(project, "entry-points", group)
           for group in _table(project, "entry-points")},
    }  # fmt: skip
    for head, table in tables.items():
        for key, value in table.items():
            text = value if isinstance(value, str) else ""
            told_by = f"pyproject.toml {head} {key}"
            found = _called(program, text, told_by) or _module(program, text.partition(":")[0].strip(), told_by)
            if not found and text:
                missing.append((text, told_by))
            yield from found


def _module(program: Program, name: str, told_by: str) -> list[Entry]:
    if name in program.modules:
        source = program.modules[name]
        parts = [ALL, MAIN_BLOCK] if MAIN_BLOCK in source.facts.uses else [ALL]
        return [Entry(name, part, told_by) for part in parts]
    return []


def _own(program: Program, settings: VerifySettings, missing: Missing) -> Iterator[Entry]:
    told_by = "[tool.hemma.verify] entry"
    for text in settings.entry:
        if text in program.by_path:
            found = _script(program.by_path[text], told_by)
        elif ":" in text:
            found = _called(program, text, told_by)
        else:
            found = _module(program, text, told_by)
        if not found:
            missing.append((text, told_by))
        yield from found


def _sent(program: Program, settings: VerifySettings, missing: Missing) -> Iterator[Entry]:
    """What travels by value starts elsewhere: the module itself, and a package's `__main__`."""
    told_by = "[tool.hemma.verify] sent"
    for text in settings.sent:
        name = text.partition(" as ")[0].strip()
        main = f"{name}.__main__"
        found = _module(program, name, told_by)
        if main in program.modules:
            found += _script(program.modules[main], told_by)
        if not found:
            missing.append((text, told_by))
        yield from found


def _pdm(program: Program, pyproject: Mapping[str, Any]) -> Iterator[Entry]:
    for key, value in _table(pyproject, "tool", "pdm", "scripts").items():
        told_by = f"pyproject.toml [tool.pdm.scripts] {key}"
        if isinstance(value, dict):
            call = cast("dict[str, Any]", value).get("call")
            if isinstance(call, str):
                yield from _called(program, call, told_by)
        yield from _in_text(program, _strings(value), told_by)


def _by_file(program: Program) -> Iterator[Entry]:
    for source in program.modules.values():
        file = source.path.rpartition("/")[2]
        if source.role == "notebook":
            yield Entry(source.name, BODY, f"{source.path}, a notebook")
        elif source.role != "module":
            continue
        elif file == "__main__.py":
            yield from _script(source, source.path)
        elif _in_no_package(program, source):
            if file in CONVENTIONS:
                yield from _module(program, source.name, f"{source.path}, run by {CONVENTIONS[file]}")
            elif MAIN_BLOCK in source.facts.uses:
                yield from _script(source, f"{source.path}, a script")


def _in_no_package(program: Program, source: Source) -> bool:
    return not source.is_package and source.name.rpartition(".")[0] not in program.modules


def _script(source: Source, told_by: str) -> list[Entry]:
    parts = [MAIN_BLOCK] if MAIN_BLOCK in source.facts.uses else []
    return [Entry(source.name, part, told_by) for part in [BODY, *parts]]


def _in_text(program: Program, text: str, told_by: str) -> Iterator[Entry]:
    """Modules and files that a text of configuration starts; words that lead to no file here are left alone."""
    for fits in _WORDS.finditer(text):
        module, path, call = fits.groups()
        if module:
            for name in (f"{module}.__main__", module):
                if name in program.modules:
                    yield from _script(program.modules[name], told_by)
                    break
        elif path:
            source = program.by_path.get(path.removeprefix("./").lstrip("/"))
            if source is not None and source.role == "module" and not source.is_package:
                yield from _script(source, told_by)
        else:
            name, _, function = call.partition(":")
            if name in program.modules and function in program.modules[name].facts.uses:
                yield from _called(program, call, told_by)


def _library(program: Program) -> Iterator[Entry]:
    """The top packages and modules of a project without any entry point."""
    for source in program.modules.values():
        if source.role == "module" and "." not in source.name:
            yield Entry(source.name, ALL, f"{source.path}: a library, its public names are what others call")


def _strings(value: object) -> str:
    """Every string in a TOML value, lists joined by a space so that `-m` stays beside its module."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        table = cast("Mapping[str, object]", value)
        # Settings about files, not what starts them: exclusions name exactly what is not run.
        return "\n".join(_strings(each) for key, each in table.items() if key in _RUNS or isinstance(each, Mapping))
    if isinstance(value, Iterable):
        return " ".join(_strings(each) for each in cast("Iterable[object]", value))
    return ""


_RUNS = frozenset({
    "cmd", "shell", "composite", "script", "run", "command", "commands", "entry", "main", "build-backend", "backend-path",
    "call", "args", "hooks", "path", "custom-hook", "run-setuptools",
})  # fmt: skip


def _table(value: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    found: Any = value
    for key in keys:
        found = cast("dict[str, Any]", found).get(key) if isinstance(found, dict) else None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
