"""`videoclip segment`: label every second of a video."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import UseAppendAction, arg

from videoclip.cli import options
from videoclip.cli.results import Output, read_texts
from videoclip.config.codec import NotNegative


@dataclass(frozen=True)
class Segment:
    """Give every second of a video one of several labels, or none.

    Labels may occur in any order and more than once. Prints one line for each labelled span.
    """

    stray: ClassVar[str] = "give each label as --label TEXT, or a file as --labels FILE"

    video: options.Video
    labels: Annotated[Path | None, arg(metavar="FILE")] = None
    """Text file with one label per line."""
    label: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="TEXT")] = ()
    """A label; may be repeated."""
    model: options.Model = None
    threshold: options.Threshold = options.THRESHOLD
    switch_cost: NotNegative[float] = 2.0
    """Cost of a change of label, in z-score; higher: fewer, longer spans."""
    output: Annotated[Output, arg(name="")] = field(default_factory=Output)
    device: options.Device = options.AUTO
    json: options.Json = False

    def run(self) -> int:
        """Print the timeline and write the files that were asked for."""
        from videoclip.zeroshot.results import segment

        timeline = segment(
            self.video,
            read_texts(self.labels, self.label, hint=f"; {self.stray}"),
            options.load_embedder(self.model, self.device),
            threshold=self.threshold,
            switch_cost=self.switch_cost,
        )
        self.output.show(timeline, self.json)
        return 0
