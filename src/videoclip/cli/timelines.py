"""What `segment` and `localize` share: reading texts, writing what was found in every form."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from videoclip.errors import DataError

if TYPE_CHECKING:
    from videoclip.zeroshot.results import Timeline

__all__ = ["Output", "print_timeline", "read_texts", "write_file"]


@dataclass(frozen=True)
class Output:
    """Files to write besides what is printed."""

    png: Path | None = None
    """Picture of the timeline, with stills of the video."""
    svg: Path | None = None
    """The same picture as a drawing of any size."""
    html: Path | None = None
    """Page with the video and its timeline; a click plays a span."""
    csv: Path | None = None
    """Table of the spans."""
    vtt: Path | None = None
    """WebVTT chapters, for a player."""
    chapters: Path | None = None
    """Chapter lines for the description of a video on YouTube."""

    def write(self, timeline: Timeline) -> None:
        """Write what is asked for.

        Raises:
            DataError: If a file cannot be written.
        """
        from videoclip.output.drawing import to_png, to_svg
        from videoclip.output.formats import to_csv, to_webvtt, to_youtube
        from videoclip.output.html import to_html
        from videoclip.output.timeline import draw_timeline, photograph

        picture = None
        if self.png or self.svg or self.html:
            picture = draw_timeline(timeline, photograph(timeline))
        if picture and self.png:
            write_file(self.png, to_png(picture))
        if picture and self.svg:
            write_file(self.svg, to_svg(picture))
        if picture and self.html:
            write_file(self.html, to_html(timeline, picture, self.html))
        if self.csv:
            write_file(self.csv, to_csv(timeline.moments))
        if self.vtt:
            write_file(self.vtt, to_webvtt(timeline.moments))
        if self.chapters:
            write_file(self.chapters, to_youtube(timeline.moments))


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file, or say why it cannot be written."""
    try:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror})", path) from error


def print_timeline(timeline: Timeline, as_json: bool) -> None:
    """Print what was found; what was not goes to stderr."""
    if as_json:
        print(json.dumps(timeline.as_dict(), indent=2))
        return
    from videoclip.zeroshot.results import clock

    for moment in timeline.moments:
        times = f"{clock(moment.start)}-{clock(moment.end)}"
        print(f"{times:>19}  {moment.confidence:>6}  {moment.similarity:6.3f}  {moment.label}")
    if timeline.missing:
        print(f"not found: {', '.join(timeline.missing)}", file=sys.stderr)
    print(
        f"a second counts from {timeline.threshold:g} deviations above unrelated texts on "
        "(--threshold)",
        file=sys.stderr,
    )


def read_texts(file: Path | None, given: tuple[str, ...]) -> list[str]:
    """Texts given one by one and in a file, one a line.

    Raises:
        DataError: If the file cannot be read, or there are no texts at all.
    """
    texts = list(given)
    if file is not None:
        from videoclip.data.subtitles import read_text

        lines = read_text(file).splitlines()
        texts += [line.strip() for line in lines if line.strip()]
    if not texts:
        raise DataError("there are no texts: give some, or a file with one a line", file)
    return texts
