import json

import numpy as np
import pytest

from tests.data.released_index import nearest_in_cell
from videoclip.data import batch_plan
from videoclip.data.batch_plan import nearest


def by_hand(vectors, query, count):
    distances = [float(np.linalg.norm(v - vectors[query])) for v in vectors.astype(np.float64)]
    return sorted(range(len(vectors)), key=distances.__getitem__)[:count]


@pytest.mark.parametrize(("base_rows", "query_rows"), [(1, 1), (16, 2), (1 << 16, 1 << 9)])
def test_nearest_equals_sorting_by_distance(base_rows, query_rows, monkeypatch):
    monkeypatch.setattr(batch_plan, "_BASE_ROWS", base_rows)
    monkeypatch.setattr(batch_plan, "_QUERY_ROWS", query_rows)
    rng = np.random.default_rng(0)
    vectors = rng.normal(1000, 1, size=(50, 8)).astype(np.float32)  # far from the origin
    queries = np.array([3, 49, 0])
    found = nearest(vectors, queries, 7)
    assert found.tolist() == [by_hand(vectors, q, 7) for q in queries]
    assert nearest(vectors, queries, 999).shape == (3, 50)


def test_nearest_in_cell_stays_in_the_cell():
    vectors = np.array([[0.0], [1.0], [2.2], [5.0], [6.0]], dtype=np.float32)
    centroids = np.array([[1.0], [5.5]], dtype=np.float32)
    assert nearest_in_cell(vectors, centroids, 2, 4).tolist() == [2, 1, 0]
    assert nearest_in_cell(vectors, centroids, 3, 1).tolist() == [3]
    assert nearest_in_cell(vectors, centroids, 4, 99).tolist() == [4, 3]


def test_a_query_comes_before_its_own_copies():
    vectors = np.array([[1.0], [1.0], [2.0], [1.0]], dtype=np.float32)
    centroids = np.zeros((1, 1), dtype=np.float32)
    assert nearest_in_cell(vectors, centroids, 3, 9).tolist() == [3, 0, 1, 2]


@pytest.mark.parity
def test_candidates_equal_the_released_index(shared):
    case = json.loads((shared / "golden/retrieval/retrieval.json").read_text())
    arrays = np.load(shared / "golden/retrieval/retrieval.npz")
    for query, expected in enumerate(case["candidates_per_query"]):
        found = nearest_in_cell(
            arrays["video_vectors"], arrays["centroids"], query, case["num_cands"]
        )
        assert [f"vid{i:03d}" for i in found] == expected
