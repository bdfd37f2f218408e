"""What a function or a command takes reaches what it is for: read from the source, for all of them.

An option that gets lost on the way from a command to the function that does the work changes
nothing that a test of either end sees.
"""

import ast
import importlib
from collections import defaultdict
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import pytest

import videoclip
from videoclip.cli import COMMANDS
from videoclip.cli.results import FoundOutput, Output
from videoclip.library.search import SearchOptions

SOURCE = Path(videoclip.__file__).parent
Function = ast.FunctionDef | ast.AsyncFunctionDef

UNUSED = {
    ("model.losses.mil_nce", "loss", "config"): "losses are called alike",
    ("model.losses.sigmoid", "loss", "config"): "losses are called alike",
    ("web.api", "start_job", "asked"): "there is one kind of job",
    ("integrations.mteb", "_load", "name"): "MTEB calls it so",
    ("features.decode", "__init__", "size"): "a key of the cache",
    ("features.decode", "__init__", "mtime_ns"): "a key of the cache",
}
"""Parameters that are not used, with the reason."""

NOT_PASSED_ON = {
    ("demo", "_train", "evaluate", "on_progress"): "it counts epochs",
    ("output.edl", "choose_rate", "find_rate", "is_drop"): "only the exact rates are counted",
}
"""Options that a function has but does not pass on, with the reason."""


class Parameters(NamedTuple):
    positional: list[str]
    by_keyword: list[str]
    optional: set[str]


def parameters_of(function):
    arguments = function.args
    positional = [one.arg for one in (*arguments.posonlyargs, *arguments.args)]
    by_keyword = [one.arg for one in arguments.kwonlyargs]
    optional = set(positional[len(positional) - len(arguments.defaults) :])
    optional |= {
        one
        for one, default in zip(by_keyword, arguments.kw_defaults, strict=True)
        if default is not None
    }
    return Parameters(positional, by_keyword, optional)


@pytest.fixture(scope="module")
def modules():
    """The syntax tree of each module, by its name without "videoclip."."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def functions(modules):
    """Functions of modules, by module and name."""
    return {
        (module, node.name): node
        for module, tree in modules.items()
        for node in tree.body
        if isinstance(node, Function)
    }


@pytest.fixture(scope="module")
def methods(modules):
    """Methods by name."""
    found = defaultdict(list)
    for tree in modules.values():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                for method in node.body:
                    if isinstance(method, Function):
                        found[method.name].append(method)
    return found


def is_key(function):
    """Whether results are cached by the arguments, some of which may serve as keys alone."""
    return any("cache" in ast.unparse(decorator) for decorator in function.decorator_list)


def test_every_parameter_is_used(functions, methods, modules):
    owners = [(module, function) for (module, _), function in functions.items()]
    for module, tree in modules.items():
        for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            for method in (node for node in kind.body if isinstance(node, Function)):
                # Methods that several classes have, or that a class inherits, are alike.
                is_own = len(methods[method.name]) == 1 and not method.name.startswith("__")
                if is_own or method.name == "__init__":
                    owners.append((module, method))
    unused = []
    for module, function in owners:
        if is_key(function) or is_stub(function):
            continue
        used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
        positional, by_keyword, _ = parameters_of(function)
        for name in {*positional, *by_keyword} - used - {"self", "cls"}:
            place = module, function.name, name
            if place not in UNUSED and not name.startswith("_"):
                unused.append(place)
    assert unused == []


def is_stub(function):
    """Whether a function has no body but a documentation, `...` or an exception."""
    body = [
        statement
        for statement in function.body
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
    ]
    return not body or isinstance(body[0], ast.Raise)


def test_options_are_passed_on_to_functions_with_options_of_the_same_name(
    modules, functions, methods
):
    lost, num_calls = [], 0
    for module, tree in modules.items():
        imported = {
            alias.asname or alias.name: (node.module.removeprefix("videoclip."), alias.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        for caller in (node for node in ast.walk(tree) if isinstance(node, Function)):
            positional, by_keyword, _ = parameters_of(caller)
            own = {*positional, *by_keyword}
            nested = {node.name for node in ast.walk(caller) if isinstance(node, Function)}
            for call in (node for node in ast.walk(caller) if isinstance(node, ast.Call)):
                skipped, called = 0, None
                if isinstance(call.func, ast.Name) and call.func.id not in nested | own:
                    place = imported.get(call.func.id, (module, call.func.id))
                    called = functions.get(place)
                elif isinstance(call.func, ast.Attribute):
                    candidates = methods[call.func.attr]
                    is_known = len(candidates) == 1 and candidates[0] is not caller
                    called, skipped = (candidates[0], 1) if is_known else (None, 0)
                if called is None:
                    continue
                num_calls += 1
                taken = parameters_of(called)
                given = {keyword.arg for keyword in call.keywords}
                given |= set(taken.positional[skipped : skipped + len(call.args)])
                if None in given or any(isinstance(one, ast.Starred) for one in call.args):
                    continue
                for option in own & taken.optional - given:
                    place = module, caller.name, called.name, option
                    if place not in NOT_PASSED_ON:
                        lost.append(place)
    assert num_calls > 1000  # else the calls were not recognised
    assert lost == []


KINDS = [
    *(getattr(importlib.import_module(f"videoclip.cli.{n}"), n.capitalize()) for n in COMMANDS),
    Output,
    FoundOutput,
]


@pytest.mark.parametrize("command", KINDS, ids=lambda command: command.__name__)
def test_every_option_of_a_command_is_read(command):
    # Search hands its settings over by the names of the fields of SearchOptions.
    read = (
        {field.name for field in fields(SearchOptions)} if command.__name__ == "Search" else set()
    )
    for kind in command.__mro__[:-1]:
        module = importlib.import_module(kind.__module__)
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, Function) or getattr(node, "name", "") == kind.__name__:
                read |= {
                    one.attr
                    for one in ast.walk(node)
                    if isinstance(one, ast.Attribute) and ast.unparse(one.value) in ("self", "made")
                }
    assert {field.name for field in fields(command)} - read == set()
