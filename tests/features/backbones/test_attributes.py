"""Attributes of frames against what a person would call them."""

import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videoclip.features.backbones.starter import ATTRIBUTES, COLOURS, USUAL, _colours, attributes_of

NAMED = {
    "red": (200, 20, 20),
    "orange": (240, 140, 20),
    "yellow": (250, 230, 40),
    "green": (40, 160, 40),
    "turquoise": (40, 210, 200),
    "blue": (30, 60, 200),
    "purple": (120, 30, 200),
    "pink": (250, 150, 160),
    "brown": (110, 70, 30),
    "white": (240, 240, 235),
    "grey": (128, 130, 128),
    "black": (10, 10, 12),
}


def plain(colour, height=48, width=64):
    return torch.tensor(colour, dtype=torch.uint8).expand(1, height, width, 3).contiguous()


def attributes(frames):
    return dict(zip(ATTRIBUTES, attributes_of(frames)[0].tolist(), strict=True))


@pytest.mark.parametrize("name", COLOURS)
def test_a_plain_picture_has_its_colour(name):
    found = attributes(plain(NAMED[name]))
    usual = dict(zip(COLOURS, USUAL, strict=True))
    assert found[name] == pytest.approx(1 - usual[name])
    others = [other for other in COLOURS if other != name]
    assert [found[other] for other in others] == pytest.approx([-usual[other] for other in others])


def test_half_a_picture_counts_by_its_root():
    frames = torch.cat([plain(NAMED["green"]), plain(NAMED["blue"])], dim=2)
    found = attributes(frames)
    for name in ("green", "blue"):
        assert found[name] == pytest.approx(0.5**0.5 - USUAL[COLOURS.index(name)])


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_the_circle_of_hues_is_that_of_the_standard_library(colour):
    hue, saturation, value = colorsys.rgb_to_hsv(*(x / 255 for x in colour))
    name = COLOURS[int(_colours(torch.tensor(colour, dtype=torch.float32) / 255))]
    spread = (max(colour) - min(colour)) / 255
    if value > 0.56 and spread > 0.16 and saturation > 0.6:  # neither pale, brown nor pink
        degrees = 360 * hue
        limits = {"red": 15, "orange": 42, "yellow": 68, "green": 160, "turquoise": 195}
        limits |= {"blue": 255, "purple": 290, "pink": 345, "RED": 360}
        if all(abs(degrees - limit) > 0.01 for limit in limits.values()):
            expected = next(name for name, limit in limits.items() if degrees < limit)
            assert name == expected.lower()


def test_black_and_white_dark_and_drawn():
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 1), dtype=np.uint8)
    grey = torch.from_numpy(noise.repeat(3, axis=3))
    tinted = grey.clone()
    tinted[..., 0] = tinted[..., 0].clamp(max=200) + 50
    names = ("black and white", "dark", "drawn")
    assert [attributes(grey)[name] for name in names] == [1, 0, 0]
    assert attributes(tinted)["black and white"] == 0
    flat = attributes(plain(NAMED["purple"]))
    assert [flat[name] for name in names] == [0, 0, 1]
    assert attributes(plain(NAMED["black"]))["dark"] == 1


def test_crops_of_a_frame_count_together():
    crops = torch.stack([plain(NAMED["red"])[0], plain(NAMED["white"])[0]])[None]
    together = torch.cat([plain(NAMED["red"]), plain(NAMED["white"])], dim=1)
    torch.testing.assert_close(attributes_of(crops), attributes_of(together))
