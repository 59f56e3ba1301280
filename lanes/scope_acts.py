"""What a Python text does to the scope without naming a setting: rows dropped, parts patched, watches taken off (S13-R45).

Each act is a pair (facet, description) and is counted. Some facets count only when they are added (code made at run time,
an early exit), some only when they go away (training, evaluating, logging); which is said in lanes/scope_rules.py.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator

from lanes.scope_fold import Names, called, describe, source_of
from lanes.scope_rows import row_acts
from lanes.scope_table import (
    ADAPTERS,
    ANCHORS,
    CASTS,
    CONTROLS,
    DYNAMIC,
    EXITS,
    FREEZERS,
    METHODS,
    ORIGINS,
    PACKAGES,
    PATCHES,
    SWALLOWED,
    TRACKER_CALLS,
    TRACKERS,
    TRAINER_PARTS,
)
from lanes.scope_tree import Act, Script, last_name, root_of

_RETRIES = re.compile(r"attempt|retry|retries|tries|try")
_STEP = re.compile(r"(^|\.|_)(step|steps|it|iter_num|epoch|i|idx|n)$")
_QUITS = re.compile(r"(SystemExit|StopIteration|KeyboardInterrupt)\b")
_IDENTITIES = re.compile(r"WANDB|TRACKIO|max_|seed|report_to|split")


def acts(tree: ast.AST, names: Names) -> Iterator[Act]:
    """Every act of a text, each as often as it is done."""
    script = Script(tree, names)
    for node in ast.walk(tree):
        yield from row_acts(node, script)
        if isinstance(node, ast.For | ast.While | ast.If | ast.FunctionDef) and _thrown_away(node.body):
            yield "freeze", "gradients are cleared before the step"
        if isinstance(node, ast.Call):
            yield from _call(node, script)
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            yield from _assigned(node, script)
        elif isinstance(node, ast.Delete):
            yield from (
                ("removed", f"del {source_of(each)}") for each in node.targets if not isinstance(each, ast.Name)
            )
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _definition(node, script)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from _import(node)
        else:
            yield from _flow(node, script)


def _call(node: ast.Call, script: Script) -> Iterator[Act]:
    name, root, arguments = script.name_of(node), root_of(node.func), script.arguments(node)
    if name in DYNAMIC and not (name in ("eval", "compile", "loads") and _is_ordinary(node, root)):
        yield "dynamic", name
    if name in EXITS and not (node.args and isinstance(node.args[0], ast.Call)):  # sys.exit(main()) is an end
        yield "exit", name
    if name in PATCHES or root in ("mock", "monkeypatch") or re.match(r"sys\.(path|meta_path)\.", source_of(node.func)):
        yield "patch", f"{name}({arguments})"
    if name in ("setattr", "delattr", "__setattr__"):
        yield from _setattr(node, arguments, script)
    if name in ADAPTERS or (root in ADAPTERS and name == "from_pretrained"):
        yield "adapter", root if root in ADAPTERS else name
    if name in FREEZERS:
        yield "freeze", f"{name}({arguments})"
    if name in CASTS or (name == "float" and root.endswith("model")):
        yield "precision", f"{name}({arguments})"
    if name == "to" and re.search(r"\b(float16|bfloat16|float8\w*|int8|cpu)\b", arguments) and "model" in root:
        yield "precision", f"to({arguments})"
    if name.endswith("Trainer") and name != "Trainer":
        yield "method", name
    yield from _watching(node, name, root, arguments, script)


def _setattr(node: ast.Call, arguments: str, script: Script) -> Iterator[Act]:
    """A name that is not known, or one of a method."""
    texts = [each for each in node.args[:2] if script.is_text(each)]
    if not texts:
        yield "dynamic", f"setattr({arguments})"
    elif any(script.text(each) in METHODS | TRAINER_PARTS for each in texts):
        yield "patch", f"setattr({arguments})"


def _watching(node: ast.Call, name: str, root: str, arguments: str, script: Script) -> Iterator[Act]:
    """Calls whose absence counts, and those that take a watch off."""
    is_step = name == "step" and re.search(r"optim|sched|scaler", source_of(node.func).lower())
    if (name in ANCHORS or is_step) and not (name == "train" and root.endswith("model")):
        yield "anchor", name
        if name in ("train", "evaluate", "fit") and any(
            isinstance(each, ast.If) for each in _in_function(node, script)
        ):
            yield "condition", name
    if root in TRACKERS and name in TRACKER_CALLS:
        yield "tracker-call", f"{root}.{name}"
    if name in ("EarlyStoppingCallback", "EarlyStopping"):
        yield "early-stop", name
    if name in ("remove_callback", "pop_callback", "disable_tracking") or (
        root in TRACKERS and name in ("finish", "setup")
    ):
        yield "tracker", f"{name}({arguments})"
    if name in ("pop", "__delitem__", "popitem", "unsetenv", "clear") and _IDENTITIES.search(arguments):
        yield "removed", f"{name}({arguments})"


def _assigned(node: ast.Assign | ast.AugAssign | ast.AnnAssign, script: Script) -> Iterator[Act]:
    """Assignments that patch a class, a module or a method, freeze weights, change the loss, or stop a run."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    value = node.value
    if value is None:
        return
    for target in (part for each in targets for part in _parts(each)):
        if isinstance(target, ast.Name):
            if target.id in ("loss", "total_loss") and not isinstance(value, ast.Constant):
                # As it is written: the accumulation that it is divided by may change.
                yield "loss", f"{'+' if isinstance(node, ast.AugAssign) else ''}= {source_of(value)}"
            if target.id in script.imported and not _is_fallback(node, value, script):
                yield "patch", f"{target.id} = {source_of(value)}"
        elif isinstance(target, ast.Attribute):
            yield from _attribute(target, str(describe(value, script.names, follow=False)), script)
        elif isinstance(target, ast.Subscript) and re.search(r"\bmodules\b|__dict__|_modules", source_of(target.value)):
            yield "patch", f"{source_of(target)} = {source_of(value)}"


def _is_fallback(node: ast.AST, value: ast.expr, script: Script) -> bool:
    """`except ImportError: flash_attn = None`."""
    nothing = isinstance(value, ast.Constant) and not value.value
    return nothing and isinstance(script.parents.get(node), ast.ExceptHandler)


def _parts(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, ast.Tuple | ast.List):
        for each in target.elts:
            yield from _parts(each)
    else:
        yield target


def _attribute(target: ast.Attribute, text: str, script: Script) -> Iterator[Act]:
    name, owner = target.attr, last_name(target.value)
    is_class = bool(re.match(r"[A-Z]", owner))
    is_module = root_of(target) in script.imported and "backends" not in source_of(target)
    is_part = name in TRAINER_PARTS and "trainer" in source_of(target.value).lower()
    if name in METHODS or is_class or is_module or is_part or re.fullmatch(r"__\w+__", name):
        yield "patch", f"{owner if is_class else ''}.{name} = {text}"
    if name == "requires_grad":
        yield "freeze", f"requires_grad = {text}"
    if name == "p":
        yield "regularisation", f"p = {text}"
    if name in CONTROLS:
        yield "early-stop", f"{name} = {text}"


def _definition(node: ast.FunctionDef | ast.AsyncFunctionDef, script: Script) -> Iterator[Act]:
    """The bodies of methods that decide what is trained, and of reward and metric functions; their arguments may change."""
    is_method = isinstance(script.parents.get(node), ast.ClassDef) and node.name in METHODS
    shadows = node.name in ORIGINS or node.name in script.imported
    if is_method or shadows or node.name in script.rewards or "reward" in node.name or node.name == "compute_loss":
        yield "override", f"{node.name}: {'; '.join(source_of(each) for each in node.body)}"


def _import(node: ast.Import | ast.ImportFrom) -> Iterator[Act]:
    """Where the names that matter come from, and modules that could do anything when they are imported."""
    if isinstance(node, ast.Import):
        for each in node.names:
            package = each.name.partition(".")[0]
            yield from _unknown(package)
            if (each.asname or package) in ORIGINS:
                yield "origin", f"{each.asname or package} is {package}"
        return
    package = "." * node.level + (node.module or "").partition(".")[0]
    yield from _unknown(package)
    for each in node.names:
        name = each.asname or each.name
        if name in ORIGINS or name.endswith(("Trainer", "Config")):
            yield "origin", f"{name} is {package}:{each.name}"


def _unknown(package: str) -> Iterator[Act]:
    if package not in sys.stdlib_module_names and package not in PACKAGES:
        yield "module", package


def _flow(node: ast.AST, script: Script) -> Iterator[Act]:
    if isinstance(node, ast.Break | ast.Continue) and not _is_retry(node, script):
        yield "exit", type(node).__name__.lower()
    elif isinstance(node, ast.Return) and _is_in_training(node, script):
        yield "exit", "return"
    elif isinstance(node, ast.Raise) and node.exc is not None and _QUITS.match(source_of(node.exc)):
        if "main" not in source_of(node.exc):
            yield "exit", "raise"
    elif isinstance(node, ast.Compare) and _STEP.search(last_name(node.left)) and not isinstance(node.left, ast.Call):
        yield "condition", f"{last_name(node.left)} {type(node.ops[0]).__name__} {script.text(node.comparators[0])}"
    elif isinstance(node, ast.ExceptHandler):
        yield from _swallowed(node, script)
    elif isinstance(node, ast.With | ast.AsyncWith):
        yield from _with(node)


def _swallowed(node: ast.ExceptHandler, script: Script) -> Iterator[Act]:
    """A handler that goes on after a step, an evaluation or a log line failed."""
    parent = script.parents.get(node)
    if not isinstance(parent, ast.Try) or any(isinstance(each, ast.Raise) for each in ast.walk(node)):
        return
    tried = {called(each) for part in parent.body for each in ast.walk(part) if isinstance(each, ast.Call)}
    if tried & SWALLOWED:
        yield "swallowed", ", ".join(sorted(tried & SWALLOWED))


def _with(node: ast.With | ast.AsyncWith) -> Iterator[Act]:
    managers = " ".join(source_of(each.context_expr) for each in node.items)
    inside = {called(each) for part in node.body for each in ast.walk(part) if isinstance(each, ast.Call)}
    if re.search(r"no_grad|inference_mode|set_grad_enabled", managers) and inside & {
        "train",
        "backward",
        "training_step",
    }:
        yield "freeze", managers
    if re.search(r"suppress", managers) and inside & SWALLOWED:
        yield "swallowed", managers
    if re.search(r"autocast", managers):
        yield "precision", managers
    if re.search(r"disable_adapter|patch|redirect_std", managers):
        yield "patch", managers


def _in_function(node: ast.AST, script: Script) -> Iterator[ast.AST]:
    """The nodes around one, up to its function; the guard of a main module is no condition."""
    for each in script.above(node):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if not (isinstance(each, ast.If) and "__name__" in source_of(each.test)):
            yield each


def _is_retry(node: ast.AST, script: Script) -> bool:
    """Whether the loop around it is one of attempts at the same thing."""
    loop = next((each for each in script.above(node) if isinstance(each, ast.For | ast.While)), None)
    return isinstance(loop, ast.For) and bool(_RETRIES.search(source_of(loop.target) + source_of(loop.iter)))


def _is_in_training(node: ast.AST, script: Script) -> bool:
    """Whether a loop of the same function around it goes backward."""
    for each in script.above(node):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            return False
        if isinstance(each, ast.For | ast.While) and "backward" in _calls(each):
            return True
    return False


def _calls(node: ast.AST) -> list[str]:
    return [called(each) for each in ast.walk(node) if isinstance(each, ast.Call)]


def _thrown_away(block: list[ast.stmt]) -> bool:
    """Whether gradients are cleared, and the optimizer then steps without a backward in between."""
    cleared = False
    for statement in block:
        calls = _calls(statement)
        if cleared and "step" in calls and "backward" not in calls:
            return True
        cleared = ("zero_grad" in calls or cleared) and "backward" not in calls
    return False


def _is_ordinary(node: ast.Call, root: str) -> bool:
    """`model.eval()`, `re.compile()`, `torch.compile()` and `json.loads()` run no text as code."""
    return isinstance(node.func, ast.Attribute) and root not in ("pickle", "marshal", "dill", "builtins", "cloudpickle")
