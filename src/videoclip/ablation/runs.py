"""Runs of an ablation: variants trained with several seeds on a world, and measured.

A run is a folder, OUT/runs/WORLD/VARIANT/seed-N. Finished runs are kept, so an interrupted
ablation continues and further variants, seeds and worlds add to the same table.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videoclip.ablation.measure import MEASURES, Counts, measure
from videoclip.ablation.testbed import TestBed, build_testbed
from videoclip.ablation.variants import VARIANTS, Variant
from videoclip.config import PretrainConfig
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError, unknown
from videoclip.evaluation.encoders import EmbedderEncoder
from videoclip.files import read_json, write_json
from videoclip.synthetic.world import SyntheticConfig
from videoclip.synthetic.write import map_in_processes
from videoclip.training.pretrain import pretrain
from videoclip.training.run_folder import average_losses, read_log

MEASURED_FILE = "measured.json"


@dataclass(frozen=True)
class FinishedRun:
    """A run that has been trained and measured.

    Attributes:
        world: Name of the world.
        variant: Name of the variant.
        seed: Seed of the run.
        counts: Its measures on the test videos.
        curve: (updates, loss) averaged over parts of the run.
        updates: Updates of the run.
        pairs: Clip pairs it was trained on.
        cpu_seconds: Processor time of the training.
    """

    world: str
    variant: str
    seed: int
    counts: Counts
    curve: tuple[tuple[int, float], ...]
    updates: int
    pairs: int
    cpu_seconds: float


def run_ablation(
    out: Path,
    name: str,
    world: SyntheticConfig,
    num_videos: int,
    *,
    variants: Sequence[str],
    seeds: Sequence[int],
    num_workers: int | None = 0,
    on_message: Callable[[str], None] = lambda text: None,
) -> None:
    """Do every run that is not finished: all seeds of each variant, in the order given.

    Args:
        out: Folder of the ablation.
        name: Name of the world.
        world: Its configuration.
        num_videos: How many videos it has.
        variants: Names in `VARIANTS`.
        seeds: Seeds of each variant.
        num_workers: Processes, each for one run on one core; None: one per core; 0: only this one.
        on_message: Called with a line of text when something is done.

    Raises:
        ConfigError: If there is no such variant.
        DataError: If the name belongs to another world.
        VideoCLIPError: As training does.
    """
    for variant in variants:
        if variant not in VARIANTS:
            raise ConfigError(unknown("variant", variant, VARIANTS))

    def on_progress(done: int, total: int) -> None:
        if done == total or done % 50 == 0:
            on_message(f"world {name}: {done} of {total} videos")

    build_testbed(out / "worlds" / name, world, num_videos, num_workers, on_progress)
    # A variant that needs another one's model runs after it, not in parallel.
    for is_dependent in (False, True):
        runs = [
            (variant, seed)
            for variant in variants
            if bool(VARIANTS[variant].depends_on) == is_dependent
            for seed in seeds
        ]
        results = map_in_processes(partial(_run_variant, out, name), runs, num_workers)
        for (variant, seed), _ in zip(runs, results, strict=True):
            on_message(f"world {name}: variant {variant}, seed {seed} is done")


def run_folder(out: Path, world: str, variant: str, seed: int) -> Path:
    """Where a run lies in the folder of an ablation."""
    return out / "runs" / world / variant / f"seed-{seed}"


def _run_variant(out: Path, world: str, run: tuple[str, int]) -> None:
    """Train and measure a variant with one seed, on one thread, unless that is done."""
    (name, seed), variant = run, VARIANTS[run[0]]
    folder = run_folder(out, world, name, seed)
    if _is_measured(read_json(folder / MEASURED_FILE)):
        return
    torch.set_num_threads(1)
    if variant.depends_on:
        _run_variant(out, world, (variant.depends_on, seed))
    testbed = _open_testbed(out / "worlds" / world)
    trained = run_folder(out, world, variant.trained_as or name, seed)
    if known := read_json(trained / MEASURED_FILE):
        training = known["training"]
    else:
        config = make_config(variant, testbed, seed)
        if variant.teacher:
            teacher = run_folder(out, world, variant.teacher, seed) / "model"
            config = replace(config, plan=replace(config.plan, teacher=str(teacher)))
        training = _train(config, testbed, folder)
    embedder = Embedder.from_pretrained(trained / "model")
    counts = measure(EmbedderEncoder(embedder), testbed, variant.rerank_top)
    lists = {measured: pairs.tolist() for measured, pairs in counts.items()}
    write_json(folder / MEASURED_FILE, {"training": training, "counts": lists})


def make_config(variant: Variant, testbed: TestBed, seed: int) -> PretrainConfig:
    """Return the configuration of a run: the variant's, with the features and words of the bed."""
    config, spec, words = variant.config, testbed.store.spec, testbed.tokenizer
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


def _train(config: PretrainConfig, testbed: TestBed, folder: Path) -> dict[str, object]:
    """Train and return facts about the run; of a resumed one, the time of its last part."""
    began = time.process_time()
    pretrain(config, testbed.corpus, folder, show_progress=False)
    seconds = time.process_time() - began
    log = [entry for entry in read_log(folder) if "loss" in entry]
    return {
        "curve": [(update, round(loss, 4)) for update, loss in average_losses(log)],
        "updates": len(log),
        "pairs": round(sum(entry["pairs_per_second"] * entry["seconds"] for entry in log)),
        "cpu_seconds": round(seconds, 1),
    }


def read_runs(out: Path) -> list[FinishedRun]:
    """Return every finished run, by world, variant and seed."""
    runs = []
    for path in sorted((out / "runs").glob(f"*/*/seed-*/{MEASURED_FILE}")):
        world, variant, seed = path.parts[-4:-1]
        content = read_json(path)
        if not _is_measured(content):
            continue  # by another version; `run_ablation` measures it again
        training = content["training"]
        curve = tuple((int(update), float(loss)) for update, loss in training.pop("curve"))
        counts = {name: np.array(pairs) for name, pairs in content["counts"].items()}
        seed_number = int(seed.removeprefix("seed-"))
        runs.append(FinishedRun(world, variant, seed_number, counts, curve, **training))
    return runs


def _is_measured(content: Mapping[str, Any]) -> bool:
    """Whether the content of a measured file has the measures of this version."""
    return set(content.get("counts", ())) == set(MEASURES)


_open_testbed = lru_cache(maxsize=1)(TestBed.open)
