import numpy as np
import pytest

from videoclip import answer, localize, segment
from videoclip.embedding import VideoEmbedding
from videoclip.errors import ConfigError, DecodeError
from videoclip.zeroshot.confidence import UNRELATED_QUERIES


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
