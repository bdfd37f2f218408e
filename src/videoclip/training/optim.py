"""The optimiser, its learning rate, the clipping of gradients, and the average of weights."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from videoclip.config import OptimConfig
from videoclip.errors import ConfigError


def learning_rate(update: int, config: OptimConfig, run_length: int) -> float:
    """Return the learning rate of one update.

    Args:
        update: Index of the update, from 0.
        config: Peak, warm-up and shape.
        run_length: Updates in the whole run; the horizon where `config.total_updates` is 0.

    Source: released schedule: the warm-up starts at rate 0 and peaks at `warmup_updates`.
    """
    warmup = config.warmup_updates
    if update <= warmup and warmup > 0:
        return config.lr * (update / warmup)
    if config.schedule == "constant":
        return config.lr
    horizon = config.total_updates or run_length
    if update >= horizon:
        return 0.0
    remaining = 1 - (update - warmup) / (horizon - warmup)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 - math.cos(math.pi * remaining))
    if config.schedule == "cooldown":
        return config.lr * min(1.0, remaining / config.cooldown_share)
    return config.lr * remaining


class FairseqAdam(torch.optim.AdamW):
    """Adam as fairseq computes it, in torch's fused kernel.

    fairseq adds epsilon to sqrt(v) before the bias correction of v, torch after it; torch with
    epsilon / sqrt(1 - beta2^t) at step t is fairseq's update exactly.

    Source: released optimiser (not its apex variant).
    """

    def __init__(self, params: Iterable[Any], **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        for group in self.param_groups:
            group["plain_eps"], group["num_steps"] = group["eps"], 0

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Perform one update."""
        for group in self.param_groups:
            group["num_steps"] += 1
            group["eps"] = group["plain_eps"] / math.sqrt(
                1 - group["betas"][1] ** group["num_steps"]
            )
        loss: float | None = super().step(closure)
        return loss


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Return the optimiser of every trainable parameter of `model`, at learning rate 0.

    `fairseq_adam` decays all parameters alike, as released; `adamw` decays matrices only. Their
    moments are allocated here: in the first step they would fragment the memory that it frees
    (docs/performance.md).

    Raises:
        ConfigError: If a tower has a learning rate of its own, but no parameters to train.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    scales = {"video": config.video_lr_scale, "text": config.text_lr_scale}
    for tower, lr_scale in scales.items():
        if lr_scale != 1 and not any(name.startswith(f"{tower}_encoder.") for name in trained):
            raise ConfigError(
                f"optim.{tower}_lr_scale: the {tower} tower has no parameters of its own that are "
                "trained: leave it at 1"
            )
    is_fairseq = config.optimizer == "fairseq_adam"
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        weight_decay = config.weight_decay if is_fairseq or parameter.ndim > 1 else 0.0
        lr_scale = scales.get(name.partition("_encoder.")[0], 1.0)
        groups.setdefault((weight_decay, lr_scale), []).append(parameter)
    kind = FairseqAdam if is_fairseq else torch.optim.AdamW
    optimizer = kind(
        [
            {"params": parameters, "weight_decay": weight_decay, "lr_scale": lr_scale}
            for (weight_decay, lr_scale), parameters in groups.items()
        ],
        lr=0.0,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )
    for parameter in trained.values():
        optimizer.state[parameter] = {
            "step": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of the next update, scaled in each tower."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def update_average(
    average: Mapping[str, Tensor], model: nn.Module, decay: float, update: int
) -> None:
    """Move an exponential moving average towards the weights of `model`, in place.

    The decay is at most (1 + update) / (10 + update), so that the average of a short run is not
    made of its first weights.

    Args:
        average: By name of parameter.
        model: Its weights after the update.
        decay: Weight of the average so far.
        update: Index of the update, from 0.

    Source: Polyak averaging, with the decay of TensorFlow's `ExponentialMovingAverage`.
    """
    weights = [model.get_parameter(name) for name in average]
    decay = min(decay, (1 + update) / (10 + update))
    move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    move(list(average.values()), weights, update)


@torch.no_grad()
def set_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into the parameters of `model` that have their names."""
    for name, weight in weights.items():
        model.get_parameter(name).copy_(weight)


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scale gradients by min(1, max_norm / (norm + 1e-6)) and return their norm before that.

    Args:
        parameters: All parameters that share the norm.
        max_norm: Largest norm left; 0: no clipping.
    """
    with_gradient = [p for p in parameters if p.grad is not None]
    norm = get_total_norm([p.grad for p in with_gradient if p.grad is not None])
    if max_norm > 0 and bool(torch.isfinite(norm)):
        clip_grads_with_norm_(with_gradient, max_norm, norm)
    return float(norm)


def freeze(model: nn.Module, prefixes: Iterable[str]) -> None:
    """Stop training every parameter whose name starts with one of `prefixes`.

    Raises:
        ConfigError: If a prefix names no parameter, or nothing is left to train.
    """
    for prefix in prefixes:
        named = [p for name, p in model.named_parameters() if name.startswith(prefix)]
        if not named:
            tops = sorted({name.split(".")[0] for name, _ in model.named_parameters()})
            raise ConfigError(
                f"frozen: no parameter is named '{prefix}...'; the model has {', '.join(tops)}"
            )
        for parameter in named:
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError("frozen: every parameter is frozen, nothing is left to train")
