"""What `segment` and `localize` share: reading texts, printing and writing timelines."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from videoclip.errors import DataError

if TYPE_CHECKING:
    from videoclip.zeroshot.results import Timeline


@dataclass(frozen=True)
class Output:
    """Files to write in addition to the printed lines."""

    png: Path | None = None
    """PNG picture of the timeline, with frames of the video."""
    svg: Path | None = None
    """The same picture as SVG."""
    html: Path | None = None
    """Page with the video and its timeline; a click plays a moment."""
    csv: Path | None = None
    """Table of the moments."""
    vtt: Path | None = None
    """WebVTT chapters, for a player."""
    chapters: Path | None = None
    """Chapter lines for the description of a video on YouTube."""

    def write(self, timeline: Timeline) -> None:
        """Write the files that were asked for.

        Raises:
            DataError: If a file cannot be written.
        """
        from videoclip.files import write_output
        from videoclip.output.figures import to_png, to_svg
        from videoclip.output.formats import to_csv, to_webvtt, to_youtube
        from videoclip.output.html import timeline_page
        from videoclip.output.timeline import draw_timeline, grab_stills

        if self.png or self.svg or self.html:
            figure = draw_timeline(timeline, grab_stills(timeline))
            if self.png:
                write_output(self.png, to_png(figure))
            if self.svg:
                write_output(self.svg, to_svg(figure, f"Timeline of {timeline.path.name}"))
            if self.html:
                write_output(self.html, timeline_page(timeline, figure, self.html))
        texts = ((self.csv, to_csv), (self.vtt, to_webvtt), (self.chapters, to_youtube))
        for path, to_text in texts:
            if path:
                write_output(path, to_text(timeline.moments))


def print_timeline(timeline: Timeline, as_json: bool) -> None:
    """Print the moments to stdout, and labels that were not found to stderr."""
    if as_json:
        print(json.dumps(timeline.as_dict(), indent=2))
        return
    from videoclip.zeroshot.moments import clock

    for moment in timeline.moments:
        times = f"{clock(moment.start)}-{clock(moment.end)}"
        print(f"{times:>19}  {moment.confidence:>6}  {moment.similarity:6.3f}  {moment.label}")
    if timeline.missing:
        print(f"not found: {', '.join(timeline.missing)}", file=sys.stderr)
    print(
        f"threshold: z-score {timeline.threshold:g}, relative to unrelated texts (--threshold)",
        file=sys.stderr,
    )


def read_texts(file: Path | None, given: tuple[str, ...]) -> list[str]:
    """Texts given as options, then those of a file with one text per line.

    Raises:
        DataError: If the file cannot be read, or there are no texts.
    """
    texts = list(given)
    if file is not None:
        from videoclip.data.subtitles import read_text

        lines = read_text(file).splitlines()
        texts += [line.strip() for line in lines if line.strip()]
    if not texts:
        raise DataError("there are no texts; give some, or a file with one text per line", file)
    return texts
