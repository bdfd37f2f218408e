"""What `search`, `segment` and `localize` share: reading texts, printing and writing moments."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from videoclip.cli.options import Html, Json
from videoclip.config.codec import NOT_NEGATIVE, require
from videoclip.errors import DataError, DecodeError, printable

if TYPE_CHECKING:
    from videoclip.zeroshot.confidence import Confidence
    from videoclip.zeroshot.moments import Moment
    from videoclip.zeroshot.results import Timeline


@dataclass(frozen=True)
class Output:
    """Files to write in addition to the printed lines."""

    png: Path | None = None
    """PNG picture of the timeline, with frames of the video."""
    svg: Path | None = None
    """The same picture as SVG."""
    html: Html = None
    csv: Path | None = None
    """Table of the moments."""
    vtt: Path | None = None
    """WebVTT chapters, for a player."""
    chapters: Path | None = None
    """Chapter lines for the description of a video on YouTube."""

    def show(self, timeline: Timeline, as_json: bool) -> None:
        """Print a timeline and write the files that were asked for.

        Raises:
            DataError: If a file cannot be written.
        """
        from videoclip.files import write_output
        from videoclip.output.figures import to_png, to_svg
        from videoclip.output.formats import to_csv, to_webvtt, to_youtube
        from videoclip.output.html import timeline_page
        from videoclip.output.timeline import draw_timeline, grab_stills

        _print_timeline(timeline, as_json)
        if self.png or self.svg or self.html:
            figure = draw_timeline(timeline, grab_stills(timeline))
            if self.png:
                write_output(self.png, to_png(figure))
            if self.svg:
                write_output(self.svg, to_svg(figure, f"Timeline of {timeline.path.name}"))
            if self.html:
                write_output(self.html, timeline_page(timeline, figure, self.html))
        chapters = partial(to_youtube, on_message=partial(print, "videoclip:", file=sys.stderr))
        texts = ((self.csv, to_csv), (self.vtt, to_webvtt), (self.chapters, chapters))
        for path, to_text in texts:
            if path:
                write_output(path, to_text(timeline.moments))


def _print_timeline(timeline: Timeline, as_json: bool) -> None:
    """Print the moments to stdout, and labels that were not found to stderr."""
    if as_json:
        print(json.dumps(timeline.as_dict(), indent=2))
        return
    for moment in timeline.moments:
        strength = f"{moment.confidence:>6}  {moment.similarity:6.3f}"
        print(f"{moment.times:>19}  {strength}  {for_stdout(moment.label)}")
    if timeline.missing:
        print(f"not found: {', '.join(timeline.missing)}", file=sys.stderr)
    print(
        f"threshold: z-score {timeline.threshold:g}, relative to unrelated texts (--threshold)",
        file=sys.stderr,
    )


@dataclass(frozen=True)
class FoundOutput:
    """How to print what a search found."""

    thumbnails: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """Folder to write a picture of each moment to."""
    html: Html = None
    open: Annotated[int | None, NOT_NEGATIVE, arg(metavar="[N]")] = None
    """Play moment N with the player of this machine (mpv or VLC begin at its start); without N: the
    first one, or the page of --html."""
    paths: bool = False
    """Print only the paths of the videos, each once."""
    no_pictures: bool = False
    """Print no frames on a terminal that can show pictures (kitty, Ghostty, Konsole, iTerm2,
    WezTerm)."""
    explain: bool = False
    """Print below each moment what frames and narration contribute to its strength."""
    csv: bool = False
    """Print the result as CSV."""
    json: Json = False

    def __post_init__(self) -> None:
        chosen = sum((self.json, self.csv, self.paths))
        require(chosen < 2, "choose one of --json, --csv and --paths")
        require((self.open or 0) >= 0, "open must not be negative: it is the number of a moment")

    def print(
        self, answers: Sequence[Sequence[Moment]], queries: Sequence[str], *, as_list: bool
    ) -> None:
        """Print the moments of each query.

        Args:
            answers: For each query its moments, best first.
            queries: The queries.
            as_list: Whether JSON is a list with an object for each query, or the object of one.
        """
        from videoclip.output.formats import to_table

        found: list[dict[str, Any]] = [
            {"query": query, "moments": [self._row(moment) for moment in moments]}
            for query, moments in zip(queries, answers, strict=True)
        ]
        if self.json:
            print(json.dumps(found if as_list else found[0], indent=2))
        elif self.csv:
            flat = [{"query": one["query"], **row} for one in found for row in one["moments"]]
            for row in flat:
                row.pop("parts", None)
            print(to_table(flat), end="")
        elif self.paths:
            for path in dict.fromkeys(moment.path for moments in answers for moment in moments):
                print(for_stdout(path))
        else:
            for query, moments in zip(queries, answers, strict=True):
                if len(queries) > 1:
                    print(f"\n{query}")
                _print_moments(moments, self.explain, pictures=not self.no_pictures)
        if self.html:
            from videoclip.files import write_output
            from videoclip.output.html import search_page

            write_output(self.html, search_page(queries, answers, self.html))
            print(f"videoclip: {self.html} written", file=sys.stderr)
        if self.open is not None:
            print(f"videoclip: {self._open(answers)}", file=sys.stderr)

    def _open(self, answers: Sequence[Sequence[Moment]]) -> str:
        """Open the page, or the moment that was chosen; return what was opened."""
        from videoclip.output.player import open_file, play

        if self.html and not self.open:
            return open_file(self.html.absolute())
        found = [moment for moments in answers for moment in moments]
        number = self.open or 1
        if number > len(found):
            raise DataError(f"there is no moment {number} to open; found: {len(found)}")
        return play(found[number - 1])

    def _row(self, moment: Moment) -> dict[str, Any]:
        """Return a moment as plain values, and write its thumbnail if asked for."""
        row = moment.as_dict()
        if self.thumbnails:
            from videoclip.output.clip import write_thumbnail

            row["thumbnail"] = str(write_thumbnail(moment, self.thumbnails))
        return row


def _print_moments(moments: Sequence[Moment], explain: bool, pictures: bool) -> None:
    if not moments:
        reason = "--where, --vision 0, --offset or --min-confidence excludes all"
        print(f"no moments to search or to show ({reason})", file=sys.stderr)
    elif moments[0].confidence == "none":
        print("nothing here looks like that; the nearest moments are:", file=sys.stderr)
    elif moments[0].confidence == "low":
        print("not sure; the nearest moments are:", file=sys.stderr)
    on_screen = sys.stdout.isatty()
    picture = None
    if on_screen and pictures:
        from videoclip.output.terminal import picture_maker

        picture = picture_maker()
    if on_screen and moments:
        print(f" {'N':>3}  confidence  similarity  {'time':>17}  video", file=sys.stderr)
    for number, moment in enumerate(moments, start=1):
        words = f"  “{moment.words:.60}”" if moment.words else ""
        gone = "" if moment.path.exists() else "  (deleted; `videoclip index --prune` drops it)"
        if on_screen:
            strength = f" {number:3}  {moment.confidence:<10}  {moment.similarity:10.3f}"
            row = f"{strength}  {moment.times:>17}  "
            print(row + _fit(moment.path, gone + words, len(row)))
        else:
            strength = f"{moment.confidence:>6}  {moment.similarity:6.3f}"
            print(f"{strength}  {moment.times:>17}  {moment.path}{gone}{words}")
        for part in moment.parts:
            print(f"        {part.confidence:<6}  {part.times:>17}  {for_stdout(part.label)}")
        if explain:
            print(f"        {explanation(moment)}")
        if picture and moment.confidence != "none" and not gone:
            try:
                print(" " * 6 + picture(moment))
            except DecodeError as error:
                print(f"videoclip: no picture: {error}", file=sys.stderr)


def _fit(path: Path, rest: str, used: int) -> str:
    """Return a path and what follows it, shortened to one line of the terminal.

    Below the current folder a path is relative; the beginning of a long one is left out.
    """
    from videoclip.zeroshot.moments import cut_text

    here = Path.cwd()
    name = printable(path.relative_to(here) if path.is_relative_to(here) else path)
    space = max(get_terminal_size().columns - used, len(path.name[-30:]) + 1)
    if len(name) > space:
        name = "…" + name[1 - space :]
    return name + cut_text(printable(rest), max(0, space - len(name))) if rest else name


def explanation(moment: Moment) -> str:
    """Return what frames and narration contribute to the strength of a found moment."""
    parts = []
    if moment.visual_strength is not None:
        parts.append(f"frames {moment.visual_strength:+.1f}")
    if moment.narration_strength is not None:
        complete = "all words" if moment.has_all_words else "some words"
        parts.append(f"narration {moment.narration_strength:+.1f} ({complete})")
    return f"strength {moment.strength:+.1f}: {', '.join(parts)}"


def read_matches(source: Path, least: Confidence, nearest: bool) -> list[Moment]:
    """Read moments as JSON without those of a lower confidence; how many these are is printed.

    Args:
        source: A file; "-" for standard input.
        least: The least confidence.
        nearest: Whether to keep moments that are known to match nothing.

    Raises:
        DataError: If they cannot be read, or none is left.
    """
    from videoclip.output.formats import read_moments
    from videoclip.zeroshot.moments import with_confidence

    moments = read_moments(source)
    kept = with_confidence(moments, least)
    if not nearest:
        kept = [moment for moment in kept if moment.confidence != "none"]
    num = len(moments) - len(kept)
    advice = "--nearest keeps them" if least == "none" else f"--min-confidence {least}"
    if num and not kept:
        raise DataError(f"no moment matches well enough ({advice})", source)
    if num:
        text = f"left out {num} of {len(moments)} moments, which do not match well enough"
        print(f"videoclip: {text} ({advice})", file=sys.stderr)
    return kept


def for_stdout(text: object) -> str:
    """Return a text without control characters if stdout is a terminal, which would obey them.

    Output to a file or another program keeps them.
    """
    return printable(text) if sys.stdout.isatty() else str(text)


def read_texts(
    file: Path | None, given: Iterable[str] = (), what: str = "texts", hint: str = ""
) -> list[str]:
    """Return texts given as options, then those of a file with one text per line.

    Args:
        file: The file; "-" for standard input.
        given: Texts of options.
        what: What the texts are, for the message.
        hint: How else to give them, for the message; begins with "; ".

    Raises:
        DataError: If the file cannot be read, or there are no texts.
    """
    texts = [text for text in given if text.strip()]
    if len(texts) == 1 and "," in texts[0] and file is None:
        print(f"videoclip: '{texts[0]}' is one text{hint}", file=sys.stderr)
    if file is not None:
        from videoclip.data.subtitles import read_text

        if str(file) != "-" and not file.exists():
            raise DataError(
                f"cannot be read (no such file); it holds {what}, one per line{hint}", file
            )
        texts += [line.strip() for line in read_text(file).splitlines() if line.strip()]
    if not texts and file is None:
        raise DataError(f"no {what}{hint or '; name a file with one per line'}")
    if not texts:
        raise DataError(f"no {what} in this file; write one per line", file)
    return texts
