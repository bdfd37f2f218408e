"""Names for the array and callback types that signatures share."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["BoolArray", "FloatArray", "IntArray", "OnProgress", "RealArray"]

FloatArray: TypeAlias = NDArray[np.float32]
"""Embeddings, features and similarities."""
RealArray: TypeAlias = NDArray[np.floating]
"""Real numbers of any precision."""
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
OnProgress: TypeAlias = Callable[[int, int], None]
"""Called as work goes on with what is done and what there is to do in all."""
