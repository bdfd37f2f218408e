"""A feature store in object storage, to train and evaluate from; see `FeatureStore.open`.

The index is read when the store is opened. A video is read whole, by one request, wherever windows
of it are wanted: 16 clips of a video are most of it, and its checksum can be compared each time.
The requests for all videos of a batch run at the same time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from videoclip.data.feature_store import FeatureStore
from videoclip.data.sources import address_of, list_files, read_range, read_ranges, status_of
from videoclip.errors import DataError


class RemoteFeatureStore(FeatureStore):
    """The features of many videos in object storage: read as those of a `FeatureStore`."""

    def _open_features(self) -> None:
        self._path = self.folder / "features.bin"

    @classmethod
    def _exists(cls, folder: Path) -> bool:
        return any(file.name == "store.json" for file in list_files(folder))

    def read(
        self, video_id: str, start: int = 0, stop: int | None = None
    ) -> npt.NDArray[np.float16]:
        """Read rows [start, stop) of a video, (stop - start, D) float16.

        Raises:
            DataError: If the video is not in the store, cannot be read or is damaged.
        """
        return self._read_whole([video_id])[0][start:stop]

    def read_windows(
        self, windows: Sequence[tuple[str, int, int]]
    ) -> list[npt.NDArray[np.float16]]:
        """Read many (video_id, start, stop) windows, each within its video, by one request a video.

        Returns:
            An array (stop - start, D) float16 for each window, in order.

        Raises:
            DataError: If a video is not in the store, cannot be read or is damaged, or a window
                reaches beyond its end.
        """
        for video_id, start, stop in windows:
            self._check_window(video_id, start, stop)
        names = list(dict.fromkeys(video_id for video_id, _, _ in windows))
        videos = dict(zip(names, self._read_whole(names), strict=True))
        return [videos[video_id][start:stop] for video_id, start, stop in windows]

    def verify(self) -> None:
        """Do nothing: each video is compared with its checksum whenever it is read."""

    def append(self, video_id: str, features: npt.ArrayLike) -> NoReturn:
        """Refuse: a store in object storage can only be read."""
        raise DataError(
            "features in object storage can only be read: extract into a folder and upload it",
            self.folder,
        )

    def close(self) -> None:
        """Do nothing: no file is held open."""

    def _read_whole(self, video_ids: Sequence[str]) -> list[npt.NDArray[np.float16]]:
        """Read videos, and compare their checksums."""
        if not video_ids:
            return []
        places = [self._find(video_id) for video_id in video_ids]
        row = self._row_bytes
        ranges = [(first * row, (first + length) * row) for first, length, _ in places]
        arrays = []
        for video_id, content in zip(video_ids, read_ranges(self._path, ranges), strict=True):
            self._check_sum(video_id, content)
            rows = np.frombuffer(content, dtype=np.float16).reshape(-1, self.spec.dim)
            arrays.append(rows.copy())  # torch wants arrays that can be written to
        return arrays

    def _features_bytes(self) -> int:
        return status_of(self._path).st_size

    def _read_from(self, path: Path, offset: int) -> bytes:
        return read_range(path, offset)

    def __repr__(self) -> str:
        return super().__repr__().replace(str(self.folder), address_of(self.folder))
