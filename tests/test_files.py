import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from videoclip import files
from videoclip.errors import CheckpointError
from videoclip.files import (
    atomic_file,
    atomic_folder,
    parse_state,
    read_json,
    verify_checksums,
    write_checksums,
    write_json,
    write_state,
    write_text,
)


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


REPLACE = """
import os, shutil, signal, sys
from pathlib import Path
from videoclip import files

can_exchange, folder = sys.argv[1] == "True", Path("model")
exchange, at, count = files._exchange, 0, 0

def event(*_):
    global count
    count += 1
    if count == at:
        os.kill(os.getpid(), signal.SIGKILL)

def exchange_or_not(*folders):
    event()
    done = can_exchange and exchange(*folders)
    event()
    return done

def replace():
    with files.atomic_folder(folder) as partial:
        Path(partial, "weights").write_text("new")

files._exchange = exchange_or_not
sys.addaudithook(lambda name, _: name in ("os.rename", "os.remove", "os.rmdir") and event())
for point in range(1, 100):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    Path(folder, "weights").write_text("old")
    child = os.fork()
    if not child:
        at, count = point, 0
        replace()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert folder.exists() or not can_exchange, point
    try:
        with files.atomic_folder(folder):
            raise RuntimeError  # this call restores what was there
    except RuntimeError:
        print(Path(folder, "weights").read_text(), os.listdir())
    if not status:
        break
    assert status == signal.SIGKILL
"""


@pytest.mark.parametrize("can_exchange", [sys.platform == "linux", False])
def test_a_kill_while_a_folder_is_replaced_leaves_the_old_or_the_new_one(can_exchange, tmp_path):
    command = [sys.executable, "-c", REPLACE, str(can_exchange)]
    out = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    ends = out.splitlines()
    assert set(ends) == {"old ['model']", "new ['model']"} and len(ends) > 4
    assert ends == sorted(ends, reverse=True)  # old until a moment, and new from then on


def test_json_is_read_back_and_damage_is_named(tmp_path):
    path = tmp_path / "a.json"
    assert read_json(path) == {}
    write_json(path, {"a": ["é", 1]})
    assert read_json(path) == {"a": ["é", 1]}
    for damaged in (b'{"a": [', b"\xff", b"[" * 100_000):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"a\.json is damaged \(.*\): make it again$"):
            read_json(path, "make it again")


def test_a_file_is_synced_whole_then_renamed_then_its_folder_is_synced(tmp_path, disk_calls):
    write_text(tmp_path / "x.txt", "old")
    disk_calls.clear()
    write_text(tmp_path / "x.txt", "text")
    partial = f".x.partial-{os.getpid()}.txt"
    assert disk_calls == [
        ("sync", partial, b"text"),
        ("rename", partial, "x.txt"),
        ("sync", ".", ["x.txt"]),
    ]


def test_all_of_a_folder_is_synced_before_its_rename_and_the_parent_after(tmp_path, disk_calls):
    with atomic_folder(tmp_path / "model") as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "new").write_bytes(b"weights")
        (partial / "config").write_bytes(b"{}")
    *before, renamed, after = disk_calls
    assert sorted(before, key=str) == [
        ("sync", ".model.partial", ["config", "deep"]),
        ("sync", ".model.partial/config", b"{}"),
        ("sync", ".model.partial/deep", ["new"]),
        ("sync", ".model.partial/deep/new", b"weights"),
    ]
    assert renamed == ("rename", ".model.partial", "model")
    assert after == ("sync", ".", ["model"])


def test_nothing_is_renamed_or_synced_if_writing_fails(tmp_path, disk_calls):
    for write in (atomic_file, atomic_folder):
        with pytest.raises(RuntimeError), write(tmp_path / "x"):
            raise RuntimeError
    assert disk_calls == []


MOVES = {"fsync", "fdatasync", "rename", "replace", "link", "move"}
WRITES = {"write_text", "write_bytes"}
OWN_WRITES = {
    ("files.py", "fsync"),
    ("files.py", "replace"),
    ("files.py", "rename"),
    ("files.py", "write_bytes"),
    ("data/feature_store.py", "fsync"),  # append-only
    ("data/frame_store.py", "open"),  # into an atomic file
    ("library/approximate.py", "open"),  # appends to an atomic file
    ("library/vectors.py", "open"),  # append-only, and compaction into an atomic file
    ("synthetic/write.py", "write_bytes"),  # into an atomic folder
    ("training/run_folder.py", "write_text"),  # into an atomic folder
    ("training/run_folder.py", "open"),  # the log
    ("web/api.py", "open"),  # an upload, in pieces, aside
    ("web/api.py", "link"),  # an upload never replaces a file, which a rename would
}
"""What writes, syncs or renames with calls of its own, and why not with those of `files`."""


def own_writes(path):
    """Yield the methods of files and `os` in a module that write, sync or rename."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name, first = node.func.attr, node.args[0] if node.args else None
        is_text = name == "replace" and (len(node.args) != 1 or node.keywords)  # of strings
        mode = first.value if name == "open" and isinstance(first, ast.Constant) else ""
        if (name in MOVES and not is_text) or name in WRITES or re.match("[wax]", mode):
            yield name


def test_all_state_is_written_by_one_module():
    source = Path(files.__file__).parent
    found = {
        (str(path.relative_to(source)), name)
        for path in source.rglob("*.py")
        for name in own_writes(path)
    }
    assert found == OWN_WRITES


def test_an_object_is_sealed_and_older_or_other_values_are_read_as_they_are(tmp_path):
    path = tmp_path / "a.json"
    content = {"b": [1.5, "é"], "a": {"x": None}, "pair": (1, 2)}
    write_state(path, content)
    assert read_json(path) == {**content, "pair": [1, 2]}
    assert parse_state('{"a": 1}') == {"a": 1} and parse_state(b"[1]") == [1]
    path.write_text(path.read_text().replace("1.5", "1.6"))
    with pytest.raises(CheckpointError, match="checksum differs; if you edited it, remove 'crc32'"):
        read_json(path)


def test_a_checksum_of_another_name_is_damage(tmp_path):
    """A flipped bit in the name would otherwise make an object without a checksum of it."""
    path = tmp_path / "a.json"
    write_state(path, {"a": 1, "b": 2})
    path.write_text(path.read_text().replace("crc32", "crb32"))
    with pytest.raises(CheckpointError, match=r"a.json is damaged \('crb32' should be 'crc32'\)"):
        read_json(path)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, '{"crc32":1,"a":' + "[" * 100_000]
)
def test_json_that_is_nested_too_deeply_is_a_value_error(text):
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_state(text)


def test_checksums_of_a_folder_name_what_is_missing_or_changed(tmp_path):
    assert verify_checksums(tmp_path, "copy it again") == []
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    write_checksums(tmp_path, ["a", "b"], {"b": "known"})
    assert verify_checksums(tmp_path, "copy it again", only="a") == ["a"]
    with pytest.raises(CheckpointError, match=r"b was changed .*: copy it again"):
        verify_checksums(tmp_path, "copy it again")
    (tmp_path / "a").unlink()
    with pytest.raises(CheckpointError, match="a is missing: copy it again"):
        verify_checksums(tmp_path, "copy it again")
    write_checksums(tmp_path, [])
    with pytest.raises(CheckpointError, match="no SHA-256"):
        verify_checksums(tmp_path, "copy it again")
