"""`videoclip ask`: answer a multiple-choice question about a video."""

import json
from dataclasses import dataclass
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg

from videoclip.cli import options
from videoclip.config.codec import require


@dataclass(frozen=True)
class Ask:
    """Answer a question about a video by choosing one of several answers.

    Prints the answers with their probabilities, the most likely one first.
    """

    stray: ClassVar[str] = "give the answers as --choices ANSWER ANSWER"

    video: options.Video
    question: Annotated[str, Positional, arg(metavar="QUESTION")]
    """The question."""
    choices: Annotated[tuple[str, ...], arg(metavar="ANSWER [ANSWER ...]")]
    """Two or more possible answers."""
    model: options.Model = None
    device: options.Device = options.AUTO
    json: options.Json = False

    def __post_init__(self) -> None:
        problem = (
            "give QUESTION after VIDEO, and at least two choices, separated by spaces: "
            "--choices red blue"
        )
        require(len(self.choices) > 1, problem)

    def run(self) -> int:
        """Print the answers by probability."""
        from videoclip.zeroshot.moments import clock
        from videoclip.zeroshot.results import answer

        embedder = options.load_embedder(self.model, self.device)
        found = answer(self.video, self.question, self.choices, embedder)
        if self.json:
            print(json.dumps(found.as_dict(), indent=2))
            return 0
        ranked = sorted(zip(found.probabilities, found.choices, strict=True), key=lambda p: -p[0])
        for probability, choice in ranked:
            best = f"  (best seen at {clock(found.best)})" if choice == found.text else ""
            print(f"{probability:6.1%}  {choice}{best}")
        return 0
