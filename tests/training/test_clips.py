"""Which clips share a batch, and which texts they come with."""

import numpy as np
import pytest

from tests.training.tiny_corpus import SPEC, tiny_config, tokenizer
from videoclip.benchmarks.examples import RetrievalExample
from videoclip.config import FinetuneConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.distributed import World
from videoclip.embedding import Embedder
from videoclip.errors import DataError
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.clips import ClipSource
from videoclip.training.finetune import hold_out

CONFIG = FinetuneConfig(pairs_per_batch=3, texts_per_clip=4, precision="fp32")
WORDS = ("egg", "pan", "oil", "salt", "rice", "fish", "soup")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with FeatureStore.create(tmp_path_factory.mktemp("clips") / "store", SPEC) as store:
        for i in range(len(WORDS)):
            # What a feature holds says which video it is of.
            store.append(f"v{i}", np.full((12, SPEC.dim), i + 1.0, np.float16))
        yield store


@pytest.fixture(scope="module")
def embedder():
    return Embedder(VideoCLIP(tiny_config().model), tokenizer())


def examples():
    """Every video is one clip with two texts."""
    return [RetrievalExample(f"v{i}", t) for i, w in enumerate(WORDS) for t in (w, f"the {w}")]


def epoch(source, number=1, step=0):
    return list(source.batches(number, step, embed=None, plan_path=None))


def shown(batch):
    return (batch.video[:, 0, 0] - 1).int().tolist()


def test_an_epoch_visits_every_clip_as_often_as_asked_and_no_batch_has_one_twice(store, embedder):
    source = ClipSource(CONFIG, (examples(), []), embedder, store, World())
    batches = epoch(source)
    assert len(batches) == source.num_batches(1) == 4 * 3
    assert all(len(set(shown(b))) == len(b) for b in batches)
    assert np.bincount([video for b in batches for video in shown(b)]).tolist() == [4] * len(WORDS)
    names = tokenizer().encode_batch(WORDS)
    for batch in batches:
        for video, ids, mask in zip(shown(batch), batch.text, batch.text_mask, strict=True):
            assert ids[mask].tolist()[-1] == names[video][0]  # the text is its own
    lengths = {int(mask.sum()) for batch in batches for mask in batch.text_mask}
    assert lengths == {1, 2}  # either text comes up
    assert [shown(b) for b in epoch(source, 2)] != list(map(shown, batches))


def test_a_position_is_all_the_state_there_is(store, embedder):
    source = ClipSource(CONFIG, (examples(), []), embedder, store, World())
    rest = epoch(source, step=5)
    whole = epoch(source)[5:]
    assert all((a.text == b.text).all() for a, b in zip(rest, whole, strict=True))


def test_processes_share_an_epoch(store, embedder):
    parts = (examples(), [])
    whole = epoch(ClipSource(CONFIG, parts, embedder, store, World()))
    # Which batches a process has follows from its rank; no process group is needed to ask.
    shares = []
    for rank in (0, 1):
        world = World(rank, 2)
        source = ClipSource(CONFIG, parts, embedder, store, world)
        shares.append(epoch(source))
        assert source.num_batches(1) == len(shares[rank]) == 6
    for i, batch in enumerate(whole):
        assert batch.text.tolist() == shares[i % 2][i // 2].text.tolist()


def test_validation_is_the_same_each_time(store, embedder):
    source = ClipSource(CONFIG, hold_out(examples(), 3, 0), embedder, store, World())
    first, second = ([b.text.tolist() for b in source.validation()] for _ in range(2))
    assert first == second
    assert source.num_batches(1) == 4 * 2
    assert ClipSource(CONFIG, (examples(), []), embedder, store, World()).validation() is None


def test_clips_that_cannot_be_learned_from(store, embedder):
    late = [RetrievalExample("v0", "egg", 50.0, 60.0), RetrievalExample("v1", "pan")]
    with pytest.raises(DataError, match="1 clips to train on"):
        ClipSource(CONFIG, (late, []), embedder, store, World())
    with pytest.raises(DataError, match=r"a text of 'v0' has no words: '\\n'"):
        ClipSource(CONFIG, ([RetrievalExample("v0", "\n")], []), embedder, store, World())


def test_held_out_videos_are_whole_and_seeded():
    training, held_out = hold_out(examples(), 2, seed=5)
    assert len(training) == 10 and len(held_out) == 4
    assert not {e.video_id for e in training} & {e.video_id for e in held_out}
    assert hold_out(examples(), 2, seed=5) == (training, held_out)
    assert hold_out(examples(), 2, seed=6)[1] != held_out
    assert hold_out(examples(), 0, seed=5) == (examples(), [])
