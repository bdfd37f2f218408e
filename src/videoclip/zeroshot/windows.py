"""Windows of a video that are embedded for search: several lengths, half overlapping.

A moment can last three seconds or half a minute, and a pooled embedding matches best when its
window is about as long; hence several lengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from videoclip.errors import ConfigError
from videoclip.types import IntArray


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """Lengths of the windows; stored with a library, since its vectors are known by position."""

    lengths: tuple[float, ...] = (4.0, 8.0, 16.0, 32.0)
    """Seconds, ascending; neighbours of one length overlap by half."""

    def __post_init__(self) -> None:
        if not self.lengths or self.lengths[0] <= 0 or list(self.lengths) != sorted(self.lengths):
            raise ConfigError(f"windows.lengths must be positive and ascending, got {self.lengths}")


def half_overlapping(num_features: int, length: int) -> list[tuple[int, int]]:
    """Return the windows of one length, the last of which ends with the video.

    Args:
        num_features: T of the video, at least 1.
        length: Of a window, at least 1; a shorter video is one window.
    """
    length = min(length, num_features)
    last = num_features - length
    starts = [*range(0, last, max(1, length // 2)), last]
    return [(start, start + length) for start in starts]


@lru_cache(maxsize=4096)
def window_spans(
    num_features: int, features_per_second: float, config: WindowConfig | None = None
) -> IntArray:
    """List the windows of a video, shortest length first, in order of time within a length.

    Every feature is covered at every length that fits; the last window of a length ends with the
    video. A video shorter than the shortest length is one window.

    Args:
        num_features: T, at least 1.
        features_per_second: Rate of the features.
        config: Lengths; the default ones if None.

    Returns:
        (W, 2) half-open ranges of features, without repeats.
    """
    assert num_features > 0
    spans: list[tuple[int, int]] = []
    for seconds in (config or WindowConfig()).lengths:
        length = max(1, round(seconds * features_per_second))
        spans += half_overlapping(num_features, length)
        if length >= num_features:
            break
    windows = np.array(list(dict.fromkeys(spans)), dtype=np.int64)  # (W, 2)
    windows.flags.writeable = False  # the cache shares it between videos
    return windows
