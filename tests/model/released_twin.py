"""The released model written out: one sequence array for both towers, padding computed and masked.

Weights are a dict by the published names. Letters: B batch, T video slots, L packed text length.
"""

import math

import torch
from torch.nn import functional as F


def random_weights(sizes, generator):
    """Weights of both towers; `sizes` as in the reference numbers' configs.json."""
    width, wide = sizes["hidden"], sizes["intermediate"]
    weights = {}

    def linear(name, rows, columns):
        weights[f"{name}.weight"] = 0.08 * torch.randn(rows, columns, generator=generator)
        weights[f"{name}.bias"] = 0.1 * torch.randn(rows, generator=generator)

    def norm(name):
        weights[f"{name}.weight"] = 1 + 0.15 * torch.randn(width, generator=generator)
        weights[f"{name}.bias"] = 0.1 * torch.randn(width, generator=generator)

    linear("video_encoder.videomlp.linear1", width, sizes["feature_dim"])
    norm("video_encoder.videomlp.LayerNorm")
    linear("video_encoder.videomlp.linear2", width, width)
    towers = {"video_encoder.bert.": "video_layers", "text_encoder.": "text_layers"}
    for tower, layers in towers.items():
        tables = {"word": "vocab", "position": "max_position", "token_type": None}
        for table, size in tables.items():
            rows = sizes[size] if size else 2
            weights[f"{tower}embeddings.{table}_embeddings.weight"] = 0.08 * torch.randn(
                rows, width, generator=generator
            )
        norm(f"{tower}embeddings.LayerNorm")
        for i in range(sizes[layers]):
            layer = f"{tower}encoder.layer.{i}."
            for part in ("attention.self.query", "attention.self.key", "attention.self.value"):
                linear(f"{layer}{part}", width, width)
            linear(f"{layer}attention.output.dense", width, width)
            norm(f"{layer}attention.output.LayerNorm")
            linear(f"{layer}intermediate.dense", wide, width)
            linear(f"{layer}output.dense", width, wide)
            norm(f"{layer}output.LayerNorm")
        linear(f"{tower}pooler.dense", width, width)
        weights[f"{tower}embeddings.position_ids"] = torch.arange(sizes["max_position"])[None]
    return weights


def pack_words(texts, sizes, special):
    """[CLS] [SEP] words [SEP] [PAD] .. of each text, and their mask: (B, L)."""
    cls, sep, pad = special
    length = sizes["max_len"] - sizes["max_video_len"]
    rows = [[cls, sep, *words, sep] for words in texts]
    caps = torch.tensor([row + [pad] * (length - len(row)) for row in rows])
    return caps, torch.arange(length) < torch.tensor([len(row) for row in rows])[:, None]


def encode_video(weights, sizes, caps, cmasks, vfeats, vmasks):
    """(B, T + 2, H) last-layer states and (B, H) embeddings."""
    mlp = "video_encoder.videomlp."
    x = F.gelu(_linear(weights, f"{mlp}linear1", vfeats))
    x = F.layer_norm(
        x, x.shape[-1:], weights[f"{mlp}LayerNorm.weight"], weights[f"{mlp}LayerNorm.bias"]
    )
    slots = _linear(weights, f"{mlp}linear2", x)
    words = weights["video_encoder.bert.embeddings.word_embeddings.weight"]
    tokens = torch.cat([words[caps[:, :1]], slots, words[caps[:, 1:2]]], dim=1)
    mask = torch.cat([cmasks[:, :1], vmasks, cmasks[:, 1:2]], dim=1)
    positions = torch.cat(
        [torch.arange(vfeats.shape[1] + 1), torch.tensor([sizes["max_video_len"] + 1])]
    )
    hidden = _bert(weights, sizes, "video_encoder.bert.", "video_layers", tokens, positions, mask)
    return hidden, _mean(hidden, torch.cat([vmasks, cmasks[:, 1:2]], dim=1))


def encode_text(weights, sizes, caps, cmasks):
    """(B, L - 1, H) last-layer states and (B, H) embeddings."""
    ids = torch.cat([caps[:, :1], caps[:, 2:]], dim=1)
    mask = torch.cat([cmasks[:, :1], cmasks[:, 2:]], dim=1)
    tokens = weights["text_encoder.embeddings.word_embeddings.weight"][ids]
    positions = torch.arange(ids.shape[1])
    hidden = _bert(weights, sizes, "text_encoder.", "text_layers", tokens, positions, mask)
    return hidden, _mean(hidden, mask[:, 1:])


def loss(video, text):
    """Both directions, each averaged over the batch, added."""
    scores = video @ text.T
    own = torch.arange(len(video))
    return F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)


def _bert(weights, sizes, tower, layers, tokens, positions, mask):
    def norm(name, x):
        return F.layer_norm(
            x, x.shape[-1:], weights[f"{tower}{name}.weight"], weights[f"{tower}{name}.bias"], 1e-12
        )

    table = weights[f"{tower}embeddings.position_embeddings.weight"]
    types = weights[f"{tower}embeddings.token_type_embeddings.weight"]
    x = norm("embeddings.LayerNorm", tokens + table[positions] + types[0])
    batch, length, width = x.shape
    heads = sizes["heads"]
    penalty = -10000.0 * (~mask)[:, None, None, :]
    for i in range(sizes[layers]):
        layer = f"encoder.layer.{i}."
        query, key, value = (
            _linear(weights, f"{tower}{layer}attention.self.{part}", x)
            .view(batch, length, heads, width // heads)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(width // heads) + penalty
        attended = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, width)
        attended = _linear(weights, f"{tower}{layer}attention.output.dense", attended)
        x = norm(f"{layer}attention.output.LayerNorm", x + attended)
        fed = F.gelu(_linear(weights, f"{tower}{layer}intermediate.dense", x))
        x = norm(
            f"{layer}output.LayerNorm", x + _linear(weights, f"{tower}{layer}output.dense", fed)
        )
    return x


def _mean(hidden, mask):
    """Mean over the valid positions behind [CLS]: (B, n + 1, H) -> (B, H)."""
    weights = mask.float() / mask.sum(dim=1, keepdim=True)
    return (weights[:, :, None] * hidden[:, 1:]).sum(dim=1)


def _linear(weights, name, x):
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])
