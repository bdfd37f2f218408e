"""Clean captions of a video, and measures of their quality.

Captions come from the file beside a video, else from a track inside it, else, if requested, from
speech recognition.
"""

from __future__ import annotations

import html
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from videoclip.data.captions import Cue, clean_cues, clean_text
from videoclip.data.embedded import read_embedded_subtitles
from videoclip.data.subtitles import parse_subtitles
from videoclip.files import write_text

__all__ = [
    "CaptionQuality",
    "Prepared",
    "assess",
    "find_outliers",
    "prepare_captions",
    "warnings_of",
    "write_json",
    "write_vtt",
]

Source = Literal["file", "embedded", "speech", "none"]

_MAX_WORDS_PER_SECOND = 5.0
_MIN_COVERAGE = 0.05
_MAX_OVERRUN = 1.0
_OUTLIER_DEVIATIONS = 3.5
_OUTLIER_SECONDS = 5.0


@dataclass(frozen=True)
class CaptionQuality:
    """Measures of the quality of captions.

    Attributes:
        num_cues: Clean cues.
        num_words: Words in them.
        coverage: Share of the video's seconds with a cue.
        duplication: Share of the words that cleaning removed as repeats.
        words_per_second: Words per second with a cue; 2 to 3 in normal speech.
        offset: Seconds from the centre of the video to the centre of the narration.
        overrun: Seconds of narration after the video's end.
    """

    num_cues: int
    num_words: int
    coverage: float
    duplication: float
    words_per_second: float
    offset: float
    overrun: float


@dataclass(frozen=True)
class Prepared:
    """The captions of one video.

    Attributes:
        source: Where they come from; "none" if there are none.
        cues: Clean cues.
        quality: Measures; None without cues.
    """

    source: Source
    cues: tuple[Cue, ...]
    quality: CaptionQuality | None


def prepare_captions(
    video: Path,
    subtitles: Path | None,
    duration: float,
    transcribe: Callable[[Path], list[Cue]] | None = None,
) -> Prepared:
    """Find the captions of a video, clean and assess them.

    Args:
        video: The video file.
        subtitles: The file beside it, if any.
        duration: Seconds of video.
        transcribe: Speech recogniser, for videos without any captions.

    Raises:
        DataError: If the subtitle file cannot be used.
        DecodeError: If the video cannot be read.
    """
    source: Source = "file" if subtitles else "embedded"
    raw = parse_subtitles(subtitles) if subtitles else read_embedded_subtitles(video)
    cues = clean_cues(raw or [])
    if not cues and transcribe is not None:
        source, raw = "speech", transcribe(video)
        cues = clean_cues(raw)
    if not cues:
        return Prepared("none", (), None)
    return Prepared(source, tuple(cues), assess(raw or [], cues, duration))


def assess(raw: Sequence[Cue], cues: Sequence[Cue], duration: float) -> CaptionQuality:
    """Measure captions.

    Args:
        raw: Cues before cleaning.
        cues: The same after cleaning; at least one.
        duration: Seconds of video.
    """
    num_raw = sum(len(clean_text(cue.text).split()) for cue in raw)
    num_words = sum(len(cue.text.split()) for cue in cues)
    spoken = _seconds_covered(cues, float("inf"))
    last_end = max(cue.end for cue in cues)
    return CaptionQuality(
        num_cues=len(cues),
        num_words=num_words,
        coverage=_seconds_covered(cues, duration) / duration,
        duplication=1 - num_words / num_raw,
        words_per_second=num_words / spoken if spoken else float("inf"),
        offset=(cues[0].start + last_end - duration) / 2,
        overrun=max(0.0, last_end - duration),
    )


def warnings_of(quality: CaptionQuality) -> list[str]:
    """Return likely problems of a video's captions, one short sentence each."""
    found = []
    if quality.overrun > _MAX_OVERRUN:
        found.append(f"runs {quality.overrun:.0f} s past the end of the video: another edit?")
    if quality.coverage < _MIN_COVERAGE:
        found.append(f"covers only {quality.coverage:.0%} of the video")
    if quality.words_per_second > _MAX_WORDS_PER_SECOND:
        found.append(f"{quality.words_per_second:.1f} words per second: are the times correct?")
    return found


def find_outliers(offsets: Mapping[str, float]) -> dict[str, float]:
    """Return the videos whose narration is shifted, with the shift from the median in seconds.

    An outlier is more than 5 s and 3.5 standard deviations (estimated from the median absolute
    deviation) from the median offset. Fewer than five videos have no outliers.
    """
    if len(offsets) < 5:
        return {}
    median = statistics.median(offsets.values())
    deviation = 1.4826 * statistics.median(abs(value - median) for value in offsets.values())
    limit = max(_OUTLIER_SECONDS, _OUTLIER_DEVIATIONS * deviation)
    return {key: value - median for key, value in offsets.items() if abs(value - median) > limit}


def write_vtt(path: Path, cues: Sequence[Cue]) -> None:
    """Write cues as a WebVTT file, atomically."""
    blocks = [
        f"{_stamp(cue.start)} --> {_stamp(cue.end)}\n{html.escape(cue.text, quote=False)}\n"
        for cue in cues
    ]
    write_text(path, "\n".join(["WEBVTT\n", *blocks]))


def write_json(path: Path, captions: Mapping[str, Sequence[Cue]]) -> None:
    """Write the cues of many videos in the format of HowTo100M's raw_caption.json, atomically."""
    table = {
        video_id: {
            "start": [cue.start for cue in cues],
            "end": [cue.end for cue in cues],
            "text": [cue.text for cue in cues],
        }
        for video_id, cues in captions.items()
    }
    write_text(path, json.dumps(table, ensure_ascii=False))


def _seconds_covered(cues: Sequence[Cue], duration: float) -> float:
    """Return the seconds before `duration` with at least one cue."""
    covered, reached = 0.0, 0.0
    for cue in cues:
        end = min(cue.end, duration)
        covered += max(0.0, end - max(cue.start, reached))
        reached = max(reached, end)
    return covered


def _stamp(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    whole, milliseconds = divmod(milliseconds, 1000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{whole:02}.{milliseconds:03}"
