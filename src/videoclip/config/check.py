"""How a config refuses a setting."""

from __future__ import annotations

from videoclip.errors import ConfigError

__all__ = ["require"]


def require(condition: bool, message: str) -> None:
    """Raise a `ConfigError` with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)
