from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from videoclip.synthetic.render import Scene, frame_times, frames, path_position, write_video
from videoclip.synthetic.world import ACTIONS, OPPOSITE, SyntheticConfig, SyntheticWorld


@pytest.fixture(scope="module")
def world():
    return SyntheticWorld(SyntheticConfig(seed=4, pixels=64))


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_is_its_opposite_backwards(world, action):
    shown = world.video(0).shown[0]
    there = replace(shown, step=replace(shown.step, action=action))
    back = replace(shown, step=replace(shown.step, action=OPPOSITE[action]))
    for passed in np.linspace(0.013, 0.98, 17) * (shown.end - shown.start):
        one = path_position(there, 2, shown.start + passed)
        assert path_position(back, 2, shown.end - passed) == pytest.approx(one)
        assert 0 <= one <= 1


def test_whole_runs_visit_every_part_of_the_path_equally(world):
    shown = world.video(0).shown[0]
    times = np.linspace(shown.start, shown.end, 3000, endpoint=False)
    visited = [path_position(shown, 3, t) for t in times]
    assert np.histogram(visited, 10, (0, 1))[0] == pytest.approx(300, abs=3)


def test_a_step_is_performed_from_its_start_until_just_before_its_end(world, monkeypatch):
    video, performed = world.video(1), []
    scene = Scene(video, world.config)
    monkeypatch.setattr(scene, "_perform", lambda *arguments: performed.append(arguments[3]))
    for shown in video.shown:
        for seconds in (shown.start - 0.01, shown.start, shown.end - 0.01, shown.end):
            scene.at(seconds)
    assert performed == [s for shown in video.shown for s in (shown.start, shown.end - 0.01)]


def test_short_steps_run_along_their_path_once():
    quick = SyntheticWorld(SyntheticConfig(seed=4, pixels=64, step_seconds=(1.0, 2.0)))
    scene = Scene(quick.video(0), quick.config)
    assert {stage.cycles for stage in scene._stages} == {1}


def test_frames_are_the_scene_at_the_middle_of_each_interval(world):
    video, config = world.video(1), world.config
    drawn = frames(video, config, per_second=2)
    assert drawn.shape == (round(2 * video.duration), 64, 64, 3)
    assert drawn.dtype == np.uint8
    scene = Scene(video, config)
    for k in (0, 7, 30):
        assert np.array_equal(drawn[k], scene.at((k + 0.5) / 2))
    assert np.array_equal(frames(video, config, 2)[5], drawn[5])


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_is_visible_and_over_only_outside_its_span(world, action):
    video = world.video(0)
    shown = video.shown[0]
    acted = replace(shown, step=replace(shown.step, action=action))
    scene = Scene(replace(video, shown=(acted, *video.shown[1:])), world.config)
    empty = Scene(replace(video, shown=()), world.config)
    during = np.linspace(shown.start, shown.end, 12, endpoint=False)
    drawn = np.stack([scene.at(t) for t in during]).astype(int)
    without = np.stack([empty.at(t) for t in during]).astype(int)
    assert (np.abs(drawn - without).max(axis=3) > 30).mean(axis=(1, 2)).min() > 0.003
    before = shown.start - 0.3
    assert np.array_equal(scene.at(before), empty.at(before))


def test_a_written_video_has_the_stated_times_and_pictures(world, tmp_path):
    video, config = replace(world.video(2), duration=6.0), world.config
    path = tmp_path / "v.mp4"
    write_video(video, config, path)
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]
    times = frame_times(video, config)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 64, 64)
        decoded = list(container.decode(stream))
    assert [int(f.pts * f.time_base * 90_000) for f in decoded] == times.tolist()
    scene = Scene(video, config)
    for k in (0, 20, 50):
        drawn = scene.at((times[k] - times[0]) / 90_000).astype(int)
        shown = decoded[k].to_ndarray(format="rgb24").astype(int)
        assert np.abs(drawn - shown).mean() < 12


def test_clocks_are_those_of_cameras(world):
    config = world.config
    starts, rates, wavering = set(), set(), 0
    for video in map(world.video, range(60)):
        times = frame_times(video, config)
        assert (np.diff(times) > 0).all()
        assert abs(times[-1] / 90_000 - video.duration) < 0.4
        starts.add(int(times[0]))
        steps = set(np.diff(times).tolist())
        if len(steps) > 2:
            wavering += 1
        else:
            rates.add(Fraction(90_000, round(np.mean(np.diff(times)))))
    assert min(starts) == 0
    assert len(starts) > 10
    assert rates == {Fraction(10), Fraction(90_000, 9009)}
    assert 1 <= wavering < 20
