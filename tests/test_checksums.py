"""A flipped bit in anything that is kept is found, or changes nothing."""

import json
import random
import shutil

import pytest

from tests.library.colours import ColourEmbedder
from tests.model.tiny_models import make_model
from tests.training.tiny_corpus import tiny_config, tiny_corpus, tokenizer
from videoclip.cli import main
from videoclip.data.feature_store import FeatureStore
from videoclip.errors import VideoCLIPError
from videoclip.info import verify
from videoclip.library.library import VideoLibrary
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.pretrain import pretrain

FLIPS = 15


def flip(path, at):
    """Flip a bit of a file."""
    content = bytearray(path.read_bytes())
    content[at // 8] ^= 1 << at % 8
    path.write_bytes(content)


def flips(path, num=FLIPS):
    """Flip a bit of a file at a time, and undo it."""
    chance = random.Random(path.name)
    for at in [chance.randrange(8 * path.stat().st_size) for _ in range(num)]:
        flip(path, at)
        yield at
        flip(path, at)


def answers(folder):
    with VideoLibrary(folder, ColourEmbedder()) as library:
        return [
            *(moment.as_dict() for moment in library.search("red", top_k=3)),
            *(moment.as_dict() for moment in library.search("onions", top_k=3, vision=0)),
        ]


@pytest.fixture
def library_folder(library, videos):
    library.update(videos)
    library.close()
    return library.folder


def test_flipped_vectors_are_found_and_computed_again(library_folder, videos):
    expected = answers(library_folder)
    vectors = library_folder / "vectors-0.f16"
    for _ in flips(vectors):
        assert ["--repair" in problem for problem in verify(library_folder)] == [True]
        with pytest.raises(VideoCLIPError, match="vectors of 1 videos are damaged"):
            answers(library_folder)
    (features,) = library_folder.glob("features-*/features.bin")
    flip(vectors, 0)
    flip(features, 8 * features.stat().st_size - 1)
    assert len(verify(library_folder)) == 2
    with VideoLibrary(library_folder, ColourEmbedder()) as library:
        report = library.update(videos, repair=True)
        assert len(report.changed) == 1 and not report.failed
        assert not library.update(videos, repair=True).changed_library
    assert verify(library_folder) == []
    assert answers(library_folder) == expected


@pytest.mark.parametrize("name", ["background-0.npz", "calibration.npz", "catalog.sqlite"])
def test_a_flip_elsewhere_in_a_library_is_found_or_changes_no_answer(
    name, library_folder, tmp_path
):
    expected = answers(library_folder)
    copy, wrong = tmp_path / "copy", []
    for at in flips(library_folder / name):
        shutil.copytree(library_folder, copy)
        problems = verify(copy)
        try:
            if answers(copy) != expected and not problems:
                wrong.append(at)
        except VideoCLIPError as error:
            assert "\n" not in str(error)
        shutil.rmtree(copy)
    assert not wrong


def test_flipped_weights_are_found(tmp_path):
    make_model().save_pretrained(tmp_path)
    for name in ("model.safetensors", "config.json"):
        for _ in flips(tmp_path / name):
            assert len(verify(tmp_path)) == 1
            with pytest.raises(VideoCLIPError):
                VideoCLIP.from_pretrained(tmp_path)
    assert verify(tmp_path) == []


def test_a_flip_in_a_checkpoint_is_found(tmp_path):
    corpus, config = tiny_corpus(tmp_path / "store"), tiny_config(epochs=1)
    run = tmp_path / "run"
    pretrain(config, corpus, run, tokenizer=tokenizer(), show_progress=False)
    (checkpoint,) = (run / "checkpoints").iterdir()
    for name in ("optimizer.safetensors", "trainer.json", "model/model.safetensors"):
        for _ in flips(checkpoint / name, 2):
            assert verify(run)
            with pytest.raises(VideoCLIPError, match="remove it, and the run continues"):
                pretrain(config, corpus, run, tokenizer=tokenizer(), show_progress=False)
    assert verify(run) == []


def test_features_are_verified_before_training(tmp_path, capsys):
    tiny_corpus(tmp_path / "store")
    captions = {"egg-0": {"start": [0.0], "end": [4.0], "text": ["the egg"]}}
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    for _ in flips(tmp_path / "store" / "features.bin", 5):
        with pytest.raises(VideoCLIPError, match="are damaged"):
            pretrain(
                tiny_config(), tmp_path / "captions.json", tmp_path / "run",
                features=tmp_path / "store", tokenizer=tokenizer(), show_progress=False,
            )  # fmt: skip
        assert main(["info", str(tmp_path / "store"), "--verify"]) == 1
        assert "restore the folder" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "store"), "--verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    with FeatureStore.open(tmp_path / "store") as store:
        assert store.damaged() == []
