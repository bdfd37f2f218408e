"""The worlds of a seed are those of earlier versions: numbers in docs/ and runs depend on them.

Who changes them on purpose writes the files anew (`python -m tests.synthetic.test_same_world`) and
measures again what was measured on them.
"""

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from videoclip.synthetic.render import frame_times, frames
from videoclip.synthetic.world import SyntheticConfig, SyntheticWorld
from videoclip.synthetic.write import write_texts

TEXTS, FRAMES = (Path(__file__).with_name(name) for name in ("texts.json", "frames.npz"))
CONFIGS = {
    "default": SyntheticConfig(),
    "other": SyntheticConfig(
        seed=7,
        num_tasks=12,
        num_steps=60,
        steps_per_video=(3, 5),
        step_seconds=(3.0, 12.0),
        gap_seconds=(1.0, 4.0),
        rolling_captions=False,
        unspoken_share=0.1,
        off_topic_share=0.4,
        frames_per_second=25,
    ),
}
NUM_VIDEOS = 24


def digests(name):
    """Digest by file of what is written of a world, and of the times of its frames."""
    with TemporaryDirectory() as folder:
        videos = write_texts(folder, CONFIGS[name], NUM_VIDEOS)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        found = {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            for path in files
            if path.name not in ("world.json", "checksums.json")
        }
    times = [frame_times(video, CONFIGS[name]).tolist() for video in videos]
    return found | {"frame times": hashlib.sha256(json.dumps(times).encode()).hexdigest()[:16]}


def coarse_frames(name):
    """Means of 4 x 4 parts of some frames of some videos: rounding differs between processors."""
    world, parts = SyntheticWorld(CONFIGS[name]), []
    for index in range(4):
        shown = frames(world.video(index), CONFIGS[name], 0.2).astype(np.float32)
        count, height, width, _ = shown.shape
        parts.append(shown.reshape(count, 4, height // 4, 4, width // 4, 3).mean(axis=(2, 4)))
    return np.concatenate(parts).astype(np.float16)


@pytest.mark.parametrize("name", CONFIGS)
def test_narration_annotations_and_times_are_those_of_earlier_versions(name):
    assert digests(name) == json.loads(TEXTS.read_text())[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_frames_are_those_of_earlier_versions(name):
    with np.load(FRAMES) as wanted:
        np.testing.assert_allclose(coarse_frames(name), wanted[name], atol=0.5)


if __name__ == "__main__":
    TEXTS.write_text(json.dumps({name: digests(name) for name in CONFIGS}, indent=1) + "\n")
    np.savez_compressed(FRAMES, **{name: coarse_frames(name) for name in CONFIGS})
