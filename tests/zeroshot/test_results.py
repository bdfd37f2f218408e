from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from videoclip import Answer, Moment, Timeline, answer, localize, segment
from videoclip.embedding import VideoEmbedding
from videoclip.errors import ConfigError, DecodeError
from videoclip.zeroshot.confidence import (
    UNRELATED_QUERIES,
    VIDEO_THRESHOLDS,
    Calibration,
)
from videoclip.zeroshot.labels import correct_label_hubs, label_frames


def test_every_second_has_a_label_or_none(videos, embedder):
    timeline = segment(videos / "a.mp4", ["green", "blue"], embedder)  # red is neither
    assert [moment.label for moment in timeline.moments] == ["blue", "green"]
    blue, green = timeline.moments
    assert (blue.start, blue.end) == pytest.approx((10, 22), abs=1)
    assert (green.start, green.end) == pytest.approx((22, 32), abs=1)


def test_steps_are_found_where_they_happen_or_named_as_missing(videos, embedder):
    timeline = localize(videos / "a.mp4", ["red", "white", "green"], embedder)
    assert [moment.label for moment in timeline.moments] == ["red", "green"]
    assert list(timeline.missing) == ["white"]


def test_steps_in_the_wrong_order_are_found_only_in_any_order(videos, embedder):
    steps = ["green", "red"]
    in_order = localize(videos / "a.mp4", steps, embedder)
    any_order = localize(videos / "a.mp4", steps, embedder, ordered=False)
    assert len(in_order.moments) == 1
    assert [moment.label for moment in any_order.moments] == ["red", "green"]


def test_the_choice_that_is_shown_is_the_answer(videos, embedder):
    found = answer(videos / "a.mp4", "", ["yellow", "blue", "white"], embedder)
    assert found.text == "blue"
    assert sum(found.probabilities) == pytest.approx(1)
    assert 10 <= found.best <= 22


def test_probabilities_are_at_the_temperature_of_the_model_not_of_its_settings(videos, embedder):
    assert embedder.temperature != embedder.config.temperature  # as if learned
    found = answer(videos / "a.mp4", "", ["yellow", "blue", "white"], embedder)
    logits = np.array(found.similarities) / embedder.temperature
    expected = np.exp(logits) / np.exp(logits).sum()
    assert found.probabilities == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize("ask", [segment, localize])
@pytest.mark.parametrize("texts", [[], ["red", "red"], "red"])
def test_texts_that_cannot_be_told_apart_are_refused(ask, texts, videos, embedder):
    with pytest.raises(ConfigError):
        ask(videos / "a.mp4", texts, embedder)


def test_bad_questions_are_refused(videos, embedder):
    with pytest.raises(ConfigError, match="at least two choices"):
        answer(videos / "a.mp4", "which?", ["red"], embedder)
    with pytest.raises(DecodeError):
        answer(videos / "absent.mp4", "which?", ["red", "blue"], embedder)


class RandomEmbedder:
    """Embeds each text as a vector of its own, and remembers the texts it was given."""

    temperature = 0.1

    def __init__(self):
        self.texts = []
        self.config = type("Config", (), {"max_video_tokens": 3})

    def embed_text(self, texts):
        self.texts += texts
        rows = [np.random.default_rng(list(text.encode())).normal(size=4) for text in texts]
        return np.array(rows, dtype=np.float32)

    def embed_windows(self, features, spans):
        return np.stack([features[start:stop].mean(axis=0) for start, stop in spans])


def spans_by_trying(gains):
    """The span of each step (T, K) that gains most where other steps gain less, in any order."""
    num_frames, num_steps = gains.shape
    best = []
    for step in range(num_steps):
        # Where another step gains more, the difference is lost.
        own = [gain[step] - (max(gain) - gain[step] and max(gain)) for gain in gains.tolist()]
        spans = [(a, b) for a in range(num_frames) for b in range(a + 1, num_frames + 1)]
        top = max(spans, key=lambda span: sum(own[slice(*span)]))
        best.append(top if sum(own[slice(*top)]) > 0 else None)
    return best


@pytest.mark.parametrize("seed", range(4))
def test_steps_in_any_order_are_the_spans_that_gain_most_beside_their_rivals(videos, seed):
    embedder, steps = RandomEmbedder(), ["one", "two", "three"]
    tokens = np.random.default_rng(seed).normal(size=(9, 4)).astype(np.float32)
    embedded = VideoEmbedding(tokens, tokens, 1.0)
    found = localize(
        videos / "a.mp4", steps, embedder, ordered=False, threshold=0.1, embedded=embedded
    )
    bank = embedder.embed_text(UNRELATED_QUERIES) @ tokens.T
    z_scores = (embedder.embed_text(steps) @ tokens.T - bank.mean(axis=0)) / bank.std(axis=0)
    expected = spans_by_trying(z_scores.T - 0.1)
    spans = {moment.label: (moment.start, moment.end) for moment in found.moments}
    assert spans == {step: span for step, span in zip(steps, expected, strict=True) if span}
    for moment in found.moments:
        row = z_scores[steps.index(moment.label)]
        assert (
            moment.best == np.argmax(row[int(moment.start) : int(moment.end)]) + moment.start + 0.5
        )


def test_the_question_stands_before_each_choice(videos):
    tokens = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    for question, texts in (
        ("what is cut?", ["what is cut? an onion", "what is cut? bread"]),
        ("", ["an onion", "bread"]),
    ):
        embedder = RandomEmbedder()
        embedded = VideoEmbedding(tokens, tokens, 1.0)
        found = answer(
            videos / "a.mp4", question, ["an onion", "bread"], embedder, embedded=embedded
        )
        assert embedder.texts == texts
        best = tokens @ embedder.embed_text([texts[found.chosen]])[0]
        assert found.best == best.argmax() + 0.5


@pytest.mark.parametrize("seed", range(3))
def test_every_value_of_the_moments_of_a_timeline(videos, seed):
    embedder, labels = RandomEmbedder(), ["one", "two", "three"]
    tokens = np.random.default_rng(seed).normal(size=(33, 4)).astype(np.float32)
    embedded = VideoEmbedding(tokens, tokens, 1.0)  # a second longer than the video
    found = segment(
        videos / "a.mp4", labels, embedder, threshold=0.2, switch_cost=0.1, embedded=embedded
    )
    similarities = embedder.embed_text(labels) @ tokens.T
    unrelated = embedder.embed_text(UNRELATED_QUERIES)
    bank = unrelated @ tokens.T
    z_scores = (similarities - bank.mean(axis=0)) / bank.std(axis=0)
    calibration = Calibration(unrelated).fit(tokens)
    corrected = correct_label_hubs(z_scores.T, 0.2)
    frames = enumerate(label_frames(corrected, 0.2, 0.1).tolist())
    wanted = []
    for label, group in groupby(frames, key=lambda frame: frame[1]):
        seconds = [second for second, _ in group]
        if label:
            best = max(seconds, key=lambda second: z_scores[label - 1, second])
            strength = calibration.strength(float(z_scores[label - 1, best]))
            wanted.append(
                {
                    "label": labels[label - 1],
                    "start": seconds[0],
                    "end": min(seconds[-1] + 1, 32.0),
                    "best": best + 0.5,
                    "similarity": np.mean([similarities[label - 1, s] for s in seconds]),
                    "strength": strength,
                    "confidence": VIDEO_THRESHOLDS.level(strength),
                }
            )
    rows = found.as_dict().pop("spans")
    assert len(rows) == len(wanted) > 3
    for row, values in zip(rows, wanted, strict=True):
        for name, value in values.items():
            is_number = not isinstance(value, str)
            assert row[name] == (pytest.approx(float(value), rel=1e-4) if is_number else value)
    assert {(m.path, m.duration, m.frame_rate) for m in found.moments} == {
        (videos / "a.mp4", 32.0, found.frame_rate)
    }


def test_a_rate_scales_times_and_moments_end_with_their_video(videos):
    tokens = np.random.default_rng(1).normal(size=(17, 4)).astype(np.float32)
    half, whole = (
        localize(
            videos / "a.mp4",
            ["one", "two"],
            RandomEmbedder(),
            threshold=-9.0,
            embedded=VideoEmbedding(tokens, tokens, rate),
        )
        for rate in (0.5, 1.0)
    )
    assert [m.start for m in half.moments] == [2 * m.start for m in whole.moments]
    assert [m.best for m in half.moments] == [2 * m.best for m in whole.moments]
    assert whole.moments[-1].end == 17.0 and half.moments[-1].end == 32.0 == half.duration
    with_question = [
        answer(
            videos / "a.mp4",
            "",
            ["one", "two"],
            RandomEmbedder(),
            embedded=VideoEmbedding(tokens, tokens, rate),
        )
        for rate in (0.5, 1.0)
    ]
    assert with_question[0].best == 2 * with_question[1].best


def test_results_as_a_person_and_as_a_program_reads_them():
    moment = Moment(
        Path("/v/a b.mp4"), 5.0, 70.5, "cut", 6.0, 0.25, 3.5, "high", duration=80.0, frame_rate=25.0
    )
    timeline = Timeline(moment.path, 80.0, 25.0, ("fry", "cut", "pour"), (moment,), 1.25)
    assert repr(timeline).splitlines() == [
        "Timeline('a b', 1:20.0, threshold 1.25)",
        "     0:05.0-1:10.5      high  cut",
        "  not found: fry, pour",
    ]
    assert timeline.as_dict() == {
        "path": "/v/a b.mp4",
        "duration": 80.0,
        "frame_rate": 25.0,
        "labels": ("fry", "cut", "pour"),
        "spans": [
            {
                "label": "cut",
                "start": 5.0,
                "end": 70.5,
                "best": 6.0,
                "similarity": 0.25,
                "strength": 3.5,
                "confidence": "high",
            }
        ],
        "threshold": 1.25,
        "missing": ("fry", "pour"),
    }
    whole = Timeline(moment.path, 80.0, 25.0, ("cut",), (moment,), 1.25)
    assert len(repr(whole).splitlines()) == 2 and whole.missing == ()
    chosen = Answer(
        Path("/v/a.mp4"), "what?", ("x", "y", "z"), 1, (0.1, 0.3, 0.2), (0, 0.9, 0.1), 65
    )
    assert repr(chosen) == "Answer('y', 90% of 3, at 1:05.0)"
    assert chosen.as_dict() == {
        "path": "/v/a.mp4",
        "question": "what?",
        "choices": ("x", "y", "z"),
        "chosen": 1,
        "similarities": (0.1, 0.3, 0.2),
        "probabilities": (0, 0.9, 0.1),
        "best": 65,
        "text": "y",
    }
