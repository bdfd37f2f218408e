"""Time that dual encoders of `transformers` take for an hour of video on this CPU.

    python bench/models.py [ALIAS ...]

Networks of the published sizes with made-up weights: speed does not depend on what they hold. The
time of a frame is processor time on one core (frames of 640 x 360, prepared and embedded two at a
time), the lesser of two rounds; two cores take half of it. Prints the table that `videoclip
models` shows, as JSON lines.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers

from videoclip.features.backbones.image import ImageBackbone
from videoclip.features.backbones.video import VideoBackbone
from videoclip.features.decode import CentreCrop, Resize, Squash
from videoclip.features.preprocessing import PatchPreprocessing, Preprocessing

CORES = 2
FRAMES = 2
BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
BASE |= {"num_attention_heads": 12}
LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
LARGE |= {"num_attention_heads": 16}
SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27}
SO400M |= {"num_attention_heads": 16}
CLIP_TEXT = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
GEMMA = {"vocab_size": 256000}


Sizes = dict[str, int]
Network = tuple[Any, Any, Preprocessing]
"""Class, configuration and preprocessing."""


def clip(vision: Sizes, text: Sizes, width: int) -> Network:
    """A CLIP."""
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=width)
    return transformers.CLIPModel, config, grey(CentreCrop(224, 224, "bicubic"))


def siglip(vision: Sizes, text: Sizes) -> Network:
    """A SigLIP or SigLIP 2 at one resolution."""
    config = transformers.SiglipConfig(vision_config=vision, text_config=text)
    side = vision.get("image_size", 224)
    return transformers.SiglipModel, config, grey(Squash(side, side, "bilinear"))


def naflex(vision: Sizes, text: Sizes) -> Network:
    """A SigLIP 2 at any aspect ratio."""
    config = transformers.Siglip2Config(vision_config=vision, text_config=text)
    plain = vars(grey(Squash(1, 1, "bilinear")))
    prepare = PatchPreprocessing(**plain, patch_size=16, max_patches=256)
    return transformers.Siglip2Model, config, prepare


def xclip() -> Network:
    """X-CLIP on 32 frames."""
    config = transformers.XCLIPConfig(
        vision_config={"patch_size": 16, "num_frames": 32}, text_config={}
    )
    return transformers.XCLIPModel, config, grey(CentreCrop(224, 224, "bilinear"))


def videoprism() -> Network:
    """VideoPrism LvT on 16 frames."""
    config = transformers.VideoPrismConfig(vision_config={}, text_config={})
    return transformers.VideoPrismClipModel, config, grey(Squash(288, 288, "bilinear"))


def grey(resize: Resize) -> Preprocessing:
    """Preprocessing of the usual cost."""
    return Preprocessing(resize, 1 / 255, (0.5,) * 3, (0.5,) * 3)


LARGE_256 = LARGE | {"patch_size": 16, "image_size": 256}
MODELS: dict[str, Callable[[], Network]] = {
    "clip-base": lambda: clip(BASE | {"patch_size": 32}, CLIP_TEXT, 512),
    "clip-large": lambda: clip(LARGE | {"patch_size": 14}, BASE, 768),
    "siglip-base": lambda: siglip(BASE | {"patch_size": 16}, BASE),
    "siglip2-small": lambda: siglip(BASE | {"patch_size": 32, "image_size": 256}, BASE | GEMMA),
    "siglip2-base": lambda: siglip(BASE | {"patch_size": 16}, BASE | GEMMA),
    "siglip2-naflex": lambda: naflex(BASE | {"patch_size": 16, "num_patches": 256}, BASE | GEMMA),
    "siglip2-large": lambda: siglip(LARGE_256, LARGE | GEMMA),
    "xclip-base": xclip,
    "videoprism-base": videoprism,
    "siglip2-so400m": lambda: siglip(
        SO400M | {"patch_size": 14, "image_size": 384}, SO400M | GEMMA
    ),
}
"""By alias of `videoclip models`."""


class Unnamed:
    """Skips the fingerprint, which needs a folder."""

    def fingerprint(self) -> str:
        """Return what stands for one."""
        return "random"


class RandomImages(Unnamed, ImageBackbone):
    """An image model without a folder."""


class RandomClips(Unnamed, VideoBackbone):
    """A video model without a folder."""


def measure(alias: str) -> dict[str, object]:
    """Build a model and time its frame side."""
    kind, config, preprocessing = MODELS[alias]()
    with torch.device("meta"):
        parameters = sum(p.numel() for p in kind(config).parameters())
    config.text_config.vocab_size, config.text_config.num_hidden_layers = 100, 1
    with torch.device("meta"):
        network = kind(config)
    network.to_empty(device="cpu").eval()
    for tensor in network.state_dict(keep_vars=True).values():
        tensor.data.fill_(0.01)  # drawing random numbers would take longer than the measurement
    for buffer in network.buffers():
        if not buffer.is_floating_point():  # positions
            buffer.copy_(torch.arange(buffer.numel()).view_as(buffer))
    backbone = (RandomClips if hasattr(network, "get_video_features") else RandomImages)(
        alias, network, preprocessing
    )
    frame = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    number = getattr(backbone, "frames_per_clip", FRAMES)
    seconds = []
    for _ in range(2):
        started = time.process_time()
        prepared = np.stack([preprocessing.scaled(frame) for _ in range(number)])
        backbone.embed_frames(prepared)
        seconds.append((time.process_time() - started) / number)
    hour = min(seconds) * 3600 * backbone.frames_per_second / CORES
    return {"alias": alias, "million_parameters": round(parameters / 1e6), "cpu_hour": round(hour)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for alias in sys.argv[1:] or MODELS:
        print(json.dumps(measure(alias)), flush=True)
