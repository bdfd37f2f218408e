"""The search of the released code: the inverted file of which one cell is probed."""

import numpy as np
import torch


def nearest_in_cell(vectors, centroids, query, count):
    """Find the vectors nearest to one of them among those that share its nearest centroid.

    Returns at most `count` indices: the query, then the others by increasing distance.
    """
    offsets = torch.cdist(
        torch.from_numpy(vectors),
        torch.from_numpy(centroids),
        compute_mode="donot_use_mm_for_euclid_dist",
    )  # (V, C)
    cells = offsets.argmin(dim=1).numpy()
    others = np.flatnonzero(cells == cells[query])
    others = others[others != query]
    distances = np.square(vectors[others] - vectors[query]).sum(axis=1)
    order = np.argsort(distances, kind="stable")
    return np.concatenate([[query], others[order]])[:count]
