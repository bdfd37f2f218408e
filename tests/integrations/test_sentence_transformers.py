"""sentence-transformers embeds with our model, saves it and loads it."""

import numpy as np
import pytest

from tests.library.colours import ColourBackbone, write_video
from videoclip.errors import DataError

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def ours(peer):
    return peer("videoclip.integrations.sentence_transformers")


@pytest.fixture
def model(ours, embedder):
    return ours.sentence_transformer(embedder)


@pytest.fixture
def videos(tmp_path):
    return [write_video(tmp_path / f"{i}.mp4", ["red"] * i + ["blue"]) for i in (3, 1, 2)]


def test_texts_and_videos(model, embedder, videos):
    texts = ["red", "blue red blue w1", "green"]
    np.testing.assert_allclose(model.encode(texts), embedder.embed_text(texts), atol=1e-6)
    assert model.encode("red").shape == (16,)
    assert model.get_embedding_dimension() == 16
    wanted = np.stack([video.pooled for video in embedder.embed_videos(videos)])
    paths = list(map(str, videos))
    assert np.array_equal(model.encode([{"video": path} for path in paths]), wanted)
    assert np.array_equal(model.encode(paths), wanted)
    similarity = model.similarity(model.encode(texts), model.encode(paths)).numpy()
    np.testing.assert_allclose(similarity, embedder.similarity(texts, videos), atol=1e-6)


def test_a_prompt_is_put_before_texts(model, embedder):
    found = model.encode(["blue"], prompt="red ")
    np.testing.assert_allclose(found, embedder.embed_text(["red blue"]), atol=1e-6)


def test_frames_need_their_rate(ours, model, embedder):
    frames = np.full((8, 32, 32, 3), (220, 30, 30), np.uint8)
    wanted = embedder.embed_frames(frames, 4.0).pooled
    for array in (frames, frames.transpose(0, 3, 1, 2)):
        given = {"array": array, "video_metadata": {"fps": 4.0}}
        assert np.array_equal(model.encode([{"video": given}])[0], wanted)
    with pytest.raises(DataError, match="frames without their rate"):
        model.encode([{"video": {"array": frames, "video_metadata": None}}])


def test_saved_and_loaded(peer, model, embedder, tmp_path, videos, monkeypatch):
    library = peer("sentence_transformers")
    model.save_pretrained(str(tmp_path / "saved"))
    monkeypatch.setattr("videoclip.embedding.load_backbone", lambda *_: ColourBackbone())
    loaded = library.SentenceTransformer(str(tmp_path / "saved"), trust_remote_code=True)
    texts = ["red", "blue"]
    assert np.array_equal(loaded.encode(texts), model.encode(texts))
    video = [{"video": str(videos[0])}]
    assert np.array_equal(loaded.encode(video), model.encode(video))
    assert loaded.similarity_fn_name == "cosine"
