"""Gradient caching against the big batch, the loss kinds, and two processes against one."""

from dataclasses import replace

import pytest
import torch

from tests.model.tiny_models import TINY, make_model, make_text, make_video
from tests.two_ranks import on_two_ranks
from videoclip.config import FinetuneConfig, LossConfig
from videoclip.distributed import World
from videoclip.model.batch import Batch, PlacedBatch
from videoclip.model.losses.infonce import contrastive_loss
from videoclip.model.losses.mil_nce import mil_nce_loss
from videoclip.model.losses.sigmoid import sigmoid_loss
from videoclip.training.contrastive import ContrastiveLoss
from videoclip.training.trainer import Trainer

LEARNED = replace(TINY, normalize=True, temperature=0.2, learn_temperature=True)
INFONCE, ALONE = LossConfig(), World()
VIDEO_LENGTHS, TEXT_LENGTHS = [9, 1, 4, 7, 3, 5, 2], [3, 0, 11, 5, 8, 1, 6]


def make_batch(candidates=1):
    texts = TEXT_LENGTHS * candidates
    return Batch(*make_video(VIDEO_LENGTHS, 9), *make_text(texts, 11))


def learned(kind):
    return make_model(replace(LEARNED, learn_logit_bias=kind == "sigmoid"))


def trainer_of(model, config=INFONCE, world=ALONE, **settings):
    """A trainer whose settings allow any loss with any clips."""
    precision = settings.pop("precision", "fp32")
    run = FinetuneConfig(**settings)
    return Trainer(ContrastiveLoss(model, config), run, world, 1, precision)


def loss_of(model, config=INFONCE, **settings):
    """The loss of the batch, without gradients."""
    candidates = settings.pop("candidates", 1)
    return trainer_of(model, config, **settings).validation_loss(iter([make_batch(candidates)]))


def gradients(model):
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    for p in model.parameters():
        p.grad = None
    return found


def assert_same(ours, expected, tolerance=1e-5):
    assert ours.keys() == expected.keys()
    for name, gradient in ours.items():
        scale = float(expected[name].abs().max()) + 1e-8
        torch.testing.assert_close(
            gradient, expected[name], rtol=0, atol=tolerance * max(scale, 1e-3), msg=name
        )


@pytest.mark.parametrize("chunk_pairs", [1, 2, 3, 6])
@pytest.mark.parametrize("kind", ["infonce", "sigmoid", "text_to_video", "mil_nce"])
def test_chunks_give_the_gradient_of_the_whole_batch(kind, chunk_pairs):
    batch = make_batch(candidates=2 if kind == "mil_nce" else 1)
    model, config = learned(kind), LossConfig(kind=kind)
    whole = trainer_of(model, config).forward_backward(batch, 0)
    expected = gradients(model)
    chunked = trainer_of(model, config, chunk_pairs=chunk_pairs).forward_backward(batch, 0)
    assert chunked.item() == pytest.approx(whole.item(), rel=1e-6)
    assert "log_temperature" in expected
    assert_same(gradients(model), expected)


RELATING = [
    {"ignore_overlapping": True, "seconds_weight": 0.7},
    {"kind": "equal_sentences", "equal_sentences": 0.1},
    {"kind": "neighbours", "seconds_weight": 1.0},
    {"kind": "time_warping"},
    {"kind": "transport"},
]


def make_placed_batch():
    """Three videos of two pairs each, the first two of which overlap."""
    spans = torch.tensor([[v, 3 * v, 3 * v + 2, 2 * v, 2 * v + 1] for v in (0, 0, 1, 1, 2, 2)])
    spans = spans + torch.tensor([[0, 9 * i, 9 * i, 9 * i, 9 * i] for i in (0, 0, 1, 2, 3, 5)])
    parts = (t[:6] for t in make_batch().tensors())
    return PlacedBatch(*parts, spans.float())


@pytest.mark.parametrize("chunk_pairs", [2, 5])
@pytest.mark.parametrize("settings", RELATING)
def test_chunks_know_the_places_and_words_of_the_whole_batch(settings, chunk_pairs):
    batch, model, config = make_placed_batch(), learned("infonce"), LossConfig(**settings)
    whole = trainer_of(model, config).forward_backward(batch, 0)
    expected = gradients(model)
    chunked = trainer_of(model, config, chunk_pairs=chunk_pairs).forward_backward(batch, 0)
    assert chunked.item() == pytest.approx(whole.item(), rel=1e-6)
    assert_same(gradients(model), expected)
    plain = trainer_of(model).forward_backward(batch, 0)
    assert plain.item() != pytest.approx(whole.item(), rel=1e-6)


def test_chunks_drop_the_same_positions_in_both_passes():
    """The naive twin keeps the graph of every chunk and differentiates the loss of all."""
    model = make_model(replace(LEARNED, dropout=0.5)).train()
    batch, config = make_batch(), LossConfig()
    trainer = trainer_of(model, config, chunk_pairs=3, seed=5)
    loss = trainer.forward_backward(batch, 7)
    ours = gradients(model)
    parts = []
    for i, chunk in enumerate(trainer.loss.split(batch, 3)):
        parts.append(trainer._call(trainer.loss.embed, chunk, number=7, part=i))
    naive = contrastive_loss(
        torch.cat([p.video for p in parts]), torch.cat([p.text for p in parts]), model.temperature
    )
    naive.backward()
    assert loss.item() == pytest.approx(naive.item(), rel=1e-6)
    assert_same(ours, gradients(model))


def test_dropout_follows_from_seed_and_update_alone():
    model = make_model(replace(TINY, dropout=0.5)).train()
    losses = []
    for seed, update in [(1, 1), (1, 2), (2, 1), (1, 1)]:
        trainer = trainer_of(model, seed=seed)
        losses.append(trainer.forward_backward(make_batch(), update).item())
        torch.rand(3)
    assert losses[0] == losses[3] and len(set(losses)) == 3


@pytest.mark.parametrize("kind", ["infonce", "video_to_text", "text_to_video", "sigmoid"])
def test_each_kind_is_its_loss(kind):
    model, batch = learned(kind), make_batch()
    outputs = [
        model.encode_video(batch.video, batch.video_mask),
        model.encode_text(batch.text, batch.text_mask),
        model.temperature,
    ]
    if kind == "sigmoid":
        expected = sigmoid_loss(*outputs, model.logit_bias)
    else:
        expected = contrastive_loss(*outputs, direction="both" if kind == "infonce" else kind)
    loss = loss_of(model, LossConfig(kind=kind))
    assert loss == pytest.approx(expected.item(), rel=1e-6)


def test_mil_nce_texts_are_candidates_of_their_video():
    model, batch = make_model(TINY), make_batch(candidates=3)
    text = model.encode_text(batch.text, batch.text_mask).view(len(batch), 3, -1)
    expected = mil_nce_loss(model.encode_video(batch.video, batch.video_mask), text)
    config = LossConfig(kind="mil_nce")
    assert loss_of(model, config, candidates=3) == pytest.approx(expected.item(), rel=1e-6)
    first = ContrastiveLoss(model, config).split(batch, 2)[0]
    assert torch.equal(first.text, batch.text[:6])


def test_a_reranker_is_trained_beside_the_towers():
    model = make_model(replace(TINY, num_cross_layers=1))
    assert trainer_of(model).forward_backward(make_batch(), 0) > loss_of(make_model(TINY))
    assert all(p.grad is not None for p in model.parameters())


def test_a_reranker_sends_no_gradient_into_the_towers():
    both = make_model(replace(TINY, num_cross_layers=1, dropout=0.0))
    towers = make_model(replace(TINY, dropout=0.0))
    towers.load_state_dict(
        {n: t for n, t in both.state_dict().items() if not n.startswith("reranker.")}
    )
    for model in (both, towers):
        trainer_of(model).forward_backward(make_batch(), 0)
    ours = {n: g for n, g in gradients(both).items() if not n.startswith("reranker.")}
    assert_same(ours, gradients(towers))


def test_the_reranker_learns_from_hard_negatives_where_they_are_asked_for():
    model = make_model(replace(TINY, num_cross_layers=1))
    loss, hardest = loss_of(model), loss_of(model, LossConfig(hard_similarity=1.0))
    assert hardest < loss


def test_the_reranker_learns_from_a_share_of_the_pairs_alone():
    model, batch = make_model(replace(TINY, num_cross_layers=1)), make_batch()
    half = -(-len(batch) // 2)
    with torch.no_grad():
        of_half, of_first, of_all = (
            ContrastiveLoss(model, LossConfig(reranker_share=share)).eval().embed(some, rerank=True)
            for share, some in ((0.5, batch), (1.0, batch.first(half)), (1.0, batch))
        )
    assert half < len(batch) and len(of_half.video) == len(batch)
    assert of_half.reranking == pytest.approx(float(of_first.reranking), rel=1e-5)
    assert of_half.reranking != pytest.approx(float(of_all.reranking), rel=1e-2)


def test_clips_and_texts_that_overlap_in_time_are_no_negatives_for_the_reranker():
    model, batch = make_model(replace(TINY, num_cross_layers=1)), make_batch()
    loss = ContrastiveLoss(model, LossConfig(ignore_overlapping=True)).eval()
    apart = torch.arange(len(batch)).float()[:, None] + torch.tensor([0, 0.1, 0.9, 0.1, 0.9])
    together = torch.tensor([0, 0.1, 0.9, 0.1, 0.9]).repeat(len(batch), 1)
    with torch.no_grad():
        everything, nothing = (
            float(loss.embed(PlacedBatch(*batch.tensors(), spans), rerank=True).reranking)
            for spans in (apart, together)
        )
    assert everything > 1 and nothing == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("num_cross_layers", [0, 1])
def test_bf16_stays_near_fp32(num_cross_layers):
    model = make_model(replace(LEARNED, num_cross_layers=num_cross_layers))
    assert 0 < abs(loss_of(model, precision="bf16") - loss_of(model)) < 0.1


def rank_answers(world):
    own = slice(0, 3) if world.on_main else slice(3, 7)
    batch = Batch(*(t[own] for t in make_batch().tensors()))
    answers = {}
    for kind in ("infonce", "sigmoid"):
        for chunk_pairs in (0, 2):
            model, config = learned(kind), LossConfig(kind=kind, negatives="global")
            trainer = trainer_of(model, config, world, chunk_pairs=chunk_pairs)
            loss = float(trainer.forward_backward(batch, 0))
            answers[f"{kind} {chunk_pairs}"] = {
                "loss": world.mean({"loss": loss})["loss"],
                "gradients": gradients(model),
            }
    return answers


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return on_two_ranks(rank_answers, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("chunk_pairs", [0, 2])
@pytest.mark.parametrize("kind", ["infonce", "sigmoid"])
def test_global_negatives_on_two_processes_are_one_big_batch(answers, kind, chunk_pairs):
    model = learned(kind)
    loss = trainer_of(model, LossConfig(kind=kind)).forward_backward(make_batch(), 0)
    expected = gradients(model)
    for answer in answers:
        part = answer[f"{kind} {chunk_pairs}"]
        assert part["loss"] == pytest.approx(loss.item(), rel=1e-6)
        assert_same(part["gradients"], expected)
