"""Draw the figures of docs/method.md with the code that trains: python -m tools.figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from videoclip.config import ClipConfig, PlanConfig
from videoclip.data.batch_plan import make_plan
from videoclip.data.clips import Narration, draw_clip_pair
from videoclip.output.figures import GREY, PALETTE, new_figure, style, to_svg

DOCS = Path(__file__).resolve().parents[1] / "docs"
NUM_SECONDS, NUM_PAIRS = 90, 6


@style()
def clip_pairs() -> str:
    """Return a video's cues, and pairs that `draw_clip_pair` draws from it, as SVG."""
    rng = np.random.default_rng(4)
    starts = np.arange(2.0, NUM_SECONDS - 6, 7) + rng.uniform(0, 3, 12)
    cues = tuple(np.arange(n) for n in rng.integers(5, 12, 12))
    narration = Narration(starts, starts + rng.uniform(2, 4, 12), cues)
    config = ClipConfig(min_text_tokens=8, max_text_tokens=40)
    figure = new_figure(820, 260)
    axes = figure.add_subplot(xlabel="seconds of the video", xlim=(0, NUM_SECONDS))
    axes.barh([NUM_PAIRS] * 12, narration.ends - starts, left=starts, height=0.5, color=GREY)
    for row in range(NUM_PAIRS):
        pair = draw_clip_pair(narration, NUM_SECONDS, config, rng)
        first, last = starts[pair.text_start], narration.ends[pair.text_end - 1]
        video = pair.video_end - pair.video_start
        axes.barh(row + 0.2, last - first, left=first, height=0.35, color=PALETTE[0])
        axes.barh(row - 0.2, video, left=pair.video_start, height=0.35, color=PALETTE[1])
    names = [f"pair {NUM_PAIRS - row}" for row in range(NUM_PAIRS)]
    axes.set_yticks(range(NUM_PAIRS + 1), [*names, "cues"])
    return to_svg(figure, "Six clip pairs of a video: text clips in blue, video clips in orange")


@style()
def batches() -> str:
    """Return the similarities within a shuffled and a retrieved batch of made-up videos, as SVG."""
    rng = np.random.default_rng(0)
    topics = rng.normal(size=(40, 16)).repeat(25, axis=0)
    vectors = topics + 0.6 * rng.normal(size=topics.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    figure = new_figure(820, 360)
    for column, kind in enumerate(("shuffled", "retrieval"), start=1):
        config = PlanConfig(kind=kind, videos_per_batch=16, num_neighbours=32)
        plan = make_plan(config, len(vectors), seed=1, epoch=1, vectors=vectors)
        batch = vectors[list(plan.groups[0])]
        axes = figure.add_subplot(1, 2, column, title=f"plan.kind = {kind}")
        image = axes.imshow(batch @ batch.T, vmin=0, vmax=1, cmap="viridis")
        axes.set(xlabel="video of the batch", ylabel="video of the batch")
    figure.colorbar(image, ax=figure.axes, label="cosine similarity")
    return to_svg(figure, "Similarities of videos within a shuffled and a retrieved batch")


def main() -> None:
    """Write both figures."""
    for draw in (clip_pairs, batches):
        name = f"method-{draw.__name__.replace('_', '-')}.svg"
        (DOCS / name).write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
