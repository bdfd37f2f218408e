"""Defaults, constants and help pages, compared as a whole with what was approved.

A changed default changes every result a little, and a test of one option does not see it.
"""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import textwrap
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import videoclip
from tests import approved
from videoclip.cli import COMMANDS, main

NEED_AN_EXTRA = (
    "videoclip.library.lance",
    "videoclip.integrations.mteb",
    "videoclip.integrations.sentence_transformers",
    "videoclip.__main__",
)
MODULES = [
    module.name
    for module in pkgutil.walk_packages(videoclip.__path__, "videoclip.")
    if not module.name.startswith(NEED_AN_EXTRA)
]
NOT_OURS = ("_is_protocol", "_is_runtime_protocol", "model_config")
"""Attributes that a base class sets."""
LONGEST = 110
"""Characters of a value; of a longer one the beginning and a checksum are approved."""


def text_of(value):
    """A value as text that is the same in every process; None if it is not plain data."""
    match value:
        case None | bool() | int() | float() | str() | bytes():
            text = repr(value)
        case re.Pattern():
            text = f"re {value.pattern!r} {value.flags}"
        case Path():
            text = None if value.is_absolute() else f"Path({str(value)!r})"
        case set() | frozenset():
            text = "{" + ", ".join(sorted(map(repr, value))) + "}"
        case np.dtype() | torch.dtype() | type():
            text = getattr(value, "__name__", str(value))
        case list() | tuple():
            parts = [text_of(member) for member in value]
            text = None if None in parts else f"({', '.join(parts)})"
        case dict():
            parts = [text_of(member) for pair in value.items() for member in pair]
            text = None if None in parts else "{" + ", ".join(parts) + "}"
        case _ if dataclasses.is_dataclass(value):
            parts = [text_of(getattr(value, field.name)) for field in dataclasses.fields(value)]
            text = None if None in parts else f"{type(value).__name__}({', '.join(parts)})"
        case _:
            text = None
    if text is not None and len(text) > LONGEST:
        text = f"{text[:50]} ... {zlib.crc32(text.encode())}"
    return text


def defaults_of(function, **more):
    """The defaults of a function, and more facts, as text: "rate=1.0, mode='exact'"."""
    given = {p.name: p.default for p in inspect.signature(function).parameters.values()}
    texts = {n: text_of(d) for n, d in given.items() if d is not inspect.Parameter.empty} | more
    return ", ".join(f"{name}={text}" for name, text in texts.items() if text is not None)


def defaults_of_fields(kind):
    """The defaults of a dataclass."""
    made = {}
    for field in dataclasses.fields(kind):
        if field.default_factory is not dataclasses.MISSING and field.init:
            texts = {text_of(field.default_factory()) for _ in range(2)}
            made[field.name] = texts.pop() if len(texts) == 1 else None  # else made at random
    return defaults_of(kind, **made, frozen=str(kind.__dataclass_params__.frozen))


def facts_of(name, value):
    """Yield name and defaults of a function, or of a class and its methods."""
    value = getattr(value, "__func__", getattr(value, "func", value))
    cached = {}
    if hasattr(value, "cache_parameters"):
        cached = {"cached": str(value.cache_parameters()["maxsize"])}
    if inspect.isfunction(value) or cached:
        yield f"{name}({defaults_of(value, **cached)})"
    elif inspect.isclass(value):
        is_data = dataclasses.is_dataclass(value)
        if is_data and "__init__" in vars(value):
            yield f"{name}({defaults_of_fields(value)})"
        for member, inner in vars(value).items():
            is_constant = not is_data and member not in NOT_OURS and not inspect.isclass(inner)
            if member == "__init__" and not is_data:
                yield from facts_of(name, inner)
            elif not member.startswith("__") and is_constant and text_of(inner) is not None:
                yield f"{name}.{member} = {text_of(inner)}"
            elif not member.startswith("__") and not inspect.isclass(inner):
                yield from facts_of(f"{name}.{member}", inner)


def facts_in(module):
    """Yield the constants of a module, and what has defaults."""
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            facts = facts_of(node.name, getattr(module, node.name))
            yield from (fact for fact in facts if not fact.endswith("()"))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
            for name in names:
                text = text_of(vars(module).get(name, ...))
                if text is not None and re.fullmatch("_?[A-Z][A-Z0-9_]*", name):
                    yield f"{name} = {text}"


@pytest.mark.parametrize("package", sorted({name.split(".")[1] for name in MODULES}))
def test_constants_and_defaults(package):
    lines = []
    for name in (name for name in MODULES if name.split(".")[1] == package):
        facts = list(facts_in(importlib.import_module(name)))
        lines += [name, *facts] if facts else []
    wrapped = [part for line in lines for part in textwrap.wrap(line, 100)]
    approved.check(f"defaults-{package}", "\n".join(wrapped) + "\n")


def test_help(capsys, monkeypatch):
    """Of each command its usage and options, without what they are for."""
    monkeypatch.setenv("COLUMNS", "200")
    pages = []
    for command in [*COMMANDS, "pretrain small"]:
        with pytest.raises(SystemExit):
            main([*command.split(), "--help"])
        lines = [
            re.sub(r"[^!-~]+", " ", line).strip() for line in capsys.readouterr().out.splitlines()
        ]
        pages.append(lines[0])
        for line in lines[1:]:
            flags = re.match(r"--?\w.*?(?= [A-Z]?[a-z]|$)", line)
            pages += [flags[0]] if flags else []
            pages += re.findall(r"\((?:default|required|repeat).*\)", line)
    assert main(["--help"]) == 0
    approved.check("help", "\n".join(pages) + "\n")
    approved.check("help-overview", capsys.readouterr().out)
