import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoclip.errors import ConfigError
from videoclip.zeroshot.windows import WindowConfig, window_spans


def test_windows_of_ten_seconds():
    spans = window_spans(10, 1.0, WindowConfig(lengths=(4.0, 8.0, 16.0)))
    expected = [(0, 4), (2, 6), (4, 8), (6, 10), (0, 8), (2, 10), (0, 10)]
    assert spans.tolist() == [list(span) for span in expected]


@given(
    num_features=st.integers(1, 300),
    rate=st.sampled_from([0.5, 1.0, 2.0, 3.7]),
    lengths=st.lists(st.floats(0.3, 64), min_size=1, max_size=5).map(sorted),
)
def test_every_length_covers_everything_half_overlapping(num_features, rate, lengths):
    spans = window_spans(num_features, rate, WindowConfig(lengths=tuple(lengths)))
    assert len(np.unique(spans, axis=0)) == len(spans)
    assert spans.min() == 0 and spans.max() == num_features
    assert (spans[:, 0] < spans[:, 1]).all()
    for length in np.unique(spans[:, 1] - spans[:, 0]):
        same = spans[spans[:, 1] - spans[:, 0] == length]
        covered = {t for start, stop in same for t in range(start, stop)}
        assert covered == set(range(num_features))
        assert (np.diff(same[:, 0]) <= max(1, length // 2)).all()


def test_a_second_is_one_window():
    assert window_spans(1, 1.0).tolist() == [[0, 1]]


@pytest.mark.parametrize("lengths", [(), (8.0, 4.0), (0.0, 4.0)])
def test_lengths_must_make_sense(lengths):
    with pytest.raises(ConfigError, match="ascending"):
        WindowConfig(lengths=lengths)
