import json
from dataclasses import replace

import pytest

from tests.ablation.testbeds import CONFIG, make_testbed
from videoclip.ablation import runs as module
from videoclip.ablation.runs import (
    MEASURED_FILE,
    VARIANTS,
    Variant,
    make_config,
    read_runs,
    run_ablation,
    run_folder,
)
from videoclip.ablation.table import write_report
from videoclip.ablation.testbed import TestBed
from videoclip.config import OptimConfig, PretrainConfig
from videoclip.errors import ConfigError
from videoclip.files import read_json
from videoclip.recipes import RECIPES, tiny


def quick():
    run = tiny()
    return replace(
        run,
        model=replace(run.model, num_video_layers=1, num_text_layers=1, num_cross_layers=1),
        optim=OptimConfig(optimizer="adamw", lr=3e-3, warmup_updates=0, total_updates=0),
        plan=replace(run.plan, kind="shuffled", videos_per_batch=12, num_neighbours=12),
        epochs=2,
    )


def quick_mined():
    run = quick()
    return replace(run, plan=replace(run.plan, kind="mined", first_epoch=1))


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A folder with a world, and variants that train in a second."""
    variants = {
        "plain": Variant("plain", "", quick()),
        "mined": Variant("mined", "plain", quick_mined()),
        "again": Variant("re-ranked", "plain", quick(), rerank_top=5, trained_as="plain"),
        "taught": Variant("by a teacher", "mined", quick_mined(), teacher="plain"),
    }
    usual = dict(VARIANTS)
    VARIANTS.clear()
    VARIANTS.update(variants)
    make_testbed(tmp_path / "worlds" / "little")
    monkeypatch.setattr(module, "build_testbed", lambda folder, *_: TestBed.open(folder))
    yield tmp_path
    VARIANTS.clear()
    VARIANTS.update(usual)


def test_variants_are_trained_measured_and_compared(out):
    messages = []
    run_ablation(
        out,
        "little",
        CONFIG,
        24,
        variants=("again", "plain", "mined"),
        seeds=(1,),
        on_message=messages.append,
    )
    runs = {run.variant: run for run in read_runs(out)}
    assert set(runs) == {"plain", "mined", "again"}
    assert runs["plain"].updates == runs["mined"].updates == 2
    assert runs["plain"].pairs == runs["mined"].pairs == 2 * 12 * 8
    assert len(runs["plain"].curve) == 2
    # The same model, measured twice: only the order of the best candidates may change.
    again, plain = runs["again"].counts, runs["plain"].counts
    assert (again["step recall"] == plain["step recall"]).all()
    assert not (run_folder(out, "little", "again", 1) / "model").exists()
    assert len(messages) == 3
    table = write_report(out)
    assert [row.variant for row in table] == ["plain", "mined", "again"]
    assert json.loads((out / "table.json").read_text())[1]["cells"]["R@1"]["difference"]
    assert "`mined`" in (out / "table.md").read_text()
    assert (out / "table.svg").read_text().startswith("<svg")


def test_a_variant_is_taught_by_another_variants_model_of_the_same_seed(out):
    run_ablation(out, "little", CONFIG, 24, variants=("taught",), seeds=(2,))
    assert [run.variant for run in read_runs(out)] == ["plain", "taught"]
    config = json.loads((run_folder(out, "little", "taught", 2) / "config.json").read_text())
    assert config["plan"]["teacher"] == str(run_folder(out, "little", "plain", 2) / "model")


def test_finished_runs_are_kept(out):
    for _ in range(2):
        run_ablation(out, "little", CONFIG, 24, variants=("plain",), seeds=(1,))
        measured = run_folder(out, "little", "plain", 1) / MEASURED_FILE
        when = measured.stat().st_mtime_ns
        (run_folder(out, "little", "plain", 1) / "log.jsonl").unlink(missing_ok=True)
    assert measured.stat().st_mtime_ns == when
    run_ablation(out, "little", CONFIG, 24, variants=("plain",), seeds=(1, 2))
    assert [run.seed for run in read_runs(out)] == [1, 2]


def test_runs_measured_by_another_version_are_measured_again(out):
    run_ablation(out, "little", CONFIG, 24, variants=("plain",), seeds=(1,))
    (run,) = read_runs(out)
    path = run_folder(out, "little", "plain", 1) / MEASURED_FILE
    content = read_json(path)
    del content["counts"]["R@1"]
    path.write_text(json.dumps(content))
    assert not read_runs(out)
    run_ablation(out, "little", CONFIG, 24, variants=("plain",), seeds=(1,))
    (again,) = read_runs(out)
    assert (again.counts["R@1"] == run.counts["R@1"]).all()
    assert again.cpu_seconds == run.cpu_seconds


def test_unknown_variants_and_empty_tables(out):
    with pytest.raises(ConfigError, match="unknown variant 'plan'; perhaps you meant 'plain'"):
        run_ablation(out, "little", CONFIG, 24, variants=("plan",), seeds=(1,))
    with pytest.raises(ConfigError, match="no run is finished"):
        write_report(out)


def test_every_variant_is_a_configuration_that_differs_from_what_it_is_compared_with(tmp_path):
    testbed = make_testbed(tmp_path)
    for name, variant in VARIANTS.items():
        config = make_config(variant, testbed, seed=3)
        assert isinstance(config, PretrainConfig)
        assert config.seed == 3
        if variant.against and not variant.rerank_top:
            assert config != make_config(VARIANTS[variant.against], testbed, seed=3), name
        assert variant.against in {"", *VARIANTS} and variant.depends_on in {"", *VARIANTS}
    assert set(RECIPES) >= {"paper", "small"}
