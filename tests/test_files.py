import json
import os

import pytest

from videoclip import files
from videoclip.errors import CheckpointError
from videoclip.files import atomic_file, atomic_folder, read_json, write_json, write_text


def test_a_file_appears_whole_with_its_folders(tmp_path):
    path = tmp_path / "new" / "é.json"
    write_json(path, {"a": "ü"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "ü"}
    assert [p.name for p in path.parent.iterdir()] == ["é.json"]


def test_an_old_file_stays_if_writing_fails(tmp_path):
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_file(path) as partial:
        partial.write_text("new")
        assert partial.suffix == ".txt"
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_the_old_one_and_what_a_killed_process_left(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").touch()
    (tmp_path / ".model.partial").mkdir()
    (tmp_path / ".model.partial" / "left").touch()
    with pytest.raises(RuntimeError), atomic_folder(folder) as partial:
        raise RuntimeError
    assert [p.name for p in folder.iterdir()] == ["old"]
    with atomic_folder(folder) as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "new").touch()
    assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*"))] == [
        "model",
        "model/deep",
        "model/deep/new",
    ]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_content_is_synced_before_the_rename_and_the_parent_after(tmp_path, monkeypatch, kind):
    events = []
    monkeypatch.setattr(files, "sync", lambda path: events.append(("sync", path.exists())))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    target = tmp_path / "target"
    if kind == "file":
        write_text(target, "text")
    else:
        with atomic_folder(target):
            pass
    assert events == [("sync", True), ("sync", True)]
    assert target.exists()


def test_json_is_read_back_and_damage_is_named(tmp_path):
    path = tmp_path / "a.json"
    assert read_json(path) == {}
    write_json(path, {"a": ["é", 1]})
    assert read_json(path) == {"a": ["é", 1]}
    for damaged in (b'{"a": [', b"\xff", b"[" * 100_000):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"a\.json is damaged \(.*\): make it again$"):
            read_json(path, "make it again")
