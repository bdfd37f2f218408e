"""The variants of the method, and their runs: trained with several seeds on a world, and measured.

A variant is a named configuration, one difference away from another. A run is a folder,
OUT/runs/WORLD/VARIANT/seed-N. Finished runs are kept, so an interrupted ablation continues, and
further variants, seeds and worlds add to the same table.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videoclip.ablation.measure import MEASURES, Counts, measure
from videoclip.ablation.testbed import TestBed, build_testbed
from videoclip.config import PlanConfig, PretrainConfig
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError, unknown
from videoclip.evaluation.trial import EmbedderEncoder
from videoclip.files import read_json, write_state
from videoclip.output.figures import average_losses
from videoclip.processes import map_in_processes
from videoclip.recipes import crossmodal, paper, small
from videoclip.synthetic.world import SyntheticConfig
from videoclip.training.pretrain import pretrain
from videoclip.training.run_folder import lock_folder, read_log

VIDEOS_PER_BATCH = 28
CLIPS_PER_VIDEO = 4
MAX_SECONDS = 12
EPOCHS = 5


@dataclass(frozen=True)
class Variant:
    """A configuration to train and measure.

    Attributes:
        summary: Description in the table.
        against: The variant it is compared with and one difference away from; may be empty.
        config: The configuration.
        rerank_top: How many of the best candidates a re-ranker orders; 0: none.
        trained_as: Variant whose trained model this one measures in another way; empty: its own.
        teacher: Variant whose model, of the same seed, plans the batches; empty: its own.
    """

    summary: str
    against: str
    config: PretrainConfig
    rerank_top: int = 0
    trained_as: str = ""
    teacher: str = ""

    @property
    def depends_on(self) -> str:
        """The variant that must run first; empty: none."""
        return self.trained_as or self.teacher


def _changed(run: PretrainConfig, **changes: Any) -> PretrainConfig:
    """Return a configuration with other fields; a dict has the fields to change of a part."""
    parts = {k: replace(getattr(run, k), **v) for k, v in changes.items() if isinstance(v, dict)}
    return replace(run, **(changes | parts))


def _sized(run: PretrainConfig) -> PretrainConfig:
    """Give a run the sizes that all variants share: short videos, few words, a minute of training.

    A step takes about 8 seconds, of which its narration takes 5.
    """
    return _changed(
        run,
        epochs=EPOCHS,
        clips={
            "clips_per_video": CLIPS_PER_VIDEO,
            "min_video_seconds": 3,
            "max_video_seconds": MAX_SECONDS,
            "max_text_tokens": min(run.clips.max_text_tokens, 16),
        },
        model={
            "hidden_size": 128,
            "num_video_layers": 1,
            "num_text_layers": 1,
            "num_heads": 4,
            "intermediate_size": 256,
            # Seconds beyond the longest clip are never trained; windows must not be longer.
            "max_video_tokens": MAX_SECONDS,
            "max_text_tokens": 32,
        },
        plan={
            "first_epoch": min(run.plan.first_epoch, 2),  # few epochs, of many videos
            "videos_per_batch": VIDEOS_PER_BATCH,
            "clips_per_vector": max(1, run.plan.clips_per_vector * CLIPS_PER_VIDEO // 16),
        },
        optim={"lr": 1e-3, "warmup_updates": 50},
    )


SMALL = _sized(small())
"""The recipe `small`, in the sizes of the test bed."""
PAPER = _changed(
    _sized(replace(paper(), optim=small().optim, validation_videos=0)),
    plan={"num_neighbours": 2 * VIDEOS_PER_BATCH},
)
"""The paper's method, with the optimiser of `small`, so that only method differs."""
CROSSMODAL = _changed(
    _sized(replace(crossmodal(), optim=replace(small().optim, schedule="cooldown"))),
    epochs=4,
    loss={"reranker_share": 0.5},
)
"""The cross-modal variant, likewise, in the time of 7 epochs of `small`."""
SHUFFLED = PlanConfig(kind="shuffled", videos_per_batch=VIDEOS_PER_BATCH)
ALIGNED = {"strategy": "aligned", "lead_seconds": 0.0}
CROSS: dict[str, Any] = {"model": {"num_cross_layers": 1}, "validation_share": 0.05}
"""A re-ranker, and training videos that are held out to see whether it helps."""
EVERY_CLIP = 1_000_000
"""As `rerank_top`: the re-ranker scores all clips."""
ALL_NEGATIVES = {"ignore_overlapping": False}
ACROSS_PAUSES = {"max_pause_seconds": 0.0, "min_text_tokens": 6, "max_text_tokens": 12}


def _variant(summary: str, *, against: str, run: PretrainConfig, **changes: Any) -> Variant:
    """Return a configuration with some changes, compared with a variant."""
    return Variant(summary, against, _changed(run, **changes))


_paper = partial(_variant, against="paper", run=PAPER)
_small = partial(_variant, against="small", run=SMALL)

VARIANTS: dict[str, Variant] = {
    "paper": Variant("the paper: overlap and retrieved batches", "", PAPER),
    "paper-shuffled": _paper("without retrieved batches", plan=SHUFFLED),
    "paper-aligned": _paper(
        "without retrieved batches and overlap",
        against="paper-shuffled",
        plan=SHUFFLED,
        clips=ALIGNED,
    ),
    "paper-mil-nce": _paper(
        "MIL-NCE clips and loss", clips={"strategy": "mil_nce"}, loss={"kind": "mil_nce"}
    ),
    "paper-shared": _paper("one encoder for both", model={"shared_encoder": True}),
    "paper-retrieve-k": _paper("retrieve k, not 2k", plan={"num_neighbours": VIDEOS_PER_BATCH}),
    "paper-start-vectors": _paper(
        "a video's vector from its start", plan={"vector_strategy": "start"}
    ),
    "paper-cls": _paper("[CLS] instead of the mean", model={"pooling": "cls"}),
    "paper-long": _paper("four times as long", epochs=4 * EPOCHS),
    "paper-10-epochs": _paper("twice as long", epochs=10),
    "paper-40-epochs": _paper("eight times as long", epochs=40),
    "paper-no-dropout": _paper("without dropout", model={"dropout": 0.0}),
    "small": Variant(
        "ours: cosine, learned temperature, lead, sentences, mined batches, lenient loss",
        "paper",
        SMALL,
    ),
    "small-equal-time": _small(
        "ours, an epoch more: about the time of the paper's", against="paper", epochs=6
    ),
    "small-shuffled": _small("ours with shuffled batches", plan=SHUFFLED),
    "small-teacher": replace(
        _small("batches mined by the frozen finished model", plan={"first_epoch": 1}),
        teacher="small",
    ),
    "small-no-lead": _small("ours without a lead", clips={"lead_seconds": 0}),
    "small-learned-lead": _small("ours with a learned lead", clips={"learn_lead": True}),
    "small-across-pauses": _small("ours with texts across pauses", clips=ACROSS_PAUSES),
    "small-all-negatives": _small("ours with overlapping pairs as negatives", loss=ALL_NEGATIVES),
    "small-no-seconds": _small("ours without the loss of seconds", loss={"seconds_weight": 0.0}),
    "small-no-dropout": _small("ours without dropout", model={"dropout": 0.0}),
    "small-ema": _small("ours with averaged weights", optim={"ema_decay": 0.98}),  # half an epoch
    "small-cooldown": _small("ours with a cooldown", optim={"schedule": "cooldown"}),
    "small-text-lr": _small("ours with a slower text tower", optim={"text_lr_scale": 0.5}),
    "small-recompute": _small("ours with recomputed activations", recompute_layers=True),
    "small-vectors": _small("ours with four clips a vector", plan={"clips_per_vector": 4}),
    "small-equal-texts": _small(
        "equal sentences are positives", loss={"kind": "equal_sentences"} | ALL_NEGATIVES
    ),
    "small-neighbours": _small(
        "neighbours in time are positives", loss={"kind": "neighbours"} | ALL_NEGATIVES
    ),
    "small-time-warping": _small(
        "videos are contrasted by time warping", loss={"kind": "time_warping"}
    ),
    "small-transport": _small("videos are contrasted by transport", loss={"kind": "transport"}),
    "small-long": _small("ours, four times as long", against="paper-long", epochs=4 * EPOCHS),
    "small-10-epochs": _small("ours, twice as long", against="paper-10-epochs", epochs=10),
    "small-40-epochs": _small("ours, eight times as long", against="paper-40-epochs", epochs=40),
    "small-aligned": _small("ours without overlap", clips=ALIGNED),
    "small-soft": _small("soft targets", loss={"soft_target_share": 0.2} | ALL_NEGATIVES),
    "small-sigmoid": _small(
        "sigmoid loss",
        loss={"kind": "sigmoid"} | ALL_NEGATIVES,
        model={"learn_logit_bias": True},
    ),
    "small-cross": _small("a re-ranker trained beside the towers, which rank alone", **CROSS),
    "small-reranked": replace(
        _small("the best 20 re-ranked", against="small-cross", **CROSS),
        rerank_top=20,
        trained_as="small-cross",
    ),
    "crossmodal": Variant(
        "the cross-modal variant, which scores every clip",
        "small",
        CROSSMODAL,
        rerank_top=EVERY_CLIP,
    ),
    "crossmodal-towers": Variant(
        "its towers alone", "crossmodal", CROSSMODAL, trained_as="crossmodal"
    ),
}
"""By name."""


MEASURED_FILE = "measured.json"


@dataclass(frozen=True)
class FinishedRun:
    """A run that has been trained and measured.

    Attributes:
        world: Name of the world.
        variant: Name of the variant.
        seed: Seed of the run.
        counts: Its measures on the test videos.
        curve: (updates, loss) averaged over parts of the run.
        updates: Updates of the run.
        pairs: Clip pairs it was trained on.
        cpu_seconds: Processor time of the training.
    """

    world: str
    variant: str
    seed: int
    counts: Counts
    curve: tuple[tuple[int, float], ...]
    updates: int
    pairs: int
    cpu_seconds: float


def run_ablation(
    out: Path,
    name: str,
    world: SyntheticConfig,
    num_videos: int,
    *,
    variants: Sequence[str],
    seeds: Sequence[int],
    num_workers: int | None = 0,
    on_message: Callable[[str], None] = lambda text: None,
) -> None:
    """Do every run that is not finished: all seeds of each variant, in the order given.

    Args:
        out: Folder of the ablation.
        name: Name of the world.
        world: Its configuration.
        num_videos: How many videos it has.
        variants: Names in `VARIANTS`.
        seeds: Seeds of each variant.
        num_workers: Processes, each for one run on one core; None: one per core; 0: only this one.
        on_message: Called with a line of text when something is done.

    Raises:
        ConfigError: If there is no such variant, or another process is using the folder.
        DataError: If the name belongs to another world.
        VideoCLIPError: As training does.
    """
    for variant in variants:
        if variant not in VARIANTS:
            raise ConfigError(unknown("variant", variant, VARIANTS))

    def on_progress(done: int, total: int) -> None:
        if done == total or done % 50 == 0:
            on_message(f"world {name}: {done} of {total} videos")

    out.mkdir(parents=True, exist_ok=True)
    with lock_folder(out, "ablation"):
        build_testbed(out / "worlds" / name, world, num_videos, num_workers, on_progress)
        # A variant that needs another one's model runs after it, not in parallel.
        for is_dependent in (False, True):
            runs = [
                (variant, seed)
                for variant in variants
                if bool(VARIANTS[variant].depends_on) == is_dependent
                for seed in seeds
            ]
            results = map_in_processes(partial(_run_variant, out, name), runs, num_workers)
            for (variant, seed), _ in zip(runs, results, strict=True):
                on_message(f"world {name}: variant {variant}, seed {seed} is done")


def run_folder(out: Path, world: str, variant: str, seed: int) -> Path:
    """Where a run lies in the folder of an ablation."""
    return out / "runs" / world / variant / f"seed-{seed}"


def _run_variant(out: Path, world: str, run: tuple[str, int]) -> None:
    """Train and measure a variant with one seed, on one thread, unless that is done."""
    (name, seed), variant = run, VARIANTS[run[0]]
    folder = run_folder(out, world, name, seed)
    if _is_measured(read_json(folder / MEASURED_FILE)):
        return
    torch.set_num_threads(1)
    if variant.depends_on:
        _run_variant(out, world, (variant.depends_on, seed))
    testbed = _open_testbed(out / "worlds" / world)
    trained = run_folder(out, world, variant.trained_as or name, seed)
    if known := read_json(trained / MEASURED_FILE):
        training = known["training"]
    else:
        config = make_config(variant, testbed, seed)
        if variant.teacher:
            teacher = run_folder(out, world, variant.teacher, seed) / "model"
            config = replace(config, plan=replace(config.plan, teacher=str(teacher)))
        training = _train(config, testbed, folder)
    embedder = Embedder.from_pretrained(trained / "model")
    counts = measure(EmbedderEncoder(embedder), testbed, variant.rerank_top)
    lists = {measured: pairs.tolist() for measured, pairs in counts.items()}
    write_state(folder / MEASURED_FILE, {"training": training, "counts": lists})


def make_config(variant: Variant, testbed: TestBed, seed: int) -> PretrainConfig:
    """Return the configuration of a run: the variant's, with the features and words of the bed."""
    config, spec, words = variant.config, testbed.store.spec, testbed.tokenizer
    model = replace(
        config.model,
        backbone=spec.backbone,
        feature_dim=spec.dim,
        normalized_features=spec.normalized,
        vocab_size=words.vocab_size,
        pad_id=words.pad_id,
        cls_id=words.cls_id,
        sep_id=words.sep_id,
    )
    return replace(config, model=model, seed=seed, precision="bf16")


def _train(config: PretrainConfig, testbed: TestBed, folder: Path) -> dict[str, object]:
    """Train and return facts about the run; of a resumed one, the time of its last part."""
    began = time.process_time()
    pretrain(config, testbed.corpus, folder, show_progress=False)
    seconds = time.process_time() - began
    log = [entry for entry in read_log(folder) if "loss" in entry]
    return {
        "curve": [(update, round(loss, 4)) for update, loss in average_losses(log)],
        "updates": len(log),
        "pairs": sum(entry["num_pairs"] for entry in log),
        "cpu_seconds": round(seconds, 1),
    }


def read_runs(out: Path) -> list[FinishedRun]:
    """Return every finished run, by world, variant and seed."""
    runs = []
    for path in sorted((out / "runs").glob(f"*/*/seed-*/{MEASURED_FILE}")):
        world, variant, seed = path.parts[-4:-1]
        content = read_json(path)
        if not _is_measured(content):
            continue  # by another version; `run_ablation` measures it again
        training = content["training"]
        curve = tuple((int(update), float(loss)) for update, loss in training.pop("curve"))
        counts = {name: np.array(pairs) for name, pairs in content["counts"].items()}
        seed_number = int(seed.removeprefix("seed-"))
        runs.append(FinishedRun(world, variant, seed_number, counts, curve, **training))
    return runs


def _is_measured(content: Mapping[str, Any]) -> bool:
    """Whether the content of a measured file has the measures of this version."""
    return set(content.get("counts", ())) == set(MEASURES)


_open_testbed = lru_cache(maxsize=1)(TestBed.open)
