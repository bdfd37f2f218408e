"""Quality of the moments that `search` finds, compared with simpler rules.

    python bench/moments.py WORLD --model M --features F [--json]

WORLD is a synthetic world (`videoclip synth`) of another seed than those that the model was trained
on and the rules were chosen on. Each description of a step is searched for in the step's own video.
The last columns are the gains of the product over each other rule in R1@0.5 and R1@0.7: the mean
differences over the same sentences, with 95 % intervals from resampling whole videos.

moment             as `search`: windows of 1, 4, 8, 16 and 32 s vote for the seconds they cover,
                   then single seconds place the borders (`zeroshot.moments`)
votes alone        without placing the borders
no single seconds  windows from 4 s on, as in libraries of earlier versions
seconds in context likewise as `search`, but a second is embedded together with those around it
three seconds      likewise, but a second is the window of three seconds around it
with hubs          without the correction for hubs that all other rules have
z-score votes      votes are z-scores over unrelated queries (`confidence`)
single window      the most similar window from 4 s on
mean of frames     likewise, but a window is the mean of its seconds, each embedded by itself
span of seconds    the span of the whole video whose seconds are most similar, without windows
whole video        the trivial answer
true borders       the annotated span, rounded to seconds: what any rule can reach

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
from videoclip.embedding import Embedder, WindowConfig, window_spans
from videoclip.evaluation.metrics.moments import span_iou
from videoclip.evaluation.outcome import bootstrap_interval
from videoclip.zeroshot.confidence import (
    MIN_Z_SCORE,
    UNRELATED_QUERIES,
    Calibration,
    hub_biases,
)
from videoclip.zeroshot.moments import (
    MIN_WEIGHT,
    Windows,
    merge_windows,
    refine_moments,
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
    rate, num = embedder.config.features_per_second, len(features)
    windows = window_spans(num, rate)  # (W, 2)
    longer = window_spans(num, rate, WindowConfig(lengths=WindowConfig().lengths[1:]))
    vectors = embedder.embed_windows(features, windows)
    is_second = windows[:, 1] - windows[:, 0] == windows[0, 1]
    seconds, frames = windows[is_second], vectors[is_second]
    embedded = embedder.embed_features(features)
    in_context = np.stack([_unit(embedded.tokens[a:b].mean(axis=0)) for a, b in seconds])
    around = [(max(0, 2 * a - b), min(num, 2 * b - a)) for a, b in seconds.tolist()]
    rest = vectors[len(seconds) :]
    in_threes = embedder.embed_windows(features, around)
    others = {
        "no single seconds": (longer, embedder.embed_windows(features, longer)),
        "seconds in context": (windows, np.concatenate((in_context, rest))),
        "three seconds": (
            windows,
            np.concatenate((in_threes, rest)),
        ),
    }
    whole = others["no single seconds"][1]
    means = np.stack(
        [_unit(frames[(seconds[:, 0] >= a) & (seconds[:, 1] <= b)].mean(axis=0)) for a, b in longer]
    )
    # Each with the biases that correct its similarities.
    vectors, whole, means, frames = (
        (rows, hub_biases(rows, calibration.queries)) for rows in (vectors, whole, means, frames)
    )
    changed_rows = {
        name: (spans, (rows, hub_biases(rows, calibration.queries)))
        for name, (spans, rows) in others.items()
    }
    changed_rows["with hubs"] = windows, (vectors[0], 0.0)
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def compare(corrected: tuple[np.ndarray, np.ndarray | float], query: np.ndarray) -> np.ndarray:
        rows, biases = corrected
        return rows @ query - biases

    def note(name: str, start: float, end: float) -> None:
        found[name].append((start / rate, end / rate))

    for query in queries:
        similarities = compare(vectors, query)
        compared = Windows(windows, similarities, vote_weights(similarities))
        best = merge_windows([compared])[0][0]
        (refined,) = refine_moments([(compared, best)])
        note(OURS, refined.start, refined.end)
        note("votes alone", best.start, best.end)
        for name, (spans, rows) in changed_rows.items():
            values = compare(rows, query)
            changed = Windows(spans, values, vote_weights(values))
            (moment,) = refine_moments([(changed, merge_windows([changed])[0][0])])
            note(name, moment.start, moment.end)
        above = np.maximum(calibration.z_scores(vectors[0], vectors[0] @ query), MIN_WEIGHT)
        before = merge_windows([Windows(windows, similarities, above)])[0][0]
        note("z-score votes", before.start, before.end)
        note("single window", *longer[compare(whole, query).argmax()])
        note("mean of frames", *longer[compare(means, query).argmax()])
        start, end = best_span_of_seconds(compare(frames, query))
        note("span of seconds", seconds[start, 0], seconds[end - 1, 1])
        note("whole video", 0, num)
    return found


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


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
    calibration = Calibration(embedder.embed_text(UNRELATED_QUERIES))
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
            found["true borders"] = [(round(e.start), round(e.end)) for e in examples]
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
        for iou in (0.5, 0.7) if name != OURS else ():
            gains = (overlaps[OURS] >= iou).astype(float) - (values >= iou)
            interval = bootstrap_interval(lambda items, g=gains: g[items].mean(), groups, rng, 2000)
            row[f"gain in R1@{iou:g}"] = [float(gains.mean()), *interval]
        rows[name] = row
    return {"sentences": len(groups), "videos": len(set(groups)), "rules": rows}


def table(result: dict[str, object]) -> str:
    lines = [f"{result['sentences']} sentences, {result['videos']} videos"]
    lines.append("moments of a sentence, then steps of a video:")
    for name, row in result["rules"].items():
        numbers = "  ".join(f"{key} {100 * row[key]:5.1f}" for key in row if "gain" not in key)
        gains = [100 * x for key in row if "gain" in key for x in row[key]]
        adds = "  gains" + 2 * " {:+.1f} [{:+.1f}, {:+.1f}]" if gains else ""
        lines.append(f"{name:<19}{numbers}" + adds.format(*gains))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
