"""Examples with features, and annotated spans as rows of a feature store."""

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from videoclip.benchmarks.examples import ExampleT
from videoclip.data.feature_store import FeatureStore
from videoclip.errors import DataError
from videoclip.evaluation.metrics.frames import frame_span
from videoclip.evaluation.outcome import Missing
from videoclip.types import IntArray

ItemT = TypeVar("ItemT", bound=Hashable)


class Clip(NamedTuple):
    """Rows [first, last) of a video's features."""

    video_id: str
    first: int
    last: int


def with_features(
    examples: Iterable[ExampleT], store: FeatureStore
) -> tuple[list[ExampleT], list[Missing]]:
    """Return the examples whose video has features, and the videos without any.

    Raises:
        DataError: If there are no examples, or the store is of other videos.
    """
    present, missing = [], {}
    for example in examples:
        if example.video_id in store:
            present.append(example)
        else:
            missing[example.video_id] = Missing(example.video_id, "no features")
    if not (present or missing):
        raise DataError("the annotations are empty: name a file with examples")
    if not present:
        raise DataError(
            f"no features of any video of the benchmark, such as '{next(iter(missing))}': extract "
            "them first",
            store.folder,
        )
    return present, list(missing.values())


def find_clip(
    store: FeatureStore,
    video_id: str,
    start: float | None,
    end: float | None,
    clip_seconds: float = 0.0,
) -> Clip | None:
    """Return the rows of a span, or None if the features end before it begins.

    Args:
        store: It has the video.
        video_id: The video.
        start: Start of the span; None for that of the video.
        end: End of the span; None for that of the video.
        clip_seconds: Longest part, from the start, that is used; 0 for all of it.
    """
    rate, num_features = store.spec.features_per_second, store.num_features(video_id)
    first, last = frame_span(
        start or 0.0, num_features / rate if end is None else end, num_features, rate
    )
    if clip_seconds:
        last = min(last, first + max(1, round(clip_seconds * rate)))
    return Clip(video_id, first, last) if last > first else None


def unique(items: Sequence[ItemT]) -> tuple[list[ItemT], IntArray]:
    """Return each different item once, in their order, and (N,) the place of every item."""
    place = {item: i for i, item in enumerate(dict.fromkeys(items))}
    return list(place), np.array([place[item] for item in items])
