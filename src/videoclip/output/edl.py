"""Edit lists for video editors: CMX 3600 EDL and FCPXML, with the moments one after the other.

They count time in SMPTE timecode: hours, minutes, seconds and frames. At the NTSC rates (23.976,
29.97, 59.94) a second of timecode is 1.001 real seconds. Drop-frame timecode stays close to the
clock at 29.97 and 59.94: it skips the frame numbers 0 and 1 (0 to 3 at 59.94) of every minute
except each tenth. No frame is lost. It is written with `;` before the frame.
"""

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from videoclip.errors import ConfigError, DataError
from videoclip.features.contained import call
from videoclip.features.video_file import open_container, reading
from videoclip.zeroshot.moments import Moment

NOMINAL_RATES = (24, 25, 30, 48, 50, 60)
"""Frames counted in a second of timecode."""
TOLERANCE = 0.005
"""Relative difference up to which a measured rate counts as a standard one, since phones vary."""


@dataclass(frozen=True)
class FrameRate:
    """A frame rate of an edit list.

    Attributes:
        exact: Frames per second, as 30000/1001.
        is_drop: Whether its timecode is drop-frame.
    """

    exact: Fraction
    is_drop: bool = False

    def __post_init__(self) -> None:
        if self.exact <= 0:
            raise ConfigError(f"a frame rate must be positive, got {self.exact}")
        if self.is_drop and self.exact not in (Fraction(30000, 1001), Fraction(60000, 1001)):
            raise ConfigError(
                f"drop-frame timecode exists at 29.97 and 59.94, not at {float(self.exact):g}"
            )

    @property
    def nominal(self) -> int:
        """Frames counted in a second of timecode."""
        return round(self.exact)

    @property
    def _num_dropped(self) -> int:
        return self.nominal // 15 if self.is_drop else 0

    def frames(self, seconds: float) -> int:
        """Number of the frame nearest to a time."""
        return round(Fraction(seconds) * self.exact)

    def timecode(self, frame: int) -> str:
        """Timecode of a frame; after 24 hours it starts again at 0."""
        per_minute = 60 * self.nominal - self._num_dropped
        per_ten_minutes = 10 * per_minute + self._num_dropped
        if self.is_drop:  # add the numbers that were skipped before it
            tens, rest = divmod(frame, per_ten_minutes)
            minutes = max(0, rest - self._num_dropped) // per_minute
            frame += self._num_dropped * (9 * tens + minutes)
        seconds, frames = divmod(frame, self.nominal)
        hours = seconds // 3600 % 24
        sign = ";" if self.is_drop else ":"
        return f"{hours:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{sign}{frames:02d}"


def find_rate(measured: float, is_drop: bool | None = None) -> FrameRate:
    """The standard rate nearest to a measured one.

    Args:
        measured: Mean frames per second.
        is_drop: Whether to use drop-frame timecode; None: at 29.97 and 59.94, as editors do.

    Returns:
        A standard rate, or the measured one rounded to a whole number if it is none.

    Raises:
        ConfigError: If drop-frame timecode is requested at another rate.
    """
    standard = [Fraction(rate) for rate in NOMINAL_RATES]
    standard += [Fraction(rate * 1000, 1001) for rate in (24, 30, 48, 60)]
    nearest = min(standard, key=lambda rate: abs(float(rate) - measured))
    if abs(float(nearest) - measured) > TOLERANCE * float(nearest):
        nearest = Fraction(max(1, round(measured)))
    has_drop = nearest in (Fraction(30000, 1001), Fraction(60000, 1001))
    return FrameRate(nearest, has_drop if is_drop is None else is_drop)


ONE_HOUR = 3600
"""Seconds at which the timecode of an edit list begins, by convention."""
FCPXML_VERSION = "1.8"


def choose_rate(
    moments: Sequence[Moment],
    frames_per_second: float | None = None,
    is_drop: bool | None = None,
    on_message: Callable[[str], None] = lambda text: None,
) -> FrameRate:
    """The frame rate of an edit list.

    Args:
        moments: What it will hold.
        frames_per_second: The rate; None: the one that most moments have.
        is_drop: As in `find_rate`.
        on_message: Called with a line of text if the rates of the videos differ.

    Raises:
        DataError: If no rate is given and those of the videos are unknown.
        ConfigError: As `find_rate`.
    """
    if frames_per_second is not None:
        return find_rate(frames_per_second, is_drop)
    rates = Counter(find_rate(m.frame_rate).exact for m in moments if m.frame_rate)
    if not rates:
        raise DataError("the frame rates of the videos are unknown; choose one with --rate")
    (commonest, _), *others = rates.most_common()
    if others:
        known = ", ".join(f"{float(rate):g}" for rate in sorted(rates))
        on_message(
            f"the frame rates of the videos are {known}; took {float(commonest):g}, the commonest "
            "(--rate chooses another)"
        )
    return find_rate(float(commonest), is_drop)


def _events(moments: Sequence[Moment], rate: FrameRate) -> Iterator[tuple[Moment, int, int, int]]:
    """Yield each moment with its first frame, its length (at least 1) and its place, in frames."""
    place = 0
    for moment in moments:
        first = rate.frames(moment.start)
        length = max(1, rate.frames(moment.end) - first)
        yield moment, first, length, place
        place += length


def to_edl(moments: Sequence[Moment], rate: FrameRate, title: str = "videoclip") -> str:
    """A CMX 3600 edit decision list with one video track.

    Source timecode counts from 0 at the start of each file. Source: SMPTE 258M; the reel is AX
    ("auxiliary"), as editors write for files; comments name the files.
    """
    # Drop-frame timecode follows the clock; other timecode counts whole frames for each second.
    hour = rate.frames(ONE_HOUR) if rate.is_drop else ONE_HOUR * rate.nominal
    lines = [f"TITLE: {_one_line(title):.70}"]
    lines.append(f"FCM: {'DROP FRAME' if rate.is_drop else 'NON-DROP FRAME'}")
    for number, (moment, first, length, place) in enumerate(_events(moments, rate), start=1):
        frames = (first, first + length, hour + place, hour + place + length)
        codes = " ".join(map(rate.timecode, frames))
        lines += ["", f"{number:03d}  AX       V     C        {codes}"]
        lines.append(f"* FROM CLIP NAME: {_one_line(moment.path.name)}")
        lines.append(f"* SOURCE FILE: {_one_line(str(moment.path))}")
        if moment.label:
            lines.append(f"* COMMENT: {_one_line(moment.label)}")
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    """The text without line breaks, which would end a comment."""
    return " ".join(text.split())


def to_fcpxml(moments: Sequence[Moment], rate: FrameRate, title: str = "videoclip") -> str:
    """FCPXML with one event and one project, for Final Cut Pro, DaVinci Resolve and Premiere.

    All times are whole frames of the timeline, written as rational seconds, as the format requires.

    Raises:
        DecodeError: If a video exists but cannot be read.
    """

    def time(frames: int) -> str:
        seconds = frames / rate.exact
        return f"{seconds}s"  # as 5s or 1001/30000s

    root = ET.Element("fcpxml", version=FCPXML_VERSION)
    resources = ET.SubElement(root, "resources")
    ET.SubElement(resources, "format", id="r1", frameDuration=time(1))
    paths = dict.fromkeys(moment.path for moment in moments)
    asset_ids = {path: f"r{number}" for number, path in enumerate(paths, start=2)}
    for path, asset_id in asset_ids.items():
        found = [moment for moment in moments if moment.path == path]
        ends = [moment.end for moment in found]
        asset = {
            "id": asset_id,
            "name": path.stem,
            "src": path.absolute().as_uri(),
            "start": "0s",
            "duration": time(rate.frames(max([found[0].duration or 0.0, *ends]))),
            "hasVideo": "1",
            "format": "r1",
        }
        if path.is_file():
            asset |= call(path, _sound, path)
        ET.SubElement(resources, "asset", asset)
    event = ET.SubElement(ET.SubElement(root, "library"), "event", name=title)
    project = ET.SubElement(event, "project", name=title)
    code_format = "DF" if rate.is_drop else "NDF"
    sequence = ET.SubElement(project, "sequence", format="r1", tcStart="0s", tcFormat=code_format)
    spine = ET.SubElement(sequence, "spine")
    for moment, first, length, place in _events(moments, rate):
        clip = ET.SubElement(
            spine,
            "asset-clip",
            name=moment.label or moment.video_id,
            ref=asset_ids[moment.path],
            offset=time(place),
            start=time(first),
            duration=time(length),
            format="r1",
            tcFormat=code_format,
        )
        if moment.confidence:
            ET.SubElement(clip, "note").text = f"confidence: {moment.confidence}"
        sequence.set("duration", time(place + length))
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n{text}\n'


def _sound(path: Path) -> dict[str, str]:
    """Attributes of an asset with sound; none if it has no sound."""
    with reading(path), open_container(path) as container:
        stream = container.streams.best("audio")
        if stream is None:
            return {}
        channels, rate = str(stream.channels), str(stream.sample_rate)
    return {"hasAudio": "1", "audioSources": "1", "audioChannels": channels, "audioRate": rate}
