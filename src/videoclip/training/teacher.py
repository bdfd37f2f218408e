"""The frozen teacher: a trained model whose embeddings say which videos share a batch."""

from __future__ import annotations

from videoclip.config import PretrainConfig
from videoclip.data.feature_store import FeatureSpec
from videoclip.data.tokenizer import Tokenizer
from videoclip.embedding import Embedder, check_features
from videoclip.errors import CheckpointError, ConfigError, IndexMismatchError

__all__ = ["load_teacher"]


def load_teacher(config: PretrainConfig, spec: FeatureSpec, tokenizer: Tokenizer) -> Embedder:
    """Load the model `config.plan.teacher`, on the CPU.

    Args:
        config: The run, whose clip pairs the teacher will be given.
        spec: Kind of the features.
        tokenizer: The vocabulary of the words.

    Raises:
        CheckpointError: If there is no such model or it is damaged.
        ConfigError: If it has another vocabulary or is made for shorter clips.
        IndexMismatchError: If it takes other features.
    """
    name, model, clips = config.plan.teacher, config.model, config.clips
    assert name is not None
    try:
        teacher = Embedder.from_pretrained(name)
        check_features(teacher.config, spec)
    except (CheckpointError, IndexMismatchError) as error:
        raise type(error)(f"plan.teacher {name}: {error}") from error
    if teacher.tokenizer.fingerprint != tokenizer.fingerprint:
        raise ConfigError(
            f"plan.teacher {name} has another vocabulary than this run: train with its vocab.txt, "
            "or name a teacher with this one"
        )
    for what, wanted, setting in (
        ("video", round(clips.max_video_seconds * model.features_per_second), "max_video_seconds"),
        ("text", clips.text_capacity, "text_capacity"),
    ):
        longest = getattr(teacher.config, f"max_{what}_tokens")
        if wanted > longest:
            raise ConfigError(
                f"plan.teacher {name} takes {longest} {what} tokens, and clips.{setting} asks for "
                f"{wanted}: lower it, or name another teacher"
            )
    return teacher
