"""`videoclip localize`: find when each step of a task happens in a video."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import UseAppendAction, arg

from videoclip.cli import options
from videoclip.cli.results import Output, read_texts


@dataclass(frozen=True)
class Localize:
    """Find when each step of a task happens in a video.

    The steps happen in the given order unless --any-order is given. Prints one line for each step
    that was found, and the names of the others.
    """

    stray: ClassVar[str] = "give each step as --step TEXT, or a file as --steps FILE"

    video: options.Video
    steps: Annotated[Path | None, arg(metavar="FILE")] = None
    """Text file with one step per line."""
    step: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="TEXT")] = ()
    """A step; may be repeated."""
    any_order: bool = False
    """Allow the steps in any order."""
    model: options.Model = None
    threshold: options.Threshold = options.THRESHOLD
    require_match: options.RequireMatch = False
    output: Annotated[Output, arg(name="")] = field(default_factory=Output)
    device: options.Device = options.AUTO
    json: options.Json = False

    def run(self) -> int:
        """Print the timeline and write the files that were asked for."""
        from videoclip.zeroshot.results import localize

        timeline = localize(
            self.video,
            read_texts(self.steps, self.step, hint=f"; {self.stray}"),
            options.load_embedder(self.model, self.device),
            ordered=not self.any_order,
            threshold=self.threshold,
        )
        self.output.show(timeline, self.json)
        return 3 if self.require_match and not timeline.moments else 0
