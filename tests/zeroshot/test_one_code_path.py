"""The product on the examples of a benchmark gives the numbers of the evaluation."""

import numpy as np
import pytest

from videoclip import VideoLibrary, answer, localize, segment
from videoclip.benchmarks.crosstask import CrossTask
from videoclip.benchmarks.examples import (
    LabelledSplit,
    LabelledVideo,
    MomentExample,
    MultipleChoiceExample,
    Segment,
    StepVideo,
    Task,
)
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.evaluation.localization import evaluate_steps, step_localizer
from videoclip.evaluation.metrics.frames import label_targets, recall_counts, step_targets
from videoclip.evaluation.metrics.moments import span_iou
from videoclip.evaluation.moment_retrieval import evaluate_moments
from videoclip.evaluation.segmentation import evaluate_labels, zero_shot_segmenter
from videoclip.evaluation.trial import EmbedderEncoder, Trial
from videoclip.evaluation.videoqa import choice_similarity, evaluate_multiple_choice
from videoclip.zeroshot.confidence import UNRELATED_QUERIES
from videoclip.zeroshot.steps import step_mask

CONFIG = EvaluateConfig(decoding="product", num_resamples=10)


@pytest.fixture
def paths(videos):
    return {"a": videos / "a.mp4", "b": videos / "b.mp4", "c d": videos / "sub" / "c d.mp4"}


@pytest.fixture
def store(tmp_path, paths, embedder):
    """Features of the videos, as `videoclip extract` writes them."""
    with FeatureStore.create(tmp_path / "store", embedder.backbone.spec) as store:
        for video_id, path in paths.items():
            store.append(video_id, np.concatenate(list(embedder.backbone.features_for(path))))
        yield store


@pytest.fixture
def encoder(embedder):
    return EmbedderEncoder(embedder)


def test_localize_finds_the_steps_that_are_scored(paths, store, encoder, embedder):
    some = Task("1", "some", ("red", "white", "green"))
    other = Task("2", "other", ("green", "red"))
    night = Task("3", "night", ("black", "yellow"))
    videos = (
        StepVideo("a", some, (Segment(0, 10, 0), Segment(10, 12, 1), Segment(25, 32, 2))),
        StepVideo("a", other, (Segment(22, 32, 0), Segment(0, 10, 1))),
        StepVideo("b", night, (Segment(0, 20, 0), Segment(20, 25, 1))),
    )
    localizer = step_localizer(Trial(encoder, store, CONFIG))
    benchmark = CrossTask({t.task_id: t for t in (some, other, night)}, videos, frozenset())
    outcome = evaluate_steps(benchmark, Trial(encoder, store, CONFIG))
    recalls = []
    for video, row in zip(videos, outcome.rows, strict=True):
        steps = video.task.steps
        timeline = localize(paths[video.video_id], steps, embedder)
        spans = {m.label: (round(m.start), round(m.end)) for m in timeline.moments}
        num_frames = store.num_features(video.video_id)
        mask = step_mask([spans.get(step) for step in steps], num_frames)
        assert (mask == localizer(video)[0]).all()
        found, present = recall_counts(mask, step_targets(video.segments, num_frames, len(steps)))
        assert (found, present) == (row["steps found"], row["steps present"])
        recalls.append(found / present)
    assert outcome.measures[0].value == pytest.approx(np.mean(recalls))
    assert 0 < np.mean(recalls) < 1


def test_segment_gives_the_labels_that_are_scored(paths, store, encoder, embedder):
    labels = ("green", "blue", "yellow", "white")
    videos = (
        LabelledVideo("a", 32.0, (Segment(12, 22, 2), Segment(22, 30, 1))),
        LabelledVideo("b", 35.0, (Segment(20, 27, 3),)),
        LabelledVideo("c d", 3.0, (Segment(0, 3, 4),)),
    )
    label, _ = zero_shot_segmenter(labels, [], Trial(encoder, store, CONFIG))
    examples = LabelledSplit(labels, videos), LabelledSplit(labels, ())
    outcome = evaluate_labels(examples, Trial(encoder, store, CONFIG))
    correct = total = 0
    for video in videos:
        true = label_targets(video.segments, store.num_features(video.video_id))
        predicted = np.zeros_like(true)
        for moment in segment(paths[video.video_id], labels, embedder).moments:
            predicted[round(moment.start) : round(moment.end)] = labels.index(moment.label) + 1
        assert (predicted == label(video)).all()
        correct, total = correct + (predicted == true).sum(), total + len(true)
    accuracy = {m.name: m.value for m in outcome.measures}["frame accuracy"]
    assert accuracy == pytest.approx(correct / total) and 0.5 < accuracy < 1


def test_answer_chooses_what_is_scored(paths, store, encoder, embedder):
    examples = [
        MultipleChoiceExample("1", "a", ("yellow", "blue", "white"), 1),
        MultipleChoiceExample("2", "b", ("green", "a yellow thing"), 1, "what is it"),
        MultipleChoiceExample("3", "b", ("red", "black", "blue", "green"), 2),
        MultipleChoiceExample("4", "c d", ("white", "red"), 0, "which colour"),
    ]
    similarity = choice_similarity(examples, Trial(encoder, store, CONFIG))
    outcome = evaluate_multiple_choice(examples, Trial(encoder, store, CONFIG))
    hits = []
    for example, row, expected in zip(examples, outcome.rows, similarity, strict=True):
        found = answer(paths[example.video_id], example.question, example.choices, embedder)
        assert found.similarities == pytest.approx(expected[: len(example.choices)].tolist())
        assert found.text == row["predicted"]
        hits.append(found.chosen == example.answer)
    assert outcome.measures[0].value == np.mean(hits) == 0.75


def test_search_returns_the_moments_that_are_scored(tmp_path, paths, store, encoder, embedder):
    examples = [
        MomentExample("1", "a", "red", ((0.0, 10.0),)),
        MomentExample("2", "a", "blue", ((10.0, 22.0),)),
        MomentExample("3", "a", "green", ((16.0, 30.0),)),
        MomentExample("4", "b", "yellow", ((20.0, 25.0),)),
        MomentExample("5", "c d", "white", ((0.0, 3.0),)),
    ]
    outcome = evaluate_moments(examples, Trial(encoder, store, CONFIG))
    overlaps = []
    for example, row in zip(examples, outcome.rows, strict=True):
        with VideoLibrary(tmp_path / f"library {example.example_id}", embedder) as library:
            library.update([paths[example.video_id]])
            best = library.search(example.text)[0]
        assert (best.start, best.end) == pytest.approx((row["start"], row["end"]))
        span, true = np.array([[best.start, best.end]]), np.array(example.moments)
        overlaps.append(span_iou(span, true)[0, 0])
    assert {m.name: m.value for m in outcome.measures}["mIoU"] == pytest.approx(np.mean(overlaps))
    assert 0.8 < np.mean(overlaps) < 1


def test_hubs_lose_in_the_evaluation_as_in_search(
    tmp_path, paths, store, encoder, embedder, monkeypatch
):
    plain = embedder._text
    monkeypatch.setattr(embedder, "_text", lambda t: plain("red" if t in UNRELATED_QUERIES else t))
    example = MomentExample("1", "a", "red red red blue blue", ((10.0, 22.0),))
    (row,) = evaluate_moments([example], Trial(encoder, store, CONFIG)).rows
    with VideoLibrary(tmp_path / "library", embedder) as library:
        library.update([paths["a"]])
        best = library.search(example.text)[0]
    assert (best.start, best.end) == (row["start"], row["end"]) == (10.0, 22.0)
