"""Describing what the other commands write."""

import json
import os

import numpy as np
import pytest

from tests.library.colours import ColourEmbedder
from tests.make_video import write_video
from tests.model.tiny_models import make_model
from videoclip.cli import main
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.data.frame_store import FrameSpec, FrameStore
from videoclip.errors import CheckpointError, DataError
from videoclip.info import _call_apart, describe
from videoclip.library.library import VideoLibrary
from videoclip.synthetic.world import SyntheticConfig
from videoclip.synthetic.write import write_world

SPEC = FeatureSpec(
    dim=12, features_per_second=1.0, backbone="test", normalized=True, fingerprint="x"
)


def test_a_model(tmp_path):
    make_model().save_pretrained(tmp_path)
    facts = describe(tmp_path)
    assert (facts["kind"], facts["hidden_size"]) == ("model", 16)


def test_a_store(tmp_path):
    with FeatureStore.create(tmp_path, SPEC) as store:
        store.append("a", np.zeros((5, 12)))
    facts = describe(tmp_path)
    assert (facts["kind"], facts["videos"], facts["features"]) == ("feature store", 1, 5)


def test_a_store_whose_index_was_cut_is_not_taken_for_a_smaller_one(tmp_path):
    with FeatureStore.create(tmp_path, SPEC) as store:
        for number, name in enumerate("abc", start=1):
            store.append(name, np.zeros((number, 12)))
        assert store.num_unfinished == 0
    index = tmp_path / "index.bin"
    os.truncate(index, index.stat().st_size // 3 * 2 - 1)
    with pytest.warns(UserWarning, match="5 features at the end belong to no video: .*extract"):
        assert describe(tmp_path)["videos"] == 1


def test_a_store_of_frames(tmp_path):
    frames = FrameSpec(height=4, width=6, frames_per_second=1.0, resize="squash")
    FrameStore.open_or_create(tmp_path, frames)
    facts = describe(tmp_path)
    assert (facts["kind"], facts["videos"], facts["width"]) == ("frame store", 0, 6)


def test_an_ablation(tmp_path):
    (tmp_path / "table.json").write_text("[{}, {}]")
    assert describe(tmp_path)["kind"] == "ablation" and describe(tmp_path)["rows"] == 2


def test_a_library_knows_its_hours(library, videos):
    library.update(videos)
    hours = describe(library.folder)["hours"]
    assert hours == pytest.approx((32 + 35 + 3) / 3600, abs=0.005)


@pytest.mark.parametrize("store", ["sqlite", "lance"])
def test_a_library_in_either_store(tmp_path, store):
    if store == "lance":
        pytest.importorskip(
            "lancedb", reason="needs the extra `lance`; `make test-all` installs it"
        )
    VideoLibrary(tmp_path / "l", ColourEmbedder(), model="colours", store=store).close()
    facts = describe(tmp_path / "l")
    assert (facts["kind"], facts["storage"], facts["videos"]) == ("library", store, 0)
    assert facts["model"] == "colours"


def test_a_run(tmp_path):
    (tmp_path / "config.json").write_text('{"name": "tiny"}')
    (tmp_path / "log.jsonl").write_text('{"update": 0, "loss": 2.5}\n')
    facts = describe(tmp_path)
    assert (facts["kind"], facts["updates"], facts["last loss"]) == ("pre-training run", 1, 2.5)
    assert facts["model"] == "not finished"


def test_a_damaged_run_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"name": ')
    (tmp_path / "log.jsonl").touch()
    with pytest.raises(CheckpointError, match=r"config\.json is damaged .*: restore the file"):
        describe(tmp_path)


def test_a_world(tmp_path):
    write_world(tmp_path, SyntheticConfig(pixels=32), 1, workers=1)
    facts = describe(tmp_path)
    assert (facts["kind"], facts["videos"], facts["pixels"]) == ("synthetic world", 1, 32)


def test_files(tmp_path):
    facts = describe(write_video(tmp_path / "a.mp4"))
    assert (facts["kind"], facts["num_frames"]) == ("video", 30)
    subtitles = tmp_path / "a.srt"
    subtitles.write_text("1\n00:00:01,000 --> 00:00:02,000\nhello there\n")
    facts = describe(subtitles)
    assert (facts["kind"], facts["words"], facts["end"]) == ("subtitles", 2, 2.0)


def test_nothing_of_ours(tmp_path):
    with pytest.raises(DataError, match="videoclip index"):
        describe(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        describe(tmp_path / "absent")


def test_as_text_and_as_json(tmp_path, capsys):
    make_model().save_pretrained(tmp_path)
    assert main(["info", str(tmp_path)]) == 0
    assert "hidden_size" in capsys.readouterr().out
    assert main(["info", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "model"


def crash(address):
    os._exit(134)


def test_tables_that_crash_lancedb_are_damage_and_the_next_library_is_read():
    """A flipped bit in a length makes LanceDB ask for too much memory and abort."""
    with pytest.raises(DataError, match="LanceDB crashes on the tables of this library: index in"):
        _call_apart(crash, "library")
    assert _call_apart(str, "library") == "library"
