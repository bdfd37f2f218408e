"""`videoclip pretrain` as a user runs it, on made-up features; two machines started by script."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from tests import tiny_dual_encoders
from tests.make_video import numbered_picture, write_video
from tests.training.tiny_corpus import SPEC, THINGS, tokenizer
from tests.two_ranks import free_port
from videoclip.cli import main
from videoclip.data.feature_store import FeatureStore
from videoclip.embedding import Embedder
from videoclip.training import pretrain as pretraining

OPTIONS = {
    "model.feature-dim": SPEC.dim,
    "model.backbone": SPEC.backbone,
    "model.hidden-size": 16,
    "model.num-heads": 2,
    "model.num-video-layers": 1,
    "model.num-text-layers": 1,
    "model.intermediate-size": 16,
    "model.vocab-size": 18,
    "model.cls-id": 2,
    "model.sep-id": 3,
    "plan.videos-per-batch": 4,
    "epochs": 2,
    "precision": "fp32",
}
LETHAL = """
import os, signal, time
from videoclip.training.trainer import Trainer

step, once = Trainer.step, os.environ["ONCE"]

def lethal(self, batch):
    if self.world.rank == 1 and self.position.update == 2 and not os.path.exists(once):
        open(once, "w").close()
        while not os.path.exists(os.environ["SAVED"]):  # rank 0 may still be writing it
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch)

Trainer.step = lethal
"""
"""A `sitecustomize` module: in one of two processes the third update kills it, once."""
SCRIPT = Path(__file__).parents[2] / "examples" / "launch_multi_node.sh"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with subtitles, a store with features and a vocabulary."""
    folder, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(0)
    tokenizer().save(folder)
    (folder / "videos").mkdir()
    with FeatureStore.create(folder / "store", SPEC) as store:
        for thing in THINGS:
            store.append(thing, rng.normal(size=(30, SPEC.dim)).astype(np.float16))
            if thing != "tea":
                cues = [
                    f"00:00:{s:02d}.000 --> 00:00:{s + 4:02d}.000\nnow the {thing}\n"
                    for s in range(0, 25, 5)
                ]
                path = folder / "videos" / f"{thing}.vtt"
                path.write_text("WEBVTT\n\n" + "\n".join(cues))
    return folder


@pytest.fixture(autouse=True)
def without_page(request, monkeypatch):
    """Draw no page of a run, which takes longer than a tiny run, but in the test about it."""
    if request.function is not test_a_run_from_folder_to_model:
        monkeypatch.setattr(pretraining, "_run_page", lambda *_: None)


def arguments(world, out, *more):
    places = ["--data", world / "videos", "--features", world / "store", "--out", out]
    vocabulary = ["--vocabulary", world / "vocab.txt"]
    options = [part for name, value in OPTIONS.items() for part in (f"--{name}", value)]
    return [str(a) for a in ("pretrain", "tiny", *places, *vocabulary, *options, *more)]


def test_a_run_from_folder_to_model(world, tmp_path, capsys):
    assert main(arguments(world, tmp_path / "run", "--validation-videos", "3", "--json")) == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert result["num_updates"] == 4 and 0 <= result["after"]["text-to-video R@1"] <= 1
    assert "left out: tea has no subtitles" in output.err
    assert result["after"]["text-to-video R@1 low"] <= result["after"]["text-to-video R@1 high"]
    assert Embedder.from_pretrained(tmp_path / "run" / "model").config.hidden_size == 16
    page = (tmp_path / "run" / "index.html").read_text()
    assert "“now the " in page and "data:image/jpeg" in page and "<th>after</th>" in page
    assert "clips of videos that were held out" in page
    # The same command once more has nothing to do; another setting is another run.
    assert main(arguments(world, tmp_path / "run", "--validation-videos", "3")) == 0
    row = capsys.readouterr().out.splitlines()[3]
    assert re.fullmatch(r"text-to-video R@1( +\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]){2}", row), row
    assert main(arguments(world, tmp_path / "run", "--validation-videos", "2")) == 1
    assert "validation_videos: 3 -> 2" in capsys.readouterr().err


def caption_file(folder):
    """What the subtitles say, as HowTo100M has it, with a video nobody has features of."""
    starts = [float(s) for s in range(0, 25, 5)]
    spans = {"start": starts, "end": [s + 4 for s in starts]}
    said = {t: spans | {"text": [f"now the {t}"] * 5} for t in (*THINGS, "unseen") if t != "tea"}
    path = folder / "raw_caption.json"
    path.write_text(json.dumps(said))
    return path


def test_a_caption_file_and_imported_features_train_as_subtitles_do(world, tmp_path, capsys):
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    store = FeatureStore.open(world / "store")
    for thing in THINGS:
        np.save(arrays / f"{thing}.mp4.npy", store.read(thing))
    convert = ["convert", str(arrays), str(tmp_path / "store"), "--backbone", SPEC.backbone]
    assert main([*convert, "--json"]) == 0
    capsys.readouterr()
    assert main(convert) == 0
    assert "12 videos, 16 wide; 0 videos are new" in capsys.readouterr().out
    imported = ["--features", str(tmp_path / "store")]
    assert main([*arguments(world, tmp_path / "subtitles"), *imported]) == 0
    captions = ["--data", str(caption_file(tmp_path))]
    assert main([*arguments(world, tmp_path / "captions"), *imported, *captions]) == 0
    assert "left out: tea has no words" in capsys.readouterr().err
    trained = [tmp_path / run / "model" / "model.safetensors" for run in ("subtitles", "captions")]
    assert trained[0].read_bytes() == trained[1].read_bytes()


def test_a_caption_file_alone_says_what_it_lacks(world, tmp_path, capsys):
    data = str(caption_file(tmp_path))
    assert main(["pretrain", "tiny", "--data", data, "--out", str(tmp_path / "run")]) == 1
    assert "has no videos: name the store of their features, --features" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_starts_from_a_model(world, tmp_path, capsys):
    assert main(arguments(world, tmp_path / "first")) == 0
    start = str(tmp_path / "first" / "model")
    more = ("--model.max-positions", "512", "--init-from", start)
    assert main(arguments(world, tmp_path / "second", *more)) == 0
    facts = json.loads((tmp_path / "second" / "facts.json").read_text())
    assert facts["init_from"] != "random"


def test_a_run_is_replayed_from_its_config(world, tmp_path, capsys):
    assert main(arguments(world, tmp_path / "first", "--seed", "5")) == 0
    config = tmp_path / "first" / "config.json"
    places = arguments(world, tmp_path / "again")[2:10]
    assert main(["pretrain", "--config", str(config), *places]) == 0
    weights = [tmp_path / run / "model" / "model.safetensors" for run in ("first", "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert config.read_text() == (tmp_path / "again" / "config.json").read_text()


def test_the_config_is_printed_without_anything_else(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", "small", "--print-config", "--optim.lr", "0.25"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    config = json.loads(text)
    assert config["optim"]["lr"] == 0.25 and config["name"] == "small"
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(SystemExit):
        main(["pretrain", "--config", str(path), "--print-config"])
    assert capsys.readouterr().out == text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 99}, "has config version 99, and this videoclip reads version 1"),
        ({"unheard_of": 1}, "unknown setting 'unheard_of'"),
        ({"clips": {"text_capacity": 61}}, "unknown setting 'clips.text_capacity'"),
    ],
)
def test_a_config_of_another_version_is_one_line(tmp_path, capsys, changes, words):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"version": 1, **changes}))
    assert main(["pretrain", "--config", str(path), "--data", "x", "--out", "y"]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and str(path) in error
    assert main(["pretrain", "--config", str(tmp_path / "none"), "--data", "x", "--out", "y"]) == 1
    assert "cannot read the config of a run" in capsys.readouterr().err


def test_a_finished_run_is_extended_on_request(world, tmp_path, capsys):
    assert main(arguments(world, tmp_path)) == 0
    more = arguments(world, tmp_path, "--epochs", "3")
    assert main(more) == 1
    assert "epochs: 2 -> 3" in capsys.readouterr().err
    assert main([*more, "--extend", "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["num_updates"] == 9
    assert "extending from 2 to 3 epochs: from update 6 on" in output.err


def test_nothing_to_learn_from_is_said(world, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    command = arguments(world, tmp_path / "run", "--data", str(tmp_path / "empty"))
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "left out: 7 more" in error and "no video here has both" in error


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "recipes:"),
        (["--help"], 0, "crossmodal"),
        (["tinny", "--data", "x"], 2, "perhaps you meant 'tiny'"),
        (["xyz"], 2, "known: paper"),
        (["tiny", "--data", "x", "--out", "y", "--optim.lrr", "1"], 2, "--optim.lr"),
    ],
)
def test_wrong_usage_is_answered_with_what_is_near(arguments, status, words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["pretrain", *arguments])
    output = capsys.readouterr()
    assert caught.value.code == status and words in output.out + output.err


def test_a_setting_without_sense_is_one_line(world, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments(world, tmp_path, "--optim.lr", "-1"))
    error = capsys.readouterr().err
    prog = "videoclip pretrain tiny"
    assert error == f"{prog}: error: optim.lr must be positive; see {prog} --help\n"


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [("model.feature-dim", 7, "16"), ("model.features-per-second", 0.5, "0.5")],
)
def test_a_store_of_another_kind_is_refused_before_anything_is_written(
    world, tmp_path, capsys, option, value, words
):
    assert main(arguments(world, tmp_path / "run", f"--{option}", str(value))) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 + error.count("left out") and words in error, error
    assert not (tmp_path / "run").exists()


def environment(**more):
    """For the launcher: a free port to meet at, and this interpreter's torchrun."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    fixed = {"PATH": path, "MAIN": f"127.0.0.1:{free_port()}", "OMP_NUM_THREADS": "1"}
    return os.environ | fixed | more


@pytest.mark.slow
def test_two_machines_started_by_the_script_share_a_run(world, tmp_path):
    command = [str(SCRIPT), *arguments(world, tmp_path / "run", "--loss.negatives", "global")[1:]]
    variables = environment(NODES="2")
    nodes = [subprocess.Popen(command, env=variables) for _ in range(2)]
    assert [node.wait(timeout=300) for node in nodes] == [0, 0]
    facts = json.loads((tmp_path / "run" / "facts.json").read_text())
    assert facts["processes"] == 2
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("restarts", [0, 1])
def test_a_rank_that_is_killed_ends_the_run_and_a_restart_completes_it(world, tmp_path, restarts):
    """The restart is the user's, the same command again, or the launcher's own."""
    (tmp_path / "sitecustomize.py").write_text(LETHAL)
    more = ("--save-every-updates", "1", "--plan.videos-per-batch", "2")
    command = [str(SCRIPT), *arguments(world, tmp_path / "run", *more)[1:]]
    saved = tmp_path / "run" / "checkpoints" / "update-000002" / "COMPLETE"
    lethal = {"PYTHONPATH": str(tmp_path), "ONCE": str(tmp_path / "once"), "SAVED": str(saved)}
    variables = environment(GPUS="2", RESTARTS=str(restarts), **lethal)
    first = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
    assert (tmp_path / "once").exists()
    assert (first.returncode == 0) == bool(restarts), first.stderr
    if not restarts:
        assert list((tmp_path / "run" / "checkpoints").glob("*/COMPLETE"))
        subprocess.run(command, env=variables, check=True, timeout=300)
    else:
        assert "continuing" in first.stderr and "at update 2" in first.stderr
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


@pytest.mark.slow
def test_a_backbone_is_trained_along_on_frames(world, tmp_path, capsys):
    pytest.importorskip("transformers")
    from tests.features.tiny_image_models import resnet, save

    model, processor, dim = resnet()
    resnet_folder = save(model, processor, tmp_path / "resnet")
    videos = tmp_path / "videos"
    shutil.copytree(world / "videos", videos)
    for i, thing in enumerate(THINGS[:4]):
        pictures = [numbered_picture(100 * i + second) for second in range(26)]
        write_video(videos / f"{thing}.mp4", pictures, rate=1)
    changes = {
        "model.backbone": f"image:{resnet_folder}",
        "model.feature-dim": dim,
        "clips.clips-per-video": 2,
        "optim.warmup-updates": 0,
        "epochs": 1,
    }
    options = [p for name, value in {**OPTIONS, **changes}.items() for p in (f"--{name}", value)]
    places = ["--data", videos, "--out", tmp_path / "run", "--vocabulary", world / "vocab.txt"]
    command = ["pretrain", "tiny", *places, "--train-backbone", *options, "--json"]
    assert main([str(part) for part in command]) == 0
    output = capsys.readouterr()
    assert "frames of 4 videos go to" in output.err
    folder = Path(json.loads(output.out)["model_folder"])
    embedder = Embedder.from_pretrained(folder)
    assert embedder.embed_video(videos / "egg.mp4").tokens.shape == (26, 16)
    before = (resnet_folder / "model.safetensors").read_bytes()
    assert (folder / "backbone" / "model.safetensors").read_bytes() != before


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder of two short videos, one of them narrated."""
    folder = tmp_path_factory.mktemp("clips")
    for i, name in enumerate(("egg", "pan")):
        write_video(folder / f"{name}.mp4", [numbered_picture(9 * i + s) for s in range(5)], rate=1)
    (folder / "egg.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:03.000\nnow the egg is boiled\n")
    return folder


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--model.feature-dim", "7"], "width 1295, not 7"),
        (["--model.vocab-size", "30521"], "word pieces"),
        (["--plan.teacher", "nowhere"], "plan.teacher nowhere"),
        (["--init-from", "starter"], "the model to start from has other settings"),
        (["--validation-videos", "1"], "cannot hold out 1 of 1 videos"),
    ],
)
def test_what_is_refused_is_refused_before_features_are_computed(
    clips, tmp_path, capsys, more, words
):
    command = ["pretrain", "tiny", "--data", clips, "--out", tmp_path / "run", *more]
    assert main([str(part) for part in command]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_changed_run_is_refused_before_features_are_computed(world, clips, tmp_path, capsys):
    assert main(arguments(world, tmp_path / "run")) == 0
    capsys.readouterr()
    command = ["pretrain", "tiny", "--data", str(clips), "--out", str(tmp_path / "run")]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "epochs: 2 -> 10" in error and error.count("\n") == 1
    assert not (tmp_path / "run" / "features").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nodir", "nodir: no such file"),
        ("empty", "empty: no videos in this folder"),
        ("silent", "silent: none of the 1 videos has subtitles beside it"),
    ],
)
def test_a_folder_to_learn_nothing_from_is_one_line(clips, tmp_path, capsys, name, words):
    for folder in ("empty", "silent"):
        (tmp_path / folder).mkdir()
    shutil.copy(clips / "pan.mp4", tmp_path / "silent")
    command = ["pretrain", "tiny", "--data", tmp_path / name, "--out", tmp_path / "run"]
    assert main([str(part) for part in command]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_workers")
def test_learning_starts_from_a_dual_encoder_without_naming_a_recipe(clips, tmp_path, capsys):
    tiny_dual_encoders.save("clip", tmp_path / "clip")
    run = tmp_path / "run"
    command = ["pretrain", "--init-from", tmp_path / "clip", "--data", clips, "--out", run]
    options = ["--epochs", "2", "--validation-share", "0", "--json"]
    assert main([*map(str, command), *options]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["kept"]["share"] == 1 and result["kept"]["num_videos"] == 0
    config = json.loads((run / "model" / "config.json").read_text())
    assert config["dual_encoder"] == "../../clip" and config["backbone"] == "image:../../clip"
    assert "network" not in " ".join(load_file(run / "model" / "model.safetensors"))
    start = Embedder.from_pretrained(tmp_path / "clip")
    learned = Embedder.from_pretrained(run / "model")
    assert learned.config.dual_encoder_fingerprint == start.config.dual_encoder_fingerprint
    frames = np.zeros((2, 40, 40, 3), np.uint8)
    before, after = (e.embed_frames(frames, 1.0).tokens for e in (start, learned))
    np.testing.assert_allclose(after, before, atol=1e-4)  # black frames were not learned
    texts = ["now the egg is boiled"]
    assert not np.array_equal(learned.embed_text(texts), start.embed_text(texts))


def test_one_narrated_clip_has_no_retrieval_and_the_reason_is_printed(clips, tmp_path, capsys):
    folder, run = tmp_path / "videos", tmp_path / "run"
    folder.mkdir()
    for name in ("egg.mp4", "egg.vtt"):
        shutil.copy(clips / name, folder)
    command = ["pretrain", "starter", "--data", str(folder), "--out", str(run), "--epochs", "1"]
    assert main(command) == 0
    output = capsys.readouterr()
    assert "no retrieval before and after training: 0.2 of 1 narrated videos is less" in output.err
    assert "before" not in output.out
    # Features of other videos in the same run folder are no part of what is trained on.
    shutil.copy(clips / "pan.mp4", folder)
    (folder / "pan.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:03.000\nnow the pan\n")
    assert main([*command, "--json"]) == 1
    assert "data.videos: 1 -> 2" in capsys.readouterr().err
    for name in ("pan.mp4", "pan.vtt"):
        (folder / name).unlink()
    assert main(command) == 0
    error = capsys.readouterr().err
    assert "is complete" in error and "left out" not in error


def test_the_config_of_a_model_is_not_one_of_a_run(world, tmp_path, capsys):
    assert main(arguments(world, tmp_path / "run")) == 0
    config = tmp_path / "run" / "model" / "config.json"
    for path in (config, config.parent):
        assert main(["pretrain", "--config", str(path), "--data", "x", "--out", "y"]) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert f"{config}: this is the config of a model" in error and "--print-config" in error


def test_extending_to_the_same_epochs_says_what_to_raise(world, tmp_path, capsys):
    assert main(arguments(world, tmp_path)) == 0
    capsys.readouterr()
    assert main(arguments(world, tmp_path, "--extend")) == 0
    assert "update 6; to extend it, raise --epochs above 2" in capsys.readouterr().err
