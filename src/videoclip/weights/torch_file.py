"""Read tensors from a `torch.save` file, and plain data from a pickle, without running code in it.

Both layouts of tensors are read: the zip archive, and the stream that PyTorch wrote before 1.6.
Only requested tensors are loaded, so an optimiser's state costs nothing.

A pickle is a program. This reader runs only the few calls that describe tensors; every other class
in a checkpoint (fairseq, omegaconf, numpy) becomes a `Placeholder`. Two safeguards, each
sufficient: no name in the file is ever imported, and a file with a name of the standard library
that no checkpoint needs (`os.system`, `eval`) is refused. A pickle of plain data, such as
annotations, may name nothing but what builds arrays.
"""

import io
import os
import pickle
import struct
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # Python 2's names, which old files use
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, NoReturn

import torch
from torch import Tensor

from videoclip.errors import CheckpointError, DataError, one_line

STREAM_MAGIC = 0x1950A86A20F9469CFC6C
"""First object of the layout from before PyTorch 1.6."""

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

HARMLESS = {
    "_codecs": ["encode"],
    "argparse": ["Namespace"],
    "builtins": [
        *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "getattr", "int"),
        *("list", "object", "range", "set", "slice", "str", "tuple"),
    ],
    "collections": ["Counter", "defaultdict", "deque"],
    "copyreg": ["_reconstructor"],
    "datetime": ["date", "datetime", "time", "timedelta", "timezone"],
    "fractions": ["Fraction"],
    "pathlib": ["Path", "PosixPath", "PurePosixPath", "WindowsPath"],
    "types": ["SimpleNamespace"],
    "typing": ["Any", "Dict", "List", "Optional", "Tuple", "Union"],
    "uuid": ["UUID"],
}
"""Names of the standard library that checkpoints contain; even these are never imported."""

SAFE_GLOBALS = {
    "_codecs": ["encode"],
    "numpy": ["dtype", "ndarray"],
    "numpy._core.multiarray": ["_reconstruct", "scalar"],
    "numpy.core.multiarray": ["_reconstruct", "scalar"],
}
"""Names that a pickle of plain data and arrays needs; all others are refused."""
UNPICKLING_ERRORS = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""Exceptions that an unpickler raises on damaged bytes."""


def _ignore(self: object, item: object, value: object = None) -> None: ...


class Placeholder:
    """Stands for an object whose class is not loaded; ignores all that a pickle does to it."""

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    __setstate__ = __setitem__ = append = extend = add = _ignore


class _Dict(dict[Any, Any]):
    """An `OrderedDict` of the file, without its attributes (`_metadata` of a state dict)."""

    __slots__ = ()
    __setstate__ = _ignore


# Named tuples, because a pickle cannot alter them after they were checked.


class Storage(NamedTuple):
    """A stretch of numbers in the file; `first` is where a view of a larger one begins."""

    key: str
    dtype: torch.dtype
    numel: int
    first: int = 0


class StoredTensor(NamedTuple):
    """A tensor in the file that `TorchFile.load` can read.

    Attributes:
        storage: The numbers it is a view of.
        offset: Its first number there.
        shape: Its shape.
        stride: Numbers between neighbours along each axis.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Call(NamedTuple):
    """A function in the file that is run by this reader."""

    function: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


def _rebuild_tensor(
    storage: Any, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_unused: object
) -> StoredTensor:
    sizes = (offset, *shape, *stride)
    if not isinstance(storage, Storage) or not all(isinstance(n, int) and n >= 0 for n in sizes):
        raise ValueError("a tensor is not described by numbers")
    numel = torch.Size(shape).numel()
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if numel > storage.numel or (numel and last >= storage.numel):
        raise ValueError("a tensor reaches beyond its numbers")
    return StoredTensor(storage, offset, tuple(shape), tuple(stride))


_PARAMETER = _Call(lambda data, *_unused: data)
CALLS = {
    ("torch._utils", "_rebuild_tensor"): _Call(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Call(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _PARAMETER,
    ("torch._utils", "_rebuild_parameter_with_state"): _PARAMETER,
    ("collections", "OrderedDict"): _Call(_Dict),
}


class RefusedError(Exception):
    """The file names a function that no checkpoint needs."""


class InertUnpickler(pickle.Unpickler):
    """Builds dicts, lists, numbers, strings and `StoredTensor`s; imports nothing.

    Attributes:
        dtypes: Data type of every storage that the pickle refers to.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8")
        self.dtypes: dict[str, torch.dtype] = {}
        # A new class for every load, so that a pickle which alters it alters nothing else.
        self._placeholder = type("Placeholder", (Placeholder,), {})

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name in the file.

        Raises:
            RefusedError: If no checkpoint needs the name.
        """
        if (module, name) in CALLS:
            return CALLS[module, name]
        if module in ("torch", "torch.storage") and name in DTYPES:
            return DTYPES[name]
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        is_standard = module.partition(".")[0] in sys.stdlib_module_names
        if is_standard and name not in HARMLESS.get(module, []):
            raise RefusedError(f"{module}.{name}")
        return self._placeholder

    def persistent_load(self, pid: Any) -> Any:
        """Return the stand-in for numbers stored outside the pickle."""
        kind, dtype, key, _location, numel, *view = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            return self._placeholder()
        first = 0
        if view and view[0] is not None:
            _, first, numel = view[0]
        if not (isinstance(numel, int) and isinstance(first, int) and min(numel, first) >= 0):
            raise ValueError("a storage without a size")
        self.dtypes[str(key)] = dtype
        return Storage(str(key), dtype, numel, first)


class TorchFile(ExitStack):
    """A `torch.save` file, opened for reading; a context manager.

    Attributes:
        path: The file.
        content: The saved object: dicts, lists, numbers and strings; tensors as `StoredTensor`,
            everything else as `Placeholder`.

    Raises:
        CheckpointError: If it is missing, damaged or not such a file, or tries to run code.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__()
        self.path = Path(path)
        self._archive: zipfile.ZipFile | None = None
        self._ranges: dict[str, tuple[int, int]] = {}
        try:
            self._file: BinaryIO = self.enter_context(self.path.open("rb"))
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
        # Then each storage: its number of elements, and these in the type given by the content.
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
            f"{self.path} is damaged or not a PyTorch checkpoint ({one_line(error)}): download it "
            "again"
        ) from None


def read_plain_pickle(path: Path | str) -> Any:
    """Read a pickle of lists, dicts, numbers, texts and arrays, such as annotations.

    Raises:
        DataError: If the file is missing, damaged, or holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("no such file: check the path", path)
    try:
        return _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except UNPICKLING_ERRORS as error:
        raise DataError(f"not a pickle of plain data ({error}): do not trust it", path) from error


class _PlainUnpickler(pickle.Unpickler):
    """Builds plain data and arrays; refuses every other name, so that no code can run."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in SAFE_GLOBALS.get(module, []):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)
