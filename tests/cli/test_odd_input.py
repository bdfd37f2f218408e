"""Odd input and broken places: one line and a status, never a traceback."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.library.colours import ColourEmbedder, write_video
from videoclip.cli import main
from videoclip.embedding import Embedder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a library of one video."""
    folder = tmp_path_factory.mktemp("odd")
    write_video(folder / "v" / "a.mp4", ["red"] * 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Embedder, "from_pretrained", lambda model, device: ColourEmbedder(model))
        assert main(["index", str(folder / "v"), "--library", str(folder / "library")]) == 0
    return folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    monkeypatch.setattr(Embedder, "from_pretrained", lambda model, device: ColourEmbedder(model))
    monkeypatch.chdir(folder)

    def run_command(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert status == 0 or err.count("\n") == 1, err
        return status, out, err

    return run_command


@pytest.mark.parametrize(
    ("where", "status"),
    [
        ("duration = -9223372036854775809", 0),
        ("size < 9223372036854775808", 0),
        (" or ".join(["duration > 1"] * 3000), 1),
        (" and ".join(["duration > 1"] * 200), 0),
        (f"duration < {'9' * 5000}", 0),
        ("duration < 1e999", 0),
        ("path = '\udcff'", 1),
        (f"path like '{'%a' * 30_000}'", 1),
        (f"path like '{'%é' * 5_900}'", 0),
        (f"duration in ({','.join(['1'] * 5000)})", 0),
    ],
)
def test_filters_of_any_size(where, status, run):
    found = run("search", "red", "--where", where)
    assert found[0] == status and len(found[2]) < 600


def test_words_that_are_no_text(run):
    assert run("search", "red \udcff")[0] == 0


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        f"[{'9' * 5000}]",
        '[{"path": "/a\\u0000b.mp4", "start": 0, "end": 1}]',
        '[{"path": "/a\\ud800b.mp4", "start": 0, "end": 1}]',
        '[{"path": "/a.mp4", "start": 0, "end": 1, "label": "\\ud800"}]',
        '[{"path": "/a.mp4", "start": NaN, "end": 1}]',
        '[{"path": 5, "start": 0, "end": 1}]',
    ],
)
def test_moments_that_are_none(text, run, folder):
    (folder / "moments.json").write_text(text)
    for command in (["export", "moments.json"], ["cut", "moments.json"]):
        status, out, err = run(*command)
        assert (status, out) == (1, "") and "moments.json" in err


def test_a_file_where_a_folder_should_be(run, folder):
    (folder / "file").touch()
    status, _, err = run("search", "red", "--thumbnails", "file")
    assert status == 1 and "file: is a file, where a folder is needed" in err
    with pytest.raises(FileExistsError):
        main(["search", "red", "--thumbnails", "file", "--debug"])
    assert run("index", "v", "--library", "file/library")[0] == 1
    assert run("prepare", "v", "--out", "file/captions")[0] == 1


def test_names_that_are_no_text_are_printed(folder):
    done = subprocess.run(
        [sys.executable, "-m", "videoclip", "localize", b"\xff.mp4", "--step", "a"],
        capture_output=True, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 1 and b"Traceback" not in done.stderr


@pytest.fixture
def read_only(folder, tmp_path):
    """A copy of the library that nobody can write to, also not root."""
    library = tmp_path / "library"
    shutil.copytree(folder / "library", library)
    if os.geteuid():
        for path in (library, *library.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield library
        return
    mount = ["mount", "--bind", library, library]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount, or another user than root")
    subprocess.run(["mount", "-o", "remount,ro,bind", library], check=True)
    yield library
    subprocess.run(["umount", library], check=True)


def test_a_library_on_a_read_only_disk_is_searched_and_not_changed(read_only, run, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in read_only.rglob("*")}
    status, out, err = run("search", "red", "--library", read_only, "--json")
    assert status == 0 and json.loads(out)["moments"], err
    assert run("info", read_only)[0] == 0
    write_video(tmp_path / "new" / "b.mp4", ["red"])
    for arguments in (
        ["index", tmp_path / "new", "--library", read_only],
        ["synth", read_only / "w"],
    ):
        status, _, err = run(*arguments)
        assert status == 1 and "check the path" in err
    assert before == {path: path.stat().st_mtime_ns for path in read_only.rglob("*")}
