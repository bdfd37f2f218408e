"""Complete results of zero-shot decoding on small inputs, compared with what was approved."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import approved
from tests.test_embedding import CONFIG, make_embedder, make_features
from videoclip.embedding import WindowConfig, num_shortest_windows, window_spans
from videoclip.zeroshot import choices, confidence, labels, moments, rerank, results, steps
from videoclip.zeroshot.confidence import Calibration, Levels, LibraryCalibration, Thresholds
from videoclip.zeroshot.moments import Moment, Windows


def unit(rng, *shape):
    vectors = rng.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def windows_of(num_features, rate, lengths, peaks, seed):
    """Windows of a video and their similarities: high around some features."""
    spans = window_spans(num_features, rate, WindowConfig(lengths=lengths))
    rng = np.random.default_rng(seed)
    features = 0.1 * rng.normal(size=num_features)
    for peak, width, height in peaks:
        features[peak : peak + width] += height
    similarities = np.array([features[start:end].mean() for start, end in spans])
    return Windows(spans, similarities, moments.vote_weights(similarities))


def test_moments():
    videos = [
        windows_of(40, 1.0, (1.0, 4.0, 8.0), [(5, 6, 1.0), (25, 3, 0.7)], 1),
        windows_of(40, 1.0, (1.0, 4.0, 8.0), [(0, 4, 0.5), (36, 4, 0.9)], 2),
        windows_of(23, 2.0, (4.0, 8.0), [(8, 7, 1.2)], 3),
        windows_of(1, 1.0, (1.0, 4.0), [], 4),
        windows_of(30, 1.0, (1.0,), [(12, 5, 0.8)], 5),
        windows_of(700, 1.0, (1.0, 16.0), [(100, 500, 1.0)], 6),  # beyond the reach of borders
        windows_of(23, 3.0, (1.0, 4.0), [(15, 8, 1.0)], 7),  # its last window is shorter
        windows_of(23, 3.0, (1.0, 4.0), [(0, 5, 1.0), (20, 2, 1.5)], 8),
    ]
    videos.append(windows_of(23, 3.0, (1.0, 4.0), [(10, 13, 0.6)], 3))  # begins within a second
    flat = np.zeros(len(videos[4].spans))
    videos.append(Windows(videos[4].spans, flat, moments.vote_weights(flat)))
    videos.append(replace(videos[0], min_similarity=0.4))
    videos.append(replace(videos[0], min_similarity=float(videos[0].similarities.max())))
    for rate in (1.0, 2.0):  # as many windows at other places
        videos.append(windows_of(int(30 * rate), rate, (1.0,), [(12, 8, 0.8)], 9))
    merged = moments.merge_windows(videos)
    best = [(video, one) for video, found in zip(videos, merged, strict=True) for one in found[:3]]
    approved.check(
        "zeroshot-moments",
        {
            "numbers of moments": [len(found) for found in merged],
            "merged": [[list(one) for one in found[:4]] for found in merged],
            "refined": [list(one) for one in moments.refine_moments(best)],
            "none": [moments.merge_windows([]), moments.refine_moments([])],
            "didemo": {
                n: moments.rank_didemo_candidates(
                    np.sin(np.arange(30) * 1.7 + np.arange(30) // 5), n
                )
                for n in (1, 5, 6, 17, 30)
            },
            "votes": moments.vote_weights(np.array([0.5, 0.25, 0.1, -0.4])),
        },
    )


def test_texts_of_moments(tmp_path):
    video = tmp_path / "a video.mp4"
    video.write_text("")
    part = Moment(video, 1.0, 2.0, "A", confidence="low")
    some = [
        Moment(video, 3.25, 3725.96, "cut", 7.0, 0.51239, 2.5, "high", 2.0, -1.0, True, "w" * 50),
        Moment(Path("gone.mp4"), 0.0, 9.95, words="short words", parts=(part,)),
        Moment(Path("x/y.webm"), 2.0, 3.0, confidence="none", duration=9.0, frame_rate=25.0),
    ]
    approved.check(
        "zeroshot-texts",
        {
            "clocks": {
                s: moments.clock(s) for s in (-1, 0, 0.04, 0.05, 9.96, 59.94, 59.95, 3599.96, 86399)
            },
            "cut": [moments.cut_text("ab cd ef", n) for n in (2, 3, 4, 7, 8)],
            "repr": [repr(moment) for moment in some],
            "times": [moment.times for moment in some],
            "dicts": [moment.as_dict() for moment in some],
            "confident": {
                level: [one.video_id for one in moments.with_confidence([*some, part], level)]
                for level in confidence.LEVELS
            },
        },
        TMP=tmp_path,
    )


def test_confidence():
    rng = np.random.default_rng(7)
    scenes, things, sentences = unit(rng, 9, 6), unit(rng, 12, 6), unit(rng, 5, 6)
    owners = np.array([1, 1, 2, 3, -2])
    library = LibraryCalibration(scenes, things, sentences, owners)
    plain = replace(library, has_biases=False)
    vectors, queries = unit(rng, 11, 6), unit(rng, 3, 6)
    biases = confidence.hub_biases(vectors, scenes)
    rows = np.concatenate((vectors, biases[:, None] / confidence.BIAS_UNIT), axis=1)
    passages = unit(rng, 4, 6)
    scores = [
        library.best_scores(rows, 7, passages, 1),
        library.best_scores(rows[3:], 8, passages, 2),
    ]
    silent = plain.best_scores(rows, 11, passages[:0], 3)
    video = Calibration(scenes).fit(vectors)
    strengths = [3.0, 2.5, 2.5, 2.0, 1.0, 0.5, 0.5, -1.0]
    right = [True, True, False, True, False, True, False, False]
    few = replace(library, scenes=scenes[:3], sentences=sentences[:2], owners=owners[:2])
    approved.check(
        "zeroshot-confidence",
        {
            "texts": [len(confidence.UNRELATED_QUERIES), len(confidence.COMMON_THINGS)],
            "first and last": [
                *confidence.UNRELATED_QUERIES[:: len(confidence.UNRELATED_QUERIES) - 1],
                *confidence.COMMON_THINGS[:: len(confidence.COMMON_THINGS) - 1],
            ],
            "levels": {s: Thresholds(0.0, 1.0, 2.0).level(s) for s in (-0.1, 0, 0.9, 1, 1.9, 2, 9)},
            "biases": biases,
            "biases without": confidence.hub_biases_without(vectors[:3], scenes),
            "biases of two": [
                confidence.hub_biases(vectors[:3], scenes[:2]),
                confidence.hub_biases_without(vectors[:3], scenes[:2]),
            ],
            "traits": library.traits_of(queries),
            "own traits": library._traits,
            "prepared": [library.prepare(queries)[0], plain.prepare(queries)[0]],
            "scores": scores,
            "silent": silent,
            "fitted": [
                [calibration.frames, calibration.narration]
                for calibration in (
                    library.fit(scores),
                    plain.fit([silent]),
                    library.fit(scores).fit([]),
                    few.fit([np.array([[*range(17)], [*range(17, 0, -1)]], np.float32) / 9]),
                )
            ],
            "expected": Levels((0.5, 2.0), 0.1, 3.0).expected(np.array([[1.0, 2.0], [0.0, 1.0]])),
            "video": [video.median, video.scale, video.strength(2.5)],
            "z-scores": video.z_scores(vectors, queries @ vectors.T),
            "flat": Calibration(np.ones((4, 6), np.float32)).fit(vectors).scale,
            "best": {
                n: confidence.mean_of_best(np.sin(np.arange(2 * n)).reshape(2, n))
                for n in (1, 2, 3, 4, 7, 24, 25, 60)
            },
            "combined": [
                confidence.combine(*values)
                for values in (
                    (1.0, 2.0),
                    (1.0, 2.0, 0.5, 1.0),
                    (1.0, 2.0, 4.0, 2.0),
                    (3.0, -np.inf),
                    (3.0, 1.0, 0.0, 2.0),
                    (3.0, 1.0, 2.0, 0.0),
                )
            ],
            "slopes": [
                confidence._slopes(x, y)
                for x, y in (
                    (unit(rng, 8, 2), np.arange(8.0)),
                    (np.array([[0.0, 3.0], [1.0, 2.0], [2.0, 0.5]]), np.array([0.0, 1.0, 2.5])),
                    (np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.5]]), np.array([2.0, 1.0, 0.0])),
                )
            ],
            "scales": [
                confidence.median_and_scale(np.array(values, np.float32), 0.25)
                for values in ([1, 2, 4, 8], [1, 1, 1])
            ],
            "thresholds": [
                confidence.fit_thresholds(strengths, right),
                confidence.fit_thresholds(strengths[::-1], right, 0.2, 0.99),
                confidence.fit_thresholds([2.0, 1.0], [False, True]),
                confidence.fit_thresholds([3.0, 2.0, 1.0], [True, False, False], 0.3, 0.5),
                confidence.fit_thresholds(  # precisions that are reached exactly
                    [5.0, 4.0, 3.0, 2.0, 1.0], [True, False, True, True, False], 0.75, 1.0
                ),
            ],
            "errors": [
                approved.outcome(partial(Thresholds, 1.0, 0.5, 2.0)),
                approved.outcome(partial(Thresholds, 0.0, 2.5, 2.0)),
                approved.outcome(partial(confidence.fit_thresholds, [1.0], [True])),
                approved.outcome(partial(confidence.fit_thresholds, [1.0], [False])),
            ],
        },
    )


def test_labels_and_steps():
    scores = np.random.default_rng(3).normal(size=(14, 3)) + np.repeat(np.eye(3), (5, 4, 5), axis=0)
    ties = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 2.0]])
    similarity = np.array([0.1, 0.2, 0.2, 0.5, 0.9])
    correct, background = (np.array(x, bool) for x in ([0, 1, 1, 0, 1], [1, 0, 0, 1, 0]))
    kinds = [
        {"exactly_one": one, "optional": optional}
        for one in (False, True)
        for optional in (False, True)
    ]
    precise = np.zeros((6, 2), np.float32)  # what follows is lost beside it in float32
    precise[0, 0], precise[3:, 1] = 2.0**25, 0.25
    approved.check(
        "zeroshot-labels-steps",
        {
            "labels": {
                f"{threshold} {cost}": labels.label_frames(scores, threshold, cost)
                for threshold in (0.0, 0.8)
                for cost in (0.0, 0.5, 2.0)
            },
            "ties": [labels.label_frames(ties, 1.0, cost) for cost in (0.0, 1.0)]
            + [labels.label_frames(np.array([[3.0], [-4.0]]), 1.0, 2.0)],
            "corrected": labels.correct_label_hubs(scores, 0.5),
            "by z-score": labels.label_z_scores(scores, 0.5),
            "segments": [
                labels.label_segments(np.array(x, dtype=np.int64))
                for x in ([0, 0, 2, 2, 1, 0, 1], [3], [0], [])
            ],
            "released": labels.released_threshold(scores[:4]),
            "fitted": [
                labels.fit_threshold(similarity, *truth, objective)
                for truth in (
                    (correct, background),
                    (correct, ~correct),
                    (~correct, correct),
                    (correct, np.zeros(5, bool)),
                    (np.zeros(5, bool), np.ones(5, bool)),
                )
                for objective in ("frame_accuracy", "balanced")
            ],
            "steps": {
                name: [steps.order_steps(gains, **kind) for kind in kinds]
                for name, gains in {
                    "scores": scores - 0.5,
                    "negative": -np.abs(scores),
                    "reversed": scores[::-1] - 0.5,
                    "ties": ties,
                    "square": np.eye(3),
                    "precise": precise,
                }.items()
            },
            "assigned": [
                np.argwhere(steps.assign_steps(scores * 3, exactly_one=one))
                for one in (False, True)
            ],
            "best": [steps.best_spans(scores - 0.5), steps.best_spans(-np.abs(scores))],
            "rivals": steps.subtract_rivals(scores[:4]),
            "mask": steps.step_mask([(0, 2), (1, 3), None, (3, 4)], 5),
            "log softmax": [steps.log_softmax(scores[:2]), steps.log_softmax(scores[:2] + 2000)],
            "choices": choices.choice_texts("What? ", ["an onion", " ", "x"])
            + choices.choice_texts("", ["red"]),
            "choice": choices.choice_similarities(scores[:2], scores[3:6]),
            "softmax": choices.softmax(scores[:3], 0.5),
        },
    )


def test_timelines_and_answers(videos, embedder):
    video = videos / "a.mp4"
    segment = partial(results.segment, video, embedder=embedder)
    localize = partial(results.localize, video, embedder=embedder)
    found = {
        "segmented": segment(labels=["green", "blue", "w"]),
        "strict": segment(labels=["green", "red"], threshold=2.9, switch_cost=0.0),
        "costly": segment(labels=["green", "red", "blue"], switch_cost=40.0),
        "localized": localize(steps=["red", "white", "green"]),
        "any order": localize(steps=["green", "blue", "red blue"], ordered=False),
        "none": localize(steps=["white"], threshold=5.0),
        "short": results.segment(
            videos / "sub/c d.mp4", ["red"], embedder, embedded=embedder.embed_video(video)
        ),
    }
    embedder.config = replace(embedder.config, max_video_tokens=14)  # a question sees several clips
    decoded = len(embedder.backbone.decoded)
    answers = [
        results.answer(video, "Which colour?", ["red", "yellow", "blue"], embedder),
        results.answer(videos / "b.mp4", "", ("yellow", "white"), embedder),
        results.answer(
            video, "", ("black", "yellow"), embedder, embedded=embedder.embed_video(video)
        ),
    ]
    wrong = {
        "no labels": partial(segment, labels=[]),
        "a text": partial(localize, steps="red"),
        "twice": partial(segment, labels=["red", "blue", "red"]),
        "one choice": partial(results.answer, video, "", ["red"], embedder),
        "choices twice": partial(results.answer, video, "", ["red", "red"], embedder),
        "a name": partial(results.segment, video, ["red"], "starter"),
        "a name to answer": partial(results.answer, video, "", ["a", "b"], Path("starter")),
        "no file": partial(results.localize, videos / "no.mp4", ["red"], embedder),
    }
    approved.check(
        "zeroshot-timelines",
        {
            "texts": {name: repr(timeline).splitlines() for name, timeline in found.items()},
            "segmented": found["segmented"].as_dict(),
            "localized": found["localized"].moments[0],
            "short": [found["short"].duration, [m.end for m in found["short"].moments]],
            "answers": [one.as_dict() for one in answers],
            "decoded": len(embedder.backbone.decoded) - decoded,
            "answer texts": [repr(one) for one in answers],
            "errors": {name: approved.outcome(call) for name, call in wrong.items()},
        },
        TMP=videos,
    )


@pytest.mark.parametrize("pairs", ["all", "some"])
def test_reranking(pairs):
    embedder = make_embedder(replace(CONFIG, num_cross_layers=1))
    embedder.model.reranker.weight.fill_(10.0)
    clips = [make_features(n, seed=n) for n in (1, 5, 20, 9)]
    texts = ["w1 w2", "w3", "w4 w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15"]
    scorer = rerank.PairScorer(embedder, texts, clips)
    every = torch.cartesian_prod(torch.arange(3), torch.arange(4)).flip(0)
    chosen = every if pairs == "all" else every[[0, 3, 3, 5, 10, 11, 2]]
    towers = torch.linspace(-1, 1, len(chosen))
    scored = scorer(chosen[:, 0], chosen[:, 1], towers)
    similarity = np.cos(np.arange(12, dtype=np.float32)).reshape(3, 4)
    reranked = [rerank.rerank_clips(scorer, similarity, k) for k in (1, 2, 9)]
    embedder.model.reranker.weight.fill_(0.0)
    unchanged = scorer(chosen[:, 0], chosen[:, 1], towers)
    nothing = scorer(chosen[:0, 0], chosen[:0, 1], towers[:0])
    plain = partial(rerank.PairScorer, make_embedder(), texts, clips)
    approved.check(
        f"zeroshot-rerank-{pairs}",
        [scored, reranked, unchanged, nothing, approved.outcome(plain)],
    )


def test_windows():
    configs = [WindowConfig(), WindowConfig(lengths=(0.5, 2.0, 3.0)), WindowConfig(lengths=(3.0,))]
    approved.check(
        "zeroshot-windows",
        [
            {
                f"{number} features, {rate} a second": [
                    num_shortest_windows(number, rate, config),
                    " ".join(f"{a}-{b}" for a, b in window_spans(number, rate, config)),
                ]
                for number, rate in ((1, 1.0), (5, 1.0), (9, 2.0), (11, 0.5))
            }
            for config in configs
        ]
        + [
            approved.outcome(partial(WindowConfig, lengths=lengths))
            for lengths in ((), (0.0, 1.0), (2.0, 1.0))
        ],
    )
