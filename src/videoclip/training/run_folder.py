"""A run folder: what a training run leaves on disk, complete whenever the process dies.

    config.json                     the settings; a run does not continue with others
    facts.json                      what else must stay the same: data, precision
    log.jsonl                       one line per update, validation and evaluation
    plans/epoch-001.json            the batch plan of each epoch
    checkpoints/update-000123/      a model folder, the trainer's state, and the marker COMPLETE;
                                    with optim.ema_decay the model folder has the averaged weights,
                                    and trained.safetensors those that are trained
    model/                          the result, a model folder

Every file is written atomically; the marker of a checkpoint comes last. Tensors are stored as
safetensors and the rest as JSON: nothing is pickled. No generator state is stored, because all
randomness follows from the seed and the position in the run.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import safetensors.torch
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from torch import Tensor

from videoclip.config import RUN_CONFIG_VERSION, flatten
from videoclip.data.tokenizer import Tokenizer
from videoclip.errors import CheckpointError, ConfigError
from videoclip.files import (
    atomic_folder,
    parse_state,
    read_json,
    read_regular,
    seal,
    sha256,
    sync,
    write_state,
    write_text,
)
from videoclip.model import hub
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.optim import set_weights

COMPLETE = "COMPLETE"
FREE_SETTINGS = frozenset(
    {"keep_checkpoints", "num_workers", "save_every_updates", "save_every_seconds", "plan.teacher"}
)
"""Settings that a continued run may change, because they do not change its result. The teacher's
path is one: its weights are compared among the facts."""
MOMENTS_FILE = "optimizer.safetensors"
TRAINED_FILE = "trained.safetensors"
"""The weights that are trained, where those of the model folder are their average."""
TRAINER_FILE = "trainer.json"


@dataclass(frozen=True)
class Position:
    """How far a run is.

    Attributes:
        update: Updates done since the beginning.
        epoch: Epoch, from 1.
        batch: Batches done in this epoch, by each process.
        processes: How many they are; 0: not known, and the same as ever.
    """

    update: int = 0
    epoch: int = 1
    batch: int = 0
    processes: int = 0

    def on(self, processes: int) -> Self:
        """Return the same place in an epoch's plan for another number of processes.

        Where the batches done are no multiple of it, the few up to the next one are left out.
        """
        done = self.batch * (self.processes or processes)
        return replace(self, batch=-(-done // processes), processes=processes)


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        folder: Its folder.
        update: Updates done when it was saved.
        validation_loss: The validation loss at that moment, if it was computed.
        sha256: Hex digest of each file.
    """

    folder: Path
    update: int
    validation_loss: float | None
    sha256: dict[str, str] = field(default_factory=dict)

    def verify(self) -> None:
        """Raise a `CheckpointError` if a file differs from its checksum, which old ones lack."""
        for name, expected in self.sha256.items():
            if not (self.folder / name).is_file() or sha256(self.folder / name) != expected:
                raise CheckpointError(
                    f"{self.folder} is damaged ({name} was changed): remove it, and the run "
                    "continues from the one before"
                )


@contextmanager
def lock_folder(folder: Path, what: str) -> Iterator[None]:
    """Keep other processes out of a folder within the block.

    Args:
        folder: An existing folder.
        what: What is made there, for the message.

    Raises:
        ConfigError: If another process has locked it.
    """
    try:
        lock = FileLock(folder / ".lock", timeout=0).acquire()
    except Timeout:
        raise ConfigError(
            f"{folder}: another process is working on this {what}; wait for it or choose another "
            "folder"
        ) from None
    with lock:
        yield


class RunFolder(ExitStack):
    """The folder of one run, locked for one process at a time; a context manager.

    Args:
        path: The folder; created if it does not exist.
        config: The settings as plain dicts.
        facts: What else must stay the same, as plain dicts.
        keep: Checkpoints kept besides the best.
        extend: Allow a finished run to have more `epochs` than before.

    Attributes:
        extended_from: The number of epochs before, if the run is being extended.

    Raises:
        ConfigError: If the run was started with other settings or facts, naming each, or is in use
            by another process.
    """

    def __init__(
        self,
        path: Path,
        config: Mapping[str, Any],
        facts: Mapping[str, Any],
        keep: int = 2,
        *,
        extend: bool = False,
    ) -> None:
        super().__init__()
        self.path, self._keep = path, keep
        self._checkpoints, self._plans = path / "checkpoints", path / "plans"
        for folder in (self._checkpoints, self._plans):
            folder.mkdir(parents=True, exist_ok=True)
        self.extended_from: int | None = None
        self.enter_context(lock_folder(path, "run"))
        try:
            # A start that was refused or failed before its first update binds nobody.
            if _has_begun(path):
                self.extended_from = refuse_changes(path, config, facts, extend=extend)
                self._prune()  # in case a process was killed before it did
            else:
                settings = (path / "config.json", path / "facts.json")
                for left_over in (*settings, *self._plans.iterdir()):
                    left_over.unlink(missing_ok=True)
            for left_over in self._plans.glob(".*"):  # of a process that was killed while writing
                left_over.unlink()
            write_state(path / "config.json", {"version": RUN_CONFIG_VERSION, **config})
            self.remember(**facts)
        except BaseException:
            self.close()
            raise

    @property
    def facts(self) -> dict[str, Any]:
        """What is remembered about the run besides its settings."""
        facts: dict[str, Any] = read_json(self.path / "facts.json")
        return facts

    def remember(self, **facts: Any) -> None:
        """Add facts that a continued run must agree with."""
        write_state(self.path / "facts.json", {**self.facts, **facts})

    def plan_path(self, epoch: int) -> Path:
        """Return the file of the batch plan of an epoch, from 1."""
        return self._plans / f"epoch-{epoch:03d}.json"

    def log(self, entry: Mapping[str, Any]) -> None:
        """Append one line to log.jsonl; `entry` has the key `update`."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(_log_line(entry))

    def rewind_log(self, update: int) -> None:
        """Remove what was logged after `update`, which is about to be repeated."""
        kept = [entry for entry in read_log(self.path, update) if entry["update"] <= update]
        write_text(self.path / "log.jsonl", "".join(map(_log_line, kept)))

    def checkpoints(self) -> list[Checkpoint]:
        """Return the complete checkpoints, oldest first."""
        found = []
        for marker in self._checkpoints.glob(f"update-*/{COMPLETE}"):
            advice = f"remove {marker.parent}, and the run continues from the one before"
            if content := read_json(marker, advice):
                found.append(Checkpoint(marker.parent, **content))
        return sorted(found, key=lambda checkpoint: checkpoint.update)

    def newest(self) -> Checkpoint | None:
        """Return the complete checkpoint to continue from."""
        return max(self.checkpoints(), key=lambda c: c.update, default=None)

    def best(self) -> Checkpoint | None:
        """Return the complete checkpoint with the lowest validation loss, the first of equals."""
        validated = [c for c in self.checkpoints() if c.validation_loss is not None]
        return min(validated, key=lambda c: c.validation_loss or 0.0, default=None)

    def is_best(self, validation_loss: float | None) -> bool:
        """Return whether a checkpoint with this validation loss would be the best."""
        best = self.best()
        lowest = math.inf if best is None else best.validation_loss or 0.0
        return validation_loss is not None and validation_loss < lowest

    def save_checkpoint(
        self, update: int, write: Callable[[Path], None], validation_loss: float | None = None
    ) -> Path:
        """Add a checkpoint, then remove those that are neither recent nor the best.

        Args:
            update: Updates done.
            write: Writes the files of the checkpoint into the folder it is given.
            validation_loss: What `best` compares.

        Raises:
            CheckpointError: If it cannot be written; the earlier ones are intact.
        """
        folder = self._checkpoints / f"update-{update:06d}"
        try:
            if (self.path / "log.jsonl").exists():  # up to here it is not written again
                sync(self.path / "log.jsonl")
            with atomic_folder(folder) as partial:
                write(partial)
            files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
            sums = {str(file.relative_to(folder)): sha256(file) for file in files}
            marker = {"update": update, "validation_loss": validation_loss, "sha256": sums}
            write_state(folder / COMPLETE, marker)
        except (OSError, SafetensorError) as error:
            newest = self.newest()
            rest = f"; the checkpoint of update {newest.update} is intact" if newest else ""
            raise CheckpointError(
                f"{folder}: cannot save ({error}){rest}: free some disk space and run the same "
                "command again"
            ) from error
        self._prune()
        return folder

    def _prune(self) -> None:
        kept = [*self.checkpoints()[-self._keep :], self.best()]
        keep = {checkpoint.folder for checkpoint in kept if checkpoint}
        for folder in self._checkpoints.iterdir():
            if folder not in keep:
                # Without its marker a checkpoint does not exist, whatever is left of it.
                (folder / COMPLETE).unlink(missing_ok=True)
                shutil.rmtree(folder)


def _has_begun(path: Path) -> bool:
    return bool(read_log(path, -1)) or any((path / "checkpoints").glob("*"))


def refuse_changes(
    path: Path, config: Mapping[str, Any], facts: Mapping[str, Any] | None = None, *, extend: bool
) -> int | None:
    """Make sure that a run that has begun continues with its own settings and facts.

    Args:
        path: The run folder, which need not exist.
        config: The settings as plain dicts.
        facts: What else must stay the same; None if it is not known yet.
        extend: Allow a finished run to have more `epochs` than before.

    Returns:
        The number of epochs before, if the run is being extended.

    Raises:
        ConfigError: If anything differs, naming it.
    """
    if not _has_begun(path):
        return None
    known, known_facts = read_json(path / "config.json"), read_json(path / "facts.json")
    for name in ("config.json", "facts.json"):
        if not (path / name).is_file():
            raise ConfigError(f"{path / name} is missing: restore it or choose another folder")
    epochs = known.get("epochs", 0)
    is_longer = config.get("epochs", 0) > epochs
    if is_longer and extend:
        if not (path / "model").is_dir():
            raise ConfigError(
                f"{path}: only a finished run can be extended: finish its {epochs} epochs first"
            )
        known["epochs"] = config["epochs"]
    changed: list[str] = []
    # A checkpoint knows how many processes there were, and continues on any number.
    facts = {name: fact for name, fact in (facts or {}).items() if name != "processes"}
    for old, new in ((known, config), (known_facts, facts)):
        changed += differences({name: old.get(name) for name in new}, new)
    if changed:
        hint = "; to train a finished run for more epochs, extend it" if is_longer else ""
        raise ConfigError(
            f"{path}: this run was started with other settings or data "
            f"({'; '.join(changed)}): restore them or choose another folder{hint}"
        )
    return epochs if is_longer else None


def write_checkpoint(
    folder: Path,
    model: VideoCLIP,
    tokenizer: Tokenizer,
    optimizer: torch.optim.Optimizer,
    position: Position,
    trained: Mapping[str, Tensor] | None = None,
) -> None:
    """Write everything a run continues from into a folder.

    Args:
        folder: The new checkpoint.
        model: The model; with averaged weights, if the run has them.
        tokenizer: Its vocabulary.
        optimizer: Its state.
        position: How far the run is.
        trained: Where the model has averaged weights: those that are trained, by name.
    """
    hub.save_model(model, folder / "model", tokenizer)
    if trained:
        safetensors.torch.save_file(dict(trained), folder / TRAINED_FILE)
    state = optimizer.state_dict()
    moments = {f"{i}.{name}": t for i, entry in state["state"].items() for name, t in entry.items()}
    safetensors.torch.save_file(moments, folder / MOMENTS_FILE)
    trainer = {"position": asdict(position), "param_groups": state["param_groups"]}
    (folder / TRAINER_FILE).write_text(json.dumps(trainer, indent=2) + "\n", encoding="utf-8")


def read_checkpoint(
    folder: Path,
    model: VideoCLIP,
    optimizer: torch.optim.Optimizer,
    average: Mapping[str, Tensor] | None = None,
) -> Position:
    """Load a checkpoint into a model and its optimiser, and return its position.

    Args:
        folder: The checkpoint.
        model: Gets the weights that are trained.
        optimizer: Gets its state.
        average: Gets the averaged weights by name, if the run has them.

    Raises:
        CheckpointError: If a file is damaged or belongs to another model.
    """
    try:
        hub.load_weights(model, folder / "model")
        trainer = parse_state(read_regular(folder / TRAINER_FILE))
        position = Position(**trainer["position"])
        moments = safetensors.torch.load_file(folder / MOMENTS_FILE)
        if average:
            for name, weight in average.items():
                weight.copy_(model.get_parameter(name).detach())
            set_weights(model, safetensors.torch.load_file(folder / TRAINED_FILE))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, CheckpointError) as error:
        raise CheckpointError(
            f"{folder} is damaged ({error}): remove it, and the run continues from the one before"
        ) from None
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in moments.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = tensor
    for group in trainer["param_groups"]:
        group["betas"] = tuple(group["betas"])
    optimizer.load_state_dict({"state": state, "param_groups": trainer["param_groups"]})
    return position


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return "name: old -> new" for each value that differs and matters, with dotted names."""
    before, after = flatten(old), flatten(new)
    return [
        f"{name}: {json.dumps(before.get(name))} -> {json.dumps(after.get(name))}"
        for name in sorted({*before, *after} - FREE_SETTINGS)
        if before.get(name) != after.get(name)
    ]


def _log_line(entry: Mapping[str, Any]) -> str:
    return json.dumps(seal(entry)) + "\n"


def read_log(folder: Path | str, until: float = math.inf) -> list[dict[str, Any]]:
    """Return the entries of a run's log.jsonl, without a line that a crash cut short.

    Args:
        folder: The run.
        until: Update after which damaged lines end the log, as a power cut may leave some.

    Raises:
        CheckpointError: If another line is damaged.
    """
    path, entries = Path(folder) / "log.jsonl", []
    try:
        lines = read_regular(path).splitlines(keepends=True)
    except (FileNotFoundError, NotADirectoryError):
        lines = []
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): restore it") from None
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and not line.endswith(b"\n"):
            break
        try:
            entries.append(parse_state(line))
        except ValueError as error:
            if (entries[-1]["update"] if entries else -1) >= until:
                break
            raise CheckpointError(
                f"{path}:{number} is damaged ({error}): restore the file or remove the line"
            ) from None
    return entries
