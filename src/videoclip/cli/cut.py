"""`videoclip cut`: cut moments out of their videos."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from videoclip.errors import ConfigError, VideoCLIPError

if TYPE_CHECKING:
    from videoclip.zeroshot.results import Moment

__all__ = ["Cut"]


@dataclass(frozen=True)
class Cut:
    """Cut clips out of videos, to the frame: one span, or all moments a search found.

    For example: videoclip search "chop the onion" --library L --json | videoclip cut - --out clips
    """

    source: Annotated[Path, tyro.conf.Positional]
    """A video; or moments as JSON from search, segment or localize, "-" for standard input."""
    out: Path = Path("clips")
    """Folder for the clips, or the file to write if it is a single one with an extension."""
    start: float | None = None
    """Seconds; of a video."""
    end: float | None = None
    """Seconds; of a video."""
    padding: float = 0.0
    """Seconds to add on either side."""
    fast: bool = False
    """Copy without encoding: at once and without loss, but from the keyframe before the start."""
    json: bool = False
    """Print the clips as JSON."""

    def run(self) -> int:
        """Cut and print the paths of the clips."""
        from videoclip.output.clip import cut_clip

        moments = self._moments()
        is_file = len(moments) == 1 and bool(self.out.suffix)
        written: list[dict[str, object]] = []
        num_failed = 0
        for number, moment in enumerate(moments, start=1):
            out = self.out if is_file else self.out / (_name(number, moment) + self._type(moment))
            start = max(0.0, moment.start - self.padding)
            try:
                cut_clip(moment.path, start, moment.end + self.padding, out, fast=self.fast)
            except VideoCLIPError as error:
                num_failed += 1
                print(f"videoclip: not cut: {error}", file=sys.stderr)
                continue
            written.append(
                {"clip": str(out), "path": str(moment.path), "start": start, "end": moment.end}
            )
            if not self.json:
                print(out)
        if self.json:
            print(json.dumps(written, indent=2))
        return 1 if num_failed else 0

    def _type(self, moment: Moment) -> str:
        """What a clip is without being told: packets that are copied fit the type they come in."""
        return moment.path.suffix if self.fast else ".mp4"

    def _moments(self) -> list[Moment]:
        from videoclip.output.formats import parse_moments, read_moments
        from videoclip.zeroshot.results import Moment

        if self.start is not None or self.end is not None:
            if self.start is None or self.end is None:
                raise ConfigError("give both --start and --end")
            return [Moment(self.source, self.start, self.end)]
        if str(self.source) == "-":
            return parse_moments(sys.stdin.read(), "standard input")
        if self.source.suffix.lower() == ".json":
            return read_moments(self.source)
        raise ConfigError("which part? Give --start and --end, or moments as JSON")


def _name(number: int, moment: Moment) -> str:
    """A file name that says what is in it and sorts in the order given."""
    words = re.sub(r"[^\w]+", "-", moment.label.lower()).strip("-")[:40]
    parts = [f"{number:03d}", moment.video_id[:60], f"{moment.start:.1f}-{moment.end:.1f}s", words]
    return "_".join(part for part in parts if part)
