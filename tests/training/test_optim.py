"""The optimiser against fairseq's formulas written out, and the schedule against its numbers."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from videoclip.config import OptimConfig
from videoclip.errors import ConfigError
from videoclip.training.optim import (
    build_optimizer,
    clip_gradients,
    freeze,
    learning_rate,
    set_learning_rate,
    update_average,
)


@pytest.mark.parity
def test_schedule_equals_the_released_one(shared):
    cases = json.loads((shared / "golden/train_small/lr_schedule.json").read_text())
    for case in cases:
        config = OptimConfig(
            lr=case["lr"], warmup_updates=case["warmup"], total_updates=case["total"]
        )
        for update, expected in case["lr_used_for_update_index_0_based"].items():
            assert learning_rate(int(update), config, 10) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("schedule", ["polynomial", "cosine", "constant", "cooldown"])
@given(update=st.integers(0, 300), warmup=st.integers(0, 50), run_length=st.integers(51, 200))
def test_schedule_starts_at_zero_peaks_after_warmup_and_never_rises_again(
    schedule, update, warmup, run_length
):
    config = OptimConfig(lr=0.5, warmup_updates=warmup, total_updates=0, schedule=schedule)
    here, following = (learning_rate(u, config, run_length) for u in (update, update + 1))
    assert 0 <= here <= 0.5
    assert learning_rate(warmup, config, run_length) == 0.5
    assert learning_rate(0, config, run_length) == (0.0 if warmup else 0.5)
    assert here < following if update < warmup else here >= following
    if schedule != "constant":
        assert learning_rate(run_length, config, run_length) == 0.0


def test_a_warmup_longer_than_the_run_only_rises():
    config = OptimConfig(lr=1.0, warmup_updates=100, total_updates=0)
    assert [learning_rate(u, config, 10) for u in range(10)] == [u / 100 for u in range(10)]


def fairseq_adam(parameters, moments, lr, betas, eps, weight_decay, step):
    """One update written straight from the released optimiser's formulas."""
    for p, (m, v) in zip(parameters, moments, strict=True):
        m.mul_(betas[0]).add_(p.grad, alpha=1 - betas[0])
        v.mul_(betas[1]).addcmul_(p.grad, p.grad, value=1 - betas[1])
        step_size = lr * math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)
        p.data.sub_(weight_decay * lr * p.data)
        p.data.sub_(step_size * m / (v.sqrt() + eps))


def two_layers(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_fairseq_adam_equals_its_formulas_even_with_a_large_epsilon(weight_decay):
    config = OptimConfig(eps=1e-2, weight_decay=weight_decay)
    ours, naive = two_layers(), two_layers()
    optimizer = build_optimizer(ours, config)
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in naive.parameters()]
    for step in range(1, 6):
        x = torch.randn(7, 5)
        for model in (ours, naive):
            model.zero_grad()
            model(x).square().sum().backward()
        lr = 0.01 * step
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        fairseq_adam(
            list(naive.parameters()), moments, lr, config.betas, config.eps, weight_decay, step
        )
        for a, b in zip(ours.parameters(), naive.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["fairseq_adam", "adamw"])
def test_the_optimizer_continues_from_its_saved_state(kind, tmp_path):
    config = OptimConfig(optimizer=kind, eps=1e-3, weight_decay=0.1)

    def train(model, optimizer, steps):
        for step in steps:
            torch.manual_seed(step)
            optimizer.zero_grad()
            model(torch.randn(3, 5)).square().sum().backward()
            for group in optimizer.param_groups:
                group["lr"] = 0.1
            optimizer.step()

    unbroken, first, second = two_layers(), two_layers(), two_layers(1)
    train(unbroken, build_optimizer(unbroken, config), range(6))
    optimizer = build_optimizer(first, config)
    train(first, optimizer, range(3))
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(first.state_dict())
    resumed = build_optimizer(second, config)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    train(second, resumed, range(3, 6))
    for a, b in zip(unbroken.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_adamw_decays_matrices_only():
    optimizer = build_optimizer(two_layers(), OptimConfig(optimizer="adamw", weight_decay=0.3))
    decays = {p.ndim: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decays == {2: 0.3, 1: 0.0}


@pytest.mark.parametrize(
    ("max_norm", "factor"), [(2.0, 2 / (5 + 1e-6)), (0.5, 0.1), (10.0, 1.0), (0.0, 1.0)]
)
def test_clipping_scales_by_the_released_factor(max_norm, factor):
    p, q = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    untouched = nn.Parameter(torch.zeros(1))
    p.grad, q.grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert clip_gradients([p, untouched, q], max_norm) == 5.0
    torch.testing.assert_close(p.grad, torch.tensor([3.0 * factor]))
    torch.testing.assert_close(q.grad, torch.tensor([4.0 * factor]))


def test_a_gradient_that_is_not_finite_is_reported_not_spread():
    p, q = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    p.grad, q.grad = torch.tensor([math.inf]), torch.tensor([4.0])
    assert clip_gradients([p, q], 2.0) == math.inf
    assert q.grad.item() == 4.0


def test_frozen_parameters_are_left_out_and_a_wrong_prefix_is_named():
    model = two_layers()
    freeze(model, ("0.",))
    (group,) = build_optimizer(model, OptimConfig()).param_groups
    assert len(group["params"]) == 2
    with pytest.raises(ConfigError, match=r"'text_encoder.*has 0, 2"):
        freeze(model, ("text_encoder.",))
    with pytest.raises(ConfigError, match="nothing is left"):
        freeze(model, ("0.", "2."))


def test_the_schedule_ends_at_its_own_horizon_if_it_has_one():
    config = OptimConfig(lr=1.0, warmup_updates=10, total_updates=110)
    assert [learning_rate(u, config, 60) for u in (5, 10, 60, 110)] == [0.5, 1.0, 0.5, 0.0]
    cosine = OptimConfig(lr=1.0, warmup_updates=0, total_updates=0, schedule="cosine")
    quarter = 0.5 * (1 + math.cos(math.pi / 4))
    assert learning_rate(25, cosine, 100) == pytest.approx(quarter)


def test_a_cooldown_is_constant_and_then_falls_to_0_in_the_last_share():
    config = OptimConfig(
        lr=1.0, warmup_updates=10, total_updates=0, schedule="cooldown", cooldown_share=0.2
    )
    by_hand = {5: 0.5, 10: 1.0, 60: 1.0, 90: 1.0, 95: 0.75, 100: 0.5, 109: 0.05, 110: 0.0}
    rates = {update: learning_rate(update, config, 110) for update in by_hand}
    assert rates == pytest.approx(by_hand)


def two_towers():
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "video_encoder": nn.Linear(4, 3),
            "text_encoder": nn.Linear(5, 3),
            "reranker": nn.ModuleDict({"text_encoder": nn.Linear(3, 3)}),
        }
    )


@pytest.mark.parametrize("kind", ["fairseq_adam", "adamw"])
def test_a_tower_with_a_scaled_learning_rate_learns_like_one_that_is_trained_alone_at_it(kind):
    config = OptimConfig(optimizer=kind, weight_decay=0.1, video_lr_scale=0.5, text_lr_scale=3.0)
    together, alone = two_towers(), two_towers()
    optimizer = build_optimizer(together, config)
    plain = replace(config, video_lr_scale=1.0, text_lr_scale=1.0)
    by_part = {part: build_optimizer(alone[part], plain) for part in alone}
    scales = {"video_encoder": 0.5, "text_encoder": 3.0, "reranker": 1.0}
    for step in range(3):
        lr = 0.1 / (1 + step)
        for a, b in zip(together.parameters(), alone.parameters(), strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        set_learning_rate(optimizer, lr)
        optimizer.step()
        for part, other in by_part.items():
            set_learning_rate(other, lr * scales[part])
            other.step()
    for a, b in zip(together.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_scale_without_parameters_is_refused():
    model = two_towers()
    freeze(model, ("text_encoder.",))
    with pytest.raises(ConfigError, match=r"optim.text_lr_scale: the text tower has no"):
        build_optimizer(model, OptimConfig(text_lr_scale=0.1))


def test_an_average_follows_the_weights_with_a_decay_that_grows():
    model = two_layers()
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    naive = {name: p.double() for name, p in average.items()}
    for update in range(40):
        for parameter in model.parameters():
            parameter.data += torch.randn_like(parameter)
        update_average(average, model, 0.7, update)
        decay = min(0.7, (1 + update) / (10 + update))  # 0.7 from update 20 on
        for name, parameter in model.named_parameters():
            naive[name] = decay * naive[name] + (1 - decay) * parameter.detach().double()
    for name, tensor in average.items():
        torch.testing.assert_close(tensor, naive[name].float(), rtol=1e-5, atol=1e-5)
