"""How a config refuses a setting."""

from __future__ import annotations

from typing import Any

from videoclip.errors import ConfigError


def require(condition: bool, message: str) -> None:
    """Raise a `ConfigError` with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def check_numbers(
    config: Any, prefix: str = "", *, positive: str = "", not_negative: str = ""
) -> None:
    """Raise a `ConfigError` unless the named settings are above 0, or at least 0.

    Args:
        config: What has these attributes.
        prefix: Stands before names in messages, such as "optim.".
        positive: Names of settings, separated by spaces.
        not_negative: Likewise.
    """
    for name in positive.split():
        require(getattr(config, name) > 0, f"{prefix}{name} must be positive")
    for name in not_negative.split():
        require(getattr(config, name) >= 0, f"{prefix}{name} must not be negative")
