"""`videoclip prepare`: find, clean and check the captions of videos."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from videoclip.cli import options


@dataclass(frozen=True)
class Prepare:
    """Find the captions of videos, clean them and report on their quality.

    Captions come from the file beside a video (name.vtt, name.en.srt, name.json, ...), else from a
    subtitle track inside it, else, with --asr, from its speech. Markup, music notes, broken
    characters and the repeats of rolling captions are removed; what is really said twice is kept.
    """

    videos: options.Videos
    out: Annotated[Path, arg(metavar="FOLDER")] = Path("captions")
    """Folder for the clean captions and report.json."""
    format: Literal["vtt", "json", "tar"] = "vtt"
    """vtt: one file per video; json: one captions.json in the form of HowTo100M; tar: archives for
    WebDataset with the videos and their captions."""
    asr: Annotated[str | None, arg(metavar="MODEL")] = None
    """Whisper model for videos without captions: a folder, or a size or hub id to download."""
    device: options.Device = options.AUTO
    json: options.Json = False

    def run(self) -> int:
        """Write captions, and print the report and the failed files."""
        from videoclip.preparation import prepare_videos

        report = prepare_videos(
            self.videos,
            self.out,
            format=self.format,
            speech_model=self.asr,
            device=self.device,
            on_progress=options.progress_line("videos"),
        )
        print(json.dumps(report.as_dict(), indent=2) if self.json else report)
        return options.print_failures(report.failed)
