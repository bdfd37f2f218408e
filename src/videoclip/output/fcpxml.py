"""FCPXML, which Final Cut Pro, Resolve and Premiere read: moments in order on one timeline."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av

from videoclip.errors import DecodeError
from videoclip.output.timecode import FrameRate
from videoclip.zeroshot.results import Moment

__all__ = ["to_fcpxml"]

VERSION = "1.8"


def to_fcpxml(moments: Sequence[Moment], rate: FrameRate, title: str = "videoclip") -> str:
    """Write an event with one project that shows the moments one after the other.

    All times are whole frames of the timeline, written as rational seconds, as the format wants.
    """
    step = 1 / rate.exact
    root = ET.Element("fcpxml", version=VERSION)
    resources = ET.SubElement(root, "resources")
    ET.SubElement(resources, "format", id="r1", frameDuration=_time(step))
    assets: dict[Path, str] = {}
    for moment in moments:
        if moment.path not in assets:
            assets[moment.path] = f"r{len(assets) + 2}"
            ends = [other.end for other in moments if other.path == moment.path]
            frames = rate.frames(max([moment.duration or 0.0, *ends]))
            asset = ET.SubElement(
                resources,
                "asset",
                id=assets[moment.path],
                name=moment.video_id,
                src=moment.path.absolute().as_uri(),
                start="0s",
                duration=_time(frames * step),
                hasVideo="1",
                format="r1",
            )
            for name, value in _sound(moment.path).items():
                asset.set(name, value)
    event = ET.SubElement(ET.SubElement(root, "library"), "event", name=title)
    project = ET.SubElement(event, "project", name=title)
    code_format = "DF" if rate.is_drop else "NDF"
    sequence = ET.SubElement(project, "sequence", format="r1", tcStart="0s", tcFormat=code_format)
    spine = ET.SubElement(sequence, "spine")
    at = 0
    for moment in moments:
        first = rate.frames(moment.start)
        length = max(1, rate.frames(moment.end) - first)
        clip = ET.SubElement(
            spine,
            "asset-clip",
            name=moment.label or moment.video_id,
            ref=assets[moment.path],
            offset=_time(at * step),
            start=_time(first * step),
            duration=_time(length * step),
            format="r1",
            tcFormat=code_format,
        )
        if moment.confidence:
            ET.SubElement(clip, "note").text = f"confidence: {moment.confidence}"
        at += length
    sequence.set("duration", _time(at * step))
    ET.indent(root)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n'
        + ET.tostring(root, encoding="unicode")
        + "\n"
    )


def _sound(path: Path) -> dict[str, str]:
    """What an asset says of its sound: nothing where there is none, or the video is elsewhere."""
    if not path.is_file():
        return {}
    try:
        with av.open(str(path)) as container:
            stream = container.streams.best("audio")
            if stream is None:
                return {}
            channels, rate = stream.channels, stream.sample_rate
    except av.FFmpegError as error:
        raise DecodeError(f"cannot be read ({error})", path) from error
    sound = {"hasAudio": "1", "audioSources": "1"}
    return sound | {"audioChannels": str(channels), "audioRate": str(rate)}


def _time(seconds: Fraction) -> str:
    """Rational seconds, as 1001/30000s."""
    whole = seconds.denominator == 1
    return f"{seconds.numerator}s" if whole else f"{seconds.numerator}/{seconds.denominator}s"
