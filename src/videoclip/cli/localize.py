"""`videoclip localize`: find where the steps of a task happen in a video."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from videoclip.cli.timelines import Output, print_timeline, read_texts

__all__ = ["Localize"]


@dataclass(frozen=True)
class Localize:
    """Find where each step of a task happens in a video, steps in their order.

    Prints a line for each step that was found, and says which were not.
    """

    video: Annotated[Path, tyro.conf.Positional]
    """The video."""
    steps: Path | None = None
    """File of steps in their order, one a line."""
    step: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A step; may be given several times."""
    any_order: bool = False
    """Look for each step wherever it suits better than the others."""
    model: str = "starter"
    """Model folder, hub id or "starter"."""
    threshold: float = 1.0
    """Deviations above unrelated texts from which on a second may belong to a step."""
    require_match: bool = False
    """Exit with status 3 if no step is found."""
    output: Annotated[Output, tyro.conf.arg(name="")] = field(default_factory=Output)
    json: bool = False
    """Print the timeline as JSON."""
    device: str = "cpu"
    """Torch device."""

    def run(self) -> int:
        """Localise the steps and print, and write, the timeline."""
        from videoclip.embedding import Embedder
        from videoclip.zeroshot.video import localize

        timeline = localize(
            self.video,
            read_texts(self.steps, self.step),
            Embedder.from_pretrained(self.model, self.device),
            ordered=not self.any_order,
            threshold=self.threshold,
        )
        print_timeline(timeline, self.json)
        self.output.write(timeline)
        return 3 if self.require_match and not timeline.moments else 0
