"""What a probe on cheap pixel features can read: attributes from one frame, actions from two."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from videoclip.synthetic.render import Scene
from videoclip.synthetic.world import (
    ACTIONS,
    COLOURS,
    PLACES,
    SHAPES,
    SyntheticConfig,
    SyntheticWorld,
)

NUM_VIDEOS = 180
CELLS = 8


class Looks:
    """Two frames, a second apart, of every step of some videos, with and without the step."""

    def __init__(self, world):
        pairs, scenes, steps, videos = [], [], [], []
        for index in range(NUM_VIDEOS):
            video = world.video(index)
            scene = Scene(video, world.config)
            empty = Scene(replace(video, shown=()), world.config)
            rng = np.random.default_rng(index)
            for shown in video.shown:
                first = rng.uniform(shown.start, shown.end - 1)
                pairs.append([scene.at(t) / 255 for t in (first, first + 1)])
                scenes.append([empty.at(t) / 255 for t in (first, first + 1)])
                steps.append(shown.step)
                videos.append(video)
        self.pairs = np.asarray(pairs, np.float32)  # (N, 2, H, W, 3)
        self.heroes = np.abs(self.pairs - np.asarray(scenes, np.float32)).max(axis=4)
        self.steps, self.videos = steps, videos
        # Either frame of a pair, at random: early and late parts of a step are equally likely.
        self.one = np.random.default_rng(0).integers(2, size=len(steps))
        self.test = np.asarray([video.index % 4 == 0 for video in videos])

    def cells(self):
        """One frame of each step, shrunk to 8 x 8 x 3 numbers."""
        frames = self.pairs[np.arange(len(self.one)), self.one]
        side = frames.shape[1] // CELLS
        shrunk = frames.reshape(len(frames), CELLS, side, CELLS, side, 3).mean(axis=(2, 4))
        return shrunk.reshape(len(frames), -1)

    def geometry(self):
        """Where the hero is in each frame of a pair, how large and how wide: (N, 2, 5)."""
        weight = np.clip(self.heroes - 0.1, 0, None)
        y, x = (np.mgrid[: weight.shape[2], : weight.shape[3]] + 0.5) / weight.shape[2] - 0.5
        mass = weight.sum(axis=(2, 3)) + 1e-6
        means = [(weight * axis).sum(axis=(2, 3)) / mass for axis in (x, y)]
        spreads = [
            np.sqrt((weight * (axis - mean[..., None, None]) ** 2).sum(axis=(2, 3)) / mass)
            for axis, mean in zip((x, y), means, strict=True)
        ]
        return np.stack([*means, *spreads, np.log(mass)], axis=2)


@pytest.fixture(scope="module")
def looks():
    return Looks(SyntheticWorld(SyntheticConfig(seed=3, pixels=48)))


def accuracy(features, answers, test, penalty):
    """Fit a linear probe (ridge regression on one-hot answers) and return its hits on `test`."""
    features = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    features = np.column_stack([features, np.ones(len(features))])
    names, answers = np.unique(answers, return_inverse=True)
    known, targets = features[~test], np.eye(len(names))[answers[~test]]
    grown = known.T @ known + penalty * np.eye(known.shape[1])
    guesses = (features @ np.linalg.solve(grown, known.T @ targets)).argmax(axis=1)
    return (guesses == answers)[test]


def with_products(features):
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    i, j = np.triu_indices(features.shape[1])
    return np.column_stack([features, features[:, i] * features[:, j]])


def test_attributes_are_readable_from_one_frame(looks):
    cells = looks.cells()
    for found, names, least in (
        ([s.colour for s in looks.steps], COLOURS, 0.3),
        ([s.shape for s in looks.steps], SHAPES, 0.15),
        ([v.task.place for v in looks.videos], PLACES, 0.6),
    ):
        hits = accuracy(cells, np.asarray(found), looks.test, penalty=100)
        assert hits.mean() > least > 1 / len(names)


def test_an_action_and_its_opposite_differ_in_time_alone(looks):
    geometry = looks.geometry()
    paths = np.asarray([ACTIONS[s.action][0] for s in looks.steps])
    forwards = np.asarray([ACTIONS[s.action][1] for s in looks.steps])
    one, two = [], []
    for path in sorted(set(paths)):
        of = paths == path
        frame = geometry[of, looks.one[of]]
        both = geometry[of].reshape(of.sum(), -1)
        one.append(accuracy(with_products(frame), forwards[of], looks.test[of], 10))
        two.append(accuracy(with_products(both), forwards[of], looks.test[of], 10))
    hits = np.concatenate(one)
    margin = 2.6 * 0.5 / np.sqrt(len(hits))  # 99 % of fair coins
    assert abs(hits.mean() - 0.5) < margin
    assert np.concatenate(two).mean() > 0.65
