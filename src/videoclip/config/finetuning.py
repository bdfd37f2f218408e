"""How a model is fine-tuned on a benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from videoclip.config.check import check_numbers, require
from videoclip.config.evaluation import EvaluateConfig
from videoclip.config.training import LossConfig, RunConfig


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(RunConfig):
    """A complete fine-tuning run; the released ones are in `recipes.FINETUNING`.

    The model's own settings are those of the model to start from.
    """

    benchmark: Literal["youcook2", "msrvtt", "msrvtt_qa", "crosstask", "coin", "csv"] = "youcook2"
    """Its training part is trained on, its test part is evaluated before and after."""
    loss: LossConfig = field(default_factory=lambda: LossConfig(kind="text_to_video"))
    """Loss on pairs of clip and text (retrieval and VideoQA)."""
    pairs_per_batch: int = 128
    """Clips per process and batch; a batch of CrossTask and COIN is one video."""
    texts_per_clip: int = 1
    """Visits to each clip in an epoch, each with one of its texts."""
    clip_seconds: float = 32.0
    """Seconds used of each clip, from its start, up to the model's longest clip."""
    window_step: int = 16
    """Seconds between the starts of two windows of a video (CrossTask, COIN)."""
    head: Literal["classes", "texts"] = "classes"
    """COIN: `classes` trains a linear head with one class per label; `texts` compares seconds with
    the label texts and a text for background."""
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    """How the test part is scored before and after."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.pairs_per_batch > 1, "pairs_per_batch must be at least 2")
        check_numbers(self, positive="texts_per_clip clip_seconds window_step")
        require(
            self.loss.kind in ("text_to_video", "video_to_text", "infonce"),
            "loss.kind must be 'text_to_video', 'video_to_text' or 'infonce' to fine-tune",
        )
