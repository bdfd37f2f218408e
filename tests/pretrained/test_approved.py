"""Finding, checking and loading models of transformers, with every reason to refuse one."""

import json
import logging
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

from tests import approved, tiny_dual_encoders
from videoclip.errors import CheckpointError
from videoclip.pretrained import loading, text_tower
from videoclip.pretrained.text_tower import TextTokenizer, TextTower, load_text_tower

hub = pytest.importorskip("huggingface_hub")


def test_finding_and_checking(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "cached_folder", lambda name: None)
    (tmp_path / "file").write_text("")
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    asked = []

    def info(names, error=None):
        def model_info(self, hub_id):
            if error:
                raise error
            siblings = None if names is None else [SimpleNamespace(rfilename=n) for n in names]
            return SimpleNamespace(siblings=siblings)

        return model_info

    def download(hub_id, **options):
        asked.append([hub_id, options])
        return f"/got/{hub_id}"

    monkeypatch.setattr(hub, "snapshot_download", download)
    response = SimpleNamespace(headers={}, request=None, status_code=404)
    gated = hub.errors.GatedRepoError("no", response=response)
    absent = hub.errors.RepositoryNotFoundError("no", response=response)
    found = {"named": {}, "downloads": {}, "folders": {}}
    for name in ("runs", tmp_path / "file", "file", "starter", "runs/one", "a/b/c", "x", "-/x"):
        found["named"][str(name)] = approved.outcome(partial(loading.model_folder, name))
    for name, listing in {
        "safetensors": info(["config.json", "m.safetensors", "pytorch_model.bin", "onnx/x"]),
        "bin": info(["config.json", "pytorch_model.bin"]),
        "folders only": info(["onnx/x.safetensors"]),
        "nothing": info(None),
        "gated": info([], gated),
        "absent": info([], absent),
        "offline": info([], OSError("no route\nto host " + "x" * 300)),
        "wrong": info([], ValueError("odd name")),
    }.items():
        monkeypatch.setattr(hub.HfApi, "model_info", listing)
        outcome = approved.outcome(partial(loading.model_folder, "own/er"))
        found["downloads"][name] = [outcome, *asked]
        asked.clear()
    settings = {
        "none": None,
        "clip": {"model_type": "clip"},
        "ours": {"format": "videoclip-model-2", "model_type": "clip"},
        "code": {"model_type": "odd", "auto_map": {"AutoModel": "x.Y"}},
        "unknown": {"model_type": "odd"},
        "no type": {"architectures": ["X"]},
        "a list": [],
        "damaged": "{",
    }
    for name, value in settings.items():
        folder = tmp_path / name
        folder.mkdir()
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            (folder / "config.json").write_text(text)
        found["folders"][name] = [
            approved.outcome(partial(loading.check_model, folder, f"n/{name}")),
            approved.outcome(partial(loading.is_transformers_model, folder)),
        ]
    (tmp_path / "clip/m.safetensors").write_bytes(bytes(range(256)) * 20)
    found["digest"] = loading.files_digest(tmp_path / "clip")
    errors = [ValueError("'x' lacks\n it"), KeyError("y"), RuntimeError("z" * 400), OSError()]
    found["unusable"] = [str(loading.unusable("x", "model", error)) for error in errors]
    logger = logging.getLogger("transformers")
    before = logger.level
    with pytest.raises(CheckpointError), loading.quietly():
        found["quiet"] = logger.level
        raise CheckpointError("x")
    found["as before"] = logger.level == before
    approved.check("pretrained", found, TMP=tmp_path)


class Network(torch.nn.Module):
    """Embeds the ids it was given by what they are, and keeps what it was given."""

    def __init__(self, **parameters):
        super().__init__()
        for name, value in parameters.items():
            setattr(self, name, torch.nn.Parameter(torch.tensor(value)))
        self.calls = []

    def get_text_features(self, input_ids, **inputs):
        self.calls.append(
            [input_ids.tolist(), {name: value.tolist() for name, value in inputs.items()}]
        )
        ids = input_ids.float()
        pooled = torch.stack([ids.sum(1), ids[:, 0] + 1, ids[:, -1]], dim=1)
        return pooled if len(self.calls) % 2 else SimpleNamespace(pooler_output=pooled)


def test_text_towers(tmp_path):
    tokenizer = TextTokenizer(tiny_dual_encoders.clip_tokenizer(), lower_case=True)
    found = {
        "tokenizer": [
            tokenizer.prefix,
            tokenizer.suffix,
            [tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.vocab_size],
            tokenizer.fingerprint,
            tokenizer.encode("A Dog, on"),
            tokenizer.encode_batch(["", "dog \udcff", "on " * 9]),
            tokenizer.decode([*tokenizer.prefix, *tokenizer.encode("Dog on"), *tokenizer.suffix]),
            tokenizer.word_pieces[:2] + tokenizer.word_pieces[-3:],
            tokenizer.save(tmp_path),
        ]
    }
    for made in (tiny_dual_encoders.bert_tokenizer, tiny_dual_encoders.gemma_tokenizer):
        other = TextTokenizer(made())
        found[made.__name__] = [other.prefix, other.suffix, other.pad_id, other.cls_id]
        found[made.__name__] += [other.sep_id, other.vocab_size, other.encode("A Dog")]
    unpadded = tiny_dual_encoders.clip_tokenizer()
    unpadded.pad_token = None
    unpadded.get_vocab = lambda: {"a": 0, "b": 70}
    odd = TextTokenizer(unpadded)
    found["without padding"] = [odd.pad_id, odd.suffix, odd.vocab_size, odd.word_pieces]
    text = torch.tensor([[5, 6, 7], [8, 0, 0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    for name, options, parameters in (
        ("short rows", {"fills_rows": False, "masks": True, "pads_left": False}, {}),
        (
            "full rows",
            {"fills_rows": True, "masks": False, "pads_left": False},
            {"logit_scale": 2.0, "logit_bias": -3.0},
        ),
        (
            "left",
            {"fills_rows": True, "masks": True, "pads_left": True},
            {"temperature": 0.25},
        ),
    ):
        network = Network(**parameters)
        tower = TextTower(
            network, tokenizer, 7, **options, fingerprint="f", template="a photo of a {}"
        )
        network.calls.clear()
        found[name] = {
            "embeddings": tower(text, mask),
            "given": network.calls,
            "rows": tower.rows(text[1:, :1], mask[1:, :1]),
            "facts": [tower.dim, tower.temperature, tower.logit_bias, tower.max_text_tokens],
            "trained": [parameter.requires_grad for parameter in tower.parameters()],
            "kept": [tower.fingerprint, tower.template, tower.longest],
        }
    tokenizer.suffix = (9, 8)
    tower = TextTower(
        Network(), tokenizer, 7, fills_rows=False, masks=True, pads_left=False, fingerprint="f"
    )
    found["two special ones behind"] = tower.rows(text, mask)
    tower.template = "a photo of a {}"
    texts = [
        "dog",
        " red car ",
        "a dog",
        "running",
        "dog, cat",
        "the car",
        "two cars",
        "big red car",
    ]
    texts += ["Any thing", "3 dogs", "", "ing", "onion-ring"]
    found["phrases"] = [tower.phrase(text) for text in texts]
    tower.template = ""
    found["no phrase"] = tower.phrase("dog")
    approved.check("text-towers", found)


def test_longest_rows_and_refusals(tmp_path):
    def longest(model_type, stated=10**30, usual=None, **fields):
        config = SimpleNamespace(text_config=SimpleNamespace(model_type=model_type, **fields))
        return text_tower._longest_row(config, SimpleNamespace(model_max_length=stated), usual)

    found = {
        "rows": [
            approved.outcome(call)
            for call in (
                partial(longest, "clip_text_model", max_position_embeddings=77),
                partial(longest, "clip_text_model", 70, max_position_embeddings=77),
                partial(longest, "clip_text_model", 70, 64, max_position_embeddings=77),
                partial(longest, "xlm-roberta", max_position_embeddings=514, pad_token_id=1),
                partial(longest, "other"),
                partial(longest, "other", 10**6),
                partial(longest, "other", 999_999),
            )
        ]
    }
    for name in ("clip", "siglip", "align"):
        torch.manual_seed(0)
        folder = tmp_path / name
        folder.mkdir()
        tiny_dual_encoders.save(name, folder)
        tower = load_text_tower(folder)
        found[name] = [tower.longest, tower.fills_rows, tower.masks, tower.pads_left]
        found[name] += [tower.template, tower.max_text_tokens, tower.dim, tower.temperature]
        found[name] += [tower.logit_bias, len(tower.fingerprint)]
        found[name] += [sum(parameter.numel() for parameter in tower.parameters())]
    weights = tmp_path / "clip/model.safetensors"
    tensors = safetensors.torch.load_file(weights)
    half = {name: tensor.half() for name, tensor in tensors.items() if tensor.is_floating_point()}
    safetensors.torch.save_file(tensors | half, weights, metadata={"format": "pt"})
    settings = json.loads((tmp_path / "clip/config.json").read_text()) | {"dtype": "float16"}
    (tmp_path / "clip/config.json").write_text(json.dumps(settings))
    network, _ = loading.load_network(tmp_path / "clip")
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    del tensors["text_projection.weight"]
    safetensors.torch.save_file(tensors, weights, metadata={"format": "pt"})
    found["lacks"] = approved.outcome(partial(load_text_tower, tmp_path / "clip"))
    weights.write_bytes(b"damaged")
    found["damaged"] = approved.outcome(partial(load_text_tower, tmp_path / "clip"))
    (Path(tmp_path) / "siglip/tokenizer.json").unlink(missing_ok=True)
    approved.check("text-tower-loading", found, TMP=tmp_path)
