from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videoclip.synthetic.drawing import Sprite, lid, outline, paste, place_texture, post, sprite
from videoclip.synthetic.world import COLOURS, PATTERNS, PLACES, SHAPES


def naive_paste(frame, cut_out, x, y):
    height, width = cut_out.clear.shape[:2]
    left, top = round(x - width / 2), round(y - height / 2)
    for i in range(height):
        for j in range(width):
            if 0 <= top + i < frame.shape[0] and 0 <= left + j < frame.shape[1]:
                for c in range(3):
                    old = int(frame[top + i, left + j, c]) * int(cut_out.clear[i, j, 0])
                    new = (old + int(cut_out.paint[i, j, c])) / 255
                    frame[top + i, left + j, c] = int(new + 127 / 255)


@settings(max_examples=40, deadline=None)
@given(st.floats(-12, 32), st.floats(-12, 32), st.integers(3, 9), st.integers(0, 99))
def test_pasting_equals_the_loop_over_pixels(x, y, radius, seed):
    frame = np.random.default_rng(seed).integers(0, 256, (20, 22, 3)).astype(np.uint8)
    expected = frame.copy()
    cut_out = sprite("red", "striped", "star", radius)
    paste(frame, cut_out, x, y)
    naive_paste(expected, cut_out, x, y)
    np.testing.assert_array_equal(frame, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_are_inside_the_square_and_solid_somewhere(shape):
    axis = np.linspace(-1.4, 1.4, 141, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    distance = outline(shape, x, y)
    assert 0.1 < (distance < 0).mean() < 0.6
    assert distance[np.maximum(abs(x), abs(y)) > 1.25].min() > 0
    # A distance never changes faster than one walks.
    assert np.abs(np.diff(distance, axis=1)).max() < 0.021


def test_no_two_objects_look_alike():
    looks = {
        sprite(colour, pattern, shape, 12).paint.tobytes()
        for colour in COLOURS
        for pattern in PATTERNS
        for shape in SHAPES
    }
    assert len(looks) == len(COLOURS) * len(PATTERNS) * len(SHAPES)


def test_filling_uncovers_a_sprite_from_below():
    whole = sprite("blue", "plain", "box", 10)
    assert np.array_equal(whole.below(1.0).paint, whole.paint)
    assert (whole.below(0.0).clear == 255).all()
    half = whole.below(0.5)
    middle = len(whole.paint) // 2
    assert (half.clear[:middle] == 255).all()
    assert np.array_equal(half.paint[middle + 1 :], whole.paint[middle + 1 :])


def test_cloth_and_post_hide_what_is_behind():
    frame = np.zeros((40, 40, 3), np.uint8)
    for cut_out in (lid(15), post(8, 30)):
        assert isinstance(cut_out, Sprite)
        assert (cut_out.clear == 0).all()
        paste(frame, cut_out, 20, 20)
    assert frame[20, 20].min() > 60


@pytest.mark.parametrize("place", PLACES)
def test_places_differ_from_video_to_video_and_are_lit_from_the_upper_left(place):
    one, again, other = (place_texture(place, 48, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    means = [
        np.mean([place_texture(place, 48, np.random.default_rng(s))[rows, rows] for s in range(5)])
        for rows in (slice(0, 20), slice(28, 48))
    ]
    assert means[0] > means[1]
