"""Evaluating MSR-VTT 1k-A and CrossTask from cached features, beside the matrix products it needs.

    python bench/evaluate.py [--benchmark msrvtt|crosstask] [--json]

Features are random, as long as videos of these benchmarks are; weights are random, of the recipes
`base` (MSR-VTT) and `small` (CrossTask). Annotations are the real ones where they lie in `shared/`
beside the repository, else rows made up in their format. Each evaluation is a process of its own,
timed from its start to its table, on as many threads as torch uses (OMP_NUM_THREADS). The floor is
the floating-point operations of the embedding at the rate of a large matrix product in the same
process: what is above it is reading, attention, everything element by element, ranking and
intervals.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from videoclip.config import EvaluateConfig, ModelConfig
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.data.tokenizer import Tokenizer
from videoclip.data.windows import sliding_windows
from videoclip.embedding import Embedder
from videoclip.evaluation import evaluate
from videoclip.model.videoclip import VideoCLIP
from videoclip.recipes import RECIPES
from videoclip.training.performance import forward_flops
from videoclip.weights.files import text_folder

RESULTS = Path(__file__).resolve().parent / "results" / "evaluate.json"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "annotations" / "files"
SECONDS = {"msrvtt": (10, 32), "crosstask": (60, 540)}
"""Shortest and longest video, uniform between them: like the benchmarks', or longer."""
TEST_VIDEOS = 1690


@dataclass(frozen=True)
class Lengths:
    """What an evaluation embeds, as `forward_flops` counts it."""

    video_mask: torch.Tensor
    text_mask: torch.Tensor


def masks(lengths: list[int]) -> torch.Tensor:
    """Rows of as many True as each length."""
    return torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]


def made_up_msrvtt(folder: Path) -> None:
    """A thousand rows in the format of the 1k-A test."""
    rng = np.random.default_rng(0)
    words = ("a", "man", "dog", "plays", "guitar", "in", "the", "kitchen", "with", "onions")
    rows = ["key,vid_key,video_id,sentence"]
    for i in range(1000):
        sentence = " ".join(rng.choice(words, int(rng.integers(5, 15))))
        rows.append(f"ret{i},msr{9000 + i},video{9000 + i},{sentence}")
    (folder / "MSRVTT_JSFUSION_test.csv").write_text("\n".join(rows) + "\n")


def made_up_crosstask(folder: Path) -> None:
    """Eighteen tasks of 2,750 videos in the format of the release."""
    rng = np.random.default_rng(0)
    (folder / "annotations").mkdir()
    tasks, videos = [], []
    for task in range(18):
        steps = [f"step {task} {i}" for i in range(7)]
        tasks.append(f"{task}\ntask {task}\nurl\n7\n{','.join(steps)}\n\n")
        for i in range(153):
            videos.append(f"{task},t{task}v{i},url")
            starts = np.sort(rng.integers(0, 50, 7))
            lines = [f"{k + 1},{start},{start + 8}" for k, start in enumerate(starts.tolist())]
            path = folder / "annotations" / f"{task}_t{task}v{i}.csv"
            path.write_text("\n".join(lines) + "\n")
    (folder / "tasks_primary.txt").write_text("".join(tasks))
    (folder / "videos.csv").write_text("\n".join(videos) + "\n")
    held_out = [row for i, row in enumerate(videos) if i % 153 < 20]
    (folder / "videos_val.csv").write_text("\n".join(held_out) + "\n")


def prepare(name: str, folder: Path) -> tuple[Path, list[str], set[str], list[str]]:
    """Return where the annotations are, the videos, those that are tested, and the texts."""
    from videoclip.benchmarks.crosstask import read_crosstask, released_split
    from videoclip.benchmarks.msrvtt import read_msrvtt_1k

    if name == "msrvtt":
        annotations = SHARED / "msrvtt"
        if not annotations.is_dir():
            annotations = folder
            made_up_msrvtt(folder)
        pairs = read_msrvtt_1k(annotations)
        videos = [pair.video_id for pair in pairs]
        return annotations, videos, set(videos), [pair.text for pair in pairs]
    archive = SHARED / "crosstask" / "crosstask_release.tar.gz"
    if archive.is_file():
        subprocess.run(["tar", "-xzf", archive, "-C", folder], check=True)
    else:
        made_up_crosstask(folder)
    release = read_crosstask(folder)
    everything = {video.video_id for video in release.videos}
    test = released_split(release.videos, release.validation, everything)[1]
    # The paper's 1,690 test videos are those that could still be had: take as many away.
    order = np.random.default_rng(0).permutation(len(test)).tolist()
    gone = {test[i].video_id for i in order[: max(0, len(test) - TEST_VIDEOS)]}
    available = everything - gone
    test = released_split(release.videos, release.validation, available)[1]
    texts = [step for task in release.tasks.values() for step in task.steps]
    return folder, sorted(available), {video.video_id for video in test}, texts


def model_config(name: str) -> ModelConfig:
    """The recipe's model, with a word table for the vocabulary at hand."""
    return RECIPES["base" if name == "msrvtt" else "small"]().model


def multiplied_per_second() -> float:
    """Floating-point operations of a large matrix product in a CPU second."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = 0.0
    for _ in range(8):
        started = time.process_time()
        a @ b
        best = max(best, 2 * 1024**3 / (time.process_time() - started))
    return best


def measure(name: str, folder: Path) -> dict[str, float]:
    """Evaluate in this process and return time and memory."""
    started = time.perf_counter()
    job = json.loads((folder / "job.json").read_text())
    embedder = Embedder.from_pretrained(folder / "model")
    result = evaluate(name, embedder, folder / "store", Path(job["annotations"]), EvaluateConfig())
    wall, usage = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime
    config = embedder.config
    token_ids = embedder.tokenizer.encode_batch(list(dict.fromkeys(job["texts"])))
    lengths = Lengths(masks(job["windows"]), masks([len(ids) for ids in token_ids]))
    flops = sum(forward_flops(config, lengths))
    floor = flops / multiplied_per_second()
    return {
        "videos": result.outcome.num_videos,
        "threads": torch.get_num_threads(),
        "wall seconds": wall,
        "CPU seconds": cpu,
        "TFLOP to embed": flops / 1e12,
        "floor, CPU seconds": floor,
        "CPU seconds over the floor": cpu / floor,
        "peak memory, MiB": usage.ru_maxrss / 1024,
    }


def evaluation(name: str) -> dict[str, float]:
    """Prepare an evaluation and run it in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        folder, rng = Path(place), np.random.default_rng(0)
        annotations, videos, tested, texts = prepare(name, folder)
        config, tokenizer = model_config(name), Tokenizer.from_vocab(text_folder() / "vocab.txt")
        config = replace(config, vocab_size=tokenizer.vocab_size)
        Embedder(VideoCLIP(config), tokenizer).save_pretrained(folder / "model")
        spec = FeatureSpec(
            config.feature_dim,
            config.features_per_second,
            config.backbone,
            config.normalized_features,
            "random",
        )
        windows: list[int] = []
        with FeatureStore.create(folder / "store", spec) as store:
            for video_id in videos:
                length = 1  # the others only decide what is tested
                if video_id in tested:
                    length = int(rng.integers(*SECONDS[name], endpoint=True))
                    spans = sliding_windows(length, config.max_video_tokens, 16)
                    windows += [stop - start for start, stop in spans]
                features = rng.standard_normal((length, config.feature_dim), dtype=np.float32)
                store.append(video_id, features)
        job = {"annotations": str(annotations), "texts": texts, "windows": windows}
        (folder / "job.json").write_text(json.dumps(job))
        command = [sys.executable, __file__, "--benchmark", name, "--measure", place]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
        result: dict[str, float] = json.loads(answer.stdout)
        return result


def main() -> None:
    """Measure, print a table or JSON, and keep the JSON under bench/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--benchmark", choices=("msrvtt", "crosstask"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.benchmark, options.measure)))
        return
    names = [options.benchmark] if options.benchmark else ["msrvtt", "crosstask"]
    results = {name: evaluation(name) for name in names}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for name, result in results.items():
        print(name)
        for what, value in result.items():
            print(f"  {what:<28} {value:10.2f}")


if __name__ == "__main__":
    main()
