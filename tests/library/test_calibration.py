"""Calibration kept up to date video by video, against measuring the whole library again."""

import gc
import json
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.library.colours import NAMES, ColourEmbedder, write_video
from videoclip.errors import DataError
from videoclip.library import library as library_module
from videoclip.library.calibration import BEST_FILE, LEVELS, _read_best, check_unrelated
from videoclip.library.library import VideoLibrary
from videoclip.library.vectors import MatrixStore


def write_narrated(folder, name, colours, sentences):
    write_video(folder / f"{name}.mp4", colours)
    cues = [
        f"00:{2 * i:02d}.000 --> 00:{2 * i + 1:02d}.000\n{sentence}"
        for i, sentence in enumerate(sentences)
    ]
    (folder / f"{name}.vtt").write_text("WEBVTT\n\n" + "\n\n".join(cues) + "\n")


def measured(library):
    """Slopes, median and scale of the frames and of the narration in the catalogue."""
    return json.loads(library._catalog.facts()[LEVELS])


def measured_again(library):
    """Slopes, median and scale of the same queries from all vectors and passages."""
    snapshot = library._snapshot()
    fitted = snapshot.calibration.fit(
        [
            snapshot.calibration.best_scores(
                snapshot.vectors.read(v.first_row, v.num_windows),
                snapshot.num_seconds(v),
                snapshot.passages.vectors[snapshot.passages.videos == v.id].astype(np.float32),
                v.id,
            )
            for v in snapshot.videos
        ]
    )
    return json.loads(json.dumps([fitted.frames, fitted.narration]))


@pytest.mark.filterwarnings("always")  # a warning of a file left open cannot be raised
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_file_of_arrays_that_is_cut_off_is_closed(tmp_path, share, recwarn):
    path = tmp_path / "arrays.npz"
    np.savez(path, queries=np.zeros((9, 4)), common=np.ones(3))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match="is damaged"):
        check_unrelated(path)
    assert _read_best(path, np.zeros((9, 4))) == {}
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


@pytest.fixture
def reads(monkeypatch):
    """First rows of the stretches of vectors that are read."""
    rows, read = [], MatrixStore.read

    def spied(store, first, count):
        rows.append(first)
        return read(store, first, count)

    monkeypatch.setattr(MatrixStore, "read", spied)
    return rows


def test_only_the_vectors_of_new_videos_are_read(library, tmp_path, reads):
    folder = tmp_path / "many"
    rng = np.random.default_rng(0)
    for number in range(6):
        words = [f"the {NAMES[j]} thing of video {number}" for j in rng.integers(0, 6, size=12)]
        colours = [NAMES[j] for j in rng.integers(0, 6, size=20 + number)]
        write_narrated(folder, str(number), colours, words)
    library.update(folder)
    assert len(reads) == 6 and measured(library) == measured_again(library)
    reads.clear()
    write_video(folder / "new.mp4", ["red", "white"] * 5)
    library.update(folder)
    assert len(reads) == 1 and measured(library) == measured_again(library)

    reads.clear()
    (folder / "new.mp4").unlink()
    library.update(folder, prune=True)
    assert reads == [] and measured(library) == measured_again(library)
    library.compact()
    reads.clear()
    (folder / "0.mp4").unlink()
    write_video(folder / "0.mp4", ["black"] * 9)  # another content at the same path
    library.update(folder)
    assert len(reads) == 1 and measured(library) == measured_again(library)


def test_a_lost_or_damaged_file_is_computed_again(library, videos, reads):
    library.update(videos)
    expected = measured(library)

    def spoil_header(path):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("queries.npy", b"\x93NUMPY\x01\0\x76\0" + b"{'descr': ((".ljust(118))

    def leave_out(path):
        np.savez(path, keys=np.zeros(1))

    whole = (library.folder / BEST_FILE).read_bytes()
    contents = (b"PK nonsense", b"", whole[:300] + b"x" + whole[301:])
    writings = [partial(Path.write_bytes, data=content) for content in contents]
    for damage in (Path.unlink, spoil_header, leave_out, *writings):
        damage(library.folder / BEST_FILE)
        reads.clear()
        library._calibrate()
        assert len(reads) == 3 and measured(library) == expected == measured_again(library)


def test_sentences_are_drawn_again_when_the_narration_has_doubled(library, tmp_path):
    folder = tmp_path / "talks"
    write_narrated(folder, "a", ["red"] * 30, [f"about red number {i}" for i in range(15)])
    library.update(folder)
    assert len(library._snapshot().calibration.sentences) == 15
    write_narrated(folder, "b", ["blue"] * 30, [f"about blue number {i}" for i in range(28)])
    library.update(folder)
    first = library._snapshot().calibration
    assert len(first.sentences) == 43  # still fewer sentences than wanted
    write_narrated(folder, "c", ["green"] * 60, [f"about green number {i}" for i in range(30)])
    library.update(folder)
    full = library._snapshot().calibration
    assert len(full.sentences) == 48
    for name, number in (("d", 1), ("e", 29), ("f", 28)):  # one fewer than twice as many, 73
        texts = [f"of {name} number {i}" for i in range(number + 14 * (name == "f"))]
        write_narrated(folder, name, ["white"] * 60, texts)
        library.update(folder)
        assert np.array_equal(library._snapshot().calibration.queries, full.queries)
    write_narrated(folder, "g", ["black"] * 9, ["the last sentence"])
    library.update(folder)
    assert not np.array_equal(library._snapshot().calibration.queries, full.queries)
    assert measured(library) == measured_again(library)


def test_other_words_in_the_same_video_are_measured_again(library, tmp_path):
    folder = tmp_path / "talks"
    for name, colour in (("a", "red"), ("b", "blue")):
        write_narrated(folder, name, [colour] * 30, [f"{colour} number {i}" for i in range(30)])
    library.update(folder)
    first = library._snapshot().calibration
    cues = (folder / "b.vtt").read_text()
    (folder / "b.vtt").write_text(cues.replace("blue", "yellow or green"))
    library.update(folder)
    assert np.array_equal(library._snapshot().calibration.queries, first.queries)
    assert measured(library) == measured_again(library) != [[*first.frames], [*first.narration]]


class Mirrored(ColourEmbedder):
    """Another model, for which every text means the opposite."""

    def _text(self, text):
        return -super()._text(text)


def test_the_sentences_of_another_model_are_embedded_again(library, videos):
    library.update(videos)
    before = library._snapshot().calibration.sentences
    library.close()
    with VideoLibrary(library.folder, Mirrored("other"), rebuild=True) as rebuilt:
        assert len(rebuilt._snapshot().calibration.sentences) == 0
        rebuilt.update(videos)
        np.testing.assert_array_equal(rebuilt._snapshot().calibration.sentences, -before)
        assert measured(rebuilt) == measured_again(rebuilt)


def test_a_moved_video_still_owns_its_sentences(library, videos):
    library.update(videos)
    before = library._snapshot().calibration
    (videos / "b.mp4").rename(videos / "moved.mp4")
    (videos / "b.en.vtt").rename(videos / "moved.en.vtt")
    library.update(videos)
    (moved,) = [video for video in library.videos() if video.video_id == "moved"]
    after = library._snapshot().calibration
    assert moved.id in after.owners and np.array_equal(before.owners, after.owners)
    assert measured(library) == measured_again(library)


def test_unrelated_queries_are_measured_again_only_when_videos_or_narration_change(
    tmp_path, videos, monkeypatch
):
    measured, calibrate = [], library_module.calibrate
    monkeypatch.setattr(
        library_module, "calibrate", lambda *args: measured.append(1) or calibrate(*args)
    )

    def num_measured(change=lambda: None, prune=False):
        """How often one more update measures, and then another one."""
        change()
        counts = []
        for _ in range(2):
            measured.clear()
            with VideoLibrary(tmp_path / "library", ColourEmbedder()) as library:
                library.update(videos, prune=prune)
                library.search("red")
            counts.append(len(measured))
        return counts

    def write_again(name):  # other tests have links to the file
        content = (videos / name).read_bytes()
        (videos / name).unlink()
        (videos / name).write_bytes(content)

    assert num_measured() == [1, 0]
    assert num_measured(lambda: write_again("a.mp4")) == [0, 0]
    assert num_measured(lambda: write_video(videos / "new.mp4", ["red"] * 3)) == [1, 0]
    assert num_measured(lambda: write_again("b.en.vtt")) == [1, 0]
    assert num_measured((videos / "new.mp4").unlink, prune=True) == [1, 0]
