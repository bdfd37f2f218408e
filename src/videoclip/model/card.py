"""Model cards: how a model was trained and measured, and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from videoclip.config import ModelConfig

CARD_FILE = "README.md"


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
    from jinja2 import Template

    # A local folder says nothing to others; the fingerprint identifies the backbone.
    kind, _, source = config.backbone.partition(":")
    backbone = kind if source.startswith((".", "/")) else config.backbone
    text = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
    template: Template = Template(text, trim_blocks=True, keep_trailing_newline=True)
    return template.render(
        card=card, config=config, num_parameters=num_parameters, backbone=backbone
    )
