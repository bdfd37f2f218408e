"""`videoclip search`: find moments in a library from words."""

from __future__ import annotations

import csv
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from videoclip.errors import ConfigError, DataError

if TYPE_CHECKING:
    from videoclip.library.videolibrary import VideoLibrary
    from videoclip.zeroshot.results import Moment

__all__ = ["Search"]

NOTHING = "nothing here looks like that; the nearest are:"


@dataclass(frozen=True)
class Search:
    """Find the moments of a library that show, or speak of, what a query says.

    Each moment has a confidence, measured against what unrelated queries find in this library;
    where nothing matches it says so.
    """

    query: Annotated[str, tyro.conf.Positional] = ""
    """What to look for, in words."""
    library: str = "library"
    """Folder made by `videoclip index`, or an address of object storage."""
    top_k: Annotated[int, tyro.conf.arg(aliases=("-k",))] = 10
    """Moments to show for each query."""
    offset: int = 0
    """Moments to leave out before them: the next page of 10 begins at 10."""
    where: str | None = None
    """Filter on videos: "duration > 60 and camera = 'left'"; path, duration, width, height, size,
    frame_rate, narration, added, modified and your own metadata; = != < > like in is null."""
    vision: float = 1.0
    """Weight of what is seen; 0 searches the narration alone."""
    speech: float = 1.0
    """Weight of what is said; 0 searches the pictures alone."""
    rerank_top: int = 0
    """Best moments that the model's re-ranker looks at again, if it has one; 0: none."""
    exact: bool = False
    """Look at every window, even where a large library has an approximate index."""
    like: Path | None = None
    """A clip or picture to search by, instead of words."""
    queries: Path | None = None
    """File of queries, one a line, answered in one pass; "-" reads them from standard input."""
    model: str | None = None
    """Model to search with; by default the one the library was made with."""
    require_match: bool = False
    """Exit with status 3 if nothing matches."""
    thumbnails: Path | None = None
    """Folder to write a picture of each moment to."""
    json: bool = False
    """Print moments as JSON."""
    csv: bool = False
    """Print moments as CSV."""
    paths: bool = False
    """Print only the paths of the videos, once each, for a pipe."""
    fit: Path | None = None
    """Instead of searching, fit what counts as high, medium and low to a CSV with the columns
    query and video (empty where nothing matches), and perhaps start and end."""
    device: str = "cpu"
    """Torch device."""

    def run(self) -> int:
        """Search and print moments, best first."""
        # Numpy's products are small here: its threads would only wait for each other.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from videoclip.embedding import Embedder
        from videoclip.library.founding import model_of
        from videoclip.library.videolibrary import VideoLibrary

        queries = [] if self.fit else self._queries()
        model = self.model or model_of(self.library) or "starter"
        with VideoLibrary(
            self.library, Embedder.from_pretrained(model, self.device), model=model
        ) as library:
            if self.fit:
                return _fit(library, self.fit)
            answers = self._answers(library, queries)
        if self.thumbnails:
            _write_thumbnails(self.thumbnails, answers)
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
            raise DataError("no queries in it; write one a line", self.queries)
        return queries

    def _answers(self, library: VideoLibrary, queries: list[str]) -> list[list[Moment]]:
        from videoclip.library.search import SearchOptions

        options = SearchOptions(
            top_k=self.top_k,
            offset=self.offset,
            vision=self.vision,
            speech=self.speech,
            rerank_top=self.rerank_top,
            exact=self.exact,
        )
        if self.like is not None:
            return [library.search_like(self.like, options, where=self.where)]
        return library.search_many(queries, options, where=self.where)

    def _row(self, moment: Moment) -> dict[str, Any]:
        """A moment as plain values, with its thumbnail where there is one."""
        from videoclip.output.thumbnails import thumbnail_name

        row = moment.as_dict()
        if self.thumbnails:
            row["thumbnail"] = str(self.thumbnails / thumbnail_name(moment))
        return row

    def _print(self, queries: list[str], answers: list[list[Moment]]) -> None:
        if self.json:
            rows = [
                {"query": query, "moments": [self._row(moment) for moment in moments]}
                for query, moments in zip(queries, answers, strict=True)
            ]
            print(json.dumps(rows if self.queries else rows[0], indent=2))
        elif self.csv:
            flat = [
                {"query": query, **self._row(moment)}
                for query, moments in zip(queries, answers, strict=True)
                for moment in moments
            ]
            writer = csv.DictWriter(sys.stdout, list(flat[0]) if flat else [], lineterminator="\n")
            writer.writeheader()
            writer.writerows(flat)
        elif self.paths:
            for path in dict.fromkeys(m.path for moments in answers for m in moments):
                print(path)
        else:
            for query, moments in zip(queries, answers, strict=True):
                if len(queries) > 1:
                    print(f"\n{query}")
                _print_table(moments)


def _fit(library: VideoLibrary, path: Path) -> int:
    from videoclip.library.labels import fit_library, read_labels

    report = fit_library(library, read_labels(path))
    found = report.thresholds
    print(f"high from {found.high:.2f}, medium from {found.medium:.2f}, low from {found.low:.2f}")
    print(
        f"{report.num_right} right answers, {report.miss_rate:.0%} of them now called none; "
        f"{report.num_wrong} wrong ones, {report.false_alarm_rate:.0%} of them not"
    )
    return 0


def _print_table(moments: list[Moment]) -> None:
    from videoclip.zeroshot.results import clock

    if all(moment.confidence == "none" for moment in moments):
        print(NOTHING if moments else "nothing here", file=sys.stderr)
    for moment in moments:
        span = f"{clock(moment.start)}-{clock(moment.end)}"
        words = f"  “{moment.words:.60}”" if moment.words else ""
        print(f"{moment.confidence:>6}  {moment.similarity:6.3f}  {span:>17}  {moment.path}{words}")


def _write_thumbnails(folder: Path, answers: list[list[Moment]]) -> None:
    from videoclip.output.thumbnails import write_thumbnail

    folder.mkdir(parents=True, exist_ok=True)
    for moments in answers:
        for moment in moments:
            write_thumbnail(moment, folder)
