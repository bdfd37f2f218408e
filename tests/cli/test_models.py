"""`videoclip models`, and what commands use without --model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_dual_encoders import save
from videoclip.cli import main
from videoclip.data.feature_store import FeatureStore
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError
from videoclip.library.library import VideoLibrary
from videoclip.pretrained.known import ALIASES, KNOWN, cached_folder, default_model, full_name


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


@pytest.fixture
def video(videos):
    """One of the small videos."""
    return min(videos.rglob("*.mp4"))


def put(cache, hub_id, family="clip"):
    """Put a tiny model into the cache under another name."""
    folder = cache / f"models--{hub_id.replace('/', '--')}"
    save(family, folder / "snapshots" / "abc")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    return folder / "snapshots" / "abc"


def test_the_table_is_complete_and_every_number_has_a_source(cache, capsys):
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    for model in KNOWN:
        assert model.alias in out and model.hub_id in out and model.licence in out
        assert model.source.startswith("https://")
        assert model.million_parameters > 100 and model.seconds_per_hour > 100
    assert "default: starter" in out
    assert len(ALIASES) == len(KNOWN) == len(set(ALIASES.values()))


def test_the_page_shows_the_table(cache, capsys):
    assert main(["models"]) == 0
    page = Path(__file__).parents[2] / "docs" / "models.md"
    assert capsys.readouterr().out.strip() in page.read_text(encoding="utf-8")


def test_the_best_model_present_is_the_default(cache, capsys):
    assert default_model() == "starter"
    put(cache, ALIASES["clip-base"])
    assert default_model() == ALIASES["clip-base"]
    best = put(cache, ALIASES["siglip2-base"])
    own = put(cache, "somebody/own", "align")
    assert default_model() == ALIASES["siglip2-base"]
    assert main(["models", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["default"] == ALIASES["siglip2-base"]
    assert content["present"]["somebody/own"] == str(own)
    assert {m["alias"] for m in content["models"] if m["present"]} == {"clip-base", "siglip2-base"}
    assert main(["models"]) == 0
    assert f"also present: somebody/own ({own})" in capsys.readouterr().out
    (best / "model.safetensors").unlink()  # a download that was interrupted
    assert cached_folder(ALIASES["siglip2-base"]) is None
    assert default_model() == ALIASES["clip-base"]


def test_a_short_name_is_a_hub_id_unless_there_is_such_a_folder(cache, tmp_path):
    assert full_name("clip-base") == "openai/clip-vit-base-patch32"
    assert full_name("somebody/own") == "somebody/own"
    (tmp_path / "clip-base").mkdir()
    assert full_name("clip-base") == "clip-base"


def test_commands_say_which_model_they_chose(cache, video, capsys):
    put(cache, ALIASES["clip-base"])
    assert main(["segment", str(video), "--label", "dog", "--label", "cat"]) == 0
    err = capsys.readouterr().err
    assert "videoclip: model: openai/clip-vit-base-patch32 (the best one here" in err
    assert main(["index", str(video), "--library", "L", "--workers", "0"]) == 0
    assert "videoclip: model: openai/clip-vit-base-patch32" in capsys.readouterr().err
    put(cache, ALIASES["siglip2-base"], "siglip")  # a better one: the library keeps its own
    for command in (["index", str(video), "--workers", "0"], ["search", "a dog"]):
        assert main([*command, "--library", "L"]) == 0
        assert "videoclip: model" not in capsys.readouterr().err
    assert main(["search", "a dog", "--library", "L", "--model", "siglip2-base"]) == 1
    assert "made by model 'openai/clip-vit-base-patch32', not" in capsys.readouterr().err


def test_features_name_their_model(cache, video, tmp_path, capsys):
    put(cache, ALIASES["clip-base"])
    assert main(["extract", str(video), "--features", "F", "--backbone", "image:clip-base"]) == 0
    table = tmp_path / "own.csv"
    table.write_text(f"video,text\n{video.stem},a dog\n")
    assert main(["evaluate", "csv", "--features", "F", "--annotations", str(table)]) == 0


def test_the_table_needs_neither_torch_nor_transformers(cache):
    code = (
        "import sys; from videoclip.cli import main; main(['models']);"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_several_frames_a_second_are_stored_with_features_and_library(cache, video, capsys):
    put(cache, ALIASES["clip-base"])
    twice = ["--frames-per-second", "2"]
    assert main(["index", str(video), "--library", "L", "--workers", "2", *twice]) == 0
    with VideoLibrary.open("L", must_exist=True) as library:  # as `search` opens it
        assert library.embedder.config.features_per_second == 2.0
        (indexed,) = library.videos()
        assert indexed.num_features == pytest.approx(2 * indexed.duration, abs=1)
    assert main(["search", "a dog", "--library", "L"]) == 0
    capsys.readouterr()
    assert main(["index", str(video), "--library", "L", "--frames-per-second", "4"]) == 1
    assert "features_per_second 2.0, here 4.0" in capsys.readouterr().err
    name = ["--backbone", "image:clip-base"]
    assert main(["extract", str(video), "--features", "F", *name, *twice]) == 0
    with FeatureStore.open("F") as store:
        assert store.spec.features_per_second == 2.0
    capsys.readouterr()
    assert main(["extract", str(video), "--features", "F", *name]) == 1
    assert "features" in capsys.readouterr().err
    assert main(["index", str(video), "--library", "L3", "--features", "F"]) == 1
    assert "features per second 2.0, not 1.0" in capsys.readouterr().err
    assert main(["index", str(video), "--library", "L4", "--features", "F", *twice]) == 0
    status = main(["index", str(video), "--library", "L", "--rebuild"])
    assert status == 0, capsys.readouterr().err
    with VideoLibrary.open("L", must_exist=True) as library:
        assert library.embedder.config.features_per_second == 1.0


def test_the_starter_takes_several_frames_a_second_too(cache, video):
    usual, twice = (
        Embedder.from_pretrained("starter", "cpu", frames_per_second=rate) for rate in (None, 2)
    )
    assert len(twice.embed_video(video).tokens) == 2 * len(usual.embed_video(video).tokens)
    assert twice.fingerprint != usual.fingerprint


def test_a_trained_model_keeps_its_rate(cache, tmp_path):
    Embedder.from_pretrained("starter", "cpu").save_pretrained(tmp_path / "model")
    with pytest.raises(ConfigError, match="was trained on 1 features a second, which cannot be"):
        Embedder.from_pretrained(tmp_path / "model", "cpu", frames_per_second=2)
