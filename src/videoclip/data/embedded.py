"""Subtitle tracks inside video files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Discard, Disposition

from videoclip.data.captions import Cue
from videoclip.errors import DecodeError

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
    path = Path(path)
    try:
        # "file:" keeps FFmpeg from taking a name for an address.
        with av.open(f"file:{path}") as container:
            tracks = [
                s for s in container.streams.subtitles if s.codec_context.name in _TEXT_CODECS
            ]
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
    except (OSError, FFmpegError, UnicodeEncodeError) as error:
        raise DecodeError(f"cannot read its subtitles ({error})", path) from error


def _rank(track: Any) -> tuple[bool, bool, bool, int]:
    """Return how good a track is, smaller is better."""
    forced = bool(track.disposition & Disposition.forced)
    english = (track.language or "").lower().startswith("en")
    default = bool(track.disposition & Disposition.default)
    return forced, not english, not default, track.index


def _text(track: Any, packet: Any) -> str:
    lines = (rect.dialogue.decode("utf-8", errors="replace") for rect in track.decode(packet))
    return "\n".join(lines)
