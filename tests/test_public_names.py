"""The public names are what is visible, nothing else, and importing them costs nothing."""

import subprocess
import sys

import pytest

import videoclip


@pytest.mark.parametrize("name", videoclip.__all__)
def test_public_names_load(name):
    assert getattr(videoclip, name).__module__.startswith("videoclip")


def test_what_is_public_is_visible():
    assert sorted(videoclip.__all__) == videoclip.__all__
    assert {n for n in dir(videoclip) if not n.startswith("_")} == set(videoclip.__all__)


def test_importing_the_package_imports_nothing_else():
    code = "import sys, videoclip; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'VideoClip'"):
        _ = videoclip.VideoClip
