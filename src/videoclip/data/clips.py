"""Clip pairs: which words and which seconds of a narrated video make a positive pair.

Narration and frames are misaligned (a step is announced, then done), so the method only requires
that a positive pair overlaps: some consecutive cues, a centre inside them, and a video clip around
that centre whose length does not depend on the words. Strict alignment, the start of the video
and MIL-NCE's several candidates are the alternatives in the paper.

All functions are pure and draw from the generator passed to them. Source: paper, section 3.3.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import Generator

from videoclip.config import ClipConfig
from videoclip.errors import DataError


@dataclass(frozen=True, eq=False)
class Narration:
    """The words of a video and their times: C cues in order of their starts.

    Attributes:
        starts: (C,) float64, seconds.
        ends: (C,) float64, seconds.
        token_ids: One 1-D int32 array of word-piece ids per cue; may be empty.
    """

    starts: np.ndarray
    ends: np.ndarray
    token_ids: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        if not len(self.starts) == len(self.ends) == len(self.token_ids):
            raise DataError(
                f"a narration needs as many starts ({len(self.starts)}) as ends "
                f"({len(self.ends)}) and texts ({len(self.token_ids)})"
            )

    def __len__(self) -> int:
        """Number of cues C."""
        return len(self.token_ids)

    @cached_property
    def num_tokens(self) -> tuple[int, ...]:
        """Word pieces of each cue."""
        return tuple(map(len, self.token_ids))


@dataclass(frozen=True)
class ClipPair:
    """A text clip and a video clip.

    They are the cues [text_start, text_end) and the whole seconds [video_start, video_end).
    """

    text_start: int
    text_end: int
    video_start: int
    video_end: int


def draw_clip_pair(
    narration: Narration, num_seconds: int, config: ClipConfig, rng: Generator, max_tokens: int = 61
) -> ClipPair:
    """Draw one positive pair of a video.

    Args:
        narration: The cues of the video.
        num_seconds: Whole seconds of the video that have features.
        config: The strategy and its lengths.
        rng: Source of all randomness.
        max_tokens: Longest text of the model, which the `start` strategy fills.

    Returns:
        A pair with at least one cue and one second, within the video.

    Raises:
        DataError: If there are no cues or no seconds.

    Source: paper, section 3.3. Deviations: no clip is empty or extends past the features (the
    release pads both with zeros); `min_iou` and `lead_seconds` are our additions, off by default.
    """
    if not len(narration) or num_seconds < 1:
        raise DataError("clip pairs need a video with at least one cue and one second of features")
    if config.strategy == "start":  # nothing is random: no cue is to the left of the first one
        text = _grow_text_clip(narration, 0, max_tokens, config, rng)
        return _aligned_pair(narration, *text, num_seconds, config)
    draw = _STRATEGIES[config.strategy]
    lead = config.lead_seconds if config.strategy == "overlapped" else 0
    tries: list[ClipPair] = []
    while True:
        pair = draw(narration, num_seconds, config, rng)
        if config.min_iou <= 0 or overlap_ratio(narration, pair, lead) >= config.min_iou:
            return pair
        tries.append(pair)
        if len(tries) >= config.max_iou_tries:
            return max(tries, key=lambda pair: overlap_ratio(narration, pair, lead))


def clip_tokens(narration: Narration, pair: ClipPair, max_tokens: int) -> np.ndarray:
    """Return the first `max_tokens` word-piece ids of a pair's cues as one 1-D int32 array."""
    cues = narration.token_ids[pair.text_start : pair.text_end]
    return np.concatenate(cues, dtype=np.int32)[:max_tokens]


def candidate_tokens(
    narration: Narration, pair: ClipPair, num_candidates: int, max_tokens: int
) -> list[np.ndarray]:
    """Return the texts of a MIL-NCE pair, one cue each, up to `max_tokens` ids.

    A video with fewer cues repeats its last one.
    """
    cues = narration.token_ids[pair.text_start : pair.text_end]
    texts = [ids[:max_tokens] for ids in cues]
    return texts + texts[-1:] * (num_candidates - len(texts))


def overlap_ratio(narration: Narration, pair: ClipPair, lead_seconds: float = 0.0) -> float:
    """Return intersection over union, in seconds, of a pair's spans, the text's moved by a lead."""
    start, end = _text_span(narration, pair.text_start, pair.text_end)
    text_start, text_end = start + lead_seconds, end + lead_seconds
    shared = min(text_end, pair.video_end) - max(text_start, pair.video_start)
    return max(shared, 0.0) / (max(text_end, pair.video_end) - min(text_start, pair.video_start))


def _draw_overlapped(
    narration: Narration, num_seconds: int, config: ClipConfig, rng: Generator
) -> ClipPair:
    """Draw a pair as the method does: a centre in the text clip and a video clip around it."""
    first, stop = _draw_text_clip(narration, config, rng)
    start, end = _text_span(narration, first, stop)
    low, high = math.floor(start), math.ceil(end)
    centre = _draw_integer(low, high, rng) if low < high else (low + high) // 2
    centre = min(max(centre + config.lead_seconds, 0), num_seconds - 1)

    length = _draw_integer(config.min_video_seconds, config.max_video_seconds, rng)
    heads = int(rng.binomial(length, 0.5))
    return ClipPair(first, stop, *_grow_video_clip(centre, length, heads, num_seconds))


def _draw_aligned(
    narration: Narration, num_seconds: int, config: ClipConfig, rng: Generator
) -> ClipPair:
    """Draw a strictly aligned pair: the first seconds of the text clip's span."""
    return _aligned_pair(narration, *_draw_text_clip(narration, config, rng), num_seconds, config)


def _draw_mil_nce(
    narration: Narration, num_seconds: int, config: ClipConfig, rng: Generator
) -> ClipPair:
    """Draw a pair for MIL-NCE: a few seconds at a cue, and its nearest cues as candidates."""
    cue = _draw_integer(0, len(narration) - 1, rng)
    first = _nearest_cues(narration, cue, config.num_candidates)
    stop = min(first + config.num_candidates, len(narration))

    start, end = _text_span(narration, cue, cue + 1)
    if end - start < config.mil_nce_min_seconds:
        start = max(0.0, (start + end - config.mil_nce_min_seconds) / 2)
        end = start + config.mil_nce_min_seconds
    low = int(start)
    latest = max(low, int(int(end) - config.mil_nce_clip_seconds))
    video_start = _draw_integer(low, latest, rng)
    length = min(max(1, int(config.mil_nce_clip_seconds)), num_seconds)
    video_start = min(video_start, num_seconds - length)
    return ClipPair(first, stop, video_start, video_start + length)


_STRATEGIES = {
    "overlapped": _draw_overlapped,
    "aligned": _draw_aligned,
    "mil_nce": _draw_mil_nce,
}


def _draw_text_clip(narration: Narration, config: ClipConfig, rng: Generator) -> tuple[int, int]:
    """Draw a centre cue and a target length, and grow the text clip [first, stop) to it."""
    centre = _draw_integer(0, len(narration) - 1, rng)
    target = _draw_integer(config.min_text_tokens, config.max_text_tokens, rng)
    return _grow_text_clip(narration, centre, target, config, rng)


def _grow_text_clip(
    narration: Narration, centre: int, target: int, config: ClipConfig, rng: Generator
) -> tuple[int, int]:
    """Add whole cues, right on heads and left on tails, until `target` tokens are reached."""
    starts, ends, num_tokens = narration.starts, narration.ends, narration.num_tokens
    lowest, highest = _without_pause(narration, centre, config.max_pause_seconds)
    first, stop, total = centre, centre + 1, num_tokens[centre]
    while (
        total < target
        and stop - first < highest - lowest
        and ends[stop - 1] - starts[first] < config.max_text_span_seconds
    ):
        if first == lowest or (rng.random() > 0.5 and stop < highest):
            total += num_tokens[stop]
            stop += 1
        else:
            first -= 1
            total += num_tokens[first]
    return first, stop


def _without_pause(narration: Narration, centre: int, longest: float) -> tuple[int, int]:
    """Return the cues [first, stop) around one up to the nearest pauses over `longest`; 0: all."""
    first, stop = 0, len(narration)
    if longest:
        pauses = narration.starts[1:] - narration.ends[:-1]
        (breaks,) = np.nonzero(pauses > longest)  # after these cues
        position = int(np.searchsorted(breaks, centre))
        if position > 0:
            first = int(breaks[position - 1]) + 1
        if position < len(breaks):
            stop = int(breaks[position]) + 1
    return first, stop


def _grow_video_clip(centre: int, length: int, heads: int, num_seconds: int) -> tuple[int, int]:
    """Return the seconds [start, end) of a clip that grows from `centre` by `length` coin tosses.

    The release tosses a coin per second: right on heads, left on tails, the free side once the
    other is at its border. Only the number of heads matters, not their order.
    """
    length = min(length, num_seconds)
    right = min(max(heads, length - centre), num_seconds - centre)
    return centre + right - length, centre + right


def _aligned_pair(
    narration: Narration, first: int, stop: int, num_seconds: int, config: ClipConfig
) -> ClipPair:
    start, end = _text_span(narration, first, stop)
    video_start = min(max(math.floor(start), 0), num_seconds - 1)
    length = max(1, min(math.ceil(end) - video_start, config.max_video_seconds))
    return ClipPair(first, stop, video_start, min(video_start + length, num_seconds))


def _nearest_cues(narration: Narration, cue: int, count: int) -> int:
    """Return the first of `count` consecutive cues around `cue` that span the least time."""
    starts, ends = narration.starts, narration.ends
    first, last = cue, cue
    while last - first + 1 < count:
        if first == 0 or last == len(narration) - 1:
            return max(0, min(first, len(narration) - count))
        if ends[last] - starts[first - 1] < ends[last + 1] - starts[first]:
            first -= 1
        else:
            last += 1
    return first


def _text_span(narration: Narration, first: int, stop: int) -> tuple[float, float]:
    return float(narration.starts[first]), float(narration.ends[stop - 1])


def _draw_integer(low: int, high: int, rng: Generator) -> int:
    """Draw from [low, high], all equally likely; five times as fast as `rng.integers`."""
    return low + int(rng.random() * (high - low + 1))
