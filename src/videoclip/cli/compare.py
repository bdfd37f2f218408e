"""`videoclip compare`: runs and evaluations side by side."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from videoclip.cli.options import Json
from videoclip.config.codec import require


@dataclass(frozen=True)
class Compare:
    """Compare runs and evaluations: results, and the settings that differ."""

    runs: Annotated[tuple[Path, ...], Positional, arg(metavar="RUN RUN [RUN ...]")]
    """Run folders, and files with the output of `videoclip evaluate --json`."""
    picture: Annotated[Path | None, arg(metavar="FILE")] = None
    """Draw the losses over the updates into an SVG or PNG file."""
    json: Json = False

    def __post_init__(self) -> None:
        require(len(self.runs) > 1, "name at least two runs or results")

    def run(self) -> int:
        """Print the comparison."""
        from videoclip.comparison import compare

        comparison = compare(self.runs)
        print(json.dumps(comparison.to_dict(), indent=2) if self.json else comparison)
        if self.picture is not None:
            comparison.save_picture(self.picture)
        return 0
