"""Embedder: batching and windows change nothing, and what does not belong together is refused."""

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.library.colours import NAMES, ColourBackbone, write_video
from tests.model.tiny_models import TINY, make_model
from videoclip.data.feature_store import FeatureSpec
from videoclip.data.tokenizer import Tokenizer
from videoclip.embedding import (
    BATCHES_AT_ONCE,
    MAX_CHARACTERS,
    Embedder,
    EmbedVideosError,
    WindowConfig,
    window_spans,
)
from videoclip.errors import CheckpointError, ConfigError, DataError, IndexMismatchError
from videoclip.features.backbones import check_features, keyframe_fingerprint, with_fingerprint
from videoclip.features.decode import Squash, resample_frames, sample_frames
from videoclip.files import verify_checksums
from videoclip.model import hub
from videoclip.model.videoclip import VideoCLIP

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{i}" for i in range(46))]
CONFIG = replace(TINY, backbone="test", normalize=True)


def make_embedder(config=CONFIG, batch_size=3):
    return Embedder(make_model(config), Tokenizer(WORDS), batch_size=batch_size)


def make_features(num_features, seed=0):
    return np.random.default_rng(seed).normal(size=(num_features, 12)).astype(np.float32)


def test_texts_embed_alone_as_in_a_batch():
    embedder = make_embedder()
    texts = ["w1", "w2 w3 w4", "w5 w6", " ".join(f"w{i}" for i in range(30)), "unheard of"]
    together = embedder.embed_text(texts)
    assert together.shape == (5, 16)
    assert together.dtype == np.float32
    for text, embedding in zip(texts, together, strict=True):
        np.testing.assert_allclose(embedder.embed_text(text)[0], embedding, atol=1e-5)


def test_names_of_special_tokens_in_a_text_are_words():
    embedder = make_embedder()
    named, spaced, hidden = embedder.embed_text(["w1 [SEP] w2", "w1 [ SEP ] w2", "w1 w2"])
    np.testing.assert_allclose(named, spaced, atol=1e-6)
    assert np.abs(named - hidden).max() > 1e-3


def test_long_texts_are_cut_to_what_the_model_takes():
    embedder = make_embedder()
    words = [f"w{i}" for i in range(20)]
    cut = embedder.embed_text(" ".join(words[:11]))
    np.testing.assert_allclose(embedder.embed_text(" ".join(words)), cut, atol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("num_features", [1, 8, 9, 10, 13, 40])
def test_tokens_are_the_mean_over_the_windows_that_see_them(num_features, normalize):
    embedder = make_embedder(replace(CONFIG, normalize=normalize))
    features = make_features(num_features)
    seen = [[] for _ in range(num_features)]
    start = 0
    while True:
        clip = torch.from_numpy(features[None, start : start + 9])
        mask = torch.ones(clip.shape[:2], dtype=torch.bool)
        with torch.no_grad():
            tokens = embedder.model.video_tokens(clip, mask)[0].numpy()
        for offset, token in enumerate(tokens):
            seen[start + offset].append(token)
        if start + 9 >= num_features:
            break
        start += 4
    expected = np.stack([np.mean(tokens, axis=0) for tokens in seen])
    if normalize:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    result = embedder.embed_features(features)
    np.testing.assert_allclose(result.tokens, expected, atol=1e-5)
    assert result.duration == num_features
    assert repr(result) == f"VideoEmbedding({num_features} s, {num_features} x 16)"


@pytest.mark.parametrize("normalize", [True, False])
def test_windows_embed_alone_as_in_a_batch_and_long_ones_by_pieces(normalize):
    embedder = make_embedder(replace(CONFIG, normalize=normalize))
    features = make_features(25)
    spans = [(0, 4), (0, 25), (3, 12), (0, 1), (20, 25)]
    together = embedder.embed_windows(features, spans)
    for span, embedding in zip(spans, together, strict=True):
        np.testing.assert_allclose(
            embedder.embed_windows(features, [span])[0], embedding, atol=1e-5
        )
    whole = embedder.embed_windows(features, [(0, 9), (9, 17), (17, 25)]).mean(axis=0)
    if normalize:
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
        whole /= np.linalg.norm(whole)
    np.testing.assert_allclose(together[1], whole, atol=1e-5)


def test_memory_for_windows_is_bounded_but_for_the_result(monkeypatch):
    embedder, features = make_embedder(batch_size=1), make_features(60).astype(np.float16)
    spans = [(start, start + length) for length in (1, 4, 12) for start in range(48)]
    expected = np.concatenate([embedder.embed_windows(features, [span]) for span in spans])
    sizes, in_batches = [], embedder._in_batches

    def noted(items, *rest):
        sizes.append(len(items))
        assert all(np.may_share_memory(item, features) for item in items)  # no copy of them all
        return in_batches(items, *rest)

    monkeypatch.setattr(embedder, "_in_batches", noted)
    np.testing.assert_array_equal(embedder.embed_windows(features, spans), expected)
    assert len(sizes) == 3 and max(sizes) <= 2 * BATCHES_AT_ONCE  # long spans have two pieces


def test_a_text_of_megabytes_is_cut_before_it_is_divided_into_tokens(monkeypatch):
    embedder = make_embedder()
    expected = embedder.embed_text("w1 w2 " * 100)
    encode_literal, lengths = embedder.tokenizer.encode_literal, []
    monkeypatch.setattr(
        embedder.tokenizer,
        "encode_literal",
        lambda texts: lengths.extend(map(len, texts)) or encode_literal(texts),
    )
    np.testing.assert_array_equal(embedder.embed_text("w1 w2 " * 1_000_000), expected)
    assert lengths == [MAX_CHARACTERS]


def test_bad_input_is_named():
    embedder = make_embedder()
    with pytest.raises(DataError, match="text 2 of 2 has no words"):
        embedder.embed_text(["w1", "  "])
    with pytest.raises(DataError, match="no texts to embed"):
        embedder.embed_text([])
    for wrong in (5, None, [None], ["w1", 5], b"w1", Path("w1")):
        with pytest.raises(DataError, match="texts must be a list of texts, got"):
            embedder.embed_text(wrong)
    with pytest.raises(DataError, match="without features"):
        embedder.embed_features(make_features(0))
    with pytest.raises(DataError, match=r"features of shape \(3, 11\)"):
        embedder.embed_features(np.zeros((3, 11), np.float32))
    with pytest.raises(DataError, match=r"features of shape \(\)"):
        embedder.embed_features(None)
    with pytest.raises(DataError, match="NaN"):
        embedder.embed_windows(np.full((3, 12), np.nan, np.float32), [(0, 2)])
    with pytest.raises(DataError, match="outside 3 features"):
        embedder.embed_windows(make_features(3), [(2, 4)])


def test_a_vocabulary_of_another_model_is_refused():
    with pytest.raises(CheckpointError, match="word pieces: 50 and 49"):
        Embedder(make_model(CONFIG), Tokenizer(WORDS[:-1]))


def test_features_of_another_kind_are_refused():
    spec = FeatureSpec(
        dim=12, features_per_second=1.0, backbone="test", normalized=True, fingerprint="x"
    )
    check_features(CONFIG, spec)
    with pytest.raises(IndexMismatchError, match="width 11, not 12; features per second 2"):
        check_features(CONFIG, replace(spec, dim=11, features_per_second=2.0))


def test_a_saved_embedder_is_the_same(tmp_path):
    embedder = make_embedder()
    embedder.save_pretrained(tmp_path)
    again = Embedder.from_pretrained(tmp_path)
    assert again.fingerprint == embedder.fingerprint
    np.testing.assert_array_equal(again.embed_text("w1 w2"), embedder.embed_text("w1 w2"))
    other = Embedder(make_model(CONFIG, seed=1), Tokenizer(WORDS))
    assert other.fingerprint != embedder.fingerprint


def test_a_saved_fingerprint_is_that_of_the_files_or_they_are_refused(tmp_path, monkeypatch):
    embedder = make_embedder()
    embedder.save_pretrained(tmp_path)
    assert verify_checksums(tmp_path, hub.ADVICE) == [
        "config.json",
        "model.safetensors",
        "vocab.txt",
    ]
    assert hub.stored_fingerprint(tmp_path) == embedder.fingerprint
    VideoCLIP(CONFIG).save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", tmp_path)
    with pytest.raises(CheckpointError, match=r"model\.safetensors was changed after it was saved"):
        Embedder.from_pretrained(tmp_path)
    (tmp_path / "checksums.json").unlink()  # as in a folder of another origin
    assert hub.stored_fingerprint(tmp_path) is None
    assert Embedder.from_pretrained(tmp_path).fingerprint != embedder.fingerprint


def test_the_fingerprint_outlives_a_move_of_a_known_backbone():
    first, second, other = (
        Embedder(
            make_model(replace(CONFIG, backbone=f"image:/{place}", backbone_fingerprint=known)),
            Tokenizer(WORDS),
        ).fingerprint
        for place, known in (("a", "f1"), ("b", "f1"), ("b", "f2"))
    )
    assert first == second != other
    assert make_embedder(replace(CONFIG, backbone_fingerprint="f1")).fingerprint == (
        make_embedder().fingerprint  # as computed before fingerprints of backbones were stored
    )


def test_features_are_compared_by_fingerprint_where_both_are_known():
    spec = FeatureSpec(
        dim=12, features_per_second=1.0, backbone="test", normalized=True, fingerprint="f1"
    )
    config = with_fingerprint(CONFIG, spec)
    assert config.backbone_fingerprint == "f1"
    assert with_fingerprint(config, spec) == config
    check_features(config, replace(spec, backbone="image:/moved/here"))
    check_features(config, replace(spec, fingerprint=keyframe_fingerprint("f1")))
    check_features(config, replace(spec, fingerprint="imported"))
    with pytest.raises(IndexMismatchError, match="fingerprint of backbone 'test' 'f2', not 'f1'"):
        check_features(config, replace(spec, fingerprint="f2"))
    with pytest.raises(IndexMismatchError, match="backbone 'else', not 'test'"):
        check_features(config, replace(spec, backbone="else", fingerprint="imported"))
    assert with_fingerprint(CONFIG, replace(spec, fingerprint="imported")) == CONFIG


def test_a_backbone_that_is_gone_is_one_line(tmp_path):
    embedder = make_embedder(replace(CONFIG, backbone=f"image:{tmp_path / 'gone'}"))
    with pytest.raises(CheckpointError, match=r"folder .*gone does not exist: put it back"):
        _ = embedder.backbone


@pytest.fixture
def colours(tmp_path):
    """An embedder over colours, and three videos; the model takes 3 of their 4 to 7 features."""
    config = replace(CONFIG, feature_dim=len(NAMES), max_video_tokens=3, backbone="colours")
    config = replace(config, backbone_fingerprint=ColourBackbone.spec.fingerprint)
    embedder = Embedder(
        make_model(config), Tokenizer(WORDS), "cpu", batch_size=2, backbone=ColourBackbone()
    )
    shown = [NAMES[:4], ["red", "blue", "red", "green", "white", "white", "black"], NAMES[1:6]]
    paths = [write_video(tmp_path / f"{i}.mp4", seconds) for i, seconds in enumerate(shown)]
    return embedder, paths


def test_many_videos_embed_as_one_by_one(colours):
    embedder, paths = colours
    seen = []
    together = embedder.embed_videos([*paths, str(paths[0])], lambda *pair: seen.append(pair))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(embedder.backbone.decoded) == 3  # a path named twice is read once
    for path, video in zip([*paths, paths[0]], together, strict=True):
        alone = embedder.embed_video(path)
        np.testing.assert_array_equal(video.features, alone.features)
        np.testing.assert_allclose(video.tokens, alone.tokens, atol=1e-6)
    assert embedder.embed_videos([]) == []


def test_one_bad_video_does_not_lose_the_others(colours, tmp_path):
    embedder, paths = colours
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    with pytest.raises(EmbedVideosError, match=r"^1 of 4 videos could not be .*bad\.mp4") as caught:
        embedder.embed_videos([paths[0], bad, *paths[1:]])
    assert "\n" not in str(caught.value)
    assert list(caught.value.failed) == [bad]
    assert list(caught.value.embeddings) == paths
    alone = embedder.embed_video(paths[1])
    np.testing.assert_allclose(caught.value.embeddings[paths[1]].tokens, alone.tokens, atol=1e-6)


def test_a_video_is_pooled_as_one_window_over_all_of_it(colours):
    embedder, paths = colours
    video = embedder.embed_video(paths[1])
    (expected,) = embedder.embed_windows(video.features, [(0, 7)])
    np.testing.assert_array_equal(video.pooled, expected)
    again = pickle.loads(pickle.dumps(video))
    np.testing.assert_array_equal(again.pooled, expected)
    assert len(pickle.dumps(video)) < 3000  # without the model


@pytest.mark.parametrize("wrong", ["x.mp4", Path("x.mp4"), 5, [5], [["x.mp4"]]])
def test_one_path_is_not_a_list_of_paths(wrong):
    embedder = make_embedder()
    with pytest.raises(DataError, match="videos must be a list of paths, got"):
        embedder.embed_videos(wrong)
    with pytest.raises(DataError, match="videos must be a list of paths, got"):
        embedder.similarity("w1", wrong)


def test_similarity_compares_texts_with_videos_and_files(colours):
    embedder, paths = colours
    videos = embedder.embed_videos(paths)
    with pytest.raises(DataError, match="no videos to compare with"):
        embedder.similarity("w1", [])
    expected = embedder.embed_text(["w1", "w2"]) @ np.stack([video.pooled for video in videos]).T
    mixed = [videos[0], paths[1], str(paths[2])]
    np.testing.assert_allclose(embedder.similarity(["w1", "w2"], mixed), expected, atol=1e-6)
    assert embedder.similarity("w1", videos).shape == (1, 3)


def test_similarity_with_embedded_videos_needs_no_backbone():
    embedder = make_embedder()
    assert embedder.similarity("w1", [embedder.embed_features(make_features(3))]).shape == (1, 1)


def test_an_embedder_shows_what_it_is(tmp_path):
    assert repr(make_embedder()) == "Embedder(16-d, backbone 'test', cpu)"
    make_embedder().save_pretrained(tmp_path)
    again = Embedder.from_pretrained(tmp_path, "cpu")
    assert repr(again) == f"Embedder('{tmp_path}', 16-d, backbone 'test', cpu)"


def lossless(path, frames, rate):
    """A file that decodes to these very pixels."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.options = "rgb24", {"qp": "0"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("rate", "per_second"), [(8, 1.0), (5, 2.0), (3, 4.0)])
def test_frames_in_memory_embed_as_a_file_of_them(colours, tmp_path, rate, per_second):
    embedder, _ = colours
    embedder.backbone.frames_per_second = per_second
    blocks = np.random.default_rng(0).integers(0, 255, (4 * rate + 1, 4, 6, 3), dtype=np.uint8)
    frames = blocks.repeat(8, axis=1).repeat(8, axis=2)
    path = lossless(tmp_path / "lossless.mp4", frames, rate)
    from_file = [frame.rgb(Squash(12, 8)) for frame in sample_frames(path, per_second)]
    from_memory = [frame.rgb(Squash(12, 8)) for frame in resample_frames(frames, rate, per_second)]
    assert len(from_file) == len(from_memory)
    np.testing.assert_allclose(np.stack(from_memory, dtype=int), np.stack(from_file), atol=2)
    video = embedder.embed_frames(frames, rate)
    np.testing.assert_array_equal(video.features, embedder.embed_video(path).features)


def test_a_list_of_frames_embeds_as_one_array(colours):
    embedder, _ = colours
    frames = np.random.default_rng(0).integers(0, 255, (9, 32, 32, 3), dtype=np.uint8)
    video = embedder.embed_frames(frames, 4)
    np.testing.assert_array_equal(embedder.embed_frames(list(frames), 4).tokens, video.tokens)
    with pytest.raises(DataError, match="frames must be of one size"):
        embedder.embed_frames([frames[0], frames[0, :16]], 4)


def test_frames_of_another_kind_are_refused(colours):
    embedder, _ = colours
    frames = np.zeros((4, 32, 32, 3), dtype=np.uint8)
    kinds = (frames.astype(np.float32), frames[0], frames[..., :2], frames[:0], [], None)
    for wrong in kinds:
        with pytest.raises(DataError, match=r"frames must be a uint8 array \(N, H, W, 3\)"):
            embedder.embed_frames(wrong, 8)
    for rate in (0, -1.0, "2", None, np.inf, np.nan):
        with pytest.raises(ConfigError, match=f"frames per second must be positive, got {rate!r}"):
            embedder.embed_frames(frames, rate)

    class FilesOnly:
        name, spec = "files", ColourBackbone.spec

    other = Embedder(embedder.model, embedder.tokenizer, "cpu", backbone=FilesOnly())
    with pytest.raises(ConfigError, match="backbone 'files' embeds video files only"):
        other.embed_frames(frames, 8)


def test_the_pushed_folder_is_one_that_loads(monkeypatch, tmp_path):
    def upload(api, repo_id, folder_path):
        shutil.copytree(folder_path, tmp_path / "hub")
        return f"https://hub/{repo_id}"

    monkeypatch.setattr("huggingface_hub.get_token", lambda: "token")
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload)
    embedder = make_embedder()
    assert embedder.push_to_hub("somebody/model") == "https://hub/somebody/model"
    again = Embedder.from_pretrained(tmp_path / "hub")
    assert again.fingerprint == embedder.fingerprint
    assert (tmp_path / "hub" / "README.md").read_text().startswith("---\n")


def test_windows_of_ten_seconds():
    spans = window_spans(10, 1.0, WindowConfig(lengths=(4.0, 8.0, 16.0)))
    expected = [(0, 4), (2, 6), (4, 8), (6, 10), (0, 8), (2, 10), (0, 10)]
    assert spans.tolist() == [list(span) for span in expected]


@given(
    num_features=st.integers(1, 300),
    rate=st.sampled_from([0.5, 1.0, 2.0, 3.7]),
    lengths=st.lists(st.floats(0.3, 64), min_size=1, max_size=5).map(sorted),
)
def test_every_length_covers_everything(num_features, rate, lengths):
    spans = window_spans(num_features, rate, WindowConfig(lengths=tuple(lengths)))
    assert len(np.unique(spans, axis=0)) == len(spans)
    assert spans.min() == 0 and spans.max() == num_features
    assert (spans[:, 0] < spans[:, 1]).all()
    for length in np.unique(spans[:, 1] - spans[:, 0]):
        same = spans[spans[:, 1] - spans[:, 0] == length]
        covered = {t for start, stop in same for t in range(start, stop)}
        assert covered == set(range(num_features))
        step = length if length <= max(1, round(rate)) else length // 2  # half overlapping
        assert (np.diff(same[:, 0]) <= max(1, step)).all()


def test_a_second_is_one_window():
    assert window_spans(1, 1.0).tolist() == [[0, 1]]


@pytest.mark.parametrize(("rate", "length"), [(0.3, 1), (1.0, 1), (2.0, 2), (8.0, 8)])
def test_single_seconds_come_first_and_lie_side_by_side(rate, length):
    spans = window_spans(4 * length, rate)
    assert spans[:4].tolist() == [[i * length, (i + 1) * length] for i in range(4)]


@pytest.mark.parametrize("lengths", [(), (8.0, 4.0), (0.0, 4.0)])
def test_lengths_must_make_sense(lengths):
    with pytest.raises(ConfigError, match="ascending"):
        WindowConfig(lengths=lengths)
