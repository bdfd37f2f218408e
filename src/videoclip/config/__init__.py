"""Every setting of the project: frozen dataclasses that check themselves, to and from plain dicts.

Nothing here imports torch, so that `videoclip --help` stays quick. Defaults are the paper's
(arXiv 2109.14084); other complete combinations have names in `recipes.py`.
"""

from videoclip.config.codec import from_dict, to_dict
from videoclip.config.evaluation import EvaluateConfig
from videoclip.config.finetuning import FinetuneConfig
from videoclip.config.model import ModelConfig, ReleasedSettings
from videoclip.config.training import (
    ClipConfig,
    LossConfig,
    OptimConfig,
    PlanConfig,
    PretrainConfig,
    RunConfig,
)

__all__ = [
    "ClipConfig",
    "EvaluateConfig",
    "FinetuneConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "PlanConfig",
    "PretrainConfig",
    "ReleasedSettings",
    "RunConfig",
    "from_dict",
    "to_dict",
]
