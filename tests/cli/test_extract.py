import json
import re
import sys
from types import SimpleNamespace

import pytest

from tests.features.toy_backbones import MeanColour
from tests.make_video import write_video
from videoclip.cli import main
from videoclip.data.feature_store import FeatureStore


@pytest.fixture
def extract(tmp_path, monkeypatch):
    """Run `videoclip extract FOLDER --features F ...` with a toy in the place of S3D."""
    toy = SimpleNamespace(load=lambda source, device: MeanColour())
    monkeypatch.setitem(sys.modules, "videoclip.features.backbones.s3d", toy)
    folder = tmp_path / "videos"
    folder.mkdir()
    write_video(folder / "a.mp4", 20)
    common = ["--features", str(tmp_path / "store"), "--backbone", "s3d", "--workers", "0"]
    return lambda *more: main(["extract", str(folder), *more, *common])


def test_it_adds_then_skips(extract, tmp_path, capsys):
    assert extract() == 0
    out, err = capsys.readouterr()
    assert "1 added (2 s of video" in out
    assert "0 already there, 0 failed" in out
    assert "failed:" not in err
    assert extract() == 0
    assert "0 added (0 s of video, 0x real time), 1 already there" in capsys.readouterr().out
    with FeatureStore.open(tmp_path / "store") as store:
        assert store.video_ids == ["a"]


def test_the_speed_is_shown_within_a_video_on_a_terminal(extract, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert extract() == 0
    lines = [line.removesuffix("\x1b[K") for line in capsys.readouterr().err.split("\r")]
    assert lines[1] == "0 of 1 videos"
    assert re.fullmatch(r"0 of 1 videos, 1 s of video, [\d,]+x real time", lines[2])
    assert re.fullmatch(r"0 of 1 videos, 2 s of video, [\d,]+x real time", lines[3])
    assert re.fullmatch(r"1 of 1 videos, 2 s of video, [\d,]+x real time\x1b\[K\n", lines[4])


def test_failures_are_listed_and_the_rest_is_done(extract, tmp_path, capsys):
    bad = tmp_path / "bad.mp4"
    bad.write_text("text")
    assert extract(str(bad)) == 1
    out, err = capsys.readouterr()
    assert "1 added" in out
    assert "1 failed" in out
    assert err.splitlines()[-1].startswith(f"videoclip: failed: {bad}: not a video")


def test_json(extract, tmp_path, capsys):
    bad = tmp_path / "bad.mp4"
    bad.write_text("text")
    assert extract(str(bad), "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["done"] == ["a"]
    assert report["skipped"] == []
    assert list(report["failed"]) == [str(bad)]
    assert report["video_seconds"] == 2.0


def test_an_unknown_backbone_is_one_line(tmp_path, capsys):
    write_video(tmp_path / "a.mp4", 5)
    arguments = [
        "extract",
        str(tmp_path),
        "--features",
        str(tmp_path / "s"),
        "--backbone",
        "starte",
    ]
    assert main(arguments) == 1
    assert "perhaps you meant 'starter'" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
