"""What a corpus of the size of HowTo100M takes: core hours, GPU hours, disk and money.

    python bench/scale.py [--hours 134000] [--videos 1200000] [--cores 1000] [...]
    python bench/scale.py --measure

Prints the tables of docs/scale.md. Every figure it starts from is an option whose help says where
it comes from; `python bench/scale.py --help` lists them. `--measure` measures the one that no other
benchmark does: how many videos one process appends to a feature store a second.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from videoclip.data.feature_store import FeatureSpec, FeatureStore


def assume(default: float, source: str) -> Any:
    """An assumption: its value, and where it comes from."""
    return field(default=default, metadata={"source": source})


@dataclass(frozen=True)
class Assumptions:
    """What the tables are computed from."""

    videos: float = assume(1_200_000, "HowTo100M")
    hours: float = assume(134_000, "HowTo100M")
    megabits_per_second: float = assume(0.8, "assumed: H.264 of 640x360")
    decode_speed: float = assume(
        20, "seconds of 1280x720 video a core decodes a second, keeping one frame of each"
    )
    extract_speed: float = assume(
        19, "the same of 640x360 video with starter features (docs/performance.md)"
    )
    gpu_extract_speed: float = assume(
        4_700,
        "frames of a network of the size of SigLIP base an H200 embeds a second, "
        "decoding apart (docs/performance.md)",
    )
    append_speed: float = assume(
        45, "videos of 402 s one process appends a second: bench/scale.py --measure"
    )
    feature_bytes: float = assume(2_590, "bytes of one second of starter features, 1295 x float16")
    embedding_bytes: float = assume(768, "bytes of one window's vector, 384 x float16")
    windows_per_second: float = assume(
        1.93, "windows of 1 to 32 s of a video of 402 s: window_spans"
    )
    pairs_per_video: float = assume(16, "paper, section 4")
    epochs: float = assume(25, "paper, section 4")
    gpu_pairs: float = assume(
        7_590, "clip pairs a second of one H200 (docs/performance.md); the paper's V100: 636"
    )
    core_pairs: float = assume(
        12.9, "the same of a core in bf16 (docs/performance.md: 32 in 2.48 s)"
    )
    cores: float = assume(1_000, "assumed: cores that extract at once")
    gpus: float = assume(8, "assumed: GPUs that train at once")
    core_price: float = assume(0.04, "assumed: dollars a core hour")
    gpu_price: float = assume(4.0, "assumed: dollars a GPU hour")
    disk_price: float = assume(0.02, "assumed: dollars a GB and month")


def tables(given: Assumptions) -> str:
    """Return the table of costs, then that of assumptions, in Markdown."""
    seconds = given.hours * 3600
    decoding = given.hours / given.decode_speed
    extraction = given.hours / given.extract_speed
    on_gpu = given.hours / given.gpu_extract_speed
    appending = given.videos / given.append_speed / 3600
    pairs = given.videos * given.pairs_per_video * given.epochs
    training = pairs / given.gpu_pairs / 3600
    videos = seconds * given.megabits_per_second / 8 / 1000
    features = seconds * given.feature_bytes / 1e9
    windows = seconds * given.windows_per_second
    vectors = windows * given.embedding_bytes / 1e9

    def cores(hours: float) -> list[str]:
        return [f"{hours:,.0f} core hours", f"{hours / given.cores:,.1f} h on {given.cores:,.0f} "
                "cores", f"${hours * given.core_price:,.0f}"]  # fmt: skip

    def gpus(hours: float) -> list[str]:
        return [f"{hours:,.0f} GPU hours", f"{hours / given.gpus:,.0f} h on {given.gpus:,.0f} GPUs",
                f"${hours * given.gpu_price:,.0f}"]  # fmt: skip

    def disk(gigabytes: float) -> list[str]:
        return [f"{gigabytes:,.0f} GB", "", f"${gigabytes * given.disk_price:,.0f} a month"]

    rows = [
        ["step", "takes", "by the clock", "costs"],
        ["---"] * 4,
        ["decode one frame a second", *cores(decoding)],
        ["decode and embed (`videoclip extract`), CPU", *cores(extraction)],
        ["append to the store, one process", "", f"{appending:,.1f} h", ""],
        ["embed on GPUs, decoding apart", *gpus(on_gpu)],
        ["pre-train (`videoclip pretrain paper`)", *gpus(training)],
        ["the same on CPUs", *cores(pairs / given.core_pairs / 3600)],
        ["videos on disk", *disk(videos)],
        ["feature store", *disk(features)],
        [f"library of {windows / 1e6:,.0f} million windows", *disk(vectors)],
    ]
    assumptions = [
        ["assumption", "value", "from"],
        ["---"] * 3,
        *(
            [f"`{_flag(name)}`", f"{getattr(given, name):,.10g}", source]
            for name, source in _sources().items()
        ),
    ]
    return "\n\n".join(
        "\n".join("| " + " | ".join(row) + " |" for row in table) for table in (rows, assumptions)
    )


def measure(num_videos: int = 200) -> float:
    """Return how many videos of 402 s one process appends a second, each synced to the disk."""
    features = np.random.default_rng(0).random((402, 1295), dtype=np.float32)
    spec = FeatureSpec(1295, 1.0, "starter", False, "scale")
    with (
        tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder,
        FeatureStore.create(Path(folder) / "store", spec) as store,
    ):
        start = time.perf_counter()
        for number in range(num_videos):
            store.append(str(number), features)
        return num_videos / (time.perf_counter() - start)


def _sources() -> dict[str, str]:
    return {entry.name: entry.metadata["source"] for entry in fields(Assumptions)}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def main() -> None:
    """Print the tables, or measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for entry in fields(Assumptions):
        assert entry.default is not MISSING
        parser.add_argument(
            _flag(entry.name), type=float, default=entry.default, help=entry.metadata["source"]
        )
    parser.add_argument("--measure", action="store_true", help="measure --append-speed")
    given = vars(parser.parse_args())
    if given.pop("measure"):
        print(f"{measure():.0f} videos appended a second")
    else:
        print(tables(Assumptions(**given)))


if __name__ == "__main__":
    main()
