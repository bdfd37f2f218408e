import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videoclip.config import PlanConfig
from videoclip.data import batch_plan
from videoclip.data.batch_plan import mined_plan


def mine(vectors, size, drop_nearest=0, max_similarity=1.0, seed=0):
    config = PlanConfig(
        kind="mined",
        videos_per_batch=size,
        drop_nearest=drop_nearest,
        max_similarity=max_similarity,
    )
    plan = mined_plan(vectors, config, np.random.default_rng(seed))
    return [np.array(group) for group in plan.groups]


def spread(vectors, groups):
    """Mean distance of two videos that share a group."""
    pairs = [vectors[g][:, None] - vectors[g] for g in groups if len(g) > 1]
    return np.mean([np.linalg.norm(p, axis=2).mean() for p in pairs])


@given(
    num_videos=st.integers(1, 120),
    size=st.integers(1, 7),
    drop_nearest=st.integers(0, 150),
    max_similarity=st.sampled_from([-1.0, 0.5, 1.0]),
    part_size=st.sampled_from([10, 4096]),
    seed=st.integers(0, 99),
)
def test_every_video_comes_once_whatever_is_asked(
    num_videos, size, drop_nearest, max_similarity, part_size, seed
):
    vectors = np.random.default_rng(seed).normal(size=(num_videos, 3)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_plan, "_PART_SIZE", part_size)
        groups = mine(vectors, size, drop_nearest, max_similarity, seed)
    assert sorted(np.concatenate(groups).tolist()) == list(range(num_videos))
    assert all(len(group) == size for group in groups[:-1])


@pytest.mark.parametrize("part_size", [64, 4096])
def test_groups_are_nearer_than_chance(part_size, monkeypatch):
    monkeypatch.setattr(batch_plan, "_PART_SIZE", part_size)
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(20, 8)) * 3
    vectors = (centres[rng.permutation(400) % 20] + rng.normal(size=(400, 8))).astype(np.float32)
    mined = spread(vectors, mine(vectors, 10))
    chance = spread(vectors, np.split(rng.permutation(400), 40))
    assert mined < 0.6 * chance


def test_the_very_nearest_and_near_duplicates_do_not_meet():
    rng = np.random.default_rng(2)
    pairs = np.repeat(rng.normal(size=(60, 8)), 2, axis=0)  # 2i and 2i + 1 show the same
    vectors = (pairs + rng.normal(size=(120, 8)) * 0.01).astype(np.float32)
    for settings in ({"drop_nearest": 1}, {"max_similarity": 0.99}):
        groups = mine(vectors, 8, **settings)
        assert all(len(set(group // 2)) == 8 for group in groups[:10])
    meeting = sum(len(group) - len(set(group // 2)) for group in mine(vectors, 8))
    assert meeting > 40


def test_copies_of_one_video_are_grouped_all_the_same():
    groups = mine(np.ones((9, 2), dtype=np.float32), 3, drop_nearest=20, max_similarity=0.9)
    assert sorted(map(len, groups)) == [3, 3, 3]


def test_a_seed_of_the_generator_is_a_plan():
    vectors = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    first, again, other = mine(vectors, 5), mine(vectors, 5), mine(vectors, 5, seed=1)
    assert [g.tolist() for g in first] == [g.tolist() for g in again]
    assert [g.tolist() for g in first] != [g.tolist() for g in other]


def test_too_near_is_mutual():
    # The nearest of 1.0 is 0.1, whose own nearest is 0.0.
    vectors = torch.tensor([[0.0], [0.1], [1.0]])
    distances, too_near = batch_plan._compare(vectors, PlanConfig(drop_nearest=1))
    assert np.allclose(distances, [[0, 0.1, 1], [0.1, 0, 0.9], [1, 0.9, 0]])
    assert too_near.tolist() == [[True, True, False], [True, True, True], [False, True, True]]


def test_a_video_belongs_to_the_part_with_the_nearest_centre(monkeypatch):
    # Products alone would put all into the part of the longest vectors.
    monkeypatch.setattr(batch_plan, "_PART_SIZE", 20)
    vectors = torch.linspace(0.9, 1.1, 40)[:, None] * torch.tensor([1.0, 10.0]).repeat(20)[:, None]
    for seed in range(5):
        parts = batch_plan._parts(vectors, np.random.default_rng(seed))
        assert sorted(map(sorted, parts)) == [[*range(0, 40, 2)], [*range(1, 40, 2)]]


def test_each_part_begins_with_a_video_of_its_own(monkeypatch):
    monkeypatch.setattr(batch_plan, "_PART_SIZE", 1)
    vectors = torch.arange(8.0)[:, None] ** 2
    for seed in range(20):
        parts = batch_plan._parts(vectors, np.random.default_rng(seed))
        assert sorted(part.tolist() for part in parts) == [[video] for video in range(8)]
