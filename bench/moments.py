"""Quality of the moments that `search` finds, compared with simpler rules.

    python bench/moments.py WORLD --model M --features F [--json]

WORLD is a synthetic world (`videoclip synth`) of another seed than those that the model was trained
on and the rules were chosen on. Each description of a step is searched for in the step's own video.
The last column is the gain of the product over each other rule in R1@0.5: the mean difference over
the same sentences, with a 95 % interval from resampling whole videos.

moment             as `search`: windows of 4, 8, 16 and 32 s vote for the seconds they cover, then
                   borders are placed by least squares (`zeroshot.moments`)
votes alone        without placing the borders
z-score votes      likewise, but votes are z-scores over unrelated queries (`confidence`)
single window      the most similar window
mean of frames     likewise, but a window is the mean of its seconds, each embedded by itself
span of seconds    the span whose seconds are most similar: a reference that needs the embedding of
                   every second, which a library does not store
whole video        the trivial answer

Below, all steps of a video are localized at once, as `localize` does: in order, in any order,
and each by itself, as if there were no others.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from videoclip.benchmarks.table import read_table
from videoclip.data.feature_store import FeatureStore
from videoclip.embedding import Embedder, window_spans
from videoclip.evaluation.metrics.moments import span_iou
from videoclip.evaluation.outcome import bootstrap_interval
from videoclip.zeroshot.confidence import MIN_Z_SCORE, UNRELATED_QUERIES, Calibration
from videoclip.zeroshot.moments import (
    MIN_WEIGHT,
    Windows,
    merge_windows,
    refine_moment,
    vote_weights,
)
from videoclip.zeroshot.steps import best_spans, order_steps, subtract_rivals

RESULTS = Path(__file__).parent / "results" / "moments.json"
IOUS = (0.3, 0.5, 0.7)
OURS = "moment"


def find_spans(
    embedder: Embedder, features: np.ndarray, queries: np.ndarray, calibration: Calibration
) -> dict[str, list[tuple[float, float]]]:
    """Return the span each rule finds in a video for each query (N, E), in seconds."""
    rate = embedder.config.features_per_second
    windows = window_spans(len(features), rate)  # (W, 2)
    vectors = embedder.embed_windows(features, windows)
    frames = embedder.embed_windows(features, [(i, i + 1) for i in range(len(features))])
    sums = np.concatenate((np.zeros((1, frames.shape[1])), np.cumsum(frames, axis=0)))
    means = sums[windows[:, 1]] - sums[windows[:, 0]]
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    tokens = embedder.embed_features(features).tokens
    spans = windows / rate
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for query in queries:
        similarities = vectors @ query
        compared = Windows(windows, similarities, vote_weights(similarities))
        best = merge_windows([compared])[0][0]
        refined = refine_moment(compared, best)
        found[OURS].append((refined.start / rate, refined.end / rate))
        found["votes alone"].append((best.start / rate, best.end / rate))
        above = np.maximum(calibration.z_scores(vectors, similarities), MIN_WEIGHT)
        before = merge_windows([Windows(windows, similarities, above)])[0][0]
        found["z-score votes"].append((before.start / rate, before.end / rate))
        found["single window"].append(tuple(spans[similarities.argmax()]))
        found["mean of frames"].append(tuple(spans[(means @ query).argmax()]))
        start, end = best_span_of_seconds(tokens @ query)
        found["span of seconds"].append((start / rate, end / rate))
        found["whole video"].append((0.0, len(features) / rate))
    return found


def best_span_of_seconds(similarities: np.ndarray) -> tuple[int, int]:
    """Return the span with the largest sum above the mean, over the square root of its length."""
    sums = np.concatenate(([0.0], np.cumsum(similarities - similarities.mean())))
    starts, ends = np.triu_indices(len(sums), k=1)
    best = int(((sums[ends] - sums[starts]) / np.sqrt(ends - starts)).argmax())
    return int(starts[best]), int(ends[best])


def find_steps(
    embedder: Embedder, features: np.ndarray, queries: np.ndarray, calibration: Calibration
) -> dict[str, list[tuple[float, float]]]:
    """Return the span of each step (K, E) by each rule; (0, 0) if it is not found."""
    embedded = embedder.embed_features(features)
    z_scores = calibration.z_scores(embedded.tokens, queries @ embedded.tokens.T)  # (K, T)
    gains = z_scores.T - MIN_Z_SCORE
    ways = {
        "in their order": order_steps(gains, optional=True),
        "in any order": best_spans(subtract_rivals(gains)),
        "each by itself": best_spans(gains),
    }
    rate = embedded.features_per_second
    return {
        name: [(a / rate, b / rate) for a, b in (span or (0, 0) for span in spans)]
        for name, spans in ways.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("world", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    embedder = Embedder.from_pretrained(arguments.model)
    calibration = Calibration.of_scenes(embedder.embed_text(UNRELATED_QUERIES))
    by_video = defaultdict(list)
    with FeatureStore.open(arguments.features) as store:
        for example in read_table(arguments.world / "annotations" / "test.csv"):
            if example.video_id in store:
                by_video[example.video_id].append(example)
        overlaps: dict[str, list[float]] = defaultdict(list)
        groups: list[str] = []
        for video_id, examples in by_video.items():
            queries = embedder.embed_text([example.text for example in examples])
            about = (embedder, store.read(video_id), queries, calibration)
            found = find_spans(*about) | find_steps(*about)
            groups += [video_id] * len(examples)
            for name, spans in found.items():
                for span, example in zip(spans, examples, strict=True):
                    true = np.array([[example.start, example.end]])
                    overlaps[name].append(float(span_iou(np.array([span]), true)[0, 0]))
    result = summarise({name: np.array(values) for name, values in overlaps.items()}, groups)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2) if arguments.json else table(result))


def summarise(overlaps: dict[str, np.ndarray], groups: list[str]) -> dict[str, object]:
    """Return the means of each rule, and the gain of the product over it."""
    rng = np.random.default_rng(0)
    rows = {}
    for name, values in overlaps.items():
        row: dict[str, object] = {f"R1@{iou:g}": float((values >= iou).mean()) for iou in IOUS}
        row["mIoU"] = float(values.mean())
        if name != OURS:
            gains = (overlaps[OURS] >= 0.5).astype(float) - (values >= 0.5)
            interval = bootstrap_interval(lambda items, g=gains: g[items].mean(), groups, rng, 2000)
            row["gain in R1@0.5"] = [float(gains.mean()), *interval]
        rows[name] = row
    return {"sentences": len(groups), "videos": len(set(groups)), "rules": rows}


def table(result: dict[str, object]) -> str:
    lines = [f"{result['sentences']} sentences, {result['videos']} videos"]
    lines.append("moments of a sentence, then steps of a video:")
    for name, row in result["rules"].items():
        numbers = "  ".join(f"{key} {100 * row[key]:5.1f}" for key in row if "gain" not in key)
        gain = row.get("gain in R1@0.5")
        adds = "" if gain is None else "  gain {:+.1f} [{:+.1f}, {:+.1f}]"
        lines.append(f"{name:<18}{numbers}" + adds.format(*(100 * x for x in gain or ())))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
