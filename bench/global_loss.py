"""Memory and time of the losses with global negatives: all logits at once, or in chunks.

    python bench/global_loss.py [--rows 512] [--ranks 8] [--width 768] [--json]

One process plays one rank of several: its own rows, with those of all ranks as negatives. Memory
is the peak above the embeddings and their gradients, forwards and backwards, in a process of its
own, as a multiple of one (rows, ranks * rows) matrix of float32 logits: the rank's own rows.
`every pair` is the whole matrix that a sigmoid loss of all rows holds on each rank.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from videoclip.config import LossConfig
from videoclip.model import losses
from videoclip.model.losses import PairEmbeddings
from videoclip.model.losses.sigmoid import sigmoid_loss

RESULTS = Path(__file__).resolve().parent / "results" / "global_loss.json"
VARIANTS = ("infonce chunks", "infonce own rows", "sigmoid chunks", "sigmoid own rows",
            "sigmoid every pair")  # fmt: skip


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def take_step(variant: str, num_rows: int, num_ranks: int, width: int) -> tuple[int, float]:
    """Compute the loss of one rank and its gradients.

    Returns:
        The peak of memory above the embeddings and their gradients, in bytes; CPU seconds.
    """
    kind, how = variant.split(" ", 1)
    generator = torch.Generator().manual_seed(0)
    num_all, first = num_rows * num_ranks, num_rows * (num_ranks // 2)
    gathered = [torch.randn(num_all, width, generator=generator) / width**0.5 for _ in range(2)]
    own = [x[first : first + num_rows].clone() for x in gathered]
    scalars = [torch.tensor(0.1), torch.tensor(-5.0)]
    video, text, all_video, all_text, *_ = leaves = [
        x.requires_grad_() for x in (*own, *gathered, *scalars)
    ]
    before, started = peak_bytes(), time.process_time()
    if how == "every pair":
        value = sigmoid_loss(all_video, all_text, *scalars)
    else:
        losses.NUM_CHUNKS = 1 if how == "own rows" else losses.NUM_CHUNKS
        pairs = PairEmbeddings(video, text, all_video, all_text, first, num_ranks, *scalars)
        value = losses.load_loss(kind)(pairs, LossConfig(kind=kind))
    value.backward()  # type: ignore[no-untyped-call]
    gradients = sum(x.grad.nbytes for x in leaves if x.grad is not None)
    return peak_bytes() - before - gradients, time.process_time() - started


def measure(variant: str, num_rows: int, num_ranks: int, width: int) -> dict[str, float]:
    """Take one step in this process."""
    torch.set_num_threads(1)
    take_step(variant, 4, 4, width)  # loads the kernels
    extra, seconds = take_step(variant, num_rows, num_ranks, width)
    own_rows = 4 * num_rows**2 * num_ranks
    return {"CPU seconds": seconds, "MiB": extra / 2**20, "own rows": extra / own_rows}


def main() -> None:
    """Measure each variant in a process of its own and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.rows, options.ranks, options.width)))
        return
    results = {}
    for variant in VARIANTS:
        command = [sys.executable, __file__, *sys.argv[1:], "--measure", variant]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        results[variant] = json.loads(answer.stdout)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    if options.json:
        print(json.dumps(results, indent=2))
        return
    print(f"{'':<20} {'MiB':>8} {'x own rows':>11} {'CPU seconds':>12}")
    for name, row in results.items():
        print(f"{name:<20} {row['MiB']:8.1f} {row['own rows']:11.2f} {row['CPU seconds']:12.2f}")


if __name__ == "__main__":
    main()
