"""Models of any size against the released computation written out, masks, gradients and all."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.model import released_twin as twin
from tests.model.tiny_models import forward_padded, layers_of
from tests.training.test_parity import our_names
from videoclip.config import ReleasedSettings
from videoclip.model.convert import from_released
from videoclip.model.losses.infonce import contrastive_loss

TOLERANCE = 1e-5


@pytest.mark.parity
@pytest.mark.parametrize("name", ["A1_mixed_lengths", "A2_all_full", "B2_short_video_tensor"])
def test_the_twin_is_the_released_model(shared, name):
    folder = shared / "golden/model_small"
    sizes = json.loads((folder / "configs.json").read_text())[name[0]]
    weights, case = load_file(folder / f"{name[0]}.safetensors"), np.load(folder / f"{name}.npz")
    caps, cmasks, vfeats, vmasks = (
        torch.from_numpy(case[f"in_{part}"]) for part in ("caps", "cmasks", "vfeats", "vmasks")
    )
    _, video = twin.encode_video(weights, sizes, caps, cmasks, vfeats, vmasks)
    _, text = twin.encode_text(weights, sizes, caps, cmasks)
    np.testing.assert_allclose(video, case["out_pooled_video"], atol=TOLERANCE)
    np.testing.assert_allclose(text, case["out_pooled_text"], atol=TOLERANCE)
    np.testing.assert_allclose(twin.loss(video, text), case["out_loss_MMContraLoss"], rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.data(), st.integers(0, 2**32 - 1), st.booleans())
def test_any_size_gives_the_released_numbers(data, seed, packed):
    generator, draw = torch.Generator().manual_seed(seed), data.draw
    heads, longest = draw(st.sampled_from([1, 2, 3])), draw(st.integers(1, 9))
    max_words = draw(st.integers(1, 12))
    sizes = {
        "hidden": heads * draw(st.sampled_from([4, 10])),
        "heads": heads,
        "intermediate": draw(st.integers(5, 20)),
        "video_layers": draw(st.integers(1, 3)),
        "text_layers": draw(st.integers(1, 3)),
        "vocab": 30,
        "max_position": 30,
        "feature_dim": draw(st.integers(1, 9)),
        "max_video_len": longest,
        "max_len": longest + max_words + 3,
    }
    cls, sep, pad = special = draw(st.permutations([0, 7, 29]))
    weights = twin.random_weights(sizes, generator)
    model, _ = from_released(
        weights, ReleasedSettings(heads, pad, cls, sep, longest, max_words), "it"
    )
    model.eval()
    for layer in [] if packed else layers_of(model):
        layer.forward = partial(forward_padded, layer)

    batch, slots = draw(st.integers(1, 4)), draw(st.integers(1, longest))
    lengths = torch.tensor([draw(st.integers(1, slots)) for _ in range(batch)])
    texts = [draw(st.lists(st.integers(8, 28), max_size=max_words)) for _ in range(batch)]
    vmasks = torch.arange(slots) < lengths[:, None]
    vfeats = torch.randn(batch, slots, sizes["feature_dim"], generator=generator)  # junk as well
    caps, cmasks = twin.pack_words(texts, sizes, special)
    for weight in weights.values():
        weight.requires_grad_(weight.is_floating_point())

    hidden, video = twin.encode_video(weights, sizes, caps, cmasks, vfeats, vmasks)
    states, text = twin.encode_text(weights, sizes, caps, cmasks)
    ours_video = model.encode_video(vfeats, vmasks)
    ours_text = model.encode_text(caps[:, 2:-1], cmasks[:, 3:])
    for ours, theirs in ((ours_video, video), (ours_text, text)):
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)
    encoded = model.video_encoder(vfeats, vmasks), model.text_encoder(caps[:, 2:-1], cmasks[:, 3:])
    for ours, theirs in zip(encoded, (hidden, states), strict=True):
        real = ours.mask
        torch.testing.assert_close(ours.hidden[real], theirs[real], atol=TOLERANCE, rtol=0)

    # [CLS] hidden, as the released heads for steps and actions have it.
    no_cls = cmasks.clone()
    no_cls[:, 0] = False
    hidden, _ = twin.encode_video(weights, sizes, caps, no_cls, vfeats, vmasks)
    tokens = model.video_tokens(vfeats, vmasks, attend_cls=False)
    torch.testing.assert_close(tokens[vmasks], hidden[:, 1:-1][vmasks], atol=TOLERANCE, rtol=0)

    theirs, ours = twin.loss(video, text), contrastive_loss(ours_video, ours_text)
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=1e-5)
    theirs.backward()
    ours.backward()
    expected = {name: w.grad for name, w in weights.items() if w.grad is not None}
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in our_names(expected, special).items():
        # Where the batch's gradients cancel out, as of equal texts, rounding is all that is left.
        tolerance = 1e-4 * float(gradient.abs().max()) + 1e-6 * max(1.0, largest)
        parameter = model.get_parameter(name)
        torch.testing.assert_close(parameter.grad, gradient, atol=tolerance, rtol=0)
