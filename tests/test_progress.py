"""Progress is called once for each item, up to the last one, whatever becomes of the items."""

import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.library.colours import write_video
from tests.model.tiny_models import TINY, make_model
from videoclip.data.tokenizer import Tokenizer
from videoclip.embedding import Embedder, EmbedVideosError
from videoclip.evaluation import trial
from videoclip.features import frame_encoder


@pytest.fixture
def calls():
    return []


def test_of_an_update_with_new_moved_touched_changed_copied_and_unreadable_videos(
    library, videos, tmp_path, calls
):
    def on_progress(done, total):
        calls.append((done, total))

    (videos / "text.mp4").write_text("not a video")  # found when it is decoded
    os.mkfifo(videos / "pipe.mp4")  # found when the folder is listed, and not counted
    report = library.update([videos, tmp_path / "none.mp4"], on_progress=on_progress)
    assert len(report.added) == 3 and len(report.failed) == 3
    assert calls == [(done, 4) for done in range(5)]
    calls.clear()
    (videos / "a.mp4").rename(videos / "moved.mp4")
    content = (videos / "b.mp4").read_bytes()
    (videos / "b.mp4").unlink()  # other tests have links to it
    (videos / "b.mp4").write_bytes(content)
    (videos / "sub" / "c d.mp4").unlink()
    write_video(videos / "sub" / "c d.mp4", ["red"] * 2)
    shutil.copy(videos / "b.mp4", videos / "copy.mp4")
    write_video(videos / "new.mp4", ["blue"] * 2)
    report = library.update(videos, on_progress=on_progress)
    assert [len(report.moved), len(report.changed), len(report.added)] == [1, 1, 2]
    assert calls == [(done, 6) for done in range(7)]
    calls.clear()
    library.update(videos, on_progress=on_progress)
    assert calls == [(0, 1), (1, 1)]  # text.mp4 again
    (videos / "text.mp4").unlink()
    calls.clear()
    library.update(videos, on_progress=on_progress)
    assert calls == [(0, 0)]


def test_of_embedding_videos_twice_and_unreadable_ones(videos, tmp_path, calls, embedder):
    config = replace(TINY, backbone="colours", feature_dim=6)
    tokenizer = Tokenizer(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{i}" for i in range(46))])
    embedder = Embedder(make_model(config), tokenizer, "cpu", backbone=embedder.backbone)
    (tmp_path / "text.mp4").write_text("not a video")
    paths = [videos / "a.mp4", tmp_path / "text.mp4", videos / "a.mp4", videos / "b.mp4"]
    with pytest.raises(EmbedVideosError) as caught:
        embedder.embed_videos(paths, lambda *count: calls.append(count))
    assert calls == [(done, 4) for done in range(1, 5)]
    assert sorted(caught.value.embeddings) == [videos / "a.mp4", videos / "b.mp4"]


def test_of_storing_frames(videos, tmp_path, calls, monkeypatch):
    (tmp_path / "text.mp4").write_text("not a video")
    stored = {"there": []}

    class Store(SimpleNamespace):
        def __contains__(self, video_id):
            return video_id in stored

        def append(self, video_id, frames):
            stored[video_id] = list(frames)

    backbone = SimpleNamespace(frames_per_second=2.0, prepare=lambda frame: "frame")
    paths = {videos / "a.mp4": "a", tmp_path / "text.mp4": "text", videos / "b.mp4": "there"}
    failed = frame_encoder.store_frames(
        paths, Store(), SimpleNamespace(backbone=backbone), lambda *count: calls.append(count)
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert stored == {"there": [], "a": ["frame"] * 64}  # two frames of each of 32 seconds
    assert list(failed) == [tmp_path / "text.mp4"] and "not a video" in str(failed)


@pytest.mark.parametrize("num_clips", [1, 4, 5])
def test_of_embedding_clips_and_predicting(num_clips, calls, monkeypatch):
    monkeypatch.setattr(trial, "CLIPS_AT_ONCE", 2)
    encoder = SimpleNamespace(
        embed_windows=lambda features, spans: np.array([features[a:b].mean() for a, b in spans])
    )
    clips = [np.full((2, 1), number) for number in range(num_clips)]
    store = SimpleNamespace(read_windows=lambda some: some)
    of = trial.Trial(encoder, store, None, lambda *count: calls.append(count))
    assert of.embed_clips(clips).tolist() == list(range(num_clips))
    assert calls == [(min(2 * i, num_clips), num_clips) for i in range(1, (num_clips + 3) // 2)]
    calls.clear()
    assert of.predict_all(str, range(num_clips)) == list(map(str, range(num_clips)))
    assert calls == [(done, num_clips) for done in range(1, num_clips + 1)]
