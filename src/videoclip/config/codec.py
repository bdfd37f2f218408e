"""Configs to and from plain dicts and JSON files, without loss; wrong settings are refused."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_type_hints

from videoclip.errors import ConfigError, unknown
from videoclip.files import parse_state, read_regular

RUN_CONFIG_VERSION = 1
"""Stored as `version` in the config.json of a run; raised when its settings change meaning."""

ConfigT = TypeVar("ConfigT")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config as nested plain dicts (tuples become lists), ready for JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def from_dict(cls: type[ConfigT], values: Mapping[str, Any], where: str = "") -> ConfigT:
    """Build a config from nested plain dicts; the inverse of `to_dict`.

    Args:
        cls: One of the config dataclasses.
        values: Field values; a missing field keeps its default.
        where: Dotted prefix used in messages.

    Raises:
        ConfigError: On an unknown key (naming the nearest known one) or a value of another type.
    """
    hints = typing.get_type_hints(cls)
    kwargs = {}
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(unknown("setting", key, hints, where))
        kwargs[key] = _typed(value, hints[key], f"{where}{key}")
    return cls(**kwargs)


def flatten(settings: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{where}{name}.")
        else:
            flat[f"{where}{name}"] = value
    return flat


def load_run_config(cls: type[ConfigT], path: Path | str) -> ConfigT:
    """Read the config.json of a run, to replay it with the same settings.

    Args:
        cls: `PretrainConfig` or `FinetuneConfig`.
        path: The file, or the run folder it is in.

    Raises:
        ConfigError: If it cannot be read, was written by another version, or has unknown settings.
    """
    path = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    try:
        settings = parse_state(read_regular(path))
        version = settings.pop("version", RUN_CONFIG_VERSION)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path}: cannot read the config of a run ({error})") from None
    if "feature_dim" in settings:
        raise ConfigError(
            f"{path}: this is the config of a model: name the config.json of a run, or a file "
            "written with --print-config"
        )
    if version != RUN_CONFIG_VERSION:
        raise ConfigError(
            f"{path}: has config version {version}, and this videoclip reads version "
            f"{RUN_CONFIG_VERSION}: use the videoclip that wrote it"
        )
    try:
        return from_dict(cls, settings)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _typed(value: Any, hint: Any, where: str) -> Any:
    """Check one value against its annotation; JSON's lists become tuples, its ints floats."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        require(isinstance(value, Mapping), f"{where} must be a table of settings, got {value!r}")
        return from_dict(hint, value, where + ".")
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        require(
            value in args, f"{where} must be one of {', '.join(map(repr, args))}, got {value!r}"
        )
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None:
            require(type(None) in args, f"{where} must not be null")
            return None
        (inner,) = (a for a in args if a is not type(None))
        return _typed(value, inner, where)
    if origin is tuple:
        require(isinstance(value, (list, tuple)), f"{where} must be a list, got {value!r}")
        inner_hints = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        require(len(inner_hints) == len(value), f"{where} must have {len(inner_hints)} entries")
        return tuple(_typed(v, h, where) for v, h in zip(value, inner_hints, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    right = isinstance(value, hint) and not (hint is int and isinstance(value, bool))
    require(right, f"{where} must be of type {hint.__name__}, got {value!r}")
    return value


NumberT = TypeVar("NumberT", int, float)
LIMIT = 2**53
"""Larger numbers are not exact as floats, and overflow where they are added or stored."""
POSITIVE, NOT_NEGATIVE = "must be positive", "must not be negative"
Positive: TypeAlias = Annotated[NumberT, POSITIVE]
NotNegative: TypeAlias = Annotated[NumberT, NOT_NEGATIVE]


def require(condition: bool, message: str) -> None:
    """Raise a `ConfigError` with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def check_numbers(config: Any, prefix: str = "") -> None:
    """Raise a `ConfigError` unless every number is below 2**53 and in its annotation's range.

    Args:
        config: A dataclass.
        prefix: Stands before names in messages, such as "optim.".
    """
    for name, hint in get_type_hints(type(config), include_extras=True).items():
        rules, value = getattr(hint, "__metadata__", ()), getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, (int, float)):
                require(abs(number) < LIMIT, f"{prefix}{name} must be a number below 2**53")
                require(POSITIVE not in rules or number > 0, f"{prefix}{name} {POSITIVE}")
                require(NOT_NEGATIVE not in rules or number >= 0, f"{prefix}{name} {NOT_NEGATIVE}")
