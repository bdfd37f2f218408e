"""Settings that were changed from their defaults although the run does not read them."""

from __future__ import annotations

from operator import attrgetter

from videoclip.config.finetuning import FinetuneConfig
from videoclip.config.training import PretrainConfig, RunConfig


def ignored_settings(config: RunConfig) -> list[str]:
    """Return a sentence for each setting that differs from its default and has no effect."""
    rules: list[tuple[bool, str, str]] = []  # (whether they are read, settings, when they are)
    if isinstance(config, PretrainConfig):
        kind, strategy = config.plan.kind, config.clips.strategy
        vectors, mil_nce = ("retrieval", "mined"), "clips.num_candidates clips.mil_nce_min_seconds "
        rules += [
            (kind == "mined", "plan.drop_nearest plan.max_similarity", "plan.kind 'mined'"),
            (kind == "retrieval", "plan.num_neighbours", "plan.kind 'retrieval'"),
            (
                kind in vectors,
                "plan.first_epoch plan.vector_strategy plan.clips_per_vector",
                "plan.kind 'retrieval' or 'mined'",
            ),
            (strategy == "overlapped", "clips.lead_seconds", "clips.strategy 'overlapped'"),
            (
                strategy == "mil_nce",
                mil_nce + "clips.mil_nce_clip_seconds",
                "clips.strategy 'mil_nce'",
            ),
            (config.train_backbone, "frames_at_once", "train_backbone"),
            (
                config.model.num_cross_layers > 0,
                "loss.num_hard_negatives loss.hard_similarity loss.reranking_temperature",
                "a re-ranker, model.num_cross_layers",
            ),
        ]
    if isinstance(config, FinetuneConfig):
        per_second = config.benchmark in ("crosstask", "coin")
        rules += [
            (per_second, "window_step", "benchmark 'crosstask' or 'coin'"),
            (config.benchmark == "coin", "head", "benchmark 'coin'"),
            (
                not per_second,
                "pairs_per_batch texts_per_clip clip_seconds chunk_pairs loss",
                "a benchmark of clips and texts",
            ),
        ]
    default = type(config)()
    return [
        f"{name} is ignored: it is for {use}"
        for is_read, names, use in rules
        for name in names.split()
        if not is_read and attrgetter(name)(config) != attrgetter(name)(default)
    ]
