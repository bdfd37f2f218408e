"""The narration of videos: labels and paraphrases of steps, chatter, and misaligned speech.

`label` and `describe` put a step into words, `narrate` decides what is said when, and `webvtt`
formats it as a file, by default like the automatic captions of a video site.
"""

import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pysubs2.formats.webvtt import WebVTTFormat

from videoclip.synthetic.world import SyntheticStep, SyntheticVideo, SyntheticWorld, generator, pick

_WORDS = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))
_ACTIONS: dict[str, list[str]] = _WORDS["actions"]
_PLACES: dict[str, list[str]] = _WORDS["places"]
_SYNONYMS: dict[str, str] = _WORDS["synonyms"]
_TALK: dict[str, list[str]] = _WORDS["talk"]

_WORDS_PER_SECOND = 2.4
_SHORTEST_CUE_SECONDS = 1.0
_LONG_STEP_SECONDS = 9.0
_MAX_LINE_CHARACTERS = 32
_CLEAR_SECONDS = 0.3  # after a longer pause rolling captions begin on an empty screen


def _words(rng: np.random.Generator, choices: Sequence[str], usual: float = 0.7) -> str:
    """Return the first choice with probability `usual`, else any."""
    return choices[0] if rng.random() < usual else pick(rng, choices)


def _synonym(rng: np.random.Generator, word: str, usual: float = 0.7) -> str:
    return _words(rng, (word, _SYNONYMS[word]) if word in _SYNONYMS else (word,), usual)


def _fill(template: str, adjectives: list[str], noun: str) -> str:
    """Insert the object of a step into a phrase for its action."""
    plural = noun + ("es" if noun.endswith(("s", "x")) else "s")
    return template.format(o=" ".join([*adjectives, noun]), os=" ".join([*adjectives, plural]))


def label(step: SyntheticStep) -> str:
    """Return the label of a step, such as "push the striped red ball to the right"."""
    adjectives = [word for word in (step.pattern, step.colour) if word != "plain"]
    return _fill(_ACTIONS[step.action][0], adjectives, step.shape)


def describe(
    step: SyntheticStep,
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
    noun = _synonym(rng, step.shape)
    if rng.random() < vagueness:
        noun = "one"
    adjectives = []
    if size and "flate" not in step.action and rng.random() < 0.5:
        adjectives.append(_synonym(rng, size))
    if step.pattern != "plain" and rng.random() >= vagueness:
        adjectives.append(_synonym(rng, step.pattern))
    if rng.random() >= vagueness:
        adjectives.append(_synonym(rng, step.colour, usual=0.8))
    text = _fill(_words(rng, _ACTIONS[step.action], usual=0.3), adjectives, noun)
    if place and rng.random() < 0.5:
        text += " " + _words(rng, _PLACES[place])
    return text


@dataclass(frozen=True)
class SpokenCue:
    """A cue, from `start` to `end` seconds.

    `about` is the index in `SyntheticVideo.shown` of the step it is about; None if off topic.
    """

    start: float
    end: float
    text: str
    about: int | None


def narrate(video: SyntheticVideo, world: SyntheticWorld) -> tuple[SpokenCue, ...]:
    """Return the cues spoken in a video: sorted, without overlap, inside the video.

    The first sentence about a step begins `lead_seconds` before the step on average, with standard
    deviation `lead_sd_seconds`; a long step may get a second one from its middle on. Speech that
    would overlap the next cue is cut short; the next cue is delayed where less than a second would
    remain.
    """
    config = world.config
    rng = generator(config.seed, "narration", video.index)
    drafts: list[tuple[float, str, int | None]] = []
    for position, shown in enumerate(video.shown):
        if rng.random() < config.unspoken_share:
            continue
        moments = [shown.start]
        if shown.end - shown.start > _LONG_STEP_SECONDS and rng.random() < 0.5:
            moments.append((shown.start + shown.end) / 2)
        for number, moment in enumerate(moments):
            text = describe(shown.step, rng, shown.size, video.task.place, vagueness=0.1)
            opening = pick(rng, _TALK["again" if number else "openings"])
            closing = f" {pick(rng, _TALK['closings'])}" if rng.random() < 0.25 else ""
            start = moment - config.lead_seconds + config.lead_sd_seconds * rng.standard_normal()
            drafts.append((start, f"{opening} {text}{closing}", position))
    ratio = config.off_topic_share / (1 - config.off_topic_share)
    wanted = max(len(drafts), 1) * ratio
    for number in range(int(wanted) + int(rng.random() < wanted % 1)):
        early = number == 0 and rng.random() < 0.5
        start = 0.3 if early else rng.uniform(0, max(video.duration - 2, 0.1))
        drafts.append((start, _off_topic(rng, video, world), None))
    return tuple(_laid_out(sorted(drafts, key=lambda draft: draft[0]), video.duration))


def _off_topic(rng: np.random.Generator, video: SyntheticVideo, world: SyntheticWorld) -> str:
    if rng.random() < 0.5:
        return pick(rng, _TALK["chatter"])
    shown = {s.step.step_id for s in video.shown}
    step = pick(rng, [s for s in world.steps if not s.held_out and s.step_id not in shown])
    return f"{pick(rng, _TALK['elsewhere'])} {describe(step, rng)}"


def _laid_out(
    drafts: Sequence[tuple[float, str, int | None]], duration: float
) -> Iterator[SpokenCue]:
    shortest = min(_SHORTEST_CUE_SECONDS, duration / (len(drafts) + 1))
    starts: list[float] = []
    for number, (start, _, _) in enumerate(drafts):
        earliest = starts[-1] + shortest if starts else 0.0
        latest = duration - shortest * (len(drafts) - number)  # leaves room for those to come
        starts.append(round(min(max(start, earliest), latest), 2))
    for (_, text, about), start, following in zip(drafts, starts, [*starts[1:], duration]):
        length = len(text.split()) / _WORDS_PER_SECOND
        yield SpokenCue(start, round(min(start + length, following), 2), text, about)


def webvtt(cues: Sequence[SpokenCue], rolling: bool = True) -> str:
    """Return cues as a WebVTT file.

    Args:
        cues: Sorted, without overlap.
        rolling: As automatic captions on video sites are: the previous line stays above the new
            one, every line is repeated in a cue of 10 ms, and words carry their own times.
    """
    blocks = ["WEBVTT\nKind: captions\nLanguage: en\n"]
    if not rolling:
        blocks += [f"{_clock(c.start)} --> {_clock(c.end)}\n{c.text}\n" for c in cues]
        return "\n".join(blocks)
    settings = "align:start position:0%"
    before, shown_until = " ", 0.0
    for start, end, words in _lines(cues):
        if start - shown_until > _CLEAR_SECONDS:
            before = " "
        times = np.linspace(start, end, len(words) + 1)
        timed = words[0] + "".join(
            f"<{_clock(t)}><c> {word}</c>" for t, word in zip(times[1:-1], words[1:], strict=True)
        )
        line = " ".join(words)
        turn = end - 0.01
        blocks.append(f"{_clock(start)} --> {_clock(turn)} {settings}\n{before}\n{timed}\n")
        blocks.append(f"{_clock(turn)} --> {_clock(end)} {settings}\n{line}\n \n")
        before, shown_until = line, end
    return "\n".join(blocks)


def _lines(cues: Sequence[SpokenCue]) -> Iterator[tuple[float, float, list[str]]]:
    """Break cues into caption lines and give each its share of the time."""
    for cue in cues:
        per_word = (cue.end - cue.start) / len(cue.text.split())
        start = cue.start
        for line in textwrap.wrap(cue.text, _MAX_LINE_CHARACTERS, break_on_hyphens=False):
            words = line.split()
            end = start + per_word * len(words)
            yield start, end, words
            start = end


def _clock(seconds: float) -> str:
    return WebVTTFormat.ms_to_timestamp(round(seconds * 1000))
