"""Losses that know the places and words of pairs, against twins written with loops."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from videoclip.config import ClipConfig, LossConfig, PretrainConfig, ignored_settings
from videoclip.errors import ConfigError
from videoclip.model.losses import (
    PairEmbeddings,
    load_loss,
    overlapping,
    seconds_loss,
    softmax_loss,
)
from videoclip.model.losses.equal_sentences import word_similarity
from videoclip.model.losses.infonce import contrastive_loss
from videoclip.model.losses.neighbours import overlap_targets
from videoclip.model.losses.time_warping import warped
from videoclip.model.losses.transport import ROUNDS, SMOOTHNESS, transport_plan

TEMPERATURE = 0.3
SPANS = torch.tensor(
    [
        [0, 8.0, 11.0, 9, 13],
        [0, 2.0, 4.0, 1, 6],
        [0, 3.0, 5.5, 20, 26],
        [1, 0.0, 3.0, 2, 5],
        [1, 20.0, 24.0, 21, 30],
        [1, 6.0, 9.0, 4, 12],
    ]
)
WORDS = torch.tensor(
    [[1, 2, 3, 4], [1, 2, 3, -1], [1, 5, 6, -1], [1, 6, 5, 5], [7, -1, -1, -1], [1, 2, 8, 9]]
)


def pairs(seed=0, **places):
    generator = torch.Generator().manual_seed(seed)
    video, text = torch.randn(2, 6, 4, generator=generator)
    given = {"spans": SPANS, "words": WORDS} | places
    return PairEmbeddings(
        video, text, video, text, 0, 1, torch.tensor(TEMPERATURE), torch.zeros(()), **given
    )


def naive_softmax_loss(logits, targets):
    """Both directions, row by row; a target of None is left out of the softmax."""
    total, size = 0.0, len(logits)
    for rows in (True, False):
        for i in range(size):
            line = [(logits[i][j], targets[i][j]) for j in range(size)]
            if not rows:
                line = [(logits[j][i], targets[j][i]) for j in range(size)]
            line = [(float(logit), target) for logit, target in line if target is not None]
            norm = math.log(sum(math.exp(logit) for logit, _ in line))
            weight = sum(target for _, target in line)
            total -= sum(target / weight * (logit - norm) for logit, target in line) / size
    return total


def naive_logits(some):
    return [[float(t @ v) / TEMPERATURE for v in some.video] for t in some.text]


def one_hot(size):
    return [[float(i == j) for j in range(size)] for i in range(size)]


def naive_overlap(a, b, first):
    """Seconds that two spans share, of which the columns begin at `first`."""
    return float(min(a[first + 1], b[first + 1]) - max(a[first], b[first]))


def test_overlapping_pairs_are_neither_positive_nor_negative():
    some, targets = pairs(), one_hot(6)
    for i, a in enumerate(SPANS):
        for j, b in enumerate(SPANS):
            is_near = naive_overlap(a, b, 1) > 0 or naive_overlap(a, b, 3) > 0
            assert bool(overlapping(SPANS)[i, j]) == (bool(a[0] == b[0]) and is_near)
            if i != j and a[0] == b[0] and is_near:
                targets[i][j] = None
    assert sum(row.count(None) for row in targets) == 4
    loss = load_loss("infonce")(some, LossConfig(ignore_overlapping=True))
    assert float(loss) == pytest.approx(naive_softmax_loss(naive_logits(some), targets), rel=1e-5)


def test_of_global_negatives_only_own_ones_overlap():
    """The twin masks the logits of all rows at once."""
    some, other = pairs(), pairs(1, spans=SPANS[:4])
    video, text = torch.cat([some.video, other.video[:4]]), torch.cat([some.text, other.text[:4]])
    config, losses = LossConfig(ignore_overlapping=True, negatives="global"), []
    for first, spans in ((0, SPANS), (6, SPANS[:4])):
        rows = slice(first, first + len(spans))
        own = some._replace(
            video=video[rows], text=text[rows], all_video=video, all_text=text,
            first_row=first, num_processes=2, spans=spans,
        )  # fmt: skip
        losses.append(load_loss("infonce")(own, config))
    targets = one_hot(10)
    for first, spans in ((0, SPANS), (6, SPANS[:4])):
        for i, j in overlapping(spans).nonzero().tolist():
            if i != j:
                targets[first + i][first + j] = None
    logits = [[float(t @ v) / TEMPERATURE for v in video] for t in text]
    expected = naive_softmax_loss(logits, targets)
    assert float(sum(losses)) / 2 == pytest.approx(expected, rel=1e-5)


def test_without_anything_ignored_it_is_infonce():
    some = pairs()
    logits = some.text @ some.video.T / TEMPERATURE
    torch.testing.assert_close(
        softmax_loss(logits), contrastive_loss(some.video, some.text, TEMPERATURE)
    )


def test_the_best_seconds_stand_for_a_clip():
    generator = torch.Generator().manual_seed(1)
    text, seconds = torch.randn(3, 4, generator=generator), torch.randn(3, 5, 4)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]]).bool()
    logits = [
        [
            math.log(
                sum(
                    math.exp(float(text[i] @ seconds[j, t]) / TEMPERATURE)
                    for t in range(5)
                    if mask[j, t]
                )
            )
            for j in range(3)
        ]
        for i in range(3)
    ]
    ignored = torch.tensor([[0, 0, 1], [0, 0, 0], [1, 0, 0]]).bool()
    targets = one_hot(3)
    targets[0][2] = targets[2][0] = None
    for given, expected in ((None, one_hot(3)), (ignored, targets)):
        loss = seconds_loss(text, seconds, mask, TEMPERATURE, given)
        assert float(loss) == pytest.approx(naive_softmax_loss(logits, expected), rel=1e-5)


def test_equal_sentences_are_positives_too():
    some = pairs()
    sets = [{word for word in row if word >= 0} for row in WORDS.tolist()]

    def weight(word):
        return math.log(6 / sum(word in one for one in sets))

    def similarity(a, b):
        lengths = [math.sqrt(sum(weight(word) ** 2 for word in one)) for one in (a, b)]
        return sum(weight(word) ** 2 for word in a & b) / math.prod(lengths)

    expected = torch.tensor([[similarity(a, b) for b in sets] for a in sets])
    torch.testing.assert_close(word_similarity(WORDS), expected)
    targets = [[float(i == j or x >= 0.9) for j, x in enumerate(r)] for i, r in enumerate(expected)]
    assert sum(map(sum, targets)) == 8  # the third and fourth sentence have the same words
    loss = load_loss("equal_sentences")(some, LossConfig(equal_sentences=0.9))
    assert float(loss) == pytest.approx(naive_softmax_loss(naive_logits(some), targets), rel=1e-5)


def test_neighbours_count_by_their_overlap_in_time():
    some, targets = pairs(), one_hot(6)
    for i, a in enumerate(SPANS):
        for j, b in enumerate(SPANS):
            if i != j and a[0] == b[0]:
                start, end = float(a[1]) - 2, float(a[2]) + 2
                shared = min(end, float(b[4])) - max(start, float(b[3]))
                shorter = min(end - start, float(b[4] - b[3]))
                targets[i][j] = min(max(shared / shorter, 0.0), 1.0)
    torch.testing.assert_close(overlap_targets(SPANS, 2.0), torch.tensor(targets))
    assert 0 < targets[3][5] < 1 and targets[0][2] == 0
    loss = load_loss("neighbours")(some, LossConfig(neighbour_seconds=2.0))
    assert float(loss) == pytest.approx(naive_softmax_loss(naive_logits(some), targets), rel=1e-5)


def test_a_text_without_duration_belongs_to_the_clips_around_it():
    spans = torch.tensor([[0, 5.0, 5.0, 4, 9], [0, 6.0, 8.0, 2, 6], [0, 1.0, 3.0, 6, 8]])
    assert overlap_targets(spans, 0.0)[0].tolist() == [1, 1, 0]


def sequences(some):
    """The clips and the texts of each video, in order of time."""
    found = []
    for number in (0, 1):
        rows = [i for i in range(6) if SPANS[i, 0] == number]
        clips = sorted(rows, key=lambda i: float(SPANS[i, 3] + SPANS[i, 4]))
        texts = sorted(rows, key=lambda i: float(SPANS[i, 1] + SPANS[i, 2]))
        found.append(([some.video[i] for i in clips], [some.text[i] for i in texts]))
    return found


def naive_warped(clips, texts):
    """Every monotone path from the first pair to the last."""

    def cheapest(i, j):
        here = 1 - float(clips[i] @ texts[j])
        before = [(i - 1, j), (i, j - 1), (i - 1, j - 1)]
        costs = [cheapest(*cell) for cell in before if min(cell) >= 0]
        return here + min(costs, default=0.0)

    return 1 - cheapest(len(clips) - 1, len(texts) - 1) / max(len(clips), len(texts))


def test_time_warping_contrasts_videos_by_their_best_path():
    some, both = pairs(), sequences(pairs())
    logits = [[naive_warped(v, t) / TEMPERATURE for _, t in both] for v, _ in both]
    clips = contrastive_loss(some.video, some.text, TEMPERATURE)
    expected = float(clips) + naive_softmax_loss(logits, one_hot(2))
    assert float(load_loss("time_warping")(some, LossConfig())) == pytest.approx(expected, rel=1e-5)
    rng = torch.Generator().manual_seed(0)
    for num_clips, num_texts in ((1, 1), (1, 4), (3, 5), (5, 2)):
        v, t = (torch.randn(n, 3, generator=rng) for n in (num_clips, num_texts))
        assert float(warped(v @ t.T)) == pytest.approx(naive_warped(v, t), rel=1e-5)
    steps = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.7], [0.0, 0.1, 0.6]])
    assert float(warped(steps)) == pytest.approx((0.9 + 0.8 + 0.6) / 3)


def naive_plan(similarity, prompt):
    """Scale rows and columns in turn, bucket included."""
    size = len(similarity) + 1
    plan = [
        [
            math.exp((similarity[i][j] if max(i, j) < size - 1 else prompt) / SMOOTHNESS)
            for j in range(size)
        ]
        for i in range(size)
    ]
    for _ in range(ROUNDS):
        plan = [[x / sum(row) for x in row] for row in plan]
        sums = [sum(row[j] for row in plan) for j in range(size)]
        plan = [[x / sums[j] for j, x in enumerate(row)] for row in plan]
    return [[x / size for x in row[:-1]] for row in plan[:-1]]


def test_transport_contrasts_videos_by_their_best_plan():
    some, both = pairs(), sequences(pairs())
    prompt = float((some.video * some.text).sum(dim=1).quantile(0.3))
    logits = []
    for clips, _ in both:
        logits.append([])
        for _, texts in both:
            similarity = [[float(v @ t) for t in texts] for v in clips]
            plan = naive_plan(similarity, prompt)
            total = sum(p * s for r, q in zip(plan, similarity, strict=True) for p, s in zip(r, q))
            logits[-1].append(total / TEMPERATURE)
    clips = contrastive_loss(some.video, some.text, TEMPERATURE)
    expected = float(clips) + naive_softmax_loss(logits, one_hot(2))
    assert float(load_loss("transport")(some, LossConfig())) == pytest.approx(expected, rel=1e-4)


def test_what_has_no_partner_goes_into_the_bucket():
    similarity = torch.tensor([[0.9, 0.0], [0.1, 0.0]])
    plan = transport_plan(similarity, torch.tensor(0.5))
    assert plan[0, 0] > 0.3 and plan[1, 1] < 0.04 and plan[0, 1] + plan[1, 0] < 0.01
    totals = [float(transport_plan(similarity, torch.tensor(x)).sum()) for x in (-0.5, 0.2, 0.7)]
    assert all(a > b for a, b in pairwise(totals))


@pytest.mark.parametrize("kind", ["equal_sentences", "neighbours", "time_warping", "transport"])
def test_these_losses_need_narrated_videos(kind):
    with pytest.raises(ConfigError, match="use it in pre-training"):
        load_loss(kind)(pairs(spans=None, words=None), LossConfig(kind=kind))
    with pytest.raises(ConfigError, match="compares a batch with itself"):
        LossConfig(kind=kind, negatives="global")


def test_settings_that_exclude_each_other():
    with pytest.raises(ConfigError, match="exclude each other"):
        LossConfig(ignore_overlapping=True, soft_target_share=0.2)
    sigmoid = LossConfig(kind="sigmoid", ignore_overlapping=True)
    (warning,) = ignored_settings(PretrainConfig(loss=sigmoid))
    assert "loss.ignore_overlapping" in warning
    assert not ignored_settings(PretrainConfig(loss=replace(sigmoid, seconds_weight=1.0)))
    mil_nce = LossConfig(kind="mil_nce", seconds_weight=1.0)
    with pytest.raises(ConfigError, match="one text a clip"):
        PretrainConfig(loss=mil_nce, clips=ClipConfig(strategy="mil_nce"))
