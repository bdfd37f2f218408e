"""What held-out narration decides: the share of a residual, and whether a re-ranker is used."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.model.tiny_models import tiny_dual_encoder
from tests.training.tiny_corpus import THINGS, tiny_config, tiny_corpus
from videoclip.evaluation.held_out import (
    RERANKER_WEIGHT,
    SHARES,
    RerankerWeight,
    choose_share,
    choose_weight,
    held_out_retrieval,
    interpolate,
    reciprocal_ranks,
)
from videoclip.evaluation.outcome import measure_texts
from videoclip.model.batch import embed_batch
from videoclip.model.encoders import residuals_of
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.narrated import Feed, Group
from videoclip.training.trainer import Purpose


def reranker_model():
    torch.manual_seed(0)
    return VideoCLIP(replace(tiny_config().model, num_cross_layers=1)).eval()


def test_the_share_scales_the_residual_alone():
    """The embedding before normalisation is linear in the share: start + share * residual."""
    config = tiny_config()
    config = replace(config.model, dual_encoder="tiny", pooling="plain_mean", dropout=0.0)
    model = VideoCLIP(config, tiny_dual_encoder(config))
    for residual in residuals_of(model):
        torch.nn.init.constant_(residual.scale, 0.5)
    video, mask = torch.randn(3, 5, 16), torch.ones(3, 5, dtype=torch.bool)
    whole = model.video_encoder(video, mask).hidden.detach()
    states = []

    def scores(model):
        states.append(model.video_encoder(video, mask).hidden.detach())
        return np.full((8, 2), 1.0 if len(states) > 3 else 0.2)

    kept = interpolate(model, 8, scores)
    assert len(states) == len(SHARES) == 6 and kept.share == SHARES[3]
    for share, state in zip(SHARES, states, strict=True):
        torch.testing.assert_close(state, states[0] + share * (whole - states[0]))
    torch.testing.assert_close(model.video_encoder(video, mask).hidden, states[3])
    lengths = [float((state - states[0]).norm()) for state in states]
    assert all(a < b for a, b in itertools.pairwise(lengths))


def test_the_smallest_share_is_chosen_that_is_not_clearly_worse():
    rng = np.random.default_rng(0)
    noise = 0.01 * rng.normal(size=(5, 20))
    scores = np.array([0.2, 0.4, 0.6, 0.602, 0.5])[:, None] + noise
    chosen, low, high = choose_share(scores)
    assert chosen == 2 and 0.38 < low < 0.4 < high < 0.42
    assert choose_share(scores[::-1])[0] == 1
    assert choose_share(np.full((3, 6), 0.5)) == (0, 0.0, 0.0)


def scores_with(gain):
    """Reciprocal ranks (V, N) of 40 videos, better by `gain` on average with the re-ranker."""
    rng = np.random.default_rng(0)
    ranks, noise = rng.uniform(0.2, 0.5, size=(40, 3)), rng.normal(size=(40, 3))

    def scores(model):
        return ranks + (gain + 0.05 * abs(gain) * noise) * bool(model.reranker.weight)

    return scores


@pytest.mark.parametrize(
    ("gain", "expected"),
    [(0.1, RERANKER_WEIGHT), (-0.1, 0.0), (0.0, 0.0)],
)
def test_a_reranker_is_used_unless_the_towers_do_as_well(gain, expected):
    model = reranker_model()
    chosen = choose_weight(model, 40, scores_with(gain))
    assert chosen.weight == float(model.reranker.weight) == expected
    assert ("is used:" if expected else "is not used, since") in str(chosen)
    assert (chosen.score - chosen.towers > chosen.error) == (expected > 0)


def test_a_gain_smaller_than_its_error_is_enough():
    towers, noise = scores_with(0.0), np.random.default_rng(1).normal(size=(40, 3))
    gains = noise - noise.mean() + 0.01
    chosen = choose_weight(
        reranker_model(), 40, lambda model: towers(model) + gains * bool(model.reranker.weight)
    )
    assert chosen.weight == RERANKER_WEIGHT
    assert 0 < chosen.score - chosen.towers < chosen.error


def test_without_enough_held_out_videos_the_reranker_is_not_used():
    model = reranker_model()
    model.reranker.weight.fill_(1.0)
    assert choose_weight(model, 4, None) == RerankerWeight(0.0, 4)
    assert model.reranker.weight == 0
    assert "4 held-out videos, and at least 5 are needed" in str(RerankerWeight(0.0, 4))


def test_held_out_texts_are_ranked_among_clips_of_other_videos(tmp_path):
    corpus, model = tiny_corpus(tmp_path), reranker_model()
    feed = Feed(corpus, replace(tiny_config().clips, clips_per_video=16), model.config)
    groups = [Group([i], (0, Purpose.HELD_OUT, i)) for i in range(len(corpus))]

    def scores(model):
        return reciprocal_ranks(model, feed.batches(groups), len(corpus))

    plain = scores(model)
    assert plain.shape == (len(THINGS), 16)
    # At most 11 * 16 clips of other videos are better than the own one.
    assert (1 / plain <= 1 + 11 * 16).all() and (1 / plain).round().max() > 20
    model.reranker.weight.fill_(1.0)
    reranked = scores(model)
    moved = (reranked != plain).mean()
    assert 0 < moved < 0.3  # only those among the best 20
    assert (1 / reranked)[reranked != plain].max() <= 20
    assert scores(model).tolist() == reranked.tolist()


def test_measures_have_their_intervals():
    values = {"R@1": 0.25, "R@1 low": 0.125, "R@1 high": 0.5, "clips": 12.0}
    assert measure_texts(values) == {"R@1": "0.250 [0.125, 0.500]", "clips": "12.000"}


def test_retrieval_of_held_out_videos_is_that_of_their_similarities(tmp_path):
    corpus, model = tiny_corpus(tmp_path), reranker_model()
    clips = replace(tiny_config().clips, strategy="aligned", clips_per_video=2)
    groups = [Group([i], (0, Purpose.HELD_OUT, i)) for i in range(len(corpus))]
    batches = list(Feed(corpus, clips, model.config).batches(groups))
    found = held_out_retrieval(model, batches, len(corpus), seed=0)
    videos, texts = map(torch.cat, zip(*(embed_batch(model, b) for b in batches), strict=True))
    hits = []
    for i, row in enumerate(texts @ videos.T):
        best = row[[i - i % 2, i - i % 2 + 1]].max()
        hits.append(int((row > best).sum()))
    assert found["clips"] == len(hits) == 24
    assert found["text-to-video R@1"] == pytest.approx(np.mean([hit < 1 for hit in hits]))
    assert found["text-to-video R@5"] == pytest.approx(np.mean([hit < 5 for hit in hits]))
    for name in ("text-to-video R@1", "text-to-video MedR"):
        assert found[f"{name} low"] <= found[name] <= found[f"{name} high"]
