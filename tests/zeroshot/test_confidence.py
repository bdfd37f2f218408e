import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from videoclip.errors import ConfigError, DataError
from videoclip.library.labels import LabelledQuery, fit_library, read_labels
from videoclip.zeroshot.confidence import (
    COMMON_THINGS,
    MIN_QUERIES,
    UNRELATED_QUERIES,
    Calibration,
    LibraryCalibration,
    Thresholds,
    combine,
    fit_thresholds,
    hub_biases,
    hub_biases_without,
    mean_of_best,
    median_and_scale,
    products,
)


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def measured(bank, windows):
    return Calibration(bank).fit(windows)


def of_library(scenes, things, sentences, owners, videos, *, has_biases=True):
    """Fit to the windows of videos, by their keys."""
    bare = LibraryCalibration(scenes, things, sentences, np.array(owners, np.int64), has_biases)
    rows = {
        key: np.concatenate((w, 8 * hub_biases(w, scenes)[:, None]), axis=1) if has_biases else w
        for key, w in videos.items()
    }
    said = np.zeros((0, scenes.shape[1]), np.float32)
    return bare.fit([bare.best_scores(row, len(row), said, key) for key, row in rows.items()])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_match_stands_out_and_an_unrelated_query_does_not(rng):
    windows, bank = unit(rng.normal(size=(500, 64))), unit(rng.normal(size=(48, 64)))
    calibration = measured(bank, windows)

    def best_strength(query):
        z_scores = calibration.z_scores(windows, windows @ query)
        return calibration.strength(float(z_scores.max()))

    others = [best_strength(query) for query in unit(rng.normal(size=(200, 64)))]
    assert abs(np.median(others)) < 0.5
    match = unit(windows[7] + 0.1 * rng.normal(size=64))
    assert best_strength(match) > max(others) + 2


def test_windows_that_resemble_everything_do_not_win(rng):
    windows, bank = unit(rng.normal(size=(100, 64))), unit(rng.normal(size=(48, 64)) + 0.5)
    windows[3] = unit(np.ones(64))  # as similar to all queries of this bank as can be
    calibration = measured(bank, windows)
    query = unit(rng.normal(size=64) + 0.5)
    similarities = windows @ query
    assert similarities.argmax() == 3
    assert calibration.z_scores(windows, similarities)[3] < 2


def test_a_bank_query_is_measured_against_the_others(rng):
    windows, bank = unit(rng.normal(size=(30, 8))), unit(rng.normal(size=(9, 8)))
    heights = []
    for i, query in enumerate(bank):
        others = np.delete(bank, i, axis=0) @ windows.T
        heights.append(((query @ windows.T - others.mean(0)) / others.std(0)).max())
    assert measured(bank, windows).median == pytest.approx(np.median(heights), rel=1e-4)


def naive_score(query, windows, scenes):
    """Mean of the best third of the windows, each less half the mean of its nearest scenes."""
    biases = [np.sort(scenes @ window)[-5:].mean() / 2 for window in windows]
    corrected = np.sort(windows @ query - np.array(biases))
    return corrected[-int(np.ceil(len(windows) / 3)) :].mean()


def naive_traits(query, things):
    similarities = [float(thing @ query) for thing in things]
    return np.array([np.mean(sorted(similarities)[-3:]), np.std(similarities)])


def naive_slopes(x, y):
    """Least squares; with a negative slope, the better of both traits alone."""
    ones = np.ones((len(x), 1))
    both = np.linalg.lstsq(np.hstack((ones, x)), y, rcond=None)[0][1:]
    if min(both) >= 0:
        return both
    tried = []
    for column in (0, 1):
        slope = max(0.0, np.polyfit(x[:, column], y, 1)[0])
        rest = y - slope * x[:, column]
        tried.append((np.var(rest), slope * np.eye(2)[column]))
    return min(tried, key=lambda pair: pair[0])[1]


def test_levels_of_a_library_equal_the_formula(rng):
    first, second = unit(rng.normal(size=(20, 8))), unit(rng.normal(size=(9, 8)))
    scenes, things = unit(rng.normal(size=(9, 8))), unit(rng.normal(size=(33, 8)))
    sentences, owners = unit(rng.normal(size=(5, 8))), [1, 1, 2, 2, 2]
    videos = {1: first, 2: second}
    calibration = of_library(scenes, things, sentences, owners, videos)

    def best(query, keys, scenes=scenes):
        return max(naive_score(query, videos[key], scenes) for key in keys)

    of_things = [
        naive_traits(thing, np.delete(things, i, axis=0)) for i, thing in enumerate(things)
    ]
    reached = np.array([best(thing, (1, 2)) for thing in things])
    slopes = naive_slopes(np.array(of_things), reached)
    assert calibration.frames.slopes == pytest.approx(slopes, rel=1e-3, abs=1e-5)

    kinds = [
        [
            best(query, (1, 2), np.delete(scenes, i, axis=0)) - slopes @ naive_traits(query, things)
            for i, query in enumerate(scenes)
        ],
        [
            best(query, {1, 2} - {owner}) - slopes @ naive_traits(query, things)
            for query, owner in zip(sentences, owners, strict=True)
        ],
    ]
    levels = [(np.median(k), 1.4826 * np.median(np.abs(k - np.median(k)))) for k in kinds]
    rest = [best(thing, (1, 2)) for thing in things] - of_things @ slopes
    wanted = max(levels, key=sum)[0], 1.4826 * np.median(np.abs(rest - np.median(rest)))
    _, median, scale = calibration.frames
    assert (median, scale) == pytest.approx(wanted, rel=1e-3, abs=1e-5)
    query = unit(rng.normal(size=8))
    expected = wanted[0] + slopes @ naive_traits(query, things)
    found = calibration.frames.expected(calibration.traits_of(query[None]))
    assert found == pytest.approx([expected], rel=1e-3, abs=1e-5)
    assert calibration.narration == ((0, 0), 0, 1)  # there is none


def test_levels_of_the_narration_are_of_the_best_passages_of_other_videos(rng):
    scenes, things = unit(rng.normal(size=(9, 8))), unit(rng.normal(size=(33, 8)))
    sentences, owners = unit(rng.normal(size=(5, 8))), np.array([1, 1, 2, 2, 2])
    passages = {1: unit(rng.normal(size=(4, 8))), 2: unit(rng.normal(size=(3, 8))), 3: scenes[:0]}
    bare = LibraryCalibration(scenes, things, sentences, owners, has_biases=False)
    frames = unit(rng.normal(size=(6, 8)))
    scores = [bare.best_scores(frames, 6, said, key) for key, said in passages.items()]
    fitted = bare.fit(scores)
    assert fitted.frames == bare.fit([bare.best_scores(frames, 6, scenes[:0], 3)] * 2).frames

    slopes, median, scale = fitted.narration
    rest = [
        max(float(query @ passage) for key in keys for passage in passages[key])
        - slopes @ naive_traits(query, things)
        for query, keys in [
            *((scene, (1, 2)) for scene in scenes),
            *((sentence, {1, 2} - {owner}) for sentence, owner in zip(sentences, owners)),
        ]
    ]
    kinds = np.split(np.array(rest), [len(scenes)])
    levels = [(np.median(k), 1.4826 * np.median(np.abs(k - np.median(k)))) for k in kinds]
    assert (median, scale) == pytest.approx(max(levels, key=sum), rel=1e-3, abs=1e-5)


def test_prepared_queries_subtract_the_biases_that_are_stored(rng):
    windows, scenes = unit(rng.normal(size=(7, 8))), unit(rng.normal(size=(9, 8)))
    none = np.zeros((0, 8), np.float32)
    query = unit(rng.normal(size=(2, 8)))
    calibration = of_library(scenes, scenes, none, [], {})
    rows = np.concatenate((windows, 8 * hub_biases(windows, scenes)[:, None]), axis=1)
    expected = query @ windows.T - hub_biases(windows, scenes)
    assert np.allclose(calibration.prepare(query) @ rows.T, expected, atol=1e-6)
    earlier = of_library(scenes, scenes, none, [], {}, has_biases=False)
    assert np.array_equal(earlier.prepare(query), query)


def test_an_empty_library_has_no_calibration(rng):
    scenes = unit(rng.normal(size=(9, 8)))
    calibration = of_library(scenes, scenes, np.zeros((0, 8), np.float32), [], {})
    assert calibration.frames == calibration.narration == ((0.0, 0.0), 0.0, 1.0)


def test_the_sentences_of_a_single_video_tell_nothing(rng):
    windows, scenes = unit(rng.normal(size=(20, 8))), unit(rng.normal(size=(6, 8)))
    sentences, none = unit(rng.normal(size=(5, 8))), np.zeros((0, 8), np.float32)
    alone = of_library(scenes, scenes, sentences, [1] * 5, {1: windows})
    silent = of_library(scenes, scenes, none, [], {1: windows})
    assert alone.frames == silent.frames


def test_a_library_takes_unrelated_queries_from_its_own_narration(library, videos, tmp_path):
    library.update(videos)
    calibration = library._snapshot().calibration
    spoken = calibration.owners
    assert len(calibration.sentences) == len(spoken) > 0
    assert len(calibration.scenes) == len(UNRELATED_QUERIES)
    narrated = {video.id for video in library.videos("narration is not null")}
    assert set(spoken.tolist()) <= narrated
    (videos / "b.en.vtt").unlink()
    report = library.update(videos)
    assert len(report.narrated) == 1 and not report.changed
    calibration = library._snapshot().calibration
    assert len(calibration.sentences) == 0  # nothing is spoken any more


def test_levels():
    levels = [Thresholds(0.0, 1.0, 2.0).level(s) for s in (-0.1, 0.0, 1.0, 1.9, 2.0, 9.0)]
    assert levels == ["none", "low", "medium", "medium", "high", "high"]
    with pytest.raises(ConfigError, match="rise"):
        Thresholds(2.0, 1.0, 3.0)


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=30))
def test_fitted_thresholds_equal_trying_all(answers):
    strengths = np.array([s for s, _ in answers], dtype=float)
    right = np.array([r for _, r in answers])
    if right.all() or not right.any():
        with pytest.raises(DataError, match="right and wrong"):
            fit_thresholds(strengths, right)
        return
    found = fit_thresholds(strengths, right)

    def balance(low):
        return (strengths[right] >= low).mean() - (strengths[~right] >= low).mean()

    assert balance(found.low) == pytest.approx(max(balance(low) for low in strengths))
    for level, wanted in ((found.medium, 0.6), (found.high, 0.9)):
        above = right[strengths >= level]
        assert len(above) == 0 or above.mean() >= wanted or level == max(found.low, found.medium)
    assert found.low <= found.medium <= found.high

    def least(wanted):
        enough = [low for low in strengths if right[strengths >= low].mean() >= wanted]
        return min(enough, default=np.nextafter(strengths.max(), np.inf))

    assert found.medium == max(found.low, least(0.6))
    assert found.high == max(found.medium, least(0.9))


def test_the_bank_has_no_repeats():
    assert len(set(UNRELATED_QUERIES)) == len(UNRELATED_QUERIES) >= 40
    assert len(set(COMMON_THINGS)) == len(COMMON_THINGS) >= 500


def test_a_library_is_fitted_to_labelled_queries(library, videos, tmp_path):
    library.update(videos)
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "query,video,start,end\nred,a.mp4,0,10\nblue,a,10,22\nyellow,b.mp4,,\nwhite,sub/c d.mp4,,\n"
        "a zebra,,,\na castle,,,\na green car race,b.mp4,,\nan aeroplane,,,\n"
    )
    report = fit_library(library, read_labels(labels))
    assert (report.num_correct, report.num_incorrect) == (4, 4)
    assert report.miss_rate == 0.0 and report.false_alarm_rate <= 0.5
    assert library.thresholds == report.thresholds
    assert library.search("red", 1)[0].confidence in ("medium", "high")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("query\nx\n", r":1: no column 'video'"),
        ("query,video,start\nx,a,soon\n", r":2: 'start' must be a number, got 'soon'"),
        ("query,video\n,a\n", r":2: 'query' is blank"),
    ],
)
def test_mistakes_in_labels_name_the_line(tmp_path, content, message):
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_labels(tmp_path / "labels.csv")
    with pytest.raises(DataError, match="no such file"):
        read_labels(tmp_path / "absent.csv")


def test_what_counts_as_right():
    class Found:
        path, start, end = "/v/sub/a.mp4", 10.0, 20.0

    accepted = [LabelledQuery("q", name).accepts(Found) for name in ("a", "a.mp4", "sub/a.mp4")]
    assert accepted == [True] * 3
    refused = [LabelledQuery("q", name).accepts(Found) for name in ("", "b", "x/a.mp4")]
    assert refused == [False] * 3
    assert not LabelledQuery("q", "a", 20.0, 30.0).accepts(Found)


def test_the_scale_is_the_spread_of_the_best_z_scores_but_never_tiny():
    assert median_and_scale(np.full(5, 2.0, np.float32), 0.25) == (2.0, 0.25)
    median, scale = median_and_scale(np.array([0, 1, 2, 3, 4], np.float32), 0.25)
    assert (median, scale) == (2.0, pytest.approx(1.4826))
    spread = Calibration(np.eye(5, dtype=np.float32), median, scale)
    assert spread.strength(2.0 + 1.4826) == pytest.approx(1.0)


def test_so_few_queries_are_enough_to_fit():
    none, things = np.zeros((0, 3), np.float32), np.zeros((5, 3), np.float32)
    for number, expected in ((MIN_QUERIES, 2.0), (MIN_QUERIES - 1, 0.0)):
        scenes, owners = np.zeros((number, 3), np.float32), np.zeros(0, np.int64)
        calibration = LibraryCalibration(scenes, things, none, owners)
        fitted = calibration.fit([np.full((2, len(calibration.queries)), 2.0, np.float32)])
        assert fitted.frames.median == fitted.narration.median == expected


STRENGTHS = st.floats(-20, 20) | st.just(-np.inf)


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(2, 9), st.integers(1, 6)),
        elements=st.floats(-1, 1, width=32),
    )
)
def test_biases_equal_half_the_mean_of_the_nearest(unrelated):
    windows = np.random.default_rng(0).normal(size=(4, unrelated.shape[1])).astype(np.float32)
    for w, window in enumerate(windows):
        similarities = [float(query @ window) for query in unrelated]
        expected = np.mean(sorted(similarities)[-5:]) / 2
        assert hub_biases(windows, unrelated)[w] == pytest.approx(expected, abs=1e-4)
        for i in range(len(unrelated)):
            others = sorted(similarities[:i] + similarities[i + 1 :])
            found = hub_biases_without(windows, unrelated)[i, w]
            assert found == pytest.approx(np.mean(others[-5:]) / 2, abs=1e-4)


@pytest.mark.parametrize(("length", "num"), [(1, 1), (3, 1), (4, 2), (10, 4), (24, 8), (500, 8)])
def test_the_best_third_of_the_seconds_is_averaged_but_at_most_eight(length, num):
    similarities = np.random.default_rng(length).normal(size=(2, length))
    expected = [np.mean(sorted(row)[-num:]) for row in similarities]
    assert mean_of_best(similarities) == pytest.approx(expected)


@given(STRENGTHS, STRENGTHS, STRENGTHS, st.floats(0.01, 4), st.floats(0.01, 4))
def test_more_evidence_never_lowers_the_strength(seen, said, more, vision, speech):
    strength = combine(seen, said, vision, speech)
    assert combine(max(seen, more), said, vision, speech) >= strength
    assert combine(seen, max(said, more), vision, speech) >= strength
    assert strength >= max(seen + np.log(vision / max(vision, speech)), -np.inf)


@given(STRENGTHS)
def test_missing_or_ignored_evidence_changes_nothing(strength):
    assert combine(strength, -np.inf) == combine(-np.inf, strength) == strength
    assert combine(strength, 9.0, speech=0.0) == combine(9.0, strength, vision=0.0) == strength


def test_equal_weights_are_the_default_and_a_smaller_one_counts_less():
    assert combine(1.0, 2.0) == pytest.approx(np.log(np.e + np.e**2))
    assert combine(1.0, 2.0, 3.0, 3.0) == combine(1.0, 2.0)
    assert combine(1.0, 2.0, 1.0, 0.5) == pytest.approx(np.log(np.e + np.e**2 / 2))


def test_products_are_those_in_double_precision():
    rng = np.random.default_rng(0)
    for num_queries, num_rows, dim in [(1, 1, 1), (1, 50, 385), (7, 3, 33), (0, 4, 5), (3, 0, 5)]:
        queries = rng.normal(size=(num_queries, dim)).astype(np.float32)
        rows = rng.normal(size=(num_rows, dim)).astype(np.float32)
        found = products(queries, rows)
        assert found.shape == (num_queries, num_rows) and found.dtype == np.float32
        expected = queries.astype(np.float64) @ rows.astype(np.float64).T
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_product_does_not_depend_on_the_other_queries():
    rng = np.random.default_rng(1)
    queries = rng.normal(size=(40, 385)).astype(np.float32)
    rows = rng.normal(size=(100, 385)).astype(np.float32)
    every = products(queries, rows)
    alone = np.concatenate([products(query[None], rows) for query in queries])
    np.testing.assert_array_equal(every, alone)
