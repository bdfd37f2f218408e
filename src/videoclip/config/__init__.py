"""Every setting of the project: frozen dataclasses that check themselves, to and from plain dicts.

Nothing here imports torch, so that `videoclip --help` is fast. Defaults are the paper's
(arXiv 2109.14084); other complete configs have names in `recipes.py`.
"""

from videoclip.config.codec import RUN_CONFIG_VERSION as RUN_CONFIG_VERSION
from videoclip.config.codec import flatten as flatten
from videoclip.config.codec import from_dict as from_dict
from videoclip.config.codec import load_run_config as load_run_config
from videoclip.config.codec import to_dict as to_dict
from videoclip.config.model import BERT_VOCABULARIES as BERT_VOCABULARIES
from videoclip.config.model import ConvertKind as ConvertKind
from videoclip.config.model import ConvertOptions as ConvertOptions
from videoclip.config.model import ModelConfig as ModelConfig
from videoclip.config.model import ReleasedSettings as ReleasedSettings
from videoclip.config.training import ClipConfig as ClipConfig
from videoclip.config.training import EvaluateConfig as EvaluateConfig
from videoclip.config.training import FinetuneConfig as FinetuneConfig
from videoclip.config.training import LossConfig as LossConfig
from videoclip.config.training import OptimConfig as OptimConfig
from videoclip.config.training import PlanConfig as PlanConfig
from videoclip.config.training import PretrainConfig as PretrainConfig
from videoclip.config.training import RunConfig as RunConfig
from videoclip.config.training import ignored_settings as ignored_settings
