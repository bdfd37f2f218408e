"""Alignment where one knows where the texts are shown."""

import numpy as np
import pytest

from videoclip.benchmarks.examples import AlignmentVideo, PlacedText
from videoclip.config import EvaluateConfig
from videoclip.errors import DataError
from videoclip.evaluation.alignment import article_precisions, evaluate_alignment, windows
from videoclip.evaluation.proposals import Proposals
from videoclip.evaluation.trial import Trial

CONFIG = EvaluateConfig(num_resamples=20)


def values(outcome):
    return {m.name: m.value for m in outcome.measures}


def test_texts_are_found_and_those_that_are_not_shown_told_apart(make_store, encoder):
    store = make_store({"a": ["nothing", "cut", "cut", "fry", "serve", "nothing"]})
    texts = (
        PlacedText("cut", ((1.2, 2.0),), (1.2, 2.0)),
        PlacedText("wash", (), (2.0, 3.0)),
        PlacedText("fry", ((0.0, 1.9),), (0.0, 1.9)),  # annotated where it is not shown
        PlacedText("serve", ((3.1, 3.9),), (3.1, 3.9)),  # second 4 is ceil(3.9)
    )
    videos = [AlignmentVideo("a", texts), AlignmentVideo("absent", texts)]
    outcome = evaluate_alignment(videos, Trial(encoder, store, CONFIG))
    assert values(outcome)["R@1"] == values(outcome)["R@1 in windows"] == pytest.approx(2 / 3)
    assert values(outcome)["alignability AUC"] == 1.0
    random, even = (baseline.values for baseline in outcome.baselines)
    assert random["R@1"] == pytest.approx((2 + 3 + 2) / 6 / 3)
    assert random["alignability AUC"] == 0.5
    assert even["R@1"] == 0.0  # frames 0, 2, 3 and 5
    assert [row["second"] for row in outcome.rows] == [1.0, 3.0, 4.0]
    assert [m.video_id for m in outcome.missing] == ["absent"]
    assert (outcome.num_examples, outcome.num_videos) == (3, 1)


def test_steps_without_narration_have_no_windows(make_store, encoder):
    store = make_store({"a": ["cut", "fry"]})
    shown = AlignmentVideo("a", (PlacedText("cut", ((0.0, 1.0),)),))
    assert set(values(evaluate_alignment([shown], Trial(encoder, store, CONFIG)))) == {"R@1"}
    with pytest.raises(DataError, match="no text of a video with features is shown"):
        nothing = AlignmentVideo("a", (PlacedText("cut"),))
        evaluate_alignment([nothing], Trial(encoder, store, CONFIG))


def test_windows_lie_around_the_narration_that_is_not_shown():
    texts = [PlacedText(str(i), (), (30.0 * i, 30.0 * i)) for i in range(20)]
    texts[10] = PlacedText("shown", ((0.0, 1.0),), (0.0, 1.0))
    allowed = windows(texts, 600, 1.0)
    assert allowed.shape == (20, 600)
    # Text 10 lies between narration at 270 and 330 s: windows within 64 s of both, of 64 s.
    seconds = np.flatnonzero(allowed[10])
    assert (seconds.min(), seconds.max()) == (208, 383)
    assert allowed[0, :112].all() and allowed[-1, -60:].all()
    # A window without narration near it is left out; the first four begin with the first text.
    texts = [PlacedText("shown", ((1.0, 2.0),)), PlacedText("spoken", (), (0.0, 0.0))]
    alone = windows(texts, 600, 1.0)
    assert np.flatnonzero(alone[0]).tolist() == list(range(48 + 64))
    assert np.flatnonzero(alone[1]).tolist() == list(range(64 + 64))


def proposals(*rows):
    """Rows: (start, end, similarity)."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return Proposals(table[:, :2], table[:, 2])


def test_precision_of_an_article_by_hand():
    boil = PlacedText("boil", ((0.0, 10.0), (0.0, 10.0), (5.0, 5.0)), step=1)  # one distinct span
    pour = PlacedText("pour", ((20.0, 30.0),), step=2)
    never = PlacedText("never shown", step=3)
    tea = AlignmentVideo("a", (boil, pour, never), article="tea")
    other = AlignmentVideo("b", (PlacedText("pour", ((0.0, 4.0),), step=2),), article="tea")
    found = [
        [
            proposals((20, 30, 0.9), (0, 8, 0.6)),  # where the other step is shown: right, too
            proposals((20, 30, 0.5)),  # taken before
            proposals((0, 10, 1.0)),  # left out
        ],
        [proposals((0, 4, 0.8), (50, 60, 0.7))],
    ]
    # Ranked: right, right, wrong, right (IoU 0.8), wrong; three spans could be found.
    expected = (1 + 1 + 3 / 4) / 3
    assert article_precisions([tea, other], found) == {"tea": pytest.approx(expected)}
    found[0][0] = proposals((20, 30, 0.9), (0, 5, 0.6))  # IoU 0.5: right at 0.3, 0.4 and 0.5
    expected = (3 * (1 + 1 + 3 / 4) + 2 * (1 + 1)) / 3 / 5
    assert article_precisions([tea, other], found)["tea"] == pytest.approx(expected)
    alone = AlignmentVideo("c", (boil,), article="other")
    both = article_precisions([tea, alone], [found[0], [proposals((0, 10, 0.1))]])
    assert set(both) == {"tea", "other"} and both["other"] == 1.0
    assert article_precisions([AlignmentVideo("d", (never,), article="x")], [[proposals()]]) == {}


def naive_precision(videos, found, iou):
    """The published rule for one article: one list, one prediction after the other."""
    known = {text.step for video in videos for text in video.texts if text.spans}
    spans = [(v, span) for v, video in enumerate(videos) for t in video.texts for span in t.spans]
    predictions = [
        (similarity, v, *span)
        for v, video in enumerate(videos)
        for text, moments in zip(video.texts, found[v], strict=True)
        if text.step in known
        for span, similarity in zip(moments.spans.tolist(), moments.similarities, strict=True)
    ]
    taken, right = set(), []
    for _, v, start, end in sorted(predictions, reverse=True):
        overlaps = []
        for i, (owner, (first, last)) in enumerate(spans):
            shared = max(0.0, min(end, last) - max(start, first))
            union = (end - start) + (last - first) - shared
            if owner == v and i not in taken and shared / union >= iou:
                overlaps.append((shared / union, i))
        right.append(bool(overlaps))
        taken |= {max(overlaps)[1]} if overlaps else set()
    precision = [sum(right[: i + 1]) / (i + 1) for i in range(len(right))]
    return sum(max(precision[i:]) for i, is_right in enumerate(right) if is_right) / len(spans)


def test_precision_of_an_article_is_that_of_a_naive_evaluation():
    rng = np.random.default_rng(0)
    for _ in range(20):
        videos, found = [], []
        for name in "abc":
            texts = []
            for step in range(4):
                starts = np.flatnonzero(rng.random(12) < 0.15) * 10.0
                lengths = rng.uniform(1, 9, size=len(starts))
                spans = zip(starts.tolist(), (starts + lengths).tolist(), strict=True)
                texts.append(PlacedText(str(step), tuple(spans), step=step))
            videos.append(AlignmentVideo(name, tuple(texts), article="tea"))
            near = [np.sort(rng.uniform(0, 120, size=(6, 2)), axis=1) for _ in texts]
            for text, spans in zip(texts, near, strict=True):
                for i, span in enumerate(text.spans[:3]):
                    spans[i] = np.array(span) + rng.uniform(-1, 1, size=2)
            found.append([Proposals(spans, rng.random(6)) for spans in near])
        expected = [naive_precision(videos, found, iou) for iou in (0.3, 0.4, 0.5, 0.6, 0.7)]
        (precision,) = article_precisions(videos, found).values()
        assert precision == pytest.approx(np.mean(expected), abs=1e-12)


def test_articles_are_scored_with_the_moments_that_search_finds(make_store, encoder):
    store = make_store({"a": ["nothing"] * 4 + ["cut"] * 6 + ["nothing"] * 2 + ["fry"] * 8})
    texts = (
        PlacedText("cut", ((4.0, 10.0),), step=1),
        PlacedText("fry", ((12.0, 20.0),), step=2),
    )
    videos = [AlignmentVideo("a", texts, article="Make Tea")]
    outcome = evaluate_alignment(videos, Trial(encoder, store, CONFIG))
    assert values(outcome)["article mAP"] > 0.7
    (random, _) = (baseline.values for baseline in outcome.baselines)
    assert random["article mAP"] < 0.4
