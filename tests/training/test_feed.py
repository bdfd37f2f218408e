"""The feed: what a key decides, what workers may not change, and what happens when they die."""

import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.tiny_corpus import TinyCorpus, tiny_config
from videoclip.config import ClipConfig
from videoclip.data.batch import collate
from videoclip.data.clips import clip_tokens, draw_clip_pair
from videoclip.errors import ConfigError, DataError, VideoCLIPError
from videoclip.training.feed import Feed, Group, Purpose, generator, split_videos

CONFIG = tiny_config()
GROUPS = [Group([3, 1, 7], (1, Purpose.TRAINING, 1, place)) for place in range(5)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return TinyCorpus(tmp_path_factory.mktemp("store"))


def feed(corpus, clips=CONFIG.clips, num_workers=0):
    return Feed(corpus, clips, CONFIG.model.max_video_tokens, 0, num_workers)


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a._tensors(), b._tensors(), strict=True))


def test_a_batch_is_its_videos_clip_pairs_read_one_by_one(corpus):
    """The naive twin reads each clip by itself."""
    rng, pairs = generator(*GROUPS[0].key), []
    for index in GROUPS[0].videos:
        video = corpus[index]
        seconds = corpus.store.num_features(video.video_id)
        drawn = [draw_clip_pair(video.narration, seconds, CONFIG.clips, rng) for _ in range(2)]
        for pair in drawn:
            rows = corpus.store.read(video.video_id, pair.video_start, pair.video_end)
            pairs.append((rows, clip_tokens(video.narration, pair, CONFIG.clips.text_capacity)))
    assert equal(feed(corpus).batch(GROUPS[0]), collate(pairs, 0))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_keys_decide_everything_and_workers_nothing(corpus, num_workers):
    alone = [feed(corpus).batch(group) for group in GROUPS]
    batches = list(feed(corpus, num_workers=num_workers).batches(GROUPS))
    assert len(batches) == 5
    assert all(equal(a, b) for a, b in zip(alone, batches, strict=True))
    assert not equal(alone[0], alone[1])
    later = feed(corpus, num_workers=num_workers).batches(GROUPS[3:])
    assert equal(next(later), alone[3])


def test_purposes_are_separate_streams():
    draws = {generator(1, purpose, 1, 1).integers(1 << 40) for purpose in Purpose}
    assert len(draws) == len(Purpose)


def test_mil_nce_has_several_texts_a_clip(corpus):
    clips = ClipConfig(strategy="mil_nce", clips_per_video=2, num_candidates=3, text_capacity=16)
    batch = feed(corpus, clips).batch(GROUPS[0])
    assert len(batch) == 6 and len(batch.text) == 18


@given(rate=st.sampled_from([0.5, 0.7, 1.0, 2.0, 3.3]), num_rows=st.integers(1, 60))
def test_clips_stay_within_features_of_any_rate(corpus, rate, num_rows):
    rows = np.arange(num_rows, dtype=np.float16)[:, None].repeat(2, axis=1)
    store = SimpleNamespace(
        spec=SimpleNamespace(features_per_second=rate),
        num_features=lambda _: num_rows,
        read=lambda _, start, stop: rows[start:stop],
    )
    other = type("Other", (), {"store": store, "__getitem__": lambda _, i: corpus[i]})()
    batch = feed(other).batch(Group([0], (0, Purpose.TRAINING)))
    assert batch.video_mask.any(dim=1).all()
    assert batch.video.shape[1] <= CONFIG.model.max_video_tokens
    for clip, mask in zip(batch.video[..., 0], batch.video_mask, strict=True):
        real = clip[mask]
        assert torch.equal(real, torch.arange(real[0], real[0] + len(real)))


class Trouble:
    """A corpus that fails, or kills its reader, at one video."""

    def __init__(self, corpus, kill):
        self.corpus, self.store, self.kill, self.home = corpus, corpus.store, kill, os.getpid()

    def __getitem__(self, index):
        if index == 7 and self.kill and os.getpid() != self.home:
            os.kill(os.getpid(), signal.SIGKILL)
        if index == 7:
            raise DataError("these features are damaged", "store")
        return self.corpus[index]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_arrives_as_it_is(corpus, num_workers):
    with pytest.raises(DataError) as caught:
        list(feed(Trouble(corpus, kill=False), num_workers=num_workers).batches(GROUPS))
    assert str(caught.value) == "store: these features are damaged"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_worker_that_dies_is_said_so(corpus):
    with pytest.raises(VideoCLIPError, match=r"prepares batches died.*num_workers"):
        list(feed(Trouble(corpus, kill=True), num_workers=2).batches(GROUPS))


@given(num_videos=st.integers(1, 40), held_out=st.integers(0, 39), seed=st.integers(0, 3))
def test_the_split_parts_every_video(num_videos, held_out, seed):
    if held_out >= num_videos:
        with pytest.raises(ConfigError, match="validation_videos"):
            split_videos(num_videos, held_out, seed)
        return
    training, rest = split_videos(num_videos, held_out, seed)
    assert sorted(training + rest) == list(range(num_videos)) and len(rest) == held_out
    assert (training, rest) == split_videos(num_videos, held_out, seed)


def test_more_clips_make_a_bigger_batch(corpus):
    clips = replace(CONFIG.clips, clips_per_video=5)
    assert len(feed(corpus, clips).batch(GROUPS[0])) == 15
