"""How a benchmark is scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from videoclip.config.check import require

__all__ = ["EvaluateConfig"]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How a benchmark is scored; what a protocol used is printed with its numbers."""

    clip_seconds: float = 32.0
    """Retrieval and questions see this much of each clip, from its start, as released; 0: all of
    it, as the mean of its pieces."""
    ties: Literal["unbiased", "released"] = "unbiased"
    """`unbiased`: equal similarities count as if in random order; `released`: each place a tie may
    take is an entry of its own."""
    dual_softmax: float = 0.0
    """Temperature of a softmax over all test queries, which lifts retrieval; 0: none."""
    background: Literal["fitted", "balanced", "released", "text"] = "fitted"
    """Threshold below which a second is background: best frame accuracy on training videos; best
    mean accuracy of foreground and background there; the largest label-label similarity; or the
    second's similarity with the word "background"."""
    fitting_videos: int = 300
    """Training videos, drawn at random, that a fitted threshold is chosen on."""
    exactly_one: bool = True
    """Each step of a task takes exactly one second, as released; otherwise a run of them."""
    attend_cls: bool = False
    """Whether seconds may attend to [CLS] in localisation and segmentation; not as released."""
    rerank_top: int = 0
    """Best clips of each text, and all choices of a question, that the model's re-ranker looks at
    again; 0: none."""
    num_resamples: int = 1000
    """Bootstrap resamples of the test videos for the 95 % intervals."""
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.clip_seconds >= 0, "clip_seconds must not be negative")
        require(self.dual_softmax >= 0, "dual_softmax must not be negative")
        require(self.fitting_videos > 0, "fitting_videos must be positive")
        require(self.rerank_top >= 0, "rerank_top must not be negative")
        require(self.num_resamples > 0, "num_resamples must be positive")
        require(
            not (self.dual_softmax and self.ties == "released"),
            "dual_softmax and ties 'released' exclude each other: the release has none",
        )
