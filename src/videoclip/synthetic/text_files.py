"""Rows, lines and values as the text of annotation files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from videoclip.synthetic.world import WorldVideo

__all__ = ["Row", "json_text", "lines", "table", "video_url"]

Row = Sequence[object]


def table(rows: Iterable[Row], delimiter: str = ",") -> str:
    """Return rows as CSV, or separated by something else."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue()


def lines(texts: Iterable[str]) -> str:
    """Return one text a line."""
    return "".join(f"{text}\n" for text in texts)


def json_text(value: Any) -> str:
    """Return a value as JSON a person can read."""
    return json.dumps(value, indent=1) + "\n"


def video_url(video: WorldVideo) -> str:
    """Return where a video lies in the folder of its world."""
    return f"videos/{video.video_id}.mp4"
