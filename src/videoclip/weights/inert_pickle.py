"""An unpickler that runs no code: it reads descriptions of tensors and ignores everything else.

A pickle is a program. This reader runs only the few calls that describe tensors; every other class
in a checkpoint (fairseq, omegaconf, numpy) becomes a `Placeholder`. Two safeguards, each
sufficient: no name in the file is ever imported, and a file with a name of the standard library
that no checkpoint needs (`os.system`, `eval`) is refused.
"""

from __future__ import annotations

import pickle
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # Python 2's names, which old files use
from collections.abc import Callable
from typing import IO, Any, NamedTuple

import torch

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


class Placeholder:
    """Stands for an object whose class is not loaded; ignores all operations."""

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, item: object) -> None:
        """Ignore an item of a list."""

    def extend(self, items: object) -> None:
        """Ignore items of a list."""

    def add(self, item: object) -> None:
        """Ignore an item of a set."""


class _Dict(dict[Any, Any]):
    """An `OrderedDict` of the file, without its attributes (`_metadata` of a state dict)."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None: ...


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


class _StorageType(NamedTuple):
    """A storage class of the file, `torch.FloatStorage` for one."""

    dtype: torch.dtype


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


def _rebuild_parameter(data: Any, *_unused: object) -> Any:
    return data


CALLS = {
    ("torch._utils", "_rebuild_tensor"): _Call(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Call(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Call(_rebuild_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): _Call(_rebuild_parameter),
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
            return _StorageType(DTYPES[name])
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        is_standard = module.partition(".")[0] in sys.stdlib_module_names
        if is_standard and name not in HARMLESS.get(module, []):
            raise RefusedError(f"{module}.{name}")
        return self._placeholder

    def persistent_load(self, pid: Any) -> Any:
        """Return the stand-in for numbers stored outside the pickle."""
        kind, storage_type, key, _location, numel, *view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            return self._placeholder()
        first = 0
        if view and view[0] is not None:
            _, first, numel = view[0]
        if not (isinstance(numel, int) and isinstance(first, int) and min(numel, first) >= 0):
            raise ValueError("a storage without a size")
        self.dtypes[str(key)] = storage_type.dtype
        return Storage(str(key), storage_type.dtype, numel, first)
