"""The map from the paper to the code names files and settings that exist."""

import importlib
import re
from pathlib import Path

import pytest

import videoclip

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "paper-to-code.md").read_text(encoding="utf-8")
PACKAGE = Path(videoclip.__file__).parent


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w/]+\.py)`", TEXT))))
def test_every_file_exists(name):
    assert (ROOT / name if name.startswith("tests/") else PACKAGE / name).is_file()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(\w+Config)\.(\w+)", TEXT))))
def test_every_setting_exists(name):
    from videoclip import config

    owner, field = name
    assert field in getattr(config, owner).__dataclass_fields__


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(videoclip(?:\.\w+)+)", TEXT))))
def test_every_function_exists(name):
    module, _, member = name.rpartition(".")
    if name.startswith("videoclip.VideoCLIP."):
        assert hasattr(videoclip.VideoCLIP, member)
    else:
        assert hasattr(importlib.import_module(module), member)
