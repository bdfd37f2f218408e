"""`videoclip export`: moments as CSV, JSON, EDL, FCPXML, WebVTT or chapters."""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from videoclip.cli import options
from videoclip.cli.results import read_matches
from videoclip.config.codec import POSITIVE
from videoclip.errors import DataError, unknown


@dataclass(frozen=True)
class Export:
    """Write moments in a format that editors, players and scripts read.

    For example: videoclip search "chop the onion" --json | videoclip export - --out onions.csv
    """

    moments: Annotated[Path, Positional, arg(metavar="MOMENTS")]
    """JSON printed by search, segment or localize; "-" reads it from standard input."""
    format: Literal["csv", "json", "edl", "fcpxml", "vtt", "youtube", "fiftyone", "labelstudio"] = (
        "csv"
    )
    """edl is CMX 3600; vtt and youtube are chapters of one video; fiftyone and labelstudio are JSON
    for their importers."""
    out: Annotated[Path | None, arg(metavar="FILE")] = None
    """File to write instead of standard output."""
    title: str = "videoclip"
    """Title of an edit list."""
    rate: Annotated[float | None, POSITIVE, arg(metavar="RATE")] = None
    """Frame rate of an edit list (23.976, 24, 25, 29.97, 30, ...); by default the one that
    most of the moments have."""
    timecode: Literal["auto", "drop", "non-drop"] = "auto"
    """Whether an edit list has drop-frame timecode; auto: at 29.97 and 59.94."""
    video: Annotated[str | None, arg(metavar="VIDEO")] = None
    """Write only the moments of this video: its path, name or name without extension."""

    min_confidence: options.MinConfidence = "none"
    nearest: options.Nearest = False

    def run(self) -> int:
        """Write the moments."""
        from videoclip.files import write_output
        from videoclip.output.edl import choose_rate
        from videoclip.output.formats import export_moments

        found = read_matches(self.moments, self.min_confidence, self.nearest)
        moments = [
            moment
            for moment in found
            if self.video in (None, str(moment.path), moment.path.name, moment.video_id)
        ]
        if found and not moments:
            known = dict.fromkeys(moment.path.name for moment in found)
            raise DataError(unknown("video", str(self.video), known), self.moments)
        rate = None
        on_message = partial(print, "videoclip:", file=sys.stderr)
        if moments and self.format in ("edl", "fcpxml"):
            is_drop = {"auto": None, "drop": True, "non-drop": False}[self.timecode]
            rate = choose_rate(moments, self.rate, is_drop, on_message)
        text = export_moments(moments, self.format, self.title, rate, on_message)
        if self.out is None:
            sys.stdout.write(text)
        else:
            write_output(self.out, text)
        return 0
