import json
import sys
from types import SimpleNamespace

import pytest

from tests.features.toy_backbones import MeanColour
from videoclip.distributed import choose_device
from videoclip.errors import CheckpointError, ConfigError
from videoclip.features.backbones import BACKBONES, Backbone, load_backbone


@pytest.fixture
def loaded(monkeypatch):
    """Put a toy in the place of the backbone `s3d`, and record how it is loaded."""
    calls = []

    def load(source, device):
        calls.append((source, device))
        return MeanColour()

    name = "videoclip.features.backbones.s3d"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(load=load))
    return calls


def test_a_name_with_and_without_a_source(loaded):
    assert isinstance(load_backbone("s3d"), Backbone)
    load_backbone("s3d:a/folder:b", "cpu:0")
    assert loaded == [(None, choose_device("auto")), ("a/folder:b", "cpu:0")]


def test_a_folder_says_what_it_holds(loaded, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"backbone": "s3d"}))
    load_backbone(tmp_path)
    assert loaded == [(str(tmp_path), choose_device("auto"))]


@pytest.mark.parametrize("content", ["", "[]", "{}"])
def test_a_folder_that_does_not_say(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match="write 'image:"):
        load_backbone(tmp_path)


def test_unknown_names_get_a_hint():
    with pytest.raises(ConfigError, match="unknown backbone 'startr'; perhaps you meant 'starter'"):
        load_backbone("startr")
    with pytest.raises(
        ConfigError, match="known: image, motion, s3d, starter, video, or a backbone's"
    ):
        load_backbone("zzz")


def test_the_toy_is_a_backbone():
    assert isinstance(MeanColour(), Backbone)
    assert BACKBONES == ("image", "motion", "s3d", "starter", "video")
