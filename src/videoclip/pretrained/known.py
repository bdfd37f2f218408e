"""Known models to search with, their short names, and which models are present on this machine.

A model is present if its folder is in the hub's cache, whole. Nothing is downloaded here, and
neither torch nor transformers is imported.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from videoclip.files import read_json

STARTER = "starter"
CONFIG_FILE = "config.json"
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
"""Weights of a model folder, in order of preference."""
OPEN_CLIP = "https://github.com/mlfoundations/open_clip, docs/openclip_retrieval_results.csv"
BIG_VISION = (
    "https://github.com/google-research/big_vision, "
    "big_vision/configs/proj/image_text/README_siglip2.md"
)
VIDEOPRISM = "https://github.com/google-deepmind/videoprism, README.md"
XCLIP = "https://huggingface.co/microsoft/xclip-base-patch16-zero-shot"


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """A published model that works by its name alone.

    Attributes:
        alias: Short name that `--model` takes.
        hub_id: Its name on the Hugging Face hub.
        million_parameters: Of both sides.
        licence: Of the weights, as published.
        seconds_per_hour: Seconds that two CPU cores took for an hour of video (`bench/models.py`).
        published: Zero-shot result as its authors or others published it.
        source: Where that is published.
        good_for: When to choose it, in a few words.
    """

    alias: str
    hub_id: str
    million_parameters: int
    licence: str
    seconds_per_hour: int
    published: str
    source: str
    good_for: str

    @property
    def download_gb(self) -> float:
        """Size of its weights in float32, as they are published."""
        return self.million_parameters * 4e6 / 1e9


KNOWN = (
    KnownModel(
        alias="siglip2-so400m",
        hub_id="google/siglip2-so400m-patch14-384",
        million_parameters=1136,
        licence="Apache-2.0",
        seconds_per_hour=10977,
        published="COCO text to image R@1 55.8",
        source=BIG_VISION,
        good_for="the best answers here; needs a GPU",
    ),
    KnownModel(
        alias="siglip2-large",
        hub_id="google/siglip2-large-patch16-256",
        million_parameters=882,
        licence="Apache-2.0",
        seconds_per_hour=2513,
        published="COCO text to image R@1 54.7",
        source=BIG_VISION,
        good_for="strong answers on a GPU",
    ),
    KnownModel(
        alias="siglip2-base",
        hub_id="google/siglip2-base-patch16-224",
        million_parameters=375,
        licence="Apache-2.0",
        seconds_per_hour=602,
        published="COCO text to image R@1 52.1",
        source=BIG_VISION,
        good_for="strong answers on a CPU, many languages",
    ),
    KnownModel(
        alias="siglip2-naflex",
        hub_id="google/siglip2-base-patch16-naflex",
        million_parameters=375,
        licence="Apache-2.0",
        seconds_per_hour=751,
        published="COCO text to image R@1 51.1",
        source=BIG_VISION,
        good_for="wide or tall videos, at their own shape",
    ),
    KnownModel(
        alias="siglip-base",
        hub_id="google/siglip-base-patch16-224",
        million_parameters=203,
        licence="Apache-2.0",
        seconds_per_hour=579,
        published="COCO text to image R@1 47.8",
        source=OPEN_CLIP,
        good_for="English, half the download of siglip2-base",
    ),
    KnownModel(
        alias="siglip2-small",
        hub_id="google/siglip2-base-patch32-256",
        million_parameters=377,
        licence="Apache-2.0",
        seconds_per_hour=243,
        published="COCO text to image R@1 47.2",
        source=BIG_VISION,
        good_for="large collections on a CPU, many languages",
    ),
    KnownModel(
        alias="videoprism-base",
        hub_id="google/videoprism-lvt-base-f16r288",
        million_parameters=248,
        licence="Apache-2.0",
        seconds_per_hour=10008,
        published="MSR-VTT text to video R@1 50.1",
        source=VIDEOPRISM,
        good_for="movement: clips of 4 s; needs a GPU",
    ),
    KnownModel(
        alias="clip-large",
        hub_id="openai/clip-vit-large-patch14",
        million_parameters=428,
        licence="MIT",
        seconds_per_hour=2550,
        published="COCO text to image R@1 36.5",
        source=OPEN_CLIP,
        good_for="comparison with published work",
    ),
    KnownModel(
        alias="clip-base",
        hub_id="openai/clip-vit-base-patch32",
        million_parameters=151,
        licence="MIT",
        seconds_per_hour=207,
        published="COCO text to image R@1 30.4",
        source=OPEN_CLIP,
        good_for="the fastest and smallest",
    ),
    KnownModel(
        alias="xclip-base",
        hub_id="microsoft/xclip-base-patch16-zero-shot",
        million_parameters=195,
        licence="MIT",
        seconds_per_hour=2559,
        published="Kinetics-600 accuracy 65.2",
        source=XCLIP,
        good_for="names of actions: clips of 8 s",
    ),
)
"""Best first: the first one that is present is the default model."""
ALIASES = {model.alias: model.hub_id for model in KNOWN}


def full_name(model: Path | str) -> str:
    """Return the hub id of a short name, and any other name as it is; a folder comes first."""
    name = str(model)
    return ALIASES.get(name, name) if not Path(name).is_dir() else name


def weights_files(folder: Path) -> list[Path]:
    """Return the files of a model's weights, in order of name."""
    found = (sorted(folder.glob(pattern)) for pattern in WEIGHTS)
    return next(filter(None, found), [])


def is_complete(folder: Path) -> bool:
    """Return whether a model folder has its settings and all files of its weights."""
    index = next(iter(sorted(folder.glob("*.index.json"))), None)
    names = set(read_json(index).get("weight_map", {}).values()) if index else set()
    weights = {path.name for path in weights_files(folder)}
    return (folder / CONFIG_FILE).is_file() and bool(weights) and names <= weights


def cached_folder(hub_id: str) -> Path | None:
    """Return the folder of a model in the hub's cache, None unless it is complete there."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(hub_id, CONFIG_FILE)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return folder if is_complete(folder) else None


def present_models() -> dict[str, Path]:
    """Return the folders of the known models that are in the hub's cache, best first, by alias."""
    folders = {model.alias: cached_folder(model.hub_id) for model in KNOWN}
    return {alias: folder for alias, folder in folders.items() if folder is not None}


def other_models() -> Iterator[tuple[str, Path]]:
    """Yield hub id and folder of all other models in the hub's cache that have two sides."""
    from huggingface_hub import constants

    for cached in sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*")):
        hub_id = cached.name.removeprefix("models--").replace("--", "/", 1)
        folder = cached_folder(hub_id)
        if folder is None or hub_id in ALIASES.values():
            continue
        settings = read_json(folder / CONFIG_FILE)
        if "format" in settings or {"text_config", "vision_config"} <= settings.keys():
            yield hub_id, folder


def default_model() -> str:
    """Return the hub id of the best known model that is present, else "starter"."""
    return next((ALIASES[alias] for alias in present_models()), STARTER)
