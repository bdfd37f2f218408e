"""A quick sample of the torture run (`make torture`), and its generator."""

import json

import numpy as np
import pytest

from tests.make_video import write_video
from tests.torture import corpus
from tests.torture.run import Tally, to_table, torture


def test_the_same_seed_damages_alike(tmp_path):
    text = [corpus.damage_json(corpus.CUES, np.random.default_rng(1)) for _ in range(2)]
    assert text[0] == text[1]
    for folder in "ab":
        (tmp_path / folder).mkdir()
        rng = np.random.default_rng(2)
        for number in range(5):
            corpus.write_hostile_subtitles(tmp_path / folder / f"{number}.srt", rng)
    written = [[p.read_bytes() for p in sorted((tmp_path / f).iterdir())] for f in "ab"]
    assert written[0] == written[1]
    assert len(set(written[0])) > 3


def test_valid_clips_are_the_same_in_every_run(tmp_path):
    first, second = (corpus.write_clips(tmp_path / name) for name in "ab")
    for suffix, clip in first.items():
        assert clip.read_bytes() == second[suffix].read_bytes(), suffix


def test_h264_clips_do_not_depend_on_the_processor(tmp_path):
    options = corpus.CODECS[".mp4"] | {"rate": 10, "g": 10}
    plain = write_video(tmp_path / "a.mp4", 30, **options | {"x264-params": "asm=0"})
    assert write_video(tmp_path / "b.mp4", 30, **options).read_bytes() == plain.read_bytes()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_parts_of_containers_are_found(tmp_path, suffix):
    clip = corpus.write_clips(tmp_path / "clips")[suffix]
    data = clip.read_bytes()
    parts = corpus.parts_of(data, suffix)
    assert len(parts) > 10
    assert all(0 <= start < content <= stop <= len(data) for start, content, stop in parts)


def test_a_sample_of_hostile_files_does_no_harm(tmp_path):
    plan = {".json": (1, 4), "moments": (1, 3)}
    tallies = dict(torture(plan, seed=1, folder=tmp_path / "torture", num_processes=1))
    assert [problem for tally in tallies.values() for problem in tally.problems] == []
    assert {kind: tally.files for kind, tally in tallies.items()} == {".json": 4, "moments": 3}
    assert all(tally.commands > tally.files for tally in tallies.values())
    table = to_table(tallies)
    assert table.splitlines()[-1].startswith("| **all** | 7 |")


def test_counts_add_up_and_the_peak_is_the_highest():
    total = Tally(files=1, peak=5, problems=["a"])
    total += Tally(files=2, crashes=1, peak=3, problems=["b"])
    assert (total.files, total.crashes, total.peak, total.problems) == (3, 1, 5, ["a", "b"])
    assert not total.ok
    assert json.loads(corpus.damage_json([1, 2], np.random.default_rng(0))[0]) is not None
