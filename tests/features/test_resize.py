import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoclip.errors import ConfigError
from videoclip.features.decode import CentreCrop, Fit, ShorterSide, Squash

sides = st.integers(1, 5000)


def test_squash_takes_any_shape_to_the_same():
    assert Squash(224, 100).scaled(1280, 720) == (224, 100)
    assert Squash(224, 100).crop is None


def test_centre_crop_scales_the_shorter_side():
    assert CentreCrop(256, 224).scaled(1280, 720) == (455, 256)
    assert CentreCrop(256, 224).scaled(720, 1280) == (256, 455)
    assert CentreCrop(256, 224).crop == 224


def test_fit_keeps_the_aspect_and_never_enlarges():
    assert Fit(320).scaled(1280, 720) == (320, 180)
    assert Fit(320).scaled(720, 1280) == (180, 320)
    assert Fit(320).scaled(100, 50) == (100, 50)


def test_shorter_side_keeps_all_of_the_picture():
    assert ShorterSide(240).scaled(1280, 720) == (427, 240)
    assert ShorterSide(240).scaled(100, 200) == (240, 480)
    assert ShorterSide(240).crop is None


@given(sides, sides)
def test_the_crop_always_fits(width, height):
    rule = CentreCrop(64, 64)
    assert min(rule.scaled(width, height)) == 64


@given(sides, sides)
def test_fit_is_never_empty_nor_too_large(width, height):
    scaled = Fit(7).scaled(width, height)
    assert min(scaled) >= 1
    assert max(scaled) <= 7


@pytest.mark.parametrize("make", [lambda: Squash(0, 3), lambda: Fit(-1), lambda: CentreCrop(2, 3)])
def test_senseless_sizes_are_refused(make):
    with pytest.raises(ConfigError):
        make()
