import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from videoclip.zeroshot.moments import KEPT_SHARE, Windows, merge_windows
from videoclip.zeroshot.windows import window_spans


def naive_merge(spans, similarities, weights):
    """The same rule on a grid of half seconds, written out."""
    left = sorted(range(len(spans)), key=lambda i: -similarities[i])
    moments = []
    while left:
        seed = left[0]
        grid = np.zeros(2 * int(max(end for _, end in spans)))
        covered = np.zeros(len(grid), dtype=bool)
        for i in left:
            cells = slice(int(2 * spans[i][0]), int(2 * spans[i][1]))
            grid[cells] += weights[i]
            covered[cells] = True
        cells = range(int(2 * spans[seed][0]), int(2 * spans[seed][1]))
        peak = max(cells, key=lambda cell: (round(grid[cell], 9), -cell))
        first = last = peak
        least = KEPT_SHARE * grid[peak] - 1e-9
        borders = {int(2 * t) for i in left for t in spans[i]}
        inside = range(min(borders), max(borders))
        while first - 1 in inside and grid[first - 1] >= least:
            first -= 1
        while last + 1 in inside and grid[last + 1] >= least:
            last += 1
        start, end = first / 2, (last + 1) / 2
        moments.append((start, end, similarities[seed]))
        rest = []
        for i in left[1:]:
            shared = min(spans[i][1], end) - max(spans[i][0], start)
            if shared < 0.5 * min(spans[i][1] - spans[i][0], end - start):
                rest.append(i)
        left = rest
    return moments


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from([4, 8, 16]), st.integers(1, 64)),
        min_size=1,
        max_size=25,
    )
)
def test_equals_the_naive_twin(hits):
    spans = np.array([(start, start + length) for start, length, _ in hits])
    # Weights of eighths add up exactly, so that both see the same ties.
    weights = np.array([weight for *_, weight in hits]) / 8
    similarities = weights + 0.001 * np.arange(len(hits))
    found = [
        (m.start, m.end, m.similarity)
        for m in merge_windows([Windows(spans, similarities, weights)])[0]
    ]
    assert found == naive_merge(spans.tolist(), similarities.tolist(), weights.tolist())


def test_an_event_between_window_borders_is_found_closely():
    spans = window_spans(120, 1.0)
    inside = np.minimum(spans[:, 1], 57) - np.maximum(spans[:, 0], 41)
    similarities = np.maximum(inside, 0) / (spans[:, 1] - spans[:, 0])
    best = merge_windows([Windows(spans, similarities, np.maximum(similarities, 0.001))])[0][0]
    assert 38 <= best.start <= 42 and 56 <= best.end <= 60
    assert 41 <= best.best < 57


def test_two_events_stay_two():
    spans = window_spans(100, 1.0)
    truth = np.zeros(100)
    truth[10:18], truth[60:80] = 1.0, 0.8
    similarities = np.array([truth[int(a) : int(b)].mean() for a, b in spans])
    first, second = merge_windows([Windows(spans, similarities, similarities + 0.001)])[0][:2]
    assert first.start < 18 and first.end > 10 and first.similarity > second.similarity
    assert second.start < 80 and second.end > 60
    assert first.end <= second.start


@given(st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_moments_are_ordered_inside_the_video_and_hold_their_best_second(num_seconds, seed):
    spans = window_spans(num_seconds, 1.0)
    similarities = np.random.default_rng(seed).normal(size=len(spans))
    moments = merge_windows([Windows(spans, similarities, np.maximum(similarities, 0.001))])[0]
    values = [m.similarity for m in moments]
    assert values == sorted(values, reverse=True)
    assert all(0 <= m.start <= m.best <= m.end <= num_seconds for m in moments)
    assert all(m.start < m.end for m in moments)
    assert len({m.window for m in moments}) == len(moments)


def test_moments_below_the_least_similarity_are_left_out():
    spans = window_spans(60, 1.0)
    similarities = np.random.default_rng(1).normal(size=len(spans))
    everything = merge_windows([Windows(spans, similarities, np.maximum(similarities, 0.001))])[0]
    some = merge_windows(
        [Windows(spans, similarities, np.maximum(similarities, 0.001), min_similarity=1.0)]
    )[0]
    assert some == [moment for moment in everything if moment.similarity >= 1.0]


@given(st.lists(st.integers(1, 90), max_size=6), st.integers(0, 2**32 - 1))
def test_videos_are_merged_side_by_side_as_each_alone(lengths, seed):
    rng = np.random.default_rng(seed)
    hits = []
    for length in lengths:
        spans = window_spans(length, 1.0)
        similarities = rng.integers(0, 64, len(spans)) / 8  # of eighths: sums are exact, some equal
        hits.append(
            Windows(spans, similarities, similarities + 1, min_similarity=float(rng.integers(0, 8)))
        )
    assert merge_windows(hits) == [merge_windows([one])[0] for one in hits]
