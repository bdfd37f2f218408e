"""Looking twice at the best moments, with a model that has a re-ranker."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from videoclip.data.feature_store import FeatureStore
from videoclip.embedding import Embedder
from videoclip.errors import DataError
from videoclip.library.catalog import Catalog
from videoclip.zeroshot.rerank import PairScorer
from videoclip.zeroshot.results import Moment

__all__ = ["look_again", "read_moment"]


def look_again(
    moments: Sequence[Moment],
    query: str,
    embedder: Embedder,
    features: Sequence[NDArray[np.floating]],
) -> list[Moment]:
    """Put moments into the order of the model's re-ranker.

    Args:
        moments: Best first, as the towers found them.
        query: What was searched for, in words.
        embedder: Its model has a re-ranker.
        features: (T, D) of each moment.

    Raises:
        ConfigError: If the model has no re-ranker.
    """
    scorer = PairScorer(embedder, [query], features)
    if not moments:
        return []
    places = torch.arange(len(moments))
    towers = torch.tensor([moment.similarity for moment in moments])
    scores = scorer(torch.zeros_like(places), places, towers)
    return [moments[i] for i in scores.argsort(descending=True, stable=True).tolist()]


def read_moment(folder: Path, catalog: Catalog, moment: Moment) -> NDArray[np.float16]:
    """Read the features (T, D) of a moment from those a library keeps.

    Raises:
        DataError: If it keeps none of that video, since they were handed to it.
    """
    video = catalog.find(str(moment.path))
    for kept in sorted(folder.glob("features-*")):
        with FeatureStore.open(kept) as store:
            if video is not None and video.content_hash in store:
                rate = store.spec.features_per_second
                first = min(math.floor(moment.start * rate), video.num_features - 1)
                last = max(first + 1, math.ceil(moment.end * rate))
                return store.read(video.content_hash, first, min(last, video.num_features))
    raise DataError("the library keeps no features to look at again: index it anew", moment.path)
