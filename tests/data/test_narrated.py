import pickle

import numpy as np
import pytest

from videoclip.config import ClipConfig
from videoclip.data.captions import Cue
from videoclip.data.clips import ClipPair
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.data.narrated import NarratedCorpus, narrate
from videoclip.data.tokenizer import Tokenizer
from videoclip.errors import DataError
from videoclip.model.batch import collate

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "##a", "chop", "stir"]
NUM_FEATURES = {"one": 30, "two": 12, "three": 50, "silent": 9}


@pytest.fixture
def tokenizer():
    return Tokenizer(PIECES)


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "store")


def make_store(folder, rate=1.0):
    spec = FeatureSpec(4, rate, "made", False, "f")
    with FeatureStore.create(folder, spec) as store:
        for number, (video_id, length) in enumerate(NUM_FEATURES.items()):
            rows = np.arange(length)[:, None] + 100 * number + np.zeros(4)
            store.append(video_id, rows)
    return FeatureStore.open(folder)


def captions(*video_ids):
    return {v: [Cue(0.0, 4.0, "chop a"), Cue(5.0, 9.0, "stir b c")] for v in video_ids}


def test_cues_are_cut_in_characters_then_in_word_pieces(tokenizer):
    cues = [Cue(0, 1, "chop a"), Cue(1, 2, "b" * 95 + " c stir"), Cue(2, 3, "a " * 99)]
    (video,) = narrate({"v": cues}, tokenizer)
    assert [ids.tolist() for ids in video.narration.token_ids] == [[8, 4], [1], [4] * 32]
    assert video.narration.token_ids[0].dtype == np.int32
    assert video.narration.starts.tolist() == [0.0, 1.0, 2.0]
    assert tokenizer.decode(video.narration.token_ids[0]) == "chop a"
    assert narrate({}, tokenizer) == []


def test_a_corpus_joins_words_and_features_and_names_the_rest(store, tokenizer):
    said = captions("two", "one", "unknown") | {"three": [], "silent": [Cue(9.0, 10.0, "late")]}
    said["one"] = [*said["one"], Cue(30.0, 31.0, "beyond the end")]
    corpus = NarratedCorpus.from_captions(store, said, tokenizer)
    assert corpus.video_ids == ["two", "one"]
    assert len(corpus) == 2
    assert [len(video.narration) for video in corpus] == [2, 2]
    words = [tokenizer.decode(ids) for ids in corpus[1].narration.token_ids]
    assert words == ["chop a", "stir b c"]
    assert corpus.left_out == {
        "unknown": "has no features; 'videoclip extract' computes them",
        "three": "has no words in its captions",
        "silent": "all its narration comes after its end (9 s)",
    }


def test_the_order_of_a_store_does_not_matter(store, tokenizer, tmp_path):
    other = FeatureStore.create(tmp_path / "other", store.spec)
    for video_id in reversed(store.video_ids):
        other.append(video_id, store.read(video_id))
        (tmp_path / f"{video_id}.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:03.000\nchop\n")
    found = [NarratedCorpus.from_folder(tmp_path, s, tokenizer).video_ids for s in (store, other)]
    assert found[0] == found[1] == sorted(store.video_ids)


def test_captions_without_a_word_piece_are_none(store, tokenizer):
    said = captions("two") | {"one": [Cue(1.0, 2.0, "\x7f"), Cue(2.0, 3.0, "\u2028")]}
    corpus = NarratedCorpus.from_captions(store, said, tokenizer)
    assert corpus.video_ids == ["two"]
    assert corpus.left_out == {"one": "has no words in its captions"}


def test_a_folder_gives_the_words_and_bad_files_are_listed(store, tokenizer, tmp_path):
    words = tmp_path / "words"
    (words / "deep").mkdir(parents=True)
    (words / "deep/one.en.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:03.000\nchop\n")
    (words / "two.srt").write_text("no subtitles at all")
    (words / "three.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nstir\n")
    corpus = NarratedCorpus.from_folder(words, store, tokenizer)
    assert corpus.video_ids == ["one", "three"]
    assert corpus.left_out["silent"] == "has no subtitles"
    assert "two.srt: has no time span" in corpus.left_out["two"]


def test_held_out_videos_follow_from_the_seed(store, tokenizer):
    corpus = NarratedCorpus.from_captions(store, captions(*NUM_FEATURES), tokenizer)
    train, held_out = corpus.split(1, seed=3)
    assert sorted(train.video_ids + held_out.video_ids) == sorted(corpus.video_ids)
    assert train.video_ids == [v for v in corpus.video_ids if v not in held_out.video_ids]
    assert held_out.video_ids == corpus.split(1, seed=3)[1].video_ids
    assert len({tuple(corpus.split(1, seed=s)[1].video_ids) for s in range(20)}) == 4
    assert corpus.split(0, seed=0)[0].video_ids == corpus.video_ids
    with pytest.raises(DataError, match="cannot hold out 4 of 4"):
        corpus.split(4, seed=0)


def test_drawn_clips_are_the_features_and_words_of_their_pairs(store, tokenizer):
    corpus = NarratedCorpus.from_captions(store, captions("one", "two"), tokenizer)
    config = ClipConfig(clips_per_video=5)
    clips = corpus.draw(1, config, np.random.default_rng(0), 61)
    pairs = corpus.draw_pairs(1, config, np.random.default_rng(0), 61)
    assert len(clips) == len(pairs) == 5
    for (features, (ids,), span), pair in zip(clips, pairs, strict=True):
        assert features[:, 0].tolist() == [100 + t for t in range(pair.video_start, pair.video_end)]
        words = np.concatenate(corpus[1].narration.token_ids[pair.text_start : pair.text_end])
        assert ids.tolist() == words.tolist()
        narration = corpus[1].narration
        times = narration.starts[pair.text_start], narration.ends[pair.text_end - 1]
        assert span == (*times, pair.video_start, pair.video_end)
    batch = collate([(rows, ids) for rows, (ids,), _ in clips], tokenizer.pad_id)
    assert batch.video.shape[0] == batch.text.shape[0] == 5


def test_mil_nce_clips_have_several_texts(store, tokenizer):
    corpus = NarratedCorpus.from_captions(store, captions("three"), tokenizer)
    config = ClipConfig(strategy="mil_nce", clips_per_video=2)
    clips = corpus.draw(0, config, np.random.default_rng(0), 61)
    assert [(len(features), len(texts)) for features, texts, _ in clips] == [(3, 4), (3, 4)]


@pytest.mark.parametrize("rate", [0.4, 1.0, 2.0, 3.0])
def test_clips_of_any_rate_lie_within_the_video(rate, tmp_path, tokenizer):
    store = make_store(tmp_path / "fast", rate)
    corpus = NarratedCorpus.from_captions(store, captions("one", "silent"), tokenizer)
    config = ClipConfig(max_video_seconds=8, clips_per_video=50)
    for index, video_id in enumerate(corpus.video_ids):
        seconds = corpus.num_seconds(index)
        assert seconds == max(1, int(NUM_FEATURES[video_id] / rate))
        pairs = corpus.draw_pairs(index, config, np.random.default_rng(index), 61)
        drawn = corpus.draw(index, config, np.random.default_rng(index), 61)
        for (features, _, _), pair in zip(drawn, pairs, strict=True):
            rows = features[:, 0] - store.read(video_id)[0, 0]  # each feature is its own number
            assert rows.tolist() == list(range(int(rows[0]), int(rows[0]) + len(rows)))
            assert rows[0] <= pair.video_start * rate < rows[0] + 1
            is_cut = rows[-1] == NUM_FEATURES[video_id] - 1
            assert is_cut or abs(len(rows) - (pair.video_end - pair.video_start) * rate) <= 0.5
            assert 1 <= len(features) <= max(1, round(8 * rate))
        (all_of_it,) = corpus.read_clips(index, [ClipPair(0, 1, 0, seconds)])
        assert len(all_of_it) >= NUM_FEATURES[video_id] - rate


def test_a_video_shorter_than_a_second_is_one_second(tmp_path, tokenizer):
    store = make_store(tmp_path / "fast", rate=40.0)
    corpus = NarratedCorpus.from_captions(store, captions("silent"), tokenizer)
    assert corpus.num_seconds(0) == 1
    assert len(corpus.read_clips(0, [ClipPair(0, 1, 0, 1)])[0]) == 9


def test_a_corpus_travels_to_worker_processes(store, tokenizer):
    corpus = NarratedCorpus.from_captions(store, captions("one", "two"), tokenizer)
    again = pickle.loads(pickle.dumps(corpus.select([1])))
    assert again.video_ids == ["two"]
    assert [v.video_id for v in corpus[:1]] == ["one"]
    first, second = (
        c.draw(i, ClipConfig(), np.random.default_rng(5), 61) for c, i in ((corpus, 1), (again, 0))
    )
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, second, strict=True))
