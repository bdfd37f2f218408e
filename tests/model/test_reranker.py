"""The re-ranker: its scores against loops, its loss, its candidates, and that it learns."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tests.model.tiny_models import TINY, make_model, make_text, make_video
from videoclip.model.reranker import (
    INITIAL_TEMPERATURE,
    belief,
    hard_candidates,
    reranking_loss,
    take,
)
from videoclip.model.videoclip import VideoCLIP

CONFIG = replace(TINY, num_cross_layers=2, normalize=True)
VIDEO_LENGTHS, TEXT_LENGTHS = [3, 9, 5], [5, 1, 11]


@pytest.fixture(scope="module")
def reranker():
    reranker = make_model(CONFIG).reranker
    generator = torch.manual_seed(0)
    with torch.no_grad():  # attention that adds something, words that do not all count alike
        for weight in (reranker.value.weight, reranker.word_head.weight):
            weight.copy_(torch.randn(weight.shape, generator=generator))
        reranker.gate.fill_(0.7)
        reranker.log_temperature.fill_(-1.0)
    return reranker.requires_grad_(False)


def encode(reranker, video_lengths=VIDEO_LENGTHS, text_lengths=TEXT_LENGTHS):
    text = reranker.encode_text(*make_text(text_lengths, 11))
    return text, reranker.encode_video(*make_video(video_lengths, 9))


def naive_score(reranker, text, video):
    """The logit of one text and one clip: as a whole, then word by word."""
    real = [t for t, is_real in enumerate(video.mask[0]) if is_real]
    scores = torch.tensor([float(text.queries[0] @ video.keys[0, t]) for t in real])
    shares = scores.softmax(dim=0)
    added = sum(share * video.values[0, t] for share, t in zip(shares, real, strict=True))
    whole = F.cosine_similarity(text.vectors[0], video.vectors[0] + added, dim=0)
    found = 0.0
    for share, word in zip(text.shares[0].tolist(), text.words[0], strict=True):
        found += share * max(float(word @ video.seconds[0, t]) for t in real)
    return (float(whole) + float(reranker.gate) * found) * math.exp(-reranker.log_temperature)


def test_scores_equal_a_loop_over_words_and_seconds(reranker):
    text, video = encode(reranker)
    rows = [torch.tensor([i]) for i in range(3)]
    expected = torch.tensor(
        [[naive_score(reranker, take(text, n), take(video, m)) for m in rows] for n in rows]
    )
    torch.testing.assert_close(reranker.score_all(text, video), expected)
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    scores = reranker.score_pairs(take(text, pairs[:, 0]), take(video, pairs[:, 1]))
    torch.testing.assert_close(scores, expected.flatten())


def test_a_large_batch_is_compared_in_parts(reranker, monkeypatch):
    text, video = encode(reranker)
    whole = reranker.score_all(text, video)
    monkeypatch.setattr("videoclip.model.reranker.TEXTS_AT_ONCE", 2)
    torch.testing.assert_close(reranker.score_all(text, video), whole)


def test_padding_never_changes_a_score(reranker):
    text, video = encode(reranker, [4], [2])
    (frames, frame_mask), (words, word_mask) = make_video([4], 9), make_text([2], 11)
    short = reranker.score_pairs(
        reranker.encode_text(words[:, :2], word_mask[:, :2]),
        reranker.encode_video(frames[:, :4], frame_mask[:, :4]),
    )
    torch.testing.assert_close(reranker.score_pairs(text, video), short)


def test_pieces_of_long_clips_are_joined(reranker):
    _, video = encode(reranker, [3, 9, 5, 1])
    joined = video.join([1, 3])
    assert joined.mask.sum(dim=1).tolist() == [3, 15]
    torch.testing.assert_close(joined.vectors[0], video.vectors[0])
    sums = 9 * video.vectors[1] + 5 * video.vectors[2] + video.vectors[3]
    torch.testing.assert_close(joined.vectors[1], F.normalize(sums, dim=0))
    expected = torch.cat([video.states[i][video.mask[i]] for i in (1, 2, 3)])
    torch.testing.assert_close(joined.states[1], expected)


def test_at_first_whole_clips_and_words_are_compared_and_it_is_not_used():
    reranker = VideoCLIP(CONFIG).reranker
    assert reranker.weight == 0 and reranker.gate == 1
    text, video = encode(reranker)
    whole = text.vectors @ video.vectors.T
    reranker.gate.data.zero_()
    scores = reranker.score_all(text, video) * INITIAL_TEMPERATURE
    torch.testing.assert_close(scores, whole)


def test_words_count_by_a_head_and_padding_does_not(reranker):
    text, _ = encode(reranker)
    encoded = reranker.text_encoder(*make_text(TEXT_LENGTHS, 11))
    for row, length in enumerate(TEXT_LENGTHS):
        words = encoded.hidden[row, 1 : length + 2]  # and [SEP]
        expected = torch.stack([reranker.word_head(word)[0] for word in words]).softmax(dim=0)
        torch.testing.assert_close(text.shares[row, : length + 1], expected)
        assert (text.shares[row, length + 1 :] == 0).all()


def towers_with(candidates):
    logits = torch.tensor([[4.0, 1.0, 0.0], [1.0, 2.0, 3.0], [0.0, 2.0, 1.0]])
    return logits.masked_fill(~candidates, -torch.inf)


def test_loss_is_a_softmax_over_each_row_and_each_column_of_both_opinions(reranker):
    text, video = encode(reranker)
    candidates = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 1]], dtype=torch.bool)
    for chosen in (candidates, torch.ones_like(candidates)):
        towers = towers_with(chosen)
        logits = reranker.score_all(text, video) + 0.5 * towers
        weights, expected = belief(towers), 0.0
        for matrix, allowed in ((logits, chosen), (logits.T, chosen.T)):
            for row in range(3):
                among = matrix[row][allowed[row]].logsumexp(dim=0)
                expected += weights[row] * (among - matrix[row, row]) / 3
        torch.testing.assert_close(reranking_loss(reranker, text, video, towers, 0.0), expected)


def test_the_loss_of_seconds_compares_texts_with_the_best_seconds_of_allowed_clips(reranker):
    text, video = encode(reranker)
    candidates = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 1]], dtype=torch.bool)
    temperature = reranker.log_temperature.exp()
    logits = torch.full((3, 3), -torch.inf)
    for i, vector in enumerate(text.vectors):
        for j in range(3):
            if candidates[i, j]:
                own = F.normalize(video.states[j, video.mask[j]], dim=-1)
                logits[i, j] = (own @ vector / temperature).logsumexp(dim=0)
    towers = towers_with(candidates)
    rows, columns = (
        -(belief(towers) * matrix.log_softmax(dim=1).diagonal()).mean()
        for matrix in (logits, logits.T)
    )
    losses = [reranking_loss(reranker, text, video, towers, weight) for weight in (0.0, 0.5)]
    torch.testing.assert_close(losses[1] - losses[0], 0.5 * (rows + columns))


def test_pairs_count_as_far_as_the_towers_believe_in_them():
    logits = torch.tensor([[2.0, 0.0, -torch.inf], [1.0, 0.0, 3.0], [-torch.inf, 1.0, 1.0]])
    shares = [
        (math.exp(logits[i, i]) ** 2 / (logits[i].exp().sum() * logits[:, i].exp().sum())) ** 0.25
        for i in range(3)
    ]
    expected = torch.stack(shares) / torch.stack(shares).mean()
    torch.testing.assert_close(belief(logits), expected)
    unlikely = 1000 * (1 - torch.eye(3))
    torch.testing.assert_close(belief(unlikely), torch.ones(3))


def test_negatives_are_similar_videos_and_the_nearest():
    alike = torch.tensor(
        [[1.0, 0.6, 0.1, 0.2], [0.6, 1.0, 0.3, 0.5], [0.1, 0.3, 1.0, 0.2], [0.2, 0.5, 0.2, 1.0]]
    )
    candidates = hard_candidates(alike, 0.5)
    assert candidates.int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0], [0, 1, 0, 1]]
    assert hard_candidates(alike, -1).all()
    assert hard_candidates(torch.ones(1, 1), 0.5).tolist() == [[True]]


def test_it_learns_to_find_words_among_seconds_for_pairs_it_has_never_seen():
    """Eight of 24 things are shown, four of them said: only a look at each can tell the pair."""
    generator = torch.Generator().manual_seed(0)
    things = F.layer_norm(torch.randn(24, 32, generator=generator), (32,))
    turn = torch.nn.Linear(32, 32, bias=False)
    reranker = VideoCLIP(replace(CONFIG, hidden_size=32, num_cross_layers=1)).reranker

    def draw(number):
        shown = torch.stack([torch.randperm(24, generator=generator)[:8] for _ in range(number)])
        video, text = (
            things[ids] + 0.3 * torch.randn(*ids.shape, 32, generator=generator)
            for ids in (shown, shown[:, :4])
        )
        sides = ((reranker.texts, turn(text)), (reranker.clips, video))
        return (
            encode(F.normalize(x.mean(dim=1), dim=-1), x, torch.ones(x.shape[:2], dtype=torch.bool))
            for encode, x in sides
        )

    optimizer = torch.optim.Adam([*turn.parameters(), *reranker.parameters()], lr=1e-2)
    for _ in range(60):
        loss = reranking_loss(reranker, *draw(24), torch.zeros(24, 24), 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    with torch.no_grad():
        scores = reranker.score_all(*draw(64))
    found = (scores.argmax(dim=1) == torch.arange(64)).float().mean()
    assert found > 0.7  # 0.02 by chance
