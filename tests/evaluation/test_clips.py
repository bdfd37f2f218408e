"""Spans to rows of a store."""

import pytest

from videoclip.benchmarks.examples import RetrievalExample
from videoclip.errors import DataError
from videoclip.evaluation import clips


def test_videos_without_features_are_listed_once(make_store):
    store = make_store({"a": ["cut"]})
    examples = [RetrievalExample(v, "x") for v in ("a", "b", "a", "b", "c")]
    present, missing = clips.with_features(examples, store)
    assert [e.video_id for e in present] == ["a", "a"]
    assert [(m.video_id, m.reason) for m in missing] == [("b", "no features"), ("c", "no features")]


def test_a_store_of_other_videos_is_refused(make_store):
    store = make_store({"a": ["cut"]})
    with pytest.raises(DataError, match="no features of any video of the benchmark, such as 'b'"):
        clips.with_features([RetrievalExample("b", "x")], store)
    with pytest.raises(DataError, match="the annotations are empty"):
        clips.with_features([], store)


@pytest.mark.parametrize(
    ("start", "end", "longest", "expected"),
    [
        (None, None, 0, (0, 20)),
        (None, None, 3, (0, 6)),
        (1.2, 2.6, 0, (2, 6)),
        (1.2, 9.0, 2, (2, 6)),
        (9.9, 30.0, 0, (19, 20)),
        (10.0, 12.0, 0, None),
        (1.0, 2.0, 0.1, (2, 3)),
    ],
)
def test_rows_of_a_span(make_store, start, end, longest, expected):
    store = make_store({"a": ["cut"] * 20}, rate=2.0)
    clip = clips.find_clip(store, "a", start, end, longest)
    assert clip == (None if expected is None else clips.Clip("a", *expected))


def test_equal_texts_are_embedded_once():
    texts, place = clips.unique(["cut", "fry", "cut"])
    assert texts == ["cut", "fry"]
    assert place.tolist() == [0, 1, 0]
