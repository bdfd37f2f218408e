"""Learn what happens in videos from their own narration; then search, localise, segment, answer.

The public names are listed in `__init__.pyi`, which type checkers read. They are imported when they
are first used, so that `import videoclip` and `videoclip --help` do not wait for torch; not even
`typing` and `pathlib` are imported here. Source: SPEC 1 of Scientific Python.
"""

__version__ = "0.1.0"

with open(f"{__file__}i", encoding="utf-8") as _stub:  # noqa: PTH123
    # Its lines are "from MODULE import NAME as NAME".
    _HOMES = {words[3]: words[1] for words in map(str.split, _stub) if words[:1] == ["from"]}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    import importlib
    import sys

    if name == "recipes":  # a public module
        return importlib.import_module("videoclip.recipes")
    if name not in _HOMES:
        # With the module, Python adds the nearest name to its message.
        message = f"module 'videoclip' has no attribute '{name}'"
        raise AttributeError(message, name=name, obj=sys.modules[__name__])
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted([*__all__, "__version__"])
