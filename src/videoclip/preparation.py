"""Prepare the captions of a folder of videos: find or recognise, clean, check, write.

Captions come from the file beside a video, else from a subtitle track inside it, else, if a speech
model is given, from its speech.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from videoclip.data.prepare import (
    Prepared,
    find_outliers,
    prepare_captions,
    warnings_of,
    write_json,
    write_vtt,
)
from videoclip.data.subtitles import Cue, pair_subtitles, parse_subtitles
from videoclip.errors import VideoCLIPError
from videoclip.features.decode import probe
from videoclip.features.extract import find_videos, name_videos
from videoclip.files import write_json as write_report
from videoclip.types import OnProgress

__all__ = ["CaptionReport", "prepare_videos"]


@dataclass(frozen=True)
class CaptionReport:
    """Captions and their quality; `str()` is a table.

    Attributes:
        folder: Where captions and report were written.
        prepared: Captions of each video, by video id.
        failed: Reason for each other file.
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
    format: Literal["vtt", "json"] = "vtt",
    speech_model: str | None = None,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> CaptionReport:
    """Write clean captions of videos, and report.json with their quality, into a folder.

    Args:
        videos: Files and folders, see `find_videos`.
        folder: Where to write.
        format: "vtt": one file per video; "json": one captions.json in the form of HowTo100M.
        speech_model: Whisper model for videos without captions: a folder, size or hub id. What it
            recognised in an earlier run is read again.
        device: Where speech is recognised: "cpu", "cuda" or "auto".
        on_progress: Called with the number of finished videos and of all videos.

    Raises:
        CheckpointError: If the speech model cannot be loaded.
        MissingExtraError: If the speech recogniser is not installed.
    """
    folder = Path(folder)
    files, unread = find_videos(videos)
    names = name_videos([file.path for file in files])
    subtitles = pair_subtitles(names)
    transcribe = _transcriber(speech_model, device, names, folder) if speech_model else None
    prepared: dict[str, Prepared] = {}
    failed = dict(unread)
    for path, name in names.items():
        try:
            found = prepare_captions(path, subtitles[path], probe(path).duration, transcribe)
        except VideoCLIPError as error:
            failed[path] = str(error).removeprefix(f"{path}: ")
        else:
            prepared[name] = found
            if format == "vtt" and found.cues:
                write_vtt(folder / f"{name}.vtt", found.cues)
        if on_progress is not None:
            on_progress(len(prepared) + len(failed) - len(unread), len(names))
    report = CaptionReport(folder, prepared, failed)
    if format == "json":
        write_json(folder / "captions.json", report.captions)
    write_report(folder / "report.json", report.as_dict())
    return report


def _transcriber(
    model: str, device: str, names: Mapping[Path, str], folder: Path
) -> Callable[[Path], list[Cue]]:
    from videoclip.data.transcribe import Transcriber

    recognise = Transcriber(model, device)

    def transcribe(video: Path) -> list[Cue]:
        written = folder / f"{names[video]}.vtt"
        if written.is_file() and written.stat().st_mtime >= video.stat().st_mtime:
            return parse_subtitles(written)
        return recognise(video)

    return transcribe
