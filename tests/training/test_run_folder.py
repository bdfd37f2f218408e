"""Run folders: what survives a crash, what is refused, what is kept."""

import errno
import json
import os

import pytest

from videoclip.errors import CheckpointError, ConfigError
from videoclip.files import write_json
from videoclip.training.run_folder import RunFolder, differences, read_log

CONFIG = {"epochs": 2, "optim": {"lr": 1e-4}, "num_workers": 0}


def opened(path, config=CONFIG, keep=2, **facts):
    return RunFolder(path, config, facts, keep)


def weights(text):
    return lambda folder: (folder / "weights").write_text(text) and None


def test_checkpoints_are_listed_in_order_and_the_newest_is_continued_from(tmp_path):
    with opened(tmp_path / "run") as run:
        assert run.newest() is None and run.best() is None
        for update in (5, 10, 1_000_000):
            folder = run.save_checkpoint(update, weights(str(update)))
            assert (folder / "weights").read_text() == str(update)
        assert [c.update for c in run.checkpoints()] == [10, 1_000_000]
        assert run.newest().update == 1_000_000


def test_the_best_checkpoint_outlives_the_recent_ones(tmp_path):
    with opened(tmp_path, keep=1) as run:
        for update, loss in [(1, 3.0), (2, 1.0), (3, None), (4, 2.0), (5, 1.0)]:
            assert run.is_best(loss) == (update in (1, 2))
            run.save_checkpoint(update, weights(""), loss)
        assert run.best().update == 2 and run.best().validation_loss == 1.0
        assert [c.update for c in run.checkpoints()] == [2, 5]


@pytest.mark.parametrize("moment", ["write", "marker"])
def test_a_full_disk_leaves_the_previous_checkpoint_intact(tmp_path, monkeypatch, moment):
    def no_space(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with opened(tmp_path, keep=1) as run:
        run.save_checkpoint(1, weights("good"))
        with monkeypatch.context() as patch:
            if moment == "marker":
                patch.setattr("videoclip.training.run_folder.write_state", no_space)
            with pytest.raises(CheckpointError, match=r"No space left.*update 1 is intact.*again"):
                run.save_checkpoint(2, no_space if moment == "write" else weights("new"))
        assert [c.update for c in run.checkpoints()] == [1]
        assert (run.newest().folder / "weights").read_text() == "good"
        run.save_checkpoint(2, weights("new"))
        assert [p.name for p in run.newest().folder.parent.iterdir()] == ["update-000002"]


def test_what_a_crash_left_behind_is_not_a_checkpoint_and_is_cleared(tmp_path):
    with opened(tmp_path) as run:
        run.save_checkpoint(1, weights("good"))
        for leftover in (".update-000002.partial", "update-000003"):
            (tmp_path / "checkpoints" / leftover).mkdir()
        assert run.newest().update == 1
        run.save_checkpoint(3, weights("again"))
        assert [c.update for c in run.checkpoints()] == [1, 3]
        assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_changed_settings_are_refused_by_name_and_free_ones_are_not(tmp_path):
    with opened(tmp_path, data={"videos": 3}) as run:
        run.log({"update": 1})
    with opened(tmp_path, {**CONFIG, "num_workers": 4}, data={"videos": 3}) as run:
        run.remember(precision="bf16")
    with opened(tmp_path, data={"videos": 3}) as run:
        assert run.facts == {"data": {"videos": 3}, "precision": "bf16"}
    changed = {**CONFIG, "epochs": 3, "optim": {"lr": 2e-4}}
    with pytest.raises(ConfigError, match=r"\(epochs: 2 -> 3; optim.lr: 0.0001 -> 0.0002\)"):
        opened(tmp_path, changed, data={"videos": 3})
    with pytest.raises(ConfigError, match=r"\(data.videos: 3 -> 4\).*another folder"):
        opened(tmp_path, data={"videos": 4})
    assert json.loads((tmp_path / "config.json").read_text())["epochs"] == 2


def test_a_checkpoint_that_a_killed_process_could_not_remove_is_removed(tmp_path, monkeypatch):
    with opened(tmp_path, keep=1) as run:
        run.save_checkpoint(1, weights("old"))
        monkeypatch.setattr(RunFolder, "_prune", lambda _: None)  # killed before it
        run.save_checkpoint(2, weights("new"))
        monkeypatch.undo()
    with opened(tmp_path, keep=1) as run:
        assert [c.update for c in run.checkpoints()] == [2]


def test_a_start_that_came_to_nothing_binds_nobody(tmp_path):
    with opened(tmp_path, data={"videos": 3}) as run:
        run.remember(precision="bf16")
        run.plan_path(1).write_text("of other videos")
    changed = {**CONFIG, "epochs": 3}
    with opened(tmp_path, changed, data={"videos": 4}) as run:
        assert run.facts == {"data": {"videos": 4}}
        assert not run.plan_path(1).exists()
        run.save_checkpoint(1, weights("good"))
    with pytest.raises(ConfigError, match="epochs: 3 -> 2"):
        opened(tmp_path, data={"videos": 4})
    with opened(tmp_path, changed, data={"videos": 4}):
        pass  # whoever was refused has let go of it


def test_where_the_teacher_lies_is_free(tmp_path):
    with opened(tmp_path, {"plan": {"teacher": "here", "size": 1}}) as run:
        run.log({"update": 1})
    with opened(tmp_path, {"plan": {"teacher": "there", "size": 1}}):
        pass
    with pytest.raises(ConfigError, match=r"\(plan.size: 1 -> 2\)"):
        opened(tmp_path, {"plan": {"teacher": "there", "size": 2}})


def test_a_run_has_one_process(tmp_path):
    with opened(tmp_path), pytest.raises(ConfigError, match="another process"):
        opened(tmp_path)
    opened(tmp_path).__exit__(None, None, None)


def test_the_log_goes_back_to_the_checkpoint_and_forgets_a_torn_line(tmp_path):
    with opened(tmp_path) as run:
        run.rewind_log(0)
        for update in range(1, 4):
            run.log({"update": update})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"update": 4, "lo')
    with opened(tmp_path) as run:
        run.rewind_log(2)
        run.log({"update": 3, "again": True})
        assert read_log(tmp_path) == [{"update": 1}, {"update": 2}, {"update": 3, "again": True}]


def test_a_damaged_line_ends_the_log_only_behind_the_checkpoint(tmp_path):
    good = [f'{{"update": {update}}}\n' for update in range(1, 6)]
    for damaged in range(5):
        lines = [*good[:damaged], '{"update"\n', *good[damaged + 1 :]]
        (tmp_path / "log.jsonl").write_text("".join(lines))
        before = [{"update": update} for update in range(1, damaged + 1)]
        for until in range(-1, 6):
            if (damaged or -1) >= until:  # the last good line is of this update or a later one
                assert read_log(tmp_path, until) == before
            else:
                message = f"log.jsonl:{damaged + 1} is damaged .*: restore the file or remove"
                with pytest.raises(CheckpointError, match=message):
                    read_log(tmp_path, until)
        with pytest.raises(CheckpointError):
            read_log(tmp_path)
    (tmp_path / "log.jsonl").write_text("".join(good)[:-3])
    assert read_log(tmp_path) == [{"update": update} for update in range(1, 5)]
    assert read_log(tmp_path / "none") == []


def test_differences_are_dotted_and_include_what_is_missing():
    old = {"a": {"b": {"c": 1}, "d": [1, 2]}, "e": "x"}
    new = {"a": {"b": {"c": 2}, "d": [1, 2]}, "f": None, "g": 1}
    assert differences(old, new) == ["a.b.c: 1 -> 2", 'e: "x" -> null', "g: null -> 1"]
    assert differences(old, old) == []


def test_a_damaged_settings_file_is_named(tmp_path):
    with opened(tmp_path) as run:
        run.log({"update": 1})
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is damaged"):
        opened(tmp_path)
    write_json(tmp_path / "config.json", CONFIG)
    opened(tmp_path).__exit__(None, None, None)


def test_the_log_is_on_the_disk_before_the_checkpoint_and_that_before_its_marker(
    tmp_path, disk_calls
):
    with opened(tmp_path / "run") as run:
        run.log({"update": 1, "loss": 2.0})
        disk_calls.clear()
        run.save_checkpoint(1, weights("w"))
    line = (tmp_path / "run" / "log.jsonl").read_bytes()
    assert disk_calls[0] == ("sync", "run/log.jsonl", line) and line
    renamed = [new for call, _, new in disk_calls if call == "rename"]
    folder = "run/checkpoints/update-000001"
    assert renamed == [folder, f"{folder}/COMPLETE"]
    first = [call for call, *_ in disk_calls].index("rename")
    weights_synced = ("sync", "run/checkpoints/.update-000001.partial/weights", b"w")
    assert weights_synced in disk_calls[:first]
