import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoclip.errors import ConfigError, DataError
from videoclip.library.labels import LabelledQuery, fit_library, read_labels
from videoclip.zeroshot.confidence import (
    MIN_QUERIES,
    NO_VIDEO,
    UNRELATED_QUERIES,
    Calibration,
    Thresholds,
    fit_thresholds,
    next_level,
)


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def fit(calibration, chunks):
    """Fit to chunks of vectors, each with the key of its video."""
    return calibration.fit([calibration.best_z_scores(chunk, owner) for owner, chunk in chunks])


def measured(bank, chunks):
    return fit(Calibration.of_scenes(bank), [(NO_VIDEO, chunk) for chunk in chunks])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_match_stands_out_and_an_unrelated_query_does_not(rng):
    windows, bank = unit(rng.normal(size=(500, 64))), unit(rng.normal(size=(48, 64)))
    calibration = measured(bank, [windows[:100], windows[100:]])

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
    calibration = measured(bank, [windows])
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
    assert measured(bank, [windows]).median == pytest.approx(np.median(heights), rel=1e-4)


def test_chunks_do_not_matter_and_an_empty_library_has_no_calibration(rng):
    windows, bank = unit(rng.normal(size=(50, 8))), unit(rng.normal(size=(9, 8)))
    whole, pieces = measured(bank, [windows]), measured(bank, windows[:, None])
    assert whole.median == pytest.approx(pieces.median)
    assert (measured(bank, []).median, measured(bank, []).scale) == (0.0, 1.0)


def test_a_sentence_is_related_to_the_video_that_speaks_it(rng):
    first, second = unit(rng.normal(size=(20, 8))), unit(rng.normal(size=(30, 8)))
    bank, owners = unit(rng.normal(size=(9, 8))), np.array([NO_VIDEO] * 5 + [1, 1, 2, 2])
    calibration = fit(Calibration(bank, owners), [(1, first), (2, second)])

    def best(i):
        heights = []
        for owner, windows in ((1, first), (2, second)):
            if owners[i] != owner:
                others = [j for j in range(9) if j != i and owners[j] != owner]
                others = bank[others] @ windows.T
                heights.append(((bank[i] @ windows.T - others.mean(0)) / others.std(0)).max())
        return max(heights)

    kinds = [[best(i) for i in range(5)], [best(i) for i in range(5, 9)]]
    levels = [
        (np.median(k), max(1.4826 * np.median(np.abs(k - np.median(k))), 0.25)) for k in kinds
    ]
    assert (calibration.median, calibration.scale) == pytest.approx(max(levels, key=sum), rel=1e-4)
    others = bank[owners != 2] @ second.T
    similarities = second @ bank[0]
    expected = (similarities - others.mean(0)) / others.std(0)
    assert np.allclose(calibration.z_scores(second, similarities, 2), expected, atol=1e-4)


def test_the_sentences_of_a_single_video_tell_nothing(rng):
    windows, bank = unit(rng.normal(size=(20, 8))), unit(rng.normal(size=(6, 8)))
    alone = fit(Calibration(bank, np.array([NO_VIDEO] * 4 + [1] * 2)), [(1, windows)])
    assert alone.median == measured(bank[:4], [windows]).median


def test_a_library_takes_unrelated_queries_from_its_own_narration(library, videos, tmp_path):
    library.update(videos)
    calibration = library._snapshot().calibration
    spoken = calibration.owners[calibration.owners != NO_VIDEO]
    assert len(calibration.queries) == len(UNRELATED_QUERIES) + len(spoken) and len(spoken)
    narrated = {video.id for video in library.videos("narration is not null")}
    assert set(spoken.tolist()) <= narrated
    (videos / "b.en.vtt").unlink()
    report = library.update(videos)
    assert len(report.narrated) == 1 and not report.changed
    calibration = library._snapshot().calibration
    assert len(calibration.queries) == len(UNRELATED_QUERIES)  # nothing is spoken any more


def test_levels():
    levels = [Thresholds(0.0, 1.0, 2.0).level(s) for s in (-0.1, 0.0, 1.0, 1.9, 2.0, 9.0)]
    assert levels == ["none", "low", "medium", "medium", "high", "high"]
    assert [next_level(level) for level in ("none", "low", "medium", "high")] == [
        "low",
        "medium",
        "high",
        "high",
    ]
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


def test_the_bank_has_no_repeats():
    assert len(set(UNRELATED_QUERIES)) == len(UNRELATED_QUERIES) >= 40


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
    bank = Calibration.of_scenes(np.eye(5, dtype=np.float32))
    equal = bank.fit([np.full(5, 2.0, np.float32)])
    assert (equal.median, equal.scale) == (2.0, 0.25)
    spread = bank.fit([np.array([0, 1, 2, 3, 4], np.float32)])
    assert (spread.median, spread.scale) == (2.0, pytest.approx(1.4826))
    assert spread.strength(2.0 + 1.4826) == pytest.approx(1.0)


def test_so_few_queries_are_enough_to_fit():
    for number, expected in ((MIN_QUERIES, 2.0), (MIN_QUERIES - 1, 0.0)):
        calibration = Calibration.of_scenes(np.zeros((number, 3), np.float32))
        fitted = calibration.fit([np.full(number, 2.0, np.float32)])
        assert fitted.median == expected
