"""Complete measures, tables and reports of an ablation on made runs."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from tests import approved
from tests.ablation.test_table import finished
from tests.ablation.testbeds import CONFIG, Reader, make_testbed
from tests.approved import outcome, summary
from tests.data.test_approved import tree
from videoclip.ablation import runs as module
from videoclip.ablation import table as tables
from videoclip.ablation.measure import MEASURES, measure, measure_baselines, ratio
from videoclip.ablation.runs import VARIANTS, make_config, read_runs, run_ablation
from videoclip.ablation.table import (
    Comparison,
    Interval,
    compare,
    comparisons_markdown,
    draw_curves,
    draw_differences,
    make_table,
    table_markdown,
    write_report,
)
from videoclip.files import read_json, write_state


@pytest.fixture(scope="module")
def bed(tmp_path_factory):
    return make_testbed(tmp_path_factory.mktemp("bed"))


class Rescorer(Reader):
    def pair_scorer(self, texts, clips):
        return lambda text, clip, similarity: similarity + 1.0 * ((text + clip) % 3 == 0)


def test_measures(bed):
    found = {}
    for sight, rerank_top in ((0.6, 0), (0.6, 3), (0.85, 0)):
        counts = measure(Rescorer(bed, sight), bed, rerank_top)
        assert list(counts) == list(MEASURES) or set(counts) == set(MEASURES)
        found[f"sight {sight}, re-ranked {rerank_top}"] = {
            name: [*pairs.sum(axis=0).tolist(), *summary(pairs)[1:]]
            for name, pairs in counts.items()
        }
    found["baselines"] = {
        name: {key: [*pairs.sum(axis=0).tolist(), summary(pairs)[2]] for key, pairs in of.items()}
        for name, of in measure_baselines(bed).items()
    }
    words = bed.tokenizer
    found["bed"] = [
        [len(bed.training_videos), len(bed.test_videos), len(bed.corpus)],
        [words.vocab_size, words.fingerprint, bed.corpus.video_ids[:2], len(bed.corpus.left_out)],
    ]
    config = make_config(VARIANTS["small"], bed, 4)
    found["config"] = [
        config.seed,
        config.precision,
        asdict(config.model)["feature_dim"],
        config.model.vocab_size,
        make_config(VARIANTS["paper"], bed, 4).model.normalized_features,
    ]
    questions = np.array([[[1.0, 1.0], [0.0, 0.0]], [[1.0, 2.0], [0.0, 1.0]]])
    found["ratios"] = ratio(questions)
    approved.check("ablation-measures", found)


def made_runs():
    """Made counts, other ones for each measure."""
    runs = []
    for world in ("one", "two"):
        for variant, share in {
            "paper": 0.3, "small": 0.5, "small-equal-time": 0.48, "small-shuffled": 0.4,
            "small-reranked": 0.55, "small-cross": 0.52, "crossmodal": 0.45,
        }.items():  # fmt: skip
            for seed in (1, 4) if world == "one" else (2,):
                run = finished(variant, seed, share, world)
                counts = {
                    name: np.stack([np.maximum(0, pairs[:, 0] - i % 4), pairs[:, 1]], axis=1)
                    for i, (name, pairs) in enumerate(run.counts.items())
                }
                length = 3 + (variant == "small" and seed == 1)
                curve = tuple((10 * i, 3.0 / (i + seed)) for i in range(1, 1 + length))
                runs.append(replace(run, counts=counts, curve=curve, cpu_seconds=10.0 * seed))
    return runs[::-1]


def test_tables(monkeypatch):
    monkeypatch.setattr(tables, "NUM_RESAMPLES", 100)
    runs = made_runs()
    table = make_table(runs)
    empty = {
        name: finished("x", 1, share).counts["R@1"]
        for name, share in {
            "segment F1": 0.1,
            "foreground accuracy": 0.2,
            "step recall": 0.3,
        }.items()
    }
    comparisons = list(compare(runs, {"one": {"always background": empty}}))
    lines = table_markdown(table).splitlines()
    shown = [line if i < 6 else line[:90] for i, line in enumerate(lines)][:10]
    numbers = [
        [c.value, *((c.difference.value, c.difference.low) if c.difference else ())]
        for row in table
        for c in row.cells.values()
    ]
    figure = draw_differences(table)
    curves = draw_curves(runs, "one")
    verdicts = [
        Comparison("w", "s", Interval(0.5, low, high), 1, reference)
        for low, high in ((0.0, 0.5), (-0.5, 0.0), (0.1, 0.5), (-0.5, -0.1), (0.0, 0.0), (0.5, 2))
        for reference in (0.0, 1.0)
    ]
    found = {
        "verdicts": [f"{c.verdict} {c.effect.is_significant}" for c in verdicts],
        "table": shown,
        "significant": sum(line.count("**") for line in lines) // 2,
        "rows": [[r.world, r.variant, list(r.seeds), r.cpu_seconds, r.pairs] for r in table][::6],
        "numbers": summary(np.concatenate(numbers))[1:],
        "comparisons": comparisons_markdown(comparisons).splitlines()[12:],
        "figure": [
            [list(figure.get_size_inches()), len(figure.axes)],
            [[a.get_title(), *a.get_xlim(), *a.get_ylim(), len(a.lines)] for a in figure.axes],
            [label.get_text() for label in figure.axes[0].get_yticklabels()],
            [line.get_color() for line in figure.axes[0].lines[:6]],
        ],
        "curves": [
            [t.get_text() for legend in curves.legends for t in legend.get_texts()],
            [summary(np.array(line.get_xydata()))[1:] for line in curves.axes[0].lines],
        ],
    }
    approved.check("ablation-table", found)


def test_runs_that_need_another(tmp_path, monkeypatch, bed):
    """A model that is measured in another way is trained once; a teacher is the finished model."""
    told, clock = [], iter([1.0, 3.26] * 9)

    def train(config, corpus, folder, show_progress):
        teacher = config.plan.teacher and Path(config.plan.teacher).relative_to(tmp_path)
        told.append(["trained", folder.relative_to(tmp_path), teacher, config.seed])
        folder.mkdir(parents=True)
        for update in (1, 2):
            with (folder / "log.jsonl").open("a") as file:
                print(json.dumps({"update": update, "loss": 2.0, "num_pairs": 6}), file=file)

    def counted(encoder, testbed, rerank_top):
        told.append(["measured", encoder.relative_to(tmp_path), rerank_top])
        return {name: np.ones((2, 2)) for name in MEASURES}

    monkeypatch.setattr(module, "_open_testbed", lambda folder: bed)
    monkeypatch.setattr(module, "pretrain", train)
    monkeypatch.setattr(module, "measure", counted)
    monkeypatch.setattr(module, "EmbedderEncoder", lambda embedder: embedder)
    monkeypatch.setattr(module.Embedder, "from_pretrained", lambda folder: folder)
    monkeypatch.setattr(module.time, "process_time", lambda: next(clock))
    for variant in ("small-reranked", "small-cross", "small-teacher", "crossmodal-towers"):
        module._run_variant(tmp_path, "w", (variant, 3))
    kept = [[r.variant, r.seed, r.updates, r.pairs, r.cpu_seconds] for r in read_runs(tmp_path)]
    approved.check("ablation-dependent-runs", {"told": told, "kept": kept})


def test_reports(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "NUM_RESAMPLES", 100)
    told = []
    found = {
        "nothing": outcome(lambda: write_report(tmp_path)),
        "unknown": outcome(
            lambda: run_ablation(tmp_path, "w", CONFIG, 4, variants=("smal",), seeds=(1,))
        ),
    }
    for run in made_runs()[:4]:
        counts = {name: pairs.tolist() for name, pairs in run.counts.items()}
        training = {
            "curve": run.curve,
            "updates": run.updates,
            "pairs": run.pairs,
            "cpu_seconds": 1.5,
        }
        path = module.run_folder(tmp_path, run.world, run.variant, run.seed) / "measured.json"
        write_state(path, {"training": training, "counts": counts})
    other = module.run_folder(tmp_path, "w", "small", 10) / "measured.json"
    write_state(other, {"training": {}, "counts": {"R@1": []}})
    found["runs"] = [
        [r.world, r.variant, r.seed, r.curve, r.cpu_seconds] for r in read_runs(tmp_path)
    ]
    table = write_report(tmp_path)
    found["rows"] = len(table)
    found["files"] = [name for name in tree(tmp_path) if "runs/" not in name]
    found["json"] = read_json(tmp_path / "table.json")[0]["cells"]["R@1"]
    monkeypatch.setattr(
        module,
        "build_testbed",
        lambda *arguments: (
            told.append(arguments[2:4]) or [arguments[4](n, 120) for n in (1, 50, 119, 120)]
        ),
    )
    monkeypatch.setattr(module, "_run_variant", lambda out, world, run: told.append(run))
    run_ablation(
        tmp_path,
        "w",
        CONFIG,
        4,
        variants=("small-reranked", "small-cross", "paper"),
        seeds=(3, 1),
        on_message=told.append,
    )
    found["told"] = told
    approved.check("ablation-report", found, TMP=tmp_path)
