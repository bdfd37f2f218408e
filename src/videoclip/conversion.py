"""Convert released weights, features, captions and project files into folders that we read.

Nothing in a checkpoint or pickle is ever run; every tensor is checked by name and shape.
"""

import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from safetensors.torch import save_file
from torch import Tensor

from videoclip.benchmarks.howto100m import read_captions
from videoclip.config import (
    RUN_CONFIG_VERSION,
    ConvertKind,
    ConvertOptions,
    PretrainConfig,
    ReleasedSettings,
    to_dict,
)
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.data.tokenizer import Tokenizer
from videoclip.errors import CheckpointError, ConfigError, DataError, one_line
from videoclip.features.backbones import s3d
from videoclip.files import atomic_folder, read_json, write_json
from videoclip.mmpt import read_project
from videoclip.model.convert import from_bert, from_released, kind_of, released_differences
from videoclip.model.hub import save_model
from videoclip.model.videoclip import VideoCLIP
from videoclip.preparation import write_captions
from videoclip.recipes import RECIPES, named_recipe
from videoclip.weights.files import read_weights

Facts: TypeAlias = dict[str, Any]

PICKLE_SUFFIXES = (".pkl", ".pickle")
PROJECT_SUFFIXES = (".yaml", ".yml")
S3D_WIDTH = 512
BERT_FILES = ("model.safetensors", "pytorch_model.bin")
S3D_WORDS = "s3d_dict.npy"
HEAD_FILE = "segmentation_head.safetensors"
SUMMARIES = {
    "features": "{folder}: features of {videos:,} videos, {dim} wide; {added:,} videos are new\n"
    "use it as --features {folder}",
    "captions": "{captions}: {cues:,} cues of {videos:,} videos\nuse it as --data {captions}",
    "project": "{config}: use it as `{command} ...`",
    "s3d": "{folder}: S3D with {num_words:,} words and {num_parameters:,} parameters\n"
    "use it as --backbone s3d:{folder}",
}
"""What is printed of each kind, with the next step; models have `MODEL_SUMMARY`."""
MODEL_SUMMARY = (
    "{folder}: VideoCLIP with {num_video_layers} video and {num_text_layers} text layers, "
    "{hidden_size} wide, {num_parameters:,} parameters"
)


@dataclass(frozen=True)
class Conversion:
    """What was written; `str()` is a description with the next step.

    Attributes:
        kind: What the source was: "videoclip", "s3d", "bert", "features", "captions" or "project".
        folder: The new folder.
        facts: Sizes and counts, by name.
    """

    kind: str
    folder: Path
    facts: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {"kind": self.kind, **self.facts, "folder": str(self.folder)}

    def __str__(self) -> str:
        facts = self.facts
        lines = [f"{theirs}: {ours}" for theirs, ours in facts.get("translated", {}).items()]
        untranslated = facts.get("untranslated", {}).items()
        lines += [f"not taken over: {name}: {reason}" for name, reason in untranslated]
        lines.append(SUMMARIES.get(self.kind, MODEL_SUMMARY).format(folder=self.folder, **facts))
        lines += [f"unlike the released VideoCLIP: {line}" for line in facts.get("differences", ())]
        if "head" in facts:
            lines.append(f"its action segmentation head is in {facts['head']}")
        if not facts.get("vocabulary", True):
            lines.append(
                "it cannot embed text without vocab.txt (that of bert-base-uncased for the "
                "released model): copy it there, or convert again with --vocabulary"
            )
        return "\n".join(lines)


def convert(
    source: Path | str,
    folder: Path | str,
    kind: ConvertKind = "auto",
    vocabulary: Path | None = None,
    settings: ReleasedSettings | None = None,
    options: ConvertOptions | None = None,
) -> Conversion:
    """Convert released weights, features, captions or a project file into a folder.

    Args:
        source: A checkpoint of VideoCLIP or one of its relatives (.pt), MIL-NCE S3D weights (.pth),
            a BERT folder, a folder of feature arrays (VIDEO_ID.npy or VIDEO_ID.mp4.npy), pickled
            captions (.pkl) or a project file of MMPT (.yaml).
        folder: Folder to make. A feature store may exist already: new videos are added.
        kind: What the source is; "auto" recognises it by the names of files and tensors.
        vocabulary: vocab.txt of the text tower; a BERT folder has its own. For captions of
            word-piece ids: that of the ids.
        settings: For a VideoCLIP checkpoint: what its shapes do not determine.
        options: For the other kinds: what the files do not say.

    Raises:
        CheckpointError: If the weights are damaged, incomplete or of an unknown kind.
        ConfigError: If an option is missing or contradicts the files, or the folder exists.
        DataError: If the features are not usable.
    """
    source, folder, options = Path(source), Path(folder), options or ConvertOptions()
    if not source.exists():
        raise DataError("cannot read it (no such file); name what is to be converted", source)
    if kind == "features" or (kind == "auto" and _has_arrays(source)):
        return Conversion("features", folder, _convert_features(source, folder, options))
    if kind == "captions" or (kind == "auto" and source.suffix in PICKLE_SUFFIXES):
        return Conversion("captions", folder, _convert_captions(source, folder, vocabulary))
    if kind == "project" or (kind == "auto" and source.suffix in PROJECT_SUFFIXES):
        return Conversion("project", folder, _convert_project(source, folder))
    file = _bert_file(source) if source.is_dir() else source
    weights = read_weights(file)
    found = kind_of(weights) if kind == "auto" else kind
    if not found:
        raise CheckpointError(
            f"{file} has weights of no known kind (its first tensor is "
            f"'{next(iter(weights), '')}'); name their kind with --as"
        )
    if not folder.is_dir() or any(folder.iterdir()):
        _refuse_existing(folder)
    with atomic_folder(folder) as partial:
        if found == "s3d":
            facts = _convert_s3d(file, weights, partial, options)
        elif found == "bert":
            facts = _convert_bert(file, weights, partial, vocabulary, options)
        else:
            settings = settings or ReleasedSettings()
            facts = _convert_videoclip(file, weights, partial, vocabulary, settings, options)
    return Conversion(found, folder, facts)


def _convert_features(source: Path, folder: Path, options: ConvertOptions) -> Facts:
    arrays = find_arrays(source)
    spec = spec_of_arrays(arrays, options)
    with FeatureStore.open_or_create(folder, spec) as store:
        added = import_features(arrays, store)
        return {"added": len(added), "videos": len(store), "dim": spec.dim}


def _convert_s3d(
    file: Path, weights: Mapping[str, Tensor], folder: Path, options: ConvertOptions
) -> Facts:
    network = s3d.build_network(weights, file)
    words = s3d.read_words(options.words or file.with_name(S3D_WORDS))
    s3d.save(network, words, folder)
    num_parameters = sum(tensor.numel() for tensor in weights.values())
    return {"num_parameters": num_parameters, "num_words": len(words)}


def _convert_videoclip(
    file: Path,
    weights: Mapping[str, Tensor],
    folder: Path,
    vocabulary: Path | None,
    settings: ReleasedSettings,
    options: ConvertOptions,
) -> Facts:
    tokenizer = Tokenizer.from_vocab(vocabulary) if vocabulary else None
    if tokenizer:
        ids = _special_ids(tokenizer)
        for name, value in ids.items():
            if getattr(settings, name) not in (None, value):
                option = f"--{name.replace('_', '-')} {getattr(settings, name)}"
                raise ConfigError(f"{option} contradicts {vocabulary} ({value}); leave it out")
        settings = replace(settings, **ids)
    model, head = from_released(weights, settings, file)
    is_s3d = options.backbone.partition(":")[0] == "s3d"
    if is_s3d and model.config.feature_dim != S3D_WIDTH:
        raise ConfigError(
            f"{file} takes features {model.config.feature_dim} wide, but those of S3D are "
            f"{S3D_WIDTH}; name what computed them with --backbone, and their rate with "
            "--features-per-second"
        )
    model.config = replace(
        model.config,
        backbone=options.backbone,
        features_per_second=options.features_per_second,
        normalized_features=is_s3d or options.normalized,  # S3D's were, in the release
    )
    facts = _save(model, tokenizer, folder, file)
    facts["differences"] = released_differences(weights, model.config, settings)
    if head:
        save_file(head, folder / HEAD_FILE)
        facts["head"] = HEAD_FILE
    return facts


def _convert_captions(source: Path, folder: Path, vocabulary: Path | None) -> Facts:
    _refuse_existing(path := folder / "captions.json")
    tokenizer = Tokenizer.from_vocab(vocabulary) if vocabulary else None
    captions = dict(read_captions(source, tokenizer))
    write_captions(path, captions)
    num_cues = sum(map(len, captions.values()))
    return {"captions": str(path), "videos": len(captions), "cues": num_cues}


def _convert_project(source: Path, folder: Path) -> Facts:
    project = read_project(source)
    _refuse_existing(path := folder / "config.json")
    write_json(path, {"version": RUN_CONFIG_VERSION, **to_dict(project.config)})
    command = "pretrain" if isinstance(project.config, PretrainConfig) else "finetune"
    return {
        "config": str(path),
        "command": f"videoclip {command} --config {path}",
        "translated": dict(project.translated),
        "untranslated": dict(project.untranslated),
    }


def _convert_bert(
    file: Path,
    weights: Mapping[str, Tensor],
    folder: Path,
    vocabulary: Path | None,
    options: ConvertOptions,
) -> Facts:
    recipe = named_recipe(options.recipe, RECIPES)
    tokenizer = Tokenizer.from_vocab(vocabulary or file.with_name("vocab.txt"))
    config = replace(recipe.model, **_special_ids(tokenizer))
    settings = read_json(path := file.parent / "config.json", "download it again")
    if not (settings and isinstance(settings, dict)):
        raise CheckpointError(f"{path}, which a BERT needs, has no settings: download it again")
    model = from_bert(weights, settings, config, file.parent)
    return _save(model, tokenizer, folder, file)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise ConfigError(f"{path} already exists: name a new folder, or remove it")


def _special_ids(tokenizer: Tokenizer) -> Facts:
    return {name: getattr(tokenizer, name) for name in ("pad_id", "cls_id", "sep_id")}


def _save(model: VideoCLIP, tokenizer: Tokenizer | None, folder: Path, where: Path) -> Facts:
    """Write a model folder, with its vocabulary if there is one; return facts about it."""
    config = model.config
    if tokenizer and tokenizer.vocab_size != config.vocab_size:
        raise CheckpointError(
            f"{where} has {config.vocab_size} word pieces, but the vocabulary has "
            f"{tokenizer.vocab_size}; name the vocab.txt it was trained with by --vocabulary"
        )
    save_model(model, folder, tokenizer)
    return {
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "hidden_size": config.hidden_size,
        "num_video_layers": config.num_video_layers,
        "num_text_layers": config.num_text_layers,
        "vocabulary": tokenizer is not None,
    }


def _has_arrays(folder: Path) -> bool:
    """Whether a folder holds feature arrays, and no weights beside them."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    return names.isdisjoint((*BERT_FILES, S3D_WORDS)) and any(n.endswith(".npy") for n in names)


def _bert_file(folder: Path) -> Path:
    """Return the weights file in a folder that `transformers` wrote."""
    for name in BERT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(
        f"{folder} has no {' or '.join(BERT_FILES)}, and no features VIDEO_ID.npy; name a folder "
        "that has, or a file"
    )


VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv")
"""Suffixes removed from names, since many folders have a.mp4.npy for a.mp4."""
UNIT_TOLERANCE = 0.01
"""Largest deviation from norm 1 of a normalised feature in half precision."""


def find_arrays(folder: Path | str) -> dict[str, Path]:
    """Return the arrays of a folder by video id, in order of their names.

    Raises:
        DataError: If there are none, or two for one video.
    """
    found: dict[str, Path] = {}
    for path in sorted(Path(folder).glob("*.npy")):
        video_id = path.stem
        for suffix in VIDEO_SUFFIXES:
            video_id = video_id.removesuffix(suffix)
        if video_id in found:
            raise DataError(f"same video id as {found[video_id].name}; remove one of them", path)
        found[video_id] = path
    if not found:
        raise DataError("has no arrays; name a folder with files VIDEO_ID.npy", folder)
    return found


def spec_of_arrays(arrays: Mapping[str, Path], options: ConvertOptions) -> FeatureSpec:
    """Return the spec of features to import, checking the header of every file.

    Args:
        arrays: From `find_arrays`.
        options: What the files do not say: the backbone, the rate, whether norms are 1.

    Raises:
        DataError: At the first file that is not a (T, D) array of numbers, or has another D.
    """
    widths: dict[int, Path] = {}
    for path in arrays.values():
        widths.setdefault(_open(path).shape[1], path)
    if len(widths) > 1:
        (width, first), (other, path), *_ = widths.items()
        raise DataError(
            f"width {other}, but {first.name} has {width}; import them separately",
            path,
        )
    return FeatureSpec(
        dim=next(iter(widths)),
        features_per_second=options.features_per_second,
        backbone=options.backbone,
        normalized=options.normalized,
        fingerprint="imported",
    )


def import_features(arrays: Mapping[str, Path], store: FeatureStore) -> list[str]:
    """Append every array that the store does not have.

    Returns:
        The ids that were added; a second call continues an interrupted one.

    Raises:
        DataError: At the first array that does not fit the store.
    """
    added = []
    for video_id, path in arrays.items():
        if video_id in store:
            continue
        features = _open(path)
        if store.spec.normalized:
            lengths = np.linalg.norm(features.astype(np.float32), axis=1)
            if np.abs(lengths - 1).max() > UNIT_TOLERANCE:
                raise DataError("features are not L2-normalised, but --normalized was given", path)
        try:
            store.append(video_id, features)
        except DataError as error:
            store.refresh()
            if video_id in store:  # another process added it meanwhile
                continue
            raise DataError(f"not imported: {error}", path) from error
        added.append(video_id)
    return added


def _open(path: Path) -> np.ndarray:
    """Map an array into memory; only its header is read and checked."""
    try:
        features: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:
        raise DataError(f"not a NumPy array ({one_line(error)})", path) from error
    if features.ndim != 2 or not features.size or features.dtype.kind not in "fiu":
        raise DataError(
            f"expected (T, D) numbers, got an array {features.shape} of {features.dtype}", path
        )
    return features
