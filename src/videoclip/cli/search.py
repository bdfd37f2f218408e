"""`videoclip search`: find the moments of a library that match a query."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from videoclip.cli import options
from videoclip.config.check import NOT_NEGATIVE, POSITIVE, require
from videoclip.errors import ConfigError, DataError

if TYPE_CHECKING:
    from videoclip.zeroshot.moments import Moment


@dataclass(frozen=True)
class Search:
    """Find the moments of a library that show, or talk about, what a query says.

    Each moment has a confidence: high, medium, low or none, relative to what unrelated queries find
    in this library. The model is the library's own unless --model names the same one elsewhere.
    """

    query: Annotated[str, Positional, arg(metavar="[QUERY]")] = ""
    """What to look for, in words."""
    library: options.Library = options.LIBRARY
    top_k: Annotated[int, POSITIVE, arg(aliases=("-k",), metavar="N")] = 10
    """Number of moments for each query."""
    offset: Annotated[int, NOT_NEGATIVE, arg(metavar="N")] = 0
    """Number of best moments to leave out: with 10, the second page of 10."""
    where: Annotated[str | None, arg(metavar="FILTER")] = None
    """Filter on videos, such as "duration > 60 and camera = 'left'". Columns: path, duration,
    width, height, size, frame_rate, narration, added, modified and your own metadata. Operators:
    = != < > like in is null."""
    vision: Annotated[float, NOT_NEGATIVE, arg(metavar="WEIGHT")] = 1.0
    """Weight of the frames; 0: search the narration only."""
    speech: Annotated[float, NOT_NEGATIVE, arg(metavar="WEIGHT")] = 1.0
    """Weight of the narration; 0: search the frames only."""
    rerank_top: options.RerankTop = 0
    exact: bool = False
    """Compare with every window, even if a large library has an approximate index."""
    like: Annotated[Path | None, arg(metavar="FILE")] = None
    """Clip or picture to search by, instead of words."""
    queries: Annotated[Path | None, arg(metavar="FILE")] = None
    """Text file with one query per line; "-": standard input."""
    fit: Annotated[Path | None, arg(metavar="FILE")] = None
    """Do not search; fit the thresholds of high, medium and low confidence to labelled queries. CSV
    file with the columns query and video (empty: nothing matches), and optionally start and end."""
    model: options.OptionalModel = None
    require_match: options.RequireMatch = False
    thumbnails: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """Folder to write a picture of each moment to."""
    paths: bool = False
    """Print only the paths of the videos, each once."""
    csv: bool = False
    """Print the result as CSV."""
    device: options.Device = options.AUTO
    json: options.Json = False

    def __post_init__(self) -> None:
        require(bool(self.vision or self.speech), "vision and speech are weights: not both 0")

    def run(self) -> int:
        """Print moments, best first."""
        # The products are small: numpy's threads would only wait for each other.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from videoclip.library.labels import fit_library, read_labels
        from videoclip.library.library import VideoLibrary
        from videoclip.library.search import SearchOptions

        queries = [] if self.fit else self._queries()
        names = [field.name for field in fields(SearchOptions)]
        settings = SearchOptions(**{name: getattr(self, name) for name in names})
        with VideoLibrary.open(self.library, self.model, self.device, must_exist=True) as library:
            if not len(library):
                raise DataError(
                    "the library is empty: add videos with `videoclip index VIDEOS --library "
                    f"{self.library}`",
                    self.library,
                )
            if self.fit:
                print(fit_library(library, read_labels(self.fit)))
                return 0
            if self.like is not None:
                answers = [library.search_like(self.like, settings, where=self.where)]
            else:
                answers = library.search_many(queries, settings, where=self.where)
        self._print(queries, answers)
        matched = any(moment.confidence != "none" for moments in answers for moment in moments)
        return 3 if self.require_match and not matched else 0

    def _queries(self) -> list[str]:
        given = [bool(self.query), self.like is not None, self.queries is not None]
        if sum(given) != 1:
            raise ConfigError("give one of: a query in words, --like FILE, --queries FILE")
        if self.queries is None:
            return [self.query]
        from videoclip.data.subtitles import read_text

        text = sys.stdin.read() if str(self.queries) == "-" else read_text(self.queries)
        queries = [line.strip() for line in text.splitlines() if line.strip()]
        if not queries:
            raise DataError("no queries in this file; write one per line", self.queries)
        return queries

    def _print(self, queries: Sequence[str], answers: Sequence[Sequence[Moment]]) -> None:
        rows: list[dict[str, Any]] = [
            {"query": query, "moments": [self._row(moment) for moment in moments]}
            for query, moments in zip(queries, answers, strict=True)
        ]
        if self.json:
            print(json.dumps(rows if self.queries else rows[0], indent=2))
        elif self.csv:
            flat = [{"query": row["query"], **moment} for row in rows for moment in row["moments"]]
            writer = csv.DictWriter(sys.stdout, list(flat[0]) if flat else [], lineterminator="\n")
            writer.writeheader()
            writer.writerows(flat)
        elif self.paths:
            for path in dict.fromkeys(moment.path for moments in answers for moment in moments):
                print(path)
        else:
            for query, moments in zip(queries, answers, strict=True):
                if len(queries) > 1:
                    print(f"\n{query}")
                _print_moments(moments)

    def _row(self, moment: Moment) -> dict[str, Any]:
        """Return a moment as plain values, and write its thumbnail if asked for."""
        row = moment.as_dict()
        if self.thumbnails:
            from videoclip.output.thumbnails import write_thumbnail

            row["thumbnail"] = str(write_thumbnail(moment, self.thumbnails))
        return row


def _print_moments(moments: Sequence[Moment]) -> None:
    from videoclip.zeroshot.moments import clock

    if not moments:
        print("no moments to search (--where or --vision 0 excludes all)", file=sys.stderr)
    elif all(moment.confidence == "none" for moment in moments):
        print("no match; the nearest moments are:", file=sys.stderr)
    for moment in moments:
        span = f"{clock(moment.start)}-{clock(moment.end)}"
        words = f"  “{moment.words:.60}”" if moment.words else ""
        print(f"{moment.confidence:>6}  {moment.similarity:6.3f}  {span:>17}  {moment.path}{words}")
