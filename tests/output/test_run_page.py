"""The page of a run: its clip pairs, similarities and nearest clips."""

import numpy as np
import pytest

from tests.library.colours import write_video
from tests.training.tiny_corpus import tiny_config, tiny_corpus, tokenizer
from videoclip.model.videoclip import VideoCLIP
from videoclip.output.run_page import RunPage

LOG = [{"update": 1, "loss": 2.0, "temperature": 0.1, "pairs_per_second": 9.0, "lr": 0.1}]


@pytest.fixture
def corpus(tmp_path):
    return tiny_corpus(tmp_path / "store", num_videos=3)


def run_page(corpus, model=None, paths=None):
    config = tiny_config()
    model = model or VideoCLIP(config.model)
    return RunPage(model, corpus, config, tokenizer(), paths or {}, is_held_out=True)


def test_pairs_are_aligned_of_all_videos_and_the_same_each_time(corpus):
    model = VideoCLIP(tiny_config().model).train()
    page = run_page(corpus, model)
    moments = page.moments
    assert moments == run_page(corpus).moments
    assert {m.path.name for m in moments} == set(corpus.video_ids)
    assert len({(m.path, m.start, m.end, m.label) for m in moments}) == len(moments)
    assert all(m.label.split()[2] in m.path.name for m in moments)
    similarities = page.similarities()
    assert similarities.shape == (len(moments),) * 2 and model.training
    np.testing.assert_array_equal(similarities, page.similarities())


def test_thumbnails_are_of_videos_that_are_at_hand_and_can_be_read(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(RunPage, "similarities", lambda self: np.eye(len(self.moments)))
    paths = {name: tmp_path / "videos" / f"{name}.mp4" for name in corpus.video_ids}
    good, bad, missing = paths.values()
    write_video(good, ["red"] * 40)
    bad.write_bytes(b"no video")
    page = run_page(corpus, paths=paths).render("run", "4 updates", [], LOG)
    assert page.count('<img src="data:image/jpeg') == page.count(f"<figcaption>{good.name}")
    assert f"<figcaption>{bad.name}" in page and f"<figcaption>{missing.name}" in page
    assert 'class="right"' in page and "clips of videos that were held out" in page
