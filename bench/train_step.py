"""What a training step of the paper's model costs: padded, packed, in bf16, and in transformers.

    python bench/train_step.py [--pairs 32] [--rounds 2] [--json]
    python bench/train_step.py --device cuda --pairs 512      # the paper's batch, on a GPU

Every variant is a process of its own with one thread, so that its peak memory is its own; they
take turns, and the least CPU time of a step counts (wall time on a GPU). `full` clips fill every
position, `mixed` ones are as long as the paper's: video U[3, 32], text U[8, 61]. All have dropout
0.1, clip gradients and use the same fused Adam. Rates count what is computed, padding included
where there is padding, and are compared with a large matrix product of that precision in the same
process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclip.config import OptimConfig
from videoclip.distributed import World
from videoclip.model import encoders
from videoclip.model.batch import Batch
from videoclip.model.losses.infonce import contrastive_loss
from videoclip.model.transformer import BertLayer, Packing, attend_padded
from videoclip.model.videoclip import VideoCLIP
from videoclip.recipes import paper
from videoclip.training.contrastive import ContrastiveLoss
from videoclip.training.optim import build_optimizer, clip_gradients
from videoclip.training.performance import compile_towers, forward_flops, keep_freed_memory
from videoclip.training.trainer import Trainer

RESULTS = Path(__file__).resolve().parent / "results"
RUN = replace(paper(), optim=OptimConfig(optimizer="adamw"))


@dataclass(frozen=True)
class Variant:
    """One way to take the step."""

    model: str  # ours, transformers
    lengths: str  # full, mixed
    packed: bool = False
    precision: str = "fp32"
    compiled: bool = False
    recompute: bool = False


VARIANTS = {
    "transformers, full": Variant("transformers", "full"),
    "padded, full": Variant("ours", "full"),
    "padded, mixed": Variant("ours", "mixed"),
    "packed, mixed": Variant("ours", "mixed", packed=True),
    "packed bf16, mixed": Variant("ours", "mixed", packed=True, precision="bf16"),
    "packed bf16, full": Variant("ours", "full", packed=True, precision="bf16"),
    "packed bf16 recomputed, mixed": Variant(
        "ours", "mixed", packed=True, precision="bf16", recompute=True
    ),
}
GPU_VARIANTS = {
    "packed bf16 compiled, mixed": replace(VARIANTS["packed bf16, mixed"], compiled=True),
}
PAPER_PAIRS_PER_SECOND = 1.1e6 * 16 * 25 / 86_400
"""1.1 million videos, 16 pairs each, 25 epochs in about a day on eight V100: 5,090."""
RATIOS = {
    "padded, full": "transformers, full",
    "packed, mixed": "padded, mixed",
    "packed bf16, mixed": "padded, mixed",
    "packed bf16 recomputed, mixed": "packed bf16, mixed",
}


def make_batch(lengths: str, num_pairs: int) -> Batch:
    """Clip pairs padded to the model's longest, as the padded variants compute them."""
    rng, config = np.random.default_rng(0), RUN.model
    if lengths == "full":
        videos, texts = (np.full(num_pairs, n) for n in (32, 61))
    else:
        videos, texts = rng.integers(3, 33, num_pairs), rng.integers(8, 62, num_pairs)
    video_mask = torch.from_numpy(np.arange(config.max_video_tokens) < videos[:, None])
    text_mask = torch.from_numpy(np.arange(config.max_text_tokens) < texts[:, None])
    torch.manual_seed(0)
    video = torch.randn(num_pairs, config.max_video_tokens, config.feature_dim)
    text = torch.randint(1000, config.vocab_size, text_mask.shape)
    return Batch(video * video_mask[..., None], video_mask, text * text_mask, text_mask)


class TransformersTowers(nn.Module):
    """The same towers made of `transformers.BertModel`, always padded."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        def bert(num_layers: int, vocab_size: int) -> nn.Module:
            config = BertConfig(num_hidden_layers=num_layers, vocab_size=vocab_size)
            config._attn_implementation = "sdpa"
            return BertModel(config, add_pooling_layer=False)

        width = RUN.model.hidden_size
        self.mlp = nn.Sequential(
            nn.Linear(RUN.model.feature_dim, width),
            nn.GELU(),
            nn.LayerNorm(width),
            nn.Linear(width, width),
        )
        self.video, self.text = bert(6, 2), bert(12, RUN.model.vocab_size)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embed clips and texts."""
        one = batch.video_mask.new_ones(len(batch), 1)
        special = self.video.embeddings.word_embeddings(
            torch.tensor([[0, 1]], device=batch.video.device).expand(len(batch), 2)
        )
        slots = torch.cat([special[:, :1], self.mlp(batch.video), special[:, 1:]], dim=1)
        video_mask = torch.cat([one, batch.video_mask, one], dim=1)
        video = self.video(inputs_embeds=slots, attention_mask=video_mask).last_hidden_state
        ids = torch.nn.functional.pad(batch.text, (1, 1), value=101)
        text_mask = torch.cat([one, one, batch.text_mask], dim=1)
        text = self.text(input_ids=ids, attention_mask=text_mask).last_hidden_state
        return _mean(video, video_mask), _mean(text, text_mask)


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


class Padded(Packing):
    """Every position of a batch is computed, masked ones too."""

    def pack(self, x: Tensor) -> Tensor:
        """(B, L, ...) -> (B * L, ...)."""
        return x.flatten(0, 1)

    def unpack(self, x: Tensor) -> Tensor:
        """(B * L, C) -> (B, L, C)."""
        return x.view(*self.mask.shape, -1)


def forward_padded(layer: BertLayer, hidden: Tensor, packing: Packing) -> Tensor:
    """A layer by torch's own functions: (B * L, H) -> (B * L, H)."""
    rate = layer.dropout if layer.training else 0.0
    attended = attend_padded(layer.qkv(hidden), packing, layer.num_heads, rate)
    hidden = layer.attention_norm(hidden + F.dropout(layer.attention_out(attended), rate))
    fed = layer.feed_out(F.gelu(layer.feed_in(hidden)))
    return layer.feed_norm(hidden + F.dropout(fed, rate))


def make_step(variant: Variant, num_pairs: int, device: torch.device) -> Callable[[], object]:
    """Return a call that performs one update."""
    batch = make_batch(variant.lengths, num_pairs)
    if variant.model == "ours":
        model = VideoCLIP(RUN.model)
        if not variant.packed:
            encoders.Packing = Padded
            for layer in model.modules():
                if isinstance(layer, BertLayer):
                    layer.forward = partial(forward_padded, layer)
        loss, world = ContrastiveLoss(model, RUN.loss), World(device=device)
        run = replace(RUN, recompute_layers=variant.recompute)
        trainer = Trainer(loss, run, world, 1000, variant.precision)
        if variant.compiled:
            compile_towers(model)
        if device.type == "cuda":
            batch = batch.pin_memory()  # as in pre-training
        return lambda: trainer.step(batch)
    towers = TransformersTowers().to(device).train()
    optimizer = build_optimizer(towers, RUN.optim)
    on_device = batch.to(device)

    def step() -> None:
        optimizer.zero_grad()
        contrastive_loss(*towers(on_device)).backward()
        clip_gradients(towers.parameters(), RUN.optim.clip_norm)
        optimizer.step()

    return step


def flops(variant: Variant, num_pairs: int) -> int:
    """Operations the variant computes in a step."""
    batch = make_batch(variant.lengths, num_pairs)
    if not variant.packed:
        batch = replace(
            batch,
            video_mask=torch.ones_like(batch.video_mask),
            text_mask=torch.ones_like(batch.text_mask),
        )
    return 3 * sum(forward_flops(RUN.model, batch))


def seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Least CPU time of a call, or wall time where a GPU does the work."""
    times = []
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    for _ in range(repeats):
        started = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - started)
    return min(times)


def measure(variant: Variant, num_pairs: int, device: torch.device) -> dict[str, float]:
    """Take steps in this process and compare with a matrix product."""
    torch.set_num_threads(1)
    with keep_freed_memory():  # as in pre-training, for the peer too
        return measure_step(variant, num_pairs, device)


def measure_step(variant: Variant, num_pairs: int, device: torch.device) -> dict[str, float]:
    """The measuring itself."""
    step = make_step(variant, num_pairs, device)
    for _ in range(1 if device.type == "cpu" else 5):
        step()
    least = seconds(step, device, repeats=2 if device.type == "cpu" else 10)
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**30
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = 8192 if device.type == "cuda" else 2048
    dtype = torch.bfloat16 if variant.precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    peak = 2 * size**3 / seconds(lambda: a @ b, device, repeats=5)
    return {
        "seconds": least,
        "pairs_per_second": num_pairs / least,
        "gflops_per_second": flops(variant, num_pairs) / least / 1e9,
        "peak_gflops_per_second": peak / 1e9,
        "memory_gib": memory,
    }


def main() -> None:
    """Let the variants take turns and keep the best of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--only", choices=VARIANTS | GPU_VARIANTS, help="measure one variant, in this process"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.only:
        variant = (VARIANTS | GPU_VARIANTS)[options.only]
        device = torch.device(options.device)
        print(json.dumps(measure(variant, options.pairs, device)))
        return
    results: dict[str, dict[str, float]] = {}
    on_gpu = torch.device(options.device).type == "cuda"
    for _ in range(options.rounds):
        for name in VARIANTS | GPU_VARIANTS if on_gpu else VARIANTS:
            command = [sys.executable, __file__, "--only", name, "--pairs", str(options.pairs)]
            command += ["--device", options.device]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found = json.loads(output.splitlines()[-1])
            best = results.setdefault(name, found)
            # The least disturbed measurement of each kind; memory as it comes.
            best["seconds"] = min(best["seconds"], found["seconds"])
            for key in ("pairs_per_second", "gflops_per_second", "peak_gflops_per_second"):
                best[key] = max(best[key], found[key])
    for name, result in results.items():
        result["peak_share"] = result["gflops_per_second"] / result["peak_gflops_per_second"]
        if name in RATIOS:
            base = results[RATIOS[name]]
            result["times_quicker"] = base["seconds"] / result["seconds"]
            result["memory_ratio"] = result["memory_gib"] / base["memory_gib"]
    RESULTS.mkdir(exist_ok=True)
    name = torch.cuda.get_device_name(options.device) if on_gpu else "cpu"
    content = {"pairs": options.pairs, "device": name, "variants": results}
    if on_gpu:
        content["paper's pairs_per_second on 8 V100"] = PAPER_PAIRS_PER_SECOND
    (RESULTS / "train_step.json").write_text(json.dumps(content, indent=2) + "\n")
    print(json.dumps(content, indent=2) if options.json else table(results))


def table(results: dict[str, dict[str, float]]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| step | s | pairs/s | GFLOP/s | share of matmul peak | GiB | speed-up | memory ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, r in results.items():
        versus = "| | |"
        if name in RATIOS:
            versus = f"| {r['times_quicker']:.2f} x {RATIOS[name]} | {r['memory_ratio']:.2f} |"
        lines.append(
            f"| {name} | {r['seconds']:.2f} | {r['pairs_per_second']:.1f} | "
            f"{r['gflops_per_second']:.0f} | {100 * r['peak_share']:.0f} % | "
            f"{r['memory_gib']:.2f} {versus}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
