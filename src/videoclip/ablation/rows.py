"""The rows of the table: named configurations, each one difference away from another row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from videoclip.config import PretrainConfig
from videoclip.recipes import paper, small

__all__ = ["ROWS", "Row", "paper_on_the_bed", "small_on_the_bed"]


VIDEOS_PER_BATCH = 28
CLIPS_PER_VIDEO = 4
MAX_SECONDS = 12
EPOCHS = 5


@dataclass(frozen=True)
class Row:
    """A configuration with a name.

    Attributes:
        summary: What it is, in the words of the table.
        against: The row it is one difference away from; empty for a row of its own.
        make: Returns the configuration.
        rerank_top: Candidates a re-ranker orders anew; 0: none.
        trained_as: Row whose run this one only measures otherwise; empty: its own.
        teacher: Row whose model, of the same seed, plans the batches; empty: the own one.
    """

    summary: str
    against: str
    make: Callable[[], PretrainConfig]
    rerank_top: int = 0
    trained_as: str = ""
    teacher: str = ""

    @property
    def after(self) -> str:
        """The row that has to be done first; empty: none."""
        return self.trained_as or self.teacher


def paper_on_the_bed() -> PretrainConfig:
    """Return the paper's method, with the optimiser of `small`, so that only method differs."""
    run, method = small(), paper()
    return _sized(replace(method, optim=run.optim, validation_videos=0))


def small_on_the_bed() -> PretrainConfig:
    """Return the recipe `small`, in the sizes of the bed."""
    return _sized(small())


def _sized(run: PretrainConfig) -> PretrainConfig:
    """Give a run the sizes all rows share: a world of short videos and few words, in a minute.

    A step takes about 8 seconds, of which a sentence takes 5.
    """
    clips = replace(
        run.clips,
        clips_per_video=CLIPS_PER_VIDEO,
        min_video_seconds=3,
        max_video_seconds=MAX_SECONDS,
        min_text_tokens=min(run.clips.min_text_tokens, 8),
        max_text_tokens=min(run.clips.max_text_tokens, 16),
        text_capacity=32,
    )
    model = replace(
        run.model,
        hidden_size=128,
        num_video_layers=1,
        num_text_layers=1,
        num_heads=4,
        intermediate_size=256,
    )
    plan = replace(
        run.plan,
        first_epoch=min(run.plan.first_epoch, 2),  # few epochs, of many videos
        videos_per_batch=VIDEOS_PER_BATCH,
        num_neighbours=2 * VIDEOS_PER_BATCH,
        clips_per_vector=CLIPS_PER_VIDEO,
    )
    optim = replace(run.optim, lr=1e-3, warmup_updates=50)
    run = replace(run, clips=clips, plan=plan, optim=optim, epochs=EPOCHS)
    # Seconds beyond the longest clip are never trained; windows must not be longer than that.
    return replace(run, model=replace(model, max_video_tokens=MAX_SECONDS))


def _changed(make: Callable[[], PretrainConfig], **parts: dict[str, Any]) -> PretrainConfig:
    """Return a configuration with some fields of some of its parts changed."""
    run = make()
    changes = {name: replace(getattr(run, name), **values) for name, values in parts.items()}
    return replace(run, **changes)


def _paper(**parts: dict[str, Any]) -> Callable[[], PretrainConfig]:
    return lambda: _changed(paper_on_the_bed, **parts)


def _small(**parts: dict[str, Any]) -> Callable[[], PretrainConfig]:
    return lambda: _changed(small_on_the_bed, **parts)


SHUFFLED = {"kind": "shuffled"}

ROWS: dict[str, Row] = {
    "paper": Row("the paper: overlap and retrieved batches", "", paper_on_the_bed),
    "paper-shuffled": Row("without retrieved batches", "paper", _paper(plan=SHUFFLED)),
    "paper-aligned": Row(
        "without retrieved batches and overlap",
        "paper-shuffled",
        _paper(plan=SHUFFLED, clips={"strategy": "aligned"}),
    ),
    "paper-mil-nce": Row(
        "MIL-NCE clips and loss",
        "paper",
        _paper(clips={"strategy": "mil_nce"}, loss={"kind": "mil_nce"}),
    ),
    "paper-shared": Row("one encoder for both", "paper", _paper(model={"shared_encoder": True})),
    "paper-retrieve-k": Row(
        "retrieve k, not 2k",
        "paper",
        _paper(plan={"num_neighbours": VIDEOS_PER_BATCH}),
    ),
    "paper-start-vectors": Row(
        "a video's vector from its start", "paper", _paper(plan={"vector_strategy": "start"})
    ),
    "paper-cls": Row("[CLS] instead of the mean", "paper", _paper(model={"pooling": "cls"})),
    "small": Row(
        "ours: cosine, learned temperature, lead, short texts, mined batches",
        "paper",
        small_on_the_bed,
    ),
    "small-shuffled": Row("ours with shuffled batches", "small", _small(plan=SHUFFLED)),
    "small-teacher": Row(
        "batches mined by the frozen finished model",
        "small",
        _small(plan={"first_epoch": 1}),
        teacher="small",
    ),
    "small-no-lead": Row("ours without a lead", "small", _small(clips={"lead_seconds": 0})),
    "small-long-texts": Row(
        "ours with texts as long as the paper's",
        "small",
        _small(clips={"min_text_tokens": 8, "max_text_tokens": 16}),
    ),
    "small-long": Row(
        "ours, four times as long",
        "small",
        lambda: replace(small_on_the_bed(), epochs=4 * EPOCHS),
    ),
    "small-aligned": Row("ours without overlap", "small", _small(clips={"strategy": "aligned"})),
    "small-soft": Row("soft targets", "small", _small(loss={"soft_target_share": 0.2})),
    "small-sigmoid": Row(
        "sigmoid loss",
        "small",
        _small(loss={"kind": "sigmoid"}, model={"learn_logit_bias": True}),
    ),
    "small-cross": Row(
        "trained with a re-ranker on top", "small", _small(model={"num_cross_layers": 1})
    ),
    "small-reranked": Row(
        "the best 20 re-ranked",
        "small-cross",
        _small(model={"num_cross_layers": 1}),
        rerank_top=20,
        trained_as="small-cross",
    ),
}
"""By the name one types."""
