"""`videoclip cut`: cut moments out of their videos."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import Positional, arg

from videoclip.cli.options import Json, MinConfidence, Nearest, Seconds
from videoclip.config.codec import NOT_NEGATIVE, NotNegative, require
from videoclip.errors import ConfigError, DataError, VideoCLIPError

if TYPE_CHECKING:
    from videoclip.zeroshot.moments import Moment


@dataclass(frozen=True)
class Cut:
    """Cut clips out of videos, exact to the frame: one span, or all moments of a search.

    For example: videoclip search "chop the onion" --json | videoclip cut - --out clips
    """

    stray: ClassVar[str] = "give times as --start 0:08 --end 0:12"

    source: Annotated[Path, Positional, arg(metavar="SOURCE")]
    """A video; or moments as JSON from search, segment or localize, "-" for standard input."""
    out: Path = Path("clips")
    """Folder for the clips; or, with an extension, the file for a single clip."""
    start: Annotated[Seconds | None, NOT_NEGATIVE] = None
    """Start of the span of a video: seconds, or 1:02:03.5."""
    end: Seconds | None = None
    """End of the span of a video."""
    padding: NotNegative[float] = 0.0
    """Seconds to add before and after."""
    fast: bool = False
    """Copy without encoding: faster and lossless, but each clip starts at the keyframe before."""
    min_confidence: MinConfidence = "none"
    nearest: Nearest = False
    json: Json = False

    def __post_init__(self) -> None:
        require((self.start is None) == (self.end is None), "give both --start and --end")
        if self.start is not None and self.end is not None:
            require(self.start < self.end, "--start must be before --end")

    def run(self) -> int:
        """Cut the clips and print their paths."""
        from videoclip.output.clip import cut_moments

        moments = self._moments()
        if not moments:
            raise ConfigError("no moments to cut; search for something else")
        failed: list[VideoCLIPError] = []
        written: list[dict[str, object]] = []
        for clip, cut in cut_moments(moments, self.out, failed, self.padding, fast=self.fast):
            found = {"clip": str(clip), "path": str(cut.path), "start": cut.start, "end": cut.end}
            written.append(found)
            if not self.json:
                print(clip)
        if self.json:
            print(json.dumps(written, indent=2))
        for error in failed:
            print(f"videoclip: not cut: {error}", file=sys.stderr)
        return 1 if failed else 0

    def _moments(self) -> list[Moment]:
        from videoclip.cli.results import read_matches
        from videoclip.zeroshot.moments import Moment

        if self.start is not None and self.end is not None:
            return [Moment(self.source, self.start, self.end)]
        if str(self.source) == "-" or self.source.suffix.lower() == ".json":
            return read_matches(self.source, self.min_confidence, self.nearest)
        if self.source.is_dir():
            raise DataError("is a folder; name one video, or moments as JSON", self.source)
        raise ConfigError(
            "nothing to cut; give --start and --end, such as 0:08 and 0:12, or moments as JSON"
        )
