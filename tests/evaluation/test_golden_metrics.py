"""The released implementation's own numbers."""

import json

import numpy as np
import pytest

from videoclip.benchmarks.examples import Segment
from videoclip.data import windows
from videoclip.evaluation.metrics import moments, ranking
from videoclip.evaluation.metrics.frames import label_targets, recall_counts, step_targets
from videoclip.zeroshot import labels, steps
from videoclip.zeroshot.moments import DIDEMO_CANDIDATES, rank_didemo_candidates

pytestmark = pytest.mark.parity
WINDOW, STEP = 32, 16


@pytest.fixture(scope="module")
def golden(shared):
    def load(name, folder="metrics"):
        path = shared / "golden" / folder / name
        table = path.with_suffix(".json")
        return np.load(path.with_suffix(".npz")), json.loads(
            table.read_text() if table.is_file() else "null"
        )

    return load


def test_retrieval(golden):
    arrays, cases = golden("retrieval")
    for case in cases:
        ranks = ranking.rank_queries(arrays[f"sim_{case['case']}"])
        entries = ranking.released_rank_entries(ranks)
        assert len(entries) == case["number_of_rank_entries"]
        for k in (1, 5, 10):
            assert (entries < k).mean() == pytest.approx(case[f"R{k}"], abs=1e-12)
        assert np.median(entries) + 1 == case["MR"]


def test_retrieval_without_ties_agrees_with_ours(golden):
    arrays, cases = golden("retrieval")
    for case in (case for case in cases if case["number_of_rank_entries"] == case["n"]):
        ranks = ranking.rank_queries(arrays[f"sim_{case['case']}"])
        assert ranking.recall_at(ranks, 5).mean() == pytest.approx(case["R5"], abs=1e-12)
        assert np.median(ranking.expected_rank(ranks)) == case["MR"]


def test_multiple_choice(golden):
    arrays, cases = golden("qa")
    for case in cases:
        video, texts, answers, predicted = (
            arrays[f"{name}_{case['case']}"] for name in ("video", "texts", "answers", "pred")
        )
        similarity = np.einsum("ne,nce->nc", video, texts)
        assert ranking.released_choice_credit(similarity, predicted).all()
        credit = ranking.released_choice_credit(similarity, answers)
        assert credit.mean() == pytest.approx(case["acc"], abs=1e-12)


def test_didemo(golden):
    arrays, case = golden("didemo")
    assert [list(m) for m in DIDEMO_CANDIDATES] == case["candidate_order"]
    agreements = []
    for i, times in enumerate(case["times"]):
        similarity = arrays["hidden_video"][i, 1 : WINDOW + 1] @ arrays["pooled_text"][i]
        ranked = rank_didemo_candidates(similarity, int(arrays["vmasks"][i].sum()))
        assert [list(DIDEMO_CANDIDATES[m]) for m in ranked] == case["ranked_moments"][i]
        agreements.append(moments.didemo_agreement(ranked, [tuple(t) for t in times]))
    ranks, overlaps = np.array(agreements).T
    assert (ranks <= 1).mean() == pytest.approx(case["metrics"]["rank1"], abs=1e-12)
    assert (ranks <= 5).mean() == pytest.approx(case["metrics"]["rank5"], abs=1e-12)
    assert overlaps.mean() == pytest.approx(case["metrics"]["miou"], abs=1e-6)


def test_crosstask_assignments(golden):
    arrays, case = golden("crosstask")
    for i, expected in enumerate(case["dp_cases"]):
        cost = arrays[f"dp{i}_cost"]
        assignment = steps.step_mask(steps.order_steps(-cost, exactly_one=True), len(cost))
        assert (assignment == arrays[f"dp{i}_assign"]).all()
        assert (cost * assignment).sum() == pytest.approx(expected["cost"], abs=1e-6)
        free = steps.step_mask(steps.order_steps(-cost), len(cost))
        assert (free == arrays[f"dp{i}_assign_not_exactly_one"]).all()


def test_crosstask_recall(golden):
    arrays, case = golden("crosstask")
    counts: dict[str, list[tuple[int, int]]] = {}
    for video in case["videos"]:
        name, num_frames, num_steps = video["video"], video["frames"], video["steps"]
        ranges = windows.sliding_windows(num_frames, WINDOW, STEP)
        logits = windows.average_windows(arrays[f"{name}_window_logits"], ranges)
        spans = steps.order_steps(steps.log_softmax(logits), exactly_one=True)
        assignment = steps.step_mask(spans, num_frames)
        assert (assignment == arrays[f"{name}_pred"]).all()
        segments = [Segment(s, e, k - 1) for k, s, e in video["segments_1based_step_start_end"]]
        targets = step_targets(segments, num_frames, num_steps)
        assert (targets == arrays[f"{name}_true"]).all()
        found = recall_counts(assignment, targets)
        assert found == (video["matched"], video["present"])
        counts.setdefault(video["task"], []).append(found)
    recalls = {task: sum(f for f, _ in c) / sum(p for _, p in c) for task, c in counts.items()}
    assert recalls | {"recall": np.mean(list(recalls.values()))} == pytest.approx(
        case["metrics"], abs=1e-12
    )


def test_coin(golden):
    arrays, case = golden("coin")
    threshold = labels.released_threshold(arrays["label_embeddings"])
    assert threshold == pytest.approx(case["gamma"], abs=1e-6)
    right = supervised = outside = background = total = 0
    for video in case["videos"]:
        name = video["video"]
        ranges = windows.sliding_windows(video["frames"], WINDOW, STEP)
        assert len(ranges) == video["windows"]
        lengths = [end - start for start, end in ranges]

        def joined(values, lengths=lengths):
            return np.concatenate([v[:n] for v, n in zip(values, lengths, strict=True)])

        states = joined(arrays[f"{name}_hidden"][:, 1:])
        similarity = windows.average_windows(states @ arrays["label_embeddings"].T, ranges)
        predicted = labels.label_frames(similarity, threshold)
        assert (predicted == arrays[f"{name}_zs_pred"]).all()
        fields = zip(video["start"], video["end"], video["label"], strict=True)
        targets = label_targets([Segment(*f) for f in fields], video["frames"])
        assert (targets == arrays[f"{name}_video_targets"]).all()
        logits = windows.average_windows(joined(arrays[f"{name}_logits"]), ranges)
        assert (logits.argmax(axis=1) == arrays[f"{name}_sup_pred"]).all()
        right += (predicted == targets).sum()
        supervised += (logits.argmax(axis=1) == targets).sum()
        outside += (predicted == labels.BACKGROUND).sum()
        background += (targets == labels.BACKGROUND).sum()
        total += len(targets)
    assert right / total == pytest.approx(case["zero_shot_frame_acc"], abs=1e-12)
    assert supervised / total == pytest.approx(case["supervised_frame_acc"], abs=1e-12)
    assert background / total == pytest.approx(case["all_outside_frame_acc"], abs=1e-12)
    assert outside / total == pytest.approx(case["zero_shot_fraction_outside"], abs=1e-12)


def test_windows_and_targets_of_one_video(golden):
    arrays, _ = golden("crosstask_windows", "sequences")
    num_frames = int(arrays["video_len"])
    ranges = windows.sliding_windows(num_frames, WINDOW, STEP)
    assert [end - start for start, end in ranges] == arrays["vmasks"].sum(axis=1).tolist()
    rows = arrays["annotations_step1based_start_end"]
    targets = step_targets([Segment(s, e, int(k) - 1) for k, s, e in rows], num_frames, 3)
    expected = np.concatenate([targets[start:end] for start, end in ranges])
    assert (expected == arrays["targets"]).all()
