"""Word pieces: text to the ids of a BERT vocabulary, and back.

The vocabulary is the `vocab.txt` of a model folder, one word piece per line.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import tokenizers
import torch
from numpy.typing import ArrayLike
from tokenizers import decoders, models, normalizers, pre_tokenizers
from torch import Tensor

from videoclip.errors import DataError
from videoclip.files import write_text

VOCAB_FILE = "vocab.txt"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


class Tokenizer:
    """A BERT word-piece tokenizer. Source: bert-base-uncased, as the paper uses it.

    A vocabulary with capital letters, such as that of bert-base-cased, keeps case and accents.

    Attributes:
        pad_id: Id of [PAD], which fills short rows.
        cls_id: Id of [CLS], which the towers prepend.
        sep_id: Id of [SEP], which the towers append.
        special_tokens: Names of word pieces that stand for no text.
        word_pieces: In the order of their ids.
        vocab_size: Number of word pieces.
        fingerprint: Hex digest of the vocabulary; equal if the ids mean the same.
    """

    def __init__(self, word_pieces: Sequence[str]) -> None:
        """Build from word pieces in the order of their ids; see `from_vocab` for files.

        Raises:
            DataError: If a special word piece is missing or a word piece occurs twice.
        """
        ids = {piece: i for i, piece in enumerate(word_pieces)}
        if len(ids) < len(word_pieces):
            first = next(i for i, piece in enumerate(word_pieces) if ids[piece] != i)
            raise DataError(f"word piece {word_pieces[first]!r} occurs twice in the vocabulary")
        if missing := [piece for piece in _SPECIAL if piece not in ids]:
            raise DataError(f"the vocabulary has no {missing[0]}; a BERT vocabulary is needed")
        self.word_pieces = tuple(word_pieces)
        self.pad_id = ids["[PAD]"]
        self.cls_id = ids["[CLS]"]
        self.sep_id = ids["[SEP]"]
        self.vocab_size = len(ids)
        self.fingerprint = hashlib.sha256(_file_text(self.word_pieces).encode()).hexdigest()[:16]

        self._backend = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
        is_cased = any(p != p.lower() for p in word_pieces if not p.startswith("["))
        self._backend.normalizer = normalizers.BertNormalizer(lowercase=not is_cased)
        self._backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._backend.decoder = decoders.WordPiece(cleanup=False)
        self.special_tokens = tuple(p for p in (*_SPECIAL, "[MASK]") if p in ids)
        self._backend.add_special_tokens(list(self.special_tokens))

    @classmethod
    def from_vocab(cls, path: Path | str) -> Self:
        """Read a `vocab.txt`.

        Raises:
            DataError: If the file is missing, not UTF-8 or not a BERT vocabulary.
        """
        path = Path(path)
        try:
            return cls(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read the vocabulary ({error})", path) from error
        except DataError as error:
            raise DataError(str(error), path) from error

    @classmethod
    def from_folder(cls, folder: Path | str) -> Self:
        """Read the vocabulary of a model folder.

        Raises:
            DataError: As `from_vocab`.
        """
        return cls.from_vocab(Path(folder) / VOCAB_FILE)

    def save(self, folder: Path | str) -> None:
        """Write `vocab.txt` into a model folder, atomically."""
        write_text(Path(folder) / VOCAB_FILE, _file_text(self.word_pieces))

    def encode(self, text: str) -> list[int]:
        """Return the word-piece ids of a text, without [CLS] and [SEP], not truncated.

        The name of a special token in the text, such as "[SEP]", becomes its id, as in BERT's own
        tokenizer; `encode_literal` takes it as words.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the word-piece ids of many texts, on all cores; equal to `encode` of each."""
        # The library takes no lone surrogates, which damaged text may contain.
        valid = [text.encode(errors="replace").decode() for text in texts]
        encodings = self._backend.encode_batch_fast(valid, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_literal(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of texts that people typed: "[SEP]" is a word in brackets, not its id."""
        pattern = "|".join(map(re.escape, self.special_tokens)) or "(?!)"  # which never matches
        names = re.compile(pattern, re.IGNORECASE)
        return self.encode_batch([names.sub(_split_name, text) for text in texts])

    def decode(self, ids: Sequence[int]) -> str:
        """Return readable text for word-piece ids, without special tokens."""
        text: str = self._backend.decode(list(ids), skip_special_tokens=True)
        return text


def pad_tokens(token_ids: Sequence[ArrayLike], pad_id: int) -> tuple[Tensor, Tensor]:
    """Stack 1-D id arrays into (B, L) int64, `pad_id` where padded, and its (B, L) mask."""
    longest = max(map(np.size, token_ids))
    padded = np.full((len(token_ids), longest), pad_id, dtype=np.int64)
    mask = np.zeros(padded.shape, dtype=bool)
    for row, real, ids in zip(padded, mask, token_ids, strict=True):
        row[: np.size(ids)] = ids
        real[: np.size(ids)] = True
    return torch.from_numpy(padded), torch.from_numpy(mask)


def _split_name(found: re.Match[str]) -> str:
    """Put a space behind the first character of a special token's name, so that it is words."""
    name = found[0]
    return f"{name[0]} {name[1:]}"


def _file_text(word_pieces: Sequence[str]) -> str:
    return "".join(f"{piece}\n" for piece in word_pieces)
