"""Labelled queries, and the thresholds that are fitted to them."""

import pytest

from videoclip.errors import DataError
from videoclip.library.labels import LabelledQuery, add_label, fit_library, read_labels


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
