"""How a config refuses a setting."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, TypeVar, get_type_hints

from videoclip.errors import ConfigError

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
