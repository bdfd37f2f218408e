"""Approval tests: the complete result of a real path, compared with a file in tests/approved.

`pytest --approve` writes the files. Read the difference before committing it: an approved wrong
value is worse than none.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parent / "approved"
WIDTH = 100
MAX_DIFFERENCES = 10
approve = False
"""Whether files are written instead of compared: `pytest --approve`."""


def check(name: str, value: object, **places: object) -> None:
    """Compare with tests/approved/NAME.txt (a text) or NAME.json (anything else, made `plain`).

    Numbers may differ by 1e-4 relative or 1e-5, since machines differ; all else must be equal.

    Args:
        name: of the file, without its suffix.
        value: a text, or what `plain` takes.
        places: texts that differ between runs, and the word for each: `TMP=tmp_path`.
    """
    new = plain(value)
    for word, place in places.items():
        new = replaced(new, str(place), word)
    path = FOLDER / (f"{name}.txt" if isinstance(new, str) else f"{name}.json")
    text = new if isinstance(new, str) else "\n".join(lines(new)) + "\n"
    if approve:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
        return
    if not path.is_file():
        pytest.fail(f"{path.name} is not in tests/approved: run pytest --approve, and read it")
    stored = path.read_bytes().decode()
    if isinstance(new, str):
        found = list(differences(stored.splitlines(keepends=True), new.splitlines(keepends=True)))
    else:
        found = list(differences(json.loads(stored), json.loads(text)))
    if found:
        rest = len(found) - MAX_DIFFERENCES
        more = [f"and {rest} more"] if rest > 0 else []
        pytest.fail("\n".join([f"{path.name} differs:", *found[:MAX_DIFFERENCES], *more]))


def outcome(call: Callable[[], object]) -> object:
    """What a call returns; of an error its type and message."""
    try:
        return call()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - any is a result
        return f"{type(error).__name__}: {error}"


def plain(value: object) -> object:
    """JSON data: fields of dataclasses by name, arrays with dtype and shape, floats rounded."""
    match value:
        case None | bool() | int() | str():
            return value.value if isinstance(value, Enum) else value
        case np.bool_() | np.integer():
            return value.item()
        case float() | np.floating():
            return rounded(float(value))
        case bytes() | np.dtype():
            return repr(value)
        case np.ndarray():
            shape = "x".join(map(str, value.shape))
            return {f"{value.dtype} {shape}": plain(value.tolist())}
        case torch.Tensor():
            plain_dtype = str(value.dtype).removeprefix("torch.")
            shape = "x".join(map(str, value.shape))
            return {f"torch.{plain_dtype} {shape}": plain(value.tolist())}
        case Mapping():
            return {str(plain(key)): plain(member) for key, member in value.items()}
        case AbstractSet():
            return sorted(map(plain, value), key=str)
        case Path():
            return value.as_posix()
        case Exception():
            return f"{type(value).__name__}: {value}"
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            members = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            return {type(value).__name__: plain(members)}
        case tuple() if hasattr(value, "_asdict"):
            return {type(value).__name__: plain(value._asdict())}
        case list() | tuple():
            return [plain(member) for member in value]
        case type():
            return value.__name__
    raise TypeError(f"no plain form of {type(value)}: {value!r}")


def summary(array: object) -> list[object]:
    """Type, shape and two sums of many numbers, which nearly any change of one or two changes.

    Divided by the root of their number, so that rounding errors do not add up.
    """
    numbers = array.detach().float().numpy() if isinstance(array, torch.Tensor) else array
    numbers = np.asarray(numbers)
    kind = str(array.dtype) if isinstance(array, torch.Tensor) else str(numbers.dtype)
    flat = numbers.astype(np.float64).ravel()
    root = math.sqrt(max(1, flat.size))
    shape = "x".join(map(str, numbers.shape))
    return [f"{kind} {shape}", flat.sum() / root, flat @ np.cos(np.arange(flat.size)) / root]


def rounded(number: float) -> float:
    """To six significant digits; without the sign of zero."""
    return float(f"{number:.6g}") + 0.0 if math.isfinite(number) else number


def replaced(value: object, old: str, new: str) -> object:
    """Plain data with a text replaced in all its texts."""
    match value:
        case str():
            return value.replace(old, new)
        case dict():
            return {
                key.replace(old, new): replaced(member, old, new) for key, member in value.items()
            }
        case list():
            return [replaced(member, old, new) for member in value]
    return value


def lines(value: object, indent: str = "", before: str = "", after: str = "") -> Iterator[str]:
    """JSON in as few lines as fit the width, so that a difference shows few of them."""
    text = json.dumps(value, ensure_ascii=False)
    if not value or not isinstance(value, dict | list) or len(indent + before + text) < WIDTH:
        yield indent + before + text + after
        return
    is_object = isinstance(value, dict)
    yield indent + before + ("{" if is_object else "[")
    if is_object:
        members = [(f"{json.dumps(key, ensure_ascii=False)}: ", v) for key, v in value.items()]
    else:
        members = [("", member) for member in value]
    row = indent
    for number, (key, member) in enumerate(members):
        comma = "," if number < len(members) - 1 else ""
        if isinstance(member, int | float):  # as many numbers on a line as fit
            entry = f" {key}{json.dumps(member)}{comma}"
            if len(row) + len(entry) > WIDTH:
                yield row
                row = indent
            row += entry
            continue
        if row != indent:
            yield row
            row = indent
        yield from lines(member, indent + " ", key, comma)
    if row != indent:
        yield row
    yield indent + ("}" if is_object else "]") + after


def differences(old: object, new: object, path: str = "") -> Iterator[str]:
    """What differs, with the path to it: `.answers[2].start: 3.0 was approved, 4.0 came`."""
    if isinstance(old, dict) and isinstance(new, dict):
        if list(old) != list(new):
            yield f"{path or '.'}: keys {list(old)} were approved, {list(new)} came"
        for key in [key for key in old if key in new]:
            yield from differences(old[key], new[key], f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{path or '.'}: {len(old)} entries were approved, {len(new)} came"
        for number, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from differences(one, other, f"{path}[{number}]")
    elif not equal(old, new):
        yield f"{path or '.'}: {old!r} was approved, {new!r} came"


def equal(old: object, new: object) -> bool:
    """Floats to a tolerance, all else exactly and of the same type."""
    if isinstance(old, float) and isinstance(new, float) and math.isfinite(old):
        return math.isclose(old, new, rel_tol=1e-4, abs_tol=1e-5)
    return type(old) is type(new) and (old == new or (old != old and new != new))
