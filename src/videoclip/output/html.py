"""Web pages from the templates beside this file, each complete in one file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from videoclip.output.clip import write_thumbnail
from videoclip.output.figures import data_url, to_svg
from videoclip.zeroshot.moments import Moment, clock
from videoclip.zeroshot.results import Timeline

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure


def render(template: str, **values: Any) -> str:
    """Fill in a template; values are escaped unless the template calls them safe.

    Args:
        template: Name of a file in `templates/`.
        values: The names it uses. Filters beside Jinja's own: `clock` (seconds) and `data_url` (of
            a JPEG or MP4 file).
    """
    return environment_of("videoclip.output").get_template(template).render(values)


@cache
def environment_of(package: str) -> Environment:
    """Return what renders the templates of a package; see `render` for its filters."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["clock"] = clock
    environment.filters["data_url"] = _file_as_url
    return environment


def _file_as_url(file: Path) -> str:
    return data_url(file.read_bytes(), "video/mp4" if file.suffix == ".mp4" else "image/jpeg")


def timeline_page(timeline: Timeline, figure: Figure, page: Path | None = None) -> str:
    """A page with the video and its timeline; a click on a box, a still or a row plays from there.

    Args:
        timeline: What was found.
        figure: Its drawing.
        page: Where the page will lie, so that the video is linked relative to it if it lies in the
            same folder or below; by its absolute address otherwise.
    """
    picture = to_svg(figure, f"Timeline of {timeline.path.name}")
    address = _address(timeline.path, page)
    return render("timeline.html", timeline=timeline, address=address, picture=picture)


def search_page(
    queries: Sequence[str], answers: Sequence[Sequence[Moment]], page: Path | None = None
) -> str:
    """A page with the moments of each query; each plays from its start to its end.

    Args:
        queries: Their words.
        answers: For each query its moments, best first.
        page: Where the page will lie; see `timeline_page`.
    """
    found = []
    with TemporaryDirectory() as folder:
        for query, moments in zip(queries, answers, strict=True):
            rows = []
            for moment in moments:
                is_here = moment.path.is_file()
                thumbnail = write_thumbnail(moment, Path(folder)) if is_here else None
                rows.append((moment, thumbnail, _address(moment.path, page)))
            found.append((query, rows))
        return render("search.html", answers=found)


def _address(path: Path, page: Path | None) -> str:
    """Address of a video: relative to a page in the same folder or above, else absolute."""
    video = path.absolute()
    if page is not None and video.is_relative_to(page.absolute().parent):
        return quote(video.relative_to(page.absolute().parent).as_posix())
    return video.as_uri()
