"""`videoclip synth`: write a synthetic narrated world."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from videoclip.cli import options
from videoclip.synthetic.world import SyntheticConfig


@dataclass(frozen=True)
class Synth:
    """Write a synthetic world: narrated videos with known answers, and benchmark annotations.

    Short videos of objects that move, grow, fill and hide. The narration is early or late, contains
    chatter and leaves out some steps. The same command continues an interrupted run, and a larger
    number of videos later adds to the same world.
    """

    out: Annotated[Path, Positional, arg(metavar="FOLDER")]
    """Folder to write to."""
    num_videos: options.NumVideos = 50
    world: Annotated[SyntheticConfig, arg(name="")] = field(default_factory=SyntheticConfig)
    workers: options.Workers = None
    json: options.Json = False

    def run(self) -> int:
        """Write the world and print a summary."""
        from videoclip.synthetic.write import write_world

        summary = write_world(
            self.out, self.world, self.num_videos, self.workers, options.progress_line("videos")
        )
        if self.json:
            print(json.dumps(dataclasses.asdict(summary), default=str))
        else:
            print(
                f"{summary.num_videos} videos ({summary.num_test} for testing), "
                f"{summary.seconds / 60:.1f} minutes, in {summary.folder / 'videos'}\n"
                f"{summary.num_steps_shown} steps shown, {summary.num_held_out_shown} of them "
                f"held-out combinations; annotations are in {summary.folder / 'annotations'}"
            )
        return 0
