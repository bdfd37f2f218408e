"""The feed: what a key decides, what workers may not change, and what happens when they die."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.tiny_corpus import tiny_config, tiny_corpus
from videoclip.config import ClipConfig, PlanConfig
from videoclip.data.batch_plan import BatchPlan
from videoclip.data.clips import clip_tokens, draw_clip_pair
from videoclip.data.feature_store import FeatureStore
from videoclip.data.narrated import NarratedCorpus
from videoclip.distributed import World
from videoclip.errors import DataError, VideoCLIPError
from videoclip.model.batch import PlacedBatch, collate
from videoclip.training.narrated import (
    LEADS,
    Feed,
    Group,
    NarratedSource,
    data_fingerprints,
    fit_shares,
)
from videoclip.training.trainer import Purpose, generator

CONFIG = tiny_config()
GROUPS = [Group([3, 1, 7], (1, Purpose.TRAINING, 1, place)) for place in range(5)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("store"))


def feed(corpus, clips=CONFIG.clips, workers=0):
    return Feed(corpus, clips, CONFIG.model, workers)


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.tensors(), b.tensors(), strict=True))


def test_a_batch_is_its_videos_clip_pairs_read_one_by_one(corpus):
    """The naive twin reads each clip by itself."""
    rng, pairs, spans = generator(*GROUPS[0].key), [], []
    for number, index in enumerate(GROUPS[0].videos):
        video = corpus[index]
        starts, ends = video.narration.starts, video.narration.ends
        seconds = corpus.store.num_features(video.video_id)
        drawn = [draw_clip_pair(video.narration, seconds, CONFIG.clips, rng) for _ in range(2)]
        for pair in drawn:
            rows = corpus.store.read(video.video_id, pair.video_start, pair.video_end)
            pairs.append((rows, clip_tokens(video.narration, pair, CONFIG.model.max_text_tokens)))
            times = starts[pair.text_start], ends[pair.text_end - 1]
            spans.append((number, *times, pair.video_start, pair.video_end))
    expected = PlacedBatch(*collate(pairs, 0).tensors(), torch.tensor(spans, dtype=torch.float32))
    assert equal(feed(corpus).batch(GROUPS[0]), expected)


def test_a_lead_is_drawn_for_each_visit(corpus):
    """The naive twin finds the lead that belongs to the draw."""
    leads = [0.0] * 10 + [0.5, 0.2, 0.3, 0.0, 0.0, 0.0, 0.0]
    batch = Feed(corpus, CONFIG.clips, CONFIG.model, leads=leads).batch(GROUPS[0])
    rng, spans = generator(*GROUPS[0].key), []
    for number, index in enumerate(GROUPS[0].videos):
        draw = rng.random()
        lead = LEADS[next(i for i in range(len(LEADS)) if sum(leads[: i + 1]) >= draw)]
        clips = replace(CONFIG.clips, lead_seconds=lead)
        spans += [(number, *pair.span) for pair in corpus.draw(index, clips, rng, 16)]
    torch.testing.assert_close(batch.spans, torch.tensor(spans))
    assert equal(
        feed(corpus).batch(GROUPS[0]), Feed(corpus, CONFIG.clips, CONFIG.model).batch(GROUPS[0])
    )


def test_shares_are_those_of_the_right_choices():
    """Half of the observations know their choice; the others can be either of two."""
    logits = torch.full((80, 3), -9.0)
    logits[:30, 0] = logits[30:40, 1] = 0.0
    logits[40:, :2] = 0.0
    assert fit_shares(logits) == pytest.approx((0.75, 0.25, 0.0), abs=0.01)


def test_the_lead_of_a_plan_is_where_clips_resemble_their_words(tmp_path):
    """To this model a clip resembles words whose middle is 5 seconds before the clip's."""
    plan = PlanConfig(kind="mined", videos_per_batch=6)
    config = replace(CONFIG, plan=plan, clips=replace(CONFIG.clips, learn_lead=True))
    source = NarratedSource(config, tiny_corpus(tmp_path / "store"), "random", World())

    def embed(batch):
        delays = batch.spans[:, 3:].mean(dim=1) - batch.spans[:, 1:3].mean(dim=1)
        near = torch.exp(-0.5 * (delays - 5).square())
        return torch.stack([near, 1 - near], dim=1), torch.tensor([[1.0, 0.0]]).expand(len(near), 2)

    list(source.batches(1, 0, embed=embed, plan_path=tmp_path / "plan.json"))
    leads = np.array(BatchPlan.load(tmp_path / "plan.json").leads)
    assert leads.sum() == pytest.approx(1)
    assert leads @ np.array(LEADS) == pytest.approx(5, abs=1.5)


@pytest.mark.parametrize("workers", [0, 2])
def test_keys_decide_everything_and_workers_nothing(corpus, workers):
    alone = [feed(corpus).batch(group) for group in GROUPS]
    batches = list(feed(corpus, workers=workers).batches(GROUPS))
    assert len(batches) == 5
    assert all(equal(a, b) for a, b in zip(alone, batches, strict=True))
    assert not equal(alone[0], alone[1])
    later = feed(corpus, workers=workers).batches(GROUPS[3:])
    assert equal(next(later), alone[3])


def test_purposes_are_separate_streams():
    draws = {generator(1, purpose, 1, 1).integers(1 << 40) for purpose in Purpose}
    assert len(draws) == len(Purpose)


def test_mil_nce_has_several_texts_a_clip(corpus):
    clips = ClipConfig(strategy="mil_nce", clips_per_video=2, num_candidates=3)
    batch = feed(corpus, clips).batch(GROUPS[0])
    assert len(batch) == 6 and len(batch.text) == 18


class Trouble(NarratedCorpus):
    """A corpus that fails, or kills its reader, at one video."""

    def __init__(self, corpus, kill):
        super().__init__(list(corpus), corpus.store)
        self.kill, self.home = kill, os.getpid()

    def draw(self, index, config, rng, max_tokens):
        if index == 7 and self.kill and os.getpid() != self.home:
            os.kill(os.getpid(), signal.SIGKILL)
        if index == 7:
            raise DataError("these features are damaged", "store")
        return super().draw(index, config, rng, max_tokens)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_arrives_as_it_is(corpus, workers):
    with pytest.raises(DataError) as caught:
        list(feed(Trouble(corpus, kill=False), workers=workers).batches(GROUPS))
    assert str(caught.value) == "store: these features are damaged"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_worker_that_dies_is_said_so(corpus):
    with pytest.raises(VideoCLIPError, match=r"prepares batches died.*workers"):
        list(feed(Trouble(corpus, kill=True), workers=2).batches(GROUPS))


def test_more_clips_make_a_bigger_batch(corpus):
    clips = replace(CONFIG.clips, clips_per_video=5)
    assert len(feed(corpus, clips).batch(GROUPS[0])) == 15


def test_fingerprints_are_those_of_videos_features_and_words(corpus, tmp_path):
    same = data_fingerprints(corpus)
    assert data_fingerprints(tiny_corpus(tmp_path / "same")) == same

    def changed(other):
        return {name.split()[0] for name, value in data_fingerprints(other).items()
                if value != same[name]}  # fmt: skip

    def retold(**changes):
        told = replace(corpus[0], narration=replace(corpus[0].narration, **changes))
        return NarratedCorpus([told, *corpus[1:]], corpus.store)

    first, second, *rest = corpus[0].narration.token_ids
    moved = (first[:-1], np.concatenate([first[-1:], second]), *rest)
    noise = FeatureStore.create(tmp_path / "noise", corpus.store.spec)
    for video_id in corpus.video_ids:
        features = corpus.store.read(video_id)
        features[0] *= -1
        noise.append(video_id, features)
    assert changed(corpus.select(range(11))) == {"videos", "features", "words"}
    assert changed(corpus.select([1, 0, *range(2, 12)])) == {"videos", "features", "words"}
    assert changed(retold(ends=corpus[0].narration.starts)) == {"words"}
    assert changed(retold(token_ids=moved)) == {"words"}
    assert changed(NarratedCorpus(corpus[:], noise)) == {"features"}
