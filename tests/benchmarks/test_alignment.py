"""HTM-Align and HT-Step, made up in the form of their files."""

import pytest

from videoclip.benchmarks.alignment import read_ht_step, read_htm_align
from videoclip.benchmarks.examples import AlignmentVideo, PlacedText
from videoclip.errors import DataError

TAXONOMY = """global_step_index,activity,step_index,variation,variation_index,headline,paragraph
0,Make Tea,0,none,1,Boil water.,"Long, quoted;"
1,Make Tea,1,none,2,Pour it.,
2,Make Jam,0,with sugar,1,Add sugar.,
3,Make Jam,1,without,1,Add nothing.,
"""


def test_sentences_that_are_not_shown_keep_the_time_of_their_narration(write):
    path = write(
        "htm_align.json", {"-v": [[0, 1.5, 3, "hello"], [1, 10.7, 17.5, "add oil"]], "e": []}
    )
    assert read_htm_align(path.parent) == [
        AlignmentVideo(
            "-v",
            (
                PlacedText("hello", (), (1.5, 3.0)),
                PlacedText("add oil", ((10.7, 17.5),), (10.7, 17.5)),
            ),
        )
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected a table of videos"),
        ({"v": [[1, 2, 3]]}, r"video 'v', sentence 0: needs \[shown, start, end, sentence\]"),
        ({"v": [[2, 1, 3, "a"]]}, r"sentence 0: 'shown' must be in 0..1, got 2"),
        ({"v": [[1, 5, 3, "a"]]}, "a span must be"),
    ],
)
def test_htm_align_that_is_broken(write, content, message):
    with pytest.raises(DataError, match=message):
        read_htm_align(write("htm_align.json", content))


@pytest.fixture
def ht_step(write):
    def ht_step(annotations, subset="val_seen"):
        write("taxonomy.csv", TAXONOMY)
        rows = [{"id": step, "segment": span} for step, span in annotations]
        video = {"subset": subset, "activity": "Make Tea", "annotations": rows}
        return write("annotations.json", {"v": video}).parent

    return ht_step


def test_steps_of_the_article_of_a_video(ht_step):
    folder = ht_step([(1, [5, 9]), (1, [20, 21.5])])
    texts = (
        PlacedText("Boil water.", step=0),
        PlacedText("Pour it.", ((5.0, 9.0), (20.0, 21.5)), step=1),
    )
    assert read_ht_step(folder) == [AlignmentVideo("v", texts, article="Make Tea")]
    assert read_ht_step(ht_step([(1, [5, 9])], subset="train")) == []
    assert read_ht_step(ht_step([])) == []


def test_steps_that_do_not_fit_the_taxonomy(ht_step):
    with pytest.raises(DataError, match="video 'v': step 9 is not in taxonomy"):
        read_ht_step(ht_step([(9, [5, 9])]))
    with pytest.raises(DataError, match="video 'v': shows steps of 2 articles"):
        read_ht_step(ht_step([(2, [5, 9]), (3, [5, 9])]))
