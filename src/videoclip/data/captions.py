"""Clean captions: markup, entities, music notes, rolling duplicates, bad spans.

Video sites write automatic captions as rolling screens: each cue repeats the line above the one
being spoken, so that every word occurs two or three times. `unroll` keeps what each cue adds, and
keeps what a speaker really repeats.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")
_SOUNDS = re.compile(r"\[[^\[\]]*\]|[♩♪♫♬🎵🎶]")
_INVISIBLE = re.compile(
    "[\u200b-\u200f\u202a-\u202e\u2060\ufeff\u00ad\ufffd\ud800-\udfff\x00-\x08\x0e-\x1f]"
)
# Not `^\s*`: from each of many empty lines, it would try all lines after it.
_SPEAKER_CHANGE = re.compile(r"^[^\S\n]*(?:>>+|[-–—](?=\s))\s*", re.MULTILINE)
_IMPOSSIBLE = re.compile(r"&#\d{8,};?")
"""An entity of no character; Python fails to convert one of thousands of digits."""

_HOLD_SECONDS = 0.1
"""A cue of at most this length only keeps a line on screen while the screen rolls."""
_PAUSE_SECONDS = 0.5
"""After a longer pause the screen may be empty: repeats count only with new words below them."""


@dataclass(frozen=True)
class Cue:
    """The words spoken from `start` to `end` seconds of a video, on one line."""

    start: float
    end: float
    text: str


def clean_cues(cues: Sequence[Cue]) -> list[Cue]:
    """Clean texts and spans, and remove what rolling captions repeat.

    Returns:
        Cues in order of their starts. None is empty, starts before zero or lasts beyond the start
        of a later one. A span that ends before it starts is reversed.
    """
    plain = [
        Cue(max(0.0, min(c.start, c.end)), max(0.0, c.start, c.end), text)
        for c in cues
        if (text := _without_markup(c.text))
    ]
    plain.sort(key=lambda cue: (cue.start, cue.end))
    # Sounds are removed last: "[Music]" below an old line shows that the line is old.
    lines = unroll(_without_copies(plain))
    spoken = [replace(c, text=text) for c in lines if (text := _without_sounds(c.text))]
    return _without_overlaps(spoken)


def clean_text(text: str) -> str:
    """Return the spoken words of a caption on one line.

    Removes markup (HTML, WebVTT voices and word times, SubStation codes), sounds in square
    brackets, music notes, marks of a changing speaker and invisible characters, and resolves HTML
    entities, also those escaped twice.
    """
    return _without_sounds(_without_markup(text))


def _without_markup(text: str) -> str:
    text = _LINE_BREAK.sub("\n", text)  # unlike other tags, it separates words
    text = _MARKUP.sub("", text)
    for _ in range(2):
        text = html.unescape(_IMPOSSIBLE.sub("", text))
    return " ".join(_SPEAKER_CHANGE.sub("", _INVISIBLE.sub("", text)).split())


def _without_sounds(text: str) -> str:
    return " ".join(_SOUNDS.sub(" ", text).split())


def unroll(cues: Sequence[Cue]) -> list[Cue]:
    """Return each line of rolling captions once, in order of starts.

    A rolling cue shows the previous lines and, below them, a new one; a cue of old lines only
    extends the last line. Cues count as rolling if more than half of the changes from one cue to
    the next repeat lines. Otherwise the speaker repeats words, and all cues are returned unchanged.

    Args:
        cues: In order of their starts, none without words.
    """
    lines: list[Cue] = []
    shown: list[str] = []  # words of the lines that may still be on the screen
    starts: list[int] = []  # where these lines begin in `shown`
    previous: Cue | None = None
    num_rolling, num_changes = 0, 0
    for cue in cues:
        words = cue.text.split()
        carried = 0
        if previous is not None:
            carried = _num_carried(shown, starts, words)
            is_repeat = cue.text == previous.text
            if is_repeat and not (_is_hold(previous) or _is_hold(cue)):
                carried = 0
            if cue.start - previous.end > _PAUSE_SECONDS and not 1 < carried < len(words):
                carried = 0
            num_changes += not (is_repeat and not carried)
            num_rolling += carried > 1 or carried == len(words)
        cut = len(shown) - carried
        starts = sorted({max(0, start - cut) for start in starts})
        if new := words[carried:]:
            lines.append(Cue(cue.start, cue.end, " ".join(new)))
            starts.append(carried)
        else:
            lines[-1] = replace(lines[-1], end=max(lines[-1].end, cue.end))
        shown = shown[cut:] + new
        previous = cue
    return lines if 2 * num_rolling > num_changes else list(cues)


def _num_carried(shown: Sequence[str], starts: Sequence[int], words: Sequence[str]) -> int:
    """Return how many words at the start of a cue repeat the words shown last.

    Whole lines are preferred. Line borders are unknown where the first cues of a file have several
    lines; then any two or more equal words count.
    """
    borders = _borders(words, shown)
    for start in starts:
        if len(shown) - start in borders:
            return len(shown) - start
    return max((length for length in borders if length > 1), default=0)


def _borders(words: Sequence[str], shown: Sequence[str]) -> set[int]:
    """Return all n > 0 for which the last n words shown are the first n words, in linear time."""
    pattern = [*words, None, *shown]  # None is no word, so that no match is longer than `words`
    longest = [0] * len(pattern)  # by the algorithm of Knuth, Morris and Pratt
    for i in range(1, len(pattern)):
        length = longest[i - 1]
        while length and pattern[i] != pattern[length]:
            length = longest[length - 1]
        longest[i] = length + (pattern[i] == pattern[length])
    borders = set()
    length = longest[-1]
    while length:
        borders.add(length)
        length = longest[length - 1]
    return borders


def join_cues(cues: Sequence[Cue], max_seconds: float, max_pause: float) -> list[Cue]:
    """Join neighbouring cues into passages.

    Args:
        cues: In order of their starts.
        max_seconds: Longest passage of several cues, in seconds; a longer cue is kept as it is.
        max_pause: Longest pause between two cues of one passage, in seconds.

    Returns:
        Passages in order of their starts.
    """
    passages: list[tuple[float, float, list[str]]] = []
    for cue in cues:
        start, end, texts = passages[-1] if passages else (cue.start, cue.end, [])
        fits = cue.end - start <= max_seconds and cue.start - end <= max_pause
        if passages and fits:
            texts.append(cue.text)
            passages[-1] = start, max(end, cue.end), texts
        else:
            passages.append((cue.start, cue.end, [cue.text]))
    return [Cue(start, end, " ".join(texts)) for start, end, texts in passages]


def _is_hold(cue: Cue) -> bool:
    return cue.end - cue.start <= _HOLD_SECONDS


def _without_copies(cues: Sequence[Cue]) -> list[Cue]:
    """Merge overlapping cues of the same text: they are copies of one."""
    kept: list[Cue] = []
    for cue in cues:
        if kept and kept[-1].text == cue.text and cue.start < kept[-1].end:
            kept[-1] = replace(kept[-1], end=max(kept[-1].end, cue.end))
        else:
            kept.append(cue)
    return kept


def _without_overlaps(cues: Sequence[Cue]) -> list[Cue]:
    """End every cue where the next later one starts; cues that start together stay together."""
    kept: list[Cue] = []
    next_start, later = float("inf"), float("inf")
    for cue in reversed(cues):
        if cue.start < next_start:
            next_start, later = cue.start, next_start
        kept.append(replace(cue, end=min(cue.end, later)))
    return kept[::-1]
