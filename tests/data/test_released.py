import json
import os
import pickle
import random
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoclip.config import ClipConfig
from videoclip.data.captions import Cue
from videoclip.data.feature_store import FeatureSpec
from videoclip.data.narrated import NarratedCorpus
from videoclip.data.released import ShardFolder, deduplicate_cues, read_shard_ids
from videoclip.errors import DataError

SPEC = FeatureSpec(8, 1.0, "s3d", True, "released")
PREFIX = "raw_caption_dedup.bert-base-uncased.train_0"


@pytest.fixture
def folder(tmp_path):
    """A shard of two videos, the second without cues."""
    np.save(tmp_path / "train_0_data.npy", np.arange(40).reshape(5, 8).astype(np.float16))
    np.save(tmp_path / "train_0_starts.npy", np.array([0, 3, 5]))
    spans = np.array([[0, 2], [2, 2.5]], dtype=np.float32)
    np.save(tmp_path / f"{PREFIX}.startends_data.npy", spans)
    np.save(tmp_path / f"{PREFIX}.startends_starts.npy", np.array([0, 2, 2]))
    ids = np.array([[7, 8, -1], [-1, -1, -1]], dtype=np.int32)
    np.save(tmp_path / f"{PREFIX}.caps_ids_data.npy", ids)
    np.save(tmp_path / f"{PREFIX}.caps_ids_starts.npy", np.array([0, 2, 2]))
    (tmp_path / "train_meta.pkl").write_bytes(pickle.dumps({0: ["x", "y"]}))
    return tmp_path


def test_shards_are_videos_and_their_features(folder):
    shards = ShardFolder(folder, "train", SPEC)
    assert shards.video_ids == ["x", "y"]
    video, silent = shards[:]
    assert [ids.tolist() for ids in video.narration.token_ids] == [[7, 8], []]
    assert video.narration.ends.tolist() == [2.0, 2.5]
    assert len(silent.narration) == 0
    assert [shards.num_features(v) for v in "xy"] == [3, 2]
    window, whole = shards.read_windows([("x", 1, 3), ("y", 0, 2)])
    assert window[:, 0].tolist() == [8, 16]
    assert whole[:, 0].tolist() == [24, 32]
    again = pickle.loads(pickle.dumps(shards))
    assert again[0].video_id == "x"
    assert len(pickle.dumps(shards)) < 2000


def test_a_corpus_of_shards_draws_clips(folder):
    shards = ShardFolder(folder, "train", SPEC)
    corpus = NarratedCorpus(shards, shards).select([0])
    clips = corpus.draw(0, ClipConfig(), np.random.default_rng(0), 61)
    assert len(clips) == 16
    assert {ids.tolist()[0] for _, (ids,), _ in clips} == {7}


def test_what_does_not_fit_is_named(folder):
    with pytest.raises(DataError, match="'z' is not in these shards"):
        ShardFolder(folder, "train", SPEC).num_features("z")
    with pytest.raises(DataError, match="features of shard 0 do not fit its 2 videos or width 9"):
        ShardFolder(folder, "train", FeatureSpec(9, 1.0, "s3d", True, ""))
    (folder / "train_meta.pkl").write_bytes(pickle.dumps({0: ["x"]}))
    with pytest.raises(DataError, match="do not fit its 1 videos"):
        ShardFolder(folder, "train", SPEC)
    with pytest.raises(DataError, match=r"val_meta\.pkl: no such file"):
        ShardFolder(folder, "val", SPEC)
    (folder / "train_meta.pkl").write_bytes(pickle.dumps({1: ["x"]}))
    with pytest.raises(DataError, match=r"train_1_starts\.npy: cannot read"):
        ShardFolder(folder, "train", SPEC)


def test_a_pickle_that_would_act_is_refused(tmp_path):
    class Act:
        def __reduce__(self):
            return os.system, ("touch " + str(tmp_path / "acted"),)

    refused = {
        "not a pickle of plain data.*do not trust it": (pickle.dumps(Act()), b"", b"nonsense"),
        "is not a table of shards": (pickle.dumps([1]), pickle.dumps({0: 1})),
    }
    for message, contents in refused.items():
        for content in contents:
            (tmp_path / "meta.pkl").write_bytes(content)
            with pytest.raises(DataError, match=message):
                read_shard_ids(tmp_path / "meta.pkl")
    assert not (tmp_path / "acted").exists()


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 5), st.text("ab \n", max_size=6)), max_size=8
    ),
    st.integers(0, 9),
)
def test_deduplicated_cues_are_never_blank_and_lose_no_last_word(rows, seed):
    rng = random.Random(seed)
    cues = [Cue(float(s), float(s + d), text) for s, d, text in sorted(rows)]
    kept = deduplicate_cues(cues, lambda: rng.random() > 0.5)
    assert all(cue.text and cue.text == cue.text.strip() for cue in kept)
    said = [cue.text.split()[-1] for cue in cues if cue.text.strip()]
    assert len(kept) <= len(said)
    if said:
        assert kept[-1].text.endswith(said[-1][-1])


@pytest.mark.parametrize(
    ("second", "leaves_it_earlier", "kept"),
    [
        ((3, 9, "the onion"), True, [(0, 9, "cut the onion")]),  # repeats the end
        ((3, 4, "the onion"), True, [(0, 5, "cut the onion")]),  # and is over before
        ((3, 9, "cut the onion now"), True, [(0, 9, "cut the onion now")]),  # goes on
        ((3, 4, "cut the onion now"), True, [(0, 5, "cut the onion now")]),
        ((7, 9, "stir"), True, [(0, 5, "cut the onion"), (7, 9, "stir")]),
        ((3, 9, "onion now"), True, [(0, 5, "cut the onion"), (5, 9, "ion now")]),
        ((7, 9, "onion now"), True, [(0, 7, "cut the onion"), (7, 9, "ion now")]),
        ((3, 9, "onion now"), False, [(0, 3, "cut the oni"), (3, 9, "onion now")]),
        ((7, 9, "onion now"), False, [(0, 5, "cut the oni"), (7, 9, "onion now")]),
        ((3, 9, " \n"), False, [(0, 5, "cut the onion")]),
    ],
)
def test_what_is_repeated_of_the_caption_before(second, leaves_it_earlier, kept):
    cues = [Cue(0, 5, " cut the\nonion"), Cue(*second)]
    assert deduplicate_cues(cues, lambda: leaves_it_earlier) == [Cue(*cue) for cue in kept]


@pytest.mark.parity
def test_captions_lose_what_the_released_preparation_removes(shared):
    cases = json.loads((shared / "golden/sequences/caption_dedup.json").read_text())
    for case in cases:
        rng = random.Random(case["python_random_seed"])
        given, expected = (
            [Cue(s, e, t or "") for s, e, t in zip(c["start"], c["end"], c["text"], strict=True)]
            for c in (case["input"], case["output"])
        )
        assert deduplicate_cues(given, lambda rng=rng: rng.random() > 0.5) == expected


@pytest.mark.parity
def test_shards_are_read_as_the_released_reader_does(shared, tmp_path):
    expected = json.loads((shared / "golden/shard/expected.json").read_text())
    shutil.copytree(shared / "golden/shard", tmp_path / "shard")
    ids = {int(shard): names for shard, names in expected["meta"].items()}
    (tmp_path / "shard/train_meta.pkl").write_bytes(pickle.dumps(ids))
    shards = ShardFolder(tmp_path / "shard", "train", SPEC)
    assert shards.video_ids == [name for names in ids.values() for name in names]
    for video in shards:
        case = expected["videos"][video.video_id]
        num_features = shards.num_features(video.video_id)
        (features,) = shards.read_windows([(video.video_id, 0, num_features)])
        assert list(features.shape) == case["feature_shape"]
        assert features.astype(np.float64).sum() == pytest.approx(case["feature_sum"], abs=1e-3)
        assert video.narration.starts.tolist() == case["text"]["start"]
        assert video.narration.ends.tolist() == case["text"]["end"]
        assert [ids.tolist() for ids in video.narration.token_ids] == case["text"]["cap"]
        assert case["text"]["cap"] == [ids[:32] for ids in case["original_caption_ids"]]
