"""Training traces of the released implementation: loss, gradient norm, rate, final embeddings."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from videoclip.config import ModelConfig, OptimConfig, PretrainConfig
from videoclip.distributed import World
from videoclip.model.batch import Batch
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.contrastive import ContrastiveLoss
from videoclip.training.trainer import Trainer

pytestmark = pytest.mark.parity

CLS, SEP = 1, 2
LAYER = {
    "attention.output.dense": "attention_out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "feed_in",
    "output.dense": "feed_out",
    "output.LayerNorm": "feed_norm",
}


def our_names(released, special=(CLS, SEP)):
    """Rename a released state dict (or its gradients), tensor by tensor."""
    ours = {}
    towers = {"video_encoder.bert.": "video_encoder.bert.", "text_encoder.": "text_encoder.bert."}
    for prefix, tower in towers.items():
        part = {k.removeprefix(prefix): v for k, v in released.items() if k.startswith(prefix)}
        words = part["embeddings.word_embeddings.weight"]
        ours[f"{tower}word_embeddings.weight"] = (
            words[list(special[:2])] if "video" in tower else words
        )
        for theirs, name in (("position", "position"), ("token_type", "type")):
            table = part[f"embeddings.{theirs}_embeddings.weight"]
            ours[f"{tower}{name}_embeddings.weight"] = table
        for kind in ("weight", "bias"):
            ours[f"{tower}embedding_norm.{kind}"] = part[f"embeddings.LayerNorm.{kind}"]
            for i in range(sum(f"encoder.layer.{n}.output.dense.bias" in part for n in range(12))):
                layer = f"encoder.layer.{i}."
                parts = [f"{layer}attention.self.{n}.{kind}" for n in ("query", "key", "value")]
                ours[f"{tower}layers.{i}.qkv.{kind}"] = torch.cat([part[n] for n in parts])
                for theirs, name in LAYER.items():
                    ours[f"{tower}layers.{i}.{name}.{kind}"] = part[f"{layer}{theirs}.{kind}"]
    for name, value in released.items():
        if "videomlp" in name:
            name = name.replace("videomlp", "mlp").replace("LayerNorm", "norm")
            ours[name] = value
    return ours


def golden_model(shared):
    sizes = json.loads((shared / "golden/model_small/configs.json").read_text())["B"]
    config = ModelConfig(
        feature_dim=sizes["feature_dim"],
        hidden_size=sizes["hidden"],
        num_video_layers=sizes["video_layers"],
        num_text_layers=sizes["text_layers"],
        num_heads=sizes["heads"],
        intermediate_size=sizes["intermediate"],
        vocab_size=sizes["vocab"],
        max_positions=sizes["max_position"],
        cls_id=CLS,
        sep_id=SEP,
        max_video_tokens=sizes["max_video_len"],
        max_text_tokens=sizes["max_len"] - sizes["max_video_len"] - 3,
        dropout=0.0,
    )
    model = VideoCLIP(config)
    model.load_state_dict(our_names(load_file(shared / "golden/model_small/B.safetensors")))
    return model


def golden_batch(arrays, index):
    caps, cmasks, vfeats, vmasks = (
        torch.from_numpy(arrays[f"in{index}_{name}"])
        for name in ("caps", "cmasks", "vfeats", "vmasks")
    )
    text_mask = cmasks[:, 3:]  # [CLS], [SEP] and the last [SEP] are the model's business
    return Batch(vfeats, vmasks, caps[:, 2:-1], text_mask)


def trainer(model, chunk_pairs=0):
    run = PretrainConfig(
        model=ModelConfig(),
        optim=OptimConfig(lr=1e-3, warmup_updates=4, total_updates=100),
        chunk_pairs=chunk_pairs,
    )
    return Trainer(ContrastiveLoss(model, run.loss), run, World(), run_length=100)


@pytest.mark.parametrize("chunk_pairs", [0, 2])
def test_eight_updates_leave_the_released_trace(shared, chunk_pairs):
    arrays = np.load(shared / "golden/train_small/B_train.npz")
    ours = trainer(golden_model(shared), chunk_pairs)
    steps = [ours.step(golden_batch(arrays, i % 2)) for i in range(8)]
    np.testing.assert_allclose([s.lr for s in steps], arrays["lr"], rtol=1e-12)
    np.testing.assert_allclose([s.loss for s in steps], arrays["loss"], rtol=1e-5)
    np.testing.assert_allclose([s.grad_norm for s in steps], arrays["grad_norm"], rtol=1e-4)
    batch = golden_batch(arrays, 0)
    with torch.no_grad():
        outputs = {
            "video": ours.model.eval().encode_video(batch.video, batch.video_mask),
            "text": ours.model.encode_text(batch.text, batch.text_mask),
        }
    for name, output in outputs.items():
        np.testing.assert_allclose(output, arrays[f"final_pooled_{name}"], atol=1e-5)


def test_the_first_gradients_are_the_released_ones(shared):
    arrays = np.load(shared / "golden/train_small/B_train.npz")
    released = our_names(load_file(shared / "golden/train_small/B_train_grads_step0.safetensors"))
    ours = trainer(golden_model(shared))
    ours.config = replace(ours.config, optim=replace(ours.config.optim, clip_norm=0.0))
    ours.step(golden_batch(arrays, 0))
    gradients = {name: p.grad for name, p in ours.model.named_parameters()}
    assert gradients.keys() == released.keys()
    for name, gradient in gradients.items():
        largest = released[name].abs().max()
        torch.testing.assert_close(
            gradient, released[name], rtol=0, atol=float(1e-4 * largest + 1e-7), msg=name
        )
