"""What a Python text does to the scope without naming a setting: rows dropped, parts patched, watches taken off (S13-R45).

Each act is a pair (facet, description) and is counted. Some facets count only when they are added (code made at run time,
an early exit), some only when they go away (training, evaluating, logging); which is said in lanes/scope.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from lanes.scope_fold import Names, Unfoldable, called, describe, fold

Act = tuple[str, str]

_DYNAMIC = frozenset(
    (
        "exec",
        "eval",
        "compile",
        "__import__",
        "globals",
        "import_module",
        "b64decode",
        "loads",
        "FunctionType",
        "reload",
    )
)
_EXITS = frozenset(("exit", "quit", "_exit", "abort", "kill"))
_PATCHES = frozenset(("patch", "setattr_method", "patch_object", "MagicMock", "Mock"))
_ADAPTERS = frozenset(
    (
        "get_peft_model",
        "prepare_model_for_kbit_training",
        "LoraConfig",
        "BitsAndBytesConfig",
        "PeftModel",
        "merge_and_unload",
    )
    + (
        "PrefixTuningConfig",
        "PromptTuningConfig",
        "IA3Config",
        "LoHaConfig",
        "AdaLoraConfig",
        "add_adapter",
        "disable_adapter",
    )
    + ("quantize_dynamic", "quantize_", "VeraConfig", "OFTConfig", "replace_with_bnb_linear", "inject_adapter_in_model")
)
_FREEZERS = frozenset(
    ("requires_grad_", "freeze", "freeze_parameters", "freeze_base_model", "freeze_embeddings", "no_grad_")
)
_CASTS = frozenset(("half", "bfloat16", "double"))
_ANCHORS = frozenset(
    (
        "train",
        "evaluate",
        "fit",
        "backward",
        "set_seed",
        "manual_seed",
        "seed_everything",
        "apply_chat_template",
        "save_model",
    )
    + ("push_to_hub", "add_callback", "clip_grad_norm_")
)
_TRACKERS = frozenset(("trackio", "wandb", "mlflow", "tensorboard", "writer", "tracker", "run"))
_TRACKER_CALLS = frozenset(("init", "log", "alert", "add_scalar", "log_metrics", "watch", "log_metric"))
_STOPPERS = frozenset(("EarlyStoppingCallback", "EarlyStopping"))
_CONTROLS = frozenset(
    ("should_training_stop", "should_epoch_stop", "should_evaluate", "should_log", "should_save", "stop_training")
)
# Methods of a trainer, model or dataset that decide what is trained, measured or told.
_METHODS = frozenset(
    (
        "log",
        "evaluate",
        "train",
        "training_step",
        "prediction_step",
        "compute_loss",
        "save_model",
        "get_train_dataloader",
        "__len__",
    )
    + (
        "__getitem__",
        "__iter__",
        "forward",
        "step",
        "backward",
        "create_optimizer",
        "get_eval_dataloader",
        "_prepare_dataset",
    )
    + (
        "get_batch_samples",
        "_get_train_sampler",
        "loss_function",
        "_prepare_inputs",
        "log_metrics",
        "add_callback",
        "tokenize_row",
    )
)
_SWALLOWED = frozenset(
    ("train", "backward", "evaluate", "training_step", "compute_loss", "fit", "log", "init", "alert", "forward")
)
_RETRIES = re.compile(r"attempt|retry|retries|tries|try")


def acts(tree: ast.AST, names: Names) -> Iterator[Act]:
    """Every act of a text, each as often as it is done."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    script = Script(tree, names, parents)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from _call(node, script)
        elif isinstance(node, ast.Subscript):
            yield from _slice(node, script)
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete):
            yield from _change(node, script)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _definition(node, script)
        else:
            yield from _flow(node, script)


def _call(node: ast.Call, script: Script) -> Iterator[Act]:
    name = called(node)
    if name == "getattr" or isinstance(node.func, ast.Call):
        name = named_by_getattr(node, script) or name
    arguments = ", ".join([*(script.text(each) for each in node.args), *keywords_of(node, script)])
    root = root_of(node.func)
    if name in _REDUCERS and not (name in ("sort", "filter", "repeat", "drop", "unique") and is_quiet(node)):
        yield "data-slice", f"{name}({arguments})"
    if name in _DYNAMIC and not (name in ("eval", "compile", "loads") and _is_ordinary(node, root)):
        yield "dynamic", name
    if name in _EXITS:
        yield "exit", name
    if name in _PATCHES or root in ("mock", "monkeypatch"):
        yield "patch", f"{name}({arguments})"
    if name in ("setattr", "delattr", "__setattr__") and not any(is_text(each, script) for each in node.args[:2]):
        yield "dynamic", f"{name}({arguments})"
    if name in _ADAPTERS or (root in _ADAPTERS and name == "from_pretrained"):
        yield "adapter", root if root in _ADAPTERS else name
    if name in _FREEZERS:
        yield "freeze", f"{name}({arguments})"
    if name in _CASTS and isinstance(node.func, ast.Attribute):
        yield "precision", name
    if name.endswith("Trainer") and isinstance(node.func, ast.Name | ast.Attribute) and name != "Trainer":
        yield "method", name
    yield from _watching(node, name, root, arguments, script)


def _watching(node: ast.Call, name: str, root: str, arguments: str, script: Script) -> Iterator[Act]:
    """Calls whose absence counts, and those that take a watch off."""
    if name in _ANCHORS and not (name == "train" and root.endswith("model")):
        yield "anchor", name
        if name in ("train", "evaluate", "fit") and any(
            isinstance(each, ast.If) for each in _until_function(node, script)
        ):
            yield "condition", name
    if root in _TRACKERS and name in _TRACKER_CALLS:
        yield "tracker-call", f"{root}.{name}"
    if name in _STOPPERS:
        yield "early-stop", name
    if name in ("remove_callback", "pop_callback", "set_verbosity_tracking", "disable_tracking"):
        yield "tracker", f"{name}({arguments})"
    if name == "to" and re.search(r"\b(float16|bfloat16|float8\w*|int8|cpu)\b", arguments):
        yield "precision", f"to({arguments})"
    if name in ("pop", "__delitem__", "popitem", "unset", "unsetenv", "clear") and re.search(
        r"WANDB|TRACKIO|max_|seed|report_to|split", arguments
    ):
        yield "removed", f"{name}({arguments})"
    if name == "map":
        yield from _constant_columns(node)


node: ast.Call) -> Iterator[Act]:
    """A map that puts the same text or label into every row."""
    function = node.args[0] if node.args else None
    body = function.body if isinstance(function, ast.Lambda) else None
    if isinstance(body, ast.Dict):
        for key, value in zip(body.keys, body.values, strict=True):
            constant = isinstance(value, ast.Constant) or (isinstance(value, ast.List) and not value.elts)
            if isinstance(key, ast.Constant) and key.value in _DATA_KEYS and constant:
                yield "data-slice", f"every row's {key.value} is {ast.unparse(value)}"


node: ast.Subscript, script: Script) -> Iterator[Act]:
    """`rows[:1000]`, except on a path or a message, and inside what is only told."""
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    cuts = [each for each in parts if isinstance(each, ast.Slice) and (each.lower or each.upper or each.step)]
    base = last_name(node.value)
    if not cuts or QUIET.search(base.lower()) or any(is_told(each) for each in script.above(node)):
        return
    if isinstance(script.parents.get(node), ast.Assign) and isinstance(node.ctx, ast.Store):
        yield "data-slice", f"assigned {ast.unparse(node.slice)}"
    described = ", ".join(
        ":".join(script.text(part) if part else "" for part in (each.lower, each.upper, each.step)) for each in cuts
    )
    yield "data-slice", f"[{described}]"


node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return called(node) in TELLS
    return isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert)


def _change(node: ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete, script: Script) -> Iterator[Act]:
    """Assignments that patch a class, a module or a method, freeze weights, change the loss, or stop a run."""
    if isinstance(node, ast.Delete):
        for target in node.targets:
            if isinstance(target, ast.Subscript | ast.Attribute):
                yield "removed", f"del {ast.unparse(target)}"
        return
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    value = node.value
    for target in (part for each in targets for part in _parts(each)):
        if value is None:
            continue
        text = str(describe(value, script.names, follow=False))
        if isinstance(target, ast.Name) and target.id in ("loss", "total_loss") and not isinstance(value, ast.Constant):
            # As it is written: the accumulation that it is divided by may change.
            yield "loss", f"{'+' if isinstance(node, ast.AugAssign) else ''}= {ast.unparse(value)}"
        if isinstance(target, ast.Name) and target.id in script.imported and not _is_fallback(node, value, script):
            yield "patch", f"{target.id} = {text}"
        if isinstance(target, ast.Attribute):
            yield from _attribute(target, text, script)
        if isinstance(target, ast.Subscript) and "modules" in ast.unparse(target.value):
            yield "patch", f"{ast.unparse(target)} = {text}"


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
    root, name = root_of(target), target.attr
    is_class = bool(re.match(r"[A-Z]", last_name(target.value)))
    harmless = root == "torch" and "backends" in ast.unparse(target)
    if name in _METHODS or ((root in script.imported or is_class) and not harmless):
        yield "patch", f"{last_name(target.value) if is_class else ''}.{name} = {text}"
    if name == "requires_grad":
        yield "freeze", f"requires_grad = {text}"
    if name in _CONTROLS:
        yield "early-stop", f"{name} = {text}"
    if name in ("__class__", "__dict__", "__code__", "__defaults__"):
        yield "patch", f"{name} = {text}"


def _definition(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, script: Script) -> Iterator[Act]:
    """The bodies of methods that decide what is trained, and of reward and metric functions; their arguments may change."""
    if isinstance(node, ast.ClassDef):
        return
    parent = script.parents.get(node)
    in_class = isinstance(parent, ast.ClassDef)
    if (
        (in_class and node.name in _METHODS)
        or node.name in script.rewards
        or "reward" in node.name
        or node.name == "compute_loss"
    ):
        body = "; ".join(ast.unparse(each) for each in node.body)
        yield "override", f"{node.name}: {body}"


def _flow(node: ast.AST, script: Script) -> Iterator[Act]:
    if isinstance(node, ast.Break) and not _is_retry(node, script):
        yield "exit", "break"
    elif (
        isinstance(node, ast.Raise)
        and node.exc is not None
        and re.match(r"(SystemExit|StopIteration|KeyboardInterrupt)\b", ast.unparse(node.exc))
    ):
        yield "exit", "raise"
    elif isinstance(node, ast.Compare) and re.search(
        r"(^|\.|_)(step|steps|it|iter_num|epoch|i|idx|n)$", last_name(node.left)
    ):
        if not isinstance(node.left, ast.BinOp):
            yield (
                "condition",
                f"{last_name(node.left)} {type(node.ops[0]).__name__} {script.text(node.comparators[0])}",
            )
    elif isinstance(node, ast.ExceptHandler):
        yield from _swallowed(node, script)
    elif isinstance(node, ast.With | ast.AsyncWith):
        yield from _with(node)
    elif isinstance(node, ast.Continue) and not _is_retry(node, script):
        yield "exit", "continue"


def _swallowed(node: ast.ExceptHandler, script: Script) -> Iterator[Act]:
    """A handler that goes on after a step, an evaluation or a log line failed."""
    parent = script.parents.get(node)
    if not isinstance(parent, ast.Try) or any(isinstance(each, ast.Raise) for each in ast.walk(node)):
        return
    tried = {called(each) for part in parent.body for each in ast.walk(part) if isinstance(each, ast.Call)}
    if tried & _SWALLOWED:
        yield "swallowed", ", ".join(sorted(tried & _SWALLOWED))


def _with(node: ast.With | ast.AsyncWith) -> Iterator[Act]:
    managers = " ".join(ast.unparse(each.context_expr) for each in node.items)
    inside = {called(each) for part in node.body for each in ast.walk(part) if isinstance(each, ast.Call)}
    if re.search(r"no_grad|inference_mode|set_grad_enabled", managers) and inside & {
        "train",
        "backward",
        "training_step",
    }:
        yield "freeze", managers
    if re.search(r"autocast|disable_adapter|patch|suppress|redirect_std", managers):
        yield "precision" if "autocast" in managers else "patch", managers


def _until_function(node: ast.AST, script: Script) -> Iterator[ast.AST]:
    """The nodes around one, up to its function; the guard of a main module is no condition."""
    for each in script.above(node):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if not (isinstance(each, ast.If) and "__name__" in ast.unparse(each.test)):
            yield each


def _is_retry(node: ast.AST, script: Script) -> bool:
    """Whether the loop around it is one of attempts at the same thing."""
    loop = next((each for each in script.above(node) if isinstance(each, ast.For | ast.While)), None)
    return isinstance(loop, ast.For) and bool(_RETRIES.search(ast.unparse(loop.target) + ast.unparse(loop.iter)))


node: ast.Call) -> bool:
    base = node.func.value if isinstance(node.func, ast.Attribute) else None
    return base is not None and bool(QUIET.search(last_name(base).lower()))


def _is_ordinary(node: ast.Call, root: str) -> bool:
    """`model.eval()`, `re.compile()`, `torch.compile()` and `json.loads()` run no text as code."""
    return isinstance(node.func, ast.Attribute) and root not in ("pickle", "marshal", "dill", "builtins", "cloudpickle")


node: ast.expr, script: Script) -> bool:
    try:
        return isinstance(fold(node, script.names), str)
    except Unfoldable:
        return False


node: ast.Call, script: Script) -> str:
    """The method that `getattr(rows, "select")(…)` calls, or that `getattr(rows, …)` takes."""
    inner = node.func if isinstance(node.func, ast.Call) else node
    if called(inner) != "getattr" or len(inner.args) < 2:
        return ""
    try:
        value = fold(inner.args[1], script.names)
    except Unfoldable:
        return "exec"
    return str(value) if inner is not node else ""


node: ast.Call, script: Script) -> list[str]:
    return sorted(f"{each.arg or '**'}={script.text(each.value)}" for each in node.keywords)


node: ast.expr) -> str:
    """The first name of `a.b.c()`."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


node: ast.expr) -> str:
    """The name nearest to the end of an expression; of a call, that of what it calls."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Call):
        return last_name(node.func)
    return last_name(node.value) if isinstance(node, ast.Subscript) else ""
