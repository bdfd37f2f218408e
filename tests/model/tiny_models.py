"""Random small models and batches for tests of the model floor."""

import torch
from torch import Tensor

from videoclip.config import ModelConfig
from videoclip.model.videoclip import VideoCLIP

TINY = ModelConfig(
    feature_dim=12,
    hidden_size=16,
    num_video_layers=2,
    num_text_layers=2,
    num_heads=2,
    intermediate_size=32,
    dropout=0.0,
    vocab_size=50,
    max_positions=40,
    cls_id=1,
    sep_id=2,
    max_video_tokens=9,
    max_text_tokens=11,
)


def make_model(config: ModelConfig = TINY, seed: int = 0, *, packed: bool = True) -> VideoCLIP:
    """A model whose biases and norms differ from zero and one, so that none goes untested."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = VideoCLIP(config)
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.video_encoder.packed = model.text_encoder.packed = packed
    return model.eval()


def make_video(lengths: list[int], num_slots: int, dim: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(lengths))
    mask = torch.arange(num_slots)[None] < torch.tensor(lengths)[:, None]
    return torch.randn(len(lengths), num_slots, dim, generator=generator), mask


def make_text(lengths: list[int], num_slots: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(lengths) + 1)
    mask = torch.arange(num_slots)[None] < torch.tensor(lengths)[:, None]
    return torch.randint(3, 50, mask.shape, generator=generator), mask
