import json
from dataclasses import replace

import pytest

from tests.ablation.beds import CONFIG, telling_bed
from videoclip.ablation import ablate as module
from videoclip.ablation.ablate import ablate, write_table
from videoclip.ablation.bed import TestBed
from videoclip.ablation.rows import ROWS, Row
from videoclip.ablation.run import MEASURED, configured, finished, run_folder
from videoclip.config import OptimConfig, PretrainConfig
from videoclip.errors import ConfigError
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
    """A folder with a world in it, and rows that take a second."""
    rows = {
        "plain": Row("plain", "", quick),
        "mined": Row("mined", "plain", quick_mined),
        "again": Row("re-ranked", "plain", quick, rerank_top=5, trained_as="plain"),
        "taught": Row("by a teacher", "mined", quick_mined, teacher="plain"),
    }
    usual = dict(ROWS)
    ROWS.clear()
    ROWS.update(rows)
    telling_bed(tmp_path / "worlds" / "little")
    monkeypatch.setattr(module, "build_bed", lambda folder, *_: TestBed.open(folder))
    yield tmp_path
    ROWS.clear()
    ROWS.update(usual)


def test_rows_are_trained_measured_and_compared(out):
    said = []
    ablate(out, "little", CONFIG, 24, rows=("again", "plain", "mined"), seeds=(1,), say=said.append)
    runs = {run.row: run for run in finished(out)}
    assert set(runs) == {"plain", "mined", "again"}
    assert runs["plain"].updates == runs["mined"].updates == 2
    assert runs["plain"].pairs == runs["mined"].pairs == 2 * 12 * 8
    assert len(runs["plain"].curve) == 2
    # The same model, looked at twice: only the order of the best candidates may change.
    again, plain = runs["again"].counts, runs["plain"].counts
    assert (again["step recall"] == plain["step recall"]).all()
    assert not (run_folder(out, "little", "again", 1) / "model").exists()
    assert len(said) == 3
    table = write_table(out)
    assert [line.row for line in table] == ["plain", "mined", "again"]
    assert json.loads((out / "table.json").read_text())[1]["cells"]["R@1"]["difference"]
    assert "`mined`" in (out / "table.md").read_text()
    assert (out / "table.svg").read_text().startswith("<svg")


def test_a_row_is_taught_by_another_rows_model_of_the_same_seed(out):
    ablate(out, "little", CONFIG, 24, rows=("taught",), seeds=(2,))
    assert [run.row for run in finished(out)] == ["plain", "taught"]
    config = json.loads((run_folder(out, "little", "taught", 2) / "config.json").read_text())
    assert config["plan"]["teacher"] == str(run_folder(out, "little", "plain", 2) / "model")


def test_what_is_done_is_not_done_again(out):
    for _ in range(2):
        ablate(out, "little", CONFIG, 24, rows=("plain",), seeds=(1,))
        measured = run_folder(out, "little", "plain", 1) / MEASURED
        when = measured.stat().st_mtime_ns
        (run_folder(out, "little", "plain", 1) / "log.jsonl").unlink(missing_ok=True)
    assert measured.stat().st_mtime_ns == when
    ablate(out, "little", CONFIG, 24, rows=("plain",), seeds=(1, 2))
    assert [run.seed for run in finished(out)] == [1, 2]


def test_what_another_version_has_measured_is_measured_again(out):
    ablate(out, "little", CONFIG, 24, rows=("plain",), seeds=(1,))
    (run,) = finished(out)
    path = run_folder(out, "little", "plain", 1) / MEASURED
    content = json.loads(path.read_text())
    del content["counts"]["R@1"]
    path.write_text(json.dumps(content))
    assert not finished(out)
    ablate(out, "little", CONFIG, 24, rows=("plain",), seeds=(1,))
    (again,) = finished(out)
    assert (again.counts["R@1"] == run.counts["R@1"]).all()
    assert again.cpu_seconds == run.cpu_seconds


def test_wrong_rows_and_empty_tables(out):
    with pytest.raises(ConfigError, match="unknown row 'plan'; perhaps you meant 'plain'"):
        ablate(out, "little", CONFIG, 24, rows=("plan",), seeds=(1,))
    with pytest.raises(ConfigError, match="no run is finished"):
        write_table(out)


def test_every_row_is_a_configuration_that_differs_from_what_it_is_compared_with(tmp_path):
    bed = telling_bed(tmp_path)
    for name, row in ROWS.items():
        config = configured(row, bed, seed=3)
        assert isinstance(config, PretrainConfig)
        assert config.seed == 3
        if row.against and not row.rerank_top:
            assert config != configured(ROWS[row.against], bed, seed=3), name
        assert row.against in {"", *ROWS} and row.after in {"", *ROWS}
    assert set(RECIPES) >= {"paper", "small"}
