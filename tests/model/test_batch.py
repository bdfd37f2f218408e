import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videoclip.data.tokenizer import pad_tokens
from videoclip.model.batch import Batch, collate


def clip_pairs(lengths, dim=3, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=(rows, dim)).astype(np.float16), rng.integers(1, 99, size=words))
        for rows, words in lengths
    ]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6))
def test_every_clip_is_found_again_and_the_rest_is_padding(lengths):
    pairs = clip_pairs(lengths)
    batch = collate(pairs, pad_id=77)
    assert len(batch) == len(pairs)
    assert batch.video.dtype == torch.float32
    assert batch.text.dtype == torch.int64
    assert batch.video.shape[:2] == batch.video_mask.shape
    assert batch.video.shape[1:] == (max(rows for rows, _ in lengths), 3)
    assert batch.text.shape == batch.text_mask.shape
    for i, (features, ids) in enumerate(pairs):
        rows, words = len(features), len(ids)
        assert batch.video_mask[i].tolist() == [t < rows for t in range(batch.video.shape[1])]
        assert batch.text_mask[i].tolist() == [t < words for t in range(batch.text.shape[1])]
        np.testing.assert_array_equal(batch.video[i, :rows], features.astype(np.float32))
        assert batch.video[i, rows:].abs().sum() == 0
        assert batch.text[i, :words].tolist() == ids.tolist()
        assert (batch.text[i, words:] == 77).all()


def test_moves_as_one_and_keeps_lists_of_ids():
    batch = collate([(np.ones((2, 4), np.float32), [5, 6]), (np.ones((1, 4), np.float32), [])], 0)
    moved = batch.to("cpu", non_blocking=True)
    assert isinstance(moved, Batch)
    assert moved.text.tolist() == [[5, 6], [0, 0]]
    assert batch.to("meta").video.device.type == "meta"


@pytest.mark.parity
def test_rows_equal_the_released_packing(shared):
    """The released rows hold [CLS] [SEP] words [SEP] in 64 slots; ours hold the words alone."""
    golden = json.loads((shared / "golden/sequences/sequences.json").read_text())
    special = golden["special_ids"]
    num_text, num_video = 0, 0
    for row in golden["rows"]:
        if "caps" in row:
            words, mask = pad_tokens([np.array(row["ids"], dtype=np.int32)[:61]], special["pad"])
            real = words[mask].tolist()
            packed = [special["cls"], special["sep"], *real, special["sep"]]
            assert row["caps"] == packed + [special["pad"]] * (64 - len(packed))
            assert sum(row["cmasks"]) == len(packed)
            num_text += 1
        if "vfeats_first_column" in row:
            step = 2.0 if row["kind"] == "video" else 1.0
            frames = row.get("feature_frames", row.get("frames"))
            start, end = row.get("clip") or (0, frames)
            features = np.arange(frames, dtype=np.float16)[start:end, None][:32] * step
            batch = collate([(features, []), (np.zeros((32, 1)), [])], 0)
            assert batch.video[0, :, 0].tolist() == row["vfeats_first_column"]
            assert batch.video_mask[0].tolist() == [bool(m) for m in row.get("vmasks", [True] * 32)]
            num_video += 1
    assert num_text and num_video
