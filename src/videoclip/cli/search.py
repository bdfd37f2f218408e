"""`videoclip search`: find the moments of a library that match a query."""

import os
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from videoclip.cli import options
from videoclip.cli.results import FoundOutput, read_texts
from videoclip.cli.usage import check_words
from videoclip.config.codec import NOT_NEGATIVE, POSITIVE, require
from videoclip.errors import DataError


@dataclass(frozen=True)
class Search:
    """Find the moments of a library that show, or talk about, what a query says.

    Each moment has a confidence: high, medium, low or none, relative to what unrelated queries find
    in this library. The model is the library's own unless --model names the same one elsewhere.
    """

    query: Annotated[tuple[str, ...], Positional, arg(metavar="[QUERY]")] = ()
    """What to look for, in words. "A, then B" finds A that is followed by B in the same video."""
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
    undo_fit: bool = False
    """Do not search; return to the default thresholds, as before --fit."""
    min_confidence: options.MinConfidence = "none"
    model: options.Model = None
    require_match: options.RequireMatch = False
    output: Annotated[FoundOutput, arg(name="")] = field(default_factory=FoundOutput)
    device: options.Device = options.AUTO

    def __post_init__(self) -> None:
        require(bool(self.vision or self.speech), "vision and speech are weights: not both 0")
        given = ("".join(self.query), self.like, self.queries, self.fit, self.undo_fit)
        problem = (
            "give one of: a query in words, --like FILE, --queries FILE, --fit FILE, --undo-fit"
        )
        require(sum(map(bool, given)) == 1, problem)
        check_words(self.query)
        if self.fit or self.undo_fit:
            used = ("library", "fit", "undo_fit", "model", "output", "device")
            way = "--fit" if self.fit else "--undo-fit"
            for part in (self, self.output):
                unused = [f.name for f in fields(part) if f.name not in used]
                options.refuse_given(part, unused, f"{way} does not search")

    def run(self) -> int:
        """Print moments, best first."""
        # Matrix products of a search are small: numpy's threads would only wait for each other.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from videoclip.library.labels import fit_library, read_labels
        from videoclip.library.library import VideoLibrary
        from videoclip.library.search import SearchOptions
        from videoclip.zeroshot.moments import with_confidence

        queries = [" ".join(self.query)]
        if self.queries:
            queries = read_texts(self.queries, what="queries")
        settings = SearchOptions(**{f.name: getattr(self, f.name) for f in fields(SearchOptions)})
        with VideoLibrary.open(self.library, self.model, self.device, must_exist=True) as library:
            if self.undo_fit:
                library.reset_thresholds()
                print(library.thresholds)
                return 0
            if not len(library):
                raise DataError(
                    "the library is empty: add videos with `videoclip index VIDEOS --library "
                    f"{self.library}`",
                    self.library,
                )
            if self.fit:
                print(fit_library(library, read_labels(self.fit)))
                return 0
            if self.like:
                answers = [library.search_like(self.like, settings, where=self.where)]
            else:
                answers = library.search_many(queries, settings, where=self.where)
            advice = _advice(self.where) if self.where else ""
            if advice and not library.videos(self.where):
                print(f"videoclip: no video passes the filter; {advice}", file=sys.stderr)
        answers = [with_confidence(moments, self.min_confidence) for moments in answers]
        self.output.print(answers, queries, as_list=self.queries is not None)
        matched = any(moment.confidence != "none" for moments in answers for moment in moments)
        return 3 if self.require_match and not matched else 0


def _advice(where: str) -> str:
    """Return why a filter may pass no video; empty if no reason is known."""
    from videoclip.library.filters import lacks_wildcard, names_relative_path

    if lacks_wildcard(where):
        return "like compares the whole text; % stands for any: --where \"path like '%x%'\""
    if names_relative_path(where):
        return "the paths of a library are absolute: --where \"path like '%NAME'\""
    return ""
