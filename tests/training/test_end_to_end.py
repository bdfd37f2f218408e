"""Frames in, gradients into the image backbone: the whole variant at the smallest size."""

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
from tests.features.tiny_image_models import resnet, save
from tests.training.broken_runs import Broken, break_off_at
from tests.training.tiny_corpus import THINGS, tiny_config, tiny_corpus, tokenizer
from videoclip.data.frame_store import FrameStore
from videoclip.data.narrated import NarratedCorpus
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError, IndexMismatchError
from videoclip.features.backbones import image
from videoclip.features.frame_encoder import FrameEncoder
from videoclip.recipes import crossmodal
from videoclip.training.pretrain import pretrain
from videoclip.training.run_folder import read_log


@pytest.fixture(scope="module")
def backbone_folder(tmp_path_factory):
    torch.manual_seed(0)
    model, processor, _ = resnet()
    return save(model, processor, tmp_path_factory.mktemp("resnet"))


@pytest.fixture(scope="module")
def corpus(backbone_folder, tmp_path_factory):
    """The tiny narrated videos, filmed: each thing has a pattern of its own, in some noise."""
    frames = encoder_of(backbone_folder).frames
    shape = (frames.height, frames.width, 3)
    store = FrameStore.open_or_create(tmp_path_factory.mktemp("frames"), frames)
    narrated = tiny_corpus(tmp_path_factory.mktemp("features"), num_videos=6)
    rng = np.random.default_rng(0)
    for i, video in enumerate(narrated):
        look = rng.integers(0, 256, (4, 4, 3)).repeat(7, axis=0).repeat(7, axis=1)
        noise = rng.normal(0, 20, (narrated.num_seconds(i), *shape))
        store.append(video.video_id, np.clip(look + noise, 0, 255).astype(np.uint8))
    return NarratedCorpus(list(narrated), store)


def encoder_of(folder):
    return FrameEncoder(image.load(str(folder)), frames_at_once=8)


def config_of(folder, **changes):
    """The recipe's own settings, at the smallest size."""
    small, recipe = tiny_config(), crossmodal()
    model = replace(
        small.model,
        backbone=f"image:{folder}",
        feature_dim=20,
        num_cross_layers=1,
        temperature=recipe.model.temperature,
        learn_temperature=recipe.model.learn_temperature,
        dropout=0.0,
    )
    return replace(
        small,
        model=model,
        loss=recipe.loss,
        clips=replace(small.clips, min_iou=recipe.clips.min_iou),
        plan=replace(small.plan, videos_per_batch=3),
        train_backbone=True,
        **changes,
    )


def run(folder, corpus, out, **changes):
    encoder = encoder_of(folder)
    config = config_of(folder, **changes)
    before = {name: p.clone() for name, p in encoder.state_dict().items()}
    result = pretrain(
        config, corpus, out, tokenizer=tokenizer(), frame_encoder=encoder, show_progress=False
    )
    return result, encoder, before


def test_the_loss_falls_and_the_backbone_moves(backbone_folder, corpus, tmp_path):
    result, encoder, before = run(backbone_folder, corpus, tmp_path / "run", epochs=12)
    losses = [e["loss"] for e in read_log(tmp_path / "run") if "loss" in e]
    assert np.mean(losses[-4:]) < 0.6 * np.mean(losses[:4])
    moved = [name for name, p in encoder.named_parameters() if not torch.equal(p, before[name])]
    assert moved == [name for name, _ in encoder.named_parameters()]

    # What was saved is an ordinary model with an ordinary backbone: they find the things by name.
    embedder = Embedder.from_pretrained(result.model_folder)
    backbone = embedder.backbone
    assert backbone.name == f"image:{result.model_folder.resolve() / 'backbone'}"
    names, clips = embedder.embed_text([THINGS[i] for i in range(6)]), []
    for video in corpus:
        (frames,) = corpus.store.read_windows([(video.video_id, 0, 8)])
        features = backbone.embed_frames(frames)
        with torch.no_grad():
            mask = torch.ones(1, 8, dtype=torch.bool)
            trained = encoder(torch.from_numpy(frames)[None], mask)[0]
        np.testing.assert_allclose(features, trained, rtol=1e-5, atol=1e-5)
        clips.append(embedder.embed_windows(features, [(0, 8)])[0])
    found = (names @ np.stack(clips).T).argmax(axis=1)
    assert (found == np.arange(6)).sum() >= 4  # one of six by chance


def test_a_broken_run_continues_bit_for_bit(backbone_folder, corpus, tmp_path):
    whole, _, _ = run(backbone_folder, corpus, tmp_path / "whole", epochs=2, save_every_updates=1)

    config = config_of(backbone_folder, epochs=2, save_every_updates=1)
    with pytest.raises(Broken):
        pretrain(
            config,
            corpus,
            tmp_path / "broken",
            tokenizer=tokenizer(),
            frame_encoder=encoder_of(backbone_folder),
            on_log=break_off_at(3),
            show_progress=False,
        )
    again, _, _ = run(backbone_folder, corpus, tmp_path / "broken", epochs=2, save_every_updates=1)
    for name in ("model.safetensors", "backbone/model.safetensors"):
        same = (whole.model_folder / name).read_bytes(), (again.model_folder / name).read_bytes()
        assert same[0] == same[1]


def test_a_run_is_not_continued_on_another_backbone(backbone_folder, corpus, tmp_path):
    run(backbone_folder, corpus, tmp_path / "run", epochs=1)
    other = encoder_of(backbone_folder)
    other.fingerprint = "of other weights"
    with pytest.raises(ConfigError, match="of other weights"):
        pretrain(
            config_of(backbone_folder, epochs=1),
            corpus,
            tmp_path / "run",
            tokenizer=tokenizer(),
            frame_encoder=other,
            show_progress=False,
        )


def test_frames_and_features_are_not_mixed_up(backbone_folder, corpus, tmp_path):
    config, encoder = config_of(backbone_folder), encoder_of(backbone_folder)
    features = tiny_corpus(tmp_path / "features")
    for settings, data, frame_encoder, error, message in (
        (config, corpus, None, ConfigError, "go together"),
        (replace(config, train_backbone=False), corpus, encoder, ConfigError, "go together"),
        (config, features, encoder, IndexMismatchError, "has features"),
        (replace(config, train_backbone=False), corpus, None, IndexMismatchError, "frames"),
    ):
        with pytest.raises(error, match=message):
            pretrain(
                settings,
                data,
                tmp_path / "run",
                tokenizer=tokenizer(),
                frame_encoder=frame_encoder,
            )
    with pytest.raises(ConfigError, match="needs an image model"):
        replace(config, model=replace(config.model, backbone="s3d"))
