"""Dynamic time warping beside dtaidistance, on sequences of numbers."""

import numpy as np
import pytest

from videoclip.evaluation.metrics.sequences import paragraph_costs

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("levels", [3, 10**6])  # with and without equal distances
def test_dtw(peer, levels):
    dtw = peer("dtaidistance.dtw")
    rng = np.random.default_rng(0)
    num_sentences, num_clips = rng.integers(1, 9, size=6), rng.integers(1, 12, size=7)
    sentences, clips = (
        [rng.integers(levels, size=n) / levels for n in counts]
        for counts in (num_sentences, num_clips)
    )
    distances = np.abs(np.concatenate(sentences)[:, None] - np.concatenate(clips))
    ours = paragraph_costs(distances, num_sentences, num_clips)["DTW"]
    for i, a in enumerate(sentences):
        for j, b in enumerate(clips):
            theirs = dtw.distance(a, b, inner_dist="euclidean")
            assert ours[i, j] == pytest.approx(theirs, abs=1e-9)
