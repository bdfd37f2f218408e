"""What `segment` and `localize` share: reading texts, writing what was found in every form."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from videoclip.errors import DataError

if TYPE_CHECKING:
    from videoclip.library.results import Timeline

__all__ = ["Output", "print_timeline", "read_texts", "write_text"]


@dataclass(frozen=True)
class Output:
    """Files to write besides what is printed."""

    svg: Path | None = None
    """Picture of the timeline."""
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
        from videoclip.library.export import shots_of, to_csv, to_webvtt, to_youtube
        from videoclip.library.pictures import to_html, to_svg

        shots = shots_of(timeline)
        writers: list[tuple[Path | None, Callable[[], str]]] = [
            (self.svg, lambda: to_svg(timeline)),
            (self.html, lambda: to_html(timeline, self.html)),
            (self.csv, lambda: to_csv(shots)),
            (self.vtt, lambda: to_webvtt(shots)),
            (self.chapters, lambda: to_youtube(shots)),
        ]
        for path, make in writers:
            if path is not None:
                write_text(path, make())


def write_text(path: Path, text: str) -> None:
    """Write a file, or say why it cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror})", path) from error


def print_timeline(timeline: Timeline, as_json: bool) -> None:
    """Print what was found; what was not goes to stderr."""
    if as_json:
        print(json.dumps(timeline.as_dict(), indent=2))
        return
    from videoclip.library.results import clock

    for span in timeline.spans:
        times = f"{clock(span.start)}-{clock(span.end)}"
        print(f"{times:>19}  {span.confidence:>6}  {span.similarity:6.3f}  {span.label}")
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
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})", file) from error
        texts += [line.strip() for line in lines if line.strip()]
    if not texts:
        raise DataError("there are no texts: give some, or a file with one a line", file)
    return texts
