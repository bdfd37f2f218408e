"""InfoNCE with several positives: pairs whose sentences have nearly the same words."""

import torch
from torch import Tensor
from torch.nn import functional as F

from videoclip.config import LossConfig
from videoclip.errors import ConfigError
from videoclip.model.losses import PairEmbeddings, softmax_loss


def loss(pairs: PairEmbeddings, config: LossConfig) -> Tensor:
    """Return the loss of this process's pairs, equal shares for all positives of a row."""
    if pairs.words is None:
        raise ConfigError("this loss needs the words of texts: use it in pre-training")
    targets = word_similarity(pairs.words) >= config.equal_sentences
    targets.fill_diagonal_(True)
    return softmax_loss(pairs.text @ pairs.video.T / pairs.temperature, targets.float())


@torch.no_grad()
def word_similarity(words: Tensor) -> Tensor:
    """Return the (B, B) cosine similarities of sentences as sets of words.

    A word that is in n of B sentences weighs log(B / n), so that common ones hardly count.

    Args:
        words: (B, L) ids, -1 where padded.
    """
    known, columns = words.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    sets = torch.zeros(len(words), len(known), device=words.device).scatter_(1, columns, 1.0)
    weights = (len(words) / sets.sum(dim=0)).log() * (known >= 0)
    sets = F.normalize(sets * weights, dim=1)
    return sets @ sets.T
