"""Every setting of the project: frozen dataclasses that check themselves, to and from plain dicts.

Nothing here imports torch, so that `videoclip --help` stays quick. Defaults are the paper's
(arXiv 2109.14084); other complete combinations have names in `recipes.py`.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from videoclip.errors import ConfigError

__all__ = [
    "ClipConfig",
    "EvaluateConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "PlanConfig",
    "PretrainConfig",
    "from_dict",
    "to_dict",
]

ConfigT = TypeVar("ConfigT")


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What must agree between a model, its features and every index made with it.

    Source: paper, section 4.1 and appendix; the special ids are those of bert-base-uncased.
    """

    feature_dim: int = 512
    """Width D of one frozen feature."""
    features_per_second: float = 1.0
    """Feature vectors per second of video."""
    backbone: str = "s3d"
    """Name of the frozen backbone the features must come from."""
    normalized_features: bool = True
    """Whether features are L2-normalised before they reach the model."""

    hidden_size: int = 768
    """Width H of both towers, and of the embedding: E = H."""
    num_video_layers: int = 6
    num_text_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    """Width of the feed-forward layers."""
    dropout: float = 0.1
    shared_encoder: bool = False
    """One encoder for both modalities, of `num_text_layers` layers (paper's ablation)."""
    num_bridge_classes: int = 0
    """Classes of the starter's bridge from image classes to text space; 0: no bridge."""
    bridge_temperature: float = 2.0
    """The bridge divides class logits by it before its softmax: 1 is what classifiers train with,
    2 keeps more of what else the picture may show."""

    num_cross_layers: int = 0
    """Layers of the cross-modal re-ranker; 0: no re-ranker."""

    vocab_size: int = 30522
    max_positions: int = 512
    pad_id: int = 0
    cls_id: int = 101
    sep_id: int = 102
    max_video_tokens: int = 32
    """Longest video clip, in features."""
    max_text_tokens: int = 61
    """Longest text clip, in word pieces, without special tokens."""

    pooling: Literal["mean", "cls", "plain_mean"] = "mean"
    """`mean`: real positions and [SEP], without [CLS] (paper); `cls`: [CLS] alone;
    `plain_mean`: every real position with both special ones."""
    normalize: bool = False
    """L2-normalise embeddings, so that similarity is a cosine."""
    temperature: float = 1.0
    """Similarities are divided by it before the softmax."""
    learn_temperature: bool = False
    learn_logit_bias: bool = False
    """A learned constant added to the logits, for the sigmoid loss."""

    def __post_init__(self) -> None:
        for name in ("feature_dim", "hidden_size", "num_heads", "intermediate_size", "vocab_size"):
            _check(getattr(self, name) > 0, f"model.{name} must be positive")
        for name in ("num_video_layers", "num_text_layers", "max_video_tokens", "max_text_tokens"):
            _check(getattr(self, name) > 0, f"model.{name} must be positive")
        _check(
            self.hidden_size % self.num_heads == 0,
            f"model.hidden_size ({self.hidden_size}) must be a multiple of "
            f"model.num_heads ({self.num_heads})",
        )
        longest = max(self.max_video_tokens, self.max_text_tokens) + 2
        if self.shared_encoder:
            longest = self.max_video_tokens + self.max_text_tokens + 3
        _check(
            longest <= self.max_positions,
            f"model.max_positions ({self.max_positions}) must hold {longest} positions",
        )
        for name in ("pad_id", "cls_id", "sep_id"):
            _check(
                0 <= getattr(self, name) < self.vocab_size, f"model.{name} must be a vocabulary id"
            )
        _check(0.0 <= self.dropout < 1.0, "model.dropout must be in [0, 1)")
        _check(self.temperature > 0, "model.temperature must be positive")
        _check(self.features_per_second > 0, "model.features_per_second must be positive")
        _check(
            not (self.shared_encoder and self.num_bridge_classes),
            "model.shared_encoder and model.num_bridge_classes exclude each other",
        )
        _check(
            not self.num_bridge_classes or self.pooling == "plain_mean",
            "model.num_bridge_classes needs model.pooling 'plain_mean'",
        )
        _check(self.bridge_temperature > 0, "model.bridge_temperature must be positive")


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """How clip pairs are drawn from one narrated video. Source: paper, section 3.2.

    Lengths in tokens are word pieces; seconds equal features at one feature a second.
    """

    strategy: Literal["overlapped", "aligned", "start", "mil_nce"] = "overlapped"
    """`overlapped`: the method; `aligned`: the narration's own span; `start`: from the first cue;
    `mil_nce`: a short clip with several candidate cues."""
    clips_per_video: int = 16
    """Clip pairs drawn from a video each time it is visited."""
    min_text_tokens: int = 8
    max_text_tokens: int = 64
    """Target length of a text clip, drawn uniformly from [min_text_tokens, max_text_tokens]."""
    min_video_seconds: int = 3
    max_video_seconds: int = 32
    """Length of a video clip, drawn uniformly from [min_video_seconds, max_video_seconds]."""
    max_text_span_seconds: float = 256.0
    """A text clip stops growing once it spans this long."""
    text_capacity: int = 61
    """Tokens beyond this are cut (and the target of the `start` strategy)."""
    min_iou: float = 0.0
    """Keep a pair only if the overlap ratio of its two spans reaches this; 0: keep all."""
    max_iou_tries: int = 20
    """Draws before the best pair so far is kept although it misses `min_iou`."""
    num_candidates: int = 4
    """Candidate cues of a `mil_nce` clip."""
    mil_nce_min_seconds: float = 5.0
    """A `mil_nce` window is widened to this."""
    mil_nce_clip_seconds: float = 3.2
    """Length of a `mil_nce` video clip before rounding down to features."""

    def __post_init__(self) -> None:
        _check(self.clips_per_video > 0, "clips.clips_per_video must be positive")
        _check(
            0 < self.min_text_tokens <= self.max_text_tokens,
            "clips.min_text_tokens must be in [1, clips.max_text_tokens]",
        )
        _check(
            0 < self.min_video_seconds <= self.max_video_seconds,
            "clips.min_video_seconds must be in [1, clips.max_video_seconds]",
        )
        _check(0.0 <= self.min_iou <= 1.0, "clips.min_iou must be in [0, 1]")
        _check(self.text_capacity > 0, "clips.text_capacity must be positive")
        _check(self.num_candidates > 0, "clips.num_candidates must be positive")


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """Which videos share a batch. Source: paper, section 3.3."""

    kind: Literal["consecutive", "shuffled", "retrieval", "mined"] = "retrieval"
    """`retrieval`: mutually near videos found every epoch (the method); `mined`: the same without
    the nearest, likely false negatives."""
    videos_per_batch: int = 32
    num_candidates: int = 64
    """Nearest videos a batch is sampled from (2k in the paper; k is its "retrieve k" ablation)."""
    first_epoch: int = 1
    """Epoch, from 1, of the first retrieved plan; shuffled before."""
    vector_strategy: Literal["overlapped", "aligned", "start"] = "aligned"
    """Clip pairs whose mean embedding stands for a video."""
    clips_per_vector: int = 16
    drop_nearest: int = 0
    """`mined`: nearest neighbours left out of a batch as likely false negatives."""
    max_similarity: float = 1.0
    """`mined`: videos whose vectors have a higher cosine never share a batch; 1: no limit."""

    def __post_init__(self) -> None:
        _check(self.videos_per_batch > 0, "plan.videos_per_batch must be positive")
        _check(
            self.num_candidates >= self.videos_per_batch,
            "plan.num_candidates must be at least plan.videos_per_batch",
        )
        _check(self.drop_nearest >= 0, "plan.drop_nearest must not be negative")
        _check(-1.0 <= self.max_similarity <= 1.0, "plan.max_similarity must be in [-1, 1]")
        _check(self.clips_per_vector > 0, "plan.clips_per_vector must be positive")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The contrastive objective. Source: paper, section 3.1; alternatives named in `losses.py`."""

    kind: Literal["infonce", "text_to_video", "video_to_text", "mil_nce", "sigmoid"] = "infonce"
    negatives: Literal["local", "global"] = "local"
    """`local`: this process's batch, as released; `global`: gathered over all processes."""
    soft_target_share: float = 0.0
    """Share of the target spread over likely false negatives (Sinkhorn); 0: one-hot targets."""

    num_hard_negatives: int = 8
    """Negatives a text for the re-ranker, where the model has one."""
    hard_similarity: float = 0.5
    """Cosine between videos from which a negative counts as hard."""
    reranking_temperature: float = 0.07

    def __post_init__(self) -> None:
        _check(0.0 <= self.soft_target_share < 1.0, "loss.soft_target_share must be in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimiser and learning rate. Source: released hyper-parameters, docs/paper-to-code.md."""

    optimizer: Literal["adamw", "fairseq_adam"] = "fairseq_adam"
    """`fairseq_adam` adds epsilon to sqrt(v) before the bias correction, as the release does."""
    lr: float = 5e-5
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 2.0
    """Largest norm of the gradient over all parameters; 0: no clipping."""
    schedule: Literal["polynomial", "cosine", "constant"] = "polynomial"
    """After the warm-up: polynomial of power 1 or half a cosine down to 0 at `total_updates`."""
    warmup_updates: int = 1000
    """Linear warm-up; the very first update has learning rate 0, as released."""
    total_updates: int = 1_000_000
    """Horizon of the schedule; 0: the length of the run."""

    def __post_init__(self) -> None:
        _check(self.lr > 0, "optim.lr must be positive")
        _check(all(0 <= b < 1 for b in self.betas), "optim.betas must be in [0, 1)")
        _check(self.eps > 0, "optim.eps must be positive")
        _check(self.clip_norm >= 0, "optim.clip_norm must not be negative")
        _check(self.warmup_updates >= 0, "optim.warmup_updates must not be negative")
        _check(self.total_updates >= 0, "optim.total_updates must not be negative")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """A complete pre-training run; named ones are in `recipes.py`."""

    name: str = "paper"
    model: ModelConfig = field(default_factory=ModelConfig)
    clips: ClipConfig = field(default_factory=ClipConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    epochs: int = 25
    seed: int = 1
    frozen: tuple[str, ...] = ()
    """Prefixes of parameter names that are not trained."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 autocast where it measures as a gain on the device at hand."""
    compile: bool = False
    """Compile the towers with `torch.compile` (pays on GPUs only)."""
    chunk_pairs: int = 0
    """Pairs per forward pass of gradient caching, exact for any batch; 0: whole batches."""
    num_workers: int = 0
    """Processes that prepare batches."""
    validation_videos: int = 0
    """Videos held out (the last of a seeded shuffle) for the validation loss; 0: none."""
    save_every_updates: int = 500
    keep_checkpoints: int = 2
    """Checkpoints kept besides the best."""

    def __post_init__(self) -> None:
        _check(self.epochs > 0, "epochs must be positive")
        _check(self.chunk_pairs >= 0, "chunk_pairs must not be negative")
        _check(self.save_every_updates > 0, "save_every_updates must be positive")
        _check(self.keep_checkpoints > 0, "keep_checkpoints must be positive")
        _check(self.validation_videos >= 0, "validation_videos must not be negative")
        _check(
            self.clips.max_video_seconds * self.model.features_per_second
            <= self.model.max_video_tokens,
            f"clips.max_video_seconds ({self.clips.max_video_seconds}) at "
            f"{self.model.features_per_second:g} features a second does not fit "
            f"model.max_video_tokens ({self.model.max_video_tokens})",
        )
        _check(
            self.clips.text_capacity <= self.model.max_text_tokens,
            f"clips.text_capacity ({self.clips.text_capacity}) exceeds "
            f"model.max_text_tokens ({self.model.max_text_tokens})",
        )
        _check(
            (self.loss.kind == "mil_nce") == (self.clips.strategy == "mil_nce"),
            "loss.kind 'mil_nce' and clips.strategy 'mil_nce' go together",
        )
        _check(
            not self.model.learn_logit_bias or self.loss.kind == "sigmoid",
            "model.learn_logit_bias is for loss.kind 'sigmoid'",
        )
        _check(
            not (self.model.num_cross_layers and (self.chunk_pairs or self.loss.kind == "mil_nce")),
            "a re-ranker (model.num_cross_layers) compares the pairs of a whole batch: set "
            "chunk_pairs to 0 and do not use loss.kind 'mil_nce'",
        )


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How a benchmark is scored; what a protocol used is printed with its numbers."""

    clip_seconds: float = 32.0
    """Retrieval and questions see this much of each clip, from its start, as released; 0: all of
    it, as the mean of its pieces."""
    ties: Literal["unbiased", "released"] = "unbiased"
    """`unbiased`: equal similarities count as if in random order; `released`: each place a tie may
    take is an entry of its own."""
    dual_softmax: float = 0.0
    """Temperature of a softmax over all test queries, which lifts retrieval; 0: none."""
    background: Literal["fitted", "balanced", "released"] = "fitted"
    """Threshold below which a second is background: best frame accuracy on training videos; best
    mean accuracy of foreground and background there; or the largest label-label similarity."""
    fitting_videos: int = 300
    """Training videos, drawn at random, that a fitted threshold is chosen on."""
    exactly_one: bool = True
    """Each step of a task takes exactly one second, as released; otherwise a run of them."""
    attend_cls: bool = False
    """Whether seconds may attend to [CLS] in localisation and segmentation; not as released."""
    rerank_top: int = 0
    """Best clips of each text, and all choices of a question, that the model's re-ranker looks at
    again; 0: none."""
    num_resamples: int = 1000
    """Bootstrap resamples of the test videos for the 95 % intervals."""
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.clip_seconds >= 0, "clip_seconds must not be negative")
        _check(self.dual_softmax >= 0, "dual_softmax must not be negative")
        _check(self.fitting_videos > 0, "fitting_videos must be positive")
        _check(self.rerank_top >= 0, "rerank_top must not be negative")
        _check(self.num_resamples > 0, "num_resamples must be positive")
        _check(
            not (self.dual_softmax and self.ties == "released"),
            "dual_softmax and ties 'released' exclude each other: the release has none",
        )


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config as nested plain dicts (tuples become lists), ready for JSON."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return value

    result = plain(config)
    assert isinstance(result, dict)
    return result


def from_dict(cls: type[ConfigT], values: Mapping[str, Any], where: str = "") -> ConfigT:
    """Build a config from nested plain dicts; the inverse of `to_dict`.

    Args:
        cls: A config dataclass of this module.
        values: Field values; a missing field keeps its default.
        where: Dotted prefix used in messages.

    Raises:
        ConfigError: On an unknown key (naming the nearest known one) or a value of another type.
    """
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    kwargs = {}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; perhaps you meant '{where}{near[0]}'" if near else ""
            raise ConfigError(f"unknown setting '{where}{key}'{hint}")
        kwargs[key] = _typed(value, hints[key], f"{where}{key}")
    return cls(**kwargs)


def _typed(value: Any, hint: Any, where: str) -> Any:
    """Check one value against its annotation; JSON's lists become tuples, its ints floats."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        _check(isinstance(value, Mapping), f"{where} must be a table of settings, got {value!r}")
        return from_dict(hint, value, where + ".")
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        _check(value in args, f"{where} must be one of {', '.join(map(repr, args))}, got {value!r}")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None:
            _check(type(None) in args, f"{where} must not be null")
            return None
        (inner,) = (a for a in args if a is not type(None))
        return _typed(value, inner, where)
    if origin is tuple:
        _check(isinstance(value, (list, tuple)), f"{where} must be a list, got {value!r}")
        inner_hints = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        _check(len(inner_hints) == len(value), f"{where} must have {len(inner_hints)} entries")
        return tuple(_typed(v, h, where) for v, h in zip(value, inner_hints, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    right = isinstance(value, hint) and not (hint is int and isinstance(value, bool))
    _check(right, f"{where} must be of type {hint.__name__}, got {value!r}")
    return value
