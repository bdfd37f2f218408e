"""Models of transformers: which parts are kept, which are missed, and what is not a model."""

import json
import logging
import shutil

import pytest
import safetensors.torch
from torch import nn

from tests.features.tiny_image_models import clip, save
from videoclip.errors import CheckpointError
from videoclip.features.backbones import image
from videoclip.pretrained.loading import (
    check_model,
    files_digest,
    is_transformers_model,
    load_network,
    model_folder,
    quietly,
    unusable,
)
from videoclip.pretrained.text_tower import load_text_tower


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dual encoder whose files lack weights of each half."""
    model, processor, _ = clip()
    folder = save(model, processor, tmp_path_factory.mktemp("models") / "clip")
    path = folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    for name in MISSING:
        weights.pop(name)
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})
    return folder


MISSING = [
    "text_model.final_layer_norm.weight",
    "text_projection.weight",
    "vision_model.post_layernorm.bias",
    "visual_projection.weight",
]


@pytest.mark.parametrize(
    ("side", "missing", "dropped"),
    [
        (None, MISSING, set()),
        ("text", MISSING[:2], {"vision_model", "visual_projection"}),
        ("frames", MISSING[2:], {"text_model", "text_projection"}),
    ],
)
def test_weights_are_missed_of_the_half_that_is_kept(folder, side, missing, dropped):
    network, found = load_network(folder, side)
    assert found == missing
    parts = dict(network.named_children())
    assert {name for name, part in parts.items() if isinstance(part, nn.Identity)} == dropped
    assert not any(part.training for part in network.modules())
    assert {str(parameter.dtype) for parameter in network.parameters()} == {"torch.float32"}


@pytest.mark.parametrize("load", [load_text_tower, image.load])
def test_damaged_weights_are_an_error_of_one_line(folder, tmp_path, load):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model/model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"its weights are damaged \(.*\): download it again"):
        load(str(tmp_path / "model"))


def test_a_digest_is_of_weights_and_settings_wherever_they_are(folder, tmp_path):
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    digest = files_digest(folder)
    assert files_digest(copy) == digest and len(digest) == 32
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings | {"logit_scale_init_value": 1.0}))
    assert files_digest(copy) != digest
    (copy / "config.json").write_bytes((folder / "config.json").read_bytes())
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    assert files_digest(copy) != digest


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (None, "'mine' is not a model folder: it has no config.json"),
        ({"auto_map": {}, "model_type": "odd"}, "'mine' needs code from its own repository, wh"),
        ({"model_type": "odd"}, r"cannot be loaded by this transformers \(its type 'odd' is unkn"),
        ({"other": 1}, r"transformers \(its config.json names no model_type\): upgrade it, or"),
        ([], r"transformers \(its config.json names no model_type\): upgrade it, or"),
    ],
)
def test_a_folder_of_something_else(tmp_path, settings, message):
    if settings is not None:
        (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=message):
        check_model(tmp_path, "mine")


def test_whose_model_a_folder_is(folder, tmp_path):
    assert is_transformers_model(folder) and check_model(folder, "x")["model_type"] == "clip"
    for settings, is_theirs in (
        ({"format": 1, "model_type": "bert"}, False),
        ({"architectures": ["A"]}, True),
        ({"auto_map": {}}, True),
        ({}, False),
        ([], False),
    ):
        (tmp_path / "config.json").write_text(json.dumps(settings))
        assert is_transformers_model(tmp_path) is is_theirs


def test_what_is_named_instead_of_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "runs").mkdir()
    assert model_folder("runs").samefile(tmp_path / "runs")
    with pytest.raises(CheckpointError, match="file: is a file; name the model's folder"):
        model_folder(tmp_path / "file")
    for name in "runs/one", "a/b/c", "nothing":
        with pytest.raises(CheckpointError, match=f"there is no model folder {name}; name one"):
            model_folder(name)


def test_messages_are_one_short_line_without_the_name_twice():
    error = unusable("x", "dual encoder", ValueError("'x' lacks\n  weights" + "!" * 400))
    text = str(error)
    assert text.startswith("'x' is not a usable dual encoder: it lacks weights!!!")
    assert len(text) < 340 and "\n" not in text
    assert str(unusable("x", "model", KeyError("y"))) == "'x' is not a usable model: 'y'"


def test_the_log_of_the_library_is_quiet_only_meanwhile():
    logger = logging.getLogger("transformers")
    before = logger.level
    with pytest.raises(ZeroDivisionError), quietly():
        assert logger.level == logging.ERROR
        raise ZeroDivisionError
    assert logger.level == before
