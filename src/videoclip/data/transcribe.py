"""Speech recognition with Whisper (extra `asr`)."""

from __future__ import annotations

from pathlib import Path

from videoclip.data.captions import Cue
from videoclip.errors import ConfigError, DecodeError, MissingExtraError

_MAX_SILENCE = 0.6
"""Segments with a higher probability of silence are dropped: Whisper invents words there."""


class Transcriber:
    """A loaded speech recogniser, to be called with video files.

    Args:
        model: A folder with Whisper weights for CTranslate2, or a size ("tiny.en", "small") or hub
            id, which is downloaded.
        device: "cpu", "cuda" or "auto".

    Raises:
        MissingExtraError: Without the extra `asr`.
        ConfigError: If the model cannot be loaded.
    """

    def __init__(self, model: str, device: str = "auto") -> None:
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise MissingExtraError("speech recognition", "asr") from error
        try:
            self._model = WhisperModel(model, device=device, compute_type="default")
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"cannot load the speech model '{model}': {reason}") from error

    def __call__(self, video: Path | str) -> list[Cue]:
        """Return one cue for each segment of speech in a video.

        Raises:
            DecodeError: If its audio cannot be read.
        """
        try:
            # Times of segments are loose; those of their first and last word are exact.
            segments, _ = self._model.transcribe(
                str(video), vad_filter=True, word_timestamps=True, condition_on_previous_text=False
            )
            return [
                Cue(segment.words[0].start, segment.words[-1].end, segment.text)
                for segment in segments
                if segment.words and segment.no_speech_prob <= _MAX_SILENCE
            ]
        except (OSError, RuntimeError, ValueError, IndexError) as error:
            raise DecodeError(f"cannot transcribe the audio ({error})", video) from error
