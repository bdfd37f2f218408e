"""Memory and CPU of `videoclip segment` on an hour of video, beside a minute of the same.

    python bench/hour.py [--minutes 60] [--pixels 320] [--json]

The video is made first: a scene of the synthetic world, repeated. Memory is the peak resident set
of the whole command, with its pictures and tables written; CPU is that of all its threads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

import av

from videoclip.synthetic.render import write_video
from videoclip.synthetic.world import SyntheticConfig, SyntheticWorld

RESULTS = Path(__file__).parent / "results" / "hour.json"
LIMIT_MIB = 1536
"""What the hour must stay within."""
LABELS = ("a ball is lifted", "a box grows", "a star moves to the left", "a moon fades")


def write_repeated(path: Path, pixels: int, seconds: float) -> None:
    """Write a video that shows one scene of the world again and again."""
    config = SyntheticConfig(seed=5, pixels=pixels)
    scene = path.with_name("scene.mp4")
    write_video(SyntheticWorld(config).video(0), config, scene)
    repeat(scene, path, seconds)


def repeat(scene: Path, path: Path, seconds: float) -> None:
    """Copy a video's packets one after the other until it lasts as long as wanted."""
    with av.open(str(scene)) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.pts is not None]
        length = max(p.pts + p.duration for p in packets) - min(p.pts for p in packets)
        with av.open(str(path), "w") as target:
            copy = target.add_stream_from_template(stream)
            for number in range(int(seconds / (length * stream.time_base)) + 1):
                for packet in packets:
                    again = av.Packet(bytes(packet))
                    again.pts = packet.pts + number * length
                    again.dts = packet.dts + number * length
                    again.duration, again.time_base = packet.duration, packet.time_base
                    again.is_keyframe = packet.is_keyframe
                    again.stream = copy
                    if again.pts * again.time_base < seconds:
                        target.mux(again)


def measure(video: Path, folder: Path) -> dict[str, float]:
    """Segment a video in a process of its own."""
    labels = [part for label in LABELS for part in ("--label", label)]
    files = ("png", "html", "csv", "vtt")
    outputs = [part for kind in files for part in (f"--{kind}", str(folder / f"t.{kind}"))]
    command = [sys.executable, "-m", "videoclip", "segment", str(video), *labels, *outputs]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"segment failed with {os.waitstatus_to_exitcode(status)}")
    return {
        "peak MiB": round(usage.ru_maxrss / 1024),
        "CPU s": round(usage.ru_utime + usage.ru_stime, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--pixels", type=int, default=320)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result: dict[str, object] = {"pixels": arguments.pixels}
        for minutes in (1.0, arguments.minutes):
            video = folder / f"{minutes:g}.mp4"
            # In a process of its own: a child's peak counts what its parent held when it began.
            making = get_context("spawn").Process(
                target=write_repeated, args=(video, arguments.pixels, 60 * minutes)
            )
            making.start()
            making.join()
            result[f"{minutes:g} minutes"] = measure(video, folder)
    longest = result[f"{arguments.minutes:g} minutes"]
    result["of the limit"] = round(longest["peak MiB"] / LIMIT_MIB, 2)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2) if arguments.json else result)


if __name__ == "__main__":
    main()
