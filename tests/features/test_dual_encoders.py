"""Every family of dual encoders: our embeddings are those of the library's own forward pass."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from PIL import Image

from tests.tiny_dual_encoders import (
    FAMILIES,
    SENTENCES,
    VISION,
    save,
    tiny_videomae,
    tiny_vjepa2,
)
from videoclip.embedding import Embedder
from videoclip.errors import CheckpointError, ConfigError
from videoclip.features.backbones import load_backbone
from videoclip.features.decode import sample_frames
from videoclip.features.preprocessing import read_preprocessing
from videoclip.pretrained.known import cached_folder
from videoclip.pretrained.loading import model_folder

TEXTS = [*SENTENCES, "Dog", "x", "a very long text that is cut " * 3]


@pytest.fixture(scope="module", params=list(FAMILIES))
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, *save(request.param, folder)


def unit(output):
    pooled = output if isinstance(output, torch.Tensor) else output.pooler_output
    return torch.nn.functional.normalize(pooled, dim=-1).numpy()


def tokens_of(family, tokenizer):
    """What the library's processors make of texts, as the model cards prescribe."""
    is_siglip = family.startswith("siglip")
    texts = [text.lower() for text in TEXTS] if is_siglip else TEXTS
    padding = "max_length" if is_siglip else True
    tokens = tokenizer(texts, padding=padding, truncation=True, max_length=12, return_tensors="pt")
    return {"input_ids": tokens["input_ids"]} if is_siglip else tokens


def test_frames_and_texts_are_embedded_as_the_library_does(saved, video):
    family, folder, model, processor, tokenizer = saved
    frames = [frame.rgb() for frame in sample_frames(video, 1.0)]
    with torch.inference_mode():
        theirs = unit(model.get_image_features(**processor(frames, return_tensors="pt")))
        their_texts = unit(model.get_text_features(**tokens_of(family, tokenizer)))

    backbone = load_backbone(f"image:{folder}")
    ours = np.concatenate(list(backbone.features_for(video)))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    np.testing.assert_allclose(backbone.embed_text(TEXTS), their_texts, atol=1e-4)
    assert their_texts.std(axis=0).max() > 1e-3  # texts differ


def temperature_of(model):
    """What the forward pass of the library divides cosines by."""
    if hasattr(model, "logit_scale"):
        return float(torch.exp(-model.logit_scale.detach()))
    return float(model.temperature.detach())


def test_a_dual_encoder_is_a_model_by_its_folder(saved, video):
    folder = saved[1]
    embedder = Embedder.from_pretrained(folder, "cpu")
    backbone = embedder.backbone
    features = np.concatenate(list(backbone.features_for(video)))
    embedding = embedder.embed_video(video)
    np.testing.assert_allclose(embedding.tokens, features, atol=1e-6)
    mean = features.mean(axis=0)
    np.testing.assert_allclose(embedding.pooled, mean / np.linalg.norm(mean), atol=1e-6)
    assert embedder.temperature == pytest.approx(temperature_of(saved[2]), rel=1e-5)
    sentences = [*SENTENCES, TEXTS[-1]]
    np.testing.assert_allclose(
        embedder.embed_text(sentences), backbone.embed_text(sentences), atol=1e-6
    )
    assert embedder.fingerprint == Embedder.from_pretrained(str(folder), "cpu").fingerprint


def clips_of(video, rate, length):
    """Frames of a video in clips, the last one filled up with its last frame."""
    frames = [frame.rgb() for frame in sample_frames(video, rate)]
    frames += [frames[-1]] * (-len(frames) % length)
    return [frames[i : i + length] for i in range(0, len(frames), length)]


def test_clips_and_texts_of_x_clip_are_embedded_as_the_library_does(video, tmp_path):
    model, processor, tokenizer = save("xclip", tmp_path)
    with torch.inference_mode():
        clips = [processor(clip, return_tensors="pt") for clip in clips_of(video, 4.0, 4)]
        theirs = np.concatenate([unit(model.get_video_features(**clip)) for clip in clips])
        their_texts = unit(model.get_text_features(**tokens_of("xclip", tokenizer)))
    embedder = Embedder.from_pretrained(tmp_path, "cpu")
    assert (embedder.config.backbone, embedder.config.features_per_second) == (
        f"video:{tmp_path}",
        1.0,  # clips of 4 frames, 4 frames a second
    )
    np.testing.assert_allclose(embedder.embed_video(video).tokens, theirs, atol=1e-4)
    np.testing.assert_allclose(embedder.backbone.embed_text(TEXTS), their_texts, atol=1e-4)


def test_video_mae_gives_the_mean_of_the_patches_of_every_second(video, tmp_path):
    model, _ = tiny_videomae(tmp_path)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    backbone = load_backbone(f"video:{tmp_path}")
    assert backbone.spec.features_per_second == 1.0
    (clip,) = clips_of(video, 8.0, 16)  # 1.4 s of 2 s
    with torch.inference_mode():
        states = model(**processor(clip, return_tensors="pt")).last_hidden_state
    theirs = states.reshape(2, -1, 16).mean(dim=1)  # 8 of 16 frames a second, in pairs
    ours = np.concatenate(list(backbone.features_for(video)))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(ours[0] - ours[1]).max() > 1e-3


def test_v_jepa_2_gives_the_mean_of_the_patches_of_every_second(video, tmp_path):
    model, settings = tiny_vjepa2(tmp_path)
    backbone = load_backbone(f"video:{tmp_path}")
    (clip,) = clips_of(video, 4.0, 8)
    pixels = []
    for frame in clip:  # 80 x 64; its processor needs torchvision
        image = np.asarray(Image.fromarray(frame).resize((45, 36), Image.Resampling.BILINEAR))
        image = image[2:34, 6:38] / 255
        pixels.append((image - settings["image_mean"]) / settings["image_std"])
    inputs = torch.tensor(np.array(pixels), dtype=torch.float32).permute(0, 3, 1, 2)[None]
    with torch.inference_mode():
        states = model(pixel_values_videos=inputs, skip_predictor=True).last_hidden_state
    ours = np.concatenate(list(backbone.features_for(video)))
    np.testing.assert_allclose(ours, states.reshape(2, -1, 16).mean(dim=1), atol=1e-4)


@pytest.mark.parametrize("size", [(64, 80), (200, 30), (33, 331)])
def test_patches_of_any_shape_are_those_of_the_processor(size, tmp_path):
    _, processor, _ = save("siglip2", tmp_path)
    ours = read_preprocessing(tmp_path)
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    theirs = processor([frame], return_tensors="pt")
    packed = torch.from_numpy(ours.scaled(frame))[None]
    for name, values in ours.inputs(packed).items():
        np.testing.assert_allclose(values, theirs[name], atol=1e-5)


def test_a_model_that_starts_from_a_dual_encoder_is_saved_without_it(tmp_path):
    save("clip", tmp_path / "clip")
    embedder = Embedder.from_pretrained(tmp_path / "clip", "cpu")
    embedder.save_pretrained(tmp_path / "model")
    (tmp_path / "elsewhere").mkdir()
    for name in ("clip", "model"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    again = Embedder.from_pretrained(tmp_path / "elsewhere" / "model", "cpu")
    np.testing.assert_array_equal(again.embed_text(TEXTS), embedder.embed_text(TEXTS))
    assert again.config.dual_encoder == str(tmp_path / "elsewhere" / "clip")
    save("clip", tmp_path / "elsewhere" / "clip", seed=1)
    with pytest.raises(CheckpointError, match="the model was trained on another version of"):
        Embedder.from_pretrained(tmp_path / "elsewhere" / "model", "cpu")


def write_config(folder, **settings):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def test_what_is_no_dual_encoder_is_refused_in_one_line(tmp_path, monkeypatch):
    model = transformers.ViTModel(transformers.ViTConfig(**VISION))
    model.save_pretrained(tmp_path / "vit")
    (tmp_path / "vjepa").mkdir()
    tiny_vjepa2(tmp_path / "vjepa")
    write_config(tmp_path / "code", model_type="jina_clip", auto_map={"AutoModel": "x.Y"})
    write_config(tmp_path / "new", model_type="clip9000")
    write_config(tmp_path / "timm", architectures=["vit"])
    reasons = {
        "vit": "has no text side, so it cannot search by words",
        "vjepa": "has no text side",
        "code": "needs code from its own repository, which videoclip never runs",
        "new": "cannot be loaded by this transformers .its type 'clip9000' is unknown",
        "timm": "cannot be loaded by this transformers .its config.json names no model_type",
    }
    for name, reason in reasons.items():
        with pytest.raises(CheckpointError, match=reason) as error:
            Embedder.from_pretrained(tmp_path / name, "cpu")
        assert "\n" not in str(error.value) and name in str(error.value)


def test_frames_of_a_text_model_and_clips_of_an_image_model_are_refused(tmp_path):
    save("xclip", tmp_path / "xclip")
    save("clip", tmp_path / "clip")
    with pytest.raises(CheckpointError, match="takes clips of several frames: name it 'video:"):
        load_backbone(f"image:{tmp_path / 'xclip'}")
    with pytest.raises(CheckpointError, match="of type 'clip', and known are videomae, vjepa2"):
        load_backbone(f"video:{tmp_path / 'clip'}")
    with pytest.raises(ConfigError, match="'video:FOLDER' or 'video:HUB-ID'"):
        load_backbone("video")


def hub_error(kind, status):
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    return kind("refused", response=response)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (hub_error(GatedRepoError, 403), "access to it must be granted: accept its terms on"),
        (hub_error(RepositoryNotFoundError, 404), "the hub has no such model, or it is private"),
        (OSError("no route to host"), "no route to host"),
    ],
)
def test_a_download_that_fails_says_why(error, reason, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", fail)
    with pytest.raises(CheckpointError, match="'some/model' is not a local folder, .*" + reason):
        Embedder.from_pretrained("some/model")


def test_a_model_in_the_hub_cache_needs_no_network(tmp_path, monkeypatch):
    snapshot = tmp_path / "models--tiny--clip" / "snapshots" / "abc"
    save("clip", snapshot)
    refs = tmp_path / "models--tiny--clip" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", None)
    assert Embedder.from_pretrained("tiny/clip", "cpu").config.backbone == "image:tiny/clip"
    (snapshot / "model.safetensors").unlink()
    assert cached_folder("tiny/clip") is None


def test_a_hub_model_is_downloaded_without_other_formats(tmp_path, monkeypatch):
    asked = {}

    def download(hub_id, **kwargs):
        asked[hub_id] = kwargs
        save("clip", tmp_path)
        return str(tmp_path)

    names = ["config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx"]
    info = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda self, hub_id: info)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert model_folder("tiny/clip") == tmp_path
    patterns = asked["tiny/clip"]["allow_patterns"]
    assert "*.safetensors" in patterns and not any(".bin" in p for p in patterns)


def test_bare_words_are_put_into_the_published_sentence(tmp_path):
    sentences = {"clip": "a photo of a {}", "siglip": "This is a photo of {}."}
    for family, sentence in sentences.items():
        save(family, tmp_path / family)
        embedder = Embedder.from_pretrained(tmp_path / family, "cpu")
        phrase = embedder.model.dual_encoder.texts.phrase
        for words in ("dog", "red car", "Fähre"):
            assert phrase(words) == sentence.format(words)
        for text in (
            "a dog",
            "The car",
            "dog runs fast",
            "running",
            "cutting onions",
            "dog, cat",
            "3",
        ):
            assert phrase(text) == text
        both = embedder.embed_text(["on", sentence.format("on")])
        np.testing.assert_array_equal(both[0], both[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("family", ["clip", "siglip", "xclip"])
def test_half_precision_on_a_gpu_hardly_changes_features(family, video, tmp_path):
    save(family, tmp_path)
    name = f"{'video' if family == 'xclip' else 'image'}:{tmp_path}"
    on_cpu, on_gpu = (
        np.concatenate(list(load_backbone(name, device).features_for(video)))
        for device in ("cpu", "cuda")
    )
    assert (on_cpu * on_gpu).sum(axis=1).min() > 0.999
