"""What a Python text says about the scope: every setting that it makes, by whatever way, and the acts of scope_acts.py.

Ways to a setting: a keyword, an assignment to a name, attribute, item or field, a pair in a dict, `setattr`, `update`,
`setdefault`, a default of an option, an environment variable, a command line in a string or list. Nothing is run.
"""

from __future__ import annotations

import ast
import posixpath
import re
import shlex
import warnings
from collections.abc import Iterator
from typing import Any

from lanes.scope_acts import acts
from lanes.scope_fold import Names, Unfoldable, called, describe, fold
from lanes.scope_keys import classify, is_known, normal
from lanes.scope_sources import Facts, device_count, of_argv
from lanes.scope_table import GENERIC
from lanes.scope_values import location

_CONFIG_LIKE = re.compile(
    r"(Config|Arguments|Args|Trainer|TrainingArgs|Parameters|Hyperparameters)$(?<!basicConfig)|^(load_dataset|from_pretrained)$"
)
_OPTION = ("add_argument", "option", "Option", "Argument")
# Arguments that are objects of the script's own: that they are given counts, not how their variable is called.
_OBJECTS = frozenset(
    (
        "model",
        "train_dataset",
        "eval_dataset",
        "args",
        "processing_class",
        "tokenizer",
        "data_collator",
        "peft_config",
        "dataset",
    )
    + (
        "quantization_config",
        "callbacks",
        "compute_metrics",
        "formatting_func",
        "reward_funcs",
        "ref_model",
        "reward_model",
    )
    + (
        "optimizers",
        "optimizer",
        "config",
        "lora_config",
        "training_args",
        "data",
        "eval_data",
        "train_data",
        "tools",
        "loss_fn",
    )
)
_LOADERS = {
    "load_dataset": ("dataset", "dataset_config"),
    "load_from_disk": ("dataset",),
    "from_json": ("dataset",),
    "from_csv": ("dataset",),
    "from_parquet": ("dataset",),
    "read_csv": ("dataset",),
    "read_json": ("dataset",),
    "read_parquet": ("dataset",),
    "read_table": ("dataset",),
    "memmap": ("dataset",),
    "fromfile": ("dataset",),
}
_LOADED = {"path": "dataset", "name": "dataset_config", "filepath_or_buffer": "dataset", "path_or_buf": "dataset"}
_DATA_FILE = re.compile(r"\.(jsonl|json|yaml|yml|toml|csv|tsv|parquet|arrow|bin|txt|gz|zst)(\.gz|\.zst)?$")
# Here a batch is how many rows a function is given at a time.
_GENERATED = ("max_new_tokens", "max_length", "temperature", "top_p", "top_k", "min_p", "repetition_penalty")
_ROWS_AT_A_TIME = ("map", "filter", "iter", "generate", "pipeline", "to_parquet", "to_json", "encode")
_SEEDERS = ("manual_seed", "manual_seed_all", "set_seed", "seed_everything", "seed", "enable_full_determinism")


def of_script(text: str, name: str) -> Facts:
    """All settings and acts of a Python text. A text that is no Python is one act: unreadable."""
    facts = Facts()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = _parsed(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        facts.act("unreadable", f"{posixpath.basename(name)}: {text}")
        return facts
    tree = _Alive().visit(tree)
    names = Names(tree)
    facts.targets = {id(call): target for target, value in _named(tree) for call in ast.walk(value)}
    for node in ast.walk(tree):
        _settings(node, names, facts)
    for facet, what in acts(tree, names):
        facts.act(facet, what)
    return facts


def _parsed(text: str) -> ast.Module:
    """The tree of a text. Raises what ast.parse does.

    Read as one interactive statement: for a module with certain errors CPython opens the file that it came from, whose
    name would be made up here, and this room opens none.
    """
    lines = ["if True:", *text.replace("\r\n", "\n").split("\n"), "pass\n"]
    statements = ast.parse("\n ".join(lines), mode="single").body
    if len(statements) != 1 or not isinstance(statements[0], ast.If) or statements[0].orelse:
        raise SyntaxError("the text closes the block around it")
    return ast.Module(statements[0].body[:-1], [])


class _Alive(ast.NodeTransformer):
    """Drops what never runs: branches under a constant test, and strings that stand alone."""

    def visit_If(self, node: ast.If) -> Any:
        """Keep the branch that runs."""
        self.generic_visit(node)
        if isinstance(node.test, ast.Constant):
            return (node.body if node.test.value else node.orelse) or ast.Pass()
        return node

    def visit_While(self, node: ast.While) -> Any:
        """Drop a loop that never begins."""
        self.generic_visit(node)
        return ast.Pass() if isinstance(node.test, ast.Constant) and not node.test.value else node

    def visit_Expr(self, node: ast.Expr) -> Any:
        """Drop docstrings and texts that are put aside as strings."""
        self.generic_visit(node)
        return ast.Pass() if isinstance(node.value, ast.Constant) else node


def _settings(node: ast.AST, names: Names, facts: Facts) -> None:
    if isinstance(node, ast.Call):
        _call(node, names, facts)
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            written = _text(key, names) if key else None
            if written:
                _setting(written, value, names, facts, "dict")
    elif isinstance(node, ast.List | ast.Tuple):
        _command_line(node, names, facts)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"(^|\s)--[a-z]", node.value):
        _take_words(node.value, facts)
    elif isinstance(node, ast.For):
        _loop(node, names, facts)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        for written, value in _defaults(node.args):
            _setting(written, value, names, facts, "parameter")
    else:
        for target, value in _assignments(node):
            _assignment(target, value, names, facts)


def _assignments(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Tuple | ast.List) and isinstance(node.value, ast.Tuple | ast.List):
                yield from zip(target.elts, node.value.elts, strict=False)
            else:
                yield target, node.value
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
        yield node.target, node.value
    elif isinstance(node, ast.AugAssign):
        yield node.target, ast.BinOp(ast.Name("_", ast.Load()), node.op, node.value)


def _named(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Names with what they are bound to: which of two loaded datasets is which."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def _assignment(target: ast.expr, value: ast.expr, names: Names, facts: Facts) -> None:
    if isinstance(target, ast.Name):
        _setting(target.id, value, names, facts, "name")
    elif isinstance(target, ast.Attribute):
        _setting(target.attr, value, names, facts, "attribute")
    elif isinstance(target, ast.Subscript):
        written = _text(target.slice, names)
        if written:
            _setting(written, value, names, facts, "item")


def _call(node: ast.Call, names: Names, facts: Facts) -> None:
    name = called(node)
    owner = _owner(node)
    place = f"{owner}.{name}" if name in ("from_pretrained", "init") and owner else name
    bound = facts.targets.get(id(node))
    seat = f"{place} -> {bound}" if name in _LOADERS and bound else place
    if name in _OPTION:
        _option(node, names, facts)
        return
    is_config = bool(_CONFIG_LIKE.search(name))
    for keyword in node.keywords:
        if keyword.arg in ("mode", "disabled") and name == "init":
            facts.add(("wandb_mode",), describe(keyword.value, names), place)
        elif keyword.arg in _LOADED and name in _LOADERS:
            facts.add((_LOADED[keyword.arg],), describe(keyword.value, names), seat)
        elif keyword.arg:
            _setting(keyword.arg, keyword.value, names, facts, seat, is_config=is_config)
        elif is_config:
            facts.passed.setdefault(place, set()).add("**")
    if is_config:
        facts.passed.setdefault(place, set()).update(
            classify((keyword.arg,)).name for keyword in node.keywords if keyword.arg
        )
    _positional(node, name, owner, names, facts)
    for key, value in zip(node.args, node.args[1:], strict=False):
        written = _text(key, names)
        if written and is_known(written) and normal(written) not in GENERIC:
            _setting(written, value, names, facts, "pair")
    if name in _SEEDERS and len(node.args) == 1:
        facts.add(("seed",), describe(node.args[0], names), "call")


def _positional(node: ast.Call, name: str, owner: str, names: Names, facts: Facts) -> None:
    """First arguments that say what is loaded: a model, a dataset, a data file that is read."""
    if name == "from_pretrained" and node.args:
        kind = "tokenizer_name" if "Tokenizer" in owner or "Processor" in owner else "model"
        facts.add((kind,), describe(node.args[0], names), f"{owner}.from_pretrained")
    for key, value in zip(_LOADERS.get(name, ()), node.args, strict=False):
        facts.add((key,), describe(value, names), name)
    if name == "open" and node.args and not any(mode in str(_mode(node)) for mode in "wax"):
        path = describe(node.args[0], names)
        if isinstance(path, str) and _DATA_FILE.search(path):
            facts.add(("dataset",), location(path), "open")
    if name.endswith("Trainer") and node.args:
        facts.add(("model",), _presence(node.args[0], names), name)
        facts.passed.setdefault(name, set()).add("model")


def _mode(node: ast.Call) -> object:
    given = [*node.args[1:2], *(each.value for each in node.keywords if each.arg == "mode")]
    return given[0].value if given and isinstance(given[0], ast.Constant) else "r"


def _setting(written: str, value: ast.expr, names: Names, facts: Facts, where: str, *, is_config: bool = False) -> None:
    """Take in a setting, when its name is one that counts at this place and its value says something."""
    name = normal(written)
    if (name == "batch_size" and where in _ROWS_AT_A_TIME) or (name in _GENERATED and where == "generate"):
        return
    key = classify((_section(where), name) if is_config else (name,))
    if key.kind == "neutral" and not _is_bounded(name):
        return
    if key.kind == "unknown" and not is_config:
        return
    if key.kind == "protected" and not is_known(name) and where in ("name", "dict") and _constant(value, names) is None:
        return
    if name in _OBJECTS or (name in GENERIC and _constant(value, names) is None):
        if where in ("name", "attribute", "dict", "item", "parameter", "pair") and _constant(value, names) is None:
            return
        shown = _presence(value, names)
    else:
        shown = describe(value, names)
    facts.add((name,) if key == classify((name,)) else (_section(where), name), device_count(name, shown), where)


def _section(where: str) -> str:
    """What a callee makes of a general name, e.g. `LoraConfig(r=8)`."""
    if "Lora" in where:
        return "lora"
    return "quantization" if "BitsAndBytes" in where or "Quant" in where else ""


def _is_bounded(name: str) -> bool:
    return name in ("logging_steps", "save_steps", "eval_steps", "log_interval", "eval_interval")


def _presence(value: ast.expr, names: Names) -> Any:
    """A constant as it is, an object as the fact that one is given, with the part of it that is taken."""
    constant = _constant(value, names)
    if constant is not None:
        return constant
    if isinstance(value, ast.Constant):
        return None
    if isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Constant):
        return f"<object>[{value.slice.value!r}]"
    unlike = (
        re.search(r"eval|valid|test|dev|small|tiny|subset|sample|debug", value.id)
        if isinstance(value, ast.Name)
        else None
    )
    if unlike:
        return f"<object>: {unlike.group()}"
    if isinstance(value, ast.List | ast.Tuple):
        return f"<objects>{len(value.elts)}" if value.elts else None
    return "<object>"


def _constant(value: ast.expr, names: Names) -> Any:
    try:
        return fold(value, names)
    except Unfoldable:
        return None


def _text(node: ast.expr, names: Names) -> str | None:
    value = _constant(node, names)
    return value if isinstance(value, str) and re.fullmatch(r"-{0,2}[A-Za-z_][\w.-]*", value) else None


def _option(node: ast.Call, names: Names, facts: Facts) -> None:
    """`add_argument("--max-length", default=512)` and its like: the default is the setting's value."""
    written = next((text for each in node.args if (text := _text(each, names)) and text.startswith("-")), None)
    default = next((each.value for each in node.keywords if each.arg == "default"), None)
    if written and default is not None and len(normal(written)) > 1:
        key = classify((normal(written),))
        if key.kind in ("protected", "batch", "tunable"):
            facts.add((normal(written),), describe(default, names), "option")


def _loop(node: ast.For, names: Names, facts: Facts) -> None:
    """`for epoch in range(3)`: what is counted to."""
    target = node.target.id if isinstance(node.target, ast.Name) else ""
    key = (
        "num_train_epochs"
        if "epoch" in target
        else "max_steps"
        if target in ("step", "it", "iteration", "iter_num")
        else ""
    )
    if key and isinstance(node.iter, ast.Call) and called(node.iter) in ("range", "trange"):
        bounds = [describe(each, names) for each in node.iter.args]
        facts.add((key,), bounds[-1] if len(bounds) == 1 or bounds[0] == 0 else bounds, "loop")


def _command_line(node: ast.List | ast.Tuple, names: Names, facts: Facts) -> None:
    words = [_constant(each, names) for each in node.elts]
    texts = [word if isinstance(word, str) else "?" if word is None else str(word) for word in words]
    if any(text.startswith("--") for text in texts):
        facts.settings += of_argv(texts, "argv").settings


def _take_words(text: str, facts: Facts) -> None:
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    if len(words) > 1 or "=" in text:
        facts.settings += [each for each in of_argv(words, "argv").settings if is_known(each.written)]


def _defaults(arguments: ast.arguments) -> Iterator[tuple[str, ast.expr]]:
    named = [*arguments.posonlyargs, *arguments.args]
    for argument, default in zip(reversed(named), reversed(arguments.defaults), strict=False):
        yield argument.arg, default
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=False):
        if default is not None:
            yield argument.arg, default


def _owner(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        if isinstance(node.func.value, ast.Name):
            return node.func.value.id
        if isinstance(node.func.value, ast.Attribute):
            return node.func.value.attr
    return ""
