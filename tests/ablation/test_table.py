import json
import operator
import re
from dataclasses import asdict
from xml.etree import ElementTree

import numpy as np
import pytest

from videoclip.ablation.measure import MEASURES
from videoclip.ablation.runs import FinishedRun
from videoclip.ablation.table import (
    bootstrap,
    compare,
    comparisons_markdown,
    draw_curves,
    draw_differences,
    error_reduction,
    make_table,
    table_markdown,
)
from videoclip.output.figures import to_svg

NUM_VIDEOS = 40
SVG = "{http://www.w3.org/2000/svg}"


def finished(variant, seed, share, world="world"):
    """A run that answers about `share` of ten questions a video, on videos of all difficulties."""
    rng = np.random.default_rng([seed, len(variant)])
    hardness = np.random.default_rng(7).normal(0, 0.2, NUM_VIDEOS)
    hits = rng.binomial(10, np.clip(share + hardness, 0, 1)).astype(float)
    counts = {name: np.stack([hits, np.full(NUM_VIDEOS, 10.0)], axis=1) for name in MEASURES}
    return FinishedRun(world, variant, seed, counts, ((1, 2.0),), 100, 6400, 12.5)


def naive_difference(ours, theirs, draws=3000):
    rng = np.random.default_rng(1)
    values = []
    for _ in range(draws):
        seeds = rng.integers(len(ours), size=len(ours))
        videos = rng.integers(NUM_VIDEOS, size=NUM_VIDEOS)
        a, b = (x[seeds][:, videos].sum(axis=(0, 1)) for x in (ours, theirs))
        values.append(a[0] / a[1] - b[0] / b[1])
    return np.quantile(values, (0.025, 0.975))


@pytest.fixture
def counts():
    return {
        share: np.array([finished("paper", seed, share).counts["R@1"] for seed in (1, 2, 3)])
        for share in (0.4, 0.5)
    }


def test_an_interval_is_that_of_drawing_seeds_and_videos_one_by_one(counts):
    found = bootstrap(operator.sub, counts[0.5], counts[0.4])
    hits = [counts[share].sum((0, 1))[0] for share in (0.5, 0.4)]
    assert found.value == pytest.approx((hits[0] - hits[1]) / 1200)
    expected = naive_difference(counts[0.5], counts[0.4])
    np.testing.assert_allclose((found.low, found.high), expected, atol=0.006)
    assert found.low < found.value < found.high


def test_a_variant_does_not_differ_from_itself(counts):
    found = bootstrap(operator.sub, counts[0.5], counts[0.5])
    assert (found.value, found.low, found.high) == (0, 0, 0) and not found.is_significant


def test_error_reduction_is_the_share_of_errors_gone(counts):
    wrong = [1 - c.sum((0, 1))[0] / c.sum((0, 1))[1] for c in (counts[0.5], counts[0.4])]
    found = bootstrap(error_reduction, counts[0.5], counts[0.4])
    assert found.value == pytest.approx(1 - wrong[0] / wrong[1])


def test_variants_are_compared_on_the_seeds_both_have():
    runs = [finished("paper", seed, 0.5) for seed in (1, 2)]
    runs += [finished("paper-shuffled", seed, 0.2) for seed in (2, 3)]
    runs += [finished("paper-shuffled", 1, 0.2, world="other")]
    table = {(row.world, row.variant): row for row in make_table(runs)}
    assert list(table) == [
        ("other", "paper-shuffled"), ("world", "paper"), ("world", "paper-shuffled")
    ]  # fmt: skip
    line = table["world", "paper-shuffled"]
    assert line.seeds == (2, 3)
    expected = bootstrap(operator.sub, runs[2].counts["R@1"][None], runs[1].counts["R@1"][None])
    assert line.cells["R@1"].difference == expected
    assert table["other", "paper-shuffled"].cells["R@1"].difference is None
    assert table["world", "paper"].cells["R@1"].difference is None


def test_table_and_figure_have_every_variant():
    runs = [finished(row, s, x) for row, x in (("paper", 0.5), ("paper-cls", 0.1)) for s in (1, 2)]
    table = make_table(runs)
    text = table_markdown(table)
    assert "`paper-cls`: [CLS] instead of the mean" in text
    assert re.search(r"\*\*-\d+\.\d\*\* \(-\d+\.\d \.\. -\d+\.\d\)", text)
    assert json.loads(json.dumps([asdict(row) for row in table]))[0]["variant"] == "paper"
    figure = draw_differences(table)
    for low, high in (axes.get_xlim() for axes in figure.axes):
        assert low == -high and high > 30  # percent: zero is in the middle of every panel
    picture = ElementTree.fromstring(to_svg(figure, "Differences"))
    names = [text.text for text in picture.iter(f"{SVG}text")]
    assert "paper-cls against paper, world world" in names
    tooltips = [title.text for title in picture.iter(f"{SVG}title")]
    assert len([t for t in tooltips if re.fullmatch(r".+: -\d+\.\d \(-.* to -.*\)", t)]) == 3


def test_comparisons_are_made_of_the_finished_runs():
    runs = [finished(row, s, x) for row, x in (("small", 0.5), ("paper", 0.2)) for s in (1, 2)]
    nothing = np.tile([0.0, 10.0], (NUM_VIDEOS, 1))
    names = ("segment F1", "foreground accuracy", "step recall")
    always = {"always background": dict.fromkeys(names, nothing)}
    found = {item.statement: item for item in compare(runs, {"world": always})}
    share = found["R@1: errors of `paper` that `small` does not make, share"]
    ours, theirs = (
        np.array([run.counts["R@1"] for run in runs if run.variant == row])
        for row in ("small", "paper")
    )
    assert share.effect == bootstrap(error_reduction, ours, theirs)
    ratio = found["R@1 held out: held-out combinations over seen ones, ratio"]
    assert ratio.verdict == "unclear" and share.verdict == "higher"
    assert ratio.effect.value == 1.0 and ratio.num_seeds == 2
    assert found["direction: clips against their mean frames, difference"].effect.value == 0
    own = np.array([run.counts["segment F1"] for run in runs if run.variant == "small"]).sum((0, 1))
    beaten = found["segment F1: `small` against always background, difference"]
    assert beaten.effect.value == pytest.approx(own[0] / own[1])
    assert "F1 in order: `small` against always background, difference" in found
    assert len(found) == 3 + 5 + 2  # five measures against nothing, and two plain differences
    text = comparisons_markdown(list(found.values()))
    assert text.count("\n") == 2 + len(found)


def test_curves_are_drawn_for_variants_with_the_same_loss():
    rows = ("paper", "paper-cls", "paper-mil-nce", "small-reranked")
    runs = [finished(row, seed, 0.5) for row in rows for seed in (1, 2)]
    picture = ElementTree.fromstring(to_svg(draw_curves(runs, "world"), "Loss"))
    titles = [title.text for title in picture.iter(f"{SVG}title")]
    assert titles == ["Loss", "paper", "paper-cls"]
