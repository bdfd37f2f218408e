"""The page of a run: its clip pairs, similarities and nearest clips."""

import json

import numpy as np
import pytest

from tests.library.colours import write_video
from tests.training.tiny_corpus import tiny_config, tiny_corpus, tokenizer
from videoclip.distributed import World
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.narrated import NarratedSource
from videoclip.training.page import ClipPairs, draw_clip_pairs, run_page
from videoclip.training.run import RunResult

RESULT = RunResult("run/model", 4, 1.0, 2.0, None, {}, {})


@pytest.fixture
def source(tmp_path):
    config = tiny_config(validation_videos=3)
    return NarratedSource(config, tiny_corpus(tmp_path / "store"), "random", World())


def test_pairs_are_aligned_of_held_out_videos_and_the_same_each_time(source):
    pairs = draw_clip_pairs(source, tokenizer(), {})
    again = draw_clip_pairs(source, tokenizer(), {})
    assert pairs.moments == again.moments
    assert {m.path.name for m in pairs.moments} == set(source.held_out.video_ids)
    assert len({(m.path, m.start, m.end, m.label) for m in pairs.moments}) == len(pairs.moments)
    assert all(m.label.split()[2] in m.path.name for m in pairs.moments)
    model = VideoCLIP(source.config.model).train()
    similarities = pairs.similarities(model)
    assert similarities.shape == (len(pairs.moments),) * 2 and model.training
    np.testing.assert_array_equal(similarities, pairs.similarities(model))


def test_thumbnails_are_of_videos_that_are_at_hand_and_can_be_read(source, tmp_path, monkeypatch):
    monkeypatch.setattr(ClipPairs, "similarities", lambda self, model: np.eye(len(self.moments)))
    entry = {"update": 1, "loss": 2.0, "temperature": 0.1, "pairs_per_second": 9.0, "lr": 0.1}
    (tmp_path / "log.jsonl").write_text(json.dumps(entry) + "\n")
    good, bad = source.held_out.video_ids[:2]
    write_video(tmp_path / "videos" / f"{good}.mp4", ["red"] * 40)
    (tmp_path / "videos" / f"{bad}.mp4").write_bytes(b"no video")
    run_page(source, tokenizer(), tmp_path / "videos", None)(tmp_path, RESULT)
    page = (tmp_path / "index.html").read_text()
    assert page.count('<img src="data:image/jpeg') == page.count(f"<figcaption>{good}.mp4")
    assert f"<figcaption>{bad}.mp4" in page and 'class="right"' in page
