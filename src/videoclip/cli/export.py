"""`videoclip export`: moments as CSV, JSON, EDL, FCPXML, WebVTT or chapters."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

__all__ = ["Export"]


@dataclass(frozen=True)
class Export:
    """Write moments in a format that editors, players and scripts read.

    For example: videoclip search "chop the onion" --library L --json | videoclip export - \
    --format edl > onions.edl
    """

    moments: Annotated[Path, tyro.conf.Positional]
    """JSON printed by search, segment or localize; "-" reads it from standard input."""
    format: Literal["csv", "json", "edl", "fcpxml", "vtt", "youtube"] = "csv"
    """EDL is CMX 3600; vtt and youtube are chapters of one video."""
    out: Path | None = None
    """File to write; standard output by default."""
    title: str = "videoclip"
    """Title of an edit list or event."""
    rate: float | None = None
    """Frames per second of the timeline (23.976, 24, 25, 29.97, 30, ...); the videos' own if they
    agree."""
    timecode: Literal["auto", "drop", "non-drop"] = "auto"
    """Drop-frame timecode or not; auto: at 29.97 and 59.94."""
    video: str | None = None
    """Only the moments of this video: its path, name or stem."""

    def run(self) -> int:
        """Write the moments."""
        from videoclip.files import write_output
        from videoclip.output.formats import (
            common_rate,
            export_moments,
            parse_moments,
            read_moments,
        )
        from videoclip.output.timecode import find_rate

        if str(self.moments) == "-":
            moments = parse_moments(sys.stdin.read(), "standard input")
        else:
            moments = read_moments(self.moments)
        if self.video is not None:
            moments = [
                moment
                for moment in moments
                if self.video in (str(moment.path), moment.path.name, moment.video_id)
            ]
        rate = None
        if self.format in ("edl", "fcpxml"):
            frames_per_second = self.rate or float(common_rate(moments).exact)
            is_drop = {"auto": None, "drop": True, "non-drop": False}[self.timecode]
            rate = find_rate(frames_per_second, is_drop)
        text = export_moments(moments, self.format, self.title, rate)
        if self.out is None:
            sys.stdout.write(text)
        else:
            write_output(self.out, text)
        return 0
