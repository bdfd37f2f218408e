"""One run: a row of the table trained with one seed on one world, and measured.

A run is a folder; what is there already is not done again, so that the table grows row by row and
an interrupted one goes on where it stopped.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videoclip.ablation.bed import TestBed
from videoclip.ablation.measure import MEASURES, measure
from videoclip.ablation.rows import ROWS, Row
from videoclip.ablation.seconds import Counts
from videoclip.config import PretrainConfig
from videoclip.embedding import Embedder
from videoclip.evaluation.encoders import EmbedderEncoder
from videoclip.training.pretrain import pretrain
from videoclip.training.run_folder import read_log, write_json

__all__ = ["Finished", "finished", "perform", "run_folder"]

MEASURED = "measured.json"


@dataclass(frozen=True)
class Finished:
    """What a run has come to.

    Attributes:
        world: Name of the world.
        row: Name of the row.
        seed: Seed of the run.
        counts: What it knows of the test videos.
        curve: (updates, loss) averaged over stretches of the run.
        updates: Updates of the run.
        pairs: Clip pairs seen.
        cpu_seconds: Processor time of the training.
    """

    world: str
    row: str
    seed: int
    counts: Counts
    curve: tuple[tuple[int, float], ...]
    updates: int
    pairs: int
    cpu_seconds: float


def run_folder(out: Path, world: str, row: str, seed: int) -> Path:
    """Where a run lies in the folder of an ablation."""
    return out / "runs" / world / row / f"seed-{seed}"


def perform(out: Path, world: str, row: str, seed: int) -> None:
    """Train and measure one run, on one thread, unless that is done.

    Args:
        out: Folder of the ablation; the world lies in `out/worlds/WORLD`.
        world: Name of the world.
        row: Name in `ROWS`.
        seed: Seed of the run.

    Raises:
        VideoCLIPError: As training does.
    """
    folder = run_folder(out, world, row, seed)
    known = _read(folder / MEASURED)
    if known and set(known["counts"]) == set(MEASURES):
        return
    torch.set_num_threads(1)
    bed, what = _bed(out / "worlds" / world), ROWS[row]
    if what.after:
        perform(out, world, what.after, seed)
    if what.trained_as:
        folder.mkdir(parents=True, exist_ok=True)
        trained = run_folder(out, world, what.trained_as, seed)
        facts = _read(trained / MEASURED)["training"]
    else:
        trained = folder
        config = configured(what, bed, seed)
        if what.teacher:
            teacher = run_folder(out, world, what.teacher, seed) / "model"
            config = replace(config, plan=replace(config.plan, teacher=str(teacher)))
        facts = known["training"] if known else _train(config, bed, folder)
    embedder = Embedder.from_pretrained(trained / "model")
    counts = measure(EmbedderEncoder(embedder), bed, what.rerank_top)
    write_json(
        folder / MEASURED,
        {
            "training": facts,
            "counts": {name: pairs.tolist() for name, pairs in counts.items()},
        },
    )


def configured(row: Row, bed: TestBed, seed: int) -> PretrainConfig:
    """Return the configuration of a run: the row's, with the features and words of the bed."""
    config, spec, words = row.make(), bed.store.spec, bed.tokenizer
    model = replace(
        config.model,
        backbone=spec.backbone,
        feature_dim=spec.dim,
        normalized_features=spec.normalized,
        vocab_size=words.vocab_size,
        pad_id=words.pad_id,
        cls_id=words.cls_id,
        sep_id=words.sep_id,
    )
    return replace(config, model=model, seed=seed, precision="bf16")


def finished(out: Path) -> list[Finished]:
    """Return every run that has been measured, by world, row and seed."""
    found = []
    for path in sorted((out / "runs").glob(f"*/*/seed-*/{MEASURED}")):
        world, row, seed = path.parts[-4:-1]
        content = _read(path)
        if set(content["counts"]) != set(MEASURES):
            continue  # measured by another version: `perform` measures it again
        counts = {name: np.array(pairs) for name, pairs in content["counts"].items()}
        facts = content["training"]
        curve = tuple((int(update), float(loss)) for update, loss in facts.pop("curve"))
        found.append(Finished(world, row, int(seed.removeprefix("seed-")), counts, curve, **facts))
    return found


def _read(path: Path) -> dict[str, Any]:
    """Return what was measured of a run; nothing if it was not."""
    if not path.exists():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


@lru_cache(maxsize=1)
def _bed(folder: Path) -> TestBed:
    return TestBed.open(folder)


def _train(config: PretrainConfig, bed: TestBed, folder: Path) -> dict[str, object]:
    """Train a run and say what it took; the time of an interrupted one is that of its last part."""
    began = time.process_time()
    pretrain(config, bed.corpus, folder, tokenizer=bed.tokenizer, shown=False)
    seconds = time.process_time() - began
    steps = [entry for entry in read_log(folder) if "loss" in entry]
    return {
        "curve": _curve([(entry["update"], entry["loss"]) for entry in steps]),
        "updates": len(steps),
        "pairs": round(sum(e["pairs_per_second"] * e["seconds"] for e in steps)),
        "cpu_seconds": round(seconds, 1),
    }


def _curve(points: list[tuple[int, float]], num_points: int = 40) -> list[tuple[int, float]]:
    """Average a loss over stretches of a run, each told by its last update."""
    parts = np.array_split(np.array(points), min(num_points, len(points)))
    return [(int(part[-1, 0]), round(float(part[:, 1].mean()), 4)) for part in parts]
