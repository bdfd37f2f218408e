import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from videoclip.ablation.charts import draw_curves, draw_differences
from videoclip.ablation.claims import claims
from videoclip.ablation.claims import markdown as claims_markdown
from videoclip.ablation.measure import MEASURES
from videoclip.ablation.run import Finished
from videoclip.ablation.table import compare, lines, markdown, reduction, to_dict
from videoclip.output.figures import to_svg

NUM_VIDEOS = 40
SVG = "{http://www.w3.org/2000/svg}"


def finished(row, seed, share, world="world"):
    """A run that answers about `share` of ten questions a video, on videos of all difficulties."""
    rng = np.random.default_rng([seed, len(row)])
    hardness = np.random.default_rng(7).normal(0, 0.2, NUM_VIDEOS)
    hits = rng.binomial(10, np.clip(share + hardness, 0, 1)).astype(float)
    counts = {name: np.stack([hits, np.full(NUM_VIDEOS, 10.0)], axis=1) for name in MEASURES}
    return Finished(world, row, seed, counts, ((1, 2.0),), 100, 6400, 12.5)


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
    found = compare(counts[0.5], counts[0.4])
    hits = [counts[share].sum((0, 1))[0] for share in (0.5, 0.4)]
    assert found.value == pytest.approx((hits[0] - hits[1]) / 1200)
    expected = naive_difference(counts[0.5], counts[0.4])
    np.testing.assert_allclose((found.low, found.high), expected, atol=0.006)
    assert found.low < found.value < found.high


def test_a_row_does_not_differ_from_itself(counts):
    found = compare(counts[0.5], counts[0.5])
    assert (found.value, found.low, found.high) == (0, 0, 0) and not found.is_clear


def test_reduction_is_the_share_of_errors_gone(counts):
    wrong = [1 - c.sum((0, 1))[0] / c.sum((0, 1))[1] for c in (counts[0.5], counts[0.4])]
    found = reduction(counts[0.5], counts[0.4])
    assert found.value == pytest.approx(1 - wrong[0] / wrong[1])


def test_rows_are_compared_on_the_seeds_both_have():
    runs = [finished("paper", seed, 0.5) for seed in (1, 2)]
    runs += [finished("paper-shuffled", seed, 0.2) for seed in (2, 3)]
    runs += [finished("paper-shuffled", 1, 0.2, world="other")]
    table = {(line.world, line.row): line for line in lines(runs)}
    assert list(table) == [
        ("other", "paper-shuffled"), ("world", "paper"), ("world", "paper-shuffled")
    ]  # fmt: skip
    line = table["world", "paper-shuffled"]
    assert line.seeds == (2, 3)
    expected = compare(runs[2].counts["R@1"][None], runs[1].counts["R@1"][None])
    assert line.cells["R@1"].difference == expected
    assert table["other", "paper-shuffled"].cells["R@1"].difference is None
    assert table["world", "paper"].cells["R@1"].difference is None


def test_table_and_picture_show_every_row():
    runs = [finished(row, s, x) for row, x in (("paper", 0.5), ("paper-cls", 0.1)) for s in (1, 2)]
    table = lines(runs)
    text = markdown(table)
    assert "`paper-cls`: [CLS] instead of the mean" in text
    assert re.search(r"\*\*-\d+\.\d\*\* \(-\d+\.\d \.\. -\d+\.\d\)", text)
    assert json.loads(json.dumps(to_dict(table)))[0]["row"] == "paper"
    picture = ElementTree.fromstring(to_svg(draw_differences(table), "Differences"))
    names = [text.text for text in picture.iter(f"{SVG}text")]
    assert "paper-cls against paper, world world" in names
    tooltips = [title.text for title in picture.iter(f"{SVG}title")]
    assert len([t for t in tooltips if re.fullmatch(r".+: -\d+\.\d \(-.* to -.*\)", t)]) == 3


def test_claims_are_made_of_the_runs_there_are():
    runs = [finished(row, s, x) for row, x in (("small", 0.5), ("paper", 0.2)) for s in (1, 2)]
    nothing = np.tile([0.0, 10.0], (NUM_VIDEOS, 1))
    names = ("segment F1", "foreground accuracy", "step recall")
    always = {"always background": dict.fromkeys(names, nothing)}
    found = {claim.text: claim for claim in claims(runs, {"world": always})}
    share = found["R@1: errors of `paper` that `small` does not make, share"]
    ours, theirs = (
        np.array([run.counts["R@1"] for run in runs if run.row == row])
        for row in ("small", "paper")
    )
    assert share.interval == reduction(ours, theirs)
    ratio = found["R@1: held-out combinations over seen ones, ratio"]
    assert ratio.interval.value == 1.0 and ratio.seeds == 2
    assert found["direction: clips against their mean pictures, difference"].interval.value == 0
    own = np.array([run.counts["segment F1"] for run in runs if run.row == "small"]).sum((0, 1))
    beaten = found["segment F1: `small` against always background, difference"]
    assert beaten.interval.value == pytest.approx(own[0] / own[1])
    assert "F1 in order: `small` against always background, difference" in found
    assert len(found) == 3 + 5 + 2  # five measures against nothing, and two plain differences
    text = claims_markdown(list(found.values()))
    assert text.count("\n") == 2 + len(found)


def test_curves_are_drawn_for_rows_with_the_same_loss():
    rows = ("paper", "paper-cls", "paper-mil-nce", "small-reranked")
    runs = [finished(row, seed, 0.5) for row in rows for seed in (1, 2)]
    picture = ElementTree.fromstring(to_svg(draw_curves(runs, "world"), "Loss"))
    titles = [title.text for title in picture.iter(f"{SVG}title")]
    assert titles == ["Loss", "paper", "paper-cls"]
