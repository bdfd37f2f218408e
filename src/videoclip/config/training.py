"""How a model is trained and scored: clip pairs, batches, loss, optimiser, protocol, runs."""

import pkgutil
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from videoclip.config.codec import NotNegative, Positive, check_numbers, require
from videoclip.config.model import ModelConfig

_FOLDER = Path(__file__).parents[1] / "model" / "losses"
LOSSES = tuple(sorted(module.name for module in pkgutil.iter_modules([str(_FOLDER)])))
"""Names of all losses: the modules of `videoclip.model.losses`, which are not imported here."""
RELATING_LOSSES = ("equal_sentences", "neighbours", "time_warping", "transport")
"""Those that depend on the words of pairs or on their places in their videos."""
if TYPE_CHECKING:
    LossKind: TypeAlias = str
else:
    LossKind = Literal[LOSSES]


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """How clip pairs are drawn from one narrated video. Source: paper, section 3.3.

    Lengths in tokens are word pieces; seconds equal features at one feature a second. A text clip
    is made of whole cues, so it may exceed its target length; it is cut at
    `ModelConfig.max_text_tokens`.
    """

    strategy: Literal["overlapped", "aligned", "start", "mil_nce"] = "overlapped"
    """`overlapped`: the method; `aligned`: the narration's own span; `start`: from the first cue;
    `mil_nce`: a short clip with several candidate cues."""
    clips_per_video: Positive[int] = 16
    """Clip pairs drawn from a video each time it is visited."""
    min_text_tokens: int = 8
    """Shortest target length of a text clip."""
    max_text_tokens: int = 64
    """Target length of a text clip, drawn uniformly from [min_text_tokens, max_text_tokens]."""
    min_video_seconds: int = 3
    """Shortest length of a video clip."""
    max_video_seconds: int = 32
    """Length of a video clip, drawn uniformly from [min_video_seconds, max_video_seconds]."""
    max_text_span_seconds: Positive[float] = 256.0
    """A text clip stops growing once it spans this long."""
    max_pause_seconds: NotNegative[float] = 0.0
    """A text clip does not grow across a longer silence, so that it is a sentence where speakers
    pause between sentences; 0: it grows across any."""
    lead_seconds: int = 0
    """Seconds by which narration precedes the action: centres of `overlapped` video clips are moved
    later by as much."""
    learn_lead: bool = False
    """Fit a distribution of leads to the model's similarities before every epoch whose plan is made
    from video vectors, and draw from it for each visit to a video; until then `lead_seconds`."""
    min_iou: float = 0.0
    """Keep a pair only if the overlap ratio of its two spans, the text's moved by `lead_seconds`,
    reaches this; 0: keep all."""
    max_iou_tries: Positive[int] = 20
    """Draws after which the best pair so far is kept although it misses `min_iou`."""
    num_candidates: Positive[int] = 4
    """`mil_nce`: number of candidate cues of each clip."""
    mil_nce_min_seconds: Positive[float] = 5.0
    """A `mil_nce` window is widened to this."""
    mil_nce_clip_seconds: Positive[float] = 3.2
    """Length of a `mil_nce` video clip before rounding down to features."""

    def __post_init__(self) -> None:
        check_numbers(self, "clips.")
        require(
            0 < self.min_text_tokens <= self.max_text_tokens,
            "clips.min_text_tokens must be in [1, clips.max_text_tokens]",
        )
        require(
            0 < self.min_video_seconds <= self.max_video_seconds,
            "clips.min_video_seconds must be in [1, clips.max_video_seconds]",
        )
        require(0.0 <= self.min_iou <= 1.0, "clips.min_iou must be in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """Which videos share a batch. Source: paper, section 3.4."""

    kind: Literal["consecutive", "shuffled", "retrieval", "mined"] = "retrieval"
    """`retrieval`: similar videos share a batch (the method); `mined`: similar videos, but not the
    most similar ones, which are likely false negatives."""
    videos_per_batch: Positive[int] = 32
    """Videos in a batch of one process."""
    num_neighbours: int = 64
    """`retrieval`: nearest videos a batch is sampled from (2k in the paper; k is its "retrieve k"
    ablation)."""
    first_epoch: int = 1
    """First epoch (from 1) with a `retrieval` or `mined` plan; earlier epochs are shuffled."""
    vector_strategy: Literal["overlapped", "aligned", "start"] = "aligned"
    """How the clip pairs are drawn whose mean embedding represents a video."""
    clips_per_vector: Positive[int] = 16
    """Clip pairs averaged into the vector of a video."""
    teacher: str | None = None
    """Model folder, hub id or "starter" whose embeddings define similarity, computed once; by
    default the model being trained, before every epoch."""
    drop_nearest: NotNegative[int] = 0
    """`mined`: nearest neighbours left out of a batch as likely false negatives."""
    max_similarity: float = 1.0
    """`mined`: videos whose vectors have a higher cosine similarity never share a batch; 1: no
    limit."""

    def __post_init__(self) -> None:
        check_numbers(self, "plan.")
        require(
            self.kind != "retrieval" or self.num_neighbours >= self.videos_per_batch,
            "plan.num_neighbours must be at least plan.videos_per_batch",
        )
        require(-1.0 <= self.max_similarity <= 1.0, "plan.max_similarity must be in [-1, 1]")
        require(self.first_epoch > 0, "plan.first_epoch must be positive: epochs count from 1")
        require(
            self.teacher is None or self.kind in ("retrieval", "mined"),
            f"plan.teacher defines similar videos, but plan.kind '{self.kind}' does not use them: "
            "remove it, or set plan.kind to 'retrieval' or 'mined'",
        )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The contrastive loss, a module of `model/losses`. Source: paper, section 3.2."""

    kind: LossKind = "infonce"
    """`infonce`: symmetric InfoNCE (the method); the others are modules of `model/losses`."""
    negatives: Literal["local", "global"] = "local"
    """`local`: this process's batch, as released; `global`: gathered over all processes."""
    soft_target_share: float = 0.0
    """Share of the target spread over likely false negatives (Sinkhorn); 0: one-hot targets."""

    ignore_overlapping: bool = False
    """`infonce`, `time_warping`, `transport` and the loss of seconds: pairs of one video whose
    words or clips overlap are no negatives of each other."""
    seconds_weight: NotNegative[float] = 0.0
    """Weight of a second loss, in which the best seconds of a clip stand for it; 0: none."""
    equal_sentences: float = 0.7
    """`equal_sentences`: similarity of the words of two texts from which each matches the other's
    clip, too."""
    neighbour_seconds: NotNegative[float] = 4.0
    """`neighbours`: by how much the time of a text is widened on both sides, before its overlap
    with other clips of its video decides how much they match it."""

    hard_similarity: float = -1.0
    """Cosine similarity between videos from which they are negatives for the re-ranker, where the
    model has one; -1: all are."""
    reranker_share: Positive[float] = 1.0
    """Share of the clip pairs of a batch, the first ones, from which the re-ranker learns. Fewer
    leave more time for epochs of the towers: docs/results.md."""
    residual_weight: NotNegative[float] = 0.0
    """Weight of the mean squared length of what both towers add to their dual encoder's embeddings,
    where the model starts from one: it keeps them near the start."""

    def __post_init__(self) -> None:
        known = ", ".join(map(repr, LOSSES))
        require(self.kind in LOSSES, f"loss.kind must be one of {known}, got {self.kind!r}")
        require(0.0 <= self.soft_target_share < 1.0, "loss.soft_target_share must be in [0, 1)")
        require(0.0 <= self.equal_sentences <= 1.0, "loss.equal_sentences must be in [0, 1]")
        require(-1.0 <= self.hard_similarity <= 1.0, "loss.hard_similarity must be in [-1, 1]")
        require(self.reranker_share <= 1, "loss.reranker_share must be in (0, 1]")
        has_softmax = self.kind in ("infonce", "text_to_video", "video_to_text")
        require(
            not self.soft_target_share or (has_softmax and self.negatives == "local"),
            "loss.soft_target_share needs a softmax over a local batch: loss.negatives 'local' "
            f"and loss.kind 'infonce', 'text_to_video' or 'video_to_text', not {self.kind!r}",
        )
        require(
            not (self.ignore_overlapping and self.soft_target_share),
            "loss.ignore_overlapping and loss.soft_target_share exclude each other",
        )
        require(
            self.kind not in RELATING_LOSSES or self.negatives == "local",
            f"loss.kind {self.kind!r} compares a batch with itself: set loss.negatives to 'local'",
        )
        check_numbers(self, "loss.")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimiser and learning rate. Source: released hyper-parameters, docs/paper-to-code.md."""

    optimizer: Literal["adamw", "fairseq_adam"] = "fairseq_adam"
    """`fairseq_adam` adds epsilon to sqrt(v) before the bias correction, as the release does."""
    lr: Positive[float] = 5e-5
    """Peak learning rate."""
    video_lr_scale: Positive[float] = 1.0
    """Learning rate of the video tower, as a multiple of `lr`; a shared encoder has it too."""
    text_lr_scale: Positive[float] = 1.0
    """Learning rate of the text tower, as a multiple of `lr`."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Decay rates of Adam's two moving averages."""
    eps: Positive[float] = 1e-8
    """Adam's epsilon."""
    weight_decay: NotNegative[float] = 0.0
    """Decoupled weight decay."""
    clip_norm: NotNegative[float] = 2.0
    """Largest norm of the gradient over all parameters, those of a re-ranker apart; 0: no
    clipping."""
    schedule: Literal["polynomial", "cosine", "constant", "cooldown"] = "polynomial"
    """After the warm-up: polynomial of power 1 or half a cosine down to 0 at `total_updates`;
    `cooldown`: constant, then linear to 0. Source of the last: arXiv 2405.18392."""
    cooldown_share: Positive[float] = 0.2
    """`cooldown`: share of the updates after the warm-up in which the rate falls to 0; 0.2 is what
    the source's code is shown with."""
    warmup_updates: NotNegative[int] = 1000
    """Linear warm-up; the very first update has learning rate 0, as released."""
    total_updates: NotNegative[int] = 1_000_000
    """Horizon of the schedule; 0: the length of the run."""
    ema_decay: NotNegative[float] = 0.0
    """Decay of an exponential moving average of the weights, over about 1 / (1 - decay) updates. It
    is validated, evaluated and saved as the model; batches are planned by the weights that are
    trained. 0: no average."""

    def __post_init__(self) -> None:
        check_numbers(self, "optim.")
        require(all(0 <= b < 1 for b in self.betas), "optim.betas must be in [0, 1)")
        require(self.ema_decay < 1, "optim.ema_decay must be in [0, 1)")
        require(self.cooldown_share <= 1, "optim.cooldown_share must be in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How a benchmark is scored; what a protocol used is printed with its numbers."""

    clip_seconds: NotNegative[float] = 32.0
    """Seconds of each clip, from its start, that retrieval and questions use (32 as released); 0:
    all of it, as the mean of its pieces."""
    ties: Literal["unbiased", "released"] = "unbiased"
    """How equal similarities count: `unbiased`: as if in random order; `released`: every possible
    rank is an entry of its own."""
    dual_softmax: NotNegative[float] = 0.0
    """Temperature of a softmax over all test queries, which improves retrieval; 0: none."""
    background: Literal["fitted", "balanced", "released", "text"] = "fitted"
    """Threshold below which a second is background. `fitted`: best frame accuracy on training
    videos; `balanced`: best mean of foreground and background accuracy there; `released`: the
    largest similarity between two labels; `text`: similarity to the word "background"."""
    fitting_videos: Positive[int] = 300
    """Number of random training videos for fitting the background threshold."""
    num_splits: Positive[int] = 1
    """Random splits of CrossTask over whose test videos recall is averaged; the first is the
    released one, 20 are usual in later papers."""
    exactly_one: bool = True
    """Whether each step of a task takes exactly one second (as released) or a span."""
    attend_cls: bool = False
    """Whether seconds attend to [CLS] in localisation and segmentation (not as released)."""
    rerank_top: NotNegative[int] = 0
    """Best clips of each text that the model's re-ranker, if any, scores again; with any number
    above 0, also all choices of a question."""
    decoding: Literal["released", "product"] = "released"
    """How steps, labels and answers are found: `released`: as the benchmark's protocol, with the
    settings above; `product`: as `localize`, `segment` and `answer`. Moments are always found as
    `search` does, except the 21 of DiDeMo."""
    num_resamples: Positive[int] = 1000
    """Bootstrap resamples of the test videos for the 95 % intervals."""
    seed: NotNegative[int] = 0
    """Seed of the bootstrap and of random choices of videos."""

    def __post_init__(self) -> None:
        check_numbers(self)
        require(
            not (self.dual_softmax and self.ties == "released"),
            "dual_softmax and ties 'released' exclude each other: the release has none",
        )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What pre-training and fine-tuning have in common."""

    name: str = "paper"
    """Name of the recipe, for logs and reports."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    epochs: Positive[int] = 25
    """Passes over the training videos."""
    seed: NotNegative[int] = 1
    """Seed of every random choice."""
    frozen: tuple[str, ...] = ()
    """Prefixes of parameter names that are not trained."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 autocast if it is measured to be faster on this device, else fp32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """`torch.compile` for the towers. `auto`: on a GPU, if it is measured to be faster; never on a
    CPU, which has kernels of our own and would need a C++ compiler."""
    accumulate_batches: Positive[int] = 1
    """Batches whose gradients are averaged into one update; each has its own negatives."""
    recompute_layers: bool = False
    """Keep only the input of each layer for the backward pass, and compute the rest again: less
    memory, about a third more work, the same gradients."""
    chunk_pairs: NotNegative[int] = 0
    """Pairs per forward pass with gradient caching, whose gradients are exact; 0: whole batches."""
    validation_videos: NotNegative[int] = 0
    """Videos held out (the last of a seeded shuffle) for the validation loss; 0: none."""
    save_every_updates: Positive[int] = 500
    """Updates from one checkpoint to the next."""
    save_every_seconds: NotNegative[float] = 600.0
    """A checkpoint is also saved when the last one is this old; 0: by updates alone."""
    keep_checkpoints: Positive[int] = 2
    """Checkpoints kept besides the best."""

    def __post_init__(self) -> None:
        check_numbers(self)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig):
    """A complete pre-training run; named ones are in `recipes.py`."""

    model: ModelConfig = field(default_factory=ModelConfig)
    clips: ClipConfig = field(default_factory=ClipConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    validation_share: float = 0.0
    """Share of the videos that is held out if `validation_videos` is 0."""
    num_workers: NotNegative[int] = 0
    """Processes that prepare batches; 0: the training process does."""
    train_backbone: bool = False
    """Train the image backbone as well, on frames instead of features (`FrameStore`)."""
    frames_at_once: Positive[int] = 32
    """Frames whose activations are in memory at once while the backbone is trained."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0.0 <= self.validation_share < 1.0, "validation_share must be in [0, 1)")
        require(
            not self.train_backbone or self.model.backbone.startswith("image:"),
            "train_backbone needs an image model: set model.backbone to 'image:FOLDER'",
        )
        require(
            not self.train_backbone or self.plan.teacher is None,
            "plan.teacher needs features, but train_backbone reads frames: use one of the two",
        )
        require(
            self.clips.max_video_seconds * self.model.features_per_second
            <= self.model.max_video_tokens,
            f"clips.max_video_seconds ({self.clips.max_video_seconds}) at "
            f"{self.model.features_per_second:g} features a second does not fit "
            f"model.max_video_tokens ({self.model.max_video_tokens})",
        )
        require(
            (self.loss.kind == "mil_nce") == (self.clips.strategy == "mil_nce"),
            "loss.kind 'mil_nce' and clips.strategy 'mil_nce' go together",
        )
        require(
            not self.model.classes,
            "model.classes is for fine-tuning: pre-training does not train the head",
        )
        require(
            not self.clips.learn_lead
            or (self.clips.strategy == "overlapped" and self.plan.kind in ("retrieval", "mined")),
            "clips.learn_lead is for clips.strategy 'overlapped' and a plan.kind that is made from "
            "video vectors: 'retrieval' or 'mined'",
        )
        require(
            not self.model.learn_logit_bias or self.loss.kind == "sigmoid",
            "model.learn_logit_bias is for loss.kind 'sigmoid'",
        )
        require(
            not (self.loss.seconds_weight and self.loss.kind == "mil_nce"),
            "loss.seconds_weight needs one text a clip: set loss.kind to another than 'mil_nce'",
        )
        require(
            not (self.model.num_cross_layers and (self.chunk_pairs or self.loss.kind == "mil_nce")),
            "a re-ranker (model.num_cross_layers) needs whole batches of pairs: set chunk_pairs to "
            "0 (accumulate_batches saves memory, too) and loss.kind to another than 'mil_nce'",
        )

    def num_held_out(self, num_videos: int) -> int:
        """Return how many of `num_videos` videos are held out for validation."""
        return self.validation_videos or int(self.validation_share * num_videos)


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(RunConfig):
    """A complete fine-tuning run; the released ones are in `recipes.FINETUNING`.

    The model's own settings are those of the model to start from.
    """

    benchmark: Literal["youcook2", "msrvtt", "msrvtt_qa", "crosstask", "coin", "csv"] = "youcook2"
    """Benchmark to train on (its training split) and to be scored on (its test split)."""
    loss: LossConfig = field(default_factory=lambda: LossConfig(kind="text_to_video"))
    """Loss on pairs of clip and text (retrieval and VideoQA)."""
    pairs_per_batch: int = 128
    """Clips per process and batch; a batch of CrossTask and COIN is one video."""
    texts_per_clip: Positive[int] = 1
    """Visits to each clip in an epoch, each with one of its texts."""
    clip_seconds: Positive[float] = 32.0
    """Seconds used of each clip, from its start, up to the model's longest clip."""
    window_step: Positive[int] = 16
    """Seconds between the starts of two windows of a video (CrossTask, COIN)."""
    head: Literal["classes", "texts"] = "classes"
    """COIN: `classes` trains a linear head with one class per label; `texts` compares seconds with
    the label texts and a text for background."""
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    """How the test split is scored before and after fine-tuning."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.pairs_per_batch > 1, "pairs_per_batch must be at least 2")
        require(
            self.loss.kind in ("text_to_video", "video_to_text", "infonce"),
            "loss.kind must be 'text_to_video', 'video_to_text' or 'infonce' to fine-tune",
        )


def ignored_settings(config: RunConfig) -> list[str]:
    """Return a sentence for each setting that differs from its default and has no effect."""
    schedule = config.optim.schedule
    # (whether they are read, settings, when they are)
    rules: list[tuple[bool, str, str]] = [
        (schedule == "cooldown", "optim.cooldown_share", "optim.schedule 'cooldown'")
    ]
    if isinstance(config, PretrainConfig):
        kind, strategy = config.plan.kind, config.clips.strategy
        vectors, mil_nce = ("retrieval", "mined"), "clips.num_candidates clips.mil_nce_min_seconds "
        rules += [
            (kind == "mined", "plan.drop_nearest plan.max_similarity", "plan.kind 'mined'"),
            (kind == "retrieval", "plan.num_neighbours", "plan.kind 'retrieval'"),
            (
                kind in vectors,
                "plan.first_epoch plan.vector_strategy plan.clips_per_vector",
                "plan.kind 'retrieval' or 'mined'",
            ),
            (strategy == "overlapped", "clips.lead_seconds", "clips.strategy 'overlapped'"),
            (
                strategy == "mil_nce",
                mil_nce + "clips.mil_nce_clip_seconds",
                "clips.strategy 'mil_nce'",
            ),
            (
                config.loss.kind in ("infonce", "time_warping", "transport")
                or config.loss.seconds_weight > 0,
                "loss.ignore_overlapping",
                "loss.kind 'infonce', 'time_warping' or 'transport', or loss.seconds_weight",
            ),
            (config.train_backbone, "frames_at_once", "train_backbone"),
            (
                config.model.num_cross_layers > 0,
                "loss.hard_similarity loss.reranker_share",
                "a re-ranker, model.num_cross_layers",
            ),
        ]
    if isinstance(config, FinetuneConfig):
        per_second = config.benchmark in ("crosstask", "coin")
        rules += [
            (per_second, "window_step", "benchmark 'crosstask' or 'coin'"),
            (config.benchmark == "coin", "head", "benchmark 'coin'"),
            (
                not per_second,
                "pairs_per_batch texts_per_clip clip_seconds chunk_pairs loss",
                "a benchmark of clips and texts",
            ),
        ]
    default = type(config)()
    return [
        f"{name} is ignored: it is for {use}"
        for is_read, names, use in rules
        for name in names.split()
        if not is_read and attrgetter(name)(config) != attrgetter(name)(default)
    ]
