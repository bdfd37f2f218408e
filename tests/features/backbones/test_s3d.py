"""The S3D backbone: frames in, one unit vector a second out; words in, ids and vectors out."""

import copy
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from videoclip.errors import CheckpointError
from videoclip.features.backbones import Backbone, load_backbone, s3d
from videoclip.features.decode import CentreCrop, sample_frames


@pytest.fixture(scope="module")
def folder(network, facts, tmp_path_factory):
    """Converted weights; of the word table only what the words need."""
    weights = network.state_dict()
    weights[s3d.WORD_TABLE] = weights[s3d.WORD_TABLE][: len(facts["words"]) + 1].clone()
    folder = tmp_path_factory.mktemp("s3d")
    s3d.save(s3d.build_network(weights, folder), facts["words"], folder)
    return folder


@pytest.fixture(scope="module")
def backbone(folder):
    return load_backbone(f"s3d:{folder}")


@pytest.mark.parity
def test_words_and_text_embeddings_match_the_release(backbone, golden, facts):
    ids = s3d.word_ids(facts["sentences"], backbone.word_ids)
    np.testing.assert_array_equal(ids, golden["text_ids"])
    theirs = golden["text_embedding"]
    ours = backbone.embed_text(facts["sentences"])
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def test_features_are_unit_vectors_of_thirty_frames_each(backbone, video, monkeypatch):
    small = CentreCrop(64, 64)
    monkeypatch.setattr(backbone, "resize", small)
    features = np.concatenate(list(backbone.features_for(video)))

    frames = [frame.rgb(small) for frame in sample_frames(video, 30)]
    assert len(frames) == 42
    frames += [np.zeros_like(frames[0])] * 18  # the second second ends in black
    for i, feature in enumerate(features):
        clip = torch.from_numpy(np.stack(frames[30 * i : 30 * i + 30])).permute(3, 0, 1, 2)
        with torch.inference_mode():
            naive = backbone.network(clip[None] / 255)[0]
        np.testing.assert_allclose(feature, naive / naive.norm(), atol=1e-6)
    assert features.shape == (2, 512)
    assert features.dtype == np.float32


def test_long_videos_come_in_chunks(backbone, video, monkeypatch):
    monkeypatch.setattr(backbone, "resize", CentreCrop(64, 64))
    whole = np.concatenate(list(backbone.features_for(video)))
    monkeypatch.setattr(backbone, "frames_per_batch", 30)
    chunks = list(backbone.features_for(video))
    assert [chunk.shape for chunk in chunks] == [(1, 512), (1, 512)]
    np.testing.assert_allclose(np.concatenate(chunks), whole, atol=1e-6)


def test_it_is_a_backbone_and_says_what_its_features_are(backbone, tmp_path):
    assert isinstance(backbone, Backbone)
    spec = backbone.spec
    assert (spec.backbone, spec.dim, spec.features_per_second) == ("s3d", 512, 1.0)
    assert spec.normalized
    other = copy.deepcopy(backbone.network)
    other.state_dict()["fc.bias"][0] += 1e-3
    s3d.save(other, list(backbone.word_ids), tmp_path)
    assert s3d.load(str(tmp_path)).spec.fingerprint != spec.fingerprint


def test_it_pickles_as_its_folder(backbone):
    data = pickle.dumps(backbone)
    assert len(data) < 1000
    again = pickle.loads(data)
    assert again.spec == backbone.spec


def test_the_plain_name_takes_the_folder_from_the_environment(folder, monkeypatch):
    monkeypatch.setenv("VIDEOCLIP_S3D", str(folder))
    assert load_backbone("s3d").source == str(folder)
    assert load_backbone(folder).source == str(folder)
    monkeypatch.delenv("VIDEOCLIP_S3D")
    with pytest.raises(CheckpointError, match=r"videoclip convert .* VIDEOCLIP_S3D"):
        load_backbone("s3d")


def test_no_words_and_unknown_words_are_padding(backbone):
    assert s3d.word_ids(["", "zzz qqq"], backbone.word_ids).count_nonzero() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("fc.bias"), "missing: 'fc.bias'"),
        (lambda w: w.pop(s3d.WORD_TABLE), f"missing: '{s3d.WORD_TABLE}'"),
        (lambda w: w.update({s3d.WORD_TABLE: torch.zeros(())}), "mis-shaped"),
        (lambda w: w.update(extra=torch.zeros(1)), "unexpected: 'extra'"),
        (lambda w: w.update({"fc.bias": torch.zeros(3)}), r"'fc.bias' is \(3,\), not \(512,\)"),
        (lambda w: w.update({"fc.bias": torch.full((512,), torch.nan)}), "NaN"),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, tmp_path, change, message):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "words.txt").write_text("open\n")
    with pytest.raises(CheckpointError, match=message) as caught:
        s3d.load(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_or_words_is_refused(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        s3d.load(str(tmp_path))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"words\.txt is not a word list"):
        s3d.load(str(tmp_path))


def test_the_published_word_list_is_an_array_of_words(tmp_path):
    np.save(tmp_path / "s3d_dict.npy", np.array(["open", "door"]))
    assert s3d.read_words(tmp_path / "s3d_dict.npy") == ["open", "door"]
    np.save(tmp_path / "numbers.npy", np.arange(3))
    np.save(tmp_path / "objects.npy", np.array(["open", None]), allow_pickle=True)
    for name in ("numbers.npy", "objects.npy"):
        with pytest.raises(CheckpointError, match="not a word list"):
            s3d.read_words(tmp_path / name)


def test_a_word_list_may_be_as_long_as_the_table_but_no_longer(backbone, tmp_path):
    words = [f"w{i}" for i in range(21)]
    s3d.save(backbone.network, words, tmp_path)
    again = s3d.load(str(tmp_path))
    assert s3d.word_ids(["w19 w20"], again.word_ids)[0, :2].tolist() == [20, 0]
    with pytest.raises(CheckpointError, match="22 words do not fit a table of 21"):
        s3d.save(backbone.network, [*words, "more"], tmp_path)
