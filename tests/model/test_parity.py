"""The towers against the released model: every layer, every embedding, every loss, both heads."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.model.tiny_models import forward_padded, layers_of
from videoclip.config import ReleasedSettings
from videoclip.model.convert import from_released
from videoclip.model.losses.infonce import contrastive_loss

pytestmark = pytest.mark.parity

TOLERANCE = 1e-5
CASES = {
    "A1_mixed_lengths": "A",
    "A2_all_full": "A",
    "B1_junk_in_padding": "B",
    "B2_short_video_tensor": "B",
    "S_share": "S",
}


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "golden/model_small"


@pytest.fixture(scope="module")
def models(folder):
    """The released weights of A, B and S, converted."""
    models = {}
    for name, sizes in json.loads((folder / "configs.json").read_text()).items():
        if name in "ABS":
            longest = sizes["max_len"] - sizes["max_video_len"] - 3
            said = ReleasedSettings(sizes["heads"], 0, 1, 2, sizes["max_video_len"], longest)
            model, _ = from_released(load_file(folder / f"{name}.safetensors"), said, name)
            models[name] = model.eval()
    return models


@pytest.fixture(params=[True, False], ids=["packed", "padded"])
def packed(request, models, monkeypatch):
    """The model's own layers, then their naive twins."""
    for layer in [] if request.param else [x for m in models.values() for x in layers_of(m)]:
        monkeypatch.setattr(layer, "forward", partial(forward_padded, layer))


def words_of(caps, cmasks):
    """Word ids and their mask from a released packed sequence [CLS] [SEP] words [SEP] [PAD]."""
    words = torch.from_numpy(caps)[:, 2:-1]
    num_words = torch.from_numpy(cmasks).sum(1) - 3
    return words, torch.arange(words.shape[1]) < num_words[:, None]


def video_of(case):
    return torch.from_numpy(case["in_vfeats"]), torch.from_numpy(case["in_vmasks"])


def close(ours, theirs, scale=1.0):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE * scale)


@pytest.mark.parametrize("name", CASES)
def test_embeddings_hidden_states_and_losses(models, folder, packed, name):
    model, case = models[CASES[name]], np.load(folder / f"{name}.npz")
    video, text = video_of(case), words_of(case["in_caps"], case["in_cmasks"])
    with torch.inference_mode():
        video_embedding, text_embedding = model.encode_video(*video), model.encode_text(*text)
        hidden = {"video": model.video_encoder(*video), "text": model.text_encoder(*text)}
    close(video_embedding, case["out_pooled_video"])
    close(text_embedding, case["out_pooled_text"])
    for tower, encoded in hidden.items():
        if f"out_{tower}_hidden" in case:
            real = encoded.mask.numpy()
            close(encoded.hidden.numpy()[real], case[f"out_{tower}_hidden"][real])
    if "out_scores_t2v" in case:
        scores = case["out_scores_t2v"]
        close(model.similarity(text_embedding, video_embedding), scores, np.abs(scores).max())
    directions = {"MMContra": "both", "T2V": "text_to_video", "V2T": "video_to_text"}
    for theirs in (key for key in case.files if key.startswith("out_loss_")):
        (direction,) = (ours for name, ours in directions.items() if name in theirs)
        loss = contrastive_loss(video_embedding, text_embedding, direction=direction)
        close(loss, case[theirs], max(1.0, abs(float(case[theirs]))))


@pytest.mark.parametrize("name", ["A1_mixed_lengths", "B1_junk_in_padding"])
def test_every_layer(models, folder, name):
    model, case = models[CASES[name]], np.load(folder / f"{name}.npz")
    inputs = {"video": video_of(case), "text": words_of(case["in_caps"], case["in_cmasks"])}
    for tower, batch in inputs.items():
        encoder = getattr(model, f"{tower}_encoder")
        states = []

        def keep(_layer, inputs, states=states):
            states.append(inputs[0])

        hooks = [layer.register_forward_pre_hook(keep) for layer in encoder.bert.layers]
        with torch.inference_mode():
            encoded = encoder(*batch)
        for hook in hooks:
            hook.remove()
        theirs = case[f"out_{tower}_layers"]
        assert len(theirs) == len(states) + 1
        real = encoded.mask.numpy()
        for ours, their in zip(states, theirs[:-1], strict=True):
            close(ours, their[real])
    with torch.inference_mode():
        tokens = model.video_encoder.mlp(torch.from_numpy(case["in_vfeats"]))
    close(tokens, case["out_video_tokens"])


def test_step_localisation(models, folder, packed):
    model, case = models["A"], np.load(folder / "A3_action_localization.npz")
    assert case["special_ids"].tolist() == [1, 2, 0]
    video, mask = video_of(case)
    with torch.inference_mode():
        steps = model.encode_text(*words_of(case["in_step_caps"], case["in_step_cmasks"]))
        tokens = model.video_tokens(video, mask, attend_cls=False)[mask]  # (valid frames, E)
    close(steps, case["out_pooled_steps"])
    logits = case["out_logits"]
    close(model.similarity(tokens, steps), logits, np.abs(logits).max())


def test_action_segmentation(models, folder, packed):
    model, case = models["B"], np.load(folder / "B3_action_segmentation.npz")
    weights = load_file(folder / "B.safetensors")
    head = load_file(folder / "B3_segmentation_head.safetensors")
    _, head = from_released(weights | head, ReleasedSettings(6, 0, 1, 2, 16, 29), "B")
    video, mask = video_of(case)
    with torch.inference_mode():
        tokens = model.video_tokens(video, mask, attend_cls=False)
    logits = tokens @ head["weight"].T + head["bias"]  # (W, T, 779)
    close(logits[mask], case["out_logits"][mask.numpy()])
