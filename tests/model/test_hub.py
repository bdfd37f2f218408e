"""Model folders: bit-identical round trips, strict reading, one-line errors."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.model.tiny_models import TINY, make_model
from videoclip.errors import CheckpointError, ConfigError
from videoclip.files import verify_checksums
from videoclip.model import hub
from videoclip.model.hub import ModelCard
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


@pytest.mark.parametrize("name", ["hidden_size", "num_video_layers", "vocab_size", "feature_dim"])
def test_a_config_of_a_model_too_large_for_any_machine_is_refused_at_once(name, tmp_path):
    make_model().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: 10**10}))
    with pytest.raises(CheckpointError, match=r"more than 1000 layers, or 2\*\*36 weights"):
        VideoCLIP.from_pretrained(tmp_path)


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


def test_a_hub_that_cannot_be_reached_is_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"hub failed: .*; without a connection, name a fold"):
        VideoCLIP.from_pretrained("somebody/no-such-model")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "token")
    with pytest.raises(CheckpointError, match="cannot push to 'somebody/model'"):
        make_model().push_to_hub("somebody/model")


def test_a_config_of_a_newer_version_is_refused_by_its_number(tmp_path):
    make_model().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace("videoclip-model-2", "videoclip-model-9"))
    with pytest.raises(CheckpointError, match=r"has format 9, .* up to 2: upgrade"):
        VideoCLIP.from_pretrained(tmp_path)


def test_a_folder_of_the_first_format_loads(tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    settings = json.loads(path.read_text()) | {"format": "videoclip-model-1"}
    del settings["backbone_fingerprint"]
    path.write_text(json.dumps(settings))
    (tmp_path / "checksums.json").unlink()
    (tmp_path / "README.md").unlink()
    assert VideoCLIP.from_pretrained(tmp_path).config == model.config
    assert verify_checksums(tmp_path, hub.ADVICE) == []
    assert hub.stored_fingerprint(tmp_path) is None


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_loaded_model_trains_without_touching_its_file(config, tmp_path):
    """Weights are mapped from the file, so a change must go to a copy of the page."""
    make_model(config).save_pretrained(tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    model = VideoCLIP.from_pretrained(tmp_path)
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.requires_grad and parameter.device.type == "cpu"
            parameter.add_(1)
    assert (tmp_path / "model.safetensors").read_bytes() == content


def test_shared_towers_stay_shared_when_loaded(tmp_path):
    make_model(CONFIGS["shared"]).save_pretrained(tmp_path)
    model = VideoCLIP.from_pretrained(tmp_path)
    assert model.video_encoder.bert is model.text_encoder.bert


def test_building_without_weights_allocates_and_draws_nothing():
    before = torch.get_rng_state()
    model = VideoCLIP.without_weights(replace(TINY, num_cross_layers=1, classes=("a",)))
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert torch.equal(torch.get_rng_state(), before)


def test_checksums_name_the_file_that_was_changed(tmp_path):
    make_model().save_pretrained(tmp_path)
    assert verify_checksums(tmp_path, hub.ADVICE) == ["config.json", "model.safetensors"]
    weights = tmp_path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors was changed after it was saved"):
        verify_checksums(tmp_path, hub.ADVICE)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        verify_checksums(tmp_path, hub.ADVICE)
    (tmp_path / "checksums.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"checksums\.json is damaged"):
        verify_checksums(tmp_path, hub.ADVICE)


def test_the_card_tells_what_is_known_and_what_is_not(tmp_path):
    config = replace(TINY, backbone=f"image:{tmp_path}", backbone_fingerprint="f00d")
    card = ModelCard(data="12 videos", recipe="small", protocol="R@1 50 %", license="cc-by-4.0")
    model = make_model(config)
    model.save_pretrained(tmp_path / "a", card)
    text = (tmp_path / "a" / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: videoclip\n")
    assert "\nlicense: cc-by-4.0\n---\n" in text
    for part in ("12 videos", "small", "R@1 50 %", "identify people", "backbone `image` (f00d)"):
        assert part in text
    assert str(tmp_path) not in text
    model.save_pretrained(tmp_path / "a")  # as a user who has edited the card does
    assert (tmp_path / "a" / "README.md").read_text() == text
    model.save_pretrained(tmp_path / "b")
    assert "Not stated" in (tmp_path / "b" / "README.md").read_text()


def test_a_local_backbone_is_named_relative_to_the_model(tmp_path):
    (tmp_path / "one" / "backbone").mkdir(parents=True)
    config = replace(TINY, backbone=f"image:{tmp_path / 'one' / 'backbone'}")
    make_model(config).save_pretrained(tmp_path / "one" / "model")
    text = (tmp_path / "one" / "model" / "config.json").read_text()
    assert json.loads(text)["backbone"] == "image:../backbone"
    (tmp_path / "one").rename(tmp_path / "two")
    moved = VideoCLIP.from_pretrained(tmp_path / "two" / "model").config
    assert moved.backbone == f"image:{tmp_path / 'two' / 'backbone'}"


def test_a_backbone_inside_a_model_folder_goes_with_the_model(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    (first / "backbone").mkdir(parents=True)
    (first / "backbone" / "weights").write_text("w")
    config = replace(TINY, backbone=f"image:{first / 'backbone'}")
    make_model(config).save_pretrained(first)
    VideoCLIP.from_pretrained(first).save_pretrained(second)
    for folder in (first, second):
        assert json.loads((folder / "config.json").read_text())["backbone"] == "image:./backbone"
        assert (folder / "backbone" / "weights").read_text() == "w"
    assert VideoCLIP.from_pretrained(second).config.backbone == f"image:{second / 'backbone'}"


def test_a_hub_id_is_kept_as_backbone(tmp_path):
    config = replace(TINY, backbone="image:microsoft/resnet-50")
    make_model(config).save_pretrained(tmp_path)
    assert VideoCLIP.from_pretrained(tmp_path).config == config


def test_pushing_without_a_token_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(
        ConfigError, match=r"no Hugging Face token .* `hf auth login` or set HF_TOKEN"
    ):
        make_model().push_to_hub("somebody/model")


def test_a_failed_upload_is_one_line(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no\nroute")

    monkeypatch.setattr("huggingface_hub.get_token", lambda: "token")
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(CheckpointError, match="cannot push to 'somebody/model': no route"):
        make_model().push_to_hub("somebody/model")
