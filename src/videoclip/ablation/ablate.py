"""The whole ablation: build the world, do the runs that are missing, write table and picture."""

from __future__ import annotations

import difflib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import numpy as np

from videoclip.ablation.bed import build_bed
from videoclip.ablation.charts import draw_curves, draw_differences
from videoclip.ablation.claims import claims
from videoclip.ablation.claims import markdown as claims_markdown
from videoclip.ablation.rows import ROWS
from videoclip.ablation.run import finished, perform
from videoclip.ablation.seconds import Counts, trivial
from videoclip.ablation.table import Line, lines, markdown, to_dict
from videoclip.errors import ConfigError
from videoclip.files import write_text
from videoclip.output.figures import to_svg
from videoclip.synthetic.world import SyntheticConfig
from videoclip.training.run_folder import write_json

__all__ = ["ablate", "write_table"]

TRIVIAL_FILE = "trivial.json"


def ablate(
    out: Path,
    name: str,
    world: SyntheticConfig,
    num_videos: int,
    *,
    rows: Sequence[str],
    seeds: Sequence[int],
    num_processes: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Do every run that is not done yet, the rows in the order given, each with all its seeds.

    Args:
        out: Folder of the ablation.
        name: Name of the world.
        world: Its configuration.
        num_videos: How many videos it has.
        rows: Names in `ROWS`.
        seeds: Seeds of each row.
        num_processes: Runs side by side, each on one core.
        say: Told what is done.

    Raises:
        ConfigError: If there is no such row.
        DataError: If the name belongs to another world.
        VideoCLIPError: As training does.
    """
    for row in rows:
        if row not in ROWS:
            near = difflib.get_close_matches(row, ROWS, n=1)
            hint = f"perhaps you meant '{near[0]}'" if near else f"there are {', '.join(ROWS)}"
            raise ConfigError(f"unknown row '{row}'; {hint}")

    def told(done: int, total: int) -> None:
        if done == total or done % 50 == 0:
            say(f"world {name}: {done} of {total} videos")

    bed = build_bed(out / "worlds" / name, world, num_videos, num_processes, told)
    write_json(bed.folder / TRIVIAL_FILE, _plain(trivial(bed)))
    # What needs another row's model comes after that run, not beside it.
    for waits in (False, True):
        chosen = [row for row in rows if bool(ROWS[row].after) == waits]
        runs = [(row, seed) for row in chosen for seed in seeds]
        for run in _each(partial(perform, out, name), runs, num_processes):
            say("world {}: row {}, seed {} is done".format(name, *run))


def _each(
    do: Callable[[str, int], None], runs: Sequence[tuple[str, int]], num_processes: int
) -> Iterator[tuple[str, int]]:
    """Do runs, side by side if asked to, and yield each when it is done."""
    if num_processes <= 1:
        for run in runs:
            do(*run)
            yield run
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, context) as pool:
        waiting = {pool.submit(do, *run): run for run in runs}
        for done in as_completed(waiting):
            done.result()
            yield waiting[done]


def _plain(found: dict[str, Counts]) -> dict[str, dict[str, list[list[float]]]]:
    return {who: {n: x.tolist() for n, x in counts.items()} for who, counts in found.items()}


def write_table(out: Path) -> list[Line]:
    """Write the table of every finished run, and return its rows.

    `table.md` has the table and what it shows, `table.json` the same for programs, `table.svg` the
    differences as a picture, `curves-WORLD.svg` the losses.

    Raises:
        ConfigError: If no run is finished.
    """
    runs = finished(out)
    table = lines(runs)
    if not table:
        raise ConfigError(f"{out}: no run is finished: nothing to compare")
    trivial_by_world = {
        path.parent.name: {
            who: {name: np.array(pairs) for name, pairs in counts.items()}
            for who, counts in json.loads(path.read_text(encoding="utf-8")).items()
        }
        for path in (out / "worlds").glob(f"*/{TRIVIAL_FILE}")
    }
    found = list(claims(runs, trivial_by_world))
    write_text(out / "table.md", f"{markdown(table)}\n{claims_markdown(found)}")
    write_text(out / "table.json", json.dumps(to_dict(table), indent=1) + "\n")
    title = "Differences between rows of the ablation, in points, with 95 % intervals"
    write_text(out / "table.svg", to_svg(draw_differences(table), title))
    for world in dict.fromkeys(run.world for run in runs):
        title = f"Training loss by update, world {world}"
        write_text(out / f"curves-{world}.svg", to_svg(draw_curves(runs, world), title))
    return table
