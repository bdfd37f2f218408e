"""Model folders: bit-identical round trips, strict reading, one-line errors."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.model.tiny_models import TINY, make_model
from videoclip.errors import CheckpointError
from videoclip.model.videoclip import VideoCLIP

FILES = ["README.md", "checksums.json", "config.json", "model.safetensors"]
CONFIGS = {
    "two towers": TINY,
    "shared": replace(TINY, shared_encoder=True),
    "learned": replace(TINY, learn_temperature=True, learn_logit_bias=True, normalize=True),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_saving_and_loading_is_bit_identical(config, tmp_path):
    model = make_model(config)
    model.save_pretrained(tmp_path / "a")
    again = VideoCLIP.from_pretrained(tmp_path / "a")
    again.save_pretrained(tmp_path / "b")
    assert again.config == config
    assert not again.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == FILES


def spoil_missing(state):
    del state["text_encoder.bert.layers.1.qkv.bias"]


def spoil_unexpected(state):
    state["text_encoder.head.weight"] = torch.zeros(2)


def spoil_shape(state):
    state["video_encoder.mlp.linear1.weight"] = torch.zeros(16, 11)


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (spoil_missing, "text_encoder.bert.layers.1.qkv.bias"),
        (spoil_unexpected, "text_encoder.head.weight"),
        (spoil_shape, "video_encoder.mlp.linear1.weight"),
    ],
)
def test_weights_that_do_not_fit_are_named(spoil, name, tmp_path):
    make_model().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    spoil(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=name) as caught:
        VideoCLIP.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_damaged_folders_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="there is no model folder"):
        VideoCLIP.from_pretrained(tmp_path / "absent")
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        VideoCLIP.from_pretrained(tmp_path)
    make_model().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        VideoCLIP.from_pretrained(tmp_path)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        VideoCLIP.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("[]", "not written by videoclip"),
        ('{"model_type": "bert"}', "videoclip convert"),
    ],
)
def test_foreign_configs_are_refused(text, message, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        VideoCLIP.from_pretrained(tmp_path)


def test_unknown_settings_are_refused(tmp_path):
    make_model().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "hiden_size": 3}))
    with pytest.raises(CheckpointError, match="perhaps you meant 'hidden_size'"):
        VideoCLIP.from_pretrained(tmp_path)


def test_a_hub_id_without_network_is_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        CheckpointError, match="is not a local folder, and the download from the hub failed"
    ):
        VideoCLIP.from_pretrained("somebody/no-such-model")
