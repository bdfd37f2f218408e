"""A flipped bit in anything that is kept is found, or changes nothing."""

import json
import os
import pickle
import random
import shutil
import sqlite3
from contextlib import closing
from functools import partial

import numpy as np
import pytest
import torch

from tests.library.colours import ColourEmbedder, write_video
from tests.model.tiny_models import make_model
from tests.training.tiny_corpus import tiny_config, tiny_corpus, tokenizer
from videoclip.cli import main
from videoclip.data.batch_plan import BatchPlan
from videoclip.data.feature_store import FeatureStore
from videoclip.data.frame_store import FrameSpec, FrameStore
from videoclip.errors import VideoCLIPError
from videoclip.features.backbones import s3d
from videoclip.files import write_checksums, write_json, write_text
from videoclip.info import describe, verify
from videoclip.library.library import VideoLibrary
from videoclip.model.videoclip import VideoCLIP
from videoclip.synthetic.world import SyntheticConfig
from videoclip.synthetic.write import write_world
from videoclip.training.pretrain import pretrain
from videoclip.training.run_folder import read_log

FLIPS = 15


def make_model_folder(folder):
    make_model().save_pretrained(folder)


def make_run(folder):
    corpus = tiny_corpus(folder.parent / "store")
    pretrain(tiny_config(epochs=1), corpus, folder, tokenizer=tokenizer(), show_progress=False)


def make_features(folder):
    tiny_corpus(folder)


def make_frames(folder):
    frames = FrameSpec(height=4, width=6, frames_per_second=1.0, resize="squash")
    rng = np.random.default_rng(0)
    FrameStore.open_or_create(folder, frames).append(
        "a/b", rng.integers(0, 255, (5, 4, 6, 3), np.uint8)
    )


def make_world(folder):
    write_world(folder, SyntheticConfig(pixels=32, steps_per_video=(1, 1)), 1, workers=1)


def make_s3d(folder):
    folder.mkdir()
    network = torch.nn.Module()
    network.text_module = torch.nn.Module()
    network.text_module.word_embd = torch.nn.Embedding(3, 4)
    s3d.save(network, ["chop", "onion"], folder)


def make_ablation(folder):
    folder.mkdir()
    write_json(folder / "table.json", [{"value": 0.5}, {"value": 0.25}])
    write_text(folder / "table.md", "| 0.5 |\n")
    write_checksums(folder, ("table.json", "table.md"))


def make_library(folder, store="sqlite"):
    videos = [
        write_video(folder.parent / f"{name}.mp4", colours * 4)
        for name, colours in (("a", ["red", "blue"]), ("b", ["green", "white"]))
    ]
    videos[0].with_suffix(".srt").write_text(
        "1\n00:00:01,000 --> 00:00:06,000\nchop the onions finely\n"
    )
    table = folder.parent / "metadata.json"
    table.write_text(json.dumps([{"path": str(videos[0]), "camera": "left", "take": 3}]))
    with VideoLibrary(folder, ColourEmbedder(), store=store) as library:
        library.update(videos, metadata=table)


def contents(folder):
    """What a person gets of a folder without answers of its own: its files."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def answers_of_model(folder):
    return [t.tolist() for t in VideoCLIP.from_pretrained(folder).state_dict().values()]


def answers_of_run(folder):
    plans = [BatchPlan.load(plan) for plan in sorted(folder.glob("plans/*.json"))]
    return read_log(folder), plans, answers_of_model(folder / "model")


def answers_of_features(folder):
    with FeatureStore.open(folder) as store:
        names = store.video_ids
        windows = store.read_windows([(name, 1, store.num_features(name)) for name in names])
        return store.spec, names, [window.tobytes() for window in windows]


def answers_of_frames(folder):
    store = FrameStore.open(folder)
    return [frames.tobytes() for frames in store.read_windows([("a/b", 1, 3), ("a/b", 2, 5)])]


def answers(folder):
    """What a library answers, by frames, words, and a filter on metadata."""
    with VideoLibrary(folder, ColourEmbedder()) as library:
        metadata = [library.metadata(video.path) for video in library.videos()]
        return metadata + [
            [moment.as_dict() for moment in moments]
            for moments in (
                library.search("red", top_k=3),
                library.search("onions", top_k=3, vision=0),
                library.search("blue", top_k=3, where="not duration < 10"),
            )
        ]


KINDS = {
    "model": (make_model_folder, answers_of_model),
    "run": (make_run, answers_of_run),
    "features": (make_features, answers_of_features),
    "frames": (make_frames, answers_of_frames),
    "world": (make_world, contents),
    "s3d": (make_s3d, contents),
    "ablation": (make_ablation, contents),
    "sqlite": (make_library, answers),
    "lance": (partial(make_library, store="lance"), answers),
}
"""How each kind of folder is made, and what is read from it."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Each kind of folder, made once."""
    made = {}

    def folder_of(kind):
        if kind == "lance":
            pytest.importorskip("lancedb", reason="needs the extra `lance`; see `make test-all`")
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind) / kind
            KINDS[kind][0](made[kind])
        return made[kind]

    return folder_of


def outcome(function, *arguments):
    """What a function returns, or None where it raises an error of one line."""
    try:
        return function(*arguments)
    except VideoCLIPError as error:
        assert "\n" not in str(error)
        return None


@pytest.mark.parametrize("num_flips", [2, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.slow) if kind == "lance" else kind for kind in KINDS],
)
def test_a_flipped_bit_in_any_file_is_found_or_harmless(kind, num_flips, folders, tmp_path):
    whole, read = folders(kind), KINDS[kind][1]
    copy, silent, chance = tmp_path / "copy", [], random.Random(kind)
    shutil.copytree(whole, copy)
    assert verify(copy) == []
    facts, expected = describe(copy), read(copy)
    for path in sorted(path for path in whole.rglob("*") if path.is_file()):
        size = path.stat().st_size
        for at in [chance.randrange(8 * size) for _ in range(num_flips if size else 0)]:
            flip(copy / path.relative_to(whole), at)
            problems = outcome(verify, copy)
            assert problems is not None and not any("\n" in problem for problem in problems)
            if outcome(describe, copy) not in (facts, None):
                silent.append((path.name, at, "info"))
            if not problems and outcome(read, copy) not in (expected, None):
                silent.append((path.name, at))
            if kind in ("sqlite", "lance"):  # opening them may write
                shutil.rmtree(copy)
                shutil.copytree(whole, copy)
            else:
                flip(copy / path.relative_to(whole), at)
    assert not silent


UNCHECKED = ("README.md", "calibration.npz")
"""Files that people may change, and what is measured again."""


@pytest.mark.filterwarnings("ignore:.*features at the end belong to no video")
@pytest.mark.parametrize("kind", ["model", "features", "frames", "s3d", "ablation", "sqlite"])
def test_a_file_of_something_else_is_found_by_verify(kind, folders, tmp_path):
    """Also where reading would make the file again, so that answers stay the same."""
    whole, silent = folders(kind), []
    for path in sorted(path for path in whole.rglob("*") if path.is_file()):
        name = path.relative_to(whole).as_posix()
        copy = tmp_path / "copy"
        shutil.copytree(whole, copy)
        (copy / name).write_bytes(b"something else\n" * 40)
        found = outcome(verify, copy)
        outcome(describe, copy)
        if path.stat().st_size and found == [] and path.name not in UNCHECKED:
            silent.append(name)
        shutil.rmtree(copy)
    assert silent == []


def test_an_empty_catalogue_is_reported_until_the_library_is_rebuilt(tmp_path):
    make_library(tmp_path / "library")
    catalogue = tmp_path / "library" / "catalog.sqlite"
    for damage in (lambda: catalogue.write_bytes(b""), catalogue.unlink):
        damage()
        reason = f"{tmp_path / 'library'}: the library's catalogue is empty: restore"
        for _ in range(2):  # opening it makes its tables
            with pytest.raises(VideoCLIPError, match=reason):
                VideoLibrary(tmp_path / "library", ColourEmbedder())
            (problem,) = verify(tmp_path / "library")
            assert problem.startswith(reason) and problem.endswith("--rebuild`")
            with pytest.raises(VideoCLIPError, match=reason):
                describe(tmp_path / "library")
        with VideoLibrary(tmp_path / "library", ColourEmbedder(), rebuild=True) as library:
            assert len(library.update(tmp_path).added) == 2
        assert verify(tmp_path / "library") == []


NO_FILE = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a circle": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("what", NO_FILE)
@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (make_model_folder, answers_of_model),
        (make_run, answers_of_run),
        (make_features, answers_of_features),
        (make_frames, answers_of_frames),
        (make_ablation, describe),
        (make_library, answers),
    ],
)
def test_what_is_no_file_is_reported_in_the_place_of_any_file(make, answer, what, tmp_path):
    folder, whole = tmp_path / "own" / "it", tmp_path / "whole"
    folder.parent.mkdir()
    make(folder)
    expected = answer(folder)
    shutil.copytree(folder, whole)
    for file in sorted(f.relative_to(whole) for f in whole.rglob("*") if f.is_file()):
        if file.suffix == ".lock":
            continue
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)
        (folder / file).unlink()
        NO_FILE[what](folder / file)
        for read in (verify, describe, answer):
            try:  # a pipe that is opened would be waited for, for ever
                found = read(folder)
            except VideoCLIPError as error:
                assert "\n" not in str(error)
            else:
                assert read is not answer or repr(found) == repr(expected), file


@pytest.mark.parametrize("name", ["config.json", "facts.json"])
def test_a_run_without_its_settings_or_facts_is_not_continued_with_others(name, tmp_path):
    make_run(tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    with pytest.raises(VideoCLIPError, match=f"{name} is missing: restore it or choose another"):
        make_run(tmp_path / "run")


def test_a_log_or_an_index_that_was_cut_between_two_entries_is_reported(tmp_path):
    make_run(tmp_path / "run")
    log = tmp_path / "run" / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(line for line in lines if json.loads(line)["update"] < 2))
    (problem,) = verify(tmp_path / "run")
    assert "log.jsonl ends at update 1, before the checkpoint of 2" in problem
    log.write_bytes(b"".join(lines))
    assert verify(tmp_path / "run") == []
    (tmp_path / "run" / "config.json").unlink()
    (problem,) = verify(tmp_path / "run")
    assert "config.json is missing" in problem
    with pytest.raises(VideoCLIPError, match=r"config.json is missing"):
        describe(tmp_path / "run")
    os.truncate(tmp_path / "store" / "index.bin", 5 * 32)
    (problem,) = verify(tmp_path / "store")
    assert "features at the end belong to no video" in problem


def test_an_empty_catalogue_without_vectors_is_filled_again(tmp_path):
    """A process that is killed as it makes a library leaves one."""
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "catalog.sqlite").touch()
    (tmp_path / "a.mp4").touch()
    with VideoLibrary(tmp_path / "library", ColourEmbedder()) as library:
        library.update(tmp_path)
        assert len(library) == 0


def flip(path, at):
    """Flip a bit of a file."""
    content = bytearray(path.read_bytes())
    content[at // 8] ^= 1 << at % 8
    path.write_bytes(content)


def flips(path, num=FLIPS):
    """Flip a bit of a file at a time, and undo it."""
    chance = random.Random(path.name)
    for at in [chance.randrange(8 * path.stat().st_size) for _ in range(num)]:
        flip(path, at)
        yield at
        flip(path, at)


@pytest.fixture
def library_folder(library, videos):
    library.update(videos)
    library.close()
    return library.folder


def test_flipped_vectors_are_found_and_computed_again(library_folder, videos):
    expected = answers(library_folder)
    vectors = library_folder / "vectors-0.f16"
    for _ in flips(vectors):
        assert ["--repair" in problem for problem in verify(library_folder)] == [True]
        with pytest.raises(VideoCLIPError, match="vectors of 1 videos are damaged"):
            answers(library_folder)
    (features,) = library_folder.glob("features-*/features.bin")
    flip(vectors, 0)
    flip(features, 8 * features.stat().st_size - 1)
    assert len(verify(library_folder)) == 2
    with VideoLibrary(library_folder, ColourEmbedder()) as library:
        report = library.update(videos, repair=True)
        assert len(report.changed) == 1 and not report.failed
        assert not library.update(videos, repair=True).changed_library
    assert verify(library_folder) == []
    assert answers(library_folder) == expected


@pytest.mark.parametrize("name", ["background-0.npz", "calibration.npz", "catalog.sqlite"])
def test_a_flip_elsewhere_in_a_library_is_found_or_changes_no_answer(
    name, library_folder, tmp_path
):
    expected = answers(library_folder)
    copy, wrong = tmp_path / "copy", []
    for at in flips(library_folder / name):
        shutil.copytree(library_folder, copy)
        problems = verify(copy)
        try:
            if answers(copy) != expected and not problems:
                wrong.append(at)
        except VideoCLIPError as error:
            assert "\n" not in str(error)
        shutil.rmtree(copy)
    assert not wrong


def test_flipped_weights_are_found(tmp_path):
    make_model().save_pretrained(tmp_path)
    for name in ("model.safetensors", "config.json"):
        for _ in flips(tmp_path / name):
            assert len(verify(tmp_path)) == 1
            with pytest.raises(VideoCLIPError):
                VideoCLIP.from_pretrained(tmp_path)
    assert verify(tmp_path) == []


def test_a_flip_in_a_checkpoint_is_found(tmp_path):
    corpus, config = tiny_corpus(tmp_path / "store"), tiny_config(epochs=1)
    run = tmp_path / "run"
    pretrain(config, corpus, run, tokenizer=tokenizer(), show_progress=False)
    (checkpoint,) = (run / "checkpoints").iterdir()
    for name in ("optimizer.safetensors", "trainer.json", "model/model.safetensors"):
        for _ in flips(checkpoint / name, 2):
            assert verify(run)
            with pytest.raises(VideoCLIPError, match="remove it, and the run continues"):
                pretrain(config, corpus, run, tokenizer=tokenizer(), show_progress=False)
    assert verify(run) == []


def test_features_are_verified_before_training(tmp_path, capsys):
    tiny_corpus(tmp_path / "store")
    captions = {"egg-0": {"start": [0.0], "end": [4.0], "text": ["the egg"]}}
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    for _ in flips(tmp_path / "store" / "features.bin", 5):
        with pytest.raises(VideoCLIPError, match="are damaged"):
            pretrain(
                tiny_config(), tmp_path / "captions.json", tmp_path / "run",
                features=tmp_path / "store", tokenizer=tokenizer(), show_progress=False,
            )  # fmt: skip
        assert main(["info", str(tmp_path / "store"), "--verify"]) == 1
        assert "restore the folder" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "store"), "--verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    with FeatureStore.open(tmp_path / "store") as store:
        assert store.damaged() == []


def test_damaged_narration_and_metadata_are_found_by_a_search_and_repaired(tmp_path):
    folder = tmp_path / "own" / "library"
    folder.parent.mkdir()
    make_library(folder)
    expected = answers(folder)
    for change in (
        "UPDATE metadata SET value = 7 WHERE key = 'take'",
        "UPDATE videos SET width = 5",
    ):
        with closing(sqlite3.connect(folder / "catalog.sqlite")) as db, db:
            db.execute(change)
        (problem,) = verify(folder)
        assert "is damaged" in problem and "--repair`, and with --metadata" in problem
        with pytest.raises(VideoCLIPError, match=r"1 videos is damaged|2 videos is damaged"):
            answers(folder)
        with VideoLibrary(folder, ColourEmbedder()) as library:
            videos = sorted(folder.parent.glob("*.mp4"))
            table = folder.parent / "metadata.json"
            with pytest.raises(VideoCLIPError, match="--repair"):
                library.update(videos, metadata=table)
            times = [video.stat().st_mtime_ns for video in videos]
            for video in videos:
                os.utime(video, ns=(1, 1))
            with pytest.raises(VideoCLIPError, match="--repair"):
                library.update(videos)
            for video, time in zip(videos, times, strict=True):
                os.utime(video, ns=(time, time))
            library.update(videos, repair=True, metadata=table)
        assert verify(folder) == [] and answers(folder) == expected


@pytest.mark.parametrize("schema", [1, 2])
def test_a_library_of_an_earlier_schema_answers_and_gets_checksums(schema, tmp_path):
    folder = tmp_path / "library"
    make_library(folder)
    expected = answers(folder)
    with closing(sqlite3.connect(folder / "catalog.sqlite")) as db, db:
        for column in ("record_checksum", "checksum")[: 3 - schema]:
            db.execute(f"ALTER TABLE videos DROP COLUMN {column}")
        db.execute("DROP TABLE passages")
        db.execute(f"PRAGMA user_version = {schema}")
    assert answers(folder) == expected and verify(folder) == []
    (tmp_path / "a.mp4").touch()
    with VideoLibrary(folder, ColourEmbedder()) as library:
        assert [video.record_checksum for video in library.videos()] == [None, None]
        library.update(tmp_path)
        assert [video.record_checksum is None for video in library.videos()] == [False, True]


def test_a_store_passed_to_another_process_is_not_verified_again(tmp_path):
    tiny_corpus(tmp_path)
    with FeatureStore.open(tmp_path) as store:
        first, last = store.video_ids[0], store.video_ids[-1]
        store.read(first)
        path = tmp_path / "features.bin"
        for at in (0, 8 * path.stat().st_size - 1):
            flip(path, at)
        with pickle.loads(pickle.dumps(store)) as copy:
            copy.read_windows([(first, 0, 1)])
            with pytest.raises(VideoCLIPError, match="are damaged"):
                copy.read_windows([(last, 0, 1)])
            with pytest.raises(VideoCLIPError, match="are damaged"):
                copy.read(last, 0, 1)
            copy.trust()
            copy.read_windows([(last, 0, 1)])
        with pytest.raises(VideoCLIPError, match="are damaged"):
            store.read(first)  # all of it


def test_a_store_of_frames_of_an_earlier_version_is_read(tmp_path):
    make_frames(tmp_path)
    expected = answers_of_frames(tmp_path)
    (path,) = tmp_path.glob("*.rgb")
    path.write_bytes(path.read_bytes()[:-4])
    assert answers_of_frames(tmp_path) == expected and verify(tmp_path) == []
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(VideoCLIPError, match="truncated; delete it"):
        answers_of_frames(tmp_path)


def test_tables_of_an_earlier_version_answer_and_get_checksums(tmp_path):
    lancedb = pytest.importorskip("lancedb", reason="needs the extra `lance`; see `make test-all`")
    folder = tmp_path / "library"
    make_library(folder, store="lance")
    expected = answers(folder)
    tables = lancedb.connect(folder / "lance")
    tables.open_table("videos").drop_columns(["checksum", "record_checksum"])
    tables.open_table("facts").drop_columns(["checksum"])
    assert answers(folder) == expected and verify(folder) == []
    (tmp_path / "a.mp4").touch()
    with VideoLibrary(folder, ColourEmbedder()) as library:
        library.update(tmp_path)
    rows = tables.open_table("videos").to_arrow().to_pylist()
    assert sorted(row["record_checksum"] is None for row in rows) == [False, True]
    table = tables.open_table("facts")
    table.update(where="key = 'calibrated'", values={"value": "other"})
    with pytest.raises(VideoCLIPError, match="the fact calibrated is damaged"):
        answers(folder)
