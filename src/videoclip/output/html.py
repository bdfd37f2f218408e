"""Web pages from the templates beside this file, each complete in one file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from videoclip.output.figures import data_url, to_svg
from videoclip.zeroshot.moments import clock
from videoclip.zeroshot.results import Timeline

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure


def render(template: str, **values: Any) -> str:
    """Fill in a template; values are escaped unless the template calls them safe.

    Args:
        template: Name of a file in `templates/`.
        values: The names it uses. Filters beside Jinja's own: `clock` (seconds) and `data_url` (of
            a JPEG file).
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("videoclip.output"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["clock"] = clock
    environment.filters["data_url"] = lambda image: data_url(image.read_bytes())
    return environment


def timeline_page(timeline: Timeline, figure: Figure, page: Path | None = None) -> str:
    """A page with the video and its timeline; a click on a box, a still or a row plays from there.

    Args:
        timeline: What was found.
        figure: Its drawing.
        page: Where the page will lie, so that the video is linked relative to it if it lies in the
            same folder or below; by its absolute address otherwise.
    """
    video = timeline.path.absolute()
    address = video.as_uri()
    if page is not None and video.is_relative_to(page.absolute().parent):
        address = quote(video.relative_to(page.absolute().parent).as_posix())
    picture = to_svg(figure, f"Timeline of {timeline.path.name}")
    return render("timeline.html", timeline=timeline, address=address, picture=picture)
