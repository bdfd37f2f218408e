"""Read pickles of plain data, such as annotations, without running code."""

import io
import pickle
import struct
from pathlib import Path
from typing import Any

from videoclip.errors import DataError

SAFE_GLOBALS = frozenset(
    (module, name)
    for module, names in {
        "numpy": ("ndarray", "dtype"),
        "numpy.core.multiarray": ("_reconstruct", "scalar"),
        "numpy._core.multiarray": ("_reconstruct", "scalar"),
        "_codecs": ("encode",),
    }.items()
    for name in names
)
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


def read_plain_pickle(path: Path | str) -> Any:
    """Read a pickle of lists, dicts, numbers, texts and arrays.

    `TorchFile` reads weights.

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
        if (module, name) not in SAFE_GLOBALS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)
