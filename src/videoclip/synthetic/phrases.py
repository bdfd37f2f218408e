"""Words for what happens: the canonical label of a step, and paraphrases of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from videoclip.synthetic.world import Step

__all__ = ["describe", "label"]

# {o} is the object ("red ball"), {os} more than one of it ("red balls"). The first is the label.
_VERBS: dict[str, tuple[str, ...]] = {
    "push right": (
        "push the {o} to the right",
        "slide the {o} from left to right",
        "move the {o} over to the right hand side",
    ),
    "push left": (
        "push the {o} to the left",
        "slide the {o} from right to left",
        "move the {o} over to the left hand side",
    ),
    "lift": ("lift the {o} up", "raise the {o}", "pull the {o} upwards"),
    "lower": (
        "lower the {o} down",
        "let the {o} sink",
        "drop the {o} downwards",
        "bring the {o} down low",
    ),
    "inflate": ("inflate the {o}", "blow up the {o}", "make the {o} bigger"),
    "deflate": (
        "deflate the {o}",
        "let the air out of the {o}",
        "make the {o} smaller",
        "shrink the {o}",
    ),
    "swing clockwise": (
        "swing the {o} around clockwise",
        "take the {o} round in a circle clockwise",
        "circle the {o} the way a clock turns",
    ),
    "swing counterclockwise": (
        "swing the {o} around counterclockwise",
        "take the {o} round in a circle counterclockwise",
        "circle the {o} against the clock",
    ),
    "join": (
        "bring the two {os} together",
        "join both {os}",
        "let the two {os} meet in the middle",
    ),
    "part": (
        "pull the two {os} apart",
        "separate both {os}",
        "let the two {os} go their own ways",
    ),
    "gather": ("gather the {os}", "collect all the {os} in the middle", "draw the {os} in close"),
    "scatter": ("scatter the {os}", "spread all the {os} out", "send the {os} out everywhere"),
    "fill": ("fill the {o} up", "pour the {o} full", "top up the {o}"),
    "drain": ("drain the {o}", "empty the {o} out", "let the {o} run dry"),
    "cover": (
        "cover the {o} with the cloth",
        "hide the {o} under the cloth",
        "pull the cloth over the {o}",
    ),
    "uncover": ("uncover the {o}", "take the cloth off the {o}", "show the {o} under the cloth"),
}
_NOUNS: dict[str, tuple[str, ...]] = {
    "ball": ("ball", "sphere"),
    "box": ("box", "square"),
    "triangle": ("triangle", "wedge"),
    "star": ("star",),
    "ring": ("ring", "hoop"),
    "cross": ("cross", "plus sign"),
    "heart": ("heart",),
    "moon": ("moon", "crescent"),
}
_COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson"),
    "orange": ("orange", "tangerine"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "blue": ("blue", "navy"),
    "purple": ("purple", "violet"),
    "white": ("white", "ivory"),
    "black": ("black", "dark"),
}
_PATTERN_WORDS: dict[str, tuple[str, ...]] = {
    "striped": ("striped", "stripy"),
    "spotted": ("spotted", "dotted"),
}
_SIZE_WORDS: dict[str, tuple[str, ...]] = {"small": ("small", "little"), "big": ("big", "large")}
_PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "table": ("on the wooden table", "on the table"),
    "grass": ("on the grass", "on the lawn"),
    "wall": ("in front of the brick wall", "by the bricks"),
    "sand": ("on the sand", "at the beach"),
    "water": ("over the water", "on the waves"),
    "snow": ("in the snow", "out in the snow"),
    "night": ("under the night sky", "in the dark"),
    "tiles": ("on the tiles", "on the tiled floor"),
}


def _words(rng: np.random.Generator, choices: Sequence[str], usual: float = 0.7) -> str:
    """Pick the usual word most of the time, else any."""
    return choices[0] if rng.random() < usual else choices[int(rng.integers(len(choices)))]


def _plural(noun: str) -> str:
    return noun + ("es" if noun.endswith(("s", "x")) else "s")


def label(step: Step) -> str:
    """Return the one canonical name of a step, such as "push the striped red ball to the right"."""
    pattern = "" if step.pattern == "plain" else f"{step.pattern} "
    thing = f"{pattern}{step.colour} "
    template = _VERBS[step.action][0]
    return template.format(o=thing + step.shape, os=thing + _plural(step.shape))


def describe(
    step: Step,
    rng: np.random.Generator,
    size: str | None = None,
    place: str | None = None,
    vagueness: float = 0.0,
) -> str:
    """Return a paraphrase of a step.

    Args:
        step: What to describe.
        rng: Chooses the words.
        size: "small" or "big", mentioned half of the time.
        place: Where it happens, mentioned half of the time.
        vagueness: Probability, for colour, pattern and shape each, of going unmentioned.
    """
    noun = _words(rng, _NOUNS[step.shape])
    plural = _plural(noun)
    if rng.random() < vagueness:
        noun, plural = "one", "ones"
    adjectives = []
    if size and "flate" not in step.action and rng.random() < 0.5:
        adjectives.append(_words(rng, _SIZE_WORDS[size]))
    if step.pattern != "plain" and rng.random() >= vagueness:
        adjectives.append(_words(rng, _PATTERN_WORDS[step.pattern]))
    if rng.random() >= vagueness:
        adjectives.append(_words(rng, _COLOUR_WORDS[step.colour], usual=0.8))
    templates = _VERBS[step.action]
    text = _words(rng, templates, usual=0.3).format(
        o=" ".join([*adjectives, noun]), os=" ".join([*adjectives, plural])
    )
    if place and rng.random() < 0.5:
        text += " " + _words(rng, _PLACE_WORDS[place])
    return text
