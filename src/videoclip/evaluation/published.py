"""Published numbers of the VideoCLIP paper, for comparison.

Source: arXiv 2109.14084. Their features may differ from yours, and they cannot be reproduced: no
fine-tuned weights were released.
"""

from __future__ import annotations

from videoclip.evaluation.outcome import Baseline

ZERO_SHOT, FINE_TUNED = "VideoCLIP zero-shot", "VideoCLIP fine-tuned"
PAPER = "arXiv 2109.14084"


def _retrieval(name: str, *percentages: float, note: str = PAPER) -> Baseline:
    cutoffs = (1, 5, 10)
    values = {f"text-to-video R@{k}": p / 100 for k, p in zip(cutoffs, percentages, strict=False)}
    return Baseline(name, values, note)


PUBLISHED: dict[str, tuple[Baseline, ...]] = {
    "youcook2": (
        _retrieval(ZERO_SHOT, 22.7, 50.4, 63.1, note=f"{PAPER}; 3,305 clips"),
        _retrieval(FINE_TUNED, 32.2, 62.6, 75.0, note=f"{PAPER}; 3,305 clips"),
    ),
    "msrvtt": (
        _retrieval(ZERO_SHOT, 10.4, 22.2, 30.0),
        _retrieval(FINE_TUNED, 30.9, 55.4, 66.8),
    ),
    "msrvtt_qa": (
        Baseline(ZERO_SHOT, {"accuracy": 0.739}, PAPER),
        Baseline(FINE_TUNED, {"accuracy": 0.921}, PAPER),
    ),
    "didemo": (
        Baseline(
            ZERO_SHOT,
            {"rank@1": 0.166, "rank@5": 0.469},
            f"{PAPER}, where it is called retrieval; below the frequency prior",
        ),
    ),
    "coin": (
        Baseline(
            ZERO_SHOT,
            {"frame accuracy": 0.589},
            f"{PAPER}; every prediction was background (fairseq#4940)",
        ),
        Baseline(FINE_TUNED, {"frame accuracy": 0.687}, PAPER),
    ),
    "crosstask": (
        Baseline(ZERO_SHOT, {"average recall": 0.339}, PAPER),
        Baseline(FINE_TUNED, {"average recall": 0.473}, PAPER),
    ),
}
"""By the name of the benchmark; benchmarks that are not in the paper are absent."""
