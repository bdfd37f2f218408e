"""Pictures of videos on disk, one for each second: what an image backbone is trained on.

Where the backbone stays frozen, its features are kept instead (`FeatureStore`): they are a hundred
times smaller. Both are read alike, so that a `NarratedCorpus` is made of either.

    frames.json        the size of the pictures, their rate, and how they were scaled
    VIDEO-ID.rgb       the pictures of a video one after another, three bytes a pixel
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt

from videoclip.config import from_dict
from videoclip.data.feature_store import FeatureSpec
from videoclip.errors import ConfigError, DataError, IndexMismatchError
from videoclip.files import write_text

__all__ = ["FrameSpec", "FrameStore"]

SPEC_FILE = "frames.json"
SUFFIX = ".rgb"

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FrameSpec:
    """What the pictures of a store are.

    Attributes:
        height: Of a picture, in pixels.
        width: Likewise.
        frames_per_second: Picture i stands for seconds [i / rate, (i + 1) / rate).
        resize: How they were scaled, in words; pictures scaled otherwise are others.
    """

    height: int
    width: int
    frames_per_second: float
    resize: str


class FrameStore:
    """The pictures of videos in a folder, read like features; safe to share among processes.

    Args:
        folder: Where they lie; see `open_or_create`.
        frames: What they are.
    """

    def __init__(self, folder: Path, frames: FrameSpec) -> None:
        self.folder, self.frames = folder, frames

    @classmethod
    def open(cls, folder: Path | str) -> FrameStore:
        """Open a store.

        Raises:
            DataError: If there is none, or it is damaged.
        """
        path = Path(folder) / SPEC_FILE
        try:
            return cls(path.parent, from_dict(FrameSpec, json.loads(path.read_text())))
        except FileNotFoundError:
            raise DataError("there are no frames here: name another folder", folder) from None
        except (OSError, ValueError, TypeError, AttributeError, ConfigError) as error:
            raise DataError(f"this does not describe frames ({error})", path) from error

    @classmethod
    def open_or_create(cls, folder: Path | str, frames: FrameSpec) -> FrameStore:
        """Open a store, or begin one.

        Raises:
            IndexMismatchError: If the store that is there holds other pictures.
        """
        path = Path(folder) / SPEC_FILE
        if not path.exists():
            write_text(path, json.dumps(asdict(frames), indent=2) + "\n")
        store = cls.open(folder)
        if store.frames != frames:
            raise IndexMismatchError(
                f"{folder} holds other frames ({store.frames}, not {frames}): name a new folder"
            )
        return store

    @property
    def spec(self) -> FeatureSpec:
        """The pictures as if they were features: `dim` bytes each."""
        frames = self.frames
        return FeatureSpec(
            dim=self._bytes,
            features_per_second=frames.frames_per_second,
            backbone="frames",
            normalized=False,
            fingerprint=f"{frames.height}x{frames.width} {frames.resize}",
        )

    @property
    def video_ids(self) -> list[str]:
        """Ids of all videos, sorted."""
        paths = self.folder.glob(f"*{SUFFIX}")
        return sorted(unquote(path.name.removesuffix(SUFFIX)) for path in paths)

    def __contains__(self, video_id: object) -> bool:
        """Whether the pictures of a video are here."""
        return isinstance(video_id, str) and self._path(video_id).is_file()

    def append(self, video_id: str, pictures: Iterable[Frames]) -> int:
        """Add the pictures of a video as they come, whole or not at all; return their number.

        Args:
            video_id: Its name.
            pictures: (height, width, 3) each, at least one.

        Raises:
            DataError: If there is none, or one is of another size.
        """
        path = self._path(video_id)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        number = 0
        try:
            with aside.open("wb") as file:
                for picture in pictures:
                    if picture.shape != self._shape or picture.dtype != np.uint8:
                        raise DataError(
                            f"'{video_id}' has a picture {picture.shape} of {picture.dtype}, not "
                            f"{self._shape} of bytes: scale it first",
                            self.folder,
                        )
                    file.write(picture.tobytes())
                    number += 1
                file.flush()
                os.fsync(file.fileno())
            if not number:
                raise DataError(f"'{video_id}' has no pictures: leave it out", self.folder)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        return number

    def num_features(self, video_id: str) -> int:
        """Return the number of pictures of a video.

        Raises:
            DataError: If the video is not here, or its file was cut short.
        """
        path = self._path(video_id)
        if not path.is_file():
            raise DataError(f"'{video_id}' has no frames here", self.folder)
        number, rest = divmod(path.stat().st_size, self._bytes)
        if rest or not number:
            raise DataError("the frames were cut short: remove the file, make it again", path)
        return number

    def checksum(self, video_id: str) -> int:
        """Return the checksum of a video's middle picture: all of them would take long."""
        middle = self.num_features(video_id) // 2
        return zlib.crc32(np.ascontiguousarray(self._read(video_id, middle, middle + 1)).data)

    def read_windows(self, windows: Sequence[tuple[str, int, int]]) -> list[Frames]:
        """Read pictures [start, stop) of a video for each (video_id, start, stop).

        Returns:
            (stop - start, height, width, 3) uint8 each.
        """
        return [self._read(*window) for window in windows]

    def _read(self, video_id: str, start: int, stop: int) -> Frames:
        stop = min(stop, self.num_features(video_id))
        numbers = np.fromfile(
            self._path(video_id),
            dtype=np.uint8,
            count=max(0, stop - start) * self._bytes,
            offset=start * self._bytes,
        )
        return numbers.reshape(-1, *self._shape)

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.frames.height, self.frames.width, 3

    @property
    def _bytes(self) -> int:
        return self.frames.height * self.frames.width * 3

    def _path(self, video_id: str) -> Path:
        return self.folder / f"{quote(video_id, safe='')}{SUFFIX}"
