"""Weights of others become our models: same numbers, nothing missing, nothing left over."""

import argparse
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from tests.model.tiny_models import TINY
from videoclip.config import ModelConfig, ReleasedSettings
from videoclip.errors import CheckpointError, ConfigError
from videoclip.model.convert import from_bert, from_released, kind_of, released_differences
from videoclip.weights.files import read_weights

PARITY = 1e-5


def settings_of(sizes):
    """What a golden model's shapes do not determine."""
    return ReleasedSettings(
        num_heads=sizes["heads"],
        pad_id=0,
        cls_id=1,
        sep_id=2,
        max_video_tokens=sizes["max_video_len"],
        max_text_tokens=sizes["max_len"] - sizes["max_video_len"] - 3,
    )


@pytest.fixture(scope="module")
def released(shared):
    """Function of a golden model's name: its weights and what is to be said of it."""
    folder = shared / "golden/model_small"
    sizes = json.loads((folder / "configs.json").read_text())

    def read(name):
        return load_file(folder / f"{name}.safetensors"), settings_of(sizes[name])

    return read


@pytest.mark.parity
@pytest.mark.parametrize("name", ["A", "B", "S"])
def test_the_prefix_makes_no_difference(released, name):
    weights, said = released(name)
    prefixed = {f"mmmodel.{key}": tensor for key, tensor in weights.items()}
    (plain, head), (with_prefix, _) = (from_released(w, said, "file") for w in (weights, prefixed))
    assert head == {}
    assert plain.config == with_prefix.config
    theirs = with_prefix.state_dict()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in plain.state_dict().items())


@pytest.mark.parity
def test_a_segmentation_head_is_kept_apart(released):
    weights, said = released("B")
    theirs = {
        "video_encoder.classifier.weight": torch.ones(779, 48),
        "video_encoder.classifier.bias": torch.ones(779),
    }
    _, head = from_released(weights | theirs, said, "file")
    assert {name: tuple(tensor.shape) for name, tensor in head.items()} == {
        "weight": (779, 48),
        "bias": (779,),
    }


@pytest.mark.parity
def test_a_fairseq_file_gives_the_same_model(released, tmp_path):
    weights, said = released("A")
    half = {f"mmmodel.{k}": w.half() if w.is_floating_point() else w for k, w in weights.items()}
    content = {
        "args": argparse.Namespace(lr=[5e-5]),
        "model": half,
        "optimizer_history": [{"num_updates": 3}],
        "extra_state": {"epoch": 25},
        "last_optimizer_state": {"state": {0: {"exp_avg": torch.zeros(4)}}},
    }
    path = tmp_path / "checkpoint_best.pt"
    for zipped in (True, False):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        model, _ = from_released(read_weights(path), said, path)
        whole, _ = from_released(weights, said, path)
        for (name, ours), theirs in zip(
            model.state_dict().items(), whole.state_dict().values(), strict=True
        ):
            assert ours.dtype == torch.float32
            assert torch.equal(ours, theirs.half().float()), name


@pytest.mark.parity
def test_the_published_names_are_all_known(shared):
    path = shared / "golden/model_small/full_size_state_dict_keys.json"
    entries = json.loads(path.read_text())["entries"]
    narrow = {768: 24, 3072: 48, 30522: 110, 512: 96}
    weights = {
        name: torch.zeros([narrow.get(size, size) for size in shape])
        for name, (shape, _) in entries.items()
    }
    assert kind_of(weights) == "videoclip"
    model, _ = from_released(weights, ReleasedSettings(2, 0, 101, 102), "file")
    config = model.config
    assert (config.num_video_layers, config.num_text_layers) == (6, 12)
    assert (config.hidden_size, config.intermediate_size, config.feature_dim) == (24, 48, 96)
    assert not any(parameter.any() for parameter in model.parameters())


NARROW = {768: 24, 3072: 48, 512: 96}


@pytest.fixture(scope="module")
def published(shared):
    """Function that makes weights of the released names, narrow, with some sizes replaced."""
    path = shared / "golden/model_small/full_size_state_dict_keys.json"
    entries = json.loads(path.read_text())["entries"]

    def make(vocab_size=30522, feature_dim=512):
        sizes = {**NARROW, 30522: vocab_size}
        weights = {
            name: torch.zeros([sizes.get(size, size) for size in shape])
            for name, (shape, _) in entries.items()
        }
        weights["mmmodel.video_encoder.videomlp.linear1.weight"] = torch.zeros(24, feature_dim)
        return weights

    return make


def one_encoder(weights):
    """VLM: all twelve layers of the text tower in one encoder, with BERT's heads."""
    video = {n: w for n, w in weights.items() if ".videomlp." in n}
    layers = {n: w for n, w in weights.items() if ".text_encoder." in n}
    shared = {n.replace("video_encoder", "mm_encoder"): w for n, w in video.items()}
    shared |= {n.replace("text_encoder", "mm_encoder.bert"): w for n, w in layers.items()}
    heads = ("bias", "transform.dense.weight", "transform.LayerNorm.bias", "decoder.weight")
    return shared | {f"mmmodel.mm_encoder.cls.predictions.{n}": torch.ones(2) for n in heads}


@pytest.mark.parity
@pytest.mark.parametrize("name", ["VideoCLIP", "TempCLR", "Norton", "SignCLIP", "VLM", "COIN"])
def test_every_layout_of_the_family_names_its_differences(published, name):
    weights = published()
    if name == "SignCLIP":  # poses of 203 points, words of bert-base-cased
        weights = published(vocab_size=28996, feature_dim=609)
    elif name == "VLM":
        weights = one_encoder(weights)
    elif name == "COIN":
        weights["mmmodel.video_encoder.classifier.weight"] = torch.ones(779, 24)
        weights["mmmodel.video_encoder.classifier.bias"] = torch.ones(779)
    settings = ReleasedSettings(num_heads=2)
    model, head = from_released(weights, settings, "file")
    found = released_differences(weights, model.config, settings)
    sizes = {name: model.config for name in ("hidden_size", "num_heads")}
    narrow = [f"{n} {getattr(c, n)}, not {getattr(ModelConfig(), n)}" for n, c in sizes.items()]
    narrow += ["intermediate_size 48, not 3072", "max_positions 96, not 512"]
    assert [line for line in found if line not in narrow] == {
        "VideoCLIP": [],
        "TempCLR": [],
        "Norton": [],
        "SignCLIP": [
            "feature_dim 609, not 512",
            "vocabulary of 28,996 word pieces (bert-*-cased), not 30,522 (bert-*-uncased)",
        ],
        "VLM": [
            "one encoder for both modalities, as in VLM, not two towers",
            "left out: 4 tensors of mm_encoder.cls",
        ],
        "COIN": ["a head for action segmentation"],
    }[name]
    assert bool(head) == (name == "COIN")
    assert model.config.shared_encoder == (name == "VLM")


@pytest.mark.parity
def test_a_head_without_a_place_is_left_out_only_if_it_is_named(published):
    weights = one_encoder(published()) | {"mmmodel.mm_encoder.mfm_head.weight": torch.ones(2)}
    with pytest.raises(CheckpointError, match=r"unexpected: 'mm_encoder\.mfm_head\.weight'"):
        from_released(weights, ReleasedSettings(num_heads=2), "file")
    settings = ReleasedSettings(num_heads=2, leave_out=("mm_encoder.mfm",))
    model, _ = from_released(weights, settings, "file")
    found = released_differences(weights, model.config, settings)
    assert "left out: 1 tensors of mm_encoder.mfm_head" in found


def test_what_every_bert_base_has_need_not_be_said():
    settings = ReleasedSettings().complete(768, 30522)
    wanted = vars(ReleasedSettings(12, 0, 101, 102))
    assert settings == {name: value for name, value in wanted.items() if name != "leave_out"}
    assert ReleasedSettings().complete(768, 28996) == settings
    assert ReleasedSettings(num_heads=8).complete(768, 30522)["num_heads"] == 8


def remove(weights):
    del weights["video_encoder.bert.encoder.layer.1.attention.self.key.bias"]


def remove_a_whole_layer(weights):
    for name in [n for n in weights if n.startswith("text_encoder.encoder.layer.1.")]:
        del weights[name]


def reshape(weights):
    weights["text_encoder.encoder.layer.0.attention.self.key.weight"] = torch.zeros(64, 63)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove, "missing: 'video_encoder.bert.encoder.layer.1.attention.self.key.bias'"),
        (remove_a_whole_layer, r"missing: 'text_encoder.encoder.layer.1.* and 13 more"),
        (reshape, r"'text_encoder.*key.weight' is \(64, 63\), not \(64, 64\)"),
        (lambda w: w.update(extra=torch.zeros(1)), "unexpected: 'extra'"),
        (lambda w: w.pop("video_encoder.videomlp.linear1.weight"), "missing: .*linear1.weight"),
        (
            lambda w: w.update({"video_encoder.videomlp.linear1.weight": torch.zeros(4)}),
            r"'video_encoder.videomlp.linear1.weight' is \(4,\), not a matrix",
        ),
        (
            lambda w: w.pop("text_encoder.embeddings.word_embeddings.weight"),
            "missing: 'text_encoder.embeddings.word_embeddings.weight'",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(released, change, message):
    weights, said = released("A")
    change(weights)
    with pytest.raises(CheckpointError, match=message) as caught:
        from_released(weights, said, "the/file.pt")
    assert "the/file.pt" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("said", "option"),
    [
        (ReleasedSettings(pad_id=0, cls_id=1, sep_id=2), "--num-heads"),
        (ReleasedSettings(num_heads=4, pad_id=0, sep_id=2), "--vocabulary or --cls-id"),
    ],
)
def test_what_shapes_do_not_tell_is_asked_for(released, said, option):
    weights, _ = released("A")
    with pytest.raises(ConfigError, match=option):
        from_released(weights, said, "file")


def test_kinds_are_told_by_names():
    assert kind_of(["mmmodel.mm_encoder.videomlp.linear1.weight"]) == "videoclip"
    assert kind_of(["conv1.conv1.weight", "mixed_5c.conv_b0.conv1.weight"]) == "s3d"
    assert kind_of(["bert.embeddings.word_embeddings.weight"]) == "bert"
    assert kind_of(["embeddings.word_embeddings.weight"]) == "bert"
    assert kind_of(["weight"]) == ""


@pytest.fixture(scope="module")
def bert():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=40,
        hidden_dropout_prob=0.0,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    model = transformers.BertModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


@pytest.mark.parametrize("style", ["plain", "prefixed with heads", "old names"])
def test_a_bert_becomes_both_towers(bert, style):
    weights = dict(bert.state_dict())
    if style != "plain":
        weights = {f"bert.{name}": tensor for name, tensor in weights.items()}
        weights["cls.predictions.bias"] = torch.zeros(50)
    if style == "old names":
        new, old = ("LayerNorm.weight", "LayerNorm.bias"), ("LayerNorm.gamma", "LayerNorm.beta")
        for now, then in zip(new, old, strict=True):
            weights = {name.replace(now, then): tensor for name, tensor in weights.items()}
    model = from_bert(weights, bert.config.to_dict(), TINY, "folder").eval()
    assert model.config.num_heads == 4
    assert (model.config.num_video_layers, model.config.num_text_layers) == (2, 3)

    words = torch.tensor([[7, 8, 9, 10]])
    packed = torch.tensor([[TINY.cls_id, 7, 8, 9, 10, TINY.sep_id]])
    with torch.inference_mode():
        ours = model.text_encoder(words, torch.ones_like(words, dtype=torch.bool)).hidden
        theirs = bert(packed).last_hidden_state
    torch.testing.assert_close(ours, theirs, atol=PARITY, rtol=0)
    video = model.video_encoder.bert
    assert torch.equal(video.word_embeddings.weight, bert.embeddings.word_embeddings.weight[1:3])
    for ours, theirs in zip(video.layers, bert.encoder.layer[:2], strict=True):
        assert torch.equal(ours.feed_in.weight, theirs.intermediate.dense.weight)


def test_a_reranker_starts_from_the_first_layers_too(bert):
    config = replace(TINY, num_cross_layers=2)
    reranker = from_bert(bert.state_dict(), bert.config.to_dict(), config, "folder").reranker
    words = bert.embeddings.word_embeddings.weight
    assert torch.equal(reranker.text_encoder.bert.word_embeddings.weight, words)
    assert torch.equal(reranker.video_encoder.bert.word_embeddings.weight, words[1:3])
    for encoder in (reranker.text_encoder, reranker.video_encoder):
        for ours, theirs in zip(encoder.bert.layers, bert.encoder.layer[:2], strict=True):
            assert torch.equal(ours.feed_in.weight, theirs.intermediate.dense.weight)
    assert reranker.video_encoder.mlp.linear1.weight.std() > 0 and reranker.weight == 0


def test_a_shallow_bert_gives_all_its_layers_and_the_seed_the_rest(bert):
    weights = {n: w for n, w in bert.state_dict().items() if ".layer.1." not in n}
    weights = {n: w for n, w in weights.items() if ".layer.2." not in n}
    models = [from_bert(weights, bert.config.to_dict(), TINY, "folder", seed=s) for s in (1, 1, 2)]
    assert models[0].config.num_video_layers == models[0].config.num_text_layers == 1
    first, again, other = (model.video_encoder.mlp.linear1.weight for model in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta', not 'bert'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps"),
        ({"num_attention_heads": None}, "num_attention_heads"),
    ],
)
def test_another_kind_of_transformer_is_refused(bert, settings, message):
    with pytest.raises(CheckpointError, match=message):
        from_bert(bert.state_dict(), bert.config.to_dict() | settings, TINY, "folder")


def test_a_bert_without_some_weights_is_refused(bert):
    weights = dict(bert.state_dict())
    del weights["encoder.layer.0.output.dense.bias"]
    with pytest.raises(CheckpointError, match=r"missing: 'encoder.layer.0.output.dense.bias'"):
        from_bert(weights, bert.config.to_dict(), TINY, "folder")
