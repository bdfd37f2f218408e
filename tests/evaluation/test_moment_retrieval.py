"""Moments where one knows where they are."""

from dataclasses import replace

import numpy as np
import pytest

from videoclip.benchmarks import didemo
from videoclip.benchmarks.examples import MomentExample
from videoclip.config import EvaluateConfig
from videoclip.errors import DataError
from videoclip.evaluation.metrics.moments import average_precision, didemo_agreement, span_iou
from videoclip.evaluation.moment_retrieval import (
    DIDEMO_SECONDS,
    PRECISION_IOUS,
    _moment_statistics,
    didemo_baselines,
    evaluate_didemo,
    evaluate_moments,
)
from videoclip.evaluation.proposals import Proposals
from videoclip.evaluation.trial import Trial

CONFIG = EvaluateConfig(num_resamples=20)
RANDOM = {"rank@1": 0.0357, "rank@5": 0.2238, "mIoU": 0.2263}
"""What random orders of DiDeMo's test are expected to reach."""
SHOWN = ["cut"] * 5 + ["fry"] * 5 + ["pour"] * 20


def marked(number, text, *spans, video_id="a"):
    return MomentExample(str(number), video_id, text, spans, 30.0)


def test_didemo_moments_that_are_shown_come_first(make_store, encoder):
    store = make_store({"a": SHOWN, "b": ["stir"] * 3})
    examples = [
        marked(1, "fry", *[(5.0, 10.0)] * 4),
        marked(2, "cut", (0.0, 5.0), (0.0, 5.0), (0.0, 5.0), (25.0, 30.0)),
        marked(3, "cut", *[(10.0, 15.0)] * 4),
        marked(4, "stir", *[(0.0, 5.0)] * 4, video_id="b"),
        marked(5, "stir", *[(0.0, 5.0)] * 4, video_id="absent"),
    ]
    outcome = evaluate_didemo((examples, examples[:1]), Trial(encoder, store, CONFIG))
    got = {m.name: m.value for m in outcome.measures}
    assert got == pytest.approx({"rank@1": 3 / 4, "rank@5": 3 / 4, "mIoU": 3 / 4})
    assert [m.video_id for m in outcome.missing] == ["absent"]
    assert outcome.rows[2]["IoU"] == 0.0
    assert [c.name for c in outcome.baselines] == ["random", "moment frequency prior"]
    assert [c.name for c in didemo_baselines(examples, None)] == ["random"]


def test_of_longer_videos_didemo_sees_the_first_half_minute(make_store, encoder):
    """Whatever comes later changes nothing: attention over all seconds would see it."""
    seen, embed_seconds = [], encoder.embed_seconds
    encoder.embed_seconds = lambda features, attend_cls: (
        seen.append((len(features), attend_cls)) or embed_seconds(features, attend_cls=attend_cls)
    )
    store = make_store({"a": SHOWN, "b": SHOWN + ["fry"] * 40})
    examples = [
        marked(number, text, *[span] * 4, video_id=video)
        for video in "ab"
        for number, (text, span) in enumerate({"fry": (5.0, 10.0), "pour": (25.0, 30.0)}.items())
    ]
    rows = evaluate_didemo((examples, None), Trial(encoder, store, CONFIG)).rows
    short, long = ([row | {"video_id": ""} for row in part] for part in (rows[:2], rows[2:]))
    assert set(seen) == {(30, True), (DIDEMO_SECONDS, True)} and short == long


def test_didemo_needs_seconds(make_store, encoder):
    store = make_store({"a": SHOWN}, rate=2.0)
    with pytest.raises(DataError, match="DiDeMo needs one feature a second, not 2"):
        evaluate_didemo(([marked(1, "fry", (5.0, 10.0))], None), Trial(encoder, store, CONFIG))


@pytest.mark.parity
def test_didemo_without_a_model(shared):
    folder = shared / "annotations" / "files" / "didemo"
    test, val = (
        didemo.read_didemo_moments(folder / f"{name}_data.json") for name in ("test", "val")
    )
    random, frequent = didemo_baselines(test, val)
    assert "expect" in random.note
    assert random.values == pytest.approx(RANDOM, abs=0.0001)
    published = {"rank@1": 0.194, "rank@5": 0.681, "mIoU": 0.254}
    assert frequent.values == pytest.approx(published, abs=0.0005)


@pytest.mark.slow
@pytest.mark.parity
def test_didemo_in_random_order(shared):
    folder = shared / "annotations" / "files" / "didemo"
    test = didemo.read_didemo_moments(folder / "test_data.json")
    # 3.3 and 22.0, often quoted, are one random order: such draws lie around what is expected.
    rng, draws = np.random.default_rng(0), []
    marked = [[(int(a // 5), int(b // 5) - 1) for a, b in e.moments] for e in test]
    for _ in range(12):
        ranks = np.array([didemo_agreement(rng.permutation(21), m)[0] for m in marked])
        draws.append([(ranks <= 1).mean(), (ranks <= 5).mean()])
    mean, spread = np.mean(draws, axis=0), np.std(draws, axis=0, ddof=1)
    assert (abs(mean - [RANDOM["rank@1"], RANDOM["rank@5"]]) < spread).all()
    assert (abs(np.array([0.033, 0.220]) - mean) < 3 * spread).all()


def test_moments_of_any_length(make_store, encoder):
    store = make_store({"a": SHOWN, "b": ["nothing"] * 10 + ["stir"] * 2 + ["nothing"] * 8})
    examples = [
        marked(1, "fry", (5.0, 10.0)),
        marked(2, "pour", (10.0, 30.0)),
        marked(3, "stir", (10.0, 12.0), (1.0, 9.0), video_id="b"),
        marked(4, "stir", (10.0, 12.0), video_id="absent"),
    ]
    outcome = evaluate_moments(examples, Trial(encoder, store, CONFIG))
    got = {m.name: m.value for m in outcome.measures}
    # Borders are exact to a second.
    assert got["R1@0.5"] == got["R1@0.7"] == got["mIoU"] == 1.0
    assert outcome.rows[0] | {"IoU": 1.0, "start": 5.0, "end": 10.0} == outcome.rows[0]
    assert outcome.rows[2] | {"IoU": 1.0, "start": 10.0, "end": 12.0} == outcome.rows[2]
    assert 1 / 2 < got["mAP"] < got["mAP@0.5"] <= 1.0
    assert [c.name for c in outcome.baselines] == ["random spans", "whole video"]
    assert outcome.baselines[1].values["R1@0.5"] == pytest.approx(1 / 3)
    assert len(outcome.plots) == 3


def test_measures_of_qvhighlights_charades_and_activitynet(make_store, encoder):
    store = make_store({"a": SHOWN})
    examples = [
        marked(1, "fry", (5.0, 10.0)),
        marked(2, "pour", (10.0, 30.0), (0.0, 4.0)),
        marked(3, "cut", (6.0, 30.0)),
    ]
    outcome = evaluate_moments(examples, Trial(encoder, store, CONFIG))
    got = {m.name: m.value for m in outcome.measures}
    assert got["R1@0.5"] == pytest.approx(2 / 3) and got["R5@0.5"] >= got["R1@0.5"]
    assert got["mAP@0.75"] <= got["mAP@0.5"]
    # Exact: 5 s, found; 4 s, not found. 20 s, found; 24 s, of which nothing is found.
    assert got["mAP of short moments"] < 1 and got["mAP of middle moments"] <= 1
    assert "mAP of long moments" not in got and "HIT@1" not in got
    assert got["AR@10"] == 1  # by the proposals of all sentences together
    assert set(outcome.baselines[0].values) == set(got)


def test_highlights_are_the_clips_that_raters_found_very_good(make_store, encoder):
    store = make_store({"a": ["nothing"] * 4 + ["fry"] * 4 + ["cut"] * 2})
    none, good = (0, 0, 0), (4, 2, 0)
    saliency = (none, none, good, good, none, none)  # of 12 s, of which 10 have features
    fry = replace(marked(1, "fry", (4.0, 8.0)), saliency=saliency)
    cut = replace(marked(2, "cut", (4.0, 8.0)), saliency=saliency)
    outcome = evaluate_moments([fry, cut], Trial(encoder, store, CONFIG))
    got = {m.name: m.value for m in outcome.measures}
    assert got["HIT@1"] == 1 / 2
    # Of three raters one found highlights. "cut" finds another clip, then four others at once.
    assert got["highlight mAP"] == pytest.approx((1 / 3 + 2 / 5 / 3) / 2)
    random, whole = (baseline.values for baseline in outcome.baselines)
    assert 0 <= random["highlight mAP"] <= 1 and "highlight mAP" not in whole


def test_annotations_without_answers(make_store, encoder):
    with pytest.raises(DataError, match="1 sentences such as '1' have no moments: use"):
        evaluate_moments([marked(1, "fry")], Trial(encoder, make_store({"a": SHOWN}), CONFIG))


def overlap(a, b):
    """Ratio of two spans' common seconds to those of either."""
    common = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return common / (max(a[1], b[1]) - min(a[0], b[0]) if common else 1)


def draw_spans(rng, count):
    return np.sort(rng.integers(0, 60, (count, 2)) + np.array([0.0, 0.5]), axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_every_measure_of_found_moments_as_by_plain_python(seed):
    """Videos with several sentences, each with other numbers of moments and of annotations."""
    rng = np.random.default_rng(seed)
    examples, found = [], []
    for number in range(9):
        spans = tuple(map(tuple, draw_spans(rng, rng.integers(1, 4)).tolist()))
        video = "abc"[min(number // 2, 2)]
        examples.append(MomentExample(str(number), video, "x", spans, 60.0))
        count = rng.integers(4, 11)
        similarities = np.sort(rng.random(count))[::-1]
        found.append(Proposals(draw_spans(rng, count), similarities))
    got, items = {}, {}
    for statistics, videos in _moment_statistics(found, examples):
        values = statistics(np.arange(len(videos)))
        got |= values
        items |= {name: list(videos) for name in values}

    def mean(values):
        return sum(values) / len(values)

    pairs = [(f.spans, e.moments) for f, e in zip(found, examples, strict=True)]
    best = {n: [max(overlap(a, b) for a in p[:n] for b in t) for p, t in pairs] for n in (1, 5)}
    wanted = {"mIoU": mean(best[1])}
    for rank, overlaps in best.items():
        for name in [name for name in got if name.startswith(f"R{rank}@")]:
            least = float(name.partition("@")[2])
            wanted[name] = mean([one >= least for one in overlaps])
    ious = [0.5 + 0.05 * i for i in range(10)]
    assert list(PRECISION_IOUS) == pytest.approx(ious)
    precision = [
        [average_precision(span_iou(p, np.array(t)), iou) for iou in PRECISION_IOUS]
        for p, t in pairs
    ]
    wanted |= {
        "mAP": mean([mean(row) for row in precision]),
        "mAP@0.5": mean([row[0] for row in precision]),
    }
    wanted["mAP@0.75"] = mean([row[5] for row in precision])
    for name, inside in {
        "short": lambda seconds: seconds <= 10,
        "middle": lambda seconds: 10 < seconds <= 30,
        "long": lambda seconds: seconds > 30,
    }.items():
        parts = [
            (p, [(a, b) for a, b in t if inside(b - a)], e.video_id)
            for (p, t), e in zip(pairs, examples, strict=True)
        ]
        parts = [part for part in parts if part[1]]
        wanted[f"mAP of {name} moments"] = mean(
            [
                average_precision(span_iou(p, np.array(t)), iou)
                for p, t, _ in parts
                for iou in PRECISION_IOUS
            ]
        )
        assert items[f"mAP of {name} moments"] == [video for *_, video in parts]
    share = 10 * 3 / sum(len(p) for p, _ in pairs)
    assert share < 1
    recalled = present = 0
    for video in "abc":
        rows = [i for i, example in enumerate(examples) if example.video_id == video]
        every = [
            (s, *span)
            for i in rows
            for s, span in zip(found[i].similarities, pairs[i][0], strict=True)
        ]
        every = sorted(every, key=lambda one: -one[0])[: int(share * len(every))]
        for target in [target for i in rows for target in pairs[i][1]]:
            top = max(overlap(one[1:], target) for one in every)
            recalled += mean([top >= iou for iou in PRECISION_IOUS])
            present += 1
    wanted["AR@10"] = recalled / present
    assert got == pytest.approx(wanted)
    assert items["AR@10"] == ["a", "b", "c"]
    assert items["mIoU"] == [example.video_id for example in examples]
