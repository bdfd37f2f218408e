"""How a benchmark is scored."""

from dataclasses import dataclass
from typing import Literal

from videoclip.config.codec import NotNegative, Positive, check_numbers, require


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How a benchmark is scored; what a protocol used is printed with its numbers."""

    clip_seconds: NotNegative[float] = 32.0
    """Seconds of each clip, from its start, that retrieval and questions use (32 as released); 0:
    all of it, as the mean of its pieces."""
    ties: Literal["unbiased", "released"] = "unbiased"
    """How equal similarities count: `unbiased`: as if in random order; `released`: every possible
    rank is an entry of its own."""
    dual_softmax: NotNegative[float] = 0.0
    """Temperature of a softmax over all test queries, which improves retrieval; 0: none."""
    background: Literal["fitted", "balanced", "released", "text"] = "fitted"
    """Threshold below which a second is background. `fitted`: best frame accuracy on training
    videos; `balanced`: best mean of foreground and background accuracy there; `released`: the
    largest similarity between two labels; `text`: similarity to the word "background"."""
    fitting_videos: Positive[int] = 300
    """Number of random training videos for fitting the background threshold."""
    exactly_one: bool = True
    """Whether each step of a task takes exactly one second (as released) or a span."""
    attend_cls: bool = False
    """Whether seconds attend to [CLS] in localisation and segmentation (not as released)."""
    rerank_top: NotNegative[int] = 0
    """Best clips of each text that the model's re-ranker, if any, scores again; with any number
    above 0, also all choices of a question."""
    decoding: Literal["released", "product"] = "released"
    """How steps, labels and answers are found: `released`: as the benchmark's protocol, with the
    settings above; `product`: as `localize`, `segment` and `answer`. Moments are always found as
    `search` does, except the 21 of DiDeMo."""
    num_resamples: Positive[int] = 1000
    """Bootstrap resamples of the test videos for the 95 % intervals."""
    seed: NotNegative[int] = 0
    """Seed of the bootstrap and of random choices of videos."""

    def __post_init__(self) -> None:
        check_numbers(self)
        require(
            not (self.dual_softmax and self.ties == "released"),
            "dual_softmax and ties 'released' exclude each other: the release has none",
        )
