"""What saving and restoring a checkpoint of the paper's model costs.

    python bench/checkpoint.py [--json]

A checkpoint holds weights and both moments of Adam, and is on the disk when it counts as written.
The floors are one sequential write with fsync of as many bytes, and one read of them into memory.
Wall time, best of three; the disk decides it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from videoclip.data.tokenizer import Tokenizer
from videoclip.model.videoclip import VideoCLIP
from videoclip.recipes import paper
from videoclip.training.optim import build_optimizer
from videoclip.training.run_folder import Position, RunFolder, read_checkpoint, write_checkpoint
from videoclip.weights.files import text_folder

RESULTS = Path(__file__).resolve().parent / "results"


def seconds(work: Callable[[int], object]) -> float:
    """Least wall time of three calls, which are told their number."""
    times = []
    for number in range(3):
        started = time.perf_counter()
        work(number)
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    """Measure, print and keep the JSON under bench/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="accepted; the output is JSON anyway")
    parser.parse_args()
    config = paper()
    model, tokenizer = VideoCLIP(config.model), Tokenizer.from_folder(text_folder())
    optimizer = build_optimizer(model, config.optim)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    with tempfile.TemporaryDirectory() as name, RunFolder(Path(name), {}, {}, keep=1) as run:

        def save(number: int) -> None:
            run.save_checkpoint(
                number,
                lambda folder: write_checkpoint(
                    folder, model, tokenizer, optimizer, Position(update=number)
                ),
            )

        def restore(_: int) -> None:
            newest = run.newest()
            assert newest is not None
            read_checkpoint(newest.folder, model, optimizer)

        saving, restoring = seconds(save), seconds(restore)
        files = [path for path in Path(name).rglob("*") if path.is_file()]
        num_bytes = sum(path.stat().st_size for path in files)
        raw, path = np.zeros(num_bytes, dtype=np.uint8), Path(name) / "raw"

        def write(_: int) -> None:
            with path.open("wb") as file:
                file.write(raw.data)
                os.fsync(file.fileno())

        floor_write, floor_read = seconds(write), seconds(lambda _: np.fromfile(path, np.uint8))
    result = {
        "gigabytes": num_bytes / 1e9,
        "save": saving,
        "floor of save": floor_write,
        "restore": restoring,
        "floor of restore": floor_read,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "checkpoint.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
