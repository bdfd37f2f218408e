"""Read tensors from a `torch.save` file without running code in it.

Both layouts are read: the zip archive, and the stream that PyTorch wrote before 1.6. Only requested
tensors are loaded, so an optimiser's state costs nothing.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import torch
from torch import Tensor

from videoclip.errors import CheckpointError
from videoclip.weights.inert_pickle import InertUnpickler, RefusedError, StoredTensor
from videoclip.weights.plain_pickle import UNPICKLING_ERRORS

STREAM_MAGIC = 0x1950A86A20F9469CFC6C
"""First object of the layout from before PyTorch 1.6."""


class TorchFile:
    """A `torch.save` file, opened for reading; a context manager.

    Attributes:
        path: The file.
        content: The saved object: dicts, lists, numbers and strings; tensors as `StoredTensor`,
            everything else as `Placeholder`.

    Raises:
        CheckpointError: If it is missing, damaged or not such a file, or tries to run code.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._archive: zipfile.ZipFile | None = None
        self._ranges: dict[str, tuple[int, int]] = {}
        try:
            self._file: BinaryIO = self.path.open("rb")
            self._length = self.path.stat().st_size
        except OSError as error:
            raise CheckpointError(f"cannot read {self.path}: {error.strerror}") from None
        try:
            self.content = (
                self._open_zip() if zipfile.is_zipfile(self._file) else self._open_stream()
            )
        except RefusedError as refused:
            self.close()
            raise CheckpointError(
                f"{self.path} tries to run code (it names {refused}); nothing was run or loaded: "
                "download the checkpoint from a source you trust"
            ) from None
        except (*UNPICKLING_ERRORS, zipfile.BadZipFile, OSError) as error:
            self.close()
            self._damaged(error)

    def __enter__(self) -> TorchFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; tensors can no longer be loaded."""
        self._file.close()

    def state_dict(self) -> Mapping[str, StoredTensor]:
        """Return the weights: the entry "model" (fairseq) or "state_dict", or the whole content.

        Raises:
            CheckpointError: If there are none, or one of them is not a plain tensor.
        """
        content = self.content
        for name in ("model", "state_dict"):
            if isinstance(content, dict) and isinstance(content.get(name), dict):
                content = content[name]
                break
        if not isinstance(content, dict) or not content:
            raise CheckpointError(f"{self.path} holds no weights: name the file of a checkpoint")
        for name, tensor in content.items():
            if not isinstance(name, str) or not isinstance(tensor, StoredTensor):
                raise CheckpointError(
                    f"{self.path} holds more than weights ('{name}'): save the model's "
                    "state_dict() alone"
                )
        return content

    def load(self, tensor: StoredTensor) -> Tensor:
        """Read one tensor, in the data type it was stored in.

        Raises:
            CheckpointError: If its numbers are missing or damaged.
        """
        storage = tensor.storage
        size = storage.dtype.itemsize
        try:
            numbers = self._numbers(storage.key, storage.first * size, storage.numel * size)
        except (LookupError, ValueError, zipfile.BadZipFile, OSError, EOFError) as error:
            self._damaged(error)
        if not numbers:
            return torch.empty(tensor.shape, dtype=storage.dtype)
        flat = torch.frombuffer(numbers, dtype=storage.dtype)
        return flat.as_strided(tensor.shape, tensor.stride, tensor.offset).contiguous()

    def _open_zip(self) -> Any:
        self._archive = zipfile.ZipFile(self._file)
        (pickled,) = (n for n in self._archive.namelist() if n.split("/")[1:] == ["data.pkl"])
        self._folder = pickled.removesuffix("data.pkl")
        if f"{self._folder}byteorder" in self._archive.namelist():
            self._check_byte_order(self._archive.read(f"{self._folder}byteorder") == b"little")
        with self._archive.open(pickled) as file:
            return InertUnpickler(file).load()

    def _open_stream(self) -> Any:
        self._file.seek(0)
        if InertUnpickler(self._file).load() != STREAM_MAGIC:
            raise ValueError("not written by torch.save")
        _version, system = (InertUnpickler(self._file).load() for _ in range(2))
        self._check_byte_order(system["little_endian"])
        unpickler = InertUnpickler(self._file)
        content = unpickler.load()
        # Then the storages: the number of elements and the elements, whose type the content tells.
        for key in InertUnpickler(self._file).load():
            (numel,) = struct.unpack("<q", self._file.read(8))
            size = numel * unpickler.dtypes[key].itemsize
            self._ranges[key] = (self._file.tell(), size)
            if size < 0 or self._file.seek(size, os.SEEK_CUR) > self._length:
                raise EOFError("it ends too early")
        return content

    def _numbers(self, key: str, start: int, size: int) -> bytearray:
        """Return `size` bytes of a storage, from its byte `start`."""
        if self._archive is not None:
            entry = self._archive.getinfo(f"{self._folder}data/{key}")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size < start + size:
                raise ValueError(f"{entry.filename} does not hold {size} bytes")
            # Read as a whole, because the archive checks its checksum at the end.
            return bytearray(memoryview(self._archive.read(entry))[start : start + size])
        offset, available = self._ranges[key]
        if available < start + size:
            raise ValueError(f"storage {key} does not hold {size} bytes")
        self._file.seek(offset + start)
        return bytearray(self._file.read(size))

    def _check_byte_order(self, is_little: bool) -> None:
        if not is_little:
            raise ValueError("big-endian numbers")

    def _damaged(self, error: BaseException) -> NoReturn:
        raise CheckpointError(
            f"{self.path} is damaged or not a PyTorch checkpoint ({_one_line(error)}): download it "
            "again"
        ) from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
