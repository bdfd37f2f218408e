"""Every family of dual encoders: our embeddings are those of the library's own forward pass."""

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("sentencepiece")

from tests.tiny_dual_encoders import FAMILIES, SENTENCES, save
from videoclip.embedding import Embedder
from videoclip.errors import CheckpointError
from videoclip.features.backbones import load_backbone
from videoclip.features.decode import sample_frames

TEXTS = [*SENTENCES, "Dog", "x", "a very long text that is cut " * 3]
OWN_PADDING = {
    "siglip": {"padding": "max_length"},
    "siglip2_fixed": {"padding": "max_length"},
}
"""What the model cards of families prescribe, where it is not the default."""


@pytest.fixture(scope="module", params=list(FAMILIES))
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, *save(request.param, folder)


def unit(output):
    pooled = output if isinstance(output, torch.Tensor) else output.pooler_output
    return torch.nn.functional.normalize(pooled, dim=-1).numpy()


def test_frames_and_texts_are_embedded_as_the_library_does(saved, video):
    family, folder, model, processor, tokenizer = saved
    frames = [frame.rgb() for frame in sample_frames(video, 1.0)]
    kwargs = {"padding": True} | OWN_PADDING.get(family, {})
    texts = [text.lower() for text in TEXTS] if family == "siglip2_fixed" else TEXTS
    tokens = tokenizer(texts, truncation=True, max_length=12, return_tensors="pt", **kwargs)
    if family.startswith("siglip"):
        tokens = {"input_ids": tokens["input_ids"]}
    with torch.inference_mode():
        theirs = unit(model.get_image_features(**processor(frames, return_tensors="pt")))
        their_texts = unit(model.get_text_features(**tokens))

    backbone = load_backbone(f"image:{folder}")
    ours = np.concatenate(list(backbone.features_for(video)))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    np.testing.assert_allclose(backbone.embed_text(TEXTS), their_texts, atol=1e-4)
    assert their_texts.std(axis=0).max() > 1e-3  # texts differ


def test_a_dual_encoder_is_a_model_by_its_folder(saved, video):
    folder = saved[1]
    embedder = Embedder.from_pretrained(folder, "cpu")
    backbone = embedder.backbone
    features = np.concatenate(list(backbone.features_for(video)))
    embedding = embedder.embed_video(video)
    np.testing.assert_allclose(embedding.tokens, features, atol=1e-6)
    mean = features.mean(axis=0)
    np.testing.assert_allclose(embedding.pooled, mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(embedder.embed_text(TEXTS), backbone.embed_text(TEXTS), atol=1e-6)
    assert embedder.fingerprint == Embedder.from_pretrained(str(folder), "cpu").fingerprint


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
