"""`videoclip prepare`: clean captions of videos, and what they are worth."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from videoclip.errors import VideoCLIPError

if TYPE_CHECKING:
    from collections.abc import Callable

    from videoclip.data.prepare import Prepared
    from videoclip.data.subtitles import Cue

__all__ = ["Prepare"]


@dataclass(frozen=True)
class Prepare:
    """Find the captions of videos, clean them, and report on their quality.

    Captions come from the file beside a video (name.vtt, name.en.srt, name.json, ...), else from a
    subtitle track inside it, else, with --asr, from its speech. They lose markup, music notes,
    broken characters and the repeats of rolling captions; what is really said twice stays.
    """

    videos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Video files, and folders to search for them."""
    out: Path = Path("captions")
    """Folder for the clean captions and report.json; made if absent."""
    format: Literal["vtt", "json"] = "vtt"
    """vtt: a file per video; json: one captions.json in the form of HowTo100M."""
    asr: str | None = None
    """Whisper model for videos without captions: a folder, or a size or hub id to fetch."""
    device: str = "auto"
    """Where speech is recognised: cpu, cuda or auto."""
    json: bool = False
    """Print the report as JSON."""

    def run(self) -> int:
        """Prepare, report, and return 1 if a video or its captions could not be read."""
        from rich.console import Console
        from rich.progress import track

        from videoclip.data.prepare import prepare_captions, write_json, write_vtt
        from videoclip.data.subtitles import pair_subtitles
        from videoclip.features.decode import probe
        from videoclip.features.extract import find_videos, name_videos

        files, unread = find_videos(self.videos)
        names = name_videos([file.path for file in files])
        subtitles = pair_subtitles(names)
        transcribe = self._transcriber(names)
        report = _Report(failed={str(path): f"{path}: {why}" for path, why in unread.items()})
        stderr = Console(stderr=True)
        for path in track(names, "prepare", console=stderr, transient=True):
            try:
                duration = probe(path).duration
                prepared = prepare_captions(path, subtitles[path], duration, transcribe)
            except VideoCLIPError as error:
                report.failed[names[path]] = str(error)
                continue
            report.prepared[names[path]] = prepared
            if self.format == "vtt" and prepared.cues:
                write_vtt(self.out / f"{names[path]}.vtt", prepared.cues)
        if self.format == "json":
            write_json(self.out / "captions.json", report.captions)
        report.save(self.out / "report.json")
        print(json.dumps(report.as_dict(), indent=2) if self.json else report.as_text(self.out))
        for reason in report.failed.values():
            print(f"videoclip: failed: {reason}", file=sys.stderr)
        return 1 if report.failed else 0

    def _transcriber(self, names: dict[Path, str]) -> Callable[[Path], list[Cue]] | None:
        """Load the speech model, if asked for; what it wrote for a video before is read again."""
        if self.asr is None:
            return None
        from videoclip.data.subtitles import parse_subtitles
        from videoclip.data.transcribe import Transcriber

        recognise = Transcriber(self.asr, self.device)

        def transcribe(video: Path) -> list[Cue]:
            written = self.out / f"{names[video]}.vtt"
            if written.is_file() and written.stat().st_mtime >= video.stat().st_mtime:
                return parse_subtitles(written)
            return recognise(video)

        return transcribe


@dataclass
class _Report:
    """What was found, by video id."""

    prepared: dict[str, Prepared] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def captions(self) -> dict[str, tuple[Cue, ...]]:
        return {name: p.cues for name, p in self.prepared.items() if p.cues}

    def warnings(self) -> dict[str, list[str]]:
        """What looks wrong, for every video with captions."""
        from videoclip.data.prepare import find_outliers, warnings_of

        quality = {name: p.quality for name, p in self.prepared.items() if p.quality}
        found = {name: warnings_of(figures) for name, figures in quality.items()}
        offsets = {name: figures.offset for name, figures in quality.items()}
        for name, seconds in find_outliers(offsets).items():
            side = "later" if seconds > 0 else "earlier"
            found[name].append(f"lies {abs(seconds):.0f} s {side} than in the other videos")
        return found

    def as_dict(self) -> dict[str, object]:
        warnings = self.warnings()
        return {
            "videos": {
                name: {"source": p.source}
                | (dataclasses.asdict(p.quality) if p.quality else {})
                | {"warnings": warnings.get(name, [])}
                for name, p in self.prepared.items()
            },
            "failed": self.failed,
        }

    def save(self, path: Path) -> None:
        from videoclip.files import write_text

        write_text(path, json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n")

    def as_text(self, out: Path) -> str:
        warnings = self.warnings()
        width = max([5, *map(len, self.prepared)])
        lines = [f"{'video':<{width}}  source    cues  coverage  repeats  words/s  remarks"]
        for name, p in self.prepared.items():
            line = f"{name:<{width}}  {p.source:<8}"
            if p.quality:
                q = p.quality
                line += f"  {q.num_cues:>4}  {q.coverage:>8.0%}  {q.duplication:>7.0%}"
                line += f"  {q.words_per_second:>7.1f}  {'; '.join(warnings[name])}"
            else:
                line += "  no words: can be searched by what it shows, not trained on"
            lines.append(line.rstrip())
        num_narrated = len(self.captions)
        lines.append(
            f"{out}: {num_narrated} with captions, {len(self.prepared) - num_narrated} without, "
            f"{len(self.failed)} failed; figures in {out / 'report.json'}"
        )
        return "\n".join(lines)
