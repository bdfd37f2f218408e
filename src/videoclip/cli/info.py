"""`videoclip info`: what a folder or file is."""

import json
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from videoclip.cli import options


@dataclass(frozen=True)
class Info:
    """Describe a folder or file.

    Knows models, feature stores, frame stores, runs, ablations, libraries, synthetic worlds, videos
    and subtitles.
    """

    path: Annotated[str, Positional, arg(metavar="PATH")]
    """Folder or file, or the address of a library in object storage."""
    verify: bool = False
    """Compare every file with its checksum; damaged ones are listed, and the exit status is 1."""
    json: options.Json = False

    def run(self) -> int:
        """Print facts, one a line, or what is damaged."""
        from videoclip.info import describe, verify

        if self.verify:
            damaged = verify(self.path)
            print(json.dumps(damaged, indent=2) if self.json else "\n".join(damaged or ["whole"]))
            return 1 if damaged else 0
        facts = describe(self.path)
        if self.json:
            print(json.dumps(facts, indent=2, default=str))
        else:
            width = max(map(len, facts))
            for name, value in facts.items():
                print(f"{name:<{width}}  {value}")
        return 0
