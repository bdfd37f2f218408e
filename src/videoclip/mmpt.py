"""Read project files of MMPT (YAML) into our configs, where both say the same thing.

A setting is known by the last part of its name, a class by its name as the value of any setting.
What has no counterpart, or means something else here, is listed with the reason, never guessed.

Source: the paper, docs/paper-to-code.md, and fairseq's documentation of its own options.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from videoclip.config import FinetuneConfig, PretrainConfig, flatten, from_dict, to_dict
from videoclip.data.subtitles import read_text
from videoclip.errors import ConfigError, DataError, one_line
from videoclip.recipes import FINETUNING, RECIPES

Settings: TypeAlias = dict[str, Any]
MAX_INCLUDES = 8
"""Files that include each other, one in the other."""

BENCHMARKS = {
    "vttqa": "msrvtt_qa",
    "msr_mc": "msrvtt_qa",
    "vtt": "msrvtt",
    "youcook": "youcook2",
    "crosstask": "crosstask",
    "coin": "coin",
}
"""Fine-tuning recipe by a part of the names of project file and data; the first that occurs."""
NUMBERS = {
    "max_epoch": "epochs",
    "clip_norm": "optim.clip_norm",
    "lr": "optim.lr",
    "adam_eps": "optim.eps",
    "adam_betas": "optim.betas",
    "weight_decay": "optim.weight_decay",
    "warmup_updates": "optim.warmup_updates",
    "total_num_update": "optim.total_updates",
    "update_freq": "accumulate_batches",
    "save_interval_updates": "save_every_updates",
    "seed": "seed",
    "num_workers": "num_workers",
    "clip_per_video": "clips.clips_per_video",
    "retri_epoch": "plan.first_epoch",
    "num_cands": "plan.num_neighbours",
}
"""Our setting for a number of theirs; a list of one number is that number."""
WORDS: Mapping[str, Settings] = {
    "MMFusionSeparate": {"model.shared_encoder": False},
    "MMFusionShare": {"model.shared_encoder": True},
    "MMContraLoss": {"loss.kind": "infonce"},
    "T2VContraLoss": {"loss.kind": "text_to_video"},
    "V2TContraLoss": {"loss.kind": "video_to_text"},
    "VideoRetriTask": {"plan.kind": "retrieval"},
    "VideoRetriOverlappedAligner": {"plan.kind": "retrieval", "clips.strategy": "overlapped"},
    "OverlappedAligner": {"clips.strategy": "overlapped"},
    "VariedLenAligner": {"clips.strategy": "aligned"},
    "StartClipAligner": {"clips.strategy": "start"},
    "polynomial_decay": {"optim.schedule": "polynomial"},
    "cosine": {"optim.schedule": "cosine"},
    "fixed": {"optim.schedule": "constant"},
    "adam": {"optim.optimizer": "fairseq_adam"},
}
"""Our settings for a name of theirs."""
WITHOUT_COUNTERPART = {
    "fp16": "there is no fp16: precision 'auto' takes bf16 where it is faster",
    "MMFusionJoint": "video and text in one pass: there are only separate passes, "
    "--model.shared-encoder",
    "subsampling": "set plan.videos_per_batch: a batch is counted in videos, not in clips",
    "vfeats_dir": "--features names the store, which `videoclip convert FOLDER` makes of arrays",
    "save_dir": "--out names the run folder",
}
"""The reason why a setting or a name of theirs is not taken over."""
PAIRS_PER_BATCH = "batch_size"
LENGTHS = ("max_len", "max_video_len")
SPECIAL_TOKENS = 3
"""Positions of their packed sequence that hold [CLS] and two [SEP]."""


@dataclass(frozen=True)
class Project:
    """What a project file says.

    Attributes:
        config: The nearest recipe with the settings of the file.
        translated: Our settings with their values, by the names of theirs.
        untranslated: The reason by the name of each setting that has no place in `config`.
    """

    config: PretrainConfig | FinetuneConfig
    translated: Mapping[str, str]
    untranslated: Mapping[str, str]


def read_project(path: Path | str) -> Project:
    """Read a project file, with the files that it includes.

    Raises:
        DataError: If it cannot be read, or is no YAML of settings.
        ConfigError: If its settings contradict each other here.
    """
    path = Path(path)
    settings = flatten(_load(path))
    recipe = _recipe(path, settings)
    changed = to_dict(recipe)
    known = flatten(changed)
    translated: dict[str, str] = {}
    untranslated: dict[str, str] = {}
    lengths = _lengths(settings)
    for name, value in settings.items():
        last = name.rpartition(".")[2]
        ours = lengths.get(name) or _ours(last, value, isinstance(recipe, FinetuneConfig))
        reason, written = "", {}
        if isinstance(ours, str):
            reason, ours = ours, {}
        for key, new in ours.items():
            if key not in known:
                reason = f"{type(recipe).__name__} has no {key}"
            else:
                table, _, setting = key.rpartition(".")
                (changed[table] if table else changed)[setting] = new
                written[key] = new
        if written:
            translated[name] = ", ".join(f"{key} = {new!r}" for key, new in written.items())
        else:
            untranslated[name] = reason or f"unknown here (it is {value!r})"
    try:
        config = from_dict(type(recipe), changed)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return Project(config, translated, untranslated)


def _recipe(path: Path, settings: Settings) -> PretrainConfig | FinetuneConfig:
    """Return the recipe of the task: that of a benchmark that is named, else the paper's.

    Files for pre-training name the loss in both directions, and no other.
    """
    values = [value for value in settings.values() if isinstance(value, str)]
    if "MMContraLoss" not in values:
        names = " ".join([path.name, *values]).lower()
        for part, benchmark in BENCHMARKS.items():
            if part in names:
                return FINETUNING[benchmark]()
    return RECIPES["paper"]()


def _ours(name: str, value: Any, is_fine_tuning: bool) -> Settings | str:
    """Return our settings for one of theirs; a text is the reason why there are none."""
    if isinstance(value, str) and value in WORDS:
        return dict(WORDS[value])
    for key in (name, value):
        if isinstance(key, str) and key in WITHOUT_COUNTERPART:
            return WITHOUT_COUNTERPART[key]
    if name == PAIRS_PER_BATCH and is_fine_tuning:
        return {"pairs_per_batch": value}
    if name == PAIRS_PER_BATCH:
        return "set plan.videos_per_batch: a batch of pre-training is counted in videos"
    if name not in NUMBERS:
        return ""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return f"expected a number, got {value!r}"
    if name != "adam_betas" and isinstance(value, (list, tuple)):
        if len(value) != 1:
            return f"one value is taken, not {value!r}"
        (value,) = value
    if name in ("lr", "adam_eps", "weight_decay", "clip_norm") and isinstance(value, int):
        value = float(value)
    return {NUMBERS[name]: list(value) if isinstance(value, tuple) else value}


def _lengths(settings: Settings) -> dict[str, Settings]:
    """Return our lengths of clips by the names of theirs, which count both in one sequence."""
    names = {name.rpartition(".")[2]: name for name in settings}
    if any(not isinstance(settings.get(names.get(key, "")), int) for key in LENGTHS):
        return {}
    longest, video = (settings[names[key]] for key in LENGTHS)
    text = longest - video - SPECIAL_TOKENS
    return {
        names["max_len"]: {"model.max_text_tokens": text},
        names["max_video_len"]: {
            "model.max_video_tokens": video,
            "clips.max_video_seconds": video,
        },
    }


def _load(path: Path, depth: int = 0) -> Settings:
    """Read a file over those that it includes."""
    try:
        content = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DataError(f"not a YAML file of settings ({one_line(error)})", path) from error
    if not isinstance(content, dict):
        raise DataError("not a YAML file of settings: name a project file of MMPT", path)
    included = content.pop("includes", None)
    if included is None:
        return content
    names = included if isinstance(included, list) else [included]
    if depth == MAX_INCLUDES:
        raise DataError(f"more than {MAX_INCLUDES} files include each other", path)
    merged: Settings = {}
    for name in names:
        found = [p / str(name) for p in path.absolute().parents if (p / str(name)).is_file()]
        if not found:
            raise DataError(
                f"the included file {name} is neither beside this file nor in a folder above it: "
                "copy it there",
                path,
            )
        _merge(merged, _load(found[0], depth + 1))
    _merge(merged, content)
    return merged


def _merge(into: Settings, new: Settings) -> None:
    for name, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value
