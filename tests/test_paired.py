"""Two files of scores, example by example."""

import json

import numpy as np
import pytest

from videoclip.cli import main
from videoclip.errors import DataError
from videoclip.output.formats import to_table
from videoclip.paired import NUM_CHANGES, compare_examples


def write_ranks(path, ranks):
    rows = [
        {"video_id": f"v{i // 2}", "text": f"text {i}", "rank": rank, "similarity": 0.5}
        for i, rank in enumerate(ranks)
    ]
    path.write_text(to_table(rows))
    return path


def test_ranks_and_their_recalls(tmp_path):
    a = write_ranks(tmp_path / "a.csv", [1.0, 2.0, 9.0, 20.0])
    b = write_ranks(tmp_path / "b.csv", [1.0, 1.0, 3.0, 30.0])
    comparison = compare_examples(a, b)
    by_name = {d.name: d for d in comparison.differences}
    assert list(by_name) == ["rank", "R@1", "R@5", "R@10"]
    rank = by_name["rank"]
    assert (rank.first, rank.second) == (8.0, 8.75)
    assert (rank.improved, rank.worsened) == (2, 1)  # lower ranks are better
    assert (rank.low, rank.high) == (-0.5, 2.0)  # each video alone
    assert (by_name["R@1"].first, by_name["R@1"].second) == (0.25, 0.5)
    assert [c.names["text"] for c in comparison.changes] == ["text 3", "text 2", "text 1"]
    assert (comparison.num_examples, comparison.num_unmatched) == (4, 0)
    assert "changed most" in str(comparison)


def test_a_model_against_itself(tmp_path):
    a = write_ranks(tmp_path / "a.csv", [1.0, float("inf")])
    comparison = compare_examples(a, a)
    assert comparison.changes == ()
    names = [d.name for d in comparison.differences]
    assert names == ["R@1", "R@5", "R@10"]  # the mean of infinite ranks says nothing
    assert all(
        (d.low, d.high, d.improved, d.worsened) == (0, 0, 0, 0) for d in comparison.differences
    )


def test_examples_without_a_video_are_resampled_alone(tmp_path):
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path, ranks in zip(files, ([1.0, 2.0, 9.0], [1.0, 4.0, 30.0]), strict=True):
        path.write_text(
            to_table([{"text": f"text {i}", "rank": rank} for i, rank in enumerate(ranks)])
        )
    rank = compare_examples(*files).differences[0]
    assert rank.low < 23 / 3 < rank.high  # as one video, all three would always be drawn


def test_only_the_largest_changes_are_told(tmp_path):
    a = write_ranks(tmp_path / "a.csv", [1.0] * (NUM_CHANGES + 2))
    b = write_ranks(tmp_path / "b.csv", [float(i + 1) for i in range(NUM_CHANGES + 2)])
    told = [change.names["text"] for change in compare_examples(a, b).changes]
    assert told == [f"text {i + 1}" for i in range(NUM_CHANGES, 0, -1)]


def test_examples_of_one_file_only_are_counted(tmp_path):
    a = write_ranks(tmp_path / "a.csv", [1.0, 2.0, 3.0])
    b = write_ranks(tmp_path / "b.csv", [1.0])
    comparison = compare_examples(a, b)
    assert (comparison.num_examples, comparison.num_unmatched) == (1, 2)
    assert "2 are in one file only" in comparison.summary()


def test_paired_intervals_are_narrower_than_those_of_each_model(tmp_path):
    rng = np.random.default_rng(0)
    hard = rng.random(200) < 0.5
    rows = [
        [
            {"example_id": str(i), "video_id": str(i), "right": bool(h or (model and i % 10 == 0))}
            for i, h in enumerate(hard)
        ]
        for model in (0, 1)
    ]
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path, some in zip(paths, rows, strict=True):
        path.write_text(to_table(some))
    (right,) = compare_examples(*paths).differences
    assert right.name == "right" and right.worsened == 0
    assert 0 < right.low < right.second - right.first < right.high < 0.1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("video_id,text,rank\nother,other,1\n", "no example in common"),
        ("video_id,text,rank\nv0,text 0,one\n", "'one' is not a number"),
        ("video_id,text,rank\nv0,text 0\n", "another number of fields"),
        ("video_id,text,similarity\nv0,text 0,1\n", "no column that can be compared"),
        ("", "no example in common"),
    ],
)
def test_files_that_do_not_fit(tmp_path, content, message):
    a = write_ranks(tmp_path / "a.csv", [1.0])
    (tmp_path / "b.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        compare_examples(a, tmp_path / "b.csv")
    with pytest.raises(DataError, match="cannot be read"):
        compare_examples(a, tmp_path / "none.csv")


def test_the_command_prints_a_table_json_and_a_page(tmp_path, capsys):
    a = str(write_ranks(tmp_path / "a.csv", [1.0, 2.0]))
    b = str(write_ranks(tmp_path / "b.csv", [2.0, 2.0]))
    page = tmp_path / "page.html"
    assert main(["compare", a, b, "--html", str(page)]) == 0
    assert "2 examples in both files" in capsys.readouterr().out
    text = page.read_text()
    assert "Examples that changed most" in text and "text 0" in text and "+0.5" in text
    assert main(["compare", a, b, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_examples"] == 2
    for wrong in ([a, b, a], [a, b, "--picture", "x.svg"]):
        with pytest.raises(SystemExit, match="2"):
            main(["compare", *wrong])
