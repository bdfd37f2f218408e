"""`videoclip ablate`: train and compare variants of the method on a synthetic world."""

import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from videoclip.cli.options import Json, NumVideos, Workers
from videoclip.config.codec import NOT_NEGATIVE
from videoclip.synthetic.world import SyntheticConfig


@dataclass(frozen=True)
class Ablate:
    """Train variants of the method on a synthetic world and compare them, zero-shot.

    Each variant differs in one thing from another one; `--list` names them. Finished runs are
    kept: the same command continues an interrupted ablation, and further variants, seeds and worlds
    add to the same table.
    """

    out: Annotated[Path, Positional, arg(metavar="OUT")]
    """Folder for worlds, runs and results: OUT/table.md, OUT/table.json, OUT/table.svg."""
    name: str = "world"
    """Name of the world; its runs are kept under it."""
    num_videos: NumVideos = 3000
    world: Annotated[SyntheticConfig, arg(name="world")] = field(
        default_factory=lambda: SyntheticConfig(
            step_seconds=(4, 12), steps_per_video=(3, 5), gap_seconds=(1, 4)
        )
    )
    variants: Annotated[tuple[str, ...], arg(metavar="[NAME ...]")] = ()
    """Variants to train; all by default."""
    seeds: Annotated[tuple[int, ...], NOT_NEGATIVE] = (1, 2, 3)
    """Seeds of each variant."""
    workers: Workers = None
    list: bool = False
    """List the variants and exit."""
    json: Json = False

    def run(self) -> int:
        """Do the missing runs and print the table."""
        from videoclip.ablation.runs import VARIANTS

        if self.list:
            for name, variant in VARIANTS.items():
                print(f"{name:20}{variant.summary}")
            return 0
        from videoclip.ablation.runs import run_ablation
        from videoclip.ablation.table import write_report

        run_ablation(
            self.out,
            self.name,
            self.world,
            self.num_videos,
            variants=self.variants or tuple(VARIANTS),
            seeds=self.seeds,
            num_workers=self.workers,
            on_message=partial(print, file=sys.stderr, flush=True),
        )
        write_report(self.out)
        table = self.out / ("table.json" if self.json else "table.md")
        print(table.read_text(encoding="utf-8"), end="")
        return 0
