"""Every setting of the project: frozen dataclasses that check themselves, to and from plain dicts.

Nothing here imports torch, so that `videoclip --help` is fast. Defaults are the paper's
(arXiv 2109.14084); other complete configs have names in `recipes.py`.
"""

from videoclip.config.codec import RUN_CONFIG_VERSION, from_dict, load_run_config, to_dict
from videoclip.config.evaluation import EvaluateConfig
from videoclip.config.finetuning import FinetuneConfig
from videoclip.config.ignored import ignored_settings
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
    "RUN_CONFIG_VERSION",
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
    "ignored_settings",
    "load_run_config",
    "to_dict",
]
