import numpy as np

from tests.ablation.testbeds import CONFIG
from videoclip.ablation.testbed import build_testbed


def test_a_test_bed_is_built_once_and_can_grow(tmp_path):
    progress = []
    for num_videos in (1, 2, 2):
        testbed = build_testbed(
            tmp_path, CONFIG, num_videos, on_progress=lambda *counts: progress.append(counts)
        )
    assert progress == [(1, 1), (2, 2)]
    assert len(testbed.videos) == len(testbed.training_videos) + len(testbed.test_videos) == 2
    for video in testbed.videos:
        assert testbed.store.num_features(video.video_id) == round(video.duration)
        assert np.isfinite(testbed.store.read(video.video_id)).all()
    assert testbed.corpus.video_ids == [video.video_id for video in testbed.training_videos]
    cues = [ids for video in testbed.corpus for ids in video.narration.token_ids]
    assert cues and not any("[UNK]" in testbed.tokenizer.decode(ids.tolist()) for ids in cues)
