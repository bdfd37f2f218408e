"""Frames of videos on disk, at a fixed rate: what an image backbone is trained on.

Where the backbone stays frozen, its features are stored instead (`FeatureStore`): they are a
hundred times smaller. A `NarratedCorpus` takes either, since both have the same methods.

    frames.json        the size of the frames, their rate, and how they were resized
    VIDEO-ID.rgb       the frames of a video one after another, three bytes a pixel, then the crc32
                       of them all (not in older stores)
"""

import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt

from videoclip.config import from_dict
from videoclip.data.feature_store import FeatureSpec
from videoclip.errors import ConfigError, DataError, IndexMismatchError
from videoclip.files import atomic_file, parse_state, read_regular, write_state

SPEC_FILE = "frames.json"
SUFFIX = ".rgb"
CHECKSUM = struct.Struct("<I")
REMEDY = "delete it and extract the frames again"

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FrameSpec:
    """What the frames of a store are.

    Attributes:
        height: Of a frame, in pixels.
        width: Of a frame, in pixels.
        frames_per_second: Rate; frame i stands for seconds [i / rate, (i + 1) / rate).
        resize: Description of the resizing; stores resized differently do not mix.
    """

    height: int
    width: int
    frames_per_second: float
    resize: str


class FrameStore:
    """The frames of videos in a folder, read like features; safe to share among processes.

    Make one with `open` or `open_or_create`.

    Attributes:
        folder: Folder of the store.
        frames: What its frames are.
        spec: The same of the frames as features of `dim` bytes each.
    """

    def __init__(self, folder: Path, frames: FrameSpec) -> None:
        self.folder, self.frames = folder, frames
        self._shape = frames.height, frames.width, 3
        self._verified: set[str] = set()  # videos whose checksum was compared
        self.spec = FeatureSpec(
            dim=math.prod(self._shape),
            features_per_second=frames.frames_per_second,
            backbone="frames",
            normalized=False,
            fingerprint=f"{frames.height}x{frames.width} {frames.resize}",
        )

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open a store.

        Raises:
            DataError: If there is none, or it is damaged.
        """
        path = Path(folder) / SPEC_FILE
        try:
            return cls(path.parent, from_dict(FrameSpec, parse_state(read_regular(path))))
        except FileNotFoundError:
            raise DataError("no frames here; name another folder", folder) from None
        except (OSError, ValueError, TypeError, AttributeError, ConfigError) as error:
            raise DataError(f"this does not describe frames ({error})", path) from error

    @classmethod
    def open_or_create(cls, folder: Path | str, frames: FrameSpec) -> Self:
        """Open the store in a folder, or make it there.

        Raises:
            IndexMismatchError: If it holds frames of another size, rate or resizing.
        """
        path = Path(folder) / SPEC_FILE
        if not path.exists():
            write_state(path, asdict(frames))
        store = cls.open(folder)
        if store.frames != frames:
            raise IndexMismatchError(
                f"{folder} holds other frames ({store.frames}, not {frames}); name a new folder"
            )
        return store

    @property
    def video_ids(self) -> list[str]:
        """Ids of all videos, sorted."""
        names = (path.name for path in self.folder.glob(f"*{SUFFIX}"))
        # A killed process may have left a temporary file of `atomic_file`.
        whole = (n for n in names if not (n.startswith(".") and ".partial-" in n))
        return sorted(unquote(name.removesuffix(SUFFIX)) for name in whole)

    def __contains__(self, video_id: object) -> bool:
        return isinstance(video_id, str) and self._path(video_id).is_file()

    def append(self, video_id: str, frames: Iterable[Frames]) -> int:
        """Add the frames of a video as they arrive, all or none; return their number.

        Args:
            video_id: Id of the video.
            frames: (height, width, 3) uint8 each, at least one.

        Raises:
            DataError: If there are no frames, or one has another shape.
        """
        number = checksum = 0
        with atomic_file(self._path(video_id)) as partial, partial.open("wb") as file:
            for frame in frames:
                if frame.shape != self._shape or frame.dtype != np.uint8:
                    raise DataError(
                        f"'{video_id}' has a frame {frame.shape} of {frame.dtype}, not "
                        f"{self._shape} of uint8; resize it first",
                        self.folder,
                    )
                content = frame.tobytes()
                file.write(content)
                checksum = zlib.crc32(content, checksum)
                number += 1
            if not number:
                raise DataError(f"'{video_id}' has no frames; leave it out", self.folder)
            file.write(CHECKSUM.pack(checksum))
        return number

    def num_features(self, video_id: str) -> int:
        """Return the number of frames of a video.

        Raises:
            DataError: If the video is not in the store, or its file is truncated.
        """
        path = self._path(video_id)
        if not path.is_file():
            raise DataError(f"no frames of '{video_id}' in this store", self.folder)
        number, rest = divmod(path.stat().st_size, self.spec.dim)
        if rest not in (0, CHECKSUM.size) or not number:
            raise DataError(f"the file is truncated; {REMEDY}", path)
        return number

    def checksum(self, video_id: str) -> int:
        """Return the stored checksum of a video's frames, in an older store of the middle one."""
        if (stored := self._stored_checksum(video_id)) is not None:
            return stored
        middle = self.num_features(video_id) // 2
        return zlib.crc32(np.ascontiguousarray(self._read(video_id, middle, middle + 1)).data)

    def read_windows(self, windows: Sequence[tuple[str, int, int]]) -> list[Frames]:
        """Read frames [start, stop) of a video for each (video_id, start, stop).

        Returns:
            (stop - start, height, width, 3) uint8 each.
        """
        return [self._read(*window) for window in windows]

    def verify(self) -> None:
        """Read everything; `DataError` at the first video whose checksum is wrong."""
        for video_id in self.video_ids:
            self._verify(video_id)

    def trust(self) -> None:
        """Compare no checksums of the videos that are there, as another process does so."""
        self._verified.update(self.video_ids)

    def _verify(self, video_id: str) -> None:
        stored, path, checksum = self._stored_checksum(video_id), self._path(video_id), 0
        if stored is not None:
            with path.open("rb") as file:
                for _ in range(self.num_features(video_id)):
                    checksum = zlib.crc32(file.read(self.spec.dim), checksum)
            if checksum != stored:
                raise DataError(f"the frames are damaged; {REMEDY}", path)
        self._verified.add(video_id)

    def _stored_checksum(self, video_id: str) -> int | None:
        end = self.num_features(video_id) * self.spec.dim
        with self._path(video_id).open("rb") as file:
            file.seek(end)
            found = file.read()
        return int(CHECKSUM.unpack(found)[0]) if found else None

    def _read(self, video_id: str, start: int, stop: int) -> Frames:
        if video_id not in self._verified:
            self._verify(video_id)
        stop = min(stop, self.num_features(video_id))
        numbers = np.fromfile(
            self._path(video_id),
            dtype=np.uint8,
            count=max(0, stop - start) * self.spec.dim,
            offset=start * self.spec.dim,
        )
        return numbers.reshape(-1, *self._shape)

    def _path(self, video_id: str) -> Path:
        return self.folder / f"{quote(video_id, safe='')}{SUFFIX}"
