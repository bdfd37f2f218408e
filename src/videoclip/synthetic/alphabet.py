"""What a world is made of: the names of its objects, colours, patterns, places and actions."""

from __future__ import annotations

__all__ = ["ACTIONS", "COLOURS", "OPPOSITE", "PATTERNS", "PLACES", "SHAPES"]

SHAPES = ("ball", "box", "triangle", "star", "ring", "cross", "heart", "moon")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
PATTERNS = ("plain", "striped", "spotted")
PLACES = ("table", "grass", "wall", "sand", "water", "snow", "night", "tiles")

ACTIONS: dict[str, tuple[str, bool]] = {
    "push right": ("across", True),
    "push left": ("across", False),
    "lift": ("upward", True),
    "lower": ("upward", False),
    "inflate": ("size", True),
    "deflate": ("size", False),
    "swing clockwise": ("circle", True),
    "swing counterclockwise": ("circle", False),
    "join": ("distance", False),
    "part": ("distance", True),
    "gather": ("spread", False),
    "scatter": ("spread", True),
    "fill": ("level", True),
    "drain": ("level", False),
    "cover": ("lid", True),
    "uncover": ("lid", False),
}
"""Action -> (path, forwards). An action and its opposite are one path run forwards and backwards,
so their frames have the same distribution: only the order of frames tells them apart."""

OPPOSITE: dict[str, str] = {
    action: other
    for action, (path, forwards) in ACTIONS.items()
    for other, way in ACTIONS.items()
    if way == (path, not forwards)
}
"""Action -> the same path run the other way."""
