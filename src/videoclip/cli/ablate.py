"""`videoclip ablate`: the method against itself with one thing changed."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from videoclip.synthetic.world import SyntheticConfig

__all__ = ["Ablate"]


@dataclass(frozen=True)
class Ablate:
    """Train the rows of the ablation table on a synthetic world and compare them, zero-shot.

    A row is a configuration one difference away from another; `--list` names them. Every row and
    seed is a run of its own, done once: the same command continues, and another one with further
    rows, seeds or worlds adds to the same table.
    """

    out: Annotated[Path, tyro.conf.Positional]
    """Folder for worlds, runs and the table: OUT/table.md, OUT/table.json, OUT/table.svg."""
    name: str = "world"
    """Name of the world, under which its runs are kept."""
    videos: int = 3000
    """How many videos the world has."""
    world: Annotated[SyntheticConfig, tyro.conf.arg(name="world")] = field(
        default_factory=lambda: SyntheticConfig(
            step_seconds=(4, 12), steps_per_video=(3, 5), gap_seconds=(1, 4)
        )
    )
    rows: tuple[str, ...] = ()
    """Rows to train; all by default."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds of each row."""
    processes: int = 1
    """Runs side by side, each on one core."""
    list: bool = False
    """Name the rows and stop."""
    json: bool = False
    """Print the table as JSON."""

    def run(self) -> int:
        """Do what is missing and print the table."""
        from videoclip.ablation.rows import ROWS

        if self.list:
            for name, row in ROWS.items():
                print(f"{name:20}{row.summary}")
            return 0
        from videoclip.ablation.ablate import ablate, write_table
        from videoclip.ablation.table import to_dict

        def say(text: str) -> None:
            print(text, file=sys.stderr, flush=True)

        ablate(
            self.out,
            self.name,
            self.world,
            self.videos,
            rows=self.rows or tuple(ROWS),
            seeds=self.seeds,
            num_processes=self.processes,
            say=say,
        )
        table = write_table(self.out)
        text = (self.out / "table.md").read_text(encoding="utf-8")
        print(json.dumps(to_dict(table)) if self.json else text, end="")
        return 0
