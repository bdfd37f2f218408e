"""A run folder: what a training run leaves on disk, complete whenever the process dies.

    config.json                     the settings; another set is refused
    facts.json                      what else must not change: data, processes, precision
    log.jsonl                       one line an update, and one for each validation or evaluation
    plans/epoch-001.json            the batch plan of each epoch
    checkpoints/update-000123/      a model folder, the trainer's state, and the marker COMPLETE
    model/                          the result, a model folder

Every file is written aside, made durable and renamed; the marker of a checkpoint comes last.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from safetensors import SafetensorError

from videoclip.errors import CheckpointError, ConfigError

__all__ = ["Checkpoint", "RunFolder", "differences", "read_log", "write_folder", "write_json"]

COMPLETE = "COMPLETE"
FREE_SETTINGS = frozenset({"keep_checkpoints", "num_workers", "save_every_updates", "plan.teacher"})
"""Settings that change how fast or how safely a run goes, never where it arrives. Where the
teacher lies is one: which teacher it is stands among the facts."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        folder: Where it lies.
        update: Updates done when it was saved.
        validation_loss: The validation loss at that moment, if it was computed.
    """

    folder: Path
    update: int
    validation_loss: float | None


class RunFolder:
    """The folder of one run, held by one process at a time; a context manager.

    Args:
        path: The folder; created if it is not there.
        config: The settings as plain dicts.
        facts: What else must stay the same, as plain dicts.
        keep: Checkpoints kept besides the best.

    Raises:
        ConfigError: If the run was started with other settings or facts, naming each, or is being
            continued by another process right now.
    """

    def __init__(
        self, path: Path, config: Mapping[str, Any], facts: Mapping[str, Any], keep: int = 2
    ) -> None:
        self.path, self._keep = path, keep
        self._checkpoints = path / "checkpoints"
        self.plans = path / "plans"
        for folder in (self._checkpoints, self.plans):
            folder.mkdir(parents=True, exist_ok=True)
        self._log: TextIO | None = None
        self._lock = self._acquire()
        try:
            if self._has_begun():
                self._refuse_changes("config.json", config)
                self._refuse_changes("facts.json", facts)
                self._prune()  # where a process was killed before it could
            else:
                self._clear()
            for left_over in self.plans.glob(".*"):  # by a process that was killed while it wrote
                left_over.unlink()
            write_json(path / "config.json", config)
            self.remember(**facts)
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._log is not None:
            self._log.close()
        self._lock.close()

    @property
    def facts(self) -> dict[str, Any]:
        """What is remembered about the run besides its settings."""
        return _read_json(self.path / "facts.json")

    def remember(self, **facts: Any) -> None:
        """Add facts a continued run must agree with."""
        write_json(self.path / "facts.json", {**self.facts, **facts})

    def plan_path(self, epoch: int) -> Path:
        """Where the batch plan of an epoch, from 1, is kept."""
        return self.plans / f"epoch-{epoch:03d}.json"

    def log(self, entry: Mapping[str, Any]) -> None:
        """Append one line to log.jsonl; `entry` has the key `update`."""
        if self._log is None:
            self._log = (self.path / "log.jsonl").open("a", encoding="utf-8")
        self._log.write(json.dumps(entry) + "\n")
        self._log.flush()

    def rewind_log(self, update: int) -> None:
        """Forget what was logged after `update`: it is about to be done again."""
        kept = [entry for entry in read_log(self.path) if entry["update"] <= update]
        _write(self.path / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in kept))

    def checkpoints(self) -> list[Checkpoint]:
        """Return the complete checkpoints, oldest first."""
        found = []
        for marker in self._checkpoints.glob(f"update-*/{COMPLETE}"):
            advice = f"remove {marker.parent}, and the run continues from the one before"
            content = _read_json(marker, advice)
            if content:
                found.append(Checkpoint(marker.parent, **content))
        return sorted(found, key=lambda checkpoint: checkpoint.update)

    def newest(self) -> Checkpoint | None:
        """Return the complete checkpoint to continue from."""
        return max(self.checkpoints(), key=lambda c: c.update, default=None)

    def best(self) -> Checkpoint | None:
        """Return the complete checkpoint with the lowest validation loss, the first of equals."""
        return _best(self.checkpoints())

    def is_best(self, validation_loss: float | None) -> bool:
        """Return whether a checkpoint with this validation loss would be the best."""
        best = self.best()
        if validation_loss is None or best is None or best.validation_loss is None:
            return validation_loss is not None
        return validation_loss < best.validation_loss

    def save_checkpoint(
        self, update: int, write: Callable[[Path], None], validation_loss: float | None = None
    ) -> Path:
        """Add a checkpoint, then remove those that are neither recent nor the best.

        Args:
            update: Updates done.
            write: Writes its files into the folder it is given.
            validation_loss: What `best` compares.

        Raises:
            CheckpointError: If it cannot be written; the earlier ones are intact.
        """
        folder = self._checkpoints / f"update-{update:06d}"
        try:
            write_folder(folder, write)
            write_json(folder / COMPLETE, {"update": update, "validation_loss": validation_loss})
        except (OSError, SafetensorError) as error:
            newest = self.newest()
            rest = f"; the checkpoint of update {newest.update} is intact" if newest else ""
            raise CheckpointError(
                f"{folder}: cannot save ({error}){rest}: make room and run the same command again"
            ) from error
        self._prune()
        return folder

    def _prune(self) -> None:
        complete = self.checkpoints()
        best = _best(complete)
        keep = {c.folder for c in complete[-self._keep :]} | ({best.folder} if best else set())
        for folder in self._checkpoints.iterdir():
            if folder not in keep:
                # Without its marker a checkpoint does not exist, whatever is left of it.
                (folder / COMPLETE).unlink(missing_ok=True)
                shutil.rmtree(folder)

    def _acquire(self) -> TextIO:
        lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            if not isinstance(error, BlockingIOError):
                raise
            raise ConfigError(
                f"{self.path}: another process is working on this run; wait for it or choose "
                "another folder"
            ) from None
        return lock

    def _has_begun(self) -> bool:
        """Whether there is anything to continue; a start that was refused leaves nothing."""
        return bool(read_log(self.path)) or any(self._checkpoints.iterdir())

    def _clear(self) -> None:
        """Forget the settings and plans of a start that came to nothing."""
        for left_over in (self.path / "config.json", self.path / "facts.json"):
            left_over.unlink(missing_ok=True)
        for plan in self.plans.iterdir():
            plan.unlink()

    def _refuse_changes(self, name: str, new: Mapping[str, Any]) -> None:
        old = _read_json(self.path / name)
        changed = differences({key: old.get(key) for key in new}, new)
        if old and changed:
            raise ConfigError(
                f"{self.path}: this run was started differently ({'; '.join(changed)}): go back "
                "to what it was or choose another folder"
            )


def differences(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> list[str]:
    """Return "name: old -> new" for each value that differs and matters, names dotted."""
    lines = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{where}{key}.")
        elif before != after and f"{where}{key}" not in FREE_SETTINGS:
            lines.append(f"{where}{key}: {json.dumps(before)} -> {json.dumps(after)}")
    return lines


def read_log(folder: Path | str) -> list[dict[str, Any]]:
    """Return the lines of a run's log.jsonl; one that a crash cut short is left out."""
    path, entries = Path(folder) / "log.jsonl", []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return entries


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Replace `folder` by what `write` puts into the folder it is given.

    Raises:
        OSError: As `write` or the disk does; `folder` is then as it was.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    try:
        partial.mkdir(parents=True)
        write(partial)
        for path in (*partial.rglob("*"), partial):
            _sync(path)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _sync(folder.parent)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that is complete or absent, whenever the process dies."""
    _write(path, json.dumps(content, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        _sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Wait until a file or a folder's list of names has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_json(path: Path, advice: str = "restore it or start anew") -> dict[str, Any]:
    """Return a JSON object this module wrote, or an empty one if there is none."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): {advice}") from None
    assert isinstance(content, dict)
    return content


def _best(checkpoints: list[Checkpoint]) -> Checkpoint | None:
    validated = [c for c in checkpoints if c.validation_loss is not None]
    return min(validated, key=lambda c: c.validation_loss or 0.0, default=None)
