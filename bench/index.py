"""Cost of `index` beside its floor: decoding and the model's forward passes, each by itself.

    python bench/index.py [--seconds 300] [--large-seconds 20] [--json]
    python bench/index.py --batches   # only what larger batches of the large model would save

A moving and a still video of 640 x 360 at 24 frames a second are made first: a camera that pans
over a random landscape with a cut every five seconds, and one picture of it. There are as many
copies as cores. They are indexed by the starter, and by a random model of the size of SigLIP base.
Costs are seconds of processor time of all processes for one second of video, from when each
process has indexed a video of one second: starting is left out. The floor of a still video is its
decoding and one forward pass. Run by one thread a process: `OMP_NUM_THREADS=1`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import torch
import transformers

from videoclip.embedding import Embedder
from videoclip.features.decode import sample_frames
from videoclip.features.frame_backbone import FrameBackbone
from videoclip.features.workers import num_cores
from videoclip.library.library import VideoLibrary

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "index.json"
WIDTH, HEIGHT, FRAME_RATE = 640, 360, 24
BIT_RATE = 800_000
SECONDS_OF_A_SHOT = 5
FLOOR_SECONDS = 20
"""Of video on which the floor is measured."""
BATCHES = (1, 4, 16)
ROUNDS = 3
"""Of which the fastest counts."""


def landscape(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Random colours at all scales: coarse ones are strong, fine ones weak, as in photographs."""
    picture = np.zeros((height, width, 3))
    for scale in (128, 64, 32, 16, 8, 4, 2):
        rows, columns = height // scale + 2, width // scale + 2
        coarse = rng.normal(size=(rows, columns, 3)) * scale**0.8
        picture += coarse.repeat(scale, axis=0).repeat(scale, axis=1)[:height, :width]
    picture = (picture - picture.mean()) / picture.std()
    return (128 + 50 * picture).clip(0, 255).astype(np.uint8)


def write_video(path: Path, seconds: int, is_moving: bool) -> None:
    """Write an MP4 as cameras and converters do: H.264, x264's defaults."""
    rng = np.random.default_rng(0)
    noise = rng.integers(-6, 7, (7, HEIGHT, WIDTH, 3))  # as of a sensor
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = BIT_RATE
        for number in range(seconds * FRAME_RATE):
            position = number % (SECONDS_OF_A_SHOT * FRAME_RATE)
            if number == 0 or (position == 0 and is_moving):
                wide = landscape(rng, HEIGHT + 240, WIDTH + 480)
            x, y = (4 * position, 2 * position) if is_moving else (0, 0)
            shown = np.ascontiguousarray(wide[y : y + HEIGHT, x : x + WIDTH])
            if is_moving:
                shown = (shown + noise[number % len(noise)]).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, "rgb24")))
        container.mux(stream.encode(None))


def large_model(folder: Path) -> Embedder:
    """A dual encoder whose images go through a network of the size of SigLIP base."""
    sys.path.insert(0, str(ROOT))
    from tests.tiny_dual_encoders import gemma_tokenizer

    tokenizer = gemma_tokenizer(
        add_bos_token=False, add_eos_token=True, padding_side="right", model_max_length=16
    )
    text = {"vocab_size": len(tokenizer), "num_hidden_layers": 1, "max_position_embeddings": 16}
    vision = transformers.SiglipVisionConfig().to_dict()
    config = transformers.SiglipConfig(text_config=text, vision_config=vision)
    torch.manual_seed(0)
    processor = transformers.SiglipImageProcessorPil(size={"height": 224, "width": 224})
    for part in (transformers.SiglipModel(config), processor, tokenizer):
        part.save_pretrained(folder)
    return Embedder.from_pretrained(str(folder), "cpu")


def cpu_seconds() -> float:
    """Processor time of this process and all that descend from it, ended ones included."""
    own, parents, times = os.getpid(), {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            fields = path.read_text().rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(fields[1])
            times[int(path.parent.name)] = sum(map(int, fields[11:15]))  # in ticks
    family = {own}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(times[pid] for pid in family) / os.sysconf("SC_CLK_TCK")


def floor(backbone: FrameBackbone, video: Path, is_moving: bool) -> tuple[float, float]:
    """Processor time of decoding (and scaling) and of forward passes for a second of video."""
    torch.set_num_threads(1)
    before, prepared = time.process_time(), []
    for number, frame in enumerate(sample_frames(video, backbone.frames_per_second)):
        prepared.append(backbone.prepare(frame))
        if number + 1 == FLOOR_SECONDS:
            break
    decoding = (time.process_time() - before) / len(prepared)
    images = prepared if is_moving else prepared[:1]
    backbone.embed_frames(np.stack(images[:1]))
    before = time.process_time()
    for first in range(0, len(images), backbone.frames_per_batch):
        backbone.embed_frames(np.stack(images[first : first + backbone.frames_per_batch]))
    return decoding, (time.process_time() - before) / len(prepared)


def forward_by_batch(backbone: FrameBackbone, video: Path) -> dict[int, float]:
    """Processor time of forward passes, in ms a frame, by the number of frames of a batch."""
    torch.set_num_threads(1)
    frames = sample_frames(video, backbone.frames_per_second)
    images = np.stack([backbone.prepare(frame) for frame in frames][: max(BATCHES)])
    backbone.embed_frames(images[:1])
    times: dict[int, list[float]] = {size: [] for size in BATCHES}
    for _ in range(ROUNDS):
        for size, taken in times.items():
            before = time.process_time()
            for first in range(0, len(images), size):
                backbone.embed_frames(images[first : first + size])
            taken.append(1e3 * (time.process_time() - before) / len(images))
    return {size: round(min(taken), 1) for size, taken in times.items()}


def index(videos: Sequence[Path], start: Path, embedder: Embedder) -> tuple[float, float]:
    """Wall-clock and processor time of `index`, one worker for each core, once all have started."""
    times: list[tuple[float, float]] = []

    def note(done: int, total: int) -> None:
        if done in (num_cores(), total):
            times.append((time.perf_counter(), cpu_seconds()))

    firsts = copies(start)
    with tempfile.TemporaryDirectory() as folder, VideoLibrary(Path(folder), embedder) as library:
        report = library.update([*firsts, *videos], num_workers=num_cores(), on_progress=note)
        assert len(report.added) == len(firsts) + len(videos), report
    (wall, cpu), (end_wall, end_cpu) = times[0], times[-1]
    return end_wall - wall, end_cpu - cpu


def copies(video: Path) -> list[Path]:
    """As many videos as there are cores, of different content."""
    paths = [video]
    for number in range(1, num_cores()):
        paths.append(video.with_stem(f"{video.stem}-{number}"))
        paths[-1].write_bytes(video.read_bytes() + bytes(number))  # a trailing zero is ignored
    return paths


def measure(embedder: Embedder, folder: Path, kind: str, seconds: int) -> dict[str, float]:
    """Index the copies of one video."""
    is_moving = kind == "moving"
    path = folder / f"{kind}-{seconds}.mp4"
    if not path.exists():
        write_video(path, seconds, is_moving)
    backbone = embedder.backbone
    assert isinstance(backbone, FrameBackbone)
    decoding, forward = floor(backbone, path, is_moving)
    wall, cpu = index(copies(path), folder / "a-start.mp4", embedder)  # names are their order
    of_video = seconds * num_cores()
    cost = cpu / of_video
    return {
        "decoding ms": round(1e3 * decoding, 1),
        "forward ms": round(1e3 * forward, 1),
        "index ms": round(1e3 * cost, 1),
        "times the floor": round(cost / (decoding + forward), 2),
        "real time": round(of_video / wall, 1),
        "real time by processor time": round(num_cores() / cost, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--large-seconds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--batches", action="store_true", help="forward passes by size of batch")
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.batches:
            write_video(folder / "moving.mp4", max(BATCHES), is_moving=True)
            backbone = large_model(folder / "model").backbone
            assert isinstance(backbone, FrameBackbone)
            print(forward_by_batch(backbone, folder / "moving.mp4"))
            return
        write_video(folder / "a-start.mp4", 1, is_moving=False)
        starter = Embedder.from_pretrained("starter", "cpu")
        models = {
            "starter": (starter, arguments.seconds),
            "SigLIP base size": (large_model(folder / "model"), arguments.large_seconds),
        }
        for model, (embedder, seconds) in models.items():
            for kind in ("moving", "still"):
                result = results[f"{model}, {kind}"] = measure(embedder, folder, kind, seconds)
                print(f"{model}, {kind}: {result}", file=sys.stderr)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    if arguments.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
