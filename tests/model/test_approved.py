"""Complete results of towers, losses, re-ranker, model folders and conversions."""

import json
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from huggingface_hub.errors import HFValidationError
from safetensors.torch import load_file
from torch import nn

from tests import approved
from tests.approved import outcome, summary
from tests.data.test_approved import WORDS, tree
from tests.model.tiny_models import (
    TINY,
    layers_of,
    make_model,
    make_text,
    make_video,
    tiny_dual_encoder,
)
from videoclip.config import LossConfig, ModelConfig, ReleasedSettings, to_dict
from videoclip.data.feature_store import FeatureSpec
from videoclip.data.tokenizer import Tokenizer
from videoclip.model import dual_encoder, hub, transformer
from videoclip.model.batch import Batch, PlacedBatch, collate, embed_batch
from videoclip.model.convert import from_bert, from_released, kind_of, released_differences
from videoclip.model.dual_encoder import load_by_name, load_dual_encoder, start_model
from videoclip.model.encoders import ClassBridge, Residual, SentenceTower, residuals_of
from videoclip.model.losses import (
    PairEmbeddings,
    by_video,
    load_loss,
    overlapping,
    seconds_loss,
    softmax_loss,
)
from videoclip.model.losses.infonce import contrastive_loss
from videoclip.model.losses.mil_nce import mil_nce_loss
from videoclip.model.reranker import (
    belief,
    concatenate,
    hard_candidates,
    reranking_loss,
    take,
)
from videoclip.model.videoclip import VideoCLIP, pad_features

MODELS = {
    "mean": TINY,
    "cls, one encoder": replace(
        TINY, pooling="cls", shared_encoder=True, normalize=True, temperature=0.5
    ),
    "plain mean, learned": replace(
        TINY,
        pooling="plain_mean",
        normalize=True,
        temperature=0.2,
        learn_temperature=True,
        learn_logit_bias=True,
        dropout=0.3,
    ),
    "classes, re-ranker": replace(TINY, classes=("a", "b"), num_cross_layers=1),
    "residual": replace(
        TINY,
        dual_encoder="tiny",
        pooling="plain_mean",
        normalize=True,
        learn_temperature=True,
        dropout=0.2,
    ),
}


@pytest.fixture(autouse=True)
def known(monkeypatch):
    towers = tiny_dual_encoder(MODELS["residual"])
    monkeypatch.setattr("videoclip.model.dual_encoder.load_by_name", lambda name: towers)


def model_of(name):
    model = make_model(MODELS[name])
    for residual in residuals_of(model):
        nn.init.constant_(residual.scale, 0.3)
        residual.fit_gate(torch.nn.functional.normalize(torch.randn(9, 16), dim=1))
    return model


def some_batch():
    return Batch(*make_video([9, 1, 4, 4], 9), *make_text([3, 11, 0, 2], 11))


@pytest.mark.parametrize("name", MODELS)
def test_forward_and_backward(name):
    torch.manual_seed(0)
    model, batch = model_of(name), some_batch()
    video, text = embed_batch(model, batch)
    with torch.no_grad():
        fresh = VideoCLIP(MODELS[name]).requires_grad_(False)
    found = {
        "video": video[:, :4],
        "text": text[:, :4],
        "whole": [summary(video), summary(text)],
        "seconds": [
            summary(model.video_tokens(batch.video, batch.video_mask, attend_cls=attend))
            for attend in (True, False)
        ],
        "similarity": model.similarity(text[:2], video[1:]),
        "temperature": float(torch.as_tensor(model.temperature).detach()),
        "parameters": [len(model.state_dict()), sum(p.numel() for p in model.parameters())],
        "names": zlib.crc32(" ".join(model.state_dict()).encode()),
        "initial": summary(torch.cat([p.flatten() for p in fresh.parameters()])),
        "initial scalars": [float(p) for p in fresh.parameters() if p.ndim == 0],
    }
    with pytest.MonkeyPatch.context() as patch:  # as on a GPU
        patch.setattr("videoclip.model.transformer.use_cpu_kernels", lambda device: False)
        for one, other in zip(embed_batch(model, batch), (video, text), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    if model.config.classes:
        found["logits"] = [
            summary(model.classify(batch.video, batch.video_mask, attend_cls=attend))
            for attend in (False, True)
        ]
    if model.config.num_cross_layers:
        clips = model.reranker.encode_video(batch.video, batch.video_mask)
        texts = model.reranker.encode_text(batch.text, batch.text_mask)
        found["re-ranked"] = [
            model.reranker.score_all(texts, clips),
            model.reranker.score_pairs(texts, clips),
            *(summary(field) for field in (*texts, *clips)),
        ]
        joined = clips.join([1, 2, 1])
        found["joined"] = [summary(field) for field in joined]
        both = concatenate([take(texts, torch.tensor([2, 0])), take(texts, torch.tensor([1]))])
        found["taken"] = [summary(field) for field in both]
        longer = model.reranker.encode_text(*make_text([2, 3], 3))
        found["padded"] = [summary(field) for field in concatenate([longer, texts])]
        for weight in (0.0, 0.5):
            towers = (text @ video.T).masked_fill(torch.eye(4).roll(1, 0) > 0, -torch.inf)
            found[f"loss {weight}"] = reranking_loss(model.reranker, texts, clips, towers, weight)
        found["belief"] = belief(text @ video.T)
        close = torch.tensor([[1, 0.4, 0.1], [0.4, 1, 0.6], [0.1, 0.6, 1]])
        pairs = [[1, 0.9, 0.5, 0.1], [0.9, 1, 0.2, 0.5], [0.5, 0.2, 1, 0.9], [0.1, 0.5, 0.9, 1]]
        found["hard at the threshold"] = hard_candidates(torch.tensor(pairs), 0.5).int().tolist()
        found["hard"] = [hard_candidates(close, low).tolist() for low in (-1, 0.3, 0.5, 0.9)]
    model.train()
    torch.manual_seed(1)
    loss = (
        model.encode_video(batch.video, batch.video_mask).square().sum()
        + model.encode_text(batch.text, batch.text_mask).sin().sum()
        + model.video_tokens(batch.video, batch.video_mask)[:, 0].cos().sum()
    )
    loss.backward()
    found["trained"] = float(loss.detach())
    found["gradients"] = [float(p.grad.norm()) for p in model.parameters() if p.grad is not None]
    approved.check(f"model-{name.replace(', ', '-').replace(' ', '-')}", found)


def test_errors_of_a_model():
    model, batch = model_of("mean"), some_batch()
    video, video_mask, text, text_mask = batch.tensors()
    holes = video.clone()
    holes[0, 3, 2] = torch.nan
    calls = {
        "mask": lambda: model.encode_video(video, video_mask.long()),
        "text mask": lambda: model.encode_text(text, text_mask.int()),
        "shape": lambda: model.encode_video(video[0], video_mask),
        "mask shape": lambda: model.encode_video(video, video_mask[:, :3]),
        "text shape": lambda: model.encode_text(text, text_mask[:, :3]),
        "width": lambda: model.encode_video(video[..., :3], video_mask),
        "length": lambda: model.encode_video(video.repeat(1, 2, 1), video_mask.repeat(1, 2)),
        "words": lambda: model.encode_text(text.repeat(1, 2), text_mask.repeat(1, 2)),
        "not finite": lambda: model.encode_video(holes, video_mask),
        "not finite seconds": lambda: model.video_tokens(holes, video_mask),
        "empty": lambda: model.encode_video(video, video_mask & False),
        "no clips": lambda: list(model.encode_video(video[:0], video_mask[:0]).shape),
        "no texts": lambda: list(model.encode_text(text[:0], text_mask[:0]).shape),
        "no classes": lambda: model.classify(video, video_mask),
        "unread": lambda: summary(
            model.encode_video(holes, video_mask & (torch.arange(9) < 3) | (torch.arange(9) < 1))
        ),
        "dual": lambda: load_by_name("nowhere"),
    }
    found = {name: outcome(call) for name, call in calls.items()}
    headed = model.with_classes(["a", "b", "c"])
    found["with classes"] = [headed.config.classes, list(headed.classifier.weight.shape)]
    found["with re-ranker"] = model.with_reranker(2).config.num_cross_layers
    found["same towers"] = bool(
        torch.equal(embed_batch(headed, batch)[0], embed_batch(model, batch)[0])
    )
    changed = replace(MODELS["residual"], dual_encoder_fingerprint="other")
    found["changed dual encoder"] = outcome(lambda: load_dual_encoder(changed))
    found["no dual encoder"] = load_dual_encoder(TINY)
    approved.check("model-errors", found)


def test_batches():
    batch = some_batch()
    spans = torch.arange(20.0).view(4, 5)
    placed = PlacedBatch(*batch.tensors(), spans)
    features = [np.ones((2, 3), np.float16), np.full((1, 3), 2.0)]
    collated = collate([(features[0], [4, 5]), (features[1], np.array([6]))], 9)
    frames, mask = pad_features(
        [np.full((2, 1, 1, 3), 7, np.uint8), np.full((1, 1, 1, 3), 5, np.uint8)]
    )
    approved.check(
        "batches",
        {
            "sizes": [
                len(batch),
                batch.num_tokens,
                len(placed.first(2).spans),
                len(placed.first(9)),
            ],
            "collated": collated,
            "frames": [frames.tolist(), str(frames.dtype), mask],
            "moved": [
                type(placed.to("cpu")).__name__,
                placed.to("cpu").spans.tolist() == spans.tolist(),
            ],
        },
    )


def pairs_of(number=6, width=4, **changes):
    generator = torch.Generator().manual_seed(7)
    video, text = (
        torch.randn(number, width, generator=generator).requires_grad_() for _ in range(2)
    )
    spans = torch.tensor(
        [
            [0, 0, 3, 1, 5],
            [0, 6, 9, 0, 4],
            [1, 0, 2, 2, 6],
            [1, 1, 4, 7, 9],
            [2, 5, 8, 4, 8],
            [2, 0, 3, 0, 2],
        ]
    ).float()
    words = torch.tensor([[4, 5, -1], [5, 4, 6], [4, 7, 8], [7, 8, 4], [9, -1, -1], [5, 4, -1]])
    values = {
        "video": video,
        "text": text,
        "all_video": video,
        "all_text": text,
        "first_row": 0,
        "num_processes": 1,
        "temperature": torch.tensor(0.3, requires_grad=True),
        "bias": torch.tensor(-0.5, requires_grad=True),
        "spans": spans,
        "words": words,
    }
    return PairEmbeddings(**{**values, **changes})


LOSSES = {
    "infonce": [{}, {"soft_target_share": 0.3}, {"ignore_overlapping": True}],
    "text_to_video": [{}, {"soft_target_share": 0.3}],
    "video_to_text": [{}],
    "mil_nce": [{}],
    "sigmoid": [{}],
    "equal_sentences": [{}, {"equal_sentences": 0.2}, {"equal_sentences": 0.0}],
    "neighbours": [{}, {"neighbour_seconds": 0.0}],
    "time_warping": [{}, {"ignore_overlapping": True}],
    "transport": [{}, {"ignore_overlapping": True}],
}


def value_and_gradients(kind, pairs, **settings):
    value = load_loss(kind)(pairs, LossConfig(kind=kind, **settings))
    value.backward()
    leaves = {"video": pairs.video, "text": pairs.text, "t": pairs.temperature, "bias": pairs.bias}
    gradients = {n: summary(x.grad)[1:] for n, x in leaves.items() if x.grad is not None}
    return {"value": float(value.detach()), **gradients}


def test_losses():
    found = {
        f"{kind} {settings or ''}".strip(): value_and_gradients(kind, pairs_of(), **settings)
        for kind, variants in LOSSES.items()
        for settings in variants
    }
    for kind, settings in (
        ("infonce", {}),
        ("infonce", {"ignore_overlapping": True}),
        ("text_to_video", {}),
        ("sigmoid", {}),
        ("mil_nce", {}),
    ):
        everyone = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(8))
        own = pairs_of()
        rows = [torch.cat([x[:2], y, x[2:3]]) for x, y in zip(everyone, (own.video, own.text))]
        many = own._replace(all_video=rows[0], all_text=rows[1], first_row=2, num_processes=2)
        found[f"{kind} {settings} of two"] = value_and_gradients(
            kind, many, **settings, **({} if kind == "mil_nce" else {"negatives": "global"})
        )
    spans = pairs_of().spans.clone()
    spans[:, 0] = torch.tensor([0, 0, 0, 1, 1, 1])
    for kind in ("time_warping", "transport", "neighbours"):  # three clips of each of two videos
        found[f"{kind} of three clips"] = value_and_gradients(kind, pairs_of(spans=spans))
    numbered = torch.tensor([[0, 5], [5, 0], [0, 7], [7, 8], [9, -1], [5, -1]])
    found["equal sentences with word 0"] = value_and_gradients(
        "equal_sentences", pairs_of(words=numbered), equal_sentences=0.3
    )
    candidates = torch.randn(12, 4, generator=torch.Generator().manual_seed(9))
    found["mil_nce of two texts"] = value_and_gradients("mil_nce", pairs_of(all_text=candidates))
    pairs = pairs_of()
    video, text = by_video(pairs)
    found["by video"] = [summary(video), summary(text)]
    found["overlapping"] = overlapping(pairs.spans).int().tolist()
    seconds = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(3))
    mask = torch.arange(3) < torch.tensor([3, 1, 2, 3, 1, 2])[:, None]
    ignored, weights = overlapping(pairs.spans), torch.arange(6.0)
    found["seconds"] = [
        float(seconds_loss(pairs.text.detach(), seconds, mask, 0.2)),
        float(seconds_loss(pairs.text.detach(), seconds, mask, 0.2, ignored, weights)),
    ]
    logits = (pairs.text @ pairs.video.T).detach()
    found["softmax"] = [
        float(softmax_loss(logits)),
        float(softmax_loss(logits, targets=torch.eye(6) + 0.1 * torch.arange(36.0).view(6, 6))),
        float(softmax_loss(logits, ignored=ignored, weights=weights)),
        float(softmax_loss(logits, targets=torch.ones(6, 6), ignored=ignored)),
        float(softmax_loss(logits.bfloat16())),
    ]
    unplaced, wordless = pairs_of(spans=None), pairs_of(words=None)
    calls = {
        "shapes": lambda: contrastive_loss(pairs.video, pairs.text[:3]),
        "widths": lambda: contrastive_loss(pairs.video, pairs.text[:, :3]),
        "mil_nce of other videos": lambda: mil_nce_loss(pairs.video, torch.ones(5, 2, 4)),
        "flat": lambda: contrastive_loss(pairs.video[0], pairs.text[0]),
        "soft": lambda: contrastive_loss(
            pairs.video, pairs.text, all_video=rows[0], all_text=rows[1], soft_target_share=0.1
        ),
        "mil_nce": lambda: mil_nce_loss(pairs.video, pairs.text),
        "unplaced": lambda: value_and_gradients("time_warping", unplaced),
        "unplaced neighbours": lambda: value_and_gradients("neighbours", unplaced),
        "unplaced infonce": lambda: value_and_gradients(
            "infonce", unplaced, ignore_overlapping=True
        ),
        "wordless": lambda: value_and_gradients("equal_sentences", wordless),
    }
    found["errors"] = {name: outcome(call) for name, call in calls.items()}
    approved.check("losses", found)


def test_frozen_parts():
    generator = torch.Generator().manual_seed(2)
    shapes = ((5, 3), (5,), (5, 4), (2, 4))
    parts = [torch.randn(shape, generator=generator) for shape in shapes]
    others = torch.Generator().manual_seed(3)
    shapes = ((5, 3), (16, 4), (5, 2, 4))
    directions, projection, texts = (torch.randn(shape, generator=others) for shape in shapes)
    bridge = ClassBridge(*parts, directions)
    found = {"bridge": bridge(torch.randn(2, 5, generator=generator))}
    towers = tiny_dual_encoder(MODELS["residual"])
    offset = torch.full((16,), 0.1)
    encoder = make_model(TINY).text_encoder
    tower = SentenceTower(encoder, offset, projection, texts, directions)
    found["sentences"] = summary(tower(*make_text([3, 1], 3)))
    torch.manual_seed(4)
    residual = Residual(12, MODELS["residual"])
    residual.initialise()
    nn.init.constant_(residual.scale, 0.5)
    starts = nn.functional.normalize(torch.randn(7, 16, generator=generator), dim=1)
    inputs = torch.randn(7, 12, generator=generator)
    residual.eval()
    found["residual"] = [summary(residual(starts, inputs)), residual.gate(starts).flatten()]
    for number, rows in enumerate((starts[:4], starts[3:6])):
        residual.fit_gate(rows)
        found[f"fitted {number}"] = [
            float(residual.radius),
            summary(residual.examples),
            residual.gate(starts).flatten(),
        ]
    residual.fit_gate(starts[:1])
    found["of one row"] = [float(residual.radius), residual.gate(starts).flatten()]
    assert not any(
        p.requires_grad for p in model_of("residual").video_encoder.start._module[0].parameters()
    )
    found["towers"] = summary(towers.frames(inputs))
    approved.check("frozen-parts", found)


def test_model_folders(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    tokenizer = Tokenizer(WORDS)
    config = replace(TINY, vocab_size=len(WORDS), cls_id=2, sep_id=3, classes=("a",))
    torch.manual_seed(0)
    model = VideoCLIP(config)
    card = hub.ModelCard(data="some videos", recipe="`tiny`", license="apache-2.0", limits="")
    local = tmp_path / "local"
    local.mkdir()
    model.config = replace(config, backbone=f"image:{local}", backbone_fingerprint="b1")
    hub.save_model(model, tmp_path / "whole", tokenizer, card)
    hub.save_model(model, tmp_path / "whole", tokenizer)
    hub.save_model(model, tmp_path / "trained" / "backbone", tokenizer)
    (tmp_path / "trained" / "config.json").write_text("{}")
    model.config = replace(config, backbone=f"image:{tmp_path / 'trained' / 'backbone'}")
    hub.save_model(model, tmp_path / "copied", tokenizer)
    model.config = replace(config, backbone=f"image:{tmp_path / 'copied' / 'backbone'}")
    hub.save_model(model, tmp_path / "copied", tokenizer)  # its own stays where it is
    model.config = replace(config, backbone=f"image:{local}", backbone_fingerprint="b1")
    shared = VideoCLIP(replace(MODELS["cls, one encoder"], features_per_second=0.5))
    shared.save_pretrained(tmp_path / "shared")
    found = {
        "files": tree(tmp_path),
        "config": json.loads((tmp_path / "whole" / "config.json").read_text()),
        "card": (tmp_path / "whole" / "README.md").read_text(),
        "shared card": (tmp_path / "shared" / "README.md").read_text().splitlines()[25:],
        "checksums": sorted(
            json.loads((tmp_path / "whole" / "checksums.json").read_text())["sha256"]
        ),
        "fingerprint": [
            len(hub.fingerprint(model, tokenizer)),
            hub.fingerprint(model, tokenizer) == hub.stored_fingerprint(tmp_path / "whole"),
            hub.stored_fingerprint(tmp_path / "shared"),
        ],
        "read": [hub.load_config(tmp_path / name).backbone for name in ("whole", "copied")],
        "residual card": hub.render_card(
            hub.ModelCard(), replace(MODELS["residual"], backbone="image:a/b"), 1234567
        ).splitlines()[25:34],
    }
    again = VideoCLIP.from_pretrained(tmp_path / "whole")
    found["same"] = [
        all(
            torch.equal(a, b)
            for a, b in zip(model.state_dict().values(), again.state_dict().values())
        ),
        again.training,
        hub.fingerprint(again, tokenizer) == hub.fingerprint(model, tokenizer),
    ]
    damages = {
        "no folder": lambda folder: (folder / "config.json").unlink(),
        "no weights": lambda folder: (folder / "model.safetensors").unlink(),
        "other": lambda folder: (folder / "config.json").write_text('{"format": "other"}'),
        "list": lambda folder: (folder / "config.json").write_text("[]"),
        "cut": lambda folder: (folder / "config.json").write_text("{"),
        "newer": lambda folder: (folder / "config.json").write_text(
            '{"format": "videoclip-model-3"}'
        ),
        "unknown": lambda folder: (folder / "config.json").write_text(
            '{"format": "videoclip-model-2", "hiden_size": 3}'
        ),
        "no tensors": lambda folder: (folder / "model.safetensors").write_bytes(b"1"),
        "sum": lambda folder: (folder / "vocab.txt").write_text("x"),
        "gone": lambda folder: (folder / "vocab.txt").unlink(),
        "of another": lambda folder: (folder / "model.safetensors").write_bytes(
            (tmp_path / "shared" / "model.safetensors").read_bytes()
        ),
    }
    for name, damage in damages.items():
        folder = tmp_path / name
        hub.save_model(model, folder, tokenizer, card)
        damage(folder)
        message = str(outcome(lambda folder=folder: VideoCLIP.from_pretrained(folder)))
        found[name] = message.partition(" Missing key(s)")[0]
    found["push"] = outcome(lambda: model.push_to_hub("a/b"))
    approved.check("model-folders", found, TMP=tmp_path)


class ToyFrames(nn.Module):
    """Stands for a backbone that is trained with the model."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.masks = []

    def forward(self, video, video_mask):
        self.masks.append(video_mask)
        return video

    def save_pretrained(self, folder):
        folder.mkdir(parents=True)
        (folder / "weights").write_text("trained")
        return "trained fingerprint"


def test_a_folder_with_a_trained_backbone(tmp_path):
    """Its weights are the backbone's own, no fingerprint of the towers alone is stored."""
    tokenizer, batch = Tokenizer(WORDS), some_batch()
    model = VideoCLIP(replace(TINY, vocab_size=len(WORDS), cls_id=2, sep_id=3))
    model.frame_encoder = frames = ToyFrames()
    model.encode_video(batch.video, batch.video_mask)
    assert torch.equal(frames.masks[-1], batch.video_mask)
    hub.save_model(model, tmp_path / "model", tokenizer)
    assert model.frame_encoder is frames
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    sums = json.loads((tmp_path / "model" / "checksums.json").read_text())
    found = {
        "backbone": [config["backbone"], config["backbone_fingerprint"]],
        "files": sorted(sums["sha256"]),
        "embedder": sums.get("embedder"),
        "tensors": len(load_file(tmp_path / "model" / "model.safetensors"))
        == len({name for name in model.state_dict() if not name.startswith("frame_encoder")}),
    }
    approved.check("folder-with-a-backbone", found)


def test_a_folder_that_is_written_again(tmp_path, monkeypatch):
    """While it is, no checksums are there that belong to what was there before."""
    model = make_model(TINY)
    hub.save_model(model, tmp_path)
    monkeypatch.setattr(hub, "write_checksums", lambda *arguments, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        hub.save_model(model, tmp_path)
    assert not (tmp_path / "checksums.json").exists()


def test_fingerprints_and_uploads(monkeypatch):
    tokenizer = Tokenizer(WORDS)
    model = make_model(MODELS["residual"])
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5)
    at_home, same_weights = hub.fingerprint(model, tokenizer), set()
    model.config = replace(model.config, dual_encoder="elsewhere/tiny")
    assert hub.fingerprint(model, tokenizer) == at_home
    model.config = replace(model.config, dual_encoder_fingerprint="another")
    assert hub.fingerprint(model, tokenizer) != at_home
    for known in ("", "another"):  # which has no folder that could have moved
        s3d = make_model(replace(TINY, backbone="s3d", backbone_fingerprint=known))
        for parameter in s3d.parameters():
            nn.init.constant_(parameter, 0.25)
        same_weights.add(hub.fingerprint(s3d, tokenizer))
    assert len(same_weights) == 1
    plain = make_model(TINY)
    for parameter in plain.parameters():
        nn.init.constant_(parameter, 0.5)
    calls = []

    class Hub:
        def create_repo(self, hub_id, **options):
            calls.append([hub_id, options])
            if "//" in hub_id:
                raise HFValidationError("no name of a repository")

        def upload_folder(self, **options):
            folder = Path(options["folder_path"])
            calls.append([options["repo_id"], sorted(path.name for path in folder.iterdir())])
            return "https://hub/" + options["repo_id"]

    monkeypatch.setattr("huggingface_hub.get_token", lambda: "token")
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    found = {
        "fingerprint": hub.fingerprint(plain, tokenizer),
        "pushed": [plain.push_to_hub("a/b", private=secret) for secret in (True, False)],
        "refused": outcome(lambda: plain.push_to_hub("a//b")),
        "calls": calls,
    }
    approved.check("fingerprints-and-uploads", found)


def test_models_made_of_others(monkeypatch, tmp_path):
    towers = tiny_dual_encoder(MODELS["residual"], seed=8, fingerprint="mine")
    model = VideoCLIP(MODELS["residual"], towers)
    assert model.with_classes(["a"]).dual_encoder is towers
    crossed = make_model(MODELS["classes, re-ranker"])
    crossed.reranker.weight.fill_(0.7)
    crossed.initialise()
    assert float(crossed.reranker.weight) == 0
    epsilons = {layer.feed_norm.eps for layer in layers_of(crossed)}
    assert epsilons == {layer.attention_norm.eps for layer in layers_of(crossed)} == {1e-12}
    wide = VideoCLIP(replace(TINY, hidden_size=18, num_cross_layers=1)).reranker
    assert wide.word_key.out_features == wide.second_key.out_features == 5
    layer = nn.Linear(4, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        transformer.linear(torch.ones(1001, 4), layer).sum().backward()
        assert layer.bias.grad.tolist() == [1001.0, 1001.0]  # which bf16 would round
        assert {x.dtype for x in embed_batch(crossed, some_batch())} == {torch.float32}
    monkeypatch.setattr(
        dual_encoder, "load_text_tower", lambda name: SimpleNamespace(fingerprint=name)
    )
    assert load_by_name("owner/name").fingerprint == "owner/name"
    monkeypatch.chdir(tmp_path)
    Path("clip").mkdir()
    assert load_by_name("clip").fingerprint == "clip"
    cpu = torch.device("cpu")
    assert transformer.use_cpu_kernels(cpu)
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert not transformer.use_cpu_kernels(cpu)
    packing = transformer.Packing(torch.arange(5) < torch.tensor([5, 2])[:, None])
    qkv = torch.randn(7, 48, generator=torch.Generator().manual_seed(1))
    kept, dropped = (transformer.attend_padded(qkv, packing, 2, rate) for rate in (0.0, 0.9))
    torch.testing.assert_close(kept, transformer.attend(qkv, packing, 2))
    assert not torch.allclose(kept, dropped, atol=1e-2)

    class Texts(nn.Module):
        tokenizer = Tokenizer(["[UNK]", "[CLS]", "[PAD]", "[SEP]", "egg"])
        dim, max_text_tokens, temperature, fingerprint = 6, 9, 0.02, "texts 1"

    spec = FeatureSpec(6, 2.5, "image:some/model", False, "frames 1")
    start = start_model(Texts(), spec)
    usual = to_dict(ModelConfig())
    changed = {n: value for n, value in to_dict(start.config).items() if value != usual[n]}
    approved.check("start-models", [changed, start.training])


def named(prefix, layers, width=16, words=50, positions=40, inner=24, bert="bert."):
    """Tensors of a BERT by their published names."""
    generator = torch.Generator().manual_seed(layers)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    head = f"{prefix}{bert}"
    names = {
        f"{head}embeddings.word_embeddings.weight": draw(words, width),
        f"{head}embeddings.position_embeddings.weight": draw(positions, width),
        f"{head}embeddings.token_type_embeddings.weight": draw(2, width),
    }
    modules = {"embeddings.LayerNorm": (width,)}
    for i in range(layers):
        layer = f"encoder.layer.{i}"
        modules |= {
            f"{layer}.attention.self.query": (width, width),
            f"{layer}.attention.self.key": (width, width),
            f"{layer}.attention.self.value": (width, width),
            f"{layer}.attention.output.dense": (width, width),
            f"{layer}.attention.output.LayerNorm": (width,),
            f"{layer}.intermediate.dense": (inner, width),
            f"{layer}.output.dense": (width, inner),
            f"{layer}.output.LayerNorm": (width,),
        }
    for module, shape in modules.items():
        names[f"{head}{module}.weight"] = draw(*shape)
        names[f"{head}{module}.bias"] = draw(shape[0])
    return names


def mlp(prefix, dim=12, width=16):
    generator = torch.Generator().manual_seed(99)
    shapes = {
        "linear1.weight": (width, dim),
        "linear1.bias": (width,),
        "LayerNorm.weight": (width,),
        "LayerNorm.bias": (width,),
        "linear2.weight": (width, width),
        "linear2.bias": (width,),
    }
    return {
        f"{prefix}videomlp.{n}": torch.randn(*s, generator=generator) for n, s in shapes.items()
    }


SETTINGS = ReleasedSettings(4, 0, 1, 2, 9, 11)


def described(model):
    embedded = embed_batch(model.eval(), some_batch())
    changed = {n: v for n, v in to_dict(model.config).items() if v != to_dict(ModelConfig())[n]}
    return {"config": changed, "embedded": list(map(summary, embedded))}


def test_conversions_of_weights():
    two = named("video_encoder.", 1) | mlp("video_encoder.") | named("text_encoder.", 2, bert="")
    two |= {"text_encoder.pooler.dense.weight": torch.zeros(1)}
    two |= {"video_encoder.bert.embeddings.position_ids": torch.zeros(1)}
    one = named("mmmodel.mm_encoder.", 2) | mlp("mmmodel.mm_encoder.")
    head = {
        "mmmodel.mm_encoder.classifier.weight": torch.ones(3, 16),
        "mmmodel.mm_encoder.cls.predictions.bias": torch.zeros(1),
    }
    found, options = {}, replace(SETTINGS, leave_out=("extra.",))
    for name, weights in {"two": two, "one": one, "head": one | head}.items():
        model, of_head = from_released(weights | {"extra.a": torch.ones(1)}, options, "FILE")
        found[name] = {
            **described(model),
            "head": {key: summary(value) for key, value in of_head.items()},
            "differences": released_differences([*weights, "extra.a"], model.config, options),
        }
    found["kinds"] = [
        kind_of(names)
        for names in (two, one, ["mixed_5c.a"], ["mmmodel.mixed_5c.a"], named("", 1), ["a"], [])
    ]
    settings = {"model_type": "bert", "num_attention_heads": 4}
    berts = {
        "bert": (named("", 3), TINY, 0),
        "other seed": (named("", 1, bert=""), TINY, 3),
        "with re-ranker": (named("", 1), replace(TINY, num_cross_layers=3), 0),
    }
    for name, (weights, config, seed) in berts.items():
        old = {n.replace("LayerNorm.weight", "LayerNorm.gamma"): t for n, t in weights.items()}
        old = {n.replace("LayerNorm.bias", "LayerNorm.beta"): t for n, t in old.items()}
        old |= {"cls.predictions.bias": torch.zeros(1), "bert.pooler.dense.bias": torch.zeros(1)}
        model = from_bert(old, settings, config, "FOLDER", seed=seed)
        found[name] = described(model)
        if config.num_cross_layers:
            found[name]["re-ranker"] = [summary(p) for p in model.reranker.parameters()][:3]
    bert = named("", 1)
    words = "bert.embeddings.word_embeddings.weight"
    calls = {
        "missing": lambda: from_bert(
            {n: t for n, t in bert.items() if n != words}, settings, TINY, "F"
        ),
        "vector": lambda: from_bert(bert | {words: torch.ones(3)}, settings, TINY, "F"),
        "no words": lambda: from_bert(bert | {words: torch.ones(0, 16)}, settings, TINY, "F"),
        "no layer norm": lambda: from_bert(
            {n: t for n, t in bert.items() if "embeddings.LayerNorm.bias" not in n},
            settings,
            TINY,
            "F",
        ),
        "extra": lambda: from_bert(bert | {"other": torch.ones(1)}, settings, TINY, "F"),
        "shape": lambda: from_bert(
            bert | {"bert.encoder.layer.0.output.dense.bias": torch.ones(3)}, settings, TINY, "F"
        ),
        "heads": lambda: from_bert(bert, {}, TINY, "F"),
        "odd heads": lambda: from_bert(bert, {"num_attention_heads": 3}, TINY, "F"),
        "activation": lambda: from_bert(bert, settings | {"hidden_act": "relu"}, TINY, "F"),
        "epsilon": lambda: from_bert(bert, settings | {"layer_norm_eps": 1e-5}, TINY, "F"),
        "positions": lambda: from_bert(
            bert, settings | {"position_embedding_type": "relative_key"}, TINY, "F"
        ),
        "type": lambda: from_bert(bert, settings | {"model_type": "roberta"}, TINY, "F"),
        "no heads said": lambda: from_released(two, replace(SETTINGS, num_heads=None), "F"),
        "no ids said": lambda: from_released(two, replace(SETTINGS, cls_id=None), "F"),
        "head left": lambda: from_released(two | {"mmmodel.a.b": torch.ones(1)}, SETTINGS, "F"),
        "usual": lambda: ReleasedSettings().complete(768, 28996),
        "unusual": lambda: ReleasedSettings(num_heads=2).complete(64, 30523),
    }
    found["errors"] = {name: outcome(call) for name, call in calls.items()}
    approved.check("conversions-of-weights", found)
