"""`videoclip synth`: write the narrated synthetic world."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from videoclip.synthetic.settings import WorldConfig

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
    world: Annotated[WorldConfig, tyro.conf.arg(name="")] = field(default_factory=WorldConfig)
    processes: int | None = None
    """Processes that render; every core by default."""
    json: bool = False
    """Print the summary as JSON."""

    def run(self) -> int:
        """Write the world and print what lies where."""
        from videoclip.synthetic.write import write_world

        live = sys.stderr.isatty()

        def progress(done: int, total: int) -> None:
            if live:
                end = "\n" if done == total else ""
                print(f"\rvideo {done} of {total}", end=end, file=sys.stderr, flush=True)

        summary = write_world(self.out, self.world, self.videos, self.processes, progress)
        if self.json:
            print(json.dumps(dataclasses.asdict(summary), default=str))
        else:
            print(
                f"{summary.num_videos} videos ({summary.num_test} for testing), "
                f"{summary.seconds / 60:.1f} minutes, in {summary.folder / 'videos'}\n"
                f"{summary.num_steps_shown} steps shown, {summary.num_held_out_shown} of them "
                f"held-out combinations; the truth is in {summary.folder / 'annotations'}"
            )
        return 0
