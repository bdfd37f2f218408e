import os
import signal
import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.fork_server import run_script
from tests.library.colours import NAMES, ColourEmbedder, write_video
from videoclip.data.feature_store import FeatureStore
from videoclip.errors import ConfigError, DataError, IndexMismatchError
from videoclip.features.extract import VideoLocks, extract_features
from videoclip.features.frame_backbone import with_keyframes
from videoclip.features.video_file import NO_VIDEOS
from videoclip.info import verify
from videoclip.library import indexer
from videoclip.library import library as library_module
from videoclip.library.indexer import content_hash
from videoclip.library.library import VideoLibrary, stored_facts
from videoclip.library.storage import kind_of
from videoclip.library.vectors import MatrixStore
from videoclip.zeroshot.confidence import hub_biases


def names(paths):
    return sorted(Path(path).name for path in paths)


def test_a_folder_is_indexed_once(library, embedder, videos):
    calls = []
    report = library.update(videos, on_progress=lambda *state: calls.append(state))
    assert names(report.added) == ["a.mp4", "b.mp4", "c d.mp4"] and not report.failed
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert len(library) == 3 and "3 videos" in repr(library)
    embedder.backbone.decoded.clear()
    again = library.update(videos)
    assert again.unchanged == 3 and str(again) == "3 unchanged"
    assert embedder.backbone.decoded == []


def test_only_new_and_changed_videos_are_looked_at(library, embedder, videos):
    library.update(videos)
    embedder.backbone.decoded.clear()
    (videos / "a.mp4").unlink()
    write_video(videos / "a.mp4", ["yellow"] * 5)
    write_video(videos / "new.mp4", ["red"] * 4)
    report = library.update([str(videos)])
    assert names(report.changed) == ["a.mp4"] and names(report.added) == ["new.mp4"]
    assert names(embedder.backbone.decoded) == ["a.mp4", "new.mp4"]
    best = library.search("red", 1)[0]
    assert best.video_id == "new" and (best.start, best.end) == (0.0, 4.0)


def test_a_touched_video_is_not_decoded(library, embedder, videos):
    library.update(videos)
    embedder.backbone.decoded.clear()
    os.utime(videos / "a.mp4", (1e9, 1e9))
    report = library.update(videos)
    assert not (report.changed or report.added) and embedder.backbone.decoded == []
    assert library.update(videos).unchanged == 3


@pytest.mark.parametrize("whole_hash", [False, True])
def test_a_moved_video_is_known_by_its_content(library, embedder, videos, whole_hash):
    library.update(videos, whole_hash=whole_hash)
    embedder.backbone.decoded.clear()
    (videos / "elsewhere").mkdir()
    (videos / "a.mp4").rename(videos / "elsewhere" / "renamed.mp4")
    report = library.update(videos, whole_hash=whole_hash)
    assert names(report.moved) == ["renamed.mp4"] and embedder.backbone.decoded == []
    assert len(library) == 3
    assert library.search("blue", 1)[0].path == videos / "elsewhere" / "renamed.mp4"


def test_a_copy_is_a_video_of_its_own_but_is_not_decoded(library, embedder, videos):
    library.update(videos)
    embedder.backbone.decoded.clear()
    (videos / "copy.mp4").hardlink_to(videos / "a.mp4")
    assert names(library.update(videos).added) == ["copy.mp4"]
    assert embedder.backbone.decoded == []
    assert names(m.path for m in library.search("blue", 2)) == ["a.mp4", "copy.mp4"]


def test_removed_videos_are_dropped_only_when_asked(library, videos):
    library.update(videos)
    (videos / "a.mp4").unlink()
    assert names(library.update(videos).missing) == ["a.mp4"] and len(library) == 3
    assert names(library.update(videos, prune=True).removed) == ["a.mp4"] and len(library) == 2
    assert all(moment.video_id != "a" for moment in library.search("blue"))
    for path in videos.rglob("*.mp4"):
        path.unlink()
    assert len(library.update(videos, prune=True).removed) == 2


def test_pruning_keeps_what_lies_elsewhere_or_cannot_be_looked_at(library, videos, tmp_path):
    library.update(videos)
    other = write_video(tmp_path / "other" / "x.mp4", ["red"] * 4)
    library.update(other)
    videos.rename(tmp_path / "unplugged")
    report = library.update([videos, other], prune=True)
    assert report.failed == {str(videos): "no such file"} and not report.removed
    assert len(library) == 4


def test_what_cannot_be_read_is_listed_and_stops_nothing(library, videos, tmp_path):
    (videos / "text.mp4").write_text("this is no video")
    (videos / "empty.mkv").touch()
    (videos / "link.mp4").symlink_to(videos / "gone.mp4")
    (videos / "b.en.vtt").unlink()
    (videos / "b.srt").write_text("no times in here")
    (videos / "nothing").mkdir()
    odd = write_video(videos / ("long 'quoted\" 😀 " + "x" * 200 + ".mp4"), ["green"] * 2)
    whole = (videos / "a.mp4").read_bytes()
    (videos / "cut off.mp4").write_bytes(whole[: len(whole) // 2])
    report = library.update([videos, videos / "nothing", videos / "absent.mp4"])
    assert {Path(path).name for path in report.failed} == {
        "text.mp4",
        "empty.mkv",
        "link.mp4",
        "b.srt",
        "nothing",
        "absent.mp4",
        "cut off.mp4",
    }
    assert report.failed[str(videos / "nothing")] == NO_VIDEOS
    assert "link" in report.failed[str(videos / "link.mp4")]
    assert all("\n" not in why and str(videos) not in why for why in report.failed.values())
    assert len(report.added) == 4 and str(odd) in report.added
    assert len(library.update(videos).failed) == 5  # the same again, but nothing else to do


def test_new_subtitles_are_read_without_decoding(library, embedder, videos):
    library.update(videos)
    embedder.backbone.decoded.clear()
    (videos / "a.vtt").write_text("WEBVTT\n\n00:12.000 --> 00:14.000\nPeeling potatoes\n")
    assert names(library.update(videos).narrated) == ["a.mp4"]
    assert embedder.backbone.decoded == []
    found = library.search("peel a potato", vision=0.0)[0]
    assert found.video_id == "a" and found.has_all_words and found.start <= 12 < found.end
    (videos / "a.vtt").unlink()
    library.update(videos)
    assert library.search("peel a potato", vision=0.0) == []


def test_edited_subtitles_are_read_again_and_counted_apart(library, embedder, videos):
    library.update(videos)
    embedder.backbone.decoded.clear()
    subtitles = videos / "b.en.vtt"
    subtitles.unlink()  # it is a link to a file of other tests
    subtitles.write_text("WEBVTT\n\n00:12.000 --> 00:14.000\nPeeling potatoes\n")
    os.utime(subtitles, (1e9, 1e9))
    report = library.update(videos)
    assert names(report.narrated) == ["b.mp4"] and report.unchanged == 2
    assert str(report) == "1 with new narration, 2 unchanged"
    assert embedder.backbone.decoded == []
    assert library.search("peel a potato", vision=0.0)[0].video_id == "b"
    assert library.search("onions", vision=0.0) == []


def test_more_passages_than_a_video_can_have_are_refused_and_later_ones_left_out(
    library, embedder, tmp_path, monkeypatch
):
    path = write_video(tmp_path / "v.mp4", ["red"] * 3)
    cue = "00:{:02}:{:02}.000 --> 00:59:00.000\nonion {}\n\n"
    late = "".join(cue.format(n // 60 + 1, n % 60, n) for n in range(2000))
    path.with_suffix(".vtt").write_text("WEBVTT\n\n" + cue.format(0, 0, "soup") + late)
    embedded = []
    embed_text = embedder.embed_text
    monkeypatch.setattr(embedder, "embed_text", lambda t: embedded.extend(t) or embed_text(t))
    assert names(library.update(path).added) == ["v.mp4"]
    assert "onion soup" in embedded and "onion 1" not in embedded
    assert library.search("onion 7", vision=0.0) != []  # words are found all the same
    early = "".join(cue.format(0, 0, n) for n in range(200))
    path.with_suffix(".vtt").write_text("WEBVTT\n\n" + early)
    os.utime(path.with_suffix(".vtt"), (1e9, 1e9))
    (reason,) = library.update(path).failed.values()
    assert reason == "has 200 passages in 3.0 s of video"


def test_another_model_is_refused_with_the_command_that_rebuilds(library, videos, tmp_path):
    library.update(videos)
    with pytest.raises(IndexMismatchError, match=r"'colours'.*--model other --rebuild"):
        VideoLibrary(tmp_path / "library", ColourEmbedder("other"), model="other")
    other = ColourEmbedder("other", width=8)
    with VideoLibrary(tmp_path / "library", other, model="other", rebuild=True) as rebuilt:
        assert len(rebuilt) == 0 and rebuilt.search("red") == []
        assert len(rebuilt.update(videos).added) == 3
        assert other.backbone.decoded == []  # the library had kept the features
        assert rebuilt.search("yellow", 1)[0].video_id == "b"
    assert stored_facts(tmp_path / "library")["model"] == "other"


def test_features_extracted_before_are_used(library, embedder, videos, tmp_path):
    with FeatureStore.create(tmp_path / "store", embedder.backbone.spec) as store:
        extract_features([videos], store, ColourEmbedder().backbone, num_workers=0)
        library.update(videos, features=store)
    assert embedder.backbone.decoded == []
    assert library.search("yellow", 1)[0].video_id == "b"


def test_keyframes_alone_are_looked_at_when_asked(library, embedder, tmp_path):
    """With a keyframe every 8 s each second looks like the nearest of them."""
    shown = ["red"] * 3 + ["blue"] * 10 + ["green"] * 7
    path = write_video(tmp_path / "v.mp4", shown, keyframe_every=8)
    library.update(path, fast=True)
    spec = with_keyframes(embedder.backbone).spec
    with FeatureStore.open(tmp_path / "library" / f"features-{spec.fingerprint[:16]}") as store:
        seen = [NAMES[i] for i in store.read(store.video_ids[0]).argmax(axis=1)]
    assert seen == ["red"] * 4 + ["blue"] * 8 + ["green"] * 8
    library.update(write_video(tmp_path / "w.mp4", ["red"] * 4))  # features are not mixed up
    assert len(list((tmp_path / "library").glob("features-*"))) == 2


def test_keyframes_are_refused_where_they_will_not_do(library, embedder, tmp_path):
    class Moving:
        name, spec = "moving", embedder.backbone.spec

        def features_for(self, path):
            raise AssertionError

    embedder.backbone = Moving()
    path = write_video(tmp_path / "v.mp4", ["red"] * 3)
    with pytest.raises(ConfigError, match="leave out --fast"):
        library.update(path, fast=True)


def test_compaction_leaves_out_what_nobody_owns(library, videos, monkeypatch):
    library.update(videos)
    before = library.search("yellow", 3)
    (videos / "a.mp4").unlink()
    library.update(videos, prune=True)
    expected = [moment for moment in before if moment.video_id != "a"]
    assert library.search("yellow", 3)[: len(expected)] != []
    best = library.search("yellow", 1)[0]
    size = (library.folder / "vectors-0.f16").stat().st_size
    with VideoLibrary(library.folder, library.embedder) as reader:
        known, old = reader._catalog.facts(), reader._snapshot()
        library.compact()
        # A search that had begun before goes on with the rows that it knows.
        store = MatrixStore(library.folder / known["vectors"], int(known["dim"]))
        for video in old.videos:
            assert video.checksum_of(store.read_half(video.first_row, video.num_windows)) == (
                video.checksum
            )
    assert library.search("yellow", 1)[0] == best
    assert (library.folder / "vectors-1.f16").stat().st_size < size
    library.compact()
    assert not (library.folder / "vectors-0.f16").exists()
    monkeypatch.setattr(library_module, "COMPACT_FROM", 0)
    (videos / "b.mp4").unlink()
    library.update(videos, prune=True)  # far more dead rows than live ones
    assert [path.name for path in library.folder.glob("vectors-3.f16")] == ["vectors-3.f16"]


def test_a_reader_sees_what_another_process_adds(library, embedder, videos, tmp_path):
    with VideoLibrary(tmp_path / "library", ColourEmbedder()) as reader:
        assert reader.search("red") == []
        library.update(videos)
        assert reader.search("red", 1)[0].video_id == "a"
        library.compact()
        assert reader.search("red", 1)[0].video_id == "a"


def test_a_folder_that_is_no_library_is_said(tmp_path, embedder):
    assert not kind_of(tmp_path)
    with pytest.raises(DataError, match="videoclip index"):
        stored_facts(tmp_path)
    (tmp_path / "catalog.sqlite").write_text("not a database, but long enough to be looked at")
    with pytest.raises(DataError, match="not a library's catalogue"):
        VideoLibrary(tmp_path, embedder)


def test_a_new_library_without_videos_leaves_nothing(tmp_path, videos):
    broken = tmp_path / "broken.mp4"
    broken.write_text("text")
    folder = tmp_path / "new"
    with VideoLibrary(folder, ColourEmbedder()) as library:
        assert library.update(broken).failed
        assert library.search("red") == [] and folder.exists()
    assert not folder.exists()
    embedder = ColourEmbedder()
    del embedder.backbone  # as if its folder were gone
    with pytest.raises(AttributeError), VideoLibrary(folder, embedder) as library:
        library.update(videos)
    assert not folder.exists()
    embedder.embed_text = None
    with pytest.raises(TypeError):
        VideoLibrary(folder, embedder)
    assert not folder.exists()
    VideoLibrary(folder, ColourEmbedder()).close()  # made for later
    assert kind_of(folder) == "sqlite"
    with VideoLibrary(folder, ColourEmbedder()) as library:
        library.update(broken)
        library.update(videos)
        (videos / "a.mp4").unlink()
    assert kind_of(folder)
    with VideoLibrary(folder, ColourEmbedder()) as library:
        assert len(library) == 3


def test_a_failed_library_is_left_to_others_who_have_it_open(tmp_path, videos):
    failing, other = (VideoLibrary(tmp_path / "new", ColourEmbedder()) for _ in range(2))
    failing.update(tmp_path / "absent.mp4")
    failing.close()
    failing.close()
    other.update(videos)
    other.close()
    with VideoLibrary(tmp_path / "new", ColourEmbedder()) as library:
        assert len(library) == 3
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "features-mine").mkdir()
    (tmp_path / "notes" / "locks").mkdir()
    (tmp_path / "notes" / "locks" / "own.txt").touch()
    with VideoLibrary(tmp_path / "notes", ColourEmbedder()) as library:
        library.update(tmp_path / "absent.mp4")
    assert {path.name for path in (tmp_path / "notes").iterdir()} == {"features-mine", "locks"}


FORKING = """
import os, signal, sys
from tests.library.colours import ColourEmbedder
from videoclip.library.catalog import Catalog
from videoclip.library.library import VideoLibrary
from videoclip.library.vectors import MatrixStore

def fork(work):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        work()
        sys.stdout.flush()
        os._exit(0)
    return child
"""  # Importing torch once for all children is most of the time saved.

KILLED = """
def die_at(owner, name, when):
    original, calls = getattr(owner, name), 0
    def dying(*arguments):
        nonlocal calls
        calls += 1
        if calls == 2 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments)
        if calls == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, dying)
    VideoLibrary(f"{sys.argv[1]}/{name}-{when}", ColourEmbedder()).update(sys.argv[2])

for stage in [(MatrixStore, "append", "before"), (MatrixStore, "append", "after"),
              (Catalog, "add", "after")]:
    _, status = os.waitpid(fork(lambda: die_at(*stage)), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
"""


def test_killed_at_any_moment_the_same_call_goes_on(videos, tmp_path):
    assert run_script(FORKING + KILLED, tmp_path, videos) == (0, "")
    for stage in ("append-before", "append-after", "add-after"):
        with VideoLibrary(tmp_path / stage, ColourEmbedder()) as library:
            assert len(library) == 1
            assert library.search("red", 1)[0].video_id == "a"
            report = library.update(videos)
            assert (len(report.added), report.unchanged) == (2, 1)
            assert library.search("yellow", 1)[0].video_id == "b"
            assert library.search("white", 1)[0].video_id == "c d"
            snapshot = library._snapshot()
            assert (snapshot.num_rows > snapshot.num_live) == (stage != "append-before")


UPDATING = """
def update():
    embedder = ColourEmbedder()
    report = VideoLibrary(sys.argv[1], embedder).update(sys.argv[2])
    assert not report.failed
    print(len(report.added), len(embedder.backbone.decoded))

for child in [fork(update), fork(update)]:
    assert os.waitpid(child, 0)[1] == 0
"""


def test_several_processes_share_the_work(tmp_path, embedder):
    for number in range(12):
        shown = [NAMES[number % 6]] * (4 + number)
        write_video(tmp_path / "videos" / f"{number:02d}.mp4", shown)
    status, output = run_script(FORKING + UPDATING, tmp_path / "library", tmp_path / "videos")
    assert status == 0, output
    counts = np.array([line.split() for line in output.splitlines()], dtype=int)
    assert counts.sum(axis=0).tolist() == [12, 12]  # added and decoded, by both together
    with VideoLibrary(tmp_path / "library", embedder) as library:
        assert len(library) == 12
        for number, colour in enumerate(NAMES):
            found = {m.video_id for m in library.search(colour, 2)}
            assert found == {f"{number:02d}", f"{number + 6:02d}"}


def test_an_unchanged_folder_of_many_files_is_quick(library, videos, tmp_path, embedder):
    """Its cost is looking at the files: every video's row is made from one real one."""
    library.update(videos)
    catalog = library._catalog
    many = tmp_path / "many"
    many.mkdir()
    (template,) = [v for v in library.videos() if v.video_id == "a"]
    with catalog.writing():
        for number in range(2000):
            path = many / f"{number:04d}.mp4"
            path.hardlink_to(videos / "a.mp4")
            row = {**vars(template), "path": str(path), "id": 0}
            catalog.add(type(template)(**row), [])
    embedder.backbone.decoded.clear()
    started = time.process_time()
    report = library.update(many)
    assert report.unchanged == 2000 and embedder.backbone.decoded == []
    assert time.process_time() - started < 10  # a second; ten times that would be a mistake


def test_rows_of_vectors_are_those_of_the_windows(library, embedder, videos):
    library.update(videos)
    snapshot = library._snapshot()
    for video in snapshot.videos:
        vectors = snapshot.vectors.read(video.first_row, video.num_windows)
        features = np.concatenate(list(embedder.backbone.features_for(Path(video.path))))
        windows = snapshot.window_features(video)
        spans = snapshot.seconds(video, windows).round().astype(int)
        expected = embedder.embed_windows(features, [tuple(span) for span in spans])
        np.testing.assert_allclose(vectors[:, :-1], expected, atol=1e-3)
        scenes = snapshot.calibration.scenes
        np.testing.assert_allclose(vectors[:, -1] / 8, hub_biases(expected, scenes), atol=1e-3)


def test_locks_are_counted_and_keep_others_out(tmp_path):
    first, second = Path("a.mp4"), Path("b.mp4")
    with VideoLocks(tmp_path / "locks") as ours, VideoLocks(tmp_path / "locks") as theirs:
        assert ours.acquire(first) and not theirs.acquire(first) and theirs.acquire(second)
        assert ours.acquire(first)  # as for another video that shares the lock file
        ours.release(first)
        assert not theirs.acquire(first)
        ours.release(first)
        assert theirs.acquire(first)
    with VideoLocks(tmp_path / "locks") as again:
        assert again.acquire(first) and again.acquire(second)


KILLED_WITH_A_LOCK = """
import os, signal, sys
from pathlib import Path
from videoclip.features.extract import VideoLocks

locks = VideoLocks(Path(sys.argv[1]))
assert locks.acquire(Path(sys.argv[2]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    assert run_script(KILLED_WITH_A_LOCK, tmp_path / "locks", "a.mp4") == (-signal.SIGKILL, "")
    with VideoLocks(tmp_path / "locks") as locks:
        assert locks.acquire(Path("a.mp4"))


def test_a_waiting_process_holds_no_lock(library, videos):
    """So that two processes that wait for each other's videos cannot deadlock."""
    paths = sorted(videos.rglob("*.mp4"))
    reports = []
    update = threading.Thread(target=lambda: reports.append(library.update(videos)))
    with VideoLocks(library.folder / "locks") as locks:
        assert locks.acquire(paths[0])
        update.start()
        while len(library) < 2 and update.is_alive():  # it goes on with the videos that are free
            time.sleep(0.01)
        for path in paths[1:]:
            assert locks.acquire(path, wait=True)
            locks.release(path)
        assert update.is_alive() and not reports
    update.join()
    assert len(reports[0].added) == 3 and not reports[0].failed


def test_features_that_cannot_be_stored_are_listed(library, embedder, videos, monkeypatch):
    compute = type(embedder.backbone).embed_frames

    def wrong(backbone, frames):
        features = compute(backbone, frames)
        return np.full_like(features, np.nan) if len(backbone.decoded) == 1 else features

    monkeypatch.setattr(type(embedder.backbone), "embed_frames", wrong)
    report = library.update(videos)
    assert len(report.added) == 2 and "not finite" in report.failed[str(videos / "a.mp4")]


def test_worker_processes_decode(library, videos, tmp_path):
    report = library.update(videos, num_workers=2)
    assert names(report.added) == ["a.mp4", "b.mp4", "c d.mp4"]
    with VideoLibrary(tmp_path / "alone", ColourEmbedder()) as alone:
        alone.update(videos)
        assert alone.search("yellow", 3) == library.search("yellow", 3)


def test_a_negative_number_of_workers_is_refused(library, videos):
    with pytest.raises(ConfigError, match="num_workers must not be negative"):
        library.update(videos, num_workers=-2)


def test_features_and_vectors_are_on_the_disk_before_the_catalogue_names_them(
    library, videos, disk_calls
):
    reader = sqlite3.connect(library.folder / "catalog.sqlite")
    disk_calls.looks = lambda: reader.execute("SELECT count(*) FROM videos").fetchone()[0]
    library.update(videos)
    synced = [(Path(name).name, listed) for _, name, listed in disk_calls]
    for name in ("features.bin", "index.bin", library._catalog.vectors().path.name):
        assert [listed for synced_name, listed in synced if synced_name == name] == [0, 1, 2]
    assert library._catalog._db.execute("PRAGMA synchronous").fetchone() == (2,)  # full


def test_an_update_killed_before_its_calibration_is_calibrated_by_the_next(
    tmp_path, videos, monkeypatch
):
    with VideoLibrary(tmp_path / "unbroken", ColourEmbedder()) as library:
        library.update(videos)
        expected = library.search("red")[0].strength
    with VideoLibrary(tmp_path / "library", ColourEmbedder()) as library:
        with monkeypatch.context() as patch:
            patch.setattr(VideoLibrary, "_calibrate", lambda self: None)
            library.update(videos)
        assert library.search("red")[0].strength != expected
        assert not library.update(videos).changed_library
        assert library.search("red")[0].strength == expected


def test_each_zeroed_page_of_the_catalogue_is_one_line_or_harmless(tmp_path, videos):
    def ask():
        with VideoLibrary(tmp_path, ColourEmbedder()) as library:
            found = [library.search(query) for query in ("red", "onion")]
            return found, library.videos()

    with VideoLibrary(tmp_path, ColourEmbedder()) as library:
        library.update(videos)
    expected, path = ask(), tmp_path / "catalog.sqlite"
    whole, refused = path.read_bytes(), 0
    for first in range(0, len(whole), 4096):
        path.write_bytes(whole[:first] + bytes(4096) + whole[first + 4096 :])
        try:
            assert ask() == expected
        except DataError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 5


def test_a_closed_library_is_not_called_damaged(library, videos):
    library.update([videos])
    library.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        library.videos()


def test_a_change_between_the_ends_is_noticed_if_whole_files_are_hashed(
    library, videos, monkeypatch
):
    monkeypatch.setattr(indexer, "SAMPLED_BYTES", 16)
    path = min(Path(videos).glob("*.mp4")) if isinstance(videos, Path) else Path(videos[0])
    for is_whole in (False, True):
        library.update(path, whole_hash=is_whole)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(1, 1 + is_whole))
        report = library.update(path, whole_hash=is_whole)
        assert (str(path) in {*report.changed, *report.failed}) == is_whole


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 20))]
)
def test_after_any_walk_of_changes_the_library_is_that_of_its_files(tmp_path, seed):
    """Files are added, copied, moved (also over others), rewritten, touched and deleted."""
    rng, folder, pool = np.random.default_rng(seed), tmp_path / "videos", tmp_path / "pool"
    colours = ("red", "blue", "green", "white")
    made = [write_video(pool / f"{colour}.mp4", [colour] * 2) for colour in colours]
    with VideoLibrary(tmp_path / "pool library", ColourEmbedder()) as reference:
        reference.update(pool)
        known = {v.content_hash: v for v in reference.videos()}
        wanted = {
            key: reference._catalog.vectors().read(v.first_row, v.num_windows)
            for key, v in known.items()
        }
    folder.mkdir()
    paths = [folder / f"{name}.mp4" for name in "abcd"]

    def put(content, path):
        path.unlink(missing_ok=True)
        path.hardlink_to(content)

    with VideoLibrary(tmp_path / "library", ColourEmbedder()) as library:
        for _ in range(10):
            for _ in range(rng.integers(1, 4)):
                action = rng.choice(["put", "copy", "move", "delete", "touch", "subtitle"])
                one, other = (paths[i] for i in rng.choice(4, 2, replace=False))
                if action == "put":
                    put(made[rng.integers(4)], one)
                elif action == "copy" and one.exists():
                    other.unlink(missing_ok=True)
                    other.write_bytes(one.read_bytes())
                elif action == "move" and one.exists():
                    one.rename(other)
                elif action == "delete":
                    one.unlink(missing_ok=True)
                elif action == "touch" and one.exists():
                    os.utime(one, ns=(0, int(rng.integers(1, 10**18))))
                elif action == "subtitle":
                    text = f"WEBVTT\n\n00:00.000 --> 00:01.000\nword{rng.integers(100)}\n"
                    one.with_suffix(".vtt").write_text(text)
                    os.utime(one.with_suffix(".vtt"), ns=(0, int(rng.integers(1, 10**18))))
            before = {video.path: video.content_hash for video in library.videos()}
            report = library.update(folder, prune=True)
            there = {str(path): content_hash(path) for path in paths if path.exists()}
            assert {video.path: video.content_hash for video in library.videos()} == there
            assert set(report.failed.values()) <= {NO_VIDEOS}
            gone = set(before) - set(there)
            assert len(gone) == len(report.removed) + sum(p not in before for p in report.moved)
            new = {path for path in there if path not in before}
            assert len(new) == len(report.added) + sum(p in new for p in report.moved)
            assert set(report.changed) == {
                path for path in there if before.get(path, there[path]) != there[path]
            }
            vectors = library._catalog.vectors()
            for video in library.videos():
                rows = vectors.read(video.first_row, video.num_windows)
                assert np.array_equal(rows, wanted[video.content_hash])
                beside = Path(video.path).with_suffix(".vtt")
                cues = library._catalog.cues(video.id)
                text = beside.read_text().split()[-1:] if beside.exists() else []
                assert [cue.text for cue in cues] == text
        assert verify(tmp_path / "library") == []
