"""What it costs to read videos in a helper process; processor time, in pairs, medians.

    python bench/containment.py [--video FILE] [--rounds N] [--extract] [--json]

One frame a second at 224 pixels is sampled in turn with the helper process (its time included) and
without; with `--extract` features of the starter are computed from the frames, too. The start of a
helper is measured apart: once per command, whatever number of videos. The default video is that of
bench/decode.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from decode import RESULTS, SIZE, cpu_seconds, make_clip

from videoclip.features import contained, decode
from videoclip.features.backbones import load_backbone
from videoclip.features.frame_backbone import FrameBackbone


def sample(module: object, path: Path, times: int, backbone: FrameBackbone | None) -> float:
    """Return the processor time of sampling a video, that of a waiting helper included."""
    start = time.process_time() + helper_time()
    for _ in range(times):
        frames = module.sample_frames(path, 1.0)  # type: ignore[attr-defined]
        if backbone:
            list(backbone.features_from(frames))
        else:
            for frame in frames:
                frame.rgb(SIZE)
    return time.process_time() + helper_time() - start


def helper_time() -> float:
    """Return the processor time of the idle helpers so far."""
    total = 0.0
    for helper in contained._idle:
        ticks = Path(f"/proc/{helper.process.pid}/schedstat").read_text().split()[0]
        total += int(ticks) / 1e9
    return total


def start_time() -> float:
    """Return the processor time of a Python process that is ready to read videos."""
    code = "import videoclip.features.contained"
    return cpu_seconds(lambda: subprocess.run([sys.executable, "-P", "-c", code], check=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, default=RESULTS / "clip_720p30.mp4")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--times", type=int, default=1, help="samplings of the video in each round")
    parser.add_argument("--extract", action="store_true", help="compute features, too")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    backbone: FrameBackbone | None = None
    if arguments.extract:
        loaded = load_backbone("starter")
        assert isinstance(loaded, FrameBackbone)
        backbone = loaded
    path: Path = arguments.video
    if not path.exists():
        print(f"making {path} (once)", file=sys.stderr)
        make_clip(path)
    modules = [contained, decode]
    used: dict[object, list[float]] = {module: [] for module in modules}
    for module in modules:
        sample(module, path, 1, backbone)  # a start of its own
    for _ in range(arguments.rounds):
        for module in modules:
            used[module].append(sample(module, path, arguments.times, backbone))
        modules.reverse()
    ratios = [a / b for a, b in zip(used[contained], used[decode], strict=True)]
    result = {
        "video": path.name,
        "cpu_seconds": statistics.median(used[contained]),
        "cpu_seconds_without": statistics.median(used[decode]),
        "ratio": statistics.median(ratios),
        "start_cpu_seconds": statistics.median(start_time() for _ in range(5)),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "containment.json").write_text(json.dumps(result, indent=2))
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(
        f"{path.name}: {result['cpu_seconds']:.3f} CPU s with a helper process, "
        f"{result['cpu_seconds_without']:.3f} without: {result['ratio']:.3f}x; "
        f"the start of a helper: {result['start_cpu_seconds']:.2f} CPU s"
    )


if __name__ == "__main__":
    main()
