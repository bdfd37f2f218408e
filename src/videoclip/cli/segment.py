"""`videoclip segment`: label every second of a video, zero-shot."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from videoclip.cli.timelines import Output, print_timeline, read_texts

__all__ = ["Segment"]


@dataclass(frozen=True)
class Segment:
    """Label every second of a video with one of some texts, or with none.

    Labels may come in any order and more than once. Prints a line for each span.
    """

    video: Annotated[Path, tyro.conf.Positional]
    """The video."""
    labels: Path | None = None
    """File of labels, one a line."""
    label: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A label; may be given several times."""
    model: str = "starter"
    """Model folder, hub id or "starter"."""
    threshold: float = 1.0
    """Deviations above unrelated texts from which on a second is not background."""
    switch_cost: float = 2.0
    """What a change of label must gain in the same unit; higher: fewer, longer spans."""
    output: Annotated[Output, tyro.conf.arg(name="")] = field(default_factory=Output)
    json: bool = False
    """Print the timeline as JSON."""
    device: str = "cpu"
    """Torch device."""

    def run(self) -> int:
        """Segment the video and print, and write, its timeline."""
        from videoclip.embedding import Embedder
        from videoclip.zeroshot.video import segment

        timeline = segment(
            self.video,
            read_texts(self.labels, self.label),
            Embedder.from_pretrained(self.model, self.device),
            threshold=self.threshold,
            switch_cost=self.switch_cost,
        )
        print_timeline(timeline, self.json)
        self.output.write(timeline)
        return 0
