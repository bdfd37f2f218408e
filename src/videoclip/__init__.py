"""Learn what happens in videos from their own narration; then search, localise, segment, answer.

The public names below are imported when they are first used, so that `import videoclip` and
`videoclip --help` do not wait for torch.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

TYPE_CHECKING = False  # as in typing, which takes longer to import than the rest of --help
if TYPE_CHECKING:
    from videoclip.config import FinetuneConfig, ModelConfig, PretrainConfig
    from videoclip.data.feature_store import FeatureStore
    from videoclip.data.subtitles import read_subtitles
    from videoclip.embedding import Embedder
    from videoclip.errors import VideoCLIPError
    from videoclip.evaluation import evaluate
    from videoclip.features.extract import extract_features
    from videoclip.library.library import VideoLibrary
    from videoclip.model.losses.infonce import contrastive_loss
    from videoclip.model.videoclip import VideoCLIP
    from videoclip.training.finetune import finetune
    from videoclip.training.pretrain import pretrain
    from videoclip.zeroshot.video import answer, localize, segment

_HOMES = {
    "Embedder": "videoclip.embedding",
    "FeatureStore": "videoclip.data.feature_store",
    "FinetuneConfig": "videoclip.config",
    "ModelConfig": "videoclip.config",
    "PretrainConfig": "videoclip.config",
    "VideoCLIP": "videoclip.model.videoclip",
    "VideoCLIPError": "videoclip.errors",
    "VideoLibrary": "videoclip.library.library",
    "answer": "videoclip.zeroshot.video",
    "contrastive_loss": "videoclip.model.losses.infonce",
    "evaluate": "videoclip.evaluation",
    "extract_features": "videoclip.features.extract",
    "finetune": "videoclip.training.finetune",
    "localize": "videoclip.zeroshot.video",
    "pretrain": "videoclip.training.pretrain",
    "read_subtitles": "videoclip.data.subtitles",
    "segment": "videoclip.zeroshot.video",
}

__all__ = [
    "Embedder",
    "FeatureStore",
    "FinetuneConfig",
    "ModelConfig",
    "PretrainConfig",
    "VideoCLIP",
    "VideoCLIPError",
    "VideoLibrary",
    "answer",
    "contrastive_loss",
    "evaluate",
    "extract_features",
    "finetune",
    "localize",
    "pretrain",
    "read_subtitles",
    "segment",
]


def __getattr__(name: str) -> object:
    """Import a public name from its home (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'videoclip' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted([*__all__, "__version__"])
