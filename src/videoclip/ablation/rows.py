"""The rows of the table: named configurations, each one difference away from another row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from videoclip.config import PretrainConfig
from videoclip.recipes import paper, small

__all__ = ["ROWS", "Row", "scaled_paper"]


@dataclass(frozen=True)
class Row:
    """A configuration with a name.

    Attributes:
        summary: What it is, in the words of the table.
        against: The row it is one difference away from; empty for a row of its own.
        make: Returns the configuration.
        rerank_top: Candidates a re-ranker orders anew; 0: none.
        trained_as: Row whose run this one only measures otherwise; empty: its own.
    """

    summary: str
    against: str
    make: Callable[[], PretrainConfig]
    rerank_top: int = 0
    trained_as: str = ""


def scaled_paper() -> PretrainConfig:
    """Return the paper's method with the sizes, clips' lengths and optimiser of `small`.

    Its own are the temperature of 1 without normalisation, retrieved batches and pooling, so that
    a difference to `small` is one of method.
    """
    run, method = small(), paper()
    model = replace(
        run.model,
        pooling=method.model.pooling,
        normalize=method.model.normalize,
        temperature=method.model.temperature,
        learn_temperature=method.model.learn_temperature,
    )
    size = run.plan.videos_per_batch
    plan = replace(method.plan, videos_per_batch=size, num_candidates=2 * size)
    plan = replace(plan, clips_per_vector=run.clips.clips_per_video)
    return replace(run, name="paper", model=model, plan=plan, loss=method.loss)


def _changed(make: Callable[[], PretrainConfig], **parts: dict[str, Any]) -> PretrainConfig:
    """Return a configuration with some fields of some of its parts changed."""
    run = make()
    changes = {name: replace(getattr(run, name), **values) for name, values in parts.items()}
    return replace(run, **changes)


def _paper(**parts: dict[str, Any]) -> Callable[[], PretrainConfig]:
    return lambda: _changed(scaled_paper, **parts)


def _small(**parts: dict[str, Any]) -> Callable[[], PretrainConfig]:
    return lambda: _changed(small, **parts)


SHUFFLED = {"kind": "shuffled"}

ROWS: dict[str, Row] = {
    "paper": Row("the paper: overlap and retrieved batches", "", scaled_paper),
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
        lambda: _changed(
            scaled_paper, plan={"num_candidates": scaled_paper().plan.videos_per_batch}
        ),
    ),
    "paper-start-vectors": Row(
        "a video's vector from its start", "paper", _paper(plan={"vector_strategy": "start"})
    ),
    "paper-cls": Row("[CLS] instead of the mean", "paper", _paper(model={"pooling": "cls"})),
    "small": Row("ours: cosine, learned temperature", "paper", small),
    "small-shuffled": Row("ours with shuffled batches", "small-mined", _small(plan=SHUFFLED)),
    "small-mined": Row("ours with mined batches", "small-shuffled", _small(plan={"kind": "mined"})),
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
