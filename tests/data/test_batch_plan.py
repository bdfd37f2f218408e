import json
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.released_index import nearest_in_cell
from videoclip.config import PlanConfig
from videoclip.data.batch_plan import (
    BatchPlan,
    make_plan,
    nearest,
    needs_vectors,
    retrieval_plan,
    sample_groups,
    video_vectors,
)
from videoclip.errors import ConfigError, DataError


def random_vectors(num_videos, dim=4, seed=0):
    return np.random.default_rng(seed).normal(size=(num_videos, dim)).astype(np.float32)


def check_partition(plan, num_videos, size):
    assert sorted(v for group in plan.groups for v in group) == list(range(num_videos))
    assert all(len(group) == size for group in plan.groups[:-1])
    assert all(1 <= len(group) <= size for group in plan.groups)


@given(num_videos=st.integers(1, 70), size=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_kind_keeps_its_promise_of_coverage(num_videos, size, seed):
    vectors = random_vectors(num_videos, seed=seed)
    for kind in ("consecutive", "shuffled", "mined", "retrieval"):
        config = PlanConfig(
            kind=kind, videos_per_batch=size, num_neighbours=2 * size, drop_nearest=2
        )
        plan = make_plan(config, num_videos, seed=seed, epoch=3, vectors=vectors)
        assert plan == make_plan(config, num_videos, seed=seed, epoch=3, vectors=vectors)
        assert all(type(video) is int for group in plan.groups for video in group)
        if kind != "retrieval":
            check_partition(plan, num_videos, size)
        else:
            assert len(plan) == max(1, num_videos // size)
            assert all(len(set(g)) == len(g) == min(size, num_videos) for g in plan.groups)


def test_the_simple_plans_by_hand():
    consecutive = PlanConfig(kind="consecutive", videos_per_batch=2)
    assert make_plan(consecutive, 5, seed=0, epoch=1).groups == ((0, 1), (2, 3), (4,))
    shuffled = PlanConfig(kind="shuffled", videos_per_batch=4)
    first, second = (make_plan(shuffled, 40, seed=0, epoch=epoch) for epoch in (1, 2))
    assert first != second
    assert make_plan(consecutive, 0, seed=0, epoch=1).groups == ()


def test_the_retrieve_k_ablation_takes_the_nearest_themselves():
    vectors = random_vectors(40)
    config = PlanConfig(videos_per_batch=5, num_neighbours=5)
    plan = retrieval_plan(vectors, config, np.random.default_rng(0))
    for group in plan.groups:
        assert list(group) == nearest(vectors, np.array(group[:1]), 5)[0].tolist()
    assert len({group[0] for group in plan.groups}) == 8


def test_the_method_samples_all_candidates_and_may_drop_the_seed():
    vectors = random_vectors(20)
    config = PlanConfig(videos_per_batch=5, num_neighbours=10)
    seen, dropped = Counter(), 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        twin = np.random.default_rng(seed).choice(20, 4, replace=False)
        for start, group in zip(twin, retrieval_plan(vectors, config, rng).groups, strict=True):
            candidates = nearest(vectors, np.array([start]), 10)[0]
            assert set(group) <= set(candidates)
            dropped += start not in group
            seen.update(np.flatnonzero(np.isin(candidates, group)).tolist())
    assert 140 <= dropped <= 260  # half of 400
    assert all(140 <= seen[rank] <= 260 for rank in range(10))


def test_a_seed_that_did_not_find_itself_still_leads():
    (group,) = sample_groups(
        np.array([7]), [np.array([1, 2, 3])], 4, np.random.default_rng(0)
    ).groups
    assert group == (7, 1, 2)


def test_epochs_differ_and_the_first_are_shuffled():
    config = PlanConfig(kind="mined", videos_per_batch=4, num_neighbours=8, first_epoch=2)
    vectors = random_vectors(40)
    assert not needs_vectors(config, 1)
    assert needs_vectors(config, 2)
    assert make_plan(config, 40, seed=1, epoch=1) != make_plan(config, 40, seed=2, epoch=1)
    second, third = (make_plan(config, 40, seed=1, epoch=e, vectors=vectors) for e in (2, 3))
    assert second != third


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (None, "needs 9 video vectors, got none"),
        (random_vectors(8), "needs 9 video vectors, got 8"),
        (random_vectors(9) + np.float32(np.nan), "not all finite"),
    ],
)
def test_unusable_vectors_are_refused(vectors, message):
    with pytest.raises(ConfigError, match=message):
        make_plan(PlanConfig(), 9, seed=0, epoch=1, vectors=vectors)


def test_a_plan_is_saved_whole_and_read_back(tmp_path):
    plan = BatchPlan(((3, 1), (2,)), (0.25, 0.75))
    plan.save(tmp_path / "plan.json")
    plan.save(tmp_path / "plan.json")
    assert BatchPlan.load(tmp_path / "plan.json") == plan
    assert len(plan) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"groups": [["a"]]}', '{"groups": [1]}'])
def test_a_broken_plan_is_one_line(tmp_path, content):
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(DataError, match=r"plan\.json: is not a batch plan"):
        BatchPlan.load(tmp_path / "plan.json")


class PythonSamples:
    """Python's `random` behind the one method that plans draw samples with."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def choice(self, values, size, replace):
        assert not replace
        values = list(range(values)) if isinstance(values, int) else values.tolist()
        return np.array(self.random.sample(values, size))


@pytest.mark.parity
def test_vectors_and_batches_equal_the_released_ones(shared):
    case = json.loads((shared / "golden/retrieval/retrieval.json").read_text())
    arrays = np.load(shared / "golden/retrieval/retrieval.npz")
    vectors = video_vectors(arrays["pooled_video"], arrays["pooled_text"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, arrays["video_vectors"], atol=1e-6)

    rng = PythonSamples(case["python_random_seed"])
    seeds = rng.choice(case["videos"], case["number_of_batches"], replace=False)
    found = [nearest_in_cell(vectors, arrays["centroids"], s, case["num_cands"]) for s in seeds]
    plan = sample_groups(seeds, found, case["num_video_per_batch"], rng)
    batches = [[f"vid{i:03d}" for i in group] for group in plan.groups]
    assert batches == case["example_batches"]
