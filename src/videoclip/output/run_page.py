"""The page of a run: losses, speed, and what the model finds before and after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from videoclip.config import PretrainConfig
from videoclip.data.clips import clip_tokens
from videoclip.data.narrated import NarratedCorpus
from videoclip.data.tokenizer import Tokenizer
from videoclip.errors import DecodeError
from videoclip.model.batch import collate, embed_batch
from videoclip.model.videoclip import VideoCLIP
from videoclip.output.clip import write_thumbnail
from videoclip.output.figures import average_losses, draw_losses, new_figure, style, to_svg
from videoclip.output.html import render
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


class RunPage:
    """The page of a pre-training run, of clip pairs compared before and after training.

    There are about `NUM_PAIRS` aligned clip pairs, of evenly spaced videos.

    Args:
        model: The model, before training; it is trained in place.
        corpus: Videos to draw clip pairs of.
        config: The run: how clip pairs are drawn, and the seed.
        tokenizer: The vocabulary of the words.
        paths: Video files by id, where they are at hand.
        is_held_out: Whether the videos are not trained on.

    Attributes:
        moments: The N video clips; labels are their texts.
    """

    def __init__(
        self,
        model: VideoCLIP,
        corpus: NarratedCorpus,
        config: PretrainConfig,
        tokenizer: Tokenizer,
        paths: Mapping[str, Path],
        *,
        is_held_out: bool,
    ) -> None:
        self._model, self._is_held_out = model, is_held_out
        videos = np.unique(np.linspace(0, len(corpus) - 1, NUM_PAIRS).round().astype(int)).tolist()
        num_clips = max(1, NUM_PAIRS // len(videos))
        clips = replace(config.clips, strategy="aligned", clips_per_video=num_clips)
        rng = np.random.default_rng(config.seed)
        longest = model.config.max_text_tokens
        self.moments: list[Moment] = []
        features: list[np.ndarray] = []
        texts: list[np.ndarray] = []
        for i in videos:
            video_id, narration = corpus[i].video_id, corpus[i].narration
            path = paths.get(video_id, Path(video_id))
            pairs = list(dict.fromkeys(corpus.draw_pairs(i, clips, rng, longest)))
            features += corpus.read_clips(i, pairs)
            for pair in pairs:
                text = clip_tokens(narration, pair, longest)
                texts.append(text)
                label = tokenizer.decode(text.tolist())
                self.moments.append(Moment(path, pair.video_start, pair.video_end, label))
        self._batch = collate(list(zip(features, texts, strict=True)), model.config.pad_id)
        self._before = self.similarities()

    def similarities(self) -> FloatArray:
        """Return (N, N) similarities of each text (row) with each clip, by the model as it is."""
        was_training = self._model.training
        video, text = embed_batch(self._model.eval(), self._batch)
        self._model.train(was_training)
        found: FloatArray = self._model.similarity(text, video).cpu().numpy()
        return found

    def render(
        self,
        name: str,
        summary: str,
        measures: Sequence[Sequence[str]],
        log: Sequence[Mapping[str, Any]],
    ) -> str:
        """Return the page, after training.

        Args:
            name: Name of the run.
            summary: The outcome, in one line.
            measures: Name, value before and value after of each; none if nothing was measured.
            log: Entries of log.jsonl.
        """
        before, after = self._before, self.similarities()
        validation = [(e["update"], e["validation_loss"]) for e in log if "validation_loss" in e]
        losses = draw_losses([(name, average_losses(log), validation)])
        with TemporaryDirectory() as folder:
            return render(
                "run.html",
                name=name,
                summary=summary,
                measures=measures,
                losses=to_svg(losses, "Training and validation loss over the updates"),
                series=to_svg(_draw_series(log), ", ".join(SERIES.values())),
                matrices=to_svg(_draw_matrices(before, after), "Similarities before and after"),
                nearest=_nearest(self.moments, before, after, Path(folder)),
                is_held_out=self._is_held_out,
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
            nearest = [moments[j] for j in np.argsort(-matrix[i], kind="stable")[:NUM_NEAREST]]
            shown = [(m, m.path == moments[i].path, _thumbnail(m, folder)) for m in nearest]
            columns.append((title, shown))
        rows.append((cut_text(moments[i].label, 120), columns))
    return rows


def _thumbnail(moment: Moment, folder: Path) -> Path | None:
    """Return a picture of a clip; None if its video is not at hand or cannot be read."""
    try:
        return write_thumbnail(moment, folder) if moment.path.is_file() else None
    except DecodeError:
        return None  # extract has named the file and the reason
