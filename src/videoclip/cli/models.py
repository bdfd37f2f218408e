"""`videoclip models`: list known models, and those on this machine."""

import json
from dataclasses import asdict, dataclass
from typing import ClassVar

from videoclip.cli import options
from videoclip.pretrained.known import (
    ALIASES,
    KNOWN,
    KnownModel,
    default_model,
    other_models,
    present_models,
)

HEAD = ("--model", "hub id", "size", "licence", "s/hour", "published, zero-shot", "good for")


@dataclass(frozen=True)
class Models:
    """List the models that `--model` takes by a short name, and which of them are on this machine.

    Any other dual encoder of transformers works by its hub id or folder. Without --model, the first
    model of the list that is here is used, else the starter; none is downloaded unless it is named.
    Seconds are those that two cores of a CPU take for an hour of video (docs/models.md).
    """

    stray: ClassVar[str] = "`videoclip info MODEL` describes one model"

    json: options.Json = False

    def run(self) -> int:
        """Print the known models, and those that are present."""
        present = present_models()
        others = dict(other_models())
        default = default_model()
        if self.json:
            content = {
                "default": default,
                "models": [_as_dict(model, model.alias in present) for model in KNOWN],
                "present": {
                    **{ALIASES[alias]: str(path) for alias, path in present.items()},
                    **{name: str(path) for name, path in others.items()},
                },
            }
            print(json.dumps(content, indent=2))
            return 0
        rows = [HEAD, *(_row(model, model.alias in present) for model in KNOWN)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
        for row in rows:
            cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
            print("  ".join(cells).rstrip())
        print(f"\n* present; default: {default}")
        for name, path in others.items():
            print(f"also present: {name} ({path})")
        return 0


def _row(model: KnownModel, is_present: bool) -> tuple[str, ...]:
    return (
        f"{model.alias}{' *' if is_present else ''}",
        model.hub_id,
        f"{model.download_gb:.1f} GB",
        model.licence,
        f"{model.seconds_per_hour:,}",
        model.published,
        model.good_for,
    )


def _as_dict(model: KnownModel, is_present: bool) -> dict[str, object]:
    return asdict(model) | {"download_gb": round(model.download_gb, 2), "present": is_present}
