"""Tokenizers of dual encoders: special tokens that people type."""

import pytest

from tests import tiny_dual_encoders
from videoclip.pretrained.text_tower import TextTokenizer


@pytest.mark.parametrize("kind", ["clip", "bert", "roberta", "gemma", "sentencepiece"])
def test_special_tokens_that_are_typed_are_words(kind, tmp_path):
    folder = (tmp_path,) if kind == "sentencepiece" else ()
    library = getattr(tiny_dual_encoders, f"{kind}_tokenizer")(*folder)
    tokenizer = TextTokenizer(library)
    for name in set(library.all_special_tokens) - {library.unk_token}:
        special = library.convert_tokens_to_ids(name)
        (literal,) = tokenizer.encode_literal([f"dog {name} on"])
        assert special in tokenizer.encode(f"dog {name} on")
        assert special not in literal
        assert literal[0] == tokenizer.encode("dog on")[0]
    assert tokenizer.encode_literal(["a dog", "on"]) == tokenizer.encode_batch(["a dog", "on"])
