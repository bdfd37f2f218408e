"""Prepare the captions of a folder of videos: find or recognise, clean, check, write.

Captions come from the file beside a video, else from a subtitle track inside it, else, if a speech
model is given, from its speech.
"""

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import av
from av.stream import Discard, Disposition

from videoclip.data.captions import Cue, clean_cues, clean_text
from videoclip.data.sources import write_archive
from videoclip.data.subtitles import pair_subtitles, parse_subtitles, to_webvtt
from videoclip.errors import ConfigError, DecodeError, MissingExtraError, VideoCLIPError
from videoclip.features.contained import call, probe
from videoclip.features.extract import find_videos, name_videos
from videoclip.features.video_file import open_container, reading
from videoclip.files import write_json, write_text
from videoclip.types import OnProgress

Source = Literal["file", "embedded", "speech", "none"]
CaptionFormat = Literal["vtt", "json", "tar"]
SHARD_BYTES = 10**9
"""Size from which a new tar archive is begun."""

_MAX_WORDS_PER_SECOND = 5.0
_MIN_COVERAGE = 0.05
_MAX_OVERRUN = 1.0
_OUTLIER_DEVIATIONS = 3.5
_OUTLIER_SECONDS = 5.0
_MAX_SILENCE = 0.6
"""Segments with a higher probability of silence are dropped: Whisper invents words there."""


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
    """The captions of one video; without any, `source` is "none" and `quality` None."""

    source: Source
    cues: tuple[Cue, ...]
    quality: CaptionQuality | None


@dataclass(frozen=True)
class CaptionReport:
    """Captions by video id, and the reason for each failed file; `str()` is a table.

    `folder` is where the captions and this report were written.
    """

    folder: Path
    prepared: Mapping[str, Prepared]
    failed: Mapping[Path, str]

    @property
    def captions(self) -> dict[str, tuple[Cue, ...]]:
        """Cues of the videos that have any."""
        return {name: p.cues for name, p in self.prepared.items() if p.cues}

    @property
    def warnings(self) -> dict[str, list[str]]:
        """Likely problems of every video with captions."""
        quality = {name: p.quality for name, p in self.prepared.items() if p.quality}
        found = {name: warnings_of(figures) for name, figures in quality.items()}
        offsets = {name: figures.offset for name, figures in quality.items()}
        for name, seconds in find_outliers(offsets).items():
            side = "later" if seconds > 0 else "earlier"
            found[name].append(f"captions are {abs(seconds):.0f} s {side} than in the other videos")
        return found

    def as_dict(self) -> dict[str, object]:
        """Return plain values, for JSON."""
        warnings = self.warnings
        return {
            "videos": {
                name: {"source": p.source}
                | (asdict(p.quality) if p.quality else {})
                | {"warnings": warnings.get(name, [])}
                for name, p in self.prepared.items()
            },
            "failed": {str(path): reason for path, reason in self.failed.items()},
        }

    def __str__(self) -> str:
        warnings, width = self.warnings, max([5, *map(len, self.prepared)])
        lines = [f"{'video':<{width}}  source    cues  coverage  repeats  words/s  warnings"]
        for name, p in self.prepared.items():
            line = f"{name:<{width}}  {p.source:<8}"
            if p.quality:
                q = p.quality
                line += f"  {q.num_cues:>4}  {q.coverage:>8.0%}  {q.duplication:>7.0%}"
                line += f"  {q.words_per_second:>7.1f}  {'; '.join(warnings[name])}"
            else:
                line += "  no captions: can be searched by its frames, but not trained on"
            lines.append(line.rstrip())
        num_captioned = len(self.captions)
        lines.append(
            f"{self.folder}: {num_captioned} with captions, "
            f"{len(self.prepared) - num_captioned} without, {len(self.failed)} failed; "
            f"see {self.folder / 'report.json'}"
        )
        return "\n".join(lines)


def prepare_videos(
    videos: Iterable[Path | str],
    folder: Path | str,
    *,
    format: CaptionFormat = "vtt",
    speech_model: str | None = None,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> CaptionReport:
    """Write clean captions of videos, and report.json with their quality, into a folder.

    Args:
        videos: Files and folders, see `find_videos`.
        folder: Where to write.
        format: "vtt": one file per video; "json": one captions.json in the form of HowTo100M;
            "tar": archives 00000.tar, ... of about a gigabyte with the videos and their captions,
            as WebDataset reads them.
        speech_model: Whisper model for videos without captions: a folder, size or hub id. What it
            recognised in an earlier run is read again.
        device: Where speech is recognised: "cpu", "cuda" or "auto".
        on_progress: Called with the number of finished videos and of all videos.

    Raises:
        ConfigError: If the speech model cannot be loaded.
        MissingExtraError: If the speech recogniser is not installed.
    """
    folder = Path(folder)
    files, unread = find_videos(videos)
    names = name_videos([file.path for file in files])
    subtitles = pair_subtitles(names)
    recognise = load_recogniser(speech_model, device) if speech_model else None
    prepared: dict[str, Prepared] = {}
    failed = dict(unread)
    for path, name in names.items():
        written = folder / f"{name}.vtt"
        transcribe = partial(_transcribe, recognise, written) if recognise else None
        try:
            found = prepare_captions(path, subtitles[path], probe(path).duration, transcribe)
        except VideoCLIPError as error:
            failed[path] = str(error).removeprefix(f"{path}: ")
        else:
            prepared[name] = found
            if format == "vtt" and found.cues:
                write_text(written, to_webvtt(found.cues))
        if on_progress is not None:
            on_progress(len(prepared) + len(failed) - len(unread), len(names))
    report = CaptionReport(folder, prepared, failed)
    if format == "json":
        write_captions(folder / "captions.json", report.captions)
    if format == "tar":
        readable = {name: path for path, name in names.items() if name in prepared}
        write_shards(folder, readable, report.captions)
    write_json(folder / "report.json", report.as_dict())
    return report


def load_recogniser(model: str, device: str = "auto") -> Callable[[Path], list[Cue]]:
    """Load Whisper (extra `asr`) as a function from a video to a cue for each segment of speech.

    The function raises a DecodeError if the audio of a video cannot be read.

    Args:
        model: A folder with Whisper weights for CTranslate2, or a size ("tiny.en", "small") or hub
            id, which is downloaded.
        device: "cpu", "cuda" or "auto".

    Raises:
        MissingExtraError: Without the extra `asr`.
        ConfigError: If the model cannot be loaded.
    """
    try:
        from faster_whisper import WhisperModel
    except ImportError as error:
        raise MissingExtraError("speech recognition", "asr") from error
    try:
        whisper = WhisperModel(model, device=device, compute_type="default")
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"cannot load the speech model '{model}': {reason}") from error

    def recognise(video: Path) -> list[Cue]:
        try:
            # Times of segments are loose; those of their first and last word are exact.
            segments, _ = whisper.transcribe(
                str(video), vad_filter=True, word_timestamps=True, condition_on_previous_text=False
            )
            return [
                Cue(segment.words[0].start, segment.words[-1].end, segment.text)
                for segment in segments
                if segment.words and segment.no_speech_prob <= _MAX_SILENCE
            ]
        except (OSError, RuntimeError, ValueError, IndexError) as error:
            raise DecodeError(f"cannot transcribe the audio ({error})", video) from error

    return recognise


def _transcribe(recognise: Callable[[Path], list[Cue]], written: Path, video: Path) -> list[Cue]:
    """Return the speech of a video, from the file of an earlier run unless the video is newer."""
    if written.is_file() and written.stat().st_mtime >= video.stat().st_mtime:
        return parse_subtitles(written)
    return recognise(video)


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


def write_captions(path: Path, captions: Mapping[str, Sequence[Cue]]) -> None:
    """Write the cues of many videos in the format of HowTo100M's raw_caption.json, atomically."""
    table = {
        video_id: {key: [getattr(cue, key) for cue in cues] for key in ("start", "end", "text")}
        for video_id, cues in captions.items()
    }
    write_text(path, json.dumps(table, ensure_ascii=False))


def write_shards(
    folder: Path,
    videos: Mapping[str, Path],
    captions: Mapping[str, Sequence[Cue]],
    shard_bytes: int = SHARD_BYTES,
) -> list[Path]:
    """Write videos, each followed by its captions as WebVTT, into tar archives in a folder.

    Args:
        folder: Where 00000.tar and so on are written; those that exist are replaced.
        videos: Video files by id, which is their name in an archive.
        captions: Cues by video id; videos without any have no caption file.
        shard_bytes: Size from which a new archive is begun.

    Returns:
        The archives.
    """
    shards: list[dict[str, Path | bytes]] = []
    size = shard_bytes
    for name, path in videos.items():
        if size >= shard_bytes:
            shards.append({})
            size = 0
        shards[-1][f"{name}{path.suffix}"] = path
        if cues := captions.get(name):
            shards[-1][f"{name}.vtt"] = to_webvtt(cues).encode()
        size += path.stat().st_size
    paths = [folder / f"{i:05d}.tar" for i in range(len(shards))]
    for path, files in zip(paths, shards, strict=True):
        write_archive(path, files)
    return paths


def _seconds_covered(cues: Sequence[Cue], duration: float) -> float:
    """Return the seconds before `duration` with at least one cue."""
    covered, reached = 0.0, 0.0
    for cue in cues:
        end = min(cue.end, duration)
        covered += max(0.0, end - max(cue.start, reached))
        reached = max(reached, end)
    return covered


_TEXT_CODECS = {"ass", "mov_text", "srt", "ssa", "subrip", "text", "webvtt"}


def read_embedded_subtitles(path: Path | str) -> list[Cue] | None:
    """Read the best subtitle track of a video, uncleaned; see `clean_cues`.

    A complete track wins over a forced one, English over other languages, the default track over
    the rest. Tracks of pictures (DVD, Blu-ray) cannot be read.

    Returns:
        Cues in file order, or None if there is no track of text.

    Raises:
        DecodeError: If the file cannot be read.
    """
    return call(Path(path), _read_track, Path(path))


def _read_track(path: Path) -> list[Cue] | None:
    with reading(path), open_container(path) as container:
        tracks = [s for s in container.streams.subtitles if s.codec_context.name in _TEXT_CODECS]
        if not tracks:
            return None
        track = min(tracks, key=_rank)
        for stream in container.streams:
            if stream is not track:
                stream.discard = Discard.all
        start = (container.start_time or 0) / av.time_base
        return [
            Cue(first - start, first - start + duration, text)
            for packet in container.demux(track)
            if packet.pts is not None and packet.time_base
            for first in [float(packet.pts * packet.time_base)]
            for duration in [float((packet.duration or 0) * packet.time_base)]
            if (text := _text(track, packet))
        ]


def _rank(track: Any) -> tuple[bool, bool, bool, int]:
    """Return how good a track is, smaller is better."""
    forced = bool(track.disposition & Disposition.forced)
    english = (track.language or "").lower().startswith("en")
    default = bool(track.disposition & Disposition.default)
    return forced, not english, not default, track.index


def _text(track: Any, packet: Any) -> str:
    lines = (rect.dialogue.decode("utf-8", errors="replace") for rect in track.decode(packet))
    return "\n".join(lines)
