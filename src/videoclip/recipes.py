"""Complete configs with names; `videoclip pretrain NAME` and `videoclip finetune NAME` use them.

`paper` has the released settings, unusual ones included. The other pre-training recipes are ours:
normalised embeddings, a learned temperature, and sizes for the machine at hand. Fine-tuning recipes
have the released settings; the validation videos are ours, because the release chose epochs on the
test set.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from videoclip.config import (
    ClipConfig,
    EvaluateConfig,
    FinetuneConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    PlanConfig,
    PretrainConfig,
)
from videoclip.errors import ConfigError, unknown

ConfigT = TypeVar("ConfigT")

PAUSE_SECONDS = 0.3
"""A longer silence ends a sentence."""
VALIDATION_VIDEOS = 4096
"""One shard of the released HowTo100M features, 0.4 % of all videos."""


def paper() -> PretrainConfig:
    """Return the paper's run: 512 pairs a process, retrieved batches, temperature 1, 25 epochs.

    Source: paper, section 5.3, and the released hyper-parameters.
    """
    return PretrainConfig(name="paper", validation_videos=VALIDATION_VIDEOS)


def base() -> PretrainConfig:
    """Return the paper's sizes with our loss, optimiser and batches."""
    return PretrainConfig(
        name="base",
        model=_improved(ModelConfig()),
        clips=ClipConfig(clips_per_video=8, max_pause_seconds=PAUSE_SECONDS),
        optim=_adamw(lr=1e-4, warmup_updates=1000),
        plan=PlanConfig(kind="mined", drop_nearest=2, first_epoch=2, clips_per_vector=4),
        loss=_lenient(),
        validation_videos=VALIDATION_VIDEOS,
    )


def small() -> PretrainConfig:
    """Return a run for one small machine: minutes on two cores, hours on thousands of videos."""
    model = ModelConfig(
        backbone="starter",
        feature_dim=1295,
        normalized_features=False,
        hidden_size=256,
        num_video_layers=2,
        num_text_layers=2,
        num_heads=4,
        intermediate_size=1024,
    )
    return PretrainConfig(
        name="small",
        model=_improved(model),
        clips=_sentences(clips_per_video=8),
        plan=PlanConfig(kind="mined", drop_nearest=2, first_epoch=5, clips_per_vector=4),
        loss=_lenient(),
        optim=_adamw(lr=5e-4, warmup_updates=100),
        epochs=40,
    )


def tiny() -> PretrainConfig:
    """Return a run of seconds, to check that everything works."""
    run = small()
    return replace(
        run,
        name="tiny",
        model=replace(run.model, hidden_size=64, num_heads=2, intermediate_size=256),
        plan=replace(run.plan, videos_per_batch=8),
        optim=replace(run.optim, lr=1e-3, warmup_updates=20),
        epochs=10,
        save_every_updates=100,
    )


def starter() -> PretrainConfig:
    """Return a run that learns on top of the starter, or of another dual encoder in its place.

    Both towers add a learned residual to frozen embeddings (docs/on-top.md).
    """
    return PretrainConfig(
        name="starter",
        model=ModelConfig(
            backbone="starter",
            feature_dim=1295,
            normalized_features=False,
            dual_encoder="starter",
            hidden_size=384,
            num_video_layers=1,
            num_text_layers=6,
            intermediate_size=768,
            pooling="plain_mean",
            normalize=True,
            temperature=0.05,
            learn_temperature=True,
        ),
        # A few videos make small batches.
        plan=PlanConfig(kind="shuffled", videos_per_batch=12),
        clips=_sentences(clips_per_video=4, max_video_seconds=24),
        optim=_adamw(lr=3e-3, warmup_updates=10),
        loss=LossConfig(residual_weight=0.01),
        epochs=30,
        validation_share=0.2,  # they decide how much is kept, and few decide nothing
    )


def crossmodal() -> PretrainConfig:
    """Return the cross-modal variant: ResNet-50 frames, BERT words, a re-ranker on top.

    Positive pairs overlap by an IoU of at least 0.5; the re-ranker's negatives are videos with a
    cosine similarity of at least 0.5; the temperature starts at 0.07; texts are those of `small`.
    With `train_backbone` the ResNet is trained on frames; by default its features are used. Source:
    docs/paper-to-code.md, "the cross-modal variant".
    """
    return PretrainConfig(
        name="crossmodal",
        model=_improved(
            ModelConfig(
                backbone="image:microsoft/resnet-50",
                feature_dim=2048,
                normalized_features=False,
                num_video_layers=1,
                num_cross_layers=1,
                max_text_tokens=32,
            )
        ),
        clips=_sentences(min_iou=0.5),
        plan=PlanConfig(kind="mined", videos_per_batch=16, drop_nearest=2, first_epoch=2),
        loss=replace(_lenient(), hard_similarity=0.5),
        optim=OptimConfig(
            optimizer="adamw", lr=1e-4, schedule="cooldown", warmup_updates=0, total_updates=0
        ),
        validation_share=0.05,  # they decide whether the re-ranker is used
    )


RECIPES = {recipe.__name__: recipe for recipe in (paper, base, small, tiny, starter, crossmodal)}
"""Recipes by name; each is a function that returns a fresh `PretrainConfig`."""


def youcook2() -> FinetuneConfig:
    """Return text-to-clip retrieval on YouCook2: 128 clips a batch, 10 epochs."""
    return _released("youcook2", epochs=10, validation_videos=67)  # a twentieth of 1,333


def msrvtt() -> FinetuneConfig:
    """Return text-to-video retrieval on MSR-VTT: 224 videos a batch, 20 texts each, 10 epochs."""
    return _released(
        "msrvtt",
        epochs=10,
        pairs_per_batch=224,
        texts_per_clip=20,
        validation_videos=450,  # a twentieth of 9,000
    )


def msrvtt_qa() -> FinetuneConfig:
    """Return multiple choice on MSR-VTT: videos pick their captions in the batch, 5 epochs."""
    return _released(
        "msrvtt_qa",
        epochs=5,
        loss=LossConfig(kind="video_to_text"),
        texts_per_clip=20,
        validation_videos=350,  # a twentieth of 7,010
    )


def crosstask() -> FinetuneConfig:
    """Return steps of CrossTask, a binary decision for each second and step, 5 epochs."""
    return _released("crosstask", epochs=5, validation_videos=54)  # a tenth of 540


def coin() -> FinetuneConfig:
    """Return labels of COIN by a linear head over seconds, 8 epochs; the text tower is frozen."""
    return _released(
        "coin",
        epochs=8,
        window_step=8,
        validation_videos=450,  # a twentieth of 9,030
        frozen=("text_encoder.",),
    )


def coin_texts() -> FinetuneConfig:
    """Return labels of COIN without a head: seconds are compared with the label texts."""
    return replace(
        coin(), name="coin_texts", head="texts", evaluate=EvaluateConfig(background="text")
    )


def own_clips() -> FinetuneConfig:
    """Return text-to-clip retrieval on a table of your own (video,start,end,text)."""
    return _released(
        "csv",
        epochs=10,
        pairs_per_batch=64,
        validation_videos=10,
        optim=OptimConfig(warmup_updates=20),  # a small table has few updates
    )


_RELEASED = (youcook2, msrvtt, msrvtt_qa, crosstask, coin, coin_texts)
FINETUNING = {recipe.__name__: recipe for recipe in _RELEASED} | {"csv": own_clips}
"""Fine-tuning recipes by name; each is a function that returns a fresh `FinetuneConfig`."""


def named_recipe(name: str, recipes: Mapping[str, Callable[[], ConfigT]]) -> ConfigT:
    """Return a fresh config of a named recipe.

    Raises:
        ConfigError: If there is none of that name, naming the nearest.
    """
    if name not in recipes:
        raise ConfigError(unknown("recipe", name, recipes))
    return recipes[name]()


def _released(benchmark: str, **settings: Any) -> FinetuneConfig:
    """Fine-tuning on a benchmark, with the warm-up of the release if none is given."""
    defaults = {"name": benchmark, "benchmark": benchmark, "optim": OptimConfig(warmup_updates=122)}
    return FinetuneConfig(**{**defaults, **settings})


def _sentences(**settings: Any) -> ClipConfig:
    """Texts of a sentence, as people search with, that precede the action: docs/results.md."""
    return ClipConfig(
        lead_seconds=3,
        min_text_tokens=14,
        max_text_tokens=14,
        max_pause_seconds=PAUSE_SECONDS,
        **settings,
    )


def _adamw(lr: float, warmup_updates: int) -> OptimConfig:
    """AdamW whose learning rate falls to 0 along a cosine, over the length of the run."""
    return OptimConfig(
        optimizer="adamw",
        lr=lr,
        weight_decay=0.01,
        schedule="cosine",
        warmup_updates=warmup_updates,
        total_updates=0,
    )


def _lenient() -> LossConfig:
    """A loss that allows for what misaligned narration does: docs/results.md."""
    return LossConfig(ignore_overlapping=True, seconds_weight=1.0)


def _improved(model: ModelConfig) -> ModelConfig:
    """Cosine similarities with a learned temperature, as contrastive models do since CLIP."""
    return replace(model, normalize=True, temperature=0.07, learn_temperature=True)
