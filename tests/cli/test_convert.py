"""`videoclip convert`, as a user runs it."""

import argparse
import json
import os
import pickle
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from videoclip.cli import main
from videoclip.config import PretrainConfig, load_run_config
from videoclip.data.tokenizer import Tokenizer
from videoclip.embedding import Embedder
from videoclip.features.backbones import load_backbone
from videoclip.features.backbones.s3d import S3D
from videoclip.model.videoclip import VideoCLIP

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cut", "the", "onion"]
LENGTHS = ["--num-heads", "2", "--max-video-tokens", "6", "--max-text-tokens", "9"]
SIZES = [*LENGTHS, "--backbone", "narrow"]


def released_weights(hidden=8, layers=(1, 2), vocab=7, positions=24, feature_dim=5):
    """Random weights by their published names."""
    generator = torch.Generator().manual_seed(1)

    def linear(name, rows, columns):
        return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}

    def norm(name):
        return {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}

    shapes = {
        **linear("video_encoder.videomlp.linear1", hidden, feature_dim),
        **norm("video_encoder.videomlp.LayerNorm"),
        **linear("video_encoder.videomlp.linear2", hidden, hidden),
    }
    for tower, num_layers in zip(("video_encoder.bert", "text_encoder"), layers, strict=True):
        embeddings = {"word": vocab, "position": positions, "token_type": 2}
        for table, rows in embeddings.items():
            shapes[f"{tower}.embeddings.{table}_embeddings.weight"] = (rows, hidden)
        shapes |= norm(f"{tower}.embeddings.LayerNorm") | linear(
            f"{tower}.pooler.dense", hidden, hidden
        )
        for i in range(num_layers):
            layer = f"{tower}.encoder.layer.{i}"
            for part in ("self.query", "self.key", "self.value", "output.dense"):
                shapes |= linear(f"{layer}.attention.{part}", hidden, hidden)
            shapes |= norm(f"{layer}.attention.output.LayerNorm") | norm(
                f"{layer}.output.LayerNorm"
            )
            shapes |= linear(f"{layer}.intermediate.dense", 4 * hidden, hidden)
            shapes |= linear(f"{layer}.output.dense", hidden, 4 * hidden)
    return {
        f"mmmodel.{name}": torch.randn(shape, generator=generator) * 0.1
        for name, shape in shapes.items()
    }


def fairseq_file(path, weights):
    content = {
        "args": argparse.Namespace(lr=[5e-5]),
        "model": weights,
        "optimizer_history": [{"num_updates": 7}],
        "extra_state": {"epoch": 25},
    }
    torch.save(content, path)
    return path


@pytest.fixture
def checkpoint(tmp_path):
    return fairseq_file(tmp_path / "checkpoint_best.pt", released_weights())


@pytest.fixture
def vocab(tmp_path):
    Tokenizer(WORDS).save(tmp_path)
    return tmp_path / "vocab.txt"


def run(*arguments):
    return main(["convert", *map(str, arguments)])


def test_a_released_checkpoint_becomes_a_model_that_embeds(checkpoint, vocab, tmp_path, capsys):
    out = tmp_path / "model"
    assert run(checkpoint, out, "--vocabulary", vocab, *SIZES) == 0
    assert "1 video and 2 text layers, 8 wide" in capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == [
        "README.md",
        "checksums.json",
        "config.json",
        "model.safetensors",
        "vocab.txt",
    ]
    embedder = Embedder.from_pretrained(out)
    assert embedder.embed_text(["cut the onion"]).shape == (1, 8)
    assert embedder.embed_features(np.ones((20, 5), np.float32)).tokens.shape == (20, 8)
    assert embedder.config.cls_id == WORDS.index("[CLS]")


def test_saving_and_loading_again_is_bit_identical(checkpoint, vocab, tmp_path):
    assert run(checkpoint, tmp_path / "one", "--vocabulary", vocab, *SIZES) == 0
    Embedder.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_without_a_vocabulary_it_says_what_is_left_to_do(checkpoint, tmp_path, capsys):
    ids = ["--pad-id", 0, "--cls-id", 2, "--sep-id", 3]
    assert run(checkpoint, tmp_path / "model", *ids, *SIZES) == 0
    assert "vocab.txt" in capsys.readouterr().out
    assert VideoCLIP.from_pretrained(tmp_path / "model").config.sep_id == 3


def test_a_head_is_kept_beside_the_model(tmp_path, vocab, capsys):
    head = {
        "mmmodel.video_encoder.classifier.weight": torch.ones(9, 8),
        "mmmodel.video_encoder.classifier.bias": torch.ones(9),
    }
    path = fairseq_file(tmp_path / "coin.pt", released_weights() | head)
    assert run(path, tmp_path / "model", "--vocabulary", vocab, "--json", *SIZES) == 0
    summary = json.loads(capsys.readouterr().out)
    kept = load_file(tmp_path / "model" / summary["head"])
    assert kept["weight"].shape == (9, 8)


def test_features_of_poses_need_a_name_and_a_rate(tmp_path, vocab, capsys):
    path = fairseq_file(tmp_path / "signs.pt", released_weights(feature_dim=609))
    arguments = [path, tmp_path / "model", "--vocabulary", vocab, *LENGTHS]
    assert run(*arguments) == 1
    error = capsys.readouterr().err
    assert "takes features 609 wide" in error and "--backbone" in error
    assert run(*arguments, "--backbone", "poses", "--features-per-second", 25) == 0
    assert "unlike the released VideoCLIP: feature_dim 609, not 512" in capsys.readouterr().out
    config = VideoCLIP.from_pretrained(tmp_path / "model").config
    assert (config.backbone, config.features_per_second) == ("poses", 25)
    assert not config.normalized_features


def test_pickled_captions_become_a_caption_file(tmp_path, capsys):
    captions = {"kitchen": json.dumps({"start": [0], "end": [2.5], "text": ["chop it"]})}
    (tmp_path / "raw_caption_dedup.pkl").write_bytes(pickle.dumps(captions))
    arguments = [tmp_path / "raw_caption_dedup.pkl", tmp_path / "captions"]
    assert run(*arguments) == 0
    assert "1 cues of 1 videos" in capsys.readouterr().out
    written = json.loads((tmp_path / "captions" / "captions.json").read_text())
    assert written == {"kitchen": {"start": [0.0], "end": [2.5], "text": ["chop it"]}}
    assert run(*arguments) == 1
    assert "captions.json already exists" in capsys.readouterr().err


def test_a_project_file_becomes_settings_of_a_run(tmp_path, capsys):
    (tmp_path / "how2.yaml").write_text(
        "model: {model_cls: MMFusionSeparate}\n"
        "loss: {loss_cls: MMContraLoss}\n"
        "fairseq: {optimization: {max_epoch: 7, magic: 3}}\n"
    )
    arguments = [tmp_path / "how2.yaml", tmp_path / "settings"]
    assert run(*arguments) == 0
    out = capsys.readouterr().out
    config = tmp_path / "settings" / "config.json"
    assert "fairseq.optimization.max_epoch: epochs = 7" in out
    assert "not taken over: fairseq.optimization.magic: unknown here (it is 3)" in out
    assert f"use it as `videoclip pretrain --config {config} ...`" in out
    assert load_run_config(PretrainConfig, config).epochs == 7
    with pytest.raises(SystemExit, match="0"):
        main(["pretrain", "--config", str(config), "--print-config"])
    assert '"epochs": 7' in capsys.readouterr().out
    assert run(*arguments) == 1
    assert "config.json already exists" in capsys.readouterr().err


def test_s3d_becomes_a_backbone(tmp_path, capsys):
    weights = S3D(num_words=4).state_dict()
    torch.save(weights, tmp_path / "s3d_howto100m.pth", _use_new_zipfile_serialization=False)
    np.save(tmp_path / "s3d_dict.npy", np.array(["open", "door", "cut"]))
    assert run(tmp_path / "s3d_howto100m.pth", tmp_path / "s3d") == 0
    assert "3 words" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "s3d")]) == 0
    assert "S3D weights" in capsys.readouterr().out
    backbone = load_backbone(f"s3d:{tmp_path / 's3d'}")
    assert backbone.embed_text(["cut"]).shape == (1, 512)
    ours = backbone.network.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in weights.items())


def bert_folder(folder, names="model.safetensors", **settings):
    weights = {
        name.removeprefix("mmmodel.text_encoder."): tensor
        for name, tensor in released_weights(feature_dim=512).items()
        if "text_encoder." in name
    }
    folder.mkdir()
    if names.endswith(".safetensors"):
        save_file(weights, folder / names)
    else:
        torch.save(weights, folder / names)
    settings = {"model_type": "bert", "num_attention_heads": 2} | settings
    (folder / "config.json").write_text(json.dumps(settings))
    Tokenizer(WORDS).save(folder)
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_bert_starts_a_recipe(tmp_path, name, capsys):
    # Room for the recipe's clips and texts.
    folder = bert_folder(tmp_path / "bert", name)
    weights_file = folder / name
    weights = load_file(weights_file) if name.endswith("tensors") else torch.load(weights_file)
    weights["embeddings.position_embeddings.weight"] = torch.zeros(80, 8)
    (save_file if name.endswith("tensors") else torch.save)(weights, weights_file)

    assert run(folder, tmp_path / "model", "--as", "bert", "--recipe", "base", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["kind"] == "bert"
    assert (summary["num_video_layers"], summary["num_text_layers"]) == (2, 2)
    embedder = Embedder.from_pretrained(tmp_path / "model")
    assert embedder.config.normalize  # as the recipe wants
    assert embedder.embed_text(["cut"]).shape == (1, 8)


def truncated(tmp_path, checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-3000])
    return checkpoint, "is damaged or not a PyTorch checkpoint"


def evil(tmp_path, checkpoint):
    class Calls:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"model": released_weights(), "args": Calls()}, checkpoint)
    return checkpoint, "tries to run code"


def mis_shaped(tmp_path, checkpoint):
    weights = released_weights()
    weights["mmmodel.video_encoder.videomlp.linear2.bias"] = torch.zeros(3)
    return fairseq_file(checkpoint, weights), "mis-shaped: 'video_encoder.videomlp.linear2.bias'"


def not_finite(tmp_path, checkpoint):
    weights = released_weights()
    weights["mmmodel.video_encoder.videomlp.linear2.bias"][0] = torch.nan
    return fairseq_file(checkpoint, weights), "NaN"


def absent(tmp_path, checkpoint):
    return tmp_path / "absent.pt", "cannot read"


def unknown(tmp_path, checkpoint):
    torch.save({"layer.weight": torch.ones(2)}, checkpoint)
    return checkpoint, "no known kind"


def empty_folder(tmp_path, checkpoint):
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty", "has no model.safetensors or pytorch_model.bin"


def roberta(tmp_path, checkpoint):
    return bert_folder(tmp_path / "roberta", model_type="roberta"), "not a plain BERT"


def bert_without_settings(tmp_path, checkpoint):
    folder = bert_folder(tmp_path / "bert")
    (folder / "config.json").unlink()
    return folder, "which a BERT needs"


def bert_with_odd_settings(tmp_path, checkpoint):
    folder = bert_folder(tmp_path / "bert")
    (folder / "config.json").write_text("[]")
    return folder, "has no settings"


def other_vocabulary(tmp_path, checkpoint):
    return fairseq_file(
        checkpoint, released_weights(vocab=12)
    ), "has 12 word pieces, but the vocabulary has 7"


@pytest.mark.parametrize(
    "broken",
    [
        *(truncated, evil, mis_shaped, not_finite, absent, unknown, empty_folder, roberta),
        *(bert_without_settings, bert_with_odd_settings, other_vocabulary),
    ],
)
def test_what_cannot_be_converted_is_one_line_and_leaves_nothing(
    broken, tmp_path, checkpoint, vocab, capsys
):
    path, message = broken(tmp_path, checkpoint)
    before = sorted(tmp_path.iterdir())
    assert run(path, tmp_path / "model", "--vocabulary", vocab, *SIZES) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert str(tmp_path) in error
    assert sorted(tmp_path.iterdir()) == before


def test_options_that_make_no_sense_are_refused(checkpoint, vocab, tmp_path, capsys):
    for arguments, message in (
        (["--vocabulary", vocab, "--cls-id", "0", *SIZES], "--cls-id 0 contradicts"),
        (["--vocabulary", vocab], "--num-heads"),
        (["--as", "bert", "--recipe", "papper"], "unknown recipe 'papper'"),
    ):
        assert run(checkpoint, tmp_path / "model", *arguments) == 1
        assert message in capsys.readouterr().err
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("keep")
    (tmp_path / "file").write_text("keep")
    (tmp_path / "empty").mkdir()
    for name in ("model", "file"):
        assert run(checkpoint, tmp_path / name, "--vocabulary", vocab, *SIZES) == 1
        assert "already exists" in capsys.readouterr().err
    assert (tmp_path / "model" / "mine.txt").read_text() == "keep"
    assert run(checkpoint, tmp_path / "empty", "--vocabulary", vocab, *SIZES) == 0


@pytest.mark.slow
@pytest.mark.parity
def test_a_full_size_checkpoint_converts_loads_and_embeds(shared, tmp_path):
    """In the released layout, with an optimiser's state; each step in a process of its own."""
    path = shared / "golden/model_small/full_size_state_dict_keys.json"
    entries = json.loads(path.read_text())["entries"]
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(shape, generator=generator) * 0.02
        if dtype == "float32"
        else torch.arange(512)[None]
        for name, (shape, dtype) in entries.items()
    }
    checkpoint = tmp_path / "checkpoint_best.pt"
    history = {"state": {0: {"exp_avg": torch.zeros(30522, 768)}}}
    torch.save({"args": argparse.Namespace(), "model": weights} | history, checkpoint)
    theirs = weights["mmmodel.text_encoder.encoder.layer.11.attention.self.value.weight"].clone()
    del weights, history

    pieces = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]"]
    Tokenizer([*pieces, *(f"w{i}" for i in range(30522 - len(pieces)))]).save(tmp_path)
    embed = (
        "import numpy as np; from videoclip.embedding import Embedder\n"
        f"e = Embedder.from_pretrained({str(tmp_path / 'model')!r})\n"
        "assert e.embed_text(['w1 w2 w3']).shape == (1, 768)\n"
        "assert e.embed_features(np.ones((32, 512), np.float32)).tokens.shape == (32, 768)\n"
    )
    convert = ["-m", "videoclip", "convert", checkpoint, tmp_path / "model", "--vocabulary"]
    started = time.perf_counter()
    subprocess.run([sys.executable, *convert, tmp_path / "vocab.txt"], check=True)
    subprocess.run([sys.executable, "-c", embed], check=True)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"\nconvert, load, embed: {seconds:.1f} s ({used.ru_utime + used.ru_stime:.1f} s CPU), "
        f"peak {used.ru_maxrss / 2**20:.2f} GiB"
    )
    model = VideoCLIP.from_pretrained(tmp_path / "model")
    assert torch.equal(model.text_encoder.bert.layers[11].qkv.weight[2 * 768 :], theirs)
    model.save_pretrained(tmp_path / "again")
    again = (tmp_path / "again" / "model.safetensors").read_bytes()
    assert again == (tmp_path / "model" / "model.safetensors").read_bytes()
