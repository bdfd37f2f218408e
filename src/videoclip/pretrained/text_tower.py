"""The text side of any dual encoder of `transformers`: CLIP, SigLIP, ALIGN, X-CLIP and the like.

`TextTokenizer` and `TextTower` have the interface of this package's own tokenizer and text tower:
ids without special tokens and a mask go in, and the tower adds the special tokens and the padding
that its family was trained with. An embedding equals that of the library's own processor and
`get_text_features`, L2-normalised.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclip.data.tokenizer import Tokenizer
from videoclip.errors import CheckpointError, ConfigError, VideoCLIPError
from videoclip.pretrained.loading import (
    check_model,
    files_digest,
    load_network,
    model_folder,
    quietly,
    transformers_library,
    unusable,
)

UNBOUNDED = 10**6
"""A tokenizer whose longest text is above this states none."""
TEMPLATES = {
    "clip": "a photo of a {}",
    "metaclip_2": "a photo of a {}",
    "siglip": "This is a photo of {}.",
    "siglip2": "This is a photo of {}.",
}
"""Sentence around the bare name of a thing, as published for each type of model. Source: CLIP's and
SigLIP's model cards."""
BARE_WORDS = re.compile(r"(?!(?:a|an|the|some|one|two|three)\b)(?!\w+ing\b)[^\W\d]\w*( \w+)?", re.I)
"""One or two words that name a thing: "dog", "red car"; not "a dog", "running", "dog, cat"."""
COUNTS_FROM_PADDING = ("roberta", "altclip")
"""Types of text models that number positions from `pad_token_id + 1`."""


class TextTokenizer(Tokenizer):
    """The tokenizer of a dual encoder; its vocabulary stays with the model it came from.

    Args:
        tokenizer: Of `transformers`.
        lower_case: Whether texts are lower-cased first. SigLIP and SigLIP 2 were trained on
            lower-cased texts, but the stored tokenizer of some checkpoints leaves capitals.

    Attributes:
        prefix: Ids before those of a text.
        suffix: Ids behind them.
        pad_id: Id that fills short rows.
        cls_id: First special id, or else `pad_id`.
        sep_id: Last special id, or else `pad_id`.
        special_tokens: Names of ids that stand for no text.
        vocab_size: One more than the largest id.
        fingerprint: Hex digest; equal if the ids mean the same.
    """

    def __init__(self, tokenizer: Any, lower_case: bool = False) -> None:
        self._tokenizer = tokenizer
        self._lower_case = lower_case
        bare, full = (
            tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True)
        )
        start = next(
            i for i in range(len(full) + 1) if full[i : i + len(bare)] == bare
        )  # where the text is in it
        self.prefix, self.suffix = tuple(full[:start]), tuple(full[start + len(bare) :])
        special = [*self.prefix, *self.suffix]
        pad = tokenizer.pad_token_id
        self.pad_id: int = pad if pad is not None else special[-1] if special else 0
        self.cls_id: int = special[0] if special else self.pad_id
        self.sep_id: int = special[-1] if special else self.pad_id
        self.special_tokens = tuple(tokenizer.all_special_tokens)
        vocabulary = tokenizer.get_vocab()
        self.word_pieces = tuple(sorted(vocabulary, key=vocabulary.get))
        self.vocab_size: int = max(vocabulary.values()) + 1
        digest = hashlib.sha256(repr((sorted(vocabulary.items()), special, lower_case)).encode())
        self.fingerprint = digest.hexdigest()[:16]

    def save(self, folder: Path | str) -> None:
        """Do nothing: a model names the dual encoder, which has the vocabulary."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens, not truncated."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of many texts; equal to `encode` of each."""
        valid = [text.encode(errors="replace").decode() for text in texts]  # of lone surrogates
        if self._lower_case:
            valid = [text.lower() for text in valid]
        encoded = self._tokenizer(valid, add_special_tokens=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return readable text for ids, without special tokens."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text


class TextTower(nn.Module):
    """The frozen text side of a dual encoder: ids and mask (B, L) to embeddings (B, E).

    Args:
        network: A model of `transformers` with `get_text_features`.
        tokenizer: Its tokenizer.
        longest: Longest row that it takes, with special tokens.
        fills_rows: Whether rows are padded to `longest`, as in training of SigLIP and others.
        masks: Whether the network is given a mask of the real positions.
        pads_left: Whether padding goes before the text.
        fingerprint: Of weights and vocabulary.
        template: The sentence around bare words, with {} in their place; empty: none.

    Attributes:
        max_text_tokens: Longest text, without special tokens.
        dim: Width E of the embeddings.
        temperature: Divisor of cosines before a softmax (or sigmoid), as trained.
        logit_bias: Added to them after that; 0 but for SigLIP.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: TextTokenizer,
        longest: int,
        *,
        fills_rows: bool,
        masks: bool,
        pads_left: bool,
        fingerprint: str,
        template: str = "",
    ) -> None:
        super().__init__()
        self.template = template
        self.network = network.requires_grad_(False)
        self.tokenizer = tokenizer
        self.longest = longest
        self.fills_rows, self.masks, self.pads_left = fills_rows, masks, pads_left
        self.fingerprint = fingerprint
        self.max_text_tokens = longest - len(tokenizer.prefix) - len(tokenizer.suffix)
        one = torch.tensor([[tokenizer.pad_id]])
        with torch.inference_mode():
            self.dim: int = self(one, torch.ones_like(one, dtype=torch.bool)).shape[1]
        # ALIGN stores the temperature itself; all others the logarithm of its inverse.
        scale = getattr(network, "logit_scale", None)
        if isinstance(scale, Tensor):
            self.temperature = float(torch.exp(-scale.detach()))
        else:
            self.temperature = float(getattr(network, "temperature", torch.tensor(0.01)))
        bias = getattr(network, "logit_bias", None)
        self.logit_bias = float(bias) if isinstance(bias, Tensor) else 0.0

    def phrase(self, text: str) -> str:
        """Put bare words into the sentence that the model was trained on; other texts stay.

        So "dog" finds what "a photo of a dog" finds.
        """
        is_bare = bool(self.template) and BARE_WORDS.fullmatch(text.strip())
        return self.template.format(text.strip()) if is_bare else text

    def rows(self, text: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ids and mask (B, W) that the library's own processor makes.

        Args:
            text: (B, L) ids without special tokens; L is at most `max_text_tokens`.
            text_mask: (B, L), True where real: a prefix of each row.
        """
        prefix, suffix = self.tokenizer.prefix, self.tokenizer.suffix
        lengths = text_mask.sum(dim=1, keepdim=True)  # (B, 1)
        num_special = len(prefix) + len(suffix)
        width = self.longest if self.fills_rows else int(lengths.max()) + num_special
        ids = text.new_full((len(text), width), self.tokenizer.pad_id)
        ids[:, : len(prefix)] = text.new_tensor(prefix)
        columns = torch.arange(text.shape[1], device=text.device).expand_as(text)
        rows = torch.arange(len(text), device=text.device)[:, None].expand_as(text)
        ids[rows[text_mask], columns[text_mask] + len(prefix)] = text[text_mask]
        for i, special in enumerate(suffix):
            ids.scatter_(1, lengths + len(prefix) + i, special)
        mask = torch.arange(width, device=text.device) < lengths + num_special
        if self.pads_left:
            shift = torch.arange(width, device=text.device) + lengths + num_special
            ids, mask = (x.gather(1, shift % width) for x in (ids, mask))
        return ids, mask

    def forward(self, text: Tensor, text_mask: Tensor) -> Tensor:
        """Embed texts.

        Args:
            text: (B, L) ids without special tokens; L is at most `max_text_tokens`.
            text_mask: (B, L), True where real: a prefix of each row.

        Returns:
            (B, E) of unit length.
        """
        ids, mask = self.rows(text, text_mask)
        inputs = {"attention_mask": mask.long()} if self.masks else {}
        output = self.network.get_text_features(input_ids=ids, **inputs)
        pooled: Tensor = output if isinstance(output, Tensor) else output.pooler_output
        return F.normalize(pooled.float(), dim=-1)


def load_text_tower(folder_or_hub_id: Path | str) -> TextTower:
    """Load the text side of a dual encoder; the other half of its weights is dropped.

    Raises:
        CheckpointError: If there is no such model, or it has no text side or needs its own code.
        MissingExtraError: If `transformers` is not installed.
    """
    name, folder = str(folder_or_hub_id), model_folder(folder_or_hub_id)
    settings = check_model(folder, name)
    transformers = transformers_library(f"model '{name}'")
    try:
        network, missing = load_network(folder, "text")
        if missing:
            raise ValueError(f"its weights lack '{missing[0]}'")
        if not hasattr(network, "get_text_features"):
            raise CheckpointError(
                f"'{name}' has no text side, so it cannot search by words: name a dual encoder "
                "such as google/siglip2-base-patch16-224, or use it as --backbone image:... and "
                "train on its features"
            )
        config = network.config
        with quietly():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True
            )
        siglip = settings["model_type"].startswith("siglip")
        processors = transformers.models.auto.processing_auto.PROCESSOR_MAPPING
        processor = processors.get(type(config), None)
        usual = dict(getattr(processor, "text_kwargs", {}))
        return TextTower(
            network,
            TextTokenizer(tokenizer, lower_case=siglip),
            _longest_row(config, tokenizer, usual.get("max_length")),
            fills_rows=siglip or usual.get("padding") == "max_length",
            masks=not siglip,
            pads_left=tokenizer.padding_side == "left",
            fingerprint=files_digest(folder),
            template=TEMPLATES.get(settings["model_type"], ""),
        )
    except VideoCLIPError:
        raise
    except ImportError as error:
        raise CheckpointError(
            f"the tokenizer of '{name}' needs packages that are not installed: "
            "pip install 'videoclip[hf]'"
        ) from error
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise unusable(name, "dual encoder", error) from error


def _longest_row(config: Any, tokenizer: Any, usual: int | None) -> int:
    """Return how many positions, special tokens included, the text side of a model takes."""
    text = getattr(config, "text_config", config)
    positions = getattr(text, "max_position_embeddings", None)
    if positions and any(family in text.model_type for family in COUNTS_FROM_PADDING):
        positions -= text.pad_token_id + 1
    stated = tokenizer.model_max_length
    limits = [n for n in (positions, usual, stated) if n and n < UNBOUNDED]
    if not limits:
        raise ConfigError("its longest text is not stated")
    return int(min(limits))
