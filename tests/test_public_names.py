"""The public names are what is visible, nothing else; importing them costs nothing, and whatever
their signatures mention is public too."""

import dataclasses
import importlib
import inspect
import subprocess
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import videoclip

PUBLIC = {name: getattr(videoclip, name) for name in videoclip.__all__}
MODULES = {"numpy", "torch", *sys.stdlib_module_names}
"""What signatures may take and return besides public names."""


@pytest.mark.parametrize("name", videoclip.__all__)
def test_public_names_load(name):
    value = getattr(videoclip, name)
    module = value.__name__ if inspect.ismodule(value) else value.__module__
    assert module.startswith("videoclip")


def test_what_is_public_is_visible():
    assert sorted(videoclip.__all__) == videoclip.__all__
    assert {n for n in dir(videoclip) if not n.startswith("_")} == set(videoclip.__all__)


def test_the_type_checker_sees_the_same_names():
    source = Path(videoclip.__file__).with_suffix(".pyi").read_text()
    imported = {line.split(" as ")[1] for line in source.splitlines() if " as " in line[4:]}
    assert imported == set(videoclip.__all__)


def test_a_star_import_gives_the_public_names():
    names = {}
    exec("from videoclip import *", names)
    assert set(names) - {"__builtins__"} == set(videoclip.__all__)


def test_importing_the_package_imports_nothing_else():
    code = "import sys; a = set(sys.modules); import videoclip; print(set(sys.modules) - a)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "{'videoclip'}\n"


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'VideoClip'"):
        _ = videoclip.VideoClip


def functions_of(value: object) -> Iterator[tuple[str, Callable[..., object]]]:
    """A function itself, or the public methods and properties of a class with its constructor."""
    if inspect.isfunction(value):
        yield "", value
    if not inspect.isclass(value):
        return
    for owner in value.__mro__:
        if not owner.__module__.startswith("videoclip"):
            continue
        for name, member in vars(owner).items():
            is_generated = name == "__init__" and dataclasses.is_dataclass(value)
            if (name.startswith("_") and name != "__init__") or is_generated:
                continue
            if isinstance(member, property):
                member = member.fget
            member = getattr(member, "func", member)  # cached_property
            member = getattr(member, "__func__", member)  # classmethod, staticmethod
            if inspect.isfunction(member):
                yield f".{name}", member


def hints_of(value: object) -> dict[str, object]:
    """Annotations as types; what modules import for type checking alone is looked up too."""
    module = importlib.import_module(value.__module__)
    names: dict[str, object] = {}
    while True:
        try:
            return typing.get_type_hints(value, None, names)
        except NameError as error:
            names[error.name] = resolved(module, error.name)


def resolved(module: types.ModuleType, name: str) -> object:
    """A name that a module imports under TYPE_CHECKING."""
    for line in inspect.getsource(module).splitlines():
        if line.startswith("    from ") and name in line.partition(" import ")[2].split(", "):
            return getattr(importlib.import_module(line.split()[1]), name)
    raise AssertionError(f"{module.__name__} imports {name} in a way this test cannot follow")


def leaves(hint: object) -> Iterator[object]:
    """The plain classes that a type is made of."""
    arguments = hint if isinstance(hint, list) else typing.get_args(hint)
    if isinstance(hint, typing.TypeVar):
        arguments = [hint.__bound__] if hint.__bound__ else []
    for argument in arguments:
        yield from leaves(argument)
    if not arguments and inspect.isclass(hint):
        yield hint


def signatures() -> Iterator[tuple[str, object]]:
    for name, value in PUBLIC.items():
        for suffix, function in functions_of(value):
            yield name + suffix, function
        if dataclasses.is_dataclass(value):
            yield name, value
    for name, value in vars(videoclip.recipes).items():
        if inspect.isfunction(value) and value.__module__ == "videoclip.recipes":
            yield f"recipes.{name}", value


@pytest.mark.parametrize(("name", "value"), [pytest.param(*s, id=s[0]) for s in signatures()])
def test_what_a_signature_mentions_is_public(name, value):
    unknown = {
        f"{parameter}: {leaf.__module__}.{leaf.__name__}"
        for parameter, hint in hints_of(value).items()
        if not parameter.startswith("_")
        for leaf in leaves(hint)
        if leaf.__module__.partition(".")[0] not in MODULES and leaf not in PUBLIC.values()
    }
    assert not unknown, f"{name} needs names that are not public"


def test_python_can_suggest_the_nearest_name():
    with pytest.raises(AttributeError) as raised:
        _ = videoclip.VideoLibary
    assert (raised.value.name, raised.value.obj) == ("VideoLibary", videoclip)
