"""`videoclip convert`: weights and features of others as our folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from videoclip.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from videoclip.data.tokenizer import Tokenizer
    from videoclip.model.convert import Unsaid
    from videoclip.model.videoclip import VideoCLIP

__all__ = ["Convert"]

BERT_FILES = ("model.safetensors", "pytorch_model.bin")
S3D_WORDS = "s3d_dict.npy"
HEAD_FILE = "segmentation_head.safetensors"


@dataclass(frozen=True)
class Convert:
    """Turn released weights or features into a folder that everything here reads.

    Takes released VideoCLIP checkpoints (.pt), MIL-NCE S3D weights (.pth, with s3d_dict.npy beside
    them), and BERT folders (config.json with model.safetensors or pytorch_model.bin) to start
    training from. Nothing in a checkpoint is ever run; every tensor is checked by name and shape.
    A folder of arrays (VIDEO_ID.npy or VIDEO_ID.mp4.npy) becomes a feature store; the same command
    adds what is new.
    """

    file: Annotated[Path, tyro.conf.Positional]
    """The checkpoint, or the folder of a BERT or of features."""
    folder: Annotated[Path, tyro.conf.Positional]
    """Folder to make."""
    kind: Annotated[
        Literal["auto", "videoclip", "s3d", "bert", "features"], tyro.conf.arg(name="as")
    ] = "auto"
    """What it is; told by the names of files and weights if not given."""
    backbone: str = "s3d"
    """What made the features, by the name that models ask for."""
    features_per_second: float = 1.0
    """Rate of the features."""
    normalized: bool = False
    """Whether each feature has length 1."""
    vocab: Path | None = None
    """Vocabulary (vocab.txt) of the text tower; a BERT folder has its own."""
    words: Path | None = None
    """Word list of S3D; s3d_dict.npy beside the weights by default."""
    recipe: str = "paper"
    """For a BERT: the recipe whose model it starts, with its features, loss scale and pooling."""
    num_heads: int | None = None
    """Attention heads, where the width does not tell them (it does for 768 and 1024)."""
    pad_id: int | None = None
    """Id of [PAD], where there is no --vocab and the vocabulary is not bert-base-uncased's."""
    cls_id: int | None = None
    """Id of [CLS], likewise."""
    sep_id: int | None = None
    """Id of [SEP], likewise."""
    max_video_tokens: int = 32
    """Longest video clip the weights were trained on, in features."""
    max_text_tokens: int = 61
    """Longest text the weights were trained on, in word pieces."""
    json: bool = False
    """Print the summary as JSON."""

    def run(self) -> int:
        """Convert, and print what was made."""
        from videoclip.model.convert import kind_of
        from videoclip.weights.files import new_folder, read_weights

        if self.kind == "features" or (self.kind == "auto" and _holds_arrays(self.file)):
            self._print({"kind": "features", **self._features()})
            return 0
        file = _bert_file(self.file) if self.file.is_dir() else self.file
        weights = read_weights(file)
        kind = kind_of(weights) if self.kind == "auto" else self.kind
        if not kind:
            raise CheckpointError(
                f"{file} holds weights of no known kind (its first tensor is "
                f"'{next(iter(weights), '')}'): say what they are by --as"
            )
        with new_folder(self.folder) as partial:
            if kind == "s3d":
                summary = self._s3d(file, weights, partial)
            else:
                build = self._videoclip if kind == "videoclip" else self._bert
                summary = build(file, weights, partial)
        self._print({"kind": kind, **summary})
        return 0

    def _print(self, summary: dict[str, Any]) -> None:
        summary["folder"] = str(self.folder)
        print(json.dumps(summary) if self.json else _sentence(summary))

    def _features(self) -> dict[str, Any]:
        from videoclip.data.feature_import import find_arrays, import_features, spec_of_arrays
        from videoclip.data.feature_store import FeatureStore

        arrays = find_arrays(self.file)
        spec = spec_of_arrays(arrays, self.backbone, self.features_per_second, self.normalized)
        with FeatureStore.open_or_create(self.folder, spec) as store:
            added = import_features(arrays, store)
            return {"added": len(added), "videos": len(store), "dim": spec.dim}

    def _s3d(self, file: Path, weights: Mapping[str, Tensor], folder: Path) -> dict[str, Any]:
        from videoclip.features.backbones import s3d

        network = s3d.build_network(weights, file)
        words = s3d.read_words(self.words or file.with_name(S3D_WORDS))
        s3d.save(network, words, folder)
        return {"num_parameters": _num_values(weights), "num_words": len(words)}

    def _videoclip(self, file: Path, weights: Mapping[str, Tensor], folder: Path) -> dict[str, Any]:
        from safetensors.torch import save_file

        from videoclip.data.tokenizer import Tokenizer
        from videoclip.model.convert import from_released

        tokenizer = Tokenizer.from_vocab(self.vocab) if self.vocab else None
        model, head = from_released(weights, self._unsaid(tokenizer), file)
        summary = _save(model, tokenizer, folder, file)
        if head:
            save_file(head, folder / HEAD_FILE)
            summary["head"] = HEAD_FILE
        return summary

    def _bert(self, file: Path, weights: Mapping[str, Tensor], folder: Path) -> dict[str, Any]:
        from videoclip.data.tokenizer import Tokenizer
        from videoclip.model.convert import from_bert
        from videoclip.recipes import RECIPES

        if self.recipe not in RECIPES:
            raise ConfigError(f"unknown recipe '{self.recipe}'; known: {', '.join(RECIPES)}")
        tokenizer = Tokenizer.from_vocab(self.vocab or file.with_name("vocab.txt"))
        config = replace(
            RECIPES[self.recipe]().model,
            pad_id=tokenizer.pad_id,
            cls_id=tokenizer.cls_id,
            sep_id=tokenizer.sep_id,
        )
        model = from_bert(weights, _bert_settings(file.parent), config, file.parent)
        return _save(model, tokenizer, folder, file)

    def _unsaid(self, tokenizer: Tokenizer | None) -> Unsaid:
        """The options, and what the vocabulary says."""
        from videoclip.model.convert import Unsaid

        ids = {}
        for name in ("pad_id", "cls_id", "sep_id"):
            ids[name] = getattr(self, name)
            if tokenizer and ids[name] not in (None, getattr(tokenizer, name)):
                raise ConfigError(f"--{name[:3]}-id contradicts {self.vocab}: leave it out")
            if tokenizer:
                ids[name] = getattr(tokenizer, name)
        return Unsaid(
            num_heads=self.num_heads,
            max_video_tokens=self.max_video_tokens,
            max_text_tokens=self.max_text_tokens,
            **ids,
        )


def _save(
    model: VideoCLIP, tokenizer: Tokenizer | None, folder: Path, where: Path
) -> dict[str, Any]:
    """Write a model folder, with its vocabulary if there is one, and say what it is."""
    config = model.config
    model.save_pretrained(folder)
    if tokenizer:
        if tokenizer.vocab_size != config.vocab_size:
            raise CheckpointError(
                f"{where} has {config.vocab_size} word pieces, the vocabulary "
                f"{tokenizer.vocab_size}: name the vocab.txt it was trained with by --vocab"
            )
        tokenizer.save(folder)
    return {
        "num_parameters": _num_values(dict(model.named_parameters())),
        "hidden_size": config.hidden_size,
        "num_video_layers": config.num_video_layers,
        "num_text_layers": config.num_text_layers,
        "vocabulary": tokenizer is not None,
    }


def _holds_arrays(folder: Path) -> bool:
    """Whether these are features: arrays, and no weights beside them."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    return names.isdisjoint((*BERT_FILES, S3D_WORDS)) and any(n.endswith(".npy") for n in names)


def _bert_file(folder: Path) -> Path:
    """The weights in a folder as `transformers` writes it."""
    for name in BERT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(
        f"{folder} has no {' or '.join(BERT_FILES)}, nor features VIDEO_ID.npy: name a folder or a "
        "file that has"
    )


def _bert_settings(folder: Path) -> Mapping[str, Any]:
    path = folder / "config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path} ({error}): a BERT needs it") from None
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path} is damaged: it holds no settings; get it again")
    return settings


def _num_values(weights: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in weights.values())


def _sentence(summary: Mapping[str, Any]) -> str:
    """What was made, and what is left to do."""
    folder = summary["folder"]
    if summary["kind"] == "features":
        return (
            f"{folder}: features of {summary['videos']:,} videos, {summary['dim']} wide, "
            f"{summary['added']:,} of them new\nuse it as --store {folder} or --features {folder}"
        )
    if summary["kind"] == "s3d":
        return (
            f"S3D with {summary['num_words']:,} words, {summary['num_parameters']:,} values, in "
            f"{folder}\nuse it as --backbone s3d:{folder}"
        )
    lines = [
        f"VideoCLIP of {summary['num_video_layers']} video and {summary['num_text_layers']} text "
        f"layers, {summary['hidden_size']} wide, {summary['num_parameters']:,} parameters, in "
        f"{folder}"
    ]
    if "head" in summary:
        lines.append(f"its action segmentation head is in {summary['head']} there")
    if not summary["vocabulary"]:
        lines.append(
            "to embed words it needs its vocab.txt there (bert-base-uncased's for the released "
            "model); --vocab puts it there"
        )
    return "\n".join(lines)
