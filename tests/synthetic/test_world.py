from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videoclip.config import from_dict, to_dict
from videoclip.errors import ConfigError
from videoclip.synthetic.world import (
    ACTIONS,
    COLOURS,
    OPPOSITE,
    SHAPES,
    SyntheticConfig,
    SyntheticWorld,
)


def test_opposites_share_a_path_and_undo_each_other():
    for action, (path, forwards) in ACTIONS.items():
        assert ACTIONS[OPPOSITE[action]] == (path, not forwards)
        assert OPPOSITE[OPPOSITE[action]] == action


def test_a_video_depends_on_nothing_but_its_index():
    config = SyntheticConfig(seed=5, twin_share=0.3)
    forwards, backwards = SyntheticWorld(config), SyntheticWorld(config)
    videos = [forwards.video(i) for i in range(30)]
    assert videos == [backwards.video(i) for i in reversed(range(30))][::-1]
    assert len(set(videos)) == 30
    assert SyntheticWorld(SyntheticConfig(seed=6)).video(0) != videos[0]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(0, 5000),
    st.tuples(st.integers(1, 4), st.integers(4, 12)),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_scenarios_keep_the_rules(seed, index, steps_per_video, twin_share):
    config = SyntheticConfig(
        seed=seed, num_tasks=6, num_new_tasks=2, num_steps=30,
        steps_per_video=steps_per_video, twin_share=min(twin_share, index / 10),
    )  # fmt: skip
    world = SyntheticWorld(config)
    video = world.video(index)
    order = [step.step_id for step in video.task.steps]
    shown = [s.step.step_id for s in video.shown]
    assert shown == sorted(shown, key=order.index)
    assert len(set(shown)) == len(shown) <= steps_per_video[1]
    edges = [0.0, *(t for s in video.shown for t in (s.start, s.end)), video.duration]
    for gap, length in zip(range(0, len(edges), 2), range(1, len(edges) - 1, 2), strict=False):
        low, high = config.gap_seconds
        assert low - 0.02 <= edges[gap + 1] - edges[gap] <= high + 0.02
        low, high = config.step_seconds
        assert low - 0.02 <= edges[length + 1] - edges[length] <= high + 0.02
    heroes = {(s.step.colour, s.step.shape) for s in video.shown}
    assert not heroes & {(d.colour, d.shape) for d in video.distractors}
    assert video.split == world.split(video.root)
    assert video.shown[0].step == world.video(video.root).shown[0].step


def test_training_never_shows_a_held_out_combination():
    world = SyntheticWorld(SyntheticConfig(seed=2))
    videos = [world.video(i) for i in range(400)]
    train = [v for v in videos if v.split == "train"]
    test = [v for v in videos if v.split == "test"]
    assert len(test) == 80
    for video in train:
        assert not video.task.new
        for step in (s.step for s in video.shown):
            assert (step.action, step.shape) not in world.held_out_actions
            assert (step.colour, step.shape) not in world.held_out_colours
            assert not step.held_out
        assert not {(d.colour, d.shape) for d in video.distractors} & world.held_out_colours
    steps = [s.step for v in train for s in v.shown]
    assert {s.action for s in steps} == set(ACTIONS)
    assert {s.colour for s in steps} == set(COLOURS)
    assert {s.shape for s in steps} == set(SHAPES)
    held_out = [s.step.held_out for v in test for s in v.shown]
    assert 0.15 < sum(held_out) / len(held_out) < 0.4
    seen_tasks = {v.task.task_id for v in train}
    assert any(v.task.task_id in seen_tasks for v in test)
    assert all(v.task.task_id not in seen_tasks for v in test if v.task.new)


def test_steps_are_shared_between_tasks():
    world = SyntheticWorld(SyntheticConfig())
    uses = [step.step_id for task in world.tasks for step in task.steps]
    assert len(uses) > 2 * len(set(uses))
    assert len(set(world.steps)) == len(world.steps)
    assert [s.step_id for s in world.steps] == list(range(len(world.steps)))


def test_every_task_has_an_undoing_that_shows_the_same_frames_in_another_order():
    world = SyntheticWorld(SyntheticConfig(num_tasks=10, num_new_tasks=4))
    for task, undoing in zip(world.tasks[::2], world.tasks[1::2], strict=True):
        assert (task.place, task.new) == (undoing.place, undoing.new)
        assert [world.opposite(s) for s in task.steps] == list(reversed(undoing.steps))
        for step in task.steps:
            opposite = world.opposite(step)
            assert opposite.action == OPPOSITE[step.action]
            assert (opposite.colour, opposite.pattern, opposite.shape, opposite.held_out) == (
                step.colour, step.pattern, step.shape, step.held_out,
            )  # fmt: skip


def test_twins_are_near_equal_and_only_where_asked_for():
    alone = SyntheticWorld(SyntheticConfig())
    assert all(alone.video(i).root == i for i in range(100))
    world = SyntheticWorld(SyntheticConfig(twin_share=0.5))
    twins = [v for v in map(world.video, range(200)) if v.root != v.index]
    assert 70 < len(twins) < 120
    for twin in twins:
        original = world.video(twin.root)
        assert original.root == original.index
        assert [s.step for s in twin.shown] == [s.step for s in original.shown]
        assert twin.distractors == original.distractors
        assert twin.shown != original.shown
        assert abs(twin.duration - original.duration) < 0.2 * original.duration


def test_configuration_survives_a_file():
    config = SyntheticConfig(seed=3, step_seconds=(2.0, 5.0), rolling_captions=False)
    assert from_dict(SyntheticConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"steps_per_task": (5, 4)}, "steps_per_task must be a positive range, got 5 to 4"),
        ({"gap_seconds": (0.0, 4.0)}, "gap_seconds"),
        ({"twin_share": 1.5}, r"twin_share must be in \[0, 1\]"),
        ({"off_topic_share": 1.0}, r"off_topic_share must be in \[0, 1\)"),
        ({"num_steps": 16}, r"num_steps must be in \[18, "),
        ({"num_steps": 25}, "num_steps must be even and positive, got 25"),
        ({"num_tasks": 0}, "num_tasks"),
        ({"num_new_tasks": 0}, "num_new_tasks"),
        ({"seed": -1}, "seed"),
        ({"lead_sd_seconds": -1.0}, "lead_sd_seconds"),
        ({"max_distractors": 0}, "max_distractors"),
        ({"pixels": 65}, "pixels must be even"),
        ({"frames_per_second": 0}, "frames_per_second"),
    ],
)
def test_senseless_settings_are_named(setting, message):
    with pytest.raises(ConfigError, match=message):
        SyntheticConfig(**setting)
