"""Videos in tar archives and in object storage train to the same weights as those in a folder."""

from dataclasses import replace
from functools import partial

import pytest

from tests.library.colours import NAMES, ColourBackbone, write_video
from tests.s3_server import S3, S3_WARNINGS, upload
from tests.s3_server import bucket as bucket
from tests.training.tiny_corpus import tiny_config
from videoclip.benchmarks.table import read_table
from videoclip.config import PlanConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.data.sources import write_archive
from videoclip.data.subtitles import MAX_SECONDS
from videoclip.data.tokenizer import Tokenizer
from videoclip.errors import DataError
from videoclip.features.extract import extract_features
from videoclip.preparation import prepare_videos
from videoclip.training.pretrain import pretrain

WORDS = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *NAMES, "then", "a"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six videos of two colours, whose subtitles name them."""
    folder = tmp_path_factory.mktemp("videos")
    for i, first in enumerate(NAMES):
        second = NAMES[i - 1]
        write_video(folder / f"{first}.mp4", [first] * 3 + [second] * 3, frame_rate=4)
        (folder / f"{first}.srt").write_text(
            f"1\n00:00:00,500 --> 00:00:02,500\na {first}\n\n"
            f"2\n00:00:03,000 --> 00:00:05,500\nthen {second}\n"
        )
    return folder


@pytest.fixture(scope="module")
def shards(folder, tmp_path_factory):
    """The same in two archives of WebDataset, written by `prepare`."""
    out = tmp_path_factory.mktemp("shards")
    for i in range(2):
        videos = [folder / f"{name}.mp4" for name in NAMES[3 * i : 3 * i + 3]]
        prepare_videos(videos, out / str(i), format="tar")
    assert [path.name for path in sorted(out.rglob("*.tar"))] == ["00000.tar", "00000.tar"]
    return out


@pytest.fixture
def config():
    config = tiny_config(epochs=2)
    model = replace(
        config.model, feature_dim=len(NAMES), backbone="colours", normalized_features=True
    )
    model = replace(model, vocab_size=WORDS.vocab_size, max_video_tokens=6)
    clips = replace(config.clips, max_video_seconds=4)
    plan = PlanConfig(kind="shuffled", videos_per_batch=3)
    return replace(config, model=model, clips=clips, plan=plan)


@pytest.fixture(autouse=True)
def colours(monkeypatch):
    backbone = ColourBackbone()
    monkeypatch.setattr("videoclip.training.pretrain.load_backbone", lambda *_: backbone)
    here = partial(extract_features, num_workers=0)  # other processes take seconds to start
    monkeypatch.setattr("videoclip.training.pretrain.extract_features", here)


def weights(config, data, out, **options):
    pretrain(config, data, out, tokenizer=WORDS, show_progress=False, **options)
    return (out / "model" / "model.safetensors").read_bytes()


def test_archives_train_as_the_files_in_them(folder, shards, config, tmp_path):
    wanted = weights(config, folder, tmp_path / "folder")
    assert weights(config, shards, tmp_path / "shards") == wanted


def test_features_in_storage_train_as_those_on_the_disk(folder, config, tmp_path):
    with FeatureStore.create(tmp_path / "store", ColourBackbone.spec) as store:
        extract_features([folder], store, ColourBackbone(), num_workers=0)
    wanted = weights(config, folder, tmp_path / "folder", features=tmp_path / "store")
    address = f"file://{tmp_path / 'store'}"
    assert weights(config, folder, tmp_path / "run", features=address) == wanted
    many = replace(config, num_workers=1)
    assert weights(many, folder, tmp_path / "workers", features=address) == wanted


@S3
@S3_WARNINGS
@pytest.mark.slow
def test_s3_trains_as_the_disk(folder, shards, config, tmp_path, bucket):
    with FeatureStore.create(tmp_path / "store", ColourBackbone.spec) as store:
        extract_features([folder], store, ColourBackbone(), num_workers=0)
    wanted = weights(config, folder, tmp_path / "folder", features=tmp_path / "store")
    places = {"videos": folder, "shards": shards, "store": tmp_path / "store"}
    for name, place in places.items():
        upload(place, f"{bucket}/{name}")
    assert weights(config, f"{bucket}/videos", tmp_path / "videos") == wanted
    assert weights(config, f"{bucket}/shards", tmp_path / "shards") == wanted
    many = replace(config, num_workers=2)
    store = f"{bucket}/store"
    assert weights(many, f"{bucket}/videos", tmp_path / "run", features=store) == wanted


def test_archives_are_a_benchmark_of_their_own(shards, tmp_path):
    examples = read_table(shards / "0" / "00000.tar")
    assert [(e.video_id, e.text, e.start, e.end) for e in examples][:2] == [
        ("blue", "a blue", 0.5, 2.5),
        ("blue", "then green", 3.0, 5.5),
    ]
    assert len(examples) == 6
    write_archive(tmp_path / "more" / "a.tar", {"red.txt": b"a red", "red.mp4": b""})
    (example,) = read_table(tmp_path / "more")
    assert (example.video_id, example.start, example.end) == ("red", None, None)
    write_archive(tmp_path / "b.tar", {"red.mp4": b""})
    with pytest.raises(DataError, match=r"b\.tar: has no captions"):
        read_table(tmp_path / "b.tar")


def test_a_text_about_the_whole_video_ends_with_it(folder, config, tmp_path):
    videos = {f"{name}.mp4": folder / f"{name}.mp4" for name in NAMES}
    texts = {f"{name}.txt": f"a {name}".encode() for name in NAMES}
    write_archive(tmp_path / "a.tar", videos | texts)
    assert weights(config, tmp_path / "a.tar", tmp_path / "run")
    assert MAX_SECONDS > 6
