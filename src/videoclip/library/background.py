"""What unrelated queries reach in a library: scenes that hardly any holds, and its own narration.

The scenes lie in a file made with the library; sentences drawn from the narration, in which videos
they are spoken, and what was measured are facts in its catalogue.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from videoclip.embedding import Embedder
from videoclip.library.catalog import IndexedVideo
from videoclip.zeroshot.confidence import Calibration

if TYPE_CHECKING:
    from videoclip.library.search import View

__all__ = ["load_background", "measure_again"]

NUM_SPOKEN = 48
"""Sentences of the narration; about as many as there are scenes."""
GONE = -2
"""Owner of a sentence whose video was dropped: nobody of those who are left."""


def load_background(
    folder: Path, facts: Mapping[str, str], videos: Sequence[IndexedVideo]
) -> Calibration:
    """Read a library's background as it was measured last.

    Args:
        folder: Where its files lie.
        facts: Of its catalogue.
        videos: Those in it.
    """
    scenes = Calibration.of_scenes(np.load(folder / facts["unrelated"]))
    spoken = json.loads(facts.get("spoken", "{}"))
    if spoken.get("fingerprint") != facts["fingerprint"]:  # none, or another model's
        queries, owners = scenes.queries, scenes.owners
    else:
        keys = {video.path: video.id for video in videos}
        packed = np.frombuffer(base64.b64decode(spoken["queries"]), dtype="<f2")
        rows = packed.reshape(-1, scenes.queries.shape[1]).astype(np.float32)
        speakers = [keys.get(path, GONE) for path in spoken["videos"]]
        queries = np.concatenate((scenes.queries, rows))
        owners = np.concatenate((scenes.owners, np.array(speakers, dtype=np.int64)))
    return Calibration(queries, owners, *json.loads(facts.get("background", "[0.0, 1.0]")))


def measure_again(folder: Path, view: View, embedder: Embedder) -> dict[str, str]:
    """Draw sentences from the narration and measure what all unrelated queries reach.

    Returns:
        Facts for the catalogue; none if nothing has changed.
    """
    facts = view.catalog.facts()
    cues = view.catalog.sample_cues(NUM_SPOKEN)
    paths = {video.id: video.path for video in view.snapshot.videos}
    cues = [(key, text) for key, text in cues if key in paths]
    queries = embedder.embed_text([text for _, text in cues]) if cues else np.zeros((0, 0))
    spoken = {
        "fingerprint": facts["fingerprint"],
        "videos": [paths[key] for key, _ in cues],
        "queries": base64.b64encode(queries.astype("<f2").tobytes()).decode(),
    }
    found = {"spoken": json.dumps(spoken)}
    background = load_background(folder, {**facts, **found}, view.snapshot.videos)
    vectors = (
        (video.id, view.store.read(video.first_row, video.num_windows))
        for video in view.snapshot.videos
    )
    measured = background.fit(vectors)
    found["background"] = json.dumps([measured.median, measured.scale])
    return {key: value for key, value in found.items() if facts.get(key) != value}
