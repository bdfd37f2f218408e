"""Backbones that take no time and misbehave on request; spawned processes import them from here."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videoclip.data.feature_store import FeatureSpec
from videoclip.features.decode import Squash, sample_frames

SPEC = FeatureSpec(3, 1.0, "colours", False, "1")


@dataclass(frozen=True)
class MeanColour:
    """The mean colour of each second; what a file is called can make it misbehave."""

    name: str = "colours"
    spec: FeatureSpec = SPEC

    def features_for(self, path: Path) -> Iterator[np.ndarray]:
        if "slow" in path.stem:
            time.sleep(60)
        if "broken" in path.stem:
            raise ArithmeticError("a bug\nof two lines")
        if "killed" in path.stem:
            os.kill(os.getpid(), signal.SIGKILL)
        if "bug" in path.stem:
            raise SystemExit(3)
        for frame in sample_frames(path, self.spec.features_per_second):
            colour = frame.rgb(Squash(8, 8)).astype(np.float32).mean((0, 1))
            yield np.where("nan" in path.stem, np.nan, colour)[None]


@dataclass(frozen=True)
class OnGpu(MeanColour):
    """One whose network is on a GPU, as far as it says."""

    device: str = "cuda"


class Unpicklable(MeanColour):
    """One that worker processes cannot make again."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (1,)
