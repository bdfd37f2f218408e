"""What a model learns from narrated videos, and what it forgets.

    python bench/learning.py VIDEOS [--model M] [--videos 154] [--epochs N] [--folder F] [--json]

A synthetic narrated world is written to F (by default a temporary folder; one that is there
already is used again), and `videoclip pretrain starter --init-from M` learns from its training
videos, two in three. Measured before and after, in one run:

world              each sentence of a held-out video retrieves its own clip among those of all
                   held-out videos (`videoclip evaluate csv`)
world, any clip    the same, but any clip is right that shows the step which the sentence describes,
                   as in `videoclip ablate`; a step is shown in several videos
real clips         `bench/real/queries.jsonl` on the folder VIDEOS, pictures alone: nothing was
                   learned about them, and nothing should be forgotten
one library        the same queries, with the held-out synthetic videos in the same library

Intervals (95 %) are from resampling whole videos. The last column is after minus before.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "real"))
import measure as real
import numpy as np

from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.data.narrated import NarratedCorpus
from videoclip.demo import WORLD
from videoclip.embedding import Embedder
from videoclip.evaluation import evaluate
from videoclip.evaluation.metrics.ranking import rank_queries, recall_at
from videoclip.evaluation.outcome import means, measure
from videoclip.evaluation.trial import EmbedderEncoder, embed_arrays, find_clip
from videoclip.features.extract import extract_features, find_videos
from videoclip.library.library import VideoLibrary
from videoclip.library.search import SearchOptions
from videoclip.recipes import starter
from videoclip.synthetic.annotate import descriptions
from videoclip.synthetic.write import read_world, write_world
from videoclip.training.pretrain import pretrain

RESULTS = Path(__file__).parent / "results" / "learning.json"
PICTURES = SearchOptions(top_k=real.NUM_MOMENTS, speech=0.0)
Measures = dict[str, list[float]]


def measure_all(
    embedder: Embedder, world: Path, clips: Path, stores: tuple[FeatureStore, FeatureStore]
) -> dict[str, Measures]:
    """Return the measures of one model, in percent, each with its interval."""
    synthetic, pictures = stores
    table = world / "annotations" / "test.csv"
    outcome = evaluate("csv", embedder, synthetic, table).outcome
    result: dict[str, Measures] = {
        "world": {
            m.name: [100 * x for x in (m.value, m.low, m.high)]
            for m in outcome.measures
            if m.name in ("text-to-video R@1", "text-to-video R@5")
        }
    }
    result["world, any clip"] = measure_steps(embedder, world, synthetic)
    questions = [q for q in real.read_questions(real.HERE / "queries.jsonl") if q.videos]
    questions = [q for q in questions if q.kind == "pictures"]
    names = (world / "annotations" / "test_list.txt").read_text(encoding="utf-8").split()
    held_out = [world / "videos" / f"{name}.mp4" for name in names]
    with (
        tempfile.TemporaryDirectory() as folder,
        VideoLibrary(Path(folder) / "library", embedder) as library,
    ):
        library.update(clips, features=pictures)
        result["real clips"] = measure_pictures(library, questions)
        library.update([clips, *held_out], features=synthetic)
        result["one library"] = measure_pictures(library, questions)
    return result


def measure_steps(embedder: Embedder, folder: Path, store: FeatureStore) -> Measures:
    """Return R@1 and R@5 of sentences, where every clip that shows their step is right."""
    world = read_world(folder)
    names = (folder / "annotations" / "test_list.txt").read_text(encoding="utf-8").split()
    videos = [world.video(int(name.removeprefix("video"))) for name in names]
    steps, texts, owners, windows = [], [], [], []
    for video in videos:
        for shown, text in zip(video.shown, descriptions(world, video), strict=True):
            if window := find_clip(store, video.video_id, shown.start, shown.end):
                steps.append(shown.step.step_id)
                texts.append(text)
                owners.append(video.video_id)
                windows.append(window)
    encoder = EmbedderEncoder(embedder)
    clips = embed_arrays(encoder, store.read_windows(windows))
    step_ids = np.array(steps)
    ranks = rank_queries(encoder.embed_text(texts) @ clips.T, step_ids, step_ids)
    hits = {f"R@{k}": recall_at(ranks, k) for k in (1, 5)}
    measures = measure(means(hits), owners, EvaluateConfig())
    return {m.name: [100 * x for x in (m.value, m.low, m.high)] for m in measures}


def measure_pictures(library: VideoLibrary, questions: list[real.Question]) -> Measures:
    """Return R@1 and R@5 of queries about pictures."""
    measures = real.measure(library, [replace(q, spans=()) for q in questions], PICTURES)
    return {name: measures[name] for name in ("R@1", "R@5")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--videos", type=int, default=154)
    parser.add_argument("--epochs", type=int, default=starter().epochs)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.folder or Path(name)
        world, embedder = folder / "world", Embedder.from_pretrained(arguments.model)
        if not (world / "annotations").is_dir():
            write_world(world, WORLD, arguments.videos)
        spec = embedder.backbone.spec
        kind = spec.fingerprint[:8]
        with (
            FeatureStore.open_or_create(folder / f"features-{kind}", spec) as store,
            FeatureStore.open_or_create(folder / f"clips-{kind}", spec) as clips,
        ):
            extract_features([world / "videos"], store, embedder.backbone, num_workers=0)
            files = [file.path for file in find_videos([arguments.clips])[0]]
            extract_features(files, clips, embedder.backbone, num_workers=0)
            names = (world / "annotations" / "train_list.txt").read_text(encoding="utf-8").split()
            corpus = NarratedCorpus.from_folder(world / "videos", store, embedder.tokenizer, names)
            before = measure_all(embedder, world, arguments.clips, (store, clips))
            config = replace(starter(), epochs=arguments.epochs)
            run = pretrain(config, corpus, folder / "run", init_from=arguments.model)
            learned = Embedder.from_pretrained(run.model_folder)
            after = measure_all(learned, world, arguments.clips, (store, clips))
    result = {
        "model": arguments.model,
        "training videos": len(names),
        "seconds": round(run.seconds),
        "kept": str(run.kept),
        "before": before,
        "after": after,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{len(names)} training videos, {run.seconds:.0f} s of training; {run.kept}")
    print(f"{'':<36}{'before':>24}{'after':>24}{'difference':>12}")
    for where, measures in before.items():
        for name, old in measures.items():
            new = after[where][name]
            cells = [f"{v:.1f}  [{low:.1f}, {high:.1f}]" for v, low, high in (old, new)]
            print(f"{where + ', ' + name:<36}{cells[0]:>24}{cells[1]:>24}{new[0] - old[0]:>+12.1f}")


if __name__ == "__main__":
    main()
