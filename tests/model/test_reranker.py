"""The re-ranker: its scores against loops, its loss, its candidates, and that it learns."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tests.model.tiny_models import TINY, make_model, make_text, make_video
from videoclip.model.reranker import Tokens, hard_candidates, reranking_loss
from videoclip.model.videoclip import VideoCLIP

CONFIG = replace(TINY, num_cross_layers=2, normalize=True)
VIDEO_LENGTHS, TEXT_LENGTHS = [3, 9, 5], [5, 1, 11]


@pytest.fixture(scope="module")
def reranker():
    reranker = make_model(CONFIG).reranker
    with torch.no_grad():  # positions that do not all count alike
        for head in (reranker.word_head, reranker.second_head):
            head.weight.copy_(torch.randn(head.weight.shape, generator=torch.manual_seed(0)))
        reranker.log_temperature.copy_(torch.tensor([-1.0, -2.0]))
    return reranker.requires_grad_(False)


def encode(reranker, video_lengths=VIDEO_LENGTHS, text_lengths=TEXT_LENGTHS):
    text = reranker.encode_text(*make_text(text_lengths, 11))
    return text, reranker.encode_video(*make_video(video_lengths, 9))


def naive_score(reranker, text, video):
    """The logit of one text and one clip: whole, word by word and second by second."""
    of_vectors, of_positions = reranker.log_temperature.exp().tolist()
    means = [
        torch.stack([x for x, i in zip(side.hidden[0], side.importance[0]) if i > -torch.inf]).mean(
            0
        )
        for side in (text, video)
    ]
    whole = float(F.cosine_similarity(*means, dim=0))
    sides = []
    for one, other in ((text, video), (video, text)):
        share = torch.softmax(torch.tensor([float(x) for x in one.importance[0]]), dim=0)
        total = 0.0
        for position, counts in zip(one.hidden[0], share.tolist(), strict=True):
            if counts:
                others = zip(other.hidden[0], other.importance[0].tolist(), strict=True)
                total += counts * max(float(position @ x) for x, i in others if i > -torch.inf)
        sides.append(total)
    return whole / of_vectors + sum(sides) / 2 / of_positions


def test_scores_equal_a_loop_over_words_and_seconds(reranker):
    text, video = encode(reranker)
    rows = [torch.tensor([i]) for i in range(3)]
    expected = torch.tensor(
        [[naive_score(reranker, text.rows(n), video.rows(m)) for m in rows] for n in rows]
    )
    torch.testing.assert_close(reranker.score_all(text, video), expected)
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    scores = reranker.score_pairs(text.rows(pairs[:, 0]), video.rows(pairs[:, 1]))
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
    for row, pieces in enumerate(([0], [1, 2, 3])):
        expected = torch.cat([video.hidden[i][video.importance[i] > -torch.inf] for i in pieces])
        real = joined.importance[row] > -torch.inf
        torch.testing.assert_close(joined.hidden[row][real], expected)
    assert (joined.importance > -torch.inf).sum(dim=1).tolist() == [4, 18]


def test_it_is_not_used_until_its_weight_is_chosen():
    reranker = VideoCLIP(CONFIG).reranker
    assert reranker.weight == 0
    text, _ = encode(reranker)
    assert set(text.importance.flatten().tolist()) == {0.0, -torch.inf}


def test_loss_equals_a_softmax_over_each_row_and_each_column(reranker):
    text, video = encode(reranker)
    candidates = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 1]], dtype=torch.bool)
    logits = reranker.score_all(text, video)
    for chosen in (candidates, torch.ones_like(candidates)):
        expected = 0.0
        for matrix, allowed in ((logits, chosen), (logits.T, chosen.T)):
            for row in range(3):
                among = matrix[row][allowed[row]].logsumexp(dim=0)
                expected += (among - matrix[row, row]) / 3
        torch.testing.assert_close(reranking_loss(reranker, text, video, chosen, 0.0), expected)


def test_the_loss_of_seconds_compares_texts_with_the_best_seconds_of_allowed_clips(reranker):
    text, video = encode(reranker)
    candidates = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 1]], dtype=torch.bool)
    temperature, real = reranker.log_temperature[0].exp(), video.importance > -torch.inf
    logits = torch.full((3, 3), -torch.inf)
    for i, vector in enumerate(text.vectors()):
        for j in range(3):
            if candidates[i, j]:
                own = video.hidden[j, 1:-1][real[j, 1:-1]]  # without [CLS] and [SEP]
                logits[i, j] = (own @ vector / temperature).logsumexp(dim=0)
    rows, columns = (-matrix.log_softmax(dim=1).diagonal().mean() for matrix in (logits, logits.T))
    losses = [reranking_loss(reranker, text, video, candidates, weight) for weight in (0.0, 0.5)]
    torch.testing.assert_close(losses[1] - losses[0], 0.5 * (rows + columns))


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
        return (
            Tokens(F.normalize(states, dim=-1), torch.zeros(states.shape[:2]))
            for states in (turn(text), video)
        )

    optimizer = torch.optim.Adam([*turn.parameters(), reranker.log_temperature], lr=1e-2)
    for _ in range(60):
        loss = reranking_loss(reranker, *draw(24), torch.ones(24, 24, dtype=torch.bool), 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    with torch.no_grad():
        scores = reranker.score_all(*draw(64))
    found = (scores.argmax(dim=1) == torch.arange(64)).float().mean()
    assert found > 0.7  # 0.02 by chance
