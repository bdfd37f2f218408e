"""A pickle that cannot do anything: it describes tensors, and the rest of it is inert.

A pickle is a program. The reader here carries out the few calls that describe tensors; every other
class a checkpoint drags along (fairseq, omegaconf, numpy) becomes a `Placeholder`. Two walls, each
enough: no name in the file is ever imported, and a name of the standard library that no checkpoint
needs (`os.system`, `eval`) refuses the whole file.
"""

from __future__ import annotations

import pickle
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # Python 2's names, which old files use
from collections.abc import Callable
from typing import IO, Any, NamedTuple

import torch

__all__ = ["InertUnpickler", "Placeholder", "RefusedError", "StoredTensor"]

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
"""Names of the standard library that checkpoints do contain; even these are never imported."""


class Placeholder:
    """Stands for an object of a class that is not loaded; swallows whatever is done to it."""

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


# What the file may hold is made of named tuples: a pickle cannot alter them once they are checked.


class Storage(NamedTuple):
    """A run of numbers in the file; `first` is where a view of a larger one begins."""

    key: str
    dtype: torch.dtype
    numel: int
    first: int = 0


class StoredTensor(NamedTuple):
    """A tensor that lies in the file, not yet read; `TorchFile.load` reads it.

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
    """A function of the file that is carried out here."""

    function: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


def _rebuild_tensor(
    storage: Any, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_unused: object
) -> StoredTensor:
    sizes = (offset, *shape, *stride)
    if not isinstance(storage, Storage) or not all(isinstance(n, int) and n >= 0 for n in sizes):
        raise ValueError("a tensor is described by something else than numbers")
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
    """The file names something that only a program wants."""


class InertUnpickler(pickle.Unpickler):
    """Builds dicts, lists, numbers, words and `StoredTensor`s; nothing is imported.

    Attributes:
        dtypes: Type of every storage the pickle refers to.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8")
        self.dtypes: dict[str, torch.dtype] = {}
        # A class of its own for every load, so that a pickle that alters it alters nothing else.
        self._placeholder = type("Placeholder", (Placeholder,), {})

    def find_class(self, module: str, name: str) -> Any:
        """Give what stands for a name in the file.

        Raises:
            RefusedError: If no checkpoint needs that name.
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
        """Give what stands for numbers that lie outside the pickle."""
        kind, storage_type, key, _location, numel, *view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            return self._placeholder()
        first = 0
        if view and view[0] is not None:
            _, first, numel = view[0]
        if not (isinstance(numel, int) and isinstance(first, int) and min(numel, first) >= 0):
            raise ValueError("a storage of no size")
        self.dtypes[str(key)] = storage_type.dtype
        return Storage(str(key), storage_type.dtype, numel, first)
