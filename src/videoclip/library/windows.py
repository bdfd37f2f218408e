"""Which spans of a video are embedded: windows of several lengths, half overlapping.

A moment can last three seconds or half a minute, and a pooled embedding answers best when its
window has about the moment's length; hence several lengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from videoclip.errors import ConfigError

__all__ = ["WindowConfig", "window_spans"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """The lengths a library embeds; recorded in it, since vectors are told apart by position."""

    lengths: tuple[float, ...] = (4.0, 8.0, 16.0, 32.0)
    """Seconds, ascending; neighbours of one length overlap by half."""

    def __post_init__(self) -> None:
        if not self.lengths or self.lengths[0] <= 0 or list(self.lengths) != sorted(self.lengths):
            raise ConfigError(f"windows.lengths must be positive and ascending, got {self.lengths}")


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
        config: The lengths; the default ones where None.

    Returns:
        (W, 2) half-open ranges of features, without repeats.
    """
    assert num_features > 0
    spans: list[tuple[int, int]] = []
    for seconds in (config or WindowConfig()).lengths:
        length = max(1, round(seconds * features_per_second))
        if length >= num_features:
            spans.append((0, num_features))
            break
        last = num_features - length
        starts = [*range(0, last, max(1, length // 2)), last]
        spans += [(start, start + length) for start in starts]
    windows = np.array(list(dict.fromkeys(spans)), dtype=np.int64)  # (W, 2)
    windows.flags.writeable = False  # videos of a length share it
    return windows
