"""Build models from the weights of others: released VideoCLIP checkpoints, BERT, the starter.

Every tensor is renamed by the tables below and checked by name and shape; only tensors listed as
unused may be left over. Sizes come from the shapes. What shapes do not determine is given by
`ReleasedSettings`.

The starter model is useful before any training and made of weights that come as packages: texts are
embedded by all-MiniLM-L6-v2, frames by the bridge from ImageNet's classes to that space. Training
on one's own narrated videos starts there (`videoclip pretrain starter`).

Source: the published names, which are those of every BERT checkpoint.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videoclip.config import BERT_VOCABULARIES, ModelConfig, ReleasedSettings
from videoclip.data.tokenizer import Tokenizer
from videoclip.errors import CheckpointError
from videoclip.model.dual_encoder import FrozenTowers
from videoclip.model.encoders import ClassBridge, SentenceTower
from videoclip.model.transformer import BERT_NORM_EPS
from videoclip.model.videoclip import VideoCLIP
from videoclip.recipes import starter
from videoclip.weights.files import (
    check_shapes,
    image_weights_file,
    read_weights,
    sampled_digest,
    text_folder,
)

# Our name of a module: its names in a checkpoint, whose weights are stacked in this order.
Names = Mapping[str, tuple[str, ...]]

EMBEDDING_NAMES: Names = {
    "word_embeddings": ("embeddings.word_embeddings",),
    "position_embeddings": ("embeddings.position_embeddings",),
    "type_embeddings": ("embeddings.token_type_embeddings",),
    "embedding_norm": ("embeddings.LayerNorm",),
}
LAYER_NAMES: Names = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention_out": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "feed_in": ("intermediate.dense",),
    "feed_out": ("output.dense",),
    "feed_norm": ("output.LayerNorm",),
}
VIDEO_MLP_NAMES: Names = {
    "linear1": ("videomlp.linear1",),
    "norm": ("videomlp.LayerNorm",),
    "linear2": ("videomlp.linear2",),
}

PREFIX = "mmmodel."
"""Prefix of every name in some of the released files."""
HEAD = re.compile(r"(video|mm)_encoder\.classifier\.")
"""Head of a model fine-tuned for action segmentation."""
MASKED_MODEL_HEAD = re.compile(r"(.*\.)?cls\.(predictions|seq_relationship)\..*")
"""BERT's own heads for pre-training, which VLM trains further: no tower needs them."""
UNUSED = re.compile(r"(.*\.)?(pooler\.dense\.(weight|bias)|embeddings\.position_ids)")
"""Tensors that the released code loads and never uses."""
BERT_HEADS = re.compile(r"(cls|classifier|qa_outputs)\..*")
"""Heads for pre-training and tasks of BERT, which the towers do not need."""

VIDEO_WORDS = "video_encoder.bert.word_embeddings.weight"
"""Filled with the rows [CLS] and [SEP] of the checkpoint's word table, all that is ever read."""

CLASS_TABLE = Path(__file__).with_name("starter_classes.safetensors")
"""Made from text encoder and classifier by `tools/starter_classes.py`, and kept as a file
so that the starter model loads at once and is bit-identical on every machine."""


def kind_of(names: Iterable[str]) -> str:
    """Return the kind of weights by their names: "videoclip", "s3d", "bert"; "" if unknown."""
    names = [name.removeprefix(PREFIX) for name in names]
    if any(name.startswith(("video_encoder.", "mm_encoder.")) for name in names):
        return "videoclip"
    if any(name.startswith("mixed_5c.") for name in names):
        return "s3d"
    if any(name.endswith("embeddings.word_embeddings.weight") for name in names):
        return "bert"
    return ""


def from_released(
    weights: Mapping[str, Tensor], settings: ReleasedSettings, where: Path | str
) -> tuple[VideoCLIP, dict[str, Tensor]]:
    """Build a model from a checkpoint of the MMPT family: two towers, or one encoder for both.

    VideoCLIP, TempCLR, Norton and SignCLIP have two towers, VLM and the paper's ablation one
    encoder. They differ in sizes and heads, which `released_differences` names.

    Args:
        weights: By their published names, with or without the prefix `mmmodel.`.
        settings: What the shapes do not determine.
        where: Their file, for messages.

    Returns:
        The model; and `weight` (K, H) and `bias` (K,) of the head of a model fine-tuned for action
        segmentation, empty for all others.

    Raises:
        CheckpointError: Naming tensors that are missing, unexpected or of another shape.
        ConfigError: If something that the shapes do not determine is missing in `settings`.
    """
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}
    weights = {n: tensor for n, tensor in weights.items() if not is_left_out(n, settings)}
    head = {HEAD.sub("", n): weights.pop(n) for n in list(weights) if HEAD.match(n)}
    shared = any(name.startswith("mm_encoder.") for name in weights)
    video, text = (
        ("mm_encoder.", "mm_encoder.bert.") if shared else ("video_encoder.", "text_encoder.")
    )

    sizes = _bert_sizes(weights, text, where)
    config = ModelConfig(
        **sizes,
        **settings.complete(sizes["hidden_size"], sizes["vocab_size"]),
        feature_dim=_matrix(weights, f"{video}videomlp.linear1.weight", where).shape[1],
        num_video_layers=_num_layers(weights, f"{video}bert."),
        num_text_layers=_num_layers(weights, text),
        shared_encoder=shared,
    )
    names = {
        **_renamed(VIDEO_MLP_NAMES, "video_encoder.mlp.", video),
        **_bert_names("video_encoder.bert.", f"{video}bert.", config.num_video_layers),
        **_bert_names("text_encoder.bert.", text, config.num_text_layers),
    }
    return _filled(config, weights, names, where), head


def is_left_out(name: str, settings: ReleasedSettings) -> bool:
    """Whether a tensor of a checkpoint, named without its prefix, has no place in our model."""
    return bool(
        UNUSED.fullmatch(name)
        or MASKED_MODEL_HEAD.fullmatch(name)
        or name.startswith(settings.leave_out)
    )


def released_differences(
    names: Iterable[str], config: ModelConfig, settings: ReleasedSettings
) -> list[str]:
    """Return where a checkpoint differs from the released VideoCLIP, a line for each difference.

    Args:
        names: Of its tensors.
        config: Of the model made from it.
        settings: The settings it was made with.
    """
    usual = ModelConfig()
    found = []
    if config.shared_encoder:
        found.append("one encoder for both modalities, as in VLM, not two towers")
    for name in (
        *("feature_dim", "hidden_size", "num_video_layers", "num_text_layers", "num_heads"),
        *("intermediate_size", "max_positions", "max_video_tokens", "max_text_tokens"),
    ):
        if getattr(config, name) != getattr(usual, name) and not (
            config.shared_encoder and name == "num_video_layers"
        ):
            found.append(f"{name} {getattr(config, name)}, not {getattr(usual, name)}")
    if config.vocab_size != usual.vocab_size:
        known = BERT_VOCABULARIES.get(config.vocab_size, "unknown")
        found.append(
            f"vocabulary of {config.vocab_size:,} word pieces ({known}), not {usual.vocab_size:,} "
            f"({BERT_VOCABULARIES[usual.vocab_size]})"
        )
    names = [name.removeprefix(PREFIX) for name in names]
    left_out = [n for n in names if is_left_out(n, settings) and not UNUSED.fullmatch(n)]
    groups = Counter(".".join(name.split(".")[:2]) for name in left_out)
    found += [f"left out: {number} tensors of {group}" for group, number in groups.items()]
    if any(map(HEAD.match, names)):
        found.append("a head for action segmentation")
    return found


def from_bert(
    weights: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    config: ModelConfig,
    where: Path | str,
    *,
    seed: int = 0,
) -> VideoCLIP:
    """Build a model to train from a BERT: its layers in both towers, and a random video MLP.

    The video tower takes the first `config.num_video_layers` layers, or all if there are fewer.

    Args:
        weights: By the names of `transformers`, with or without the prefix `bert.`.
        settings: Its `config.json`.
        config: Settings of the model; sizes that the BERT determines are replaced.
        where: Its folder, for messages.
        seed: Seed of the weights that the BERT does not have.

    Raises:
        CheckpointError: If it is not a BERT, or naming tensors that are missing, unexpected or of
            another shape.
        ConfigError: If the settings do not fit these sizes.

    Source: paper, section 5.3 (both encoders start from bert-base-uncased).
    """
    _check_is_bert(settings, where)
    plain = {
        re.sub(r"gamma$", "weight", re.sub(r"beta$", "bias", n)): w for n, w in weights.items()
    }
    plain = {name.removeprefix("bert."): tensor for name, tensor in plain.items()}
    plain = {n: w for n, w in plain.items() if not (UNUSED.fullmatch(n) or BERT_HEADS.fullmatch(n))}
    num_layers = _num_layers(plain, "")
    config = replace(
        config,
        **_bert_sizes(plain, "", where),
        num_heads=settings["num_attention_heads"],
        num_video_layers=min(config.num_video_layers, num_layers),
        num_text_layers=num_layers,
    )
    names = {
        **_bert_names("video_encoder.bert.", "", config.num_video_layers),
        **_bert_names("text_encoder.bert.", "", num_layers),
    }
    if config.num_cross_layers:
        config = replace(config, num_cross_layers=min(config.num_cross_layers, num_layers))
        for encoder in ("video_encoder", "text_encoder"):
            names |= _bert_names(f"reranker.{encoder}.bert.", "", config.num_cross_layers)
    model = _filled(config, plain, names, where)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        initialised = ("video_encoder.bert", "text_encoder")
        model.initialise(skip=(*initialised, *(f"reranker.{name}" for name in initialised)))
    return model


def _filled(
    config: ModelConfig, weights: Mapping[str, Tensor], names: Names, where: Path | str
) -> VideoCLIP:
    """Build a model from renamed weights; all must be used, and fit.

    Weights are used in place, also from mapped files; parameters without weights are zero.
    """
    model = VideoCLIP.without_weights(config)
    state = model.state_dict()
    wanted = {}
    for ours, theirs in names.items():
        rows, *columns = state[ours].shape
        if ours.endswith(VIDEO_WORDS):
            rows = config.vocab_size
        wanted.update({name: (rows // len(theirs), *columns) for name in theirs})
    check_shapes(weights, wanted, where)
    filled: dict[str, Tensor] = {}
    taken: set[str] = set()
    for ours, shaped in state.items():
        if ours not in names:
            filled[ours] = torch.zeros(shaped.shape)
            continue
        parts = [weights[name] for name in names[ours]]
        if ours.endswith(VIDEO_WORDS) and len(shaped) < len(parts[0]):
            filled[ours] = parts[0][[config.cls_id, config.sep_id]]
        elif len(parts) > 1 or names[ours][0] in taken:  # the towers must not share memory
            filled[ours] = torch.cat(parts)
        else:
            filled[ours] = parts[0]
        taken.update(names[ours])
    model.load_state_dict(filled, assign=True)
    return model


def _bert_names(ours: str, theirs: str, num_layers: int) -> dict[str, tuple[str, ...]]:
    """Map our names of a tower's parameters to those of the checkpoint."""
    names = _renamed(EMBEDDING_NAMES, ours, theirs)
    for i in range(num_layers):
        names |= _renamed(LAYER_NAMES, f"{ours}layers.{i}.", f"{theirs}encoder.layer.{i}.")
    return names


def _renamed(modules: Names, ours: str, theirs: str) -> dict[str, tuple[str, ...]]:
    """Map our names of the parameters of modules to those of the checkpoint."""
    return {
        f"{ours}{module}.{kind}": tuple(f"{theirs}{name}.{kind}" for name in names)
        for module, names in modules.items()
        for kind in ("weight", "bias")
        if kind == "weight" or not module.endswith("embeddings")
    }


def _bert_sizes(weights: Mapping[str, Tensor], prefix: str, where: Path | str) -> dict[str, Any]:
    """Return the sizes of a BERT by the shapes of three tensors."""
    words = _matrix(weights, f"{prefix}embeddings.word_embeddings.weight", where)
    positions = _matrix(weights, f"{prefix}embeddings.position_embeddings.weight", where)
    feed_in = _matrix(weights, f"{prefix}encoder.layer.0.intermediate.dense.weight", where)
    return {
        "vocab_size": words.shape[0],
        "hidden_size": words.shape[1],
        "max_positions": positions.shape[0],
        "intermediate_size": feed_in.shape[0],
    }


def _matrix(weights: Mapping[str, Tensor], name: str, where: Path | str) -> Tensor:
    """Return a tensor that determines sizes, or raise if it is missing."""
    if name not in weights:
        raise CheckpointError(f"{where} has other weights than expected: missing: '{name}'")
    if weights[name].ndim != 2 or not weights[name].numel():
        raise CheckpointError(
            f"{where} is damaged: '{name}' is {tuple(weights[name].shape)}, not a matrix; download "
            "it again"
        )
    return weights[name]


def _num_layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Count the layers; a gap in their numbers shows up as missing tensors."""
    pattern = re.compile(re.escape(prefix) + r"encoder\.layer\.(\d+)\..*")
    return len({match[1] for name in weights if (match := pattern.fullmatch(name))})


def _check_is_bert(settings: Mapping[str, Any], where: Path | str) -> None:
    """Refuse a BERT that computes something other than our towers."""
    wanted = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "layer_norm_eps": BERT_NORM_EPS,
        "position_embedding_type": "absolute",
    }
    for name, value in wanted.items():
        if settings.get(name, value) != value:
            raise CheckpointError(
                f"{where} is not a plain BERT ({name} is {settings[name]!r}, not {value!r}): its "
                "weights would compute something else here"
            )
    if not isinstance(settings.get("num_attention_heads"), int):
        raise CheckpointError(f"{where}: config.json has no num_attention_heads: download it again")


def starter_model() -> tuple[VideoCLIP, Tokenizer]:
    """Build the starter model from the installed packages; both residuals are zero.

    Raises:
        MissingExtraError: If a package is not installed.
        CheckpointError: If its weights are damaged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VideoCLIP(starter().model).eval(), Tokenizer.from_folder(text_folder())


def starter_towers() -> FrozenTowers:
    """Return the starter's frozen towers: `ClassBridge` and `SentenceTower`.

    Raises:
        MissingExtraError: If a package is not installed.
        CheckpointError: If its weights are damaged.
    """
    folder = text_folder()
    files = [folder / name for name in ("model.safetensors", "config.json", "vocab.txt")]
    fingerprint = sampled_digest([image_weights_file(), *files, CLASS_TABLE])[:16]
    classifier = read_weights(image_weights_file(), ("_fc.weight", "_fc.bias"))
    table = read_weights(CLASS_TABLE)
    frames = ClassBridge(
        classifier["_fc.weight"],
        classifier["_fc.bias"],
        table["class_embeddings"],
        table["attribute_embeddings"],
        table["class_directions"],
    )
    texts = SentenceTower(
        sentence_model().text_encoder,
        table["offset"],
        table["projection"],
        table["class_sentences"],
        table["class_directions"],
    )
    return FrozenTowers(frames, texts, fingerprint)


def sentence_model() -> VideoCLIP:
    """Build a model whose texts are plain sentence embeddings; its video tower is not used.

    Its vocabulary is in `text_folder`.

    Raises:
        MissingExtraError: If the package of the sentence encoder is not installed.
        CheckpointError: If its weights are damaged.
    """
    folder = text_folder()
    weights = read_weights(folder / "model.safetensors")
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    plain = replace(starter().model, dual_encoder="")
    return from_bert(weights, settings, plain, folder).eval()
