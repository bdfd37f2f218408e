"""What one GPU does: its tests, a training step, extraction, and collectives of one process.

    python bench/gpu.py [--pairs 512] [--rounds 2] [--videos 16]

Each part runs in a process of its own, and a part that fails does not stop the others; the exit
status says whether one did. Extraction is `videoclip extract` of copies of a moving 640 x 360 video
of 20 seconds, by the vision network of the starter and by a random one of the size of SigLIP
base, on the GPU and on all cores; the forward passes alone are measured beside it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from index import large_model, write_video  # noqa: E402

from videoclip.data.feature_store import FeatureStore  # noqa: E402
from videoclip.features.backbones import load_backbone  # noqa: E402
from videoclip.features.decode import sample_frames  # noqa: E402
from videoclip.features.extract import extract_features  # noqa: E402
from videoclip.features.frame_backbone import FrameBackbone  # noqa: E402
from videoclip.features.workers import num_cores  # noqa: E402

PARTS = ("tests", "step", "extraction")
SECONDS = 20
FRAMES = {"cuda": 512, "cpu": 16}
"""Through the network alone, at least."""


def forward_rate(backbone: FrameBackbone, video: Path) -> float:
    """Frames a second through the network alone, copied to the device and back."""
    size = backbone.frames_per_batch
    some = islice(sample_frames(video, backbone.frames_per_second), 8)
    prepared = [backbone.prepare(frame) for frame in some]
    frames = np.stack(list(islice(cycle(prepared), size)))
    backbone.embed_frames(frames)
    began, rounds = time.perf_counter(), max(1, FRAMES[backbone.device] // size)
    for _ in range(rounds):
        backbone.embed_frames(frames)
    return rounds * size / (time.perf_counter() - began)


def measure_extraction(num_videos: int) -> None:
    """Print seconds of video a second of `extract`, by network, device and number of workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = folder / "videos" / "0.mp4"
        video.parent.mkdir()
        write_video(video, SECONDS, is_moving=True)
        videos = [video, *(video.with_stem(str(number)) for number in range(1, 8 * num_videos))]
        for number, copy in enumerate(videos[1:], start=1):
            copy.write_bytes(video.read_bytes() + bytes(number))
        large_model(folder / "model")
        for network, source in (
            ("starter", "starter"),
            ("SigLIP base size", f"image:{folder / 'model'}"),
        ):
            for device, workers, share in (
                ("cuda", 1, 1),
                ("cuda", num_cores(), 8),  # several for each worker
                ("cpu", num_cores(), 1),
            ):
                backbone = load_backbone(source, device)
                assert isinstance(backbone, FrameBackbone)
                alone = forward_rate(backbone, video)
                path = folder / f"{network}-{device}-{workers}"
                store = FeatureStore.open_or_create(path, backbone.spec)
                began = time.perf_counter()
                some = videos[: share * num_videos]
                extract_features(some, store, backbone, num_workers=workers)
                rate = len(some) * SECONDS / (time.perf_counter() - began)
                print(
                    f"{network}, {device}, {workers} workers: network alone {alone:.0f} frames/s, "
                    f"extract {len(some)} videos, {rate:.0f} seconds of video/s",
                    flush=True,
                )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--videos", type=int, default=num_cores())
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--extract", action="store_true", help="measure extraction here")
    options = parser.parse_args()
    if options.extract:
        measure_extraction(options.videos)
        return 0
    python, failed = sys.executable, []
    parts = {
        # A GPU machine may lack what other tests need, and its versions may warn of other things.
        "tests": [python, "-m", "pytest", "-q", "-m", "gpu", "-o", "filterwarnings=default",
                  *(str(path) for path in ROOT.glob("tests/**/test_*.py")
                    if "pytest.mark.gpu" in path.read_text())],
        "step": [python, "bench/train_step.py", "--device", "cuda", "--pairs", str(options.pairs),
                 "--rounds", str(options.rounds)],
        "extraction": [python, "bench/gpu.py", "--extract", "--videos", str(options.videos)],
    }  # fmt: skip
    for part in options.parts:
        command = parts[part]
        print(f"== {part}, {torch.cuda.get_device_name()}", flush=True)
        began = time.perf_counter()
        if subprocess.run(command, cwd=ROOT).returncode:
            failed.append(part)
        print(f"== {part}: {time.perf_counter() - began:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
