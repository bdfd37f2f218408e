"""`videoclip synth`: write the narrated synthetic world."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from videoclip.synthetic.world import SyntheticConfig

__all__ = ["Synth"]


@dataclass(frozen=True)
class Synth:
    """Write a narrated world with known answers: videos, subtitles and benchmark annotations.

    Short videos of objects that move, grow, fill and hide, with narration that comes early or
    late, chatter, and steps nobody mentions. The same command continues an interrupted run.
    """

    out: Annotated[Path, tyro.conf.Positional]
    """Folder to write to; made if absent."""
    videos: int = 50
    """How many videos. A larger number later adds to the same world."""
    world: Annotated[SyntheticConfig, tyro.conf.arg(name="")] = field(
        default_factory=SyntheticConfig
    )
    workers: int | None = None
    """Processes that render; one per core by default."""
    json: bool = False
    """Print the summary as JSON."""

    def run(self) -> int:
        """Write the world and print a summary."""
        from videoclip.synthetic.write import write_world

        live = sys.stderr.isatty()

        def progress(done: int, total: int) -> None:
            if live:
                end = "\n" if done == total else ""
                print(f"\rvideo {done} of {total}", end=end, file=sys.stderr, flush=True)

        summary = write_world(self.out, self.world, self.videos, self.workers, progress)
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
