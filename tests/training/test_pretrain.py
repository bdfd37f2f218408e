"""Pre-training as a whole: it learns, continues where it was, and refuses what it should."""

import errno
import functools
import json
import os
import random
import signal
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import multiprocessing
from torch.multiprocessing.spawn import ProcessExitedException

from tests.library.colours import ColourBackbone, write_video
from tests.training.broken_runs import Broken, break_off_at
from tests.training.tiny_corpus import THINGS, tiny_config, tiny_corpus, tokenizer
from tests.two_ranks import on_two_ranks
from videoclip.config import LossConfig, PlanConfig
from videoclip.data.captions import Cue, clean_cues
from videoclip.data.frame_store import FrameSpec
from videoclip.data.tokenizer import Tokenizer
from videoclip.distributed import World
from videoclip.embedding import Embedder
from videoclip.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    IndexMismatchError,
    VideoCLIPError,
)
from videoclip.features.frame_encoder import FrameEncoder
from videoclip.files import verify_checksums
from videoclip.model import hub
from videoclip.model.videoclip import VideoCLIP
from videoclip.training import pretrain as module
from videoclip.training.run_folder import Position, RunFolder, read_log
from videoclip.training.trainer import Trainer

pretrain = functools.partial(module.pretrain, tokenizer=tokenizer())
RETRIEVAL = PlanConfig(
    kind="retrieval", videos_per_batch=3, num_neighbours=6, first_epoch=2, clips_per_vector=2
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("store"))


def recall(corpus):
    """How often a thing's name finds the video about it first."""

    def evaluate(embedder):
        names = embedder.embed_text(list(THINGS))
        videos = [
            embedder.embed_windows(corpus.store.read(v.video_id), [(0, 8)])[0] for v in corpus
        ]
        found = (names @ np.stack(videos).T).argmax(axis=1)
        return {"R@1": float((found == np.arange(len(THINGS))).mean())}

    return evaluate


def weights(folder):
    return (folder / "model" / "model.safetensors").read_bytes()


def losses(folder):
    return [entry["loss"] for entry in read_log(folder) if "loss" in entry]


def test_a_dozen_videos_are_learned_by_heart(corpus, tmp_path):
    config = tiny_config(epochs=60, seed=0)
    config = replace(
        config,
        clips=replace(config.clips, clips_per_video=1),
        plan=PlanConfig(kind="shuffled", videos_per_batch=12, num_neighbours=12),
        optim=replace(config.optim, lr=5e-3),
    )
    result = pretrain(config, corpus, tmp_path, evaluate=recall(corpus), show_progress=False)
    assert result.before["R@1"] < 0.5 and result.after["R@1"] == 1.0
    assert result.num_updates == 60 and result.loss < 0.1
    assert recall(corpus)(Embedder.from_pretrained(result.model_folder)) == result.after
    card = (result.model_folder / "README.md").read_text()
    assert "`test`: 60 updates in 60 epochs, seed 0" in card and "videos: 12" in card
    # Once more: nothing is left to do, and the answer is the same.
    again = pretrain(
        config, corpus, tmp_path, evaluate=lambda _: {"R@1": -1.0}, show_progress=False
    )
    assert again == result


def test_the_log_has_a_line_for_each_update(corpus, tmp_path, capsys):
    result = pretrain(tiny_config(validation_videos=4), corpus, tmp_path)
    log = read_log(tmp_path)
    steps = [entry for entry in log if "loss" in entry]
    assert [entry["update"] for entry in steps] == [1, 2, 3, 4]
    assert {"lr", "grad_norm", "pairs_per_second", "tokens_per_second", "flops_per_second",
            "peak_share", "wait_share"} < steps[0].keys()  # fmt: skip
    assert log[-1]["validation_loss"] == result.validation_loss
    output = capsys.readouterr()
    assert output.out == "" and "GFLOP/s" in output.err and "validation loss" in output.err


@pytest.mark.parametrize("kind", ["consecutive", "retrieval", "mined"])
def test_every_kind_of_plan_is_kept_and_counts_the_updates(corpus, tmp_path, kind):
    config = tiny_config(plan=replace(RETRIEVAL, kind=kind, videos_per_batch=5))
    result = pretrain(config, corpus, tmp_path, show_progress=False)
    plans = [json.loads(path.read_text())["groups"] for path in sorted(tmp_path.glob("plans/*"))]
    assert result.num_updates == sum(map(len, plans)) == (5 if kind == "retrieval" else 6)


def unbroken(config, corpus, folder):
    pretrain(config, corpus, folder, show_progress=False)
    return weights(folder)


def test_a_run_that_is_killed_at_any_moment_ends_with_the_same_bits(corpus, tmp_path):
    config = tiny_config(
        epochs=6,
        plan=RETRIEVAL,
        clips=replace(tiny_config().clips, learn_lead=True),
        loss=LossConfig(ignore_overlapping=True, seconds_weight=1.0),
        optim=replace(tiny_config().optim, ema_decay=0.9, text_lr_scale=0.5, schedule="cooldown"),
        save_every_updates=2,
        validation_videos=2,
        chunk_pairs=4,
    )
    expected = unbroken(config, corpus, tmp_path / "unbroken")
    fork, patience = multiprocessing.get_context("fork"), random.Random()

    def run(on_log=None):
        return fork.Process(
            target=pretrain,
            args=(config, corpus, tmp_path / "run"),
            kwargs={"on_log": on_log, "show_progress": False},
        )

    def die(entry):  # once at a known moment: a fast machine may be done before the others
        if entry.get("update") == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    child = run(die)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    for moment in (*(patience.uniform(0.1, 0.8) for _ in range(3)), None):
        child = run()
        child.start()
        child.join(moment)
        if child.exitcode is None:
            os.kill(child.pid, signal.SIGKILL)
        child.join()
    assert child.exitcode == 0
    assert weights(tmp_path / "run") == expected
    assert losses(tmp_path / "run") == losses(tmp_path / "unbroken")


def test_workers_change_nothing(corpus, tmp_path):
    alone = unbroken(tiny_config(), corpus, tmp_path / "alone")
    assert unbroken(tiny_config(num_workers=2), corpus, tmp_path / "workers") == alone


def test_watching_a_run_changes_nothing(corpus, tmp_path):
    alone = unbroken(tiny_config(), corpus, tmp_path / "alone")
    entries = []

    def evaluate(embedder):
        assert not embedder.model.training
        torch.manual_seed(7)
        return {"norm": float(np.linalg.norm(embedder.embed_text(["a ball"])))}

    watched = {"evaluate": evaluate, "on_log": entries.append, "show_progress": True}
    pretrain(tiny_config(), corpus, tmp_path / "watched", **watched)
    assert weights(tmp_path / "watched") == weights(tmp_path / "alone") == alone
    assert sum("evaluation" in entry for entry in entries) == 2
    assert [e["loss"] for e in entries if "loss" in e] == losses(tmp_path / "alone")


def test_other_settings_data_or_start_are_refused(corpus, tmp_path):
    config = tiny_config()
    pretrain(config, corpus, tmp_path, show_progress=False)
    with pytest.raises(ConfigError, match=r"optim.lr: 0.003 -> 0.1"):
        pretrain(replace(config, optim=replace(config.optim, lr=0.1)), corpus, tmp_path)
    other = tiny_corpus(corpus.store.folder, num_videos=11)
    with pytest.raises(ConfigError, match=r"data.features fingerprint.*data.videos: 12 -> 11"):
        pretrain(config, other, tmp_path)
    with pytest.raises(ConfigError, match="init_from"):
        pretrain(config, corpus, tmp_path, init_from=VideoCLIP(config.model))
    zebra = Tokenizer([*tokenizer().word_pieces[:-1], "zebra"])
    with pytest.raises(ConfigError, match="vocabulary"):
        pretrain(config, corpus, tmp_path, tokenizer=zebra)


def test_a_run_on_two_processes_continues_on_one(corpus, tmp_path, capfd):
    plan = replace(tiny_config().plan, kind="shuffled", videos_per_batch=3)
    config = tiny_config(epochs=2, save_every_updates=1, plan=plan)
    out = tmp_path / "run"

    def work(world):
        with suppress(Broken):
            pretrain(config, corpus, out, world=world, on_log=break_off_at(2), show_progress=False)
        os._exit(1)  # the other process waits for this one

    with pytest.raises(ProcessExitedException):
        on_two_ranks(work, tmp_path)
    capfd.readouterr()
    result = pretrain(config, corpus, out)
    # One update of two batches is done; two batches of this epoch and four of the next are left.
    assert result.num_updates == 7
    told = capfd.readouterr().err
    assert "on 1 processes instead of 2: an update has 0.5 times as many pairs, 6 updates" in told
    assert [entry["update"] for entry in read_log(out) if "loss" in entry] == list(range(1, 8))
    assert pretrain(config, corpus, out).num_updates == 7
    assert "is complete: update 7" in capfd.readouterr().err


def test_a_place_in_the_plan_does_not_depend_on_the_number_of_processes():
    place = Position(update=5, epoch=2, batch=6, processes=4)
    assert place.on(4) == place
    assert place.on(8) == replace(place, batch=3, processes=8)
    assert place.on(5) == replace(place, batch=5, processes=5)  # 24 batches of 25
    assert replace(place, processes=0).on(2) == replace(place, processes=2)


def test_a_given_model_is_where_training_starts(corpus, tmp_path):
    config = tiny_config(frozen=("text_encoder.",))
    start = VideoCLIP(config.model)
    words = start.text_encoder.bert.word_embeddings.weight.clone()
    look = start.video_encoder.mlp.linear1.weight.clone()
    result = pretrain(config, corpus, tmp_path, init_from=start, show_progress=False)
    trained = VideoCLIP.from_pretrained(result.model_folder)
    assert torch.equal(trained.text_encoder.bert.word_embeddings.weight, words)
    assert not torch.equal(trained.video_encoder.mlp.linear1.weight, look)
    with pytest.raises(ConfigError, match=r"other settings: hidden_size: 32 -> 16"):
        other = VideoCLIP(replace(config.model, hidden_size=16))
        pretrain(config, corpus, tmp_path / "other", init_from=other)


def test_features_of_another_kind_are_refused_before_anything_is_written(corpus, tmp_path):
    config = tiny_config()
    config = replace(config, model=replace(config.model, backbone="s3d"))
    with pytest.raises(IndexMismatchError, match="s3d"):
        pretrain(config, corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_holding_out_everything_is_refused(corpus, tmp_path):
    with pytest.raises(DataError, match=r"hold out 12 of 12"):
        pretrain(tiny_config(validation_videos=12), corpus, tmp_path)


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_the_checkpoint(corpus, tmp_path):
    config = tiny_config(save_every_updates=1)
    broken = VideoCLIP(config.model)
    with torch.no_grad():
        broken.video_encoder.mlp.linear1.weight[0, 0] = float("nan")
    with pytest.raises(VideoCLIPError, match=r"update 1: the loss is nan.*optim\.lr"):
        pretrain(config, corpus, tmp_path, init_from=broken, show_progress=False)
    assert not list(tmp_path.glob("checkpoints/*"))


def test_a_full_disk_stops_the_run_and_the_same_call_continues(corpus, tmp_path, monkeypatch):
    config = tiny_config(save_every_updates=1)
    expected = unbroken(config, corpus, tmp_path / "unbroken")
    save, calls = hub.save_model, []

    def third_is_full(model, folder, *others):
        calls.append(folder)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(model, folder, *others)

    monkeypatch.setattr(hub, "save_model", third_is_full)
    with pytest.raises(CheckpointError, match=r"No space left.*update 2 is intact"):
        pretrain(config, corpus, tmp_path / "run", show_progress=False)
    assert unbroken(config, corpus, tmp_path / "run") == expected


def test_two_processes_learn_together_and_continue_together(corpus, tmp_path):
    config = tiny_config(
        epochs=4,
        plan=replace(RETRIEVAL, videos_per_batch=2, num_neighbours=4),
        loss=LossConfig(negatives="global"),
        validation_videos=2,
        save_every_updates=3,
    )

    def work(world):
        result = pretrain(config, corpus, tmp_path / "run", world=world, show_progress=False)
        return {"loss": result.loss, "updates": result.num_updates}

    answers = on_two_ranks(work, tmp_path)
    assert answers[0]["updates"] == 8  # five batches an epoch make two steps of two
    first = weights(tmp_path / "run")
    newest = max((tmp_path / "run" / "checkpoints").iterdir(), key=lambda path: path.name)
    (newest / "COMPLETE").unlink()
    on_two_ranks(work, tmp_path)
    assert weights(tmp_path / "run") == first


@pytest.mark.parametrize("what", ["lr", "seed", "data"])
def test_processes_that_were_started_differently_say_so_everywhere(corpus, tmp_path, what):
    config = tiny_config()

    def work(world):
        mine, videos = config, corpus
        if world.rank == 1:
            optim = replace(config.optim, lr=0.1)
            mine = {"lr": replace(config, optim=optim), "seed": replace(config, seed=7)}.get(
                what, config
            )
            videos = corpus.select(range(9)) if what == "data" else corpus
        try:
            pretrain(mine, videos, tmp_path / "run", world=world)
        except ConfigError as error:
            return str(error)

    said = on_two_ranks(work, tmp_path)
    assert said[0] == said[1]
    assert "rank 1 has other settings than rank 0" in said[0]
    expected = {"lr": "optim.lr: 0.003 -> 0.1", "seed": "seed: 1 -> 7", "data": "videos: 12 -> 9"}
    assert expected[what] in said[0]


@pytest.mark.parametrize("place", ["log", "plan_path"])
def test_a_disk_that_is_full_elsewhere_is_one_line_too(corpus, tmp_path, monkeypatch, place):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RunFolder, place, full)
    with pytest.raises(CheckpointError, match=r"cannot write there \(.*No space left"):
        pretrain(tiny_config(), corpus, tmp_path, show_progress=False)


def test_a_finished_run_trains_on_with_the_same_data_only(corpus, tmp_path, capsys):
    config = tiny_config(optim=replace(tiny_config().optim, warmup_updates=1))
    pretrain(config, corpus, tmp_path, show_progress=False)
    longer = replace(config, epochs=4)
    with pytest.raises(ConfigError, match=r"epochs: 2 -> 4.*more epochs, extend it"):
        pretrain(longer, corpus, tmp_path)
    with pytest.raises(ConfigError, match=r"data.videos: 12 -> 9"):
        pretrain(longer, corpus.select(range(9)), tmp_path, extend=True)
    with pytest.raises(ConfigError, match=r"optim.lr"):
        other = replace(longer, optim=replace(config.optim, lr=1.0))
        pretrain(other, corpus, tmp_path, extend=True)
    first = losses(tmp_path)
    result = pretrain(longer, corpus, tmp_path, extend=True)
    assert result.num_updates == 8 and losses(tmp_path)[:4] == first
    log = [entry for entry in read_log(tmp_path) if "loss" in entry]
    assert log[4]["lr"] > log[3]["lr"]  # the cosine of eight updates is not at its end yet
    assert f"(0 -> {log[4]['lr']:.2g})" in capsys.readouterr().err
    # Once more with the same request: it is complete.
    assert pretrain(longer, corpus, tmp_path, extend=True, show_progress=False) == result


def test_an_unfinished_run_cannot_be_extended(corpus, tmp_path):
    def stop(entry):
        if entry["update"] == 3:
            raise KeyboardInterrupt

    config = tiny_config(save_every_updates=1)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, corpus, tmp_path, on_log=stop, show_progress=False)
    with pytest.raises(ConfigError, match="only a finished run can be extended: finish its 2"):
        pretrain(replace(config, epochs=4), corpus, tmp_path, extend=True)


def test_checkpoints_are_saved_by_time_too_and_change_nothing(corpus, tmp_path):
    config = tiny_config(epochs=2, plan=replace(RETRIEVAL, kind="shuffled"), keep_checkpoints=99)
    expected = unbroken(config, corpus, tmp_path / "seldom")
    often = replace(config, save_every_seconds=1e-9)
    assert unbroken(often, corpus, tmp_path / "often") == expected
    counts = [len(list(tmp_path.glob(f"{run}/checkpoints/*"))) for run in ("seldom", "often")]
    assert counts == [1, 8]
    # The interval may change: it decides nothing but how much is lost.
    pretrain(often, corpus, tmp_path / "seldom", show_progress=False)


def test_two_processes_agree_on_when_to_save(corpus, tmp_path):
    def work(world):
        # What the other processes think does not count.
        config = tiny_config(keep_checkpoints=99, plan=replace(RETRIEVAL, kind="shuffled"))
        interval = 1e-9 if world.on_main else 1e9
        saved, save = [], Trainer.step

        def step(trainer, *batches):
            report = save(trainer, *batches)
            saved.append(trainer.save_due)
            return report

        Trainer.step = step
        config = replace(config, save_every_seconds=interval)
        pretrain(config, corpus, tmp_path / "run", world=world, show_progress=False)
        return saved

    assert on_two_ranks(work, tmp_path) == [[True] * 4] * 2


def test_ignored_settings_are_logged_at_the_start(corpus, tmp_path, caplog):
    plan = PlanConfig(kind="shuffled", videos_per_batch=6, drop_nearest=2)
    pretrain(tiny_config(plan=plan, epochs=1), corpus, tmp_path, show_progress=False)
    assert caplog.messages == ["plan.drop_nearest is ignored: it is for plan.kind 'mined'"]


def test_a_recipe_a_folder_and_a_run_are_enough(corpus, tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    for video in corpus:
        cues = [f"00:00:0{s}.000 --> 00:00:0{s + 2}.000\nnow the egg\n" for s in (0, 3, 6)]
        text = "WEBVTT\n\n" + "\n".join(cues)
        (tmp_path / "videos" / f"{video.video_id}.vtt").write_text(text)
    config = tiny_config(validation_videos=2)
    result = pretrain(
        config,
        data=tmp_path / "videos",
        out=tmp_path / "run",
        features=corpus.store,
        show_progress=False,
    )
    assert result.after["clips"] == 8 and capsys.readouterr().err == ""
    with pytest.raises(ConfigError, match="unknown recipe 'smal'; perhaps you meant 'small'"):
        pretrain("smal", corpus, tmp_path / "other")
    with pytest.raises(IndexMismatchError, match="made-up"):
        pretrain("small", corpus, tmp_path / "other")


def test_a_run_folder_that_is_a_file_is_one_line(corpus, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="Not a directory"):
        pretrain(tiny_config(), corpus, tmp_path / "file" / "run", show_progress=False)


def test_more_processes_than_batches_are_refused(corpus, tmp_path):
    with pytest.raises(ConfigError, match=r"2 batches,.* 3 processes"):
        pretrain(tiny_config(), corpus, tmp_path, world=World(0, 3))


def test_bf16_is_measured_once_and_remembered(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("videoclip.training.run.bf16_pays", lambda *_: True)
    pretrain(tiny_config(precision="auto"), corpus, tmp_path, show_progress=False)
    assert json.loads((tmp_path / "facts.json").read_text())["precision"] == "bf16"
    monkeypatch.setattr("videoclip.training.run.bf16_pays", None)  # not measured again
    pretrain(
        tiny_config(precision="auto"), corpus, tmp_path, show_progress=False
    )  # not measured again


def test_the_choice_of_how_to_compute_is_told_once_and_kept(corpus, tmp_path, capsys):
    pretrain(tiny_config(), corpus, tmp_path, show_progress=True)
    told = capsys.readouterr().err
    assert told.count("1 x cpu in fp32, torch.compile off; matmul peak") == 1
    pretrain(tiny_config(), corpus, tmp_path, show_progress=True)
    assert f"{tmp_path} is complete: update 4" in capsys.readouterr().err
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert (facts["precision"], facts["compiled"]) == ("fp32", False)


@pytest.mark.parametrize(("way", "compiled"), [("on", 1), ("off", 0), ("auto", 0)])
def test_towers_are_compiled_as_the_config_says(corpus, tmp_path, monkeypatch, way, compiled):
    models = []
    monkeypatch.setattr("videoclip.training.run.compile_towers", models.append)
    pretrain(tiny_config(compile=way, epochs=1), corpus, tmp_path, show_progress=False)
    assert len(models) == compiled
    assert json.loads((tmp_path / "facts.json").read_text())["compiled"] is bool(compiled)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of torch's own compiler
def test_compiled_towers_learn_the_same(corpus, tmp_path):
    model = replace(tiny_config().model, dropout=0.0)
    torch._dynamo.utils.counters.clear()
    found = {
        way: pretrain(
            tiny_config(model=model, compile=way), corpus, tmp_path / way, show_progress=False
        ).loss
        for way in ("on", "off")
    }
    assert found["on"] == pytest.approx(found["off"], rel=1e-4)
    # one graph serves both towers, which are of one size
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1


def test_the_model_folder_states_what_it_was_trained_on(corpus, tmp_path):
    config, scores = tiny_config(), iter([0.25, 0.75])
    result = pretrain(
        config,
        corpus,
        tmp_path / "run",
        show_progress=False,
        evaluate=lambda embedder: {"R@1": next(scores)},
    )
    assert (result.before, result.after) == ({"R@1": 0.25}, {"R@1": 0.75})
    assert verify_checksums(result.model_folder, hub.ADVICE) == [
        "config.json",
        "model.safetensors",
        "vocab.txt",
    ]
    model = VideoCLIP.from_pretrained(result.model_folder)
    assert model.config.backbone_fingerprint == corpus.store.spec.fingerprint
    card = (result.model_folder / "README.md").read_text()
    assert f"- videos: {len(corpus)}" in card
    assert f"`{config.name}`: {result.num_updates} updates" in card
    assert "- R@1: 0.75" in card and "0.25" not in card


@pytest.fixture
def odd_folder(tmp_path):
    """A folder of a video, a file that is none, and a link to nothing."""
    folder = tmp_path / "videos"
    write_video(folder / "good.mp4", ["red"] * 3)
    (folder / "bad.mp4").write_text("no video")
    (folder / "gone.mp4").symlink_to(tmp_path / "nowhere")
    return folder


def assert_both_are_listed(output):
    assert sorted(line.split(": ")[1].rpartition("/")[2] for line in output.splitlines()[1:]) == [
        "bad.mp4",
        "gone.mp4",
    ]
    assert output.count("left out: ") == 2 and "link" in output


@pytest.mark.usefixtures("no_workers")
def test_videos_whose_features_cannot_be_computed_are_listed(odd_folder, tmp_path, capsys):
    store = module._compute_features(odd_folder, tmp_path, ColourBackbone(), World(), True)
    assert store.video_ids == ["good"] and store.num_features("good") == 3
    assert_both_are_listed(capsys.readouterr().err)


def test_videos_whose_frames_cannot_be_stored_are_listed(odd_folder, tmp_path, capsys, monkeypatch):
    class Encoder(FrameEncoder):
        frames = FrameSpec(height=4, width=6, frames_per_second=1.0, resize="squash")

    monkeypatch.setattr(
        module, "store_frames", lambda videos, frames, _: {odd_folder / "bad.mp4": "not a video"}
    )
    encoder = object.__new__(Encoder)  # without a backbone
    module._compute_features(odd_folder, tmp_path, encoder, World(), True)
    assert_both_are_listed(capsys.readouterr().err)


def test_a_caption_file_is_cleaned_as_subtitles_are(tmp_path):
    rolling = {"start": [0, 2, 4], "end": [4, 6, 8], "text": ["we cut", "we cut\nit", "[Music]"]}
    (tmp_path / "captions.json").write_text(json.dumps({"b": rolling, "other": rolling}))
    store = SimpleNamespace(video_ids=["b", "a"])
    found = module._captions(tmp_path / "captions.json", store)
    assert list(found) == ["a", "b"] and found["a"] == ()
    cues = [Cue(s, e, t) for s, e, t in zip(*rolling.values(), strict=True)]
    assert list(found["b"]) == clean_cues(cues) != cues
