import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from videoclip.embedding import WindowConfig, window_spans
from videoclip.zeroshot.moments import (
    DIDEMO_CANDIDATES,
    FLAT,
    KEPT_SHARE,
    LONGER_WEIGHT,
    MARGIN_WINDOWS,
    MAX_REACH,
    MOMENTS_AT_ONCE,
    SMOOTHNESS,
    Windows,
    clock,
    merge_windows,
    rank_didemo_candidates,
    refine_moments,
    vote_weights,
)


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


def test_the_best_second_is_in_the_middle_of_the_best_stretch():
    # The first window alone has votes: all of its features are equally good.
    windows = Windows(np.array([[2, 8], [8, 12]]), np.array([1.0, 0.0]), np.array([1.0, 0.001]))
    assert merge_windows([windows])[0][0].best == 5.0
    # Where two overlap, the votes add up.
    both = Windows(np.array([[2, 8], [6, 12]]), np.array([1.0, 0.9]), np.array([1.0, 0.9]))
    best = merge_windows([both])[0][0]
    assert (best.start, best.end, best.best) == (2.0, 8.0, 7.0)


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


def test_candidates_are_chunks_then_pairs():
    assert len(DIDEMO_CANDIDATES) == 21
    assert DIDEMO_CANDIDATES[:6] == tuple((i, i) for i in range(6))
    assert DIDEMO_CANDIDATES[6:] == tuple(itertools.combinations(range(6), 2))


@pytest.mark.parametrize("num_valid", [1, 5, 6, 17, 25, 26, 30])
def test_ranking_is_the_sorted_means(num_valid):
    similarity = np.random.default_rng(num_valid).normal(size=num_valid)
    means = {}
    for i, (first, last) in enumerate(DIDEMO_CANDIDATES):
        seconds = [s for s in range(5 * first, 5 * last + 5) if s < num_valid]
        if 5 * first < num_valid:
            means[i] = sum(similarity[s] for s in seconds) / len(seconds)
    expected = sorted(means, key=lambda i: means[i], reverse=True)
    assert rank_didemo_candidates(similarity, num_valid).tolist() == expected


def test_padding_states_count_where_they_are_given():
    similarity = np.array([1.0] * 5 + [0.0] * 25)
    assert rank_didemo_candidates(similarity, 7)[0] == DIDEMO_CANDIDATES.index((0, 0))
    assert rank_didemo_candidates(similarity[:5], 5).tolist() == [0, *range(6, 11)]


def find_moments(truth):
    """Spans of the moments of a video whose features have the given similarities."""
    spans = window_spans(len(truth), 1.0)
    similarities = np.array([truth[a:b].mean() for a, b in spans.tolist()])
    windows = Windows(spans, similarities, vote_weights(similarities))
    refined = refine_moments([(windows, moment) for moment in merge_windows([windows])[0]])
    return [(moment.start, moment.end) for moment in refined]


def test_what_stands_out_is_found_first_to_the_feature():
    truth = np.zeros(50)
    truth[20:28] = 1.0
    truth[40:43] = 0.5
    assert find_moments(truth)[:2] == [(20, 28), (40, 43)]


def test_a_video_of_one_feature_is_its_own_moment():
    assert find_moments(np.array([0.3])) == [(0, 1)]


def naive_estimated(windows, moment):
    """The same rule: least squares as one system of equations, every span tried."""
    spans, similarities = windows.spans.tolist(), windows.similarities
    seed = spans[moment.window]
    margin = MARGIN_WINDOWS * min(b - a for a, b in spans)
    first = max(0, int(min(moment.start, seed[0])) - margin)
    last = min(max(b for _, b in spans), int(max(moment.end, seed[1])) + margin)
    rows, values = [], []
    for (a, b), similarity in zip(spans, similarities, strict=True):
        if first <= a and b <= last:
            rows.append([1 / (b - a) if a <= t < b else 0 for t in range(first, last)])
            values.append(similarity - similarities.mean())
    for t in range(last - first):
        for step in (1, 0):
            row = [0.0] * (last - first)
            row[t] = SMOOTHNESS**0.5 if step else 1e-3
            if step and t + 1 < len(row):
                row[t + 1] = -row[t]
            if not step or t + 1 < len(row):
                rows.append(row)
                values.append(0.0)
    estimates = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    best = min(int(moment.best), last - 1)
    shift = max(1, min(b - a for a, b in spans) // 2)
    worth = {
        (a, b): estimates[a - first : b - first].sum() / (b - a) ** 0.5
        for a in range(first, best + 1)
        for b in range(best + 1, last + 1)
        if moment.start - a <= shift and b - moment.end <= shift
    }
    return max(worth.values()), worth


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_moments_without_single_seconds_equal_the_naive_twin(num_features, seed):
    spans = window_spans(num_features, 1.0, WindowConfig(lengths=(4.0, 8.0, 16.0, 32.0)))
    similarities = np.random.default_rng(seed).normal(size=len(spans))
    windows = Windows(spans, similarities, vote_weights(similarities))
    for moment in merge_windows([windows])[0][:3]:
        (refined,) = refine_moments([(windows, moment)])
        best, worth = naive_estimated(windows, moment)
        if best < FLAT:
            assert refined == moment
        else:
            assert worth[int(refined.start), int(refined.end)] == pytest.approx(best, abs=1e-6)
        assert 0 <= refined.start <= moment.best <= refined.end <= num_features


def naive_refine(spans, similarities, moment):
    """The worth of every span that may be the refined moment, and the best second."""
    rows = list(zip(spans, similarities, strict=True))
    shortest, *longer = sorted({b - a for a, b in spans})
    starts = [a for (a, b), _ in rows if b - a == shortest]
    borders = [*starts, max(b for _, b in spans)]
    seconds = list(itertools.pairwise(borders))
    values = [s for (a, b), s in rows if b - a == shortest]
    for i, (start, _) in enumerate(seconds):
        # A window is around a second if it reaches into it and does not begin in its middle.
        around = [s for (a, b), s in rows if [b - a] == longer[:1] and a <= start < b]
        values[i] += LONGER_WEIGHT * (sum(around) / len(around) if around else 0)
    features = [v for (a, b), v in zip(seconds, values, strict=True) for _ in range(a, b)]
    mean = sum(features) / len(features)
    inside = [i for i, (a, b) in enumerate(seconds) if b > moment.start and a < moment.end]
    best = max(inside, key=lambda i: values[i])
    worth = {
        (borders[i], borders[j]): sum(v - mean for v in features[borders[i] : borders[j]])
        / (borders[j] - borders[i]) ** 0.5
        for i in range(inside[0], best + 1)
        for j in range(best + 1, inside[-1] + 2)
    }
    return worth, (borders[best] + borders[best + 1]) / 2


@given(
    num_seconds=st.integers(1, 40),
    more=st.integers(0, 3),
    rate=st.sampled_from([0.5, 1.0, 2.0, 3.7]),
    lengths=st.sampled_from([(1.0, 4.0, 8.0), (1.0,), (0.5, 3.0)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_refined_moments_equal_the_naive_twin(num_seconds, more, rate, lengths, seed):
    spans = window_spans(round(num_seconds * rate) + more + 1, rate, WindowConfig(lengths=lengths))
    assume(len(spans) == 1 or spans[1, 0] >= spans[0, 1])  # two seconds may overlap
    similarities = np.random.default_rng(seed).normal(size=len(spans))
    windows = Windows(spans, similarities, vote_weights(similarities))
    for moment in merge_windows([windows])[0][:3]:
        (refined,) = refine_moments([(windows, moment)])
        worth, best = naive_refine(spans.tolist(), similarities.tolist(), moment)
        if max(worth.values()) < FLAT:
            assert (refined.start, refined.end) == (moment.start, moment.end)
        else:
            found = worth[int(refined.start), int(refined.end)]
            assert found == pytest.approx(max(worth.values()), abs=1e-9)
        assert refined.best == best
        assert 0 <= refined.start < refined.best < refined.end <= spans.max()


def test_moments_of_many_queries_are_refined_as_each_by_itself():
    rng = np.random.default_rng(0)
    found = []
    for number in range(MOMENTS_AT_ONCE + 9):
        lengths = (4.0, 8.0) if number % 7 == 0 else (1.0, 4.0, 8.0)
        spans = window_spans(40 + number % 3, 1.0, WindowConfig(lengths=lengths))
        similarities = rng.normal(size=len(spans)).astype(np.float32)
        windows = Windows(spans, similarities, vote_weights(similarities))
        found += [(windows, moment) for moment in merge_windows([windows])[0][:4]]
    assert refine_moments(found) == [refine_moments([pair])[0] for pair in found]
    assert refine_moments([]) == []


def test_a_video_in_which_nothing_stands_out_is_one_moment():
    assert find_moments(np.full(9, 0.25)) == [(0, 9)]


@given(st.integers(0, 30), st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_moments_shift_with_what_is_shown(shift, length, rate, seed):
    """A later event is the same moment later, at any number of features a second."""
    noise = np.random.default_rng(seed).normal(size=90, scale=0.01)

    def find(start, rate):
        truth = np.zeros(90)
        truth[start : start + length] = 1.0
        truth = np.repeat(truth + np.roll(noise, start), rate)
        spans = window_spans(len(truth), float(rate), WindowConfig(lengths=(1.0, 2.0)))
        similarities = np.array([truth[a:b].mean() for a, b in spans.tolist()])
        windows = Windows(spans, similarities, vote_weights(similarities))
        (moment,) = refine_moments([(windows, merge_windows([windows])[0][0])])
        return moment.start / rate, moment.end / rate, moment.best / rate

    start, end, best = find(20, 1)
    assert (start, end) == (20, 20 + length)
    assert find(20 + shift, rate) == (start + shift, end + shift, best + shift)


def test_the_reach_of_a_border_is_limited():
    """A video in which nothing stands out for hours is no system of equations for hours."""
    truth = np.ones(3000)
    truth[1500] = 1.001
    (start, end), *_ = find_moments(truth)
    assert end - start <= 2 * MAX_REACH


@given(st.floats(0, 40_000))
def test_a_clock_shows_the_nearest_tenth_of_a_second(seconds):
    shown = clock(seconds)
    *hours, minutes, rest = shown.split(":")
    total = (int(hours[0]) if hours else 0) * 3600 + int(minutes) * 60 + float(rest)
    assert abs(total - seconds) <= 0.05 + 1e-9
    assert float(rest) < 60 and len(rest) == 4
    assert int(minutes) < 60 and bool(hours) == (total >= 3600)
    assert not hours or len(minutes) == 2


@pytest.mark.parametrize(
    "seconds, shown",
    [(-1, "0:00.0"), (9.96, "0:10.0"), (59.96, "1:00.0"), (3599.96, "1:00:00.0"), (61, "1:01.0")],
)
def test_a_clock_carries_to_minutes_and_hours(seconds, shown):
    assert clock(seconds) == shown
