"""The re-ranker: neutral at first, trained by hard candidates, moving only the top."""

from dataclasses import replace

import torch
from torch.nn import functional as F

from tests.model.tiny_models import TINY, make_model, make_text, make_video
from videoclip.model.encoders import Encoded
from videoclip.model.reranker import Reranker, hard_candidates, reranking_loss
from videoclip.model.transformer import init_bert_weights
from videoclip.model.videoclip import VideoCLIP

CONFIG = replace(TINY, num_cross_layers=2, normalize=True)


def encode(model, video_lengths, text_lengths):
    video = model.video_encoder(*make_video(video_lengths, 9))
    text = model.text_encoder(*make_text(text_lengths, 11))
    return video, text


def test_an_untrained_reranker_leaves_similarities_alone():
    model = VideoCLIP(CONFIG).eval()
    video, text = encode(model, [3, 9], [5, 1])
    similarity = torch.tensor([0.3, -0.2])
    torch.testing.assert_close(model.reranker(video, text, similarity), similarity)


def test_padding_never_changes_a_score():
    model = make_model(CONFIG)
    similarity = torch.zeros(1)
    (video, video_mask), (text, text_mask) = make_video([4], 9), make_text([2], 11)
    padded = model.reranker(
        model.video_encoder(video, video_mask), model.text_encoder(text, text_mask), similarity
    )
    short = model.reranker(
        model.video_encoder(video[:, :4], video_mask[:, :4]),
        model.text_encoder(text[:, :2], text_mask[:, :2]),
        similarity,
    )
    torch.testing.assert_close(padded, short)


def test_hard_candidates_come_from_like_videos_first():
    similarity = torch.tensor(
        [[0.9, 0.1, 0.8, 0.5], [0.2, 0.9, 0.3, 0.1], [0.0, 0.1, 0.9, 0.7], [0.3, 0.2, 0.1, 0.9]]
    )
    alike = torch.eye(4)
    alike[0, 1] = alike[0, 3] = 0.6
    candidates = hard_candidates(similarity, alike, num_negatives=3, threshold=0.5)
    assert candidates[0].tolist() == [0, 3, 1, -1]  # like videos, the better match first
    assert candidates[1].tolist() == [1, 2, -1, -1]  # none is like: its best match alone
    assert candidates[:, 0].tolist() == [0, 1, 2, 3]


def test_the_order_of_hard_candidates_does_not_depend_on_the_scale_of_similarities():
    similarity = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    alike = (torch.rand(6, 6, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    small, large = (hard_candidates(similarity * s, alike, 4, 0.5) for s in (0.01, 1000.0))
    assert small.tolist() == large.tolist()


def test_a_batch_of_one_has_no_negatives():
    candidates = hard_candidates(torch.ones(1, 1), torch.ones(1, 1), 3, 0.5)
    assert candidates.tolist() == [[0]]


def test_loss_equals_a_softmax_over_each_row():
    model = make_model(CONFIG)
    video, text = encode(model, [3, 9, 5], [5, 1, 11])
    similarity = model.pool(text) @ model.pool(video).T
    candidates = torch.tensor([[0, 2, 1], [1, 0, -1], [2, -1, -1]])
    loss = reranking_loss(model.reranker, video, text, similarity, candidates, 0.5)
    expected = 0.0
    for row, columns in enumerate(candidates.tolist()):
        scores = torch.stack(
            [
                model.reranker(
                    *(
                        type(e)(e.hidden[i, None], e.mask[i, None])
                        for e, i in ((video, column), (text, row))
                    ),
                    similarity[row, column, None],
                ).squeeze()
                for column in columns
                if column >= 0
            ]
        )
        expected -= (scores / 0.5).log_softmax(dim=0)[0] / 3
    torch.testing.assert_close(loss, expected)


def test_it_learns_to_find_words_among_seconds_for_pairs_it_has_never_seen():
    """Eight of 24 things are shown, four of them said: only a look at each can tell the pair."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    things = F.layer_norm(torch.randn(24, 32, generator=generator), (32,))
    reranker = Reranker(replace(CONFIG, hidden_size=32, num_cross_layers=1, dropout=0.0))
    reranker.apply(init_bert_weights)
    reranker.start_neutral()

    def draw(number):
        shown = torch.stack([torch.randperm(24, generator=generator)[:8] for _ in range(number)])
        states = [
            things[ids] + 0.3 * torch.randn(*ids.shape, 32, generator=generator)
            for ids in (shown, shown[:, :4])
        ]
        video, text = (Encoded(x, torch.ones(x.shape[:2], dtype=torch.bool)) for x in states)
        return video, text, torch.zeros(number, number)

    optimizer = torch.optim.Adam(reranker.parameters(), lr=2e-3)
    for _ in range(120):
        video, text, similarity = draw(24)
        candidates = hard_candidates(torch.rand(24, 24, generator=generator), similarity + 1, 7, 0)
        loss = reranking_loss(reranker, video, text, similarity, candidates)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    video, text, similarity = draw(64)
    rows, columns = torch.arange(64).repeat_interleave(64), torch.arange(64).repeat(64)
    with torch.no_grad():
        scores = reranker(video[columns], text[rows], similarity.flatten()).view(64, 64)
    found = (scores.argmax(dim=1) == torch.arange(64)).float().mean()
    assert found > 0.7  # 0.59 from random projections in as many steps, 0.02 by chance
