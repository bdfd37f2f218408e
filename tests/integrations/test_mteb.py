"""MTEB evaluates a model: its own mock tasks, and what it is told about the model."""

import numpy as np
import pytest
import torch

from tests.library.colours import write_video
from videoclip.errors import DataError

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def encoder(peer, embedder):
    return peer("videoclip.integrations.mteb").MtebEncoder(embedder)


@pytest.fixture
def loader(peer):
    """Function of columns: a data loader as MTEB makes one."""
    datasets = peer("datasets")

    def loader(**columns):
        dataset = datasets.Dataset.from_dict(columns)
        if "video" in columns:
            dataset = dataset.cast_column("video", datasets.Video())
        return torch.utils.data.DataLoader(dataset, batch_size=2)

    return loader


def test_the_mock_video_tasks_run(peer, encoder):
    mteb = peer("mteb")
    tasks = [
        task
        for task in peer("mteb.mocks").ALL_MOCK_TASK_TEST_GRID
        if "video" in task.metadata.modalities and "audio" not in task.metadata.modalities
    ]
    kinds = {task.metadata.type for task in tasks}
    assert len(tasks) >= 7 and len(kinds) >= 6
    results = mteb.evaluate(encoder, tasks, cache=None, show_progress_bar=False)
    assert {result.task_name for result in results.task_results} == {
        task.metadata.name for task in tasks
    }
    assert not results.exceptions


def test_embeddings_are_those_of_the_embedder(tmp_path, encoder, embedder, loader):
    videos = [write_video(tmp_path / f"{i}.mp4", ["red"] * i + ["blue"]) for i in (1, 2, 3)]
    stored = [{"bytes": video.read_bytes(), "path": None} for video in videos]
    wanted = np.stack([video.pooled for video in embedder.embed_videos(videos)])
    for given in (stored, [str(video) for video in videos]):
        assert np.array_equal(encoder.encode(loader(video=given)), wanted)
    texts = ["red", "blue", "green blue"]
    assert np.array_equal(encoder.encode(loader(text=texts)), embedder.embed_text(texts))
    both = encoder.encode(loader(text=texts, video=stored))
    np.testing.assert_allclose(both, (embedder.embed_text(texts) + wanted) / 2)
    with pytest.raises(DataError, match="MTEB gave image, but the model takes text and video"):
        encoder.encode(loader(image=[1]))


def test_a_decoder_in_memory_is_embedded_by_its_frames(encoder, embedder):
    frames = np.repeat(np.array([[220, 30, 30], [30, 30, 220]], np.uint8), 4, axis=0)
    frames = np.broadcast_to(frames[:, None, None], (8, 32, 32, 3))

    class Decoder:
        """What encode needs of torchcodec's VideoDecoder."""

        class metadata:
            average_fps = 4.0

        def __len__(self):
            return len(frames)

        def get_frames_in_range(self, start, stop):
            data = torch.from_numpy(frames[start:stop].copy()).permute(0, 3, 1, 2)
            return type("FrameBatch", (), {"data": data})

    class Decoded(list):
        features = ("video",)

    inputs = type("Loader", (), {"dataset": Decoded([{"video": Decoder()}])})
    wanted = embedder.embed_frames(frames, 4.0).pooled
    assert np.array_equal(encoder.encode(inputs), wanted[None])


def test_what_is_stored_with_results(peer, encoder, embedder):
    meta = encoder.mteb_model_meta
    assert (meta.embed_dim, meta.max_tokens) == (16, 11)
    assert meta.revision == embedder.fingerprint
    assert meta.modalities == ["text", "video"]
    assert meta.similarity_fn_name.value == "cosine"


def test_a_model_is_loaded_by_its_metadata(peer, embedder, tmp_path):
    embedder.save_pretrained(tmp_path / "model")
    meta = peer("videoclip.integrations.mteb").MtebEncoder(tmp_path / "model").mteb_model_meta
    assert meta.name == "videoclip/model"
    loaded = meta.loader(meta.name, meta.revision, device="cpu")  # load_model needs torchcodec
    assert loaded.embedder.fingerprint == embedder.fingerprint == meta.revision
