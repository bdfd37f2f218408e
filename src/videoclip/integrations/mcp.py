"""A library as tools for assistants, by the Model Context Protocol (extra `mcp`)."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from PIL import Image as Pictures

from videoclip import __version__
from videoclip.errors import MissingExtraError, VideoCLIPError
from videoclip.features.contained import grab_frame
from videoclip.features.decode import Fit
from videoclip.library.catalog import IndexedVideo
from videoclip.library.library import VideoLibrary
from videoclip.zeroshot.confidence import Confidence
from videoclip.zeroshot.moments import Moment, with_confidence
from videoclip.zeroshot.results import localize

try:
    from mcp.server.mcpserver import Image, MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from pydantic import Field
except ModuleNotFoundError as error:
    raise MissingExtraError("videoclip serve --mcp", "mcp") from error

FRAME_PIXELS = 768
"""Longest side of a frame."""
MAX_CUES = 500
"""Cues that are read at once."""
INSTRUCTIONS = (
    "Find and inspect moments in the user's own videos. `search` finds moments by what they show "
    "or what is said in them, `localize` when each step of a task happens in one video, `read` "
    "what is said in a video, `frame` what a second looks like. Times are in seconds."
)
Video = Annotated[str, Field(description="Path of a video as `search` returns it, or its name")]
Texts = Annotated[list[str], Field(min_length=1, max_length=100)]


def create_server(library: VideoLibrary) -> MCPServer:
    """Return a server whose tools search, localize and read a library, which it does not close.

    Its `run()` speaks on standard input and output. It reads videos of the library only.
    """
    server = MCPServer("videoclip", version=__version__, instructions=INSTRUCTIONS)

    @server.tool(structured_output=True)
    def search(
        query: Annotated[str, Field(min_length=1, max_length=1000)],
        top_k: Annotated[int, Field(ge=1, le=100)] = 10,
        where: Annotated[str, Field(description='Such as "duration > 60"')] = "",
        min_confidence: Confidence = "low",
    ) -> list[dict[str, Any]]:
        """Find moments that show, or talk about, what a query describes, best first.

        "A, then B" finds A that is followed by B. Confidence is high, medium, low or none.
        """
        with _reported():
            found = library.search(query, top_k, where=where or None)
        return [_row(moment) for moment in with_confidence(found, min_confidence)]

    @server.tool("localize", structured_output=True)
    def find_steps(video: Video, steps: Texts, ordered: bool = True) -> dict[str, Any]:
        """Find when each of several steps happens in a video; `ordered` if in this order."""
        with _reported():
            path = _find(library, video).path
            timeline = localize(
                path, steps, library.embedder, ordered=ordered, embedded=library.embedded(path)
            )
        return {
            "moments": [_row(moment) for moment in timeline.moments],
            "missing": list(timeline.missing),
        }

    @server.tool(structured_output=True)
    def read(video: Video, start: float = 0.0, end: float | None = None) -> dict[str, Any]:
        """Read what is said in a video, or in a span of it, with its duration and metadata."""
        with _reported():
            known = _find(library, video)
            last = known.duration if end is None else end
            cues = [c for c in library.narration(known.path) if c.start < last and c.end > start]
            return {
                "path": known.path,
                "duration": known.duration,
                "metadata": library.metadata(known.path),
                "cues": [{"start": c.start, "end": c.end, "text": c.text} for c in cues[:MAX_CUES]],
                "num_cues_left_out": max(0, len(cues) - MAX_CUES),
            }

    @server.tool()
    def frame(video: Video, time: Annotated[float, Field(ge=0)]) -> Image:
        """Return the frame of a video at a time in seconds."""
        with _reported():
            pixels = grab_frame(_find(library, video).path, time, Fit(FRAME_PIXELS))
        file = io.BytesIO()
        Pictures.fromarray(pixels).save(file, "JPEG", quality=85)
        return Image(data=file.getvalue(), format="jpeg")

    return server


@contextmanager
def _reported() -> Iterator[None]:
    """Make our errors answers that the assistant reads."""
    try:
        yield
    except VideoCLIPError as error:
        raise ToolError(str(error)) from error


def _find(library: VideoLibrary, name: str) -> IndexedVideo:
    """Return the video of a path, or the only one of a file name.

    Raises:
        ToolError: If there is none, or several have the name.
    """
    videos = library.videos()
    found = [video for video in videos if video.path == name]
    found = found or [video for video in videos if Path(video.path).name == name]
    if len(found) != 1:
        problem = "several videos have" if found else "no video in the library has"
        raise ToolError(f"{problem} this path or name: '{name}'; use a path that search returns")
    return found[0]


def _row(moment: Moment) -> dict[str, Any]:
    """Return what an assistant needs to know about a moment."""
    row = {
        "path": str(moment.path),
        "start": round(moment.start, 3),
        "end": round(moment.end, 3),
        "label": moment.label,
        "confidence": moment.confidence,
        "words": moment.words,
    }
    return row | ({"parts": [_row(part) for part in moment.parts]} if moment.parts else {})
