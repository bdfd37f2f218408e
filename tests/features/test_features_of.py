"""The features of a video, put together from chunks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from videoclip.features.extract import FeatureBuffer


@given(st.lists(st.integers(0, 700), max_size=6))
def test_the_buffer_holds_what_joining_the_chunks_gives(lengths):
    rng, buffer = np.random.default_rng(0), FeatureBuffer(3)
    chunks = [rng.random((n, 3), dtype=np.float32) for n in lengths]
    for i, chunk in enumerate(chunks, start=1):
        buffer.append(chunk)
        joined = buffer.features()
        np.testing.assert_array_equal(joined, np.concatenate(chunks[:i]))
    assert buffer.features().shape == (sum(lengths), 3)
    buffer.append(np.ones((1, 3), np.float32))
    if chunks:
        np.testing.assert_array_equal(joined, np.concatenate(chunks))  # what was given stays
