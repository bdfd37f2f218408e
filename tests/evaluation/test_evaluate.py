"""Every benchmark from its files to its table, on random features and a tiny model."""

import json
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from tests.model.tiny_models import TINY, make_model
from videoclip.benchmarks import coin, crosstask, didemo, load_benchmarks, msrvtt, youcook2
from videoclip.config import EvaluateConfig
from videoclip.data.tokenizer import Tokenizer
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError, DataError, IndexMismatchError
from videoclip.evaluation import FRAMES, evaluate, trial

CONFIG = EvaluateConfig(num_resamples=50)


@pytest.fixture(scope="module")
def embedder(shared):
    config = replace(
        TINY,
        backbone="test",
        vocab_size=30_522,
        cls_id=101,
        sep_id=102,
        max_video_tokens=32,
        max_text_tokens=61,
        max_positions=64,
        normalize=True,
        temperature=0.05,
    )
    vocabulary = shared / "annotations" / "files" / "bert-base-uncased" / "vocab.txt"
    return Embedder(make_model(config), Tokenizer.from_vocab(vocabulary))


@pytest.fixture(scope="module")
def real(shared):
    return shared / "annotations" / "files"


@pytest.fixture(scope="module")
def excerpts(shared):
    return shared / "annotations" / "excerpts"


def assert_at_chance(result, *names):
    """The interval around our number holds what chance gives."""
    chance = result.outcome.baselines[0].values
    for m in result.outcome.measures:
        if not names or m.name in names:
            assert m.low <= chance[m.name] <= m.high, m.name


def test_msrvtt_1k_at_chance(real, random_store, embedder):
    store = random_store({e.video_id: 12 for e in msrvtt.read_msrvtt_1k(real / "msrvtt")}, dim=12)
    result = evaluate("msrvtt", embedder, store, real / "msrvtt", CONFIG)
    assert (result.outcome.num_examples, result.outcome.missing) == (1_000, ())
    assert_at_chance(result)
    assert "VideoCLIP zero-shot" in str(result)


@pytest.mark.slow
def test_youcook2_at_chance(real, random_store, embedder):
    clips = youcook2.read_youcook2(real / "youcook2")
    lengths: dict[str, int] = {}
    for clip in clips:
        lengths[clip.video_id] = max(lengths.get(clip.video_id, 0), int(clip.end))
    store = random_store(lengths, dim=12)
    result = evaluate("youcook2", embedder, store, real / "youcook2", CONFIG)
    assert (result.outcome.num_examples, result.outcome.settings["clips"]) == (3_350, 3_349)
    assert_at_chance(result, *(f"text-to-video {m}" for m in ("R@1", "R@5", "R@10")))


def test_didemo_paragraphs_at_chance(excerpts, random_store, embedder):
    folder = excerpts / "didemo"
    store = random_store({e.video_id: 30 for e in didemo.read_didemo_paragraphs(folder)}, dim=12)
    result = evaluate("didemo_paragraph", embedder, store, folder, CONFIG)
    assert_at_chance(result, "text-to-video R@1", "text-to-video R@5", "video-to-text R@1")
    result = evaluate("didemo", embedder, store, folder, CONFIG)
    assert result.outcome.num_examples == 650
    assert [c.name for c in result.outcome.baselines] == ["random", "moment frequency prior"]


def test_coin_says_when_a_prediction_is_empty(excerpts, random_store, embedder):
    folder = excerpts / "coin"
    videos = [v for split in ("train", "test") for v in coin.read_coin(folder, split).videos[:40]]
    store = random_store({v.video_id: int(np.ceil(v.duration)) for v in videos}, dim=12)
    result = evaluate("coin", embedder, store, folder, CONFIG)
    assert result["frame accuracy"] == pytest.approx(
        result.outcome.baselines[0].values["frame accuracy"], abs=0.02
    )
    assert result["predicted background"] > 0.98
    assert result.outcome.num_videos == 40
    assert len(result.outcome.missing) == 266 - 40


def test_crosstask_at_chance(excerpts, random_store, embedder):
    folder = excerpts / "crosstask"
    videos = crosstask.read_crosstask(folder).videos
    lengths = {v.video_id: int(max(s.end for s in v.segments)) + 5 for v in videos}
    result = evaluate("crosstask", embedder, random_store(lengths, dim=12), folder, CONFIG)
    assert result.outcome.num_videos == 180
    assert 0.05 < result["average recall"] < 0.25


@pytest.mark.slow
def test_the_whole_of_didemo_at_chance(real, random_store, embedder):
    folder = real / "didemo"
    store = random_store({e.video_id: 30 for e in didemo.read_didemo_paragraphs(folder)}, dim=12)
    result = evaluate("didemo", embedder, store, folder, CONFIG)
    assert (result.outcome.num_examples, result.outcome.num_videos) == (4_021, 1_004)
    chance, prior = (c.values for c in result.outcome.baselines)
    assert prior["rank@1"] == pytest.approx(0.194, abs=0.0005)
    # Not all 21 moments are as likely: short ones are marked more often, at any similarity.
    assert 0.5 * chance["rank@1"] < result["rank@1"] < prior["rank@1"]
    paragraphs = evaluate("didemo_paragraph", embedder, store, folder, CONFIG)
    assert paragraphs.outcome.settings["clips"] == 1_004
    assert_at_chance(paragraphs, "text-to-video R@1", "text-to-video R@5", "text-to-video R@10")


@pytest.mark.slow
def test_the_official_test_of_coin_is_mostly_background(real, random_store, embedder, tmp_path):
    shutil.copy(real / "coin" / "schema_coin_valid.json.gz", tmp_path / "COIN.json.gz")
    videos = coin.read_coin(tmp_path).videos
    store = random_store({v.video_id: int(np.ceil(v.duration)) for v in videos}, dim=12)
    config = replace(CONFIG, background="released")
    result = evaluate("coin", embedder, store, tmp_path, config)
    assert result.outcome.num_videos == 2_797
    assert 0.586 < result.outcome.baselines[0].values["frame accuracy"] < 0.589
    assert result["foreground accuracy"] < 0.01


@pytest.mark.slow
def test_the_whole_of_crosstask_at_chance(real, random_store, embedder, tmp_path):
    with tarfile.open(real / "crosstask" / "crosstask_release.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    videos = crosstask.read_crosstask(tmp_path).videos
    lengths = {v.video_id: int(max(s.end for s in v.segments)) + 5 for v in videos}
    result = evaluate("crosstask", embedder, random_store(lengths, dim=12), tmp_path, CONFIG)
    assert result.outcome.num_videos == 1_850
    assert 0.05 < result["average recall"] < 0.2


@pytest.mark.parametrize(
    ("name", "folder", "file"),
    [
        ("msrvtt_qa", "msrvtt_mc", "msrvtt_multi_choice_qa.jsonl"),
        ("nextqa", "nextqa", "val.csv"),
        ("qvhighlights", "qvhighlights", "highlight_val_release.jsonl"),
        ("charades", "charades_sta", "charades_sta_test.txt"),
        ("activitynet", "activitynet_captions", "val_1.json"),
        ("activitynet_moments", "activitynet_captions", "val_1.json"),
    ],
)
def test_the_others_run_to_their_end(excerpts, random_store, embedder, name, folder, file):
    path = excerpts / folder / file
    store = random_store({"stranger": 3}, dim=12)
    with pytest.raises(DataError, match=r"no features of any video .*, such as '[^']+'") as refusal:
        evaluate(name, embedder, store, path)
    video_id = str(refusal.value).split("'")[1]
    store.append(video_id, np.random.default_rng(0).normal(size=(20, 12)))
    result = evaluate(name, embedder, store, path, CONFIG)
    assert result.outcome.num_videos == 1
    assert result.outcome.measures
    assert json.dumps(result.to_dict())


def test_a_table_of_ones_own(tmp_path, random_store, embedder):
    store = random_store({"kitchen": 40, "garden": 9}, dim=12)
    table = tmp_path / "own.csv"
    table.write_text("video,start,end,text\nkitchen,3,9,chop\ngarden,,,plant\nkitchen,20,30,fry\n")
    result = evaluate("csv", embedder, store.folder, table, CONFIG)
    assert result.outcome.num_examples == 3
    assert result.published == ()
    embedder.save_pretrained(tmp_path / "model")
    again = evaluate("csv", tmp_path / "model", store, table, CONFIG)
    assert again.to_dict() == result.to_dict()


def test_what_cannot_be_evaluated(tmp_path, random_store, embedder, monkeypatch):
    store = random_store({"kitchen": 5}, dim=8)
    with pytest.raises(ConfigError, match="unknown benchmark 'youcook'; perhaps you meant"):
        evaluate("youcook", embedder, store, tmp_path)
    with pytest.raises(IndexMismatchError, match="width"):
        evaluate("csv", embedder, store, tmp_path)
    with pytest.raises(ConfigError, match="unknown backbone 'test'"):
        evaluate("csv", FRAMES, store, tmp_path)
    for name in load_benchmarks():
        with pytest.raises(DataError):
            evaluate(name, AnyEncoder(), store, tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("csv", "own.csv", "video,text\n"),
        ("didemo", "test_data.json", "[]"),
        ("coin", "COIN.json", json.dumps({"database": {"a": {
            "subset": "training", "class": "Cook", "duration": 9,
            "annotation": [{"id": 1, "label": "cut", "segment": [1, 3]}],
        }}})),
    ],
)  # fmt: skip
def test_an_empty_test_part_is_one_plain_line(tmp_path, random_store, name, file, content):
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError) as refusal:
        evaluate(name, AnyEncoder(), random_store({"a": 5}), tmp_path / file)
    message = f"{tmp_path / file}: no example in the test split: name other annotations"
    assert str(refusal.value) == message


def test_an_empty_test_part_of_crosstask(tmp_path, random_store, excerpts):
    shutil.copytree(excerpts / "crosstask" / "crosstask_release", tmp_path / "release")
    for file in (tmp_path / "release" / "annotations").glob("*.csv"):
        file.unlink()
    with pytest.raises(DataError, match="release: no example in the test split: name other"):
        evaluate("crosstask", AnyEncoder(), random_store({"a": 5}), tmp_path / "release")


class AnyEncoder(trial.EmbedderEncoder):
    """Takes whatever features there are."""

    name = "any"
    temperature = 1.0

    def __init__(self):
        pass

    def check(self, spec):
        pass
