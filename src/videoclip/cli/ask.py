"""`videoclip ask`: answer a multiple-choice question about a video."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

__all__ = ["Ask"]


@dataclass(frozen=True)
class Ask:
    """Answer a question about a video by choosing among answers, zero-shot.

    Prints the answers, the chosen one first, with their probabilities.
    """

    video: Annotated[Path, tyro.conf.Positional]
    """The video."""
    question: Annotated[str, tyro.conf.Positional]
    """The question."""
    choices: tuple[str, ...]
    """Two or more answers."""
    model: str = "starter"
    """Model folder, hub id or "starter"."""
    json: bool = False
    """Print the answer as JSON."""
    device: str = "cpu"
    """Torch device."""

    def run(self) -> int:
        """Answer, and print how sure the model is of each choice."""
        from videoclip.embedding import Embedder
        from videoclip.zeroshot.results import clock
        from videoclip.zeroshot.video import answer

        embedder = Embedder.from_pretrained(self.model, self.device)
        found = answer(self.video, self.question, self.choices, embedder)
        if self.json:
            print(json.dumps(found.as_dict(), indent=2))
            return 0
        by_probability = sorted(
            zip(found.probabilities, found.choices, strict=True), key=lambda pair: -pair[0]
        )
        for probability, choice in by_probability:
            best = f"  (look at {clock(found.best)})" if choice == found.text else ""
            print(f"{probability:6.1%}  {choice}{best}")
        return 0
