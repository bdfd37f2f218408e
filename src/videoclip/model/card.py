"""Model cards: how a model was trained and measured, and its limits."""

from __future__ import annotations

from dataclasses import dataclass

from videoclip.config import ModelConfig

CARD_FILE = "README.md"

CARD = """\
---
library_name: videoclip
pipeline_tag: feature-extraction
tags:
- videoclip
- video-retrieval
- zero-shot
{license_line}---

# VideoCLIP model

Two transformers that embed video and text into one space, for search, localisation, segmentation
and multiple choice without labels ([arXiv 2109.14084](https://arxiv.org/abs/2109.14084)).

```python
from videoclip import Embedder

embedder = Embedder.from_pretrained("FOLDER-OR-HUB-ID")
print(embedder.similarity(["a person rides a bicycle"], ["video.mp4"]))
```

| | |
|---|---|
| Video tower | {video_layers} layers |
| Text tower | {text_layers} layers |
| Width of embeddings | {width} |
| Parameters | {parameters:,} |
| Features | {feature_dim}-d, {rate:g} per second, backbone `{backbone}`{backbone_print} |

## Data

{data}

## Recipe

{recipe}

## Results and protocol

{protocol}

## Licence

{license_text}

## Limits

{limits}
"""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a model card states beyond the settings, each in Markdown; empty: not stated.

    Attributes:
        data: Videos and texts the model was trained on.
        recipe: How it was trained.
        protocol: Its numbers and how they were measured.
        license: Identifier of the weights' licence as the hub lists them, such as "apache-2.0".
        limits: What it must not be relied on for.
    """

    data: str = ""
    recipe: str = ""
    protocol: str = ""
    license: str = ""
    limits: str = (
        "Embeddings reflect what the training videos and their narration contain, including their "
        "biases. Do not use them to identify people or to decide about them. Confidence is "
        "relative to the videos searched and is not a probability."
    )


def render_card(card: ModelCard, config: ModelConfig, num_parameters: int) -> str:
    """Return a model card as Markdown with the hub's front matter."""
    # A local folder says nothing to others; the fingerprint identifies the backbone.
    kind, _, source = config.backbone.partition(":")
    is_local = source.startswith((".", "/"))
    return CARD.format(
        license_line=f"license: {card.license}\n" if card.license else "",
        video_layers=config.num_video_layers,
        text_layers=config.num_text_layers,
        width=config.hidden_size,
        parameters=num_parameters,
        feature_dim=config.feature_dim,
        rate=config.features_per_second,
        backbone=kind if is_local else config.backbone,
        backbone_print=f" ({config.backbone_fingerprint})" if config.backbone_fingerprint else "",
        data=card.data or "Not stated.",
        recipe=card.recipe or "Not stated.",
        protocol=card.protocol or "Not stated.",
        license_text=card.license or "Not stated: ask who made the model before you use it.",
        limits=card.limits or "Not stated.",
    )
