"""Batches planned by a frozen teacher: its neighbours, made once, the same after a break."""

import functools
import json
from dataclasses import replace

import numpy as np
import pytest

from tests.training.tiny_corpus import THINGS, tiny_config, tiny_corpus, tokenizer
from tests.two_ranks import on_two_ranks
from videoclip.config import PlanConfig
from videoclip.data.batch_plan import make_plan
from videoclip.data.tokenizer import Tokenizer
from videoclip.embedding import Embedder
from videoclip.errors import CheckpointError, ConfigError, IndexMismatchError
from videoclip.model.videoclip import VideoCLIP
from videoclip.training import pretrain as pretraining
from videoclip.training.narrated import Feed, Group, NarratedSource, vector_clips
from videoclip.training.trainer import Purpose

pretrain = functools.partial(pretraining.pretrain, tokenizer=tokenizer(), show_progress=False)
MINED = PlanConfig(kind="mined", videos_per_batch=3, num_neighbours=3, clips_per_vector=2)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two videos about each thing."""
    return tiny_corpus(tmp_path_factory.mktemp("store"), num_videos=2 * len(THINGS))


@pytest.fixture(scope="module")
def teacher(corpus, tmp_path_factory):
    """A model that has learned the corpus."""
    config = tiny_config(epochs=15)
    return pretrain(config, corpus, tmp_path_factory.mktemp("teacher")).model_folder


def asking(teacher, **changes):
    return tiny_config(plan=replace(MINED, teacher=str(teacher), **changes))


def plans(run):
    """The groups of each saved plan, of which there is at least one."""
    files = sorted(run.glob("plans/*.json"))
    assert files
    return [json.loads(file.read_text())["groups"] for file in files]


def weights(run):
    return (run / "model" / "model.safetensors").read_bytes()


def naive_vectors(folder, config, corpus):
    """Each video's mean embedding, clip by clip."""
    model, means = VideoCLIP.from_pretrained(folder).eval(), []
    feed = Feed(corpus, vector_clips(config), config.model)
    size = config.plan.videos_per_batch
    for first in range(0, len(corpus), size):
        videos = range(first, min(first + size, len(corpus)))
        batch = feed.batch(Group(videos, (config.seed, Purpose.VECTORS, 0, first)))
        pairs = [
            (
                model.encode_video(batch.video[[i]], batch.video_mask[[i]])
                + model.encode_text(batch.text[[i]], batch.text_mask[[i]])
            )[0]
            .detach()
            .numpy()
            / 2
            for i in range(len(batch))
        ]
        means += np.split(np.array(pairs), len(videos))
    return np.array([clips.mean(axis=0) for clips in means])


@pytest.mark.parametrize("kind", ["mined", "retrieval"])
def test_plans_are_made_of_the_teachers_vectors_in_every_epoch(corpus, teacher, tmp_path, kind):
    config = asking(teacher, kind=kind)
    pretrain(config, corpus, tmp_path)
    vectors = naive_vectors(teacher, config, corpus)
    for epoch, groups in enumerate(plans(tmp_path), start=1):
        expected = make_plan(
            config.plan, len(corpus), seed=config.seed, epoch=epoch, vectors=vectors
        )
        assert groups == [list(group) for group in expected.groups]


def test_the_teacher_knows_from_the_start_what_is_alike_and_the_nearest_is_dropped(
    corpus, teacher, tmp_path
):
    def twins(drop):
        """How many batches of two are about one thing."""
        plan = asking(teacher, videos_per_batch=2, drop_nearest=drop)
        pretrain(replace(plan, epochs=1), corpus, tmp_path / str(drop))
        return sum(a % len(THINGS) == b % len(THINGS) for a, b in plans(tmp_path / str(drop))[0])

    assert twins(0) == len(THINGS)
    assert twins(1) <= 1  # at the end nobody else may be left


def test_the_teacher_stays_as_it_is_and_is_asked_once(corpus, teacher, tmp_path, monkeypatch):
    before, asked = Embedder.from_pretrained(teacher).fingerprint, []
    embed_videos = NarratedSource._embed_videos

    def counted(*args, **kwargs):
        asked.append(args)
        return embed_videos(*args, **kwargs)

    monkeypatch.setattr(NarratedSource, "_embed_videos", counted)
    pretrain(replace(asking(teacher), epochs=3), corpus, tmp_path)
    assert len(asked) == 1
    assert Embedder.from_pretrained(teacher).fingerprint == before
    assert json.loads((tmp_path / "facts.json").read_text())["teacher"] == before


def test_a_broken_run_ends_with_the_same_bits(corpus, teacher, tmp_path):
    config = replace(asking(teacher), epochs=4, save_every_updates=3)
    pretrain(config, corpus, tmp_path / "unbroken")

    def stop(entry):
        if entry["update"] == 13:  # in the second epoch, after its first checkpoint
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(config, corpus, tmp_path / "run", on_log=stop)
    pretrain(config, corpus, tmp_path / "run")
    assert plans(tmp_path / "run") == plans(tmp_path / "unbroken")
    assert weights(tmp_path / "run") == weights(tmp_path / "unbroken")


def test_two_processes_plan_as_one_does(corpus, teacher, tmp_path):
    config = asking(teacher)
    pretrain(config, corpus, tmp_path / "one")

    def work(world):
        pretrain(config, corpus, tmp_path / "two", world=world)
        return 0

    on_two_ranks(work, tmp_path)
    assert plans(tmp_path / "two") == plans(tmp_path / "one")


def test_another_teacher_does_not_continue_the_run(corpus, teacher, tmp_path):
    replaced = tmp_path / "teacher"
    Embedder.from_pretrained(teacher).save_pretrained(replaced)
    pretrain(asking(replaced), corpus, tmp_path / "run")
    pretrain(asking(teacher), corpus, tmp_path / "run")  # the same, from another place
    Embedder(VideoCLIP(tiny_config().model), tokenizer()).save_pretrained(replaced)
    with pytest.raises(ConfigError, match=r"teacher: .* -> "):
        pretrain(asking(replaced), corpus, tmp_path / "run")
    with pytest.raises(ConfigError, match=r'teacher: "\w+" -> null'):
        pretrain(tiny_config(plan=MINED), corpus, tmp_path / "run")


def save(folder, vocabulary=None, **changes):
    model = VideoCLIP(replace(tiny_config().model, **changes))
    Embedder(model, vocabulary or tokenizer()).save_pretrained(folder)
    return folder


def test_a_teacher_that_does_not_fit_is_refused_before_anything_is_written(corpus, tmp_path):
    reordered = Tokenizer([*tokenizer().word_pieces[:4], *reversed(tokenizer().word_pieces[4:])])
    for error, message, folder in (
        (CheckpointError, "plan.teacher .*none", tmp_path / "none"),
        (IndexMismatchError, r"plan.teacher .*s3d", save(tmp_path / "a", backbone="s3d")),
        (ConfigError, "another vocabulary", save(tmp_path / "b", reordered)),
        (
            ConfigError,
            r"4 video tokens.*clips.max_video_seconds.* 8",
            save(tmp_path / "c", max_video_tokens=4),
        ),
        (
            ConfigError,
            r"12 text tokens.*model.max_text_tokens.* 16",
            save(tmp_path / "d", max_text_tokens=12),
        ),
    ):
        with pytest.raises(error, match=message):
            pretrain(asking(folder), corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_plans_that_ask_nobody_refuse_a_teacher():
    with pytest.raises(ConfigError, match=r"plan.teacher .*'shuffled' does not use"):
        PlanConfig(kind="shuffled", teacher="starter")
