"""DiDeMo's file, made up."""

import pytest

from videoclip.benchmarks import didemo
from videoclip.benchmarks.examples import MomentExample, RetrievalExample
from videoclip.errors import DataError


def row(number, video="12@N0_34.mov", **changes):
    return {
        "annotation_id": number,
        "video": video,
        "description": f"sentence {number}",
        "num_segments": 6,
        "times": [[1, 1], [0, 2], [1, 1], [5, 5]],
        "dl_link": "http://somewhere",
    } | changes


def test_times_are_inclusive_chunks_of_five_seconds(write):
    path = write("test_data.json", [row(1, num_segments=5)])
    assert didemo.read_didemo_moments(path.parent) == [
        MomentExample(
            "1",
            "12@N0_34",
            "sentence 1",
            ((5.0, 10.0), (0.0, 15.0), (5.0, 10.0), (25.0, 30.0)),
            25.0,
        )
    ]


def test_one_video_is_spelled_in_several_ways(write):
    rows = [row(1), row(2, "56@N0_7.avi"), row(3, "12@N0_34."), row(4, "12@N0_34")]
    assert didemo.read_didemo_paragraphs(write("test_data.json", rows)) == [
        RetrievalExample("12@N0_34", "sentence 1 sentence 3 sentence 4"),
        RetrievalExample("56@N0_7", "sentence 2"),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(1), row(1)], "sentence 1: annotation_id 1 occurs twice"),
        ([row(1, times=[[0, 6]])], r"sentence 0: times must be pairs of chunks 0\.\.5"),
        ([row(1, times=[[3, 2]])], "times must be pairs"),
        ([row(1, times=[])], "no annotator marked a moment"),
        ({"database": {}}, "expected a list of sentences; wrong file"),
    ],
)
def test_rows_that_make_no_sense(write, rows, message):
    with pytest.raises(DataError, match=message):
        didemo.read_didemo_moments(write("test_data.json", rows))
