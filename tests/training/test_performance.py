"""Counted operations against torch's own counter, and the choice of precision."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.model.tiny_models import TINY, make_model, make_text, make_video
from videoclip.model.batch import Batch
from videoclip.training import performance
from videoclip.training.performance import (
    bf16_pays,
    compile_towers,
    compiling_pays,
    forward_flops,
    matmul_peak,
    step_flops,
)


def test_flops_of_full_clips_are_what_torch_counts():
    batch = Batch(*make_video([9] * 4, 9), *make_text([11] * 4, 11))
    model = make_model(TINY)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.encode_video(batch.video, batch.video_mask)
        model.encode_text(batch.text, batch.text_mask)
    pooling = 2 * 4 * (11 + 13) * TINY.hidden_size
    assert sum(forward_flops(TINY, batch)) == counter.get_total_flops() - pooling


def test_padding_costs_nothing_and_frozen_towers_little():
    short = Batch(*make_video([3, 2], 9), *make_text([4, 1], 11))
    tight = Batch(*make_video([3, 2], 3), *make_text([4, 1], 4))
    model = make_model(TINY)
    whole = step_flops(model, short)
    assert whole == step_flops(model, tight) == 3 * sum(forward_flops(TINY, short))
    model.text_encoder.requires_grad_(False)
    video, text = forward_flops(TINY, short)
    assert step_flops(model, short) == 3 * video + text < whole
    assert step_flops(model, short, recomputes_frozen_texts=False) == 3 * video


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_peak_is_a_plausible_rate(precision):
    assert 1e8 < matmul_peak(torch.device("cpu"), precision) < 1e15


@pytest.mark.parametrize(("bf16_seconds", "pays"), [(0.5, True), (0.95, False)])
def test_bf16_must_pay_clearly(monkeypatch, bf16_seconds, pays):
    seconds = iter([1.0, bf16_seconds])

    asked = []
    monkeypatch.setattr(performance, "_seconds", lambda work, device, repeats: work())
    assert bf16_pays(lambda p: asked.append(p) or next(seconds), torch.device("cpu")) is pays
    assert asked == ["fp32", "bf16"]


def test_a_cpu_compiles_nothing():
    asked = []
    assert not compiling_pays(make_model(TINY), asked.append, torch.device("cpu"))
    assert not asked


def test_both_towers_are_compiled(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call, **how: compiled.append(how) or call)
    model = make_model(TINY)
    layers = [*model.video_encoder.bert.layers, *model.text_encoder.bert.layers]
    assert len(layers) == TINY.num_video_layers + TINY.num_text_layers
    compile_towers(model)
    assert all(layer._compiled_call_impl is not None for layer in layers)
    assert compiled == [{"dynamic": True}] * len(layers)
