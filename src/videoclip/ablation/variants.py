"""The variants of the method: named configurations, each one difference away from another."""

from dataclasses import dataclass, replace
from typing import Any

from videoclip.config import PretrainConfig
from videoclip.recipes import paper, small

VIDEOS_PER_BATCH = 28
CLIPS_PER_VIDEO = 4
MAX_SECONDS = 12
EPOCHS = 5


@dataclass(frozen=True)
class Variant:
    """A configuration to train and measure.

    Attributes:
        summary: Description in the table.
        against: The variant it is compared with and one difference away from; may be empty.
        config: The configuration.
        rerank_top: How many of the best candidates a re-ranker orders; 0: none.
        trained_as: Variant whose trained model this one measures in another way; empty: its own.
        teacher: Variant whose model, of the same seed, plans the batches; empty: its own.
    """

    summary: str
    against: str
    config: PretrainConfig
    rerank_top: int = 0
    trained_as: str = ""
    teacher: str = ""

    @property
    def depends_on(self) -> str:
        """The variant that must run first; empty: none."""
        return self.trained_as or self.teacher


def _changed(run: PretrainConfig, **changes: Any) -> PretrainConfig:
    """Return a configuration with other fields; a dict has the fields to change of a part."""
    parts = {k: replace(getattr(run, k), **v) for k, v in changes.items() if isinstance(v, dict)}
    return replace(run, **(changes | parts))


def _sized(run: PretrainConfig) -> PretrainConfig:
    """Give a run the sizes that all variants share: short videos, few words, a minute of training.

    A step takes about 8 seconds, of which its narration takes 5.
    """
    return _changed(
        run,
        epochs=EPOCHS,
        clips={
            "clips_per_video": CLIPS_PER_VIDEO,
            "min_video_seconds": 3,
            "max_video_seconds": MAX_SECONDS,
            "min_text_tokens": min(run.clips.min_text_tokens, 8),
            "max_text_tokens": min(run.clips.max_text_tokens, 16),
        },
        model={
            "hidden_size": 128,
            "num_video_layers": 1,
            "num_text_layers": 1,
            "num_heads": 4,
            "intermediate_size": 256,
            # Seconds beyond the longest clip are never trained; windows must not be longer.
            "max_video_tokens": MAX_SECONDS,
            "max_text_tokens": 32,
        },
        plan={
            "first_epoch": min(run.plan.first_epoch, 2),  # few epochs, of many videos
            "videos_per_batch": VIDEOS_PER_BATCH,
            "num_neighbours": 2 * VIDEOS_PER_BATCH,
            "clips_per_vector": CLIPS_PER_VIDEO,
        },
        optim={"lr": 1e-3, "warmup_updates": 50},
    )


SMALL = _sized(small())
"""The recipe `small`, in the sizes of the test bed."""
PAPER = _sized(replace(paper(), optim=small().optim, validation_videos=0))
"""The paper's method, with the optimiser of `small`, so that only method differs."""
SHUFFLED = {"kind": "shuffled"}
ALIGNED = {"strategy": "aligned"}
CROSS = {"num_cross_layers": 1}


def _paper(summary: str, **changes: Any) -> Variant:
    """Return the paper's method with some changes, compared with it."""
    return Variant(summary, "paper", _changed(PAPER, **changes))


def _small(summary: str, **changes: Any) -> Variant:
    """Return our method with some changes, compared with it."""
    return Variant(summary, "small", _changed(SMALL, **changes))


VARIANTS: dict[str, Variant] = {
    "paper": Variant("the paper: overlap and retrieved batches", "", PAPER),
    "paper-shuffled": _paper("without retrieved batches", plan=SHUFFLED),
    "paper-aligned": Variant(
        "without retrieved batches and overlap",
        "paper-shuffled",
        _changed(PAPER, plan=SHUFFLED, clips=ALIGNED),
    ),
    "paper-mil-nce": _paper(
        "MIL-NCE clips and loss", clips={"strategy": "mil_nce"}, loss={"kind": "mil_nce"}
    ),
    "paper-shared": _paper("one encoder for both", model={"shared_encoder": True}),
    "paper-retrieve-k": _paper("retrieve k, not 2k", plan={"num_neighbours": VIDEOS_PER_BATCH}),
    "paper-start-vectors": _paper(
        "a video's vector from its start", plan={"vector_strategy": "start"}
    ),
    "paper-cls": _paper("[CLS] instead of the mean", model={"pooling": "cls"}),
    "small": Variant(
        "ours: cosine, learned temperature, lead, short texts, mined batches", "paper", SMALL
    ),
    "small-shuffled": _small("ours with shuffled batches", plan=SHUFFLED),
    "small-teacher": replace(
        _small("batches mined by the frozen finished model", plan={"first_epoch": 1}),
        teacher="small",
    ),
    "small-no-lead": _small("ours without a lead", clips={"lead_seconds": 0}),
    "small-long-texts": _small(
        "ours with texts as long as the paper's",
        clips={"min_text_tokens": 8, "max_text_tokens": 16},
    ),
    "small-long": _small("ours, four times as long", epochs=4 * EPOCHS),
    "small-aligned": _small("ours without overlap", clips=ALIGNED),
    "small-soft": _small("soft targets", loss={"soft_target_share": 0.2}),
    "small-sigmoid": _small(
        "sigmoid loss", loss={"kind": "sigmoid"}, model={"learn_logit_bias": True}
    ),
    "small-cross": _small("trained with a re-ranker on top", model=CROSS),
    "small-reranked": Variant(
        "the best 20 re-ranked",
        "small-cross",
        _changed(SMALL, model=CROSS),
        rerank_top=20,
        trained_as="small-cross",
    ),
}
"""By name."""
