"""Learn what happens in videos from their own narration; then search, localise, segment, answer.

The public names below are imported when they are first used, so that `import videoclip` and
`videoclip --help` do not wait for torch; not even `typing` is imported here.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # type checkers take a variable of this name for true
if TYPE_CHECKING:
    from videoclip import recipes as recipes
    from videoclip.comparison import ComparedRun as ComparedRun
    from videoclip.comparison import RunComparison as RunComparison
    from videoclip.comparison import compare as compare
    from videoclip.config import ClipConfig as ClipConfig
    from videoclip.config import EvaluateConfig as EvaluateConfig
    from videoclip.config import FinetuneConfig as FinetuneConfig
    from videoclip.config import LossConfig as LossConfig
    from videoclip.config import ModelConfig as ModelConfig
    from videoclip.config import OptimConfig as OptimConfig
    from videoclip.config import PlanConfig as PlanConfig
    from videoclip.config import PretrainConfig as PretrainConfig
    from videoclip.data.captions import Cue as Cue
    from videoclip.data.clips import ClipPair as ClipPair
    from videoclip.data.clips import Narration as Narration
    from videoclip.data.feature_store import FeatureSpec as FeatureSpec
    from videoclip.data.feature_store import FeatureStore as FeatureStore
    from videoclip.data.frame_store import FrameSpec as FrameSpec
    from videoclip.data.frame_store import FrameStore as FrameStore
    from videoclip.data.narrated import FeatureReader as FeatureReader
    from videoclip.data.narrated import NarratedCorpus as NarratedCorpus
    from videoclip.data.narrated import NarratedVideo as NarratedVideo
    from videoclip.data.subtitles import read_subtitles as read_subtitles
    from videoclip.data.tokenizer import Tokenizer as Tokenizer
    from videoclip.distributed import World as World
    from videoclip.embedding import Embedder as Embedder
    from videoclip.embedding import EmbedVideosError as EmbedVideosError
    from videoclip.embedding import VideoEmbedding as VideoEmbedding
    from videoclip.errors import VideoCLIPError as VideoCLIPError
    from videoclip.evaluation import evaluate as evaluate
    from videoclip.evaluation.encoders import DualEncoder as DualEncoder
    from videoclip.evaluation.outcome import Bars as Bars
    from videoclip.evaluation.outcome import Baseline as Baseline
    from videoclip.evaluation.outcome import Confusion as Confusion
    from videoclip.evaluation.outcome import Histogram as Histogram
    from videoclip.evaluation.outcome import Measure as Measure
    from videoclip.evaluation.outcome import Missing as Missing
    from videoclip.evaluation.outcome import Outcome as Outcome
    from videoclip.evaluation.outcome import TimelinePlot as TimelinePlot
    from videoclip.evaluation.outcome import Track as Track
    from videoclip.evaluation.result import Result as Result
    from videoclip.features.backbones import Backbone as Backbone
    from videoclip.features.backbones import load_backbone as load_backbone
    from videoclip.features.extract import ExtractReport as ExtractReport
    from videoclip.features.extract import extract_features as extract_features
    from videoclip.features.frame_encoder import FrameEncoder as FrameEncoder
    from videoclip.library.catalog import IndexedVideo as IndexedVideo
    from videoclip.library.indexer import UpdateReport as UpdateReport
    from videoclip.library.library import VideoLibrary as VideoLibrary
    from videoclip.library.search import SearchOptions as SearchOptions
    from videoclip.model.card import ModelCard as ModelCard
    from videoclip.model.encoders import Encoded as Encoded
    from videoclip.model.losses.infonce import contrastive_loss as contrastive_loss
    from videoclip.model.videoclip import VideoCLIP as VideoCLIP
    from videoclip.training.finetune import finetune as finetune
    from videoclip.training.pretrain import pretrain as pretrain
    from videoclip.training.run import RunResult as RunResult
    from videoclip.zeroshot.confidence import Thresholds as Thresholds
    from videoclip.zeroshot.moments import Moment as Moment
    from videoclip.zeroshot.rerank import PairScorer as PairScorer
    from videoclip.zeroshot.results import Answer as Answer
    from videoclip.zeroshot.results import Timeline as Timeline
    from videoclip.zeroshot.video import answer as answer
    from videoclip.zeroshot.video import localize as localize
    from videoclip.zeroshot.video import segment as segment
    from videoclip.zeroshot.windows import WindowConfig as WindowConfig

_MODULES = {
    "comparison": "ComparedRun RunComparison compare",
    "config": "ClipConfig EvaluateConfig FinetuneConfig LossConfig "
    "ModelConfig OptimConfig PlanConfig PretrainConfig",
    "data.captions": "Cue",
    "data.clips": "ClipPair Narration",
    "data.feature_store": "FeatureSpec FeatureStore",
    "data.frame_store": "FrameSpec FrameStore",
    "data.narrated": "FeatureReader NarratedCorpus NarratedVideo",
    "data.subtitles": "read_subtitles",
    "data.tokenizer": "Tokenizer",
    "distributed": "World",
    "embedding": "EmbedVideosError Embedder VideoEmbedding",
    "errors": "VideoCLIPError",
    "evaluation": "evaluate",
    "evaluation.encoders": "DualEncoder",
    "evaluation.outcome": "Bars Baseline Confusion Histogram "
    "Measure Missing Outcome TimelinePlot Track",
    "evaluation.result": "Result",
    "features.backbones": "Backbone load_backbone",
    "features.extract": "ExtractReport extract_features",
    "features.frame_encoder": "FrameEncoder",
    "library.catalog": "IndexedVideo",
    "library.indexer": "UpdateReport",
    "library.library": "VideoLibrary",
    "library.search": "SearchOptions",
    "model.card": "ModelCard",
    "model.encoders": "Encoded",
    "model.losses.infonce": "contrastive_loss",
    "model.videoclip": "VideoCLIP",
    "training.finetune": "finetune",
    "training.pretrain": "pretrain",
    "training.run": "RunResult",
    "zeroshot.confidence": "Thresholds",
    "zeroshot.moments": "Moment",
    "zeroshot.rerank": "PairScorer",
    "zeroshot.results": "Answer Timeline",
    "zeroshot.video": "answer localize segment",
    "zeroshot.windows": "WindowConfig",
}
"""Public names by module; `recipes` is a public module itself."""
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = sorted([*_HOMES, "recipes"])


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    import importlib

    if name == "recipes":
        return importlib.import_module("videoclip.recipes")
    if name not in _HOMES:
        raise AttributeError(f"module 'videoclip' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"videoclip.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted([*__all__, "__version__"])
