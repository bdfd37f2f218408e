"""`videoclip doctor`: what works on this machine, and how to fix what does not."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from videoclip.cli import options


@dataclass(frozen=True)
class Doctor:
    """Check what the other commands rely on, and say how to fix what does not work.

    Multiplies matrices, writes and decodes a video, loads a model and embeds a text, locks and
    renames files, looks for optional packages. The exit status is 1 if something that is needed is
    broken. By default both the CPU and a GPU, if there is one, are checked.
    """

    folder: Annotated[Path, arg(metavar="FOLDER")] = Path()
    """Where stores, runs and libraries will be written."""
    model: options.Model = None
    device: options.Device = options.AUTO
    json: options.Json = False

    def run(self) -> int:
        """Run the checks and print each as it ends."""
        from videoclip.doctor import run_checks

        checks = []
        for check in run_checks(self.folder, self.model, self.device):
            checks.append(check)
            if not self.json:
                print(check, flush=True)
        if self.json:
            print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
        return int(any(check.state == "broken" for check in checks))
