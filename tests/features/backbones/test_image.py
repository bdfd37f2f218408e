"""Image models of every kind, tiny and random, as backbones."""

import json
import pickle
import sys

import numpy as np
import pytest
import torch

from videoclip.errors import CheckpointError, ConfigError, MissingExtraError
from videoclip.features.backbones import Backbone, image, load_backbone
from videoclip.features.decode import CentreCrop, Squash, sample_frames
from videoclip.features.preprocessing import Preprocessing

transformers = pytest.importorskip("transformers")
from tests.features.tiny_image_models import (  # noqa: E402  (needs transformers)
    SQUARE_PROCESSOR,
    TEXT,
    VISION,
    clip,
    dinov2,
    resnet,
    save,
    siglip,
    vit,
)

MODELS = {"clip": clip, "siglip": siglip, "vit": vit, "dinov2": dinov2, "resnet": resnet}


@pytest.fixture(scope="module", params=list(MODELS))
def saved(request, tmp_path_factory):
    torch.manual_seed(0)
    model, processor, dim = MODELS[request.param]()
    folder = save(model.eval(), processor, tmp_path_factory.mktemp(request.param))
    return model, folder, dim


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    torch.manual_seed(0)
    model, processor, _ = clip()
    return save(model.eval(), processor, tmp_path_factory.mktemp("clip"))


def test_every_kind_gives_one_vector_for_a_frame(saved, video):
    model, folder, dim = saved
    backbone = load_backbone(f"image:{folder}")
    assert isinstance(backbone, Backbone)
    assert backbone.spec.backbone == backbone.name == f"image:{folder}"
    has_text = hasattr(model, "get_text_features")
    assert (backbone.spec.dim, backbone.spec.normalized) == (dim, has_text)
    assert backbone.spec.features_per_second == 1.0

    features = np.concatenate(list(backbone.features_for(video)))
    frames = [frame.rgb() for frame in sample_frames(video, 1.0)]
    assert features.shape == (len(frames), dim)

    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    naive = processor(frames, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        if has_text:
            pooled = model.get_image_features(pixel_values=naive).pooler_output
            pooled = pooled / pooled.norm(dim=1, keepdim=True)
        else:
            pooled = model(pixel_values=naive).pooler_output.flatten(1)
    np.testing.assert_allclose(features, pooled, atol=1e-5)


def test_words_meet_frames_where_the_model_has_a_text_side(saved):
    model, folder, dim = saved
    backbone = load_backbone(f"image:{folder}")
    if not hasattr(model, "get_text_features"):
        with pytest.raises(ConfigError, match="has no text encoder"):
            backbone.embed_text(["cut the onion"])
        return
    both = backbone.embed_text(["cut the onion", "stir"])
    assert both.shape == (2, dim)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(backbone.embed_text(["stir"])[0], both[1], atol=1e-5)
    assert backbone.embed_text(["stir " * 50]).shape == (1, dim)


def test_it_pickles_as_its_source(clip_folder):
    backbone = image.load(str(clip_folder))
    data = pickle.dumps(backbone)
    assert len(data) < 1000
    assert pickle.loads(data).spec == backbone.spec


def test_an_untrained_pooler_is_not_used(tmp_path):
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**VISION)).eval()
    save(model, SQUARE_PROCESSOR, tmp_path)
    backbone = image.load(str(tmp_path))
    assert not backbone.has_pooler
    frames = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():
        pixels = backbone.preprocessing(torch.from_numpy(frames))
        state = model.vit(pixel_values=pixels).last_hidden_state[:, 0]
    np.testing.assert_allclose(backbone.embed_frames(frames), state, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"size": 224}, Squash(224, 224, "bicubic")),
        ({"size": 224, "crop_size": 200, "resample": 2}, CentreCrop(224, 200, "bilinear")),
        ({"size": {"height": 20, "width": 30}, "do_center_crop": None}, Squash(30, 20, "bicubic")),
        ({"size": {"shortest_edge": 256}}, CentreCrop(256, 256, "bicubic")),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, CentreCrop(256, 224, "bicubic")),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, Squash(384, 384, "bicubic")),
    ],
)
def test_every_way_of_storing_a_size_is_understood(settings, rule):
    found = Preprocessing.from_processor(
        settings | {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    )
    assert found.resize == rule


def test_processors_that_do_not_normalise_leave_values_alone():
    settings = {"size": 4, "do_normalize": False, "do_rescale": False}
    frames = torch.arange(48, dtype=torch.uint8).view(1, 4, 4, 3)
    values = Preprocessing.from_processor(settings)(frames)
    np.testing.assert_array_equal(values[0].permute(1, 2, 0), frames[0])


def test_what_is_no_image_model_is_refused_in_one_line(clip_folder, tmp_path):
    text_model = transformers.BertModel(transformers.BertConfig(**TEXT))
    (tmp_path / "text").mkdir()
    save(text_model, SQUARE_PROCESSOR, tmp_path / "text")
    (tmp_path / "half").mkdir()
    half = transformers.ViTModel(transformers.ViTConfig(**VISION))
    weights = {k: v for k, v in half.state_dict().items() if "layernorm" not in k}
    half.save_pretrained(tmp_path / "half", state_dict=weights)
    (tmp_path / "half" / "preprocessor_config.json").write_text(json.dumps(SQUARE_PROCESSOR))
    (tmp_path / "bare").mkdir()
    for name, reason in (("text", ""), ("half", "lacks"), ("bare", ""), ("absent", "")):
        with pytest.raises(
            CheckpointError, match=f"{name}' is not a usable image model.*{reason}"
        ) as e:
            image.load(str(tmp_path / name))
        assert "\n" not in str(e.value)


def test_the_model_must_be_named():
    with pytest.raises(ConfigError, match="image:microsoft/resnet-50"):
        load_backbone("image")


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"videoclip\[hf\]"):
        load_backbone("image:microsoft/resnet-50")
