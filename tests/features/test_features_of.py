"""The features of a video, put together from chunks."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from videoclip.features.extract import features_of


@given(st.lists(st.integers(0, 700), max_size=6))
def test_features_are_what_joining_the_chunks_gives(lengths):
    rng, counts = np.random.default_rng(0), []
    chunks = [rng.random((n, 3), dtype=np.float32) for n in lengths]
    backbone = SimpleNamespace(spec=SimpleNamespace(dim=3), features_for=lambda path: iter(chunks))
    joined = features_of(backbone, Path("v.mp4"), counts.append)
    np.testing.assert_array_equal(joined, np.concatenate([np.empty((0, 3), np.float32), *chunks]))
    assert joined.shape == (sum(lengths), 3)
    assert counts == lengths
    if chunks and len(joined):
        before = joined.copy()
        chunks[0][:] = -1
        np.testing.assert_array_equal(joined, before)  # what was given stays
