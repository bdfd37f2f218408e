"""What a library knows about one of its videos: score curve, window of a span."""

import numpy as np

from videoclip.library.catalog import IndexedVideo
from videoclip.library.search import Snapshot
from videoclip.types import FloatArray, RealArray


def score_curve(library: Snapshot, video: IndexedVideo, query: FloatArray) -> RealArray:
    """Return the strength of a query (E,) in each second of a video.

    It has the unit of `Moment.strength`, but a moment's strength is lower than the peak of the
    curve where several seconds of the video are below one.

    Returns:
        (T, 3) start and end in seconds, and strength, of the shortest windows in order of time.
    """
    calibration, num_seconds = library.calibration, library.num_seconds(video)
    rows = library.vectors.read(video.first_row, num_seconds)
    scores = rows @ calibration.prepare(query[None])[0]
    strengths = (scores - calibration.expected(query[None])[0]) / calibration.scale
    spans = library.seconds(video, library.window_features(video)[:num_seconds])
    return np.column_stack((spans, strengths))


def span_vector(library: Snapshot, video: IndexedVideo, start: float, end: float) -> FloatArray:
    """Return the embedding (1, E) of the window that is most like a span, by IoU."""
    nearest = library.nearest_window(video, start, end)
    row = library.vectors.read(video.first_row + nearest, 1)
    return row[:, : library.calibration.scenes.shape[1]]
