"""Members of tar archives and objects in storage are read as the same files on the disk."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.library.colours import ColourBackbone, write_video
from videoclip.data.captions import Cue
from videoclip.data.feature_store import FeatureStore
from videoclip.data.sources import (
    address_of,
    archive_of,
    is_plain,
    list_files,
    open_binary,
    read_bytes,
    status_of,
    write_archive,
)
from videoclip.data.subtitles import MAX_SECONDS, find_narrations, parse_subtitles, read_subtitles
from videoclip.errors import DataError, DecodeError
from videoclip.features.contained import grab_frame, probe
from videoclip.features.extract import extract_features, find_videos

SRT = "1\n00:00:00,500 --> 00:00:02,000\nred first\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two videos, one of them in a subfolder, with subtitles."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "one.mp4", ["red", "blue", "green"])
    write_video(folder / "more" / "two.mp4", ["white", "black"])
    (folder / "one.srt").write_text(SRT)
    return folder


@pytest.fixture(scope="module")
def archive(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("shards") / "000.tar"
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    write_archive(path, {file.relative_to(folder).as_posix(): file for file in files})
    return path


@pytest.fixture(scope="module")
def bucket(folder):
    """The address of the same folder, as fsspec opens it."""
    return f"file://{folder}"


def test_what_a_path_names(archive, tmp_path):
    assert address_of(Path("s3://bucket/a/b.mp4")) == "s3://bucket/a/b.mp4"
    assert address_of("s3://bucket") == "s3://bucket"
    assert address_of(Path("file:///a/b")) == "file:///a/b"
    for plain in ("/a/b.mp4", "C:\\a", "a:b", Path("videos")):
        assert not address_of(plain) and is_plain(plain)
    assert archive_of(archive) == archive_of(archive / "more" / "two.mp4") == archive
    assert archive_of(tmp_path / "absent.tar") is None
    (tmp_path / "folder.tar").mkdir()
    assert is_plain(tmp_path / "folder.tar" / "a.mp4")
    assert archive_of("s3://bucket/a.tar/b.mp4") == Path("s3://bucket/a.tar")


def places(archive, bucket):
    return [archive, archive.parent, Path(bucket), Path(f"file://{archive.parent}")]


def test_files_are_listed_with_size_and_content(folder, archive, bucket):
    wanted = {file.name: file for file in folder.rglob("*") if file.is_file()}
    for place in places(archive, bucket):
        found = {file.name: file for file in list_files(place) if file.suffix}
        assert found.keys() == wanted.keys()
        for name, file in found.items():
            assert read_bytes(file) == wanted[name].read_bytes()
            assert status_of(file).st_size == wanted[name].stat().st_size
    with open_binary(archive / "one.mp4") as file:
        file.seek(4)
        assert file.read(4) == b"ftyp"


def test_features_of_members_and_objects_are_those_of_files(folder, archive, bucket, tmp_path):
    backbone = ColourBackbone()

    def features_of(place, name):
        with FeatureStore.create(tmp_path / name, backbone.spec) as store:
            report = extract_features([place], store, backbone, num_workers=0)
            assert not report.failed
            return {video: store.read(video) for video in sorted(store.video_ids)}

    wanted = features_of(folder, "folder")
    for i, place in enumerate(places(archive, bucket)):
        found = features_of(place, f"store{i}")
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    assert probe(archive / "one.mp4").duration == probe(folder / "one.mp4").duration
    frame = grab_frame(archive / "one.mp4", 1.5)
    assert np.array_equal(frame, grab_frame(folder / "one.mp4", 1.5))


def test_subtitles_are_found_in_archives_and_storage(folder, archive, bucket):
    for place in (folder, *places(archive, bucket)):
        found = find_narrations(place, ["one", "two"])
        assert found["two"] is None
        assert read_subtitles(found["one"]) == [Cue(0.5, 2.0, "red first")]


def test_a_text_in_an_archive_is_about_the_whole_video(tmp_path):
    captions = {
        "a.txt": b"chop the onion",
        "b.json": b'{"caption": "peel it", "width": 3}',
        "c.json": b'{"text": "fry it"}',
        "d.json": b'{"text": "all", "segments": [{"start": 1, "end": 2, "text": "serve it"}]}',
    }
    write_archive(tmp_path / "a.tar", captions)
    for name, text in (("a.txt", "chop the onion"), ("b.json", "peel it"), ("c.json", "fry it")):
        assert parse_subtitles(tmp_path / "a.tar" / name) == [Cue(0.0, MAX_SECONDS, text)]
    assert parse_subtitles(tmp_path / "a.tar" / "d.json") == [Cue(1.0, 2.0, "serve it")]
    (tmp_path / "a.txt").write_text("a note")
    with pytest.raises(DataError, match="unknown subtitle format"):
        parse_subtitles(tmp_path / "a.txt")
    (tmp_path / "c.json").write_text('{"text": "fry it"}')
    with pytest.raises(DataError, match="not a known caption format"):
        parse_subtitles(tmp_path / "c.json")


def test_what_cannot_be_read_is_named(archive, tmp_path):
    broken = tmp_path / "broken.tar"
    broken.write_bytes(b"no archive" * 100)
    absent = Path("file:///absent")
    found, failed = find_videos([broken, absent], archives=True)
    assert not found
    assert "not a tar archive, or damaged" in failed[broken]
    assert failed[absent] == "has no videos"
    with pytest.raises(DataError, match=r"has no file three\.mp4"):
        read_bytes(archive / "three.mp4")
    with pytest.raises(DataError, match=r"has no file three\.mp4"):
        probe(archive / "three.mp4")
    with pytest.raises(DataError, match=r"^file:///absent/a\.srt: cannot be read"):
        read_bytes(Path("file:///absent/a.srt"))
    with pytest.raises(DataError, match="cannot be read"):
        status_of(Path("nosuch://bucket/a.mp4"))
    write_archive(tmp_path / "text.tar", {"one.mp4": b"not a video"})
    with pytest.raises(DecodeError, match="not a video, or damaged"):
        probe(tmp_path / "text.tar" / "one.mp4")


def test_archives_are_read_only_where_asked_for(archive):
    found, failed = find_videos([archive.parent])
    assert not found and failed


def test_links_and_odd_members_are_left_out(tmp_path):
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:
        link = tarfile.TarInfo("link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        plain = tarfile.TarInfo("./a.txt")
        plain.size = 2
        tar.addfile(plain, io.BytesIO(b"hi"))
    assert list(list_files(tmp_path / "odd.tar")) == [tmp_path / "odd.tar" / "a.txt"]


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_webdataset_reads_what_we_write_and_we_what_it_writes(folder, archive, tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="not installed: `make test-all`")
    samples = list(webdataset.WebDataset(str(archive), shardshuffle=False))
    assert {sample["__key__"] for sample in samples} == {"one", "more/two"}
    by_key = {sample["__key__"]: sample for sample in samples}
    assert by_key["one"]["mp4"] == (folder / "one.mp4").read_bytes()
    assert by_key["one"]["srt"] == SRT.encode()
    video = (folder / "one.mp4").read_bytes()
    with webdataset.TarWriter(str(tmp_path / "theirs.tar")) as writer:
        writer.write({"__key__": "a", "mp4": video, "json": {"caption": "red"}, "txt": "red"})
    theirs = tmp_path / "theirs.tar"
    assert read_bytes(theirs / "a.mp4") == video
    assert json.loads(read_bytes(theirs / "a.json")) == {"caption": "red"}
    assert parse_subtitles(theirs / "a.txt") == [Cue(0.0, MAX_SECONDS, "red")]


def test_an_archive_of_a_folder_is_read_whatever_tar_put_into_it(folder, tmp_path):
    """As `tar -cf x.tar .` writes it: folders are members, and names begin with "./"."""
    path = tmp_path / "whole.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(folder, arcname=".")
        link = tarfile.TarInfo("./link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "one.mp4"
        tar.addfile(link)
    files = {file.relative_to(folder) for file in folder.rglob("*") if file.is_file()}
    assert {file.relative_to(path) for file in list_files(path)} == files
    for file in files:
        assert read_bytes(path / file) == (folder / file).read_bytes()
    for whence, offset in ((0, 5), (1, 3), (2, -4)):
        with open_binary(path / "one.mp4") as ours, (folder / "one.mp4").open("rb") as plain:
            ours.read(2), plain.read(2)
            assert ours.seek(offset, whence) == plain.seek(offset, whence)
            assert ours.read(3) == plain.read(3)


def test_an_archive_holds_files_in_the_order_given_under_any_name(tmp_path):
    long, odd = f"{'folder/' * 30}{'n' * 120}.mp4", "Füße \N{CJK UNIFIED IDEOGRAPH-4E00}.vtt"
    (tmp_path / "video").write_bytes(bytes(range(256)) * 9)
    files = {long: tmp_path / "video", odd: b"text", "a.mp4": b"", "0.vtt": b"last"}
    path = tmp_path / "a.tar"
    path.write_text("an old one")
    write_archive(path, files)
    with tarfile.open(path) as tar:
        assert tar.getnames() == list(files)
        read = [tar.extractfile(member).read() for member in tar]
    assert read == [bytes(range(256)) * 9, b"text", b"", b"last"]
    assert [file.relative_to(path).as_posix() for file in list_files(path)] == list(files)
    for name, content in zip(files, read, strict=True):
        assert read_bytes(path / name) == content
        assert status_of(path / name).st_size == len(content)
    again = tmp_path / "b.tar"
    write_archive(again, files)
    assert again.read_bytes() == path.read_bytes()
    with pytest.raises(DataError), open_binary(path / "none"):
        pass


def test_a_part_of_an_archive_is_read_like_a_file(tmp_path):
    content = bytes(range(200))
    write_archive(tmp_path / "a.tar", {"before": b"x" * 700, "part": content, "after": b"y" * 99})
    plain = io.BytesIO(content)
    with open_binary(tmp_path / "a.tar" / "part") as part:
        for offset, whence, count in (
            (5, os.SEEK_SET, 10),
            (3, os.SEEK_CUR, 7),
            (-4, os.SEEK_END, 99),
            (0, os.SEEK_SET, -1),
            (500, os.SEEK_SET, 3),
            (-9, os.SEEK_CUR, 2),
        ):
            assert part.seek(offset, whence) == plain.seek(offset, whence)
            assert part.tell() == plain.tell()
            assert part.read(count) == plain.read(count)
        assert part.readable() and part.seekable() and not part.closed
    assert part.closed
