"""What must agree between a model, its features and every index made with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from videoclip.config.codec import NotNegative, Positive, check_numbers, require

NUM_HEADS = {768: 12, 1024: 16}
"""Attention heads of bert-base and bert-large, by width."""
BERT_VOCABULARIES = {
    30522: "bert-*-uncased",
    28996: "bert-*-cased",
    119547: "bert-base-multilingual-cased",
    105879: "bert-base-multilingual-uncased",
    21128: "bert-base-chinese",
}
"""Published vocabularies by size."""
BERT_IDS = {"pad_id": 0, "cls_id": 101, "sep_id": 102}
"""Special ids, equal in all of them."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What must agree between a model, its features and every index made with it.

    Source: paper, sections 3.1 and 5.3; the special ids are those of bert-base-uncased.
    """

    feature_dim: Positive[int] = 512
    """Width D of one frozen feature."""
    features_per_second: Positive[float] = 1.0
    """Feature vectors per second of video."""
    backbone: str = "s3d"
    """Name of the frozen backbone the features must come from, as `load_backbone` takes it."""
    backbone_fingerprint: str = ""
    """Fingerprint of that backbone's weights and preprocessing (`FeatureSpec.fingerprint`); empty:
    not recorded, and only names are compared."""
    normalized_features: bool = True
    """Whether features are L2-normalised before they reach the model."""

    hidden_size: Positive[int] = 768
    """Width H of both towers, and of the embedding: E = H."""
    num_video_layers: Positive[int] = 6
    """Layers of the video tower."""
    num_text_layers: Positive[int] = 12
    """Layers of the text tower."""
    num_heads: Positive[int] = 12
    """Attention heads of each layer."""
    intermediate_size: Positive[int] = 3072
    """Width of the feed-forward layers."""
    dropout: float = 0.1
    """Share of activations that are dropped in training."""
    shared_encoder: bool = False
    """Use one encoder for both modalities, of `num_text_layers` layers (paper's ablation)."""
    dual_encoder: str = ""
    """Frozen dual encoder to which both towers add a learned residual, as `load_dual_encoder` takes
    it; empty: none."""
    dual_encoder_fingerprint: str = ""
    """Fingerprint of that dual encoder; empty: not recorded."""

    num_cross_layers: NotNegative[int] = 0
    """Layers of each of the cross-modal re-ranker's two encoders; 0: no re-ranker."""
    classes: tuple[str, ...] = ()
    """Names of the classes of a linear head over seconds, from class 1; class 0 is background.
    Empty: no head."""

    vocab_size: Positive[int] = 30522
    """Word pieces in the vocabulary."""
    max_positions: int = 512
    """Positions of the embedding tables: the longest sequence with special tokens."""
    pad_id: int = 0
    """Id of [PAD] in the vocabulary."""
    cls_id: int = 101
    """Id of [CLS] in the vocabulary."""
    sep_id: int = 102
    """Id of [SEP] in the vocabulary."""
    max_video_tokens: Positive[int] = 32
    """Longest video clip, in features."""
    max_text_tokens: Positive[int] = 61
    """Longest text clip, in word pieces, without special tokens."""

    pooling: Literal["mean", "cls", "plain_mean"] = "mean"
    """`mean`: real positions and [SEP], without [CLS] (paper); `cls`: [CLS] alone;
    `plain_mean`: every real position with both special ones."""
    normalize: bool = False
    """L2-normalise embeddings, so that similarity is a cosine."""
    temperature: Positive[float] = 1.0
    """Similarities are divided by it before the softmax."""
    learn_temperature: bool = False
    """Train the temperature."""
    learn_logit_bias: bool = False
    """A learned constant added to the logits, for the sigmoid loss."""

    def __post_init__(self) -> None:
        check_numbers(self, "model.")
        layers = self.num_video_layers + self.num_text_layers + 2 * self.num_cross_layers
        rows = self.vocab_size + self.max_positions + self.feature_dim
        rows *= 1 + bool(self.num_cross_layers)
        rows += layers * (4 * self.hidden_size + 2 * self.intermediate_size)
        is_plausible = layers <= 1000 and rows * self.hidden_size < 2**36
        require(is_plausible, "model: more than 1000 layers, or 2**36 weights")
        require(
            self.hidden_size % self.num_heads == 0,
            f"model.hidden_size ({self.hidden_size}) must be a multiple of "
            f"model.num_heads ({self.num_heads})",
        )
        longest = max(self.max_video_tokens, self.max_text_tokens) + 2
        if self.shared_encoder:
            longest = self.max_video_tokens + self.max_text_tokens + 3
        require(
            longest <= self.max_positions,
            f"model.max_positions ({self.max_positions}) must hold {longest} positions",
        )
        for name in ("pad_id", "cls_id", "sep_id"):
            require(
                0 <= getattr(self, name) < self.vocab_size, f"model.{name} must be a vocabulary id"
            )
        require(0.0 <= self.dropout < 1.0, "model.dropout must be in [0, 1)")
        require(
            not (self.shared_encoder and self.dual_encoder),
            "model.shared_encoder and model.dual_encoder exclude each other",
        )
        require(
            not (self.num_cross_layers and self.dual_encoder),
            "model.num_cross_layers and model.dual_encoder exclude each other",
        )
        require(
            not self.dual_encoder or (self.pooling == "plain_mean" and self.normalize),
            "model.dual_encoder needs model.pooling 'plain_mean' and model.normalize",
        )


@dataclass(frozen=True)
class ReleasedSettings:
    """What the shapes of released weights do not determine; None: as in bert-base and bert-large.

    Attributes:
        num_heads: Attention heads; needed where the width is neither 768 nor 1024.
        pad_id: Id of [PAD]; needed without a vocabulary, except for Google's BERTs.
        cls_id: Id of [CLS]; needed likewise.
        sep_id: Id of [SEP]; needed likewise.
        max_video_tokens: Longest video clip the weights were trained on, in features.
        max_text_tokens: Longest text the weights were trained on, in word pieces.
        leave_out: Beginnings of names of tensors to leave out, such as a head for pre-training; any
            other tensor without a place in our model is an error.
    """

    num_heads: int | None = None
    pad_id: int | None = None
    cls_id: int | None = None
    sep_id: int | None = None
    max_video_tokens: int = 32
    max_text_tokens: int = 61
    leave_out: tuple[str, ...] = ()

    def complete(self, hidden_size: int, vocab_size: int) -> dict[str, Any]:
        """Return all settings for weights of these sizes.

        Raises:
            ConfigError: If one is missing; the message names its option.
        """
        known = {"num_heads": NUM_HEADS.get(hidden_size)}
        known |= BERT_IDS if vocab_size in BERT_VOCABULARIES else {}
        settings = known | {name: value for name, value in vars(self).items() if value is not None}
        del settings["leave_out"]
        for name in ("num_heads", "pad_id", "cls_id", "sep_id"):
            ids = "" if name == "num_heads" else "--vocabulary or "
            require(
                settings.get(name) is not None,
                f"weights of width {hidden_size} for {vocab_size} word pieces do not determine "
                f"{name}; give {ids}--{name.replace('_', '-')}",
            )
        return settings


ConvertKind: TypeAlias = Literal[
    "auto", "videoclip", "s3d", "bert", "features", "captions", "project"
]
"""What a source of `convert` is."""


@dataclass(frozen=True)
class ConvertOptions:
    """What feature arrays, S3D and BERT weights do not say about themselves.

    Attributes:
        backbone: For features, and for a VideoCLIP that was not trained on S3D: the name of the
            backbone that computed them, or any other word for what is not videoclip's.
        features_per_second: For the same: their rate.
        normalized: For the same: whether each vector is L2-normalised.
        words: For S3D: its word list; by default s3d_dict.npy beside the weights.
        recipe: For a BERT: the recipe whose model it will initialise.
    """

    backbone: str = "s3d"
    features_per_second: float = 1.0
    normalized: bool = False
    words: Path | None = None
    recipe: str = "paper"
