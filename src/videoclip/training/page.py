"""RUN/index.html: losses, speed, and what the model finds before and after training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from videoclip.data.clips import clip_tokens
from videoclip.data.sources import is_plain
from videoclip.data.tokenizer import Tokenizer
from videoclip.errors import DecodeError
from videoclip.features.extract import find_videos, name_videos
from videoclip.files import write_output
from videoclip.model.batch import collate, embed_batch
from videoclip.model.videoclip import VideoCLIP
from videoclip.output.clip import write_thumbnail
from videoclip.output.figures import draw_losses, new_figure, style, to_svg
from videoclip.output.html import render
from videoclip.training.narrated import NarratedSource
from videoclip.training.run import RunResult
from videoclip.training.run_folder import average_losses, read_log
from videoclip.training.trainer import Purpose, generator
from videoclip.types import FloatArray
from videoclip.zeroshot.moments import Moment, cut_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_PAIRS = 24
"""Clip pairs of the similarity matrix."""
NUM_TEXTS = 6
"""Texts whose nearest clips are shown, each of another video where there are so many."""
NUM_NEAREST = 3
Shown: TypeAlias = tuple[Moment, bool, Path | None]
"""A clip, whether it is of the text's own video, and its thumbnail."""
SERIES = {
    "temperature": "temperature of the softmax",
    "pairs_per_second": "clip pairs per second",
    "lr": "learning rate",
}
"""Numbers of the log that are drawn beside the losses."""


@dataclass(frozen=True)
class ClipPairs:
    """The same clip pairs before and after training, of held-out videos where there are any.

    Attributes:
        source: Where they are from.
        moments: The video clips; labels are their texts.
        tokens: Word-piece ids of the texts.
        features: Frozen features (T, D) of the video clips.
    """

    source: NarratedSource
    moments: tuple[Moment, ...]
    tokens: tuple[np.ndarray, ...]
    features: tuple[np.ndarray, ...]

    @torch.inference_mode()
    def similarities(self, model: VideoCLIP) -> FloatArray:
        """Return (N, N) similarities of each text (row) with each clip."""
        was_training = model.training
        pairs = list(zip(self.features, self.tokens, strict=True))
        video, text = embed_batch(model.eval(), collate(pairs, model.config.pad_id))
        model.train(was_training)
        found: FloatArray = model.similarity(text, video).cpu().numpy()
        return found


def draw_clip_pairs(
    source: NarratedSource, tokenizer: Tokenizer, paths: Mapping[str, Path]
) -> ClipPairs:
    """Draw aligned clip pairs of evenly spaced videos, about `NUM_PAIRS`.

    Args:
        source: The videos of the run.
        tokenizer: Its vocabulary.
        paths: Video files by id, where they are at hand.
    """
    corpus = source.held_out if len(source.held_out) > 1 else source.training
    videos = np.unique(np.linspace(0, len(corpus) - 1, NUM_PAIRS).round().astype(int)).tolist()
    num_clips = max(1, NUM_PAIRS // len(videos))
    clips = replace(source.config.clips, strategy="aligned", clips_per_video=num_clips)
    longest = source.config.model.max_text_tokens
    moments: list[Moment] = []
    tokens: list[np.ndarray] = []
    features: list[np.ndarray] = []
    for i in videos:
        video_id, narration = corpus[i].video_id, corpus[i].narration
        rng = generator(source.config.seed, Purpose.EXAMPLES, 0, i)
        pairs = list(dict.fromkeys(corpus.draw_pairs(i, clips, rng, longest)))
        texts = [clip_tokens(narration, pair, longest) for pair in pairs]
        path = paths.get(video_id, Path(video_id))
        moments += [
            Moment(path, pair.video_start, pair.video_end, tokenizer.decode(text.tolist()))
            for pair, text in zip(pairs, texts, strict=True)
        ]
        tokens += texts
        features += corpus.read_clips(i, pairs)
    return ClipPairs(source, tuple(moments), tuple(tokens), tuple(features))


def run_page(
    source: NarratedSource, tokenizer: Tokenizer, data: object, model: VideoCLIP
) -> Callable[[Path, RunResult], None]:
    """Return what writes RUN/index.html when the model has been trained.

    Args:
        source: The videos of the run.
        tokenizer: Its vocabulary.
        data: What they were read from; thumbnails are taken where that is a folder of videos.
        model: The model before training, which is trained in place.
    """
    paths: dict[str, Path] = {}
    if isinstance(data, Path) and (data.is_dir() or not is_plain(data)):
        files, _ = find_videos([data], archives=True)
        paths = {name: path for path, name in name_videos([file.path for file in files]).items()}
    pairs = draw_clip_pairs(source, tokenizer, paths)
    before = pairs.similarities(model)

    def write(out: Path, result: RunResult) -> None:
        write_output(
            out / "index.html", _render(out, result, pairs, before, pairs.similarities(model))
        )

    return write


def _render(
    out: Path, result: RunResult, pairs: ClipPairs, before: FloatArray, after: FloatArray
) -> str:
    log = read_log(out)
    validation = [(e["update"], e["validation_loss"]) for e in log if "validation_loss" in e]
    losses = draw_losses([(out.name, average_losses(log), validation)])
    is_held_out = len(pairs.source.held_out) > 1
    with TemporaryDirectory() as folder:
        shown = _nearest(pairs.moments, before, after, Path(folder))
        return render(
            "run.html",
            out=out,
            result=result,
            losses=to_svg(losses, "Training and validation loss over the updates"),
            series=to_svg(_draw_series(log), ", ".join(SERIES.values())),
            matrices=to_svg(_draw_matrices(before, after), "Similarities before and after"),
            nearest=shown,
            clips="of videos that were held out" if is_held_out else "of the training videos",
        )


@style()
def _draw_series(log: Sequence[Mapping[str, Any]]) -> Figure:
    figure = new_figure(820, 180)
    for axes, (name, title) in zip(figure.subplots(1, len(SERIES)), SERIES.items(), strict=True):
        points = [(entry["update"], entry[name]) for entry in log if name in entry]
        axes.plot(*np.reshape(points, (-1, 2)).T, linewidth=1)
        axes.set(title=title, xlabel="updates")
        axes.set_ylim(bottom=0)
    return figure


@style()
def _draw_matrices(before: FloatArray, after: FloatArray) -> Figure:
    """Draw two matrices with the same colours; texts are rows, clips columns."""
    figure = new_figure(820, 400)
    low, high = min(before.min(), after.min()), max(before.max(), after.max())
    for axes, matrix, title in zip(
        figure.subplots(1, 2), (before, after), ("before training", "after"), strict=True
    ):
        image = axes.imshow(matrix, cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
        axes.set(title=title, xlabel="clips", ylabel="texts", xticks=[], yticks=[])
    figure.colorbar(image, ax=figure.axes, shrink=0.8)
    return figure


def _nearest(
    moments: Sequence[Moment], before: FloatArray, after: FloatArray, folder: Path
) -> list[tuple[str, list[tuple[str, list[Shown]]]]]:
    """Return some texts, each with its nearest clips before and after training."""
    chosen = np.unique(np.linspace(0, len(moments) - 1, NUM_TEXTS).round().astype(int)).tolist()
    rows = []
    for i in chosen:
        columns = []
        for title, matrix in (("before", before), ("after", after)):
            order = np.argsort(-matrix[i], kind="stable")[:NUM_NEAREST].tolist()
            columns.append((title, [_shown(moments[j], moments[i], folder) for j in order]))
        rows.append((cut_text(moments[i].label, 120), columns))
    return rows


def _shown(moment: Moment, wanted: Moment, folder: Path) -> Shown:
    thumbnail: Any = None
    if moment.path.is_file():
        try:
            thumbnail = write_thumbnail(moment, folder)
        except DecodeError:
            thumbnail = None  # extract has named the file and the reason
    return moment, moment.path == wanted.path, thumbnail
