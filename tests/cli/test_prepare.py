import json
import sys
from types import SimpleNamespace

import pytest

from tests.make_video import write_video
from videoclip.cli import main
from videoclip.data.captions import Cue
from videoclip.data.subtitles import read_subtitles


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("said", "silent"):
        write_video(folder / f"{name}.mp4", 20)
    (folder / "bad.mp4").write_text("text")
    (folder / "said.en.srt").write_text(
        "1\n00:00:00,000 --> 00:00:01,000\n<i>Chop</i> it\n\n"
        "2\n00:00:01,000 --> 00:00:09,000\n♪ stir\n"
    )
    return folder


def test_captions_are_cleaned_and_everything_is_accounted_for(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["prepare", str(folder), "--out", str(out)]) == 1
    stdout, stderr = capsys.readouterr()
    rows = {line.split()[0]: line for line in stdout.splitlines()}
    assert "runs 7 s past the end of the video" in rows["said"]
    assert "no captions" in rows["silent"]
    assert stdout.splitlines()[-1].startswith(f"{out}: 1 with captions, 1 without, 1 failed")
    assert f"videoclip: failed: {folder / 'bad.mp4'}" in stderr
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "said.vtt"]
    assert read_subtitles(out / "said.vtt") == [Cue(0.0, 1.0, "Chop it"), Cue(1.0, 9.0, "stir")]


def test_json_report_and_one_file_for_all(folder, tmp_path, capsys):
    (folder / "bad.mp4").unlink()
    out = tmp_path / "out"
    assert main(["prepare", str(folder), "--out", str(out), "--format", "json", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((out / "report.json").read_text())
    assert report["videos"]["said"]["num_words"] == 3
    assert report["videos"]["silent"] == {"source": "none", "warnings": []}
    assert list(json.loads((out / "captions.json").read_text())) == ["said"]


def test_speech_is_recognised_once(folder, tmp_path, capsys, monkeypatch):
    (folder / "bad.mp4").unlink()
    heard = []

    class Model:
        def __init__(self, *args, **kwargs): ...

        def transcribe(self, path, **options):
            heard.append(path)
            word = SimpleNamespace(start=0.5, end=1.5)
            return [SimpleNamespace(words=[word], text=" Now stir", no_speech_prob=0.0)], None

    monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace(WhisperModel=Model))
    command = ["prepare", str(folder), "--out", str(tmp_path / "out"), "--asr", "tiny.en"]
    assert main(command) == 0
    assert main(command) == 0
    assert heard == [str(folder / "silent.mp4")]
    assert "silent  speech" in capsys.readouterr().out
    assert read_subtitles(tmp_path / "out/silent.vtt") == [Cue(0.5, 1.5, "Now stir")]


def test_an_empty_folder_is_one_line(tmp_path, capsys):
    assert main(["prepare", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "no videos in this folder" in capsys.readouterr().err


def test_videos_that_lie_elsewhere_are_remarked_on(tmp_path, capsys):
    for i, start in enumerate([0, 0, 0, 0, 20]):
        write_video(tmp_path / f"v{i}.mp4", 20)
        stamp = f"00:00:{start:02},000 --> 00:00:{start + 1:02},000"
        (tmp_path / f"v{i}.srt").write_text(f"1\n{stamp}\nchop it\n")
    assert main(["prepare", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert "captions are 20 s later than in the other videos" in capsys.readouterr().out
