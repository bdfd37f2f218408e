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
    from videoclip.output.formats import Shot

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

        shots = self._shots()
        is_file = len(shots) == 1 and bool(self.out.suffix)
        written: list[dict[str, object]] = []
        num_failed = 0
        for number, shot in enumerate(shots, start=1):
            out = self.out if is_file else self.out / (_name(number, shot) + self._type(shot))
            start = max(0.0, shot.start - self.padding)
            try:
                cut_clip(shot.path, start, shot.end + self.padding, out, fast=self.fast)
            except VideoCLIPError as error:
                num_failed += 1
                print(f"videoclip: not cut: {error}", file=sys.stderr)
                continue
            written.append({"clip": str(out), "path": shot.path, "start": start, "end": shot.end})
            if not self.json:
                print(out)
        if self.json:
            print(json.dumps(written, indent=2))
        return 1 if num_failed else 0

    def _type(self, shot: Shot) -> str:
        """What a clip is without being told: packets that are copied fit the type they come in."""
        return Path(shot.path).suffix if self.fast else ".mp4"

    def _shots(self) -> list[Shot]:
        from videoclip.output.formats import Shot, parse_shots, read_shots

        if self.start is not None or self.end is not None:
            if self.start is None or self.end is None:
                raise ConfigError("give both --start and --end")
            return [Shot(str(self.source), self.start, self.end)]
        if str(self.source) == "-":
            return parse_shots(sys.stdin.read(), "standard input")
        if self.source.suffix.lower() == ".json":
            return read_shots(self.source)
        raise ConfigError("which part? Give --start and --end, or moments as JSON")


def _name(number: int, shot: Shot) -> str:
    """A file name that says what is in it and sorts in the order given."""
    words = re.sub(r"[^\w]+", "-", shot.name.lower()).strip("-")[:40]
    parts = [f"{number:03d}", Path(shot.path).stem[:60], f"{shot.start:.1f}-{shot.end:.1f}s", words]
    return "_".join(part for part in parts if part)
