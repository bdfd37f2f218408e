from __future__ import annotations

import json

import pytest

from videoclip.cli import main

SMALL = [
    "--pixels", "32", "--steps-per-video", "1", "1", "--step-seconds", "2", "2.5",
    "--gap-seconds", "0.5", "0.6", "--workers", "1",
]  # fmt: skip


def test_the_command_writes_a_world_and_says_so(tmp_path, capsys):
    assert main(["synth", str(tmp_path), "--num-videos", "2", "--seed", "7", *SMALL]) == 0
    out, err = capsys.readouterr()
    assert "2 videos (0 for testing)" in out
    assert f"in {tmp_path / 'videos'}" in out
    assert err == ""
    assert main(["synth", str(tmp_path), "--num-videos", "3", "--seed", "7", *SMALL, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["num_videos"], summary["num_written"]) == (3, 1)
    assert summary["folder"] == str(tmp_path)
    assert json.loads((tmp_path / "world.json").read_text())["seed"] == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-videos", "0"], "num_videos must be positive"),
        (["--num-tasks", "3"], "world.num_tasks must be even and positive, got 3"),
    ],
)
def test_the_command_names_what_is_wrong(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit, match="2"):
        main(["synth", str(tmp_path / "w"), *options])
    out, err = capsys.readouterr()
    assert message in out + err
    assert "Traceback" not in err
