"""Labelled queries, and the thresholds that are fitted to them."""

from pathlib import Path

import pytest

from videoclip.errors import DataError
from videoclip.library.labels import LabelledQuery, add_label, fit_library, read_labels
from videoclip.zeroshot.moments import Moment


@pytest.fixture
def indexed(library, videos):
    library.update([videos])
    return library


def test_labels_are_added_and_replaced(tmp_path):
    path = tmp_path / "new" / "labels.csv"
    add_label(path, LabelledQuery('a, "b"\nc', "v.mp4", 1.0, 2.0, is_wrong=True))
    add_label(path, LabelledQuery("other", "v.mp4"))
    kept = add_label(path, LabelledQuery("other", "w.mp4", 3.0, 4.0))
    assert read_labels(path) == kept
    assert len(kept) == 3
    assert kept[1].end == float("inf")
    changed = add_label(path, LabelledQuery("other", "v.mp4", 5.0, 6.0, is_wrong=True))
    assert [label.is_wrong for label in changed] == [True, False, True]


def test_a_wrong_answer_that_is_not_the_first_counts_by_its_own_strength(indexed):
    moments = indexed.search("yellow", 5, speech=0)
    wrong = moments[1]
    labels = [
        LabelledQuery("yellow", str(moments[0].path), moments[0].start, moments[0].end),
        LabelledQuery("yellow", str(wrong.path), wrong.start, wrong.end, is_wrong=True),
        LabelledQuery("yellow", "elsewhere", is_wrong=True),  # was not found: says nothing
    ]
    report = fit_library(indexed, labels)
    assert (report.num_correct, report.num_incorrect) == (1, 1)
    assert wrong.strength < report.thresholds.low <= moments[0].strength
    with pytest.raises(DataError, match="no labelled queries"):
        fit_library(indexed, [])


@pytest.mark.parametrize(
    "start, end, accepted",
    [(0, 5, False), (0, 5.1, True), (5, 9, True), (6, 7, True), (9.9, 12, True), (10, 12, False)],
)
def test_an_answer_overlaps_the_labelled_span_and_does_not_only_touch_it(start, end, accepted):
    label = LabelledQuery("dog", "b.mp4", 5.0, 10.0)
    assert label.accepts(Moment(Path("/a/b.mp4"), start, end)) is accepted
    touching = LabelledQuery("dog", "b.mp4", float(start), float(end))
    assert touching.accepts(Moment(Path("/a/b.mp4"), 5.0, 10.0)) is accepted


@pytest.mark.parametrize(
    "video, accepted",
    [
        ("b.mp4", True),
        ("b", True),
        ("a/b.mp4", True),
        ("/x/a/b.mp4", True),
        ("c/b.mp4", False),
        ("xb.mp4", False),
        ("a", False),
        ("", False),
    ],
)
def test_an_answer_is_in_the_video_of_that_name(video, accepted):
    assert LabelledQuery("dog", video).accepts(Moment(Path("/x/a/b.mp4"), 0, 1)) is accepted
