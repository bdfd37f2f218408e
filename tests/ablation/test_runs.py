import json

import pytest
from filelock import FileLock

from tests.ablation.testbeds import CONFIG, finished, little, make_testbed, out  # noqa: F401
from videoclip.ablation.runs import (
    MEASURED_FILE,
    VARIANTS,
    make_config,
    read_runs,
    run_ablation,
    run_folder,
)
from videoclip.ablation.table import write_report
from videoclip.config import PretrainConfig, ignored_settings
from videoclip.errors import ConfigError
from videoclip.files import read_json
from videoclip.recipes import RECIPES


def test_variants_are_trained_measured_and_compared(out, tmp_path_factory):  # noqa: F811
    messages = finished(tmp_path_factory.getbasetemp() / "finished")
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


def test_a_variant_is_taught_by_another_variants_model_of_the_same_seed(little):  # noqa: F811
    run_ablation(little, "little", CONFIG, 24, variants=("taught",), seeds=(2,))
    assert [run.variant for run in read_runs(little)] == ["plain", "taught"]
    config = json.loads((run_folder(little, "little", "taught", 2) / "config.json").read_text())
    assert config["plan"]["teacher"] == str(run_folder(little, "little", "plain", 2) / "model")


def test_a_folder_is_for_one_process_at_a_time(little):  # noqa: F811
    def ablate():
        run_ablation(little, "little", CONFIG, 24, variants=(), seeds=())

    with FileLock(little / ".lock"), pytest.raises(ConfigError, match="another process is working"):
        ablate()
    ablate()
    with FileLock(little / ".lock", timeout=0):  # it was released
        pass


def test_finished_runs_are_kept(out):  # noqa: F811
    for _ in range(2):
        run_ablation(out, "little", CONFIG, 24, variants=("plain",), seeds=(1,))
        measured = run_folder(out, "little", "plain", 1) / MEASURED_FILE
        when = measured.stat().st_mtime_ns
        (run_folder(out, "little", "plain", 1) / "log.jsonl").unlink(missing_ok=True)
    assert measured.stat().st_mtime_ns == when
    run_ablation(out, "little", CONFIG, 24, variants=("plain",), seeds=(1, 2))
    assert [run.seed for run in read_runs(out) if run.variant == "plain"] == [1, 2]


def test_runs_measured_by_another_version_are_measured_again(out):  # noqa: F811
    (run,) = (run for run in read_runs(out) if run.variant == "plain")
    path = run_folder(out, "little", "plain", 1) / MEASURED_FILE
    content = read_json(path)
    del content["counts"]["R@1"]
    path.write_text(json.dumps(content))
    assert "plain" not in {run.variant for run in read_runs(out)}
    run_ablation(out, "little", CONFIG, 24, variants=("plain",), seeds=(1,))
    (again,) = (run for run in read_runs(out) if run.variant == "plain")
    assert (again.counts["R@1"] == run.counts["R@1"]).all()
    assert again.cpu_seconds == run.cpu_seconds


def test_a_run_measured_by_another_version_hides_no_other(out, tmp_path):  # noqa: F811
    content = read_json(run_folder(out, "little", "mined", 1) / MEASURED_FILE)
    for variant, counts in (("a", {}), ("b", content["counts"])):
        folder = run_folder(tmp_path / "others", "little", variant, 1)
        folder.mkdir(parents=True)
        (folder / MEASURED_FILE).write_text(json.dumps(content | {"counts": counts}))
    assert [run.variant for run in read_runs(tmp_path / "others")] == ["b"]


def test_unknown_variants_and_empty_tables(little):  # noqa: F811
    with pytest.raises(ConfigError, match="unknown variant 'plan'; perhaps you meant 'plain'"):
        run_ablation(little, "little", CONFIG, 24, variants=("plan",), seeds=(1,))
    with pytest.raises(ConfigError, match="no run is finished"):
        write_report(little)


def test_every_variant_is_a_configuration_that_differs_from_what_it_is_compared_with(tmp_path):
    testbed = make_testbed(tmp_path)
    for name, variant in VARIANTS.items():
        config = make_config(variant, testbed, seed=3)
        assert isinstance(config, PretrainConfig)
        assert config.seed == 3
        assert ignored_settings(config) == [], name
        if variant.against and not variant.trained_as:
            assert config != make_config(VARIANTS[variant.against], testbed, seed=3), name
        assert variant.against in {"", *VARIANTS} and variant.depends_on in {"", *VARIANTS}
    assert set(RECIPES) >= {"paper", "small"}


def test_every_variant_is_described_in_words_and_compared_with_another():
    for name, variant in VARIANTS.items():
        assert " " in variant.summary
        assert variant.against in {"", *VARIANTS} - {name}
