"""The one way a setting is refused."""

from __future__ import annotations

from videoclip.errors import ConfigError

__all__ = ["require"]


def require(condition: bool, message: str) -> None:
    """Raise unless a condition holds.

    Raises:
        ConfigError: With the message, where the condition is false.
    """
    if not condition:
        raise ConfigError(message)
