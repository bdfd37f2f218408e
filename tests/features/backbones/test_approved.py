"""Complete results of the backbones on small inputs, compared with what was approved."""

import json
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests import approved
from tests.library.colours import write_video
from videoclip.config import ModelConfig
from videoclip.data.frame_store import FrameStore
from videoclip.features.backbones import image, load_backbone, motion, s3d, starter, video
from videoclip.features.decode import Squash
from videoclip.features.frame_encoder import FrameEncoder, store_frames
from videoclip.features.preprocessing import PatchPreprocessing, Preprocessing
from videoclip.weights.files import image_weights_file, read_weights

transformers = pytest.importorskip("transformers")
from tests.features.tiny_image_models import clip, resnet, save, siglip, vit  # noqa: E402

SWATCHES = {
    "red": (230, 20, 20), "dark red": (90, 5, 5), "brown": (110, 70, 40),
    "orange": (250, 150, 20), "yellow": (240, 230, 30), "green": (30, 180, 40),
    "turquoise": (20, 200, 190), "blue": (20, 40, 220), "purple": (140, 20, 230),
    "pink": (250, 150, 170), "white": (240, 240, 240), "pale": (225, 215, 215),
    "grey": (120, 120, 120), "dark grey": (60, 60, 60), "black": (10, 10, 10),
    "nearly black": (37, 5, 5), "magenta": (230, 20, 60), "rose": (230, 110, 120),
    "dull red": (160, 95, 95),
}  # fmt: skip


def test_colours_and_attributes():
    pixels = torch.tensor(list(SWATCHES.values())).float() / 255
    hues = torch.tensor([[255, g, 0] for g in (0, 60, 64, 66, 120, 250)]).float() / 255
    hues = torch.cat([hues, torch.tensor([[1.0, 0.25, 0.0], [1.0, 0.0, 0.25]])])  # at a limit
    ramp = torch.arange(64, dtype=torch.uint8).repeat(64, 1)[..., None].expand(64, 64, 3)
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    frames = torch.stack(
        [
            ramp,
            noise,
            torch.zeros(64, 64, 3, dtype=torch.uint8),
            torch.full((64, 64, 3), 230, dtype=torch.uint8),
            torch.cat([noise[:32], torch.zeros(32, 64, 3, dtype=torch.uint8)]),
            torch.tensor([200, 30, 30], dtype=torch.uint8).expand(64, 64, 3),
        ]
    )
    approved.check(
        "backbones-starter",
        {
            "colours": {
                name: starter.COLOURS[i]
                for name, i in zip(SWATCHES, starter._colours(pixels).tolist())
            },
            "hues": [starter.COLOURS[i] for i in starter._colours(hues).tolist()],
            "attributes": starter.attributes_of(frames),
            "of crops": starter.attributes_of(torch.stack([frames[:2], frames[2:4]])),
            "crops": [
                starter.crops_along(
                    np.arange(h * w, dtype=np.uint32).reshape(h, w, 1).repeat(3, 2)
                )[:, 0, 0, 0]
                for h, w in ((240, 427), (427, 240), (240, 240))
            ],
        },
    )


def small_features(features):
    """Some of many numbers."""
    return [list(features.shape), np.asarray(features).reshape(len(features), -1)[:, ::97]]


@pytest.fixture(scope="module")
def efficient_net():
    return starter.from_published(read_weights(image_weights_file()))


def test_networks(efficient_net, monkeypatch):
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(1, 64, 64, 3)).astype(np.float32))
    frames = torch.from_numpy(rng.integers(0, 256, (7, 128, 128, 3), np.uint8))
    smooth = torch.nn.functional.avg_pool2d(
        torch.rand(1, 1, 40, 46, generator=torch.manual_seed(0)), 7, 1
    )[0, 0]
    moving = torch.stack([smooth[1:33, i : i + 32] for i in (4, 5, 7, 2)])
    weights = read_weights(image_weights_file())
    del weights["_bn0.bias"]
    fast = torch.zeros(4, 2, 32, 32)
    fast[:, 0, :8], fast[:, 1, :4] = 9.0, -2.0
    with monkeypatch.context() as patch:
        patch.setattr(motion, "flow", lambda grey: fast)
        too_fast = motion._motion(frames[:5])[0].reshape(2, 8, 8)[:, ::2, 0]
    with torch.inference_mode():
        approved.check(
            "backbones-networks",
            {
                "features": np.sort(efficient_net(images).numpy())[:, -9:],
                "map": small_features(efficient_net.feature_map(images)),
                "spec": motion.MotionBackbone(efficient_net).spec,
                "motion": small_features(motion.MotionBackbone(efficient_net).features_of(frames)),
                "quarters": motion._quarters(torch.arange(32.0).reshape(1, 4, 4, 2)),
                "flow": motion.flow(moving)[:, :, ::10, ::10],
                "batch": motion.MotionBackbone(efficient_net).frames_per_batch,
                "too fast": too_fast,
                "still": motion._motion(frames[:1].expand(5, -1, -1, -1))[0, ::40],
                "error": approved.outcome(partial(starter.from_published, weights)),
                "no variant": approved.outcome(partial(starter.load_packaged, "starter", "")),
            },
        )


def filled(module, seed=0):
    """A module with weights and statistics drawn by a seed."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.randn(tensor.shape, generator=generator) * 0.3
            tensor.copy_(drawn.abs() + 0.5 if "running_var" in name else drawn)
    return module.eval()


class Means(torch.nn.Module):
    """In place of S3D: the mean colour of each third of a clip."""

    def __init__(self, num_rows):
        super().__init__()
        self.text_module = SimpleNamespace(word_embd=SimpleNamespace(num_embeddings=num_rows))

    def forward(self, clips):
        return torch.stack(
            [part.mean(dim=(2, 3, 4)) for part in clips.split(10, dim=2)], 1
        ).flatten(1)


def test_s3d(tmp_path):
    generator = torch.Generator().manual_seed(5)
    clip_ = torch.rand(1, 4, 4, 6, 6, generator=generator)
    blocks = {
        "inception": filled(s3d.InceptionBlock(4, (2, 3, 2, 2, 3, 1))),
        "separable": filled(s3d.SeparableConvBlock(4, 2)),
        "gating": filled(s3d.SelfGating(4)),
        "block": filled(s3d.ConvBlock(4, 2)),
    }
    pools = [
        s3d.ZeroPaddedMaxPool(*sizes)
        for sizes in (((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2)))
    ]
    text = filled(s3d.TextModule(9))
    backbone = s3d.S3DBackbone(Means(4), ["cut", "the", "onion", "pan"], "folder")
    frames = torch.arange(45 * 12, dtype=torch.uint8).reshape(45, 2, 2, 3)
    np.save(tmp_path / "w.npy", np.array(["a", "b"]))
    np.save(tmp_path / "n.npy", np.zeros((2, 2)))
    words = ["words.txt", "w.npy", "n.npy", "absent.txt"]
    small = s3d.S3D(num_words=3)
    s3d.save(Means(4), ["cut", "the pan"], tmp_path)
    saved = [
        json.loads((tmp_path / "config.json").read_text())["num_words"],
        s3d.read_words(tmp_path / "words.txt"),
        sorted(json.loads((tmp_path / "checksums.json").read_text())["sha256"]),
    ]
    (tmp_path / "words.txt").write_text("cut\nthe\n")
    with torch.inference_mode():
        approved.check(
            "backbones-s3d",
            {
                "blocks": {name: block(clip_)[0, :, 1, ::3, ::3] for name, block in blocks.items()},
                "pools": [
                    [pool.padding, list(pool(clip_).shape), pool(clip_).sum()] for pool in pools
                ],
                "cells": s3d.space_to_depth(torch.arange(16.0 * 2).reshape(1, 2, 2, 2, 4))[
                    0, :, 0, 0
                ],
                "texts": text(torch.tensor([[1, 2, 0], [8, 8, 8]]))[:, ::100],
                "words": s3d.word_ids(
                    ["Cut THE onion's pan, onion", "x " * 5, "cut " * 20], backbone.word_ids
                )[:, :5],
                "known words": backbone.word_ids,
                "saved": saved,
                "spec": [backbone.spec, backbone.source],
                "features": backbone.features_of(frames),
                "read": {n: approved.outcome(partial(s3d.read_words, tmp_path / n)) for n in words},
                "tensors": [len(small.state_dict()), sum(p.numel() for p in small.parameters())],
                "too many": approved.outcome(partial(s3d.save, small, list("abcd"), tmp_path)),
                "other weights": approved.outcome(
                    partial(s3d.build_network, {"fc.bias": torch.zeros(3)}, tmp_path)
                ),
            },
            TMP=tmp_path,
        )


PROCESSORS = {
    "square": {"size": {"height": 32, "width": 48}},
    "shorter side and crop": {
        "size": {"shortest_edge": 40},
        "crop_size": {"height": 32, "width": 32},
    },
    "crop off": {"size": {"shortest_edge": 40}, "crop_size": 32, "do_center_crop": False},
    "number": {"size": 30, "resample": 2},
    "number and crop": {"size": 40, "crop_size": 32, "resample": 1},
    "share": {"size": {"shortest_edge": 224}, "crop_pct": 0.875},
    "another share": {"size": {"shortest_edge": 224}, "crop_pct": 0.9},
    "square, and a crop that is not asked for": {
        "size": {"height": 40, "width": 40},
        "crop_size": {"height": 32, "width": 32},
    },
    "large share": {"size": {"shortest_edge": 384}, "crop_pct": 0.875, "resample": 4},
    "square and crop": {
        "size": {"height": 40, "width": 40},
        "crop_size": {"height": 32, "width": 32},
        "do_center_crop": True,
    },
    "align": {
        "size": 40,
        "rescale_offset": True,
        "rescale_factor": 1 / 127.5,
        "do_normalize": False,
    },
    "efficient net": {"size": 40, "include_top": True},
    "no rescaling": {"size": 40, "do_rescale": False},
    "unknown filter": {"size": 40, "resample": 5},
    "no size": {"size": {}},
}


def test_processors_that_do_something_else(tmp_path, monkeypatch):
    """What a model's own image processor must give."""
    from videoclip.features import preprocessing

    settings = {"image_mean": [0.5] * 3, "image_std": [0.2] * 3}
    settings |= {"size": {"height": 37, "width": 50}}
    ours = Preprocessing.from_processor(settings)
    frame = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    pixels = ours(torch.from_numpy(ours.scaled(frame))[None])
    given = {
        "the same": pixels,
        "flat": pixels.reshape(1, -1),
        "higher": pixels + 0.021,
        "lower": pixels - 0.021,
        "nearly": pixels + 0.019,
        "both": pixels + 0.06 * (torch.arange(50) % 2 - 0.5),
        "smaller": pixels[:, :, 1:],
    }
    found = {}
    for name, values in given.items():

        class Processor:
            def __call__(self, frames, return_tensors, values=values):
                return {"pixel_values": values, "called": (len(frames), return_tensors)}

            def to_dict(self):
                return settings

        library = SimpleNamespace(
            AutoImageProcessor=SimpleNamespace(from_pretrained=lambda *a, p=Processor, **o: p())
        )
        monkeypatch.setattr(preprocessing, "transformers_library", lambda what, x=library: x)
        outcome = approved.outcome(lambda: preprocessing.read_preprocessing(tmp_path))
        found[name] = outcome if isinstance(outcome, str) else "is used"
    approved.check("backbones-processors", found)


def test_preprocessing():
    usual = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    frame = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    rules = {
        name: approved.outcome(partial(Preprocessing.from_processor, usual | settings))
        for name, settings in PROCESSORS.items()
    }
    patches = PatchPreprocessing.from_processor(
        usual | {"patch_size": 2, "max_num_patches": 6, "do_resize": True}
    )
    packed = torch.from_numpy(patches.scaled(frame))[None]
    inputs = patches.inputs(packed)
    plain = rules["efficient net"]
    approved.check(
        "backbones-preprocessing",
        {
            "rules": rules,
            "pixels": plain(torch.from_numpy(frame[:2, :2])[None]),
            "packed": [list(packed.shape), packed[0, 0, 0]],
            "inputs": {
                name: value if value.dim() < 3 else value[0, ::2] for name, value in inputs.items()
            },
            "grids": [patches._grid(*size) for size in ((2, 2), (100, 3), (30, 40), (7, 500))],
        },
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of tiny models."""
    folder = tmp_path_factory.mktemp("models")
    for make in (clip, vit, resnet, siglip):
        torch.manual_seed(0)
        model, processor, _ = make()
        save(model.eval(), processor, folder / make.__name__)
    classifier = transformers.ViTForImageClassification(
        transformers.ViTConfig.from_pretrained(folder / "vit")
    )
    save(
        classifier.eval(),
        json.loads((folder / "vit/preprocessor_config.json").read_text()),
        folder / "headed",
    )
    return folder


def test_image_models(models, tmp_path):
    shown = write_video(tmp_path / "v.mp4", ["red", "blue", "green", "green"])
    found = {}
    for name in ("clip", "vit", "resnet", "siglip", "headed"):
        backbone = load_backbone(f"image:{models / name}", "cpu")
        computed = np.concatenate(list(backbone.features_for(shown)))
        found[name] = [
            list(computed.shape),
            np.abs(np.diff(computed, axis=0)).max(axis=1) > 0,
            backbone.spec.dim,
            backbone.spec.normalized,
            backbone.has_text,
            backbone.has_pooler,
            backbone.half,
            str(backbone.preprocessing),
        ]
    wrong = {
        "a video model": partial(load_backbone, f"video:{models / 'clip'}"),
        "texts of an image model": partial(
            load_backbone(f"image:{models / 'vit'}").embed_text, ["x"]
        ),
        "no folder": partial(load_backbone, f"image:{tmp_path / 'no'}"),
        "no model": partial(load_backbone, f"image:{tmp_path}"),
    }
    approved.check(
        "backbones-image",
        {"found": found, "errors": {name: approved.outcome(call) for name, call in wrong.items()}},
        TMP=tmp_path,
        MODELS=models,
    )


def test_video_models():
    def config(kind, frames, **more):
        return SimpleNamespace(model_type=kind, num_frames=frames, **more)

    approved.check(
        "backbones-video",
        [
            video.sampling(config("videomae", 16)),
            video.sampling(config("videomae", 12)),
            video.sampling(SimpleNamespace(model_type="vjepa2", frames_per_clip=64)),
            video.sampling(config("xclip", 8, text_config=1)),
            video.sampling(
                SimpleNamespace(
                    model_type="videoprism", text_config=1, vision_config=config("x", 16)
                )
            ),
        ],
    )


def test_what_is_loaded(models, tmp_path, monkeypatch):
    """Names, rates and parts of models, with networks that lack some."""
    plain = Preprocessing(Squash(4, 4), 1 / 255, (0.5,) * 3, (0.25,) * 3)
    found = {}
    monkeypatch.chdir(models)
    monkeypatch.setattr(image, "full_name", lambda name: str(models / "vit"))
    found["short name"] = image.load("short").name
    only_texts = SimpleNamespace(get_text_features=0)
    monkeypatch.setattr(image, "load_network", lambda *names: (only_texts, []))
    found["only texts"] = approved.outcome(partial(image.load, "short"))
    prints = [image.files_fingerprint(models / "clip", one) for one in (plain, 5, plain)]
    found["fingerprints"] = [prints[0] == prints[2], prints[0] == prints[1]]
    specs = [video.frames_spec("clip", 16, rate) for rate in (None, 4.0)]
    found["specs"] = [[spec.backbone, spec.features_per_second] for spec in specs]

    @contextmanager
    def named_model(source, kind, example):
        yield source, tmp_path, "videomae"

    network = OfClips(model_type="videomae", num_frames=4, hidden_size=2)
    monkeypatch.setattr(video, "named_model", named_model)
    monkeypatch.setattr(video, "read_preprocessing", lambda folder: plain)
    monkeypatch.setattr(video.VideoBackbone, "fingerprint", lambda self: "0123")
    for missing in ["predictor.a", "decoder.b"], ["decoder.b", "encoder.c"]:
        monkeypatch.setattr(video, "load_network", lambda *names, m=missing: (network, m))
        found[str(missing)] = approved.outcome(lambda: video.load("x").name)

    calls = []
    monkeypatch.setenv("VIDEOCLIP_S3D", str(tmp_path / "of the environment"))
    monkeypatch.setattr(s3d, "verify_checksums", lambda *names: calls.append(names))
    monkeypatch.setattr(s3d, "read_weights", lambda path: calls.append(path))
    monkeypatch.setattr(s3d, "build_network", lambda *names: Means(2))
    monkeypatch.setattr(s3d, "read_words", lambda path: ["cut", "fry", "stir"])
    found["s3d"] = [approved.outcome(partial(s3d.load, one)) for one in (str(tmp_path / "n"), None)]
    found["s3d, from"] = calls
    approved.check("backbones-loaded", found, TMP=tmp_path, MODELS=models)


class OfClips(torch.nn.Module):
    """In place of a model of clips: the brightness of each patch, and what it was given."""

    def __init__(self, **config):
        super().__init__()
        self.given = []
        self.config = SimpleNamespace(**config)
        if "text_config" in config:
            self.get_video_features = self.get_text_features = self._video_features

    def forward(self, **inputs):
        ((name, pixels), *others) = inputs.items()
        self.given.append([name, list(pixels.shape), str(others)])
        means = pixels.mean(dim=(2, 3, 4))[0]  # (N,)
        states = torch.stack([means, means + 1], dim=1).repeat_interleave(2, dim=0)
        return SimpleNamespace(last_hidden_state=states[None])

    def _video_features(self, **inputs):
        states = self(**inputs).last_hidden_state
        return SimpleNamespace(pooler_output=states.mean(dim=1))


def test_clips_through_a_network(monkeypatch):
    monkeypatch.setattr(video.VideoBackbone, "fingerprint", lambda self: "0123")
    plain = Preprocessing(Squash(4, 4), 1 / 255, (0.5,) * 3, (0.25,) * 3)
    frames = np.stack([np.full((4, 4, 3), 20 * i, np.uint8) for i in range(11)])
    found = {}
    for name, config in {
        "videomae": {"model_type": "videomae", "num_frames": 4, "hidden_size": 2},
        "vjepa2": {"model_type": "vjepa2", "frames_per_clip": 8, "hidden_size": 2},
        "xclip": {
            "model_type": "xclip",
            "text_config": 1,
            "vision_config": SimpleNamespace(num_frames=8, hidden_size=2),
            "projection_dim": 2,
        },
        "videoprism": {
            "model_type": "videoprism",
            "text_config": 1,
            "vision_config": SimpleNamespace(num_frames=16, hidden_size=2),
        },
    }.items():
        network = OfClips(**config)
        backbone = video.VideoBackbone(f"own/{name}", network, plain)
        chunks = list(backbone.features_from(map(Shown, frames)))
        found[name] = {
            "chunks": chunks,
            "given": network.given,
            "spec": backbone.spec,
            "numbers": [backbone.frames_per_clip, backbone.frames_per_batch, backbone.half],
            "at once": backbone.embed_frames(frames)[-1],
        }
    approved.check("backbones-clips", found)


class Shown:
    def __init__(self, pixels):
        self.pixels = pixels

    def rgb(self, resize=None):
        return self.pixels


def test_a_trained_backbone(models, tmp_path):
    encoder = FrameEncoder(image.load(str(models / "resnet")), frames_at_once=2)
    side = encoder.frames.height
    rng = np.random.default_rng(2)
    frames = torch.from_numpy(rng.integers(0, 256, (2, 3, side, side, 3), np.uint8))
    mask = torch.tensor([[True, True, True], [True, False, False]])
    features = encoder(frames, mask)
    features.sum().backward()
    store = FrameStore.open_or_create(tmp_path / "frames", encoder.frames)
    other = SimpleNamespace(frames=5)
    fits = ModelConfig(feature_dim=20, features_per_second=1.0)
    progress = []
    shown = write_video(tmp_path / "v.mp4", ["red", "blue"])
    (tmp_path / "bad.mp4").write_text("x")
    videos = {shown: "v", tmp_path / "bad.mp4": "bad"}
    failed = store_frames(videos, store, encoder, lambda *state: progress.append(state))
    again = store_frames({shown: "v"}, store, encoder)
    folder = tmp_path / "saved"
    saved = encoder.save_pretrained(folder)
    encoder.load_pretrained(folder)
    approved.check(
        "backbones-trained",
        {
            "features": [list(features.shape), (features != 0).any(dim=2)],
            "gradient": all(p.grad is not None for p in encoder.network.parameters()),
            "modes": [encoder.training, encoder.train().training, encoder.network.training],
            "frames": encoder.frames,
            "flops": encoder.flops_per_frame > 0,
            "is the same": [
                saved == encoder.fingerprint,
                saved == load_backbone(f"image:{folder}").spec.fingerprint,
            ],
            "files": sorted(path.name for path in folder.iterdir()),
            "stored": [store.video_ids, failed, again, progress],
            "checks": [
                approved.outcome(partial(encoder.check, *case))
                for case in (
                    (store, fits),
                    (None, fits),
                    (other, fits),
                    (None, ModelConfig(feature_dim=20, features_per_second=2.0)),
                    (None, ModelConfig(feature_dim=21)),
                )
            ],
            "refused": [
                approved.outcome(partial(FrameEncoder, image.load(str(models / "clip")))),
                approved.outcome(partial(FrameEncoder, SimpleNamespace(name="starter"))),
            ],
        },
        TMP=tmp_path,
        MODELS=models,
    )
