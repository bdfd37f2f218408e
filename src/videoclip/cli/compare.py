"""`videoclip compare`: runs and evaluations side by side."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from videoclip.cli.options import Html, Json
from videoclip.config.codec import require


@dataclass(frozen=True)
class Compare:
    """Compare runs and evaluations: results, and the settings that differ.

    Two CSV files of `videoclip evaluate --per-video` are compared example by example: how sure a
    difference is, and which examples changed.
    """

    runs: Annotated[tuple[Path, ...], Positional, arg(metavar="RUN RUN [RUN ...]")]
    """Run folders, and files with the output of `videoclip evaluate --json`; or two CSV files of
    `videoclip evaluate --per-video`."""
    picture: Annotated[Path | None, arg(metavar="FILE")] = None
    """Draw the losses over the updates into an SVG or PNG file."""
    html: Html = None
    json: Json = False

    def __post_init__(self) -> None:
        require(len(self.runs) > 1, "name at least two runs or results")
        require(
            not self._by_example or (len(self.runs) == 2 and self.picture is None),
            "CSV files are compared two at a time, and have no losses to draw",
        )

    @property
    def _by_example(self) -> bool:
        return any(path.suffix == ".csv" for path in self.runs)

    def run(self) -> int:
        """Print the comparison."""
        if self._by_example:
            from videoclip.paired import compare_examples

            paired = compare_examples(self.runs[0], self.runs[1])
            print(json.dumps(paired.to_dict(), indent=2) if self.json else paired)
            if self.html is not None:
                paired.save_page(self.html)
            return 0
        from videoclip.comparison import compare

        comparison = compare(self.runs)
        print(json.dumps(comparison.to_dict(), indent=2) if self.json else comparison)
        if self.picture is not None:
            comparison.save_picture(self.picture)
        if self.html is not None:
            comparison.save_page(self.html)
        return 0
