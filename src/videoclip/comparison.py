"""Runs and evaluations side by side: settings that differ, losses over the updates, results."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videoclip.config import flatten
from videoclip.errors import ConfigError, DataError
from videoclip.evaluation.outcome import BOUNDS, Result, align_columns
from videoclip.files import parse_state, read_regular, write_output
from videoclip.output.figures import average_losses, draw_losses, to_png, to_svg
from videoclip.output.html import render
from videoclip.training.run import RunResult
from videoclip.training.run_folder import read_log

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOSSES = "Losses of runs over their updates"


@dataclass(frozen=True)
class ComparedRun:
    """A training run or an evaluation.

    Attributes:
        name: Its path, or what was evaluated.
        settings: Values by dotted name.
        curve: (update, loss) of a run, averaged over stretches of it; empty for an evaluation.
        validation: (update, validation loss) of a run.
        results: Numbers by name: measures, and for a run its updates and the loss of the last one.
        finished: Whether a run has done all its epochs; True for an evaluation.
    """

    name: str
    settings: Mapping[str, str | float | None]
    curve: tuple[tuple[int, float], ...]
    validation: tuple[tuple[int, float], ...]
    results: Mapping[str, float]
    finished: bool = True

    @property
    def label(self) -> str:
        """The name, marked if the run is not finished."""
        return self.name if self.finished else f"{self.name} (not finished)"


@dataclass(frozen=True)
class RunComparison:
    """Several runs or evaluations; `str()` is a table.

    Attributes:
        runs: In the order given.
    """

    runs: tuple[ComparedRun, ...]

    @property
    def settings(self) -> dict[str, tuple[str | float | None, ...]]:
        """Values of each setting that is not the same in all runs, in the order of `runs`."""
        names = dict.fromkeys(name for run in self.runs for name in run.settings)
        values = {name: tuple(run.settings.get(name) for run in self.runs) for name in names}
        return {name: found for name, found in values.items() if len(set(found)) > 1}

    @property
    def results(self) -> dict[str, tuple[float | None, ...]]:
        """Values of each result, in the order of `runs`; None where a run does not have it."""
        names = dict.fromkeys(name for run in self.runs for name in run.results)
        return {name: tuple(run.results.get(name) for run in self.runs) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain dicts, ready for JSON."""
        return {
            "runs": [asdict(run) for run in self.runs],
            "settings": self.settings,
            "results": self.results,
        }

    def save_picture(self, path: Path | str) -> None:
        """Draw the losses over the updates into an SVG or PNG file.

        Raises:
            ConfigError: If the file has another suffix.
            DataError: If there is no run with a loss, or the file cannot be written.
        """
        path = Path(path)
        if path.suffix not in (".svg", ".png"):
            raise ConfigError(f"{path}: a picture is written as .svg or .png")
        if (figure := self._draw_losses()) is None:
            raise DataError("evaluations have no losses to draw: name a run folder")
        write_output(path, to_svg(figure, LOSSES) if path.suffix == ".svg" else to_png(figure))

    def save_page(self, path: Path | str) -> None:
        """Write an HTML page with the table and the losses.

        Raises:
            DataError: If the file cannot be written.
        """
        figure = self._draw_losses()
        losses = to_svg(figure, LOSSES) if figure is not None else ""
        write_output(Path(path), render("comparison.html", table=self._table(), losses=losses))

    def _draw_losses(self) -> "Figure | None":
        """Draw the losses of the runs; None if there is none."""
        curves = [(run.label, run.curve, run.validation) for run in self.runs if run.curve]
        return draw_losses(curves) if curves else None

    def _table(self) -> list[list[str]]:
        """Return a head, then results and differing settings, each below a line that names them."""
        rows = [["", *(run.label for run in self.runs)]]
        for heading, table in ("results", self.results), ("settings that differ", self.settings):
            if table:
                rows.append([heading, *[""] * len(self.runs)])
            rows += [[f"  {name}", *map(_text, values)] for name, values in table.items()]
        return rows

    def __str__(self) -> str:
        """Return the differing settings and the results, one column per run."""
        return align_columns(self._table())


def compare(runs: Sequence[Path | str | RunResult | Result]) -> RunComparison:
    """Compare training runs and evaluations.

    Args:
        runs: Run folders or results of runs; results of `evaluate`, or JSON files with them
            (`videoclip evaluate --json`).

    Raises:
        ConfigError: If there are fewer than two.
        DataError: If a path is neither a run folder nor such a file.
    """
    if isinstance(runs, str) or len(runs) < 2:
        raise ConfigError("name at least two runs or results to compare")
    return RunComparison(tuple(map(_read, runs)))


def _read(run: Path | str | RunResult | Result) -> ComparedRun:
    if isinstance(run, Result):
        return _evaluation(run.to_dict())
    path = run.model_folder.parent if isinstance(run, RunResult) else Path(run)
    file = path / "config.json" if path.is_dir() else path
    try:
        content = parse_state(read_regular(file))
        if path.is_dir() and "optim" in content:
            return _run(path, content)
        return _evaluation(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        reason = "is neither a run folder nor a result of `videoclip evaluate --json`"
        reason += "" if path.exists() else " (no such file or folder)"
        raise DataError(reason, path) from None


def _run(folder: Path, config: Mapping[str, Any]) -> ComparedRun:
    log = read_log(folder)
    losses = [entry["loss"] for entry in log if "loss" in entry]
    validation = [(e["update"], e["validation_loss"]) for e in log if "validation_loss" in e]
    results = {"updates": float(len(losses))}
    if losses:
        results["loss"] = losses[-1]
    if validation:
        results["lowest validation loss"] = min(loss for _, loss in validation)
    for entry in log:  # the last evaluation counts
        values = entry.get("evaluation", {}).items()
        results |= {name: value for name, value in values if not name.endswith(BOUNDS)}
    epochs_begun = max((entry.get("epoch", 0) for entry in log), default=0)
    finished = (folder / "model").is_dir() and epochs_begun >= config["epochs"]
    curve = tuple(average_losses(log))
    settings = _as_text(config)
    return ComparedRun(str(folder), settings, curve, tuple(validation), results, finished)


def _evaluation(result: Mapping[str, Any]) -> ComparedRun:
    settings = {"benchmark": result["benchmark"], **result["settings"]}
    measures = {name: float(measure["value"]) for name, measure in result["measures"].items()}
    return ComparedRun(str(result["model"]), _as_text(settings), (), (), measures)


def _as_text(settings: Mapping[str, Any]) -> dict[str, str | float | None]:
    """Return nested settings by dotted name; lists as text."""
    flat = flatten(settings).items()
    return {name: json.dumps(value) if isinstance(value, list) else value for name, value in flat}


def _text(value: str | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
