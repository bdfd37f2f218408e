"""Complete results of whole runs, of their parts, and of every message about them."""

import io
import json
import pickle
import re
import shutil
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from tests import approved
from tests.approved import outcome, summary
from tests.data.test_approved import write_shards
from tests.model.tiny_models import tiny_dual_encoder
from tests.training.broken_runs import Broken, break_off_at
from tests.training.labelled_world import labelled_world, open_validation, untrained
from tests.training.tiny_corpus import tiny_config, tiny_corpus, tokenizer
from tests.two_ranks import on_two_ranks
from videoclip.benchmarks.examples import (
    LabelledVideo,
    RetrievalExample,
    Segment,
    StepVideo,
    Task,
)
from videoclip.config import (
    ClipConfig,
    EvaluateConfig,
    LossConfig,
    OptimConfig,
    PlanConfig,
    to_dict,
)
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.data.narrated import NarratedCorpus
from videoclip.data.tokenizer import Tokenizer
from videoclip.distributed import World
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError, DataError
from videoclip.evaluation.held_out import RerankerWeight
from videoclip.features.frame_encoder import FrameEncoder
from videoclip.files import read_json
from videoclip.model.batch import Batch, PlacedBatch
from videoclip.model.encoders import residuals_of
from videoclip.model.transformer import BertEncoder
from videoclip.model.videoclip import VideoCLIP
from videoclip.recipes import FINETUNING, starter
from videoclip.training import logging, performance
from videoclip.training import narrated as narrated_batches
from videoclip.training import pretrain as starts
from videoclip.training import run as runs
from videoclip.training import run_folder as run_folders
from videoclip.training import trainer as trainers
from videoclip.training.clips import ClipSource
from videoclip.training.contrastive import ContrastiveLoss
from videoclip.training.finetune import (
    _source_and_loss,
    finetune,
    hold_out,
    num_held_out,
    training_labels,
    training_steps,
    without_test_videos,
)
from videoclip.training.logging import ProgressLine, print_line, tracker
from videoclip.training.narrated import (
    Feed,
    Group,
    NarratedSource,
    data_fingerprints,
    fit_shares,
    load_teacher,
    vector_clips,
)
from videoclip.training.optim import (
    build_optimizer,
    clip_gradients,
    freeze,
    learning_rate,
    set_learning_rate,
    update_average,
)
from videoclip.training.per_second import (
    ClassLoss,
    LabelTextLoss,
    PerSecondSource,
    StepLoss,
    label_example,
    step_example,
)
from videoclip.training.pretrain import pretrain
from videoclip.training.run import (
    RunResult,
    _change_of_processes,
    _report_disk_errors,
    num_updates,
)
from videoclip.training.run_folder import (
    Position,
    RunFolder,
    differences,
    read_log,
    refuse_changes,
)
from videoclip.training.trainer import Step, Trainer, train_epoch

TIMES = ("seconds", "wait_share", "peak_share")
WORDS = tokenizer()


def logged(folder):
    """The log of a run without what is measured in seconds."""
    return [
        {k: v for k, v in entry.items() if k not in TIMES and not k.endswith("_per_second")}
        for entry in read_log(folder)
    ]


def printed(capsys):
    text = re.sub(r"peak \d+ GFLOP", "peak N GFLOP", capsys.readouterr().err)
    return text.splitlines()


def plans(folder):
    return {
        path.name: {
            "groups": [" ".join(map(str, group)) for group in plan["groups"]],
            "leads": plan["leads"],
        }
        for path in sorted((folder / "plans").iterdir())
        for plan in [read_json(path)]
    }


def described(folder, result):
    card = (folder / "model" / "README.md").read_text()
    return {
        "result": re.sub(r"in \d+ s", "in N s", str(result)),
        "measures": result.measures(),
        "values": [result.num_updates, result.loss, result.validation_loss],
        "files": sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        ),
        "facts": {k: v for k, v in read_json(folder / "facts.json").items()},
        "log": logged(folder),
        "keys": sorted(read_log(folder)[1]),
        "plans": plans(folder),
        "card": card[card.index("## Data") : card.index("## Licence")],
        "weights": [
            summary(t) for n, t in weights(folder) if n.endswith(("norm.weight", "temperature"))
        ][:4],
    }


def weights(folder):
    from safetensors.torch import load_file

    return sorted(load_file(folder / "model" / "model.safetensors").items())


def measured(embedder):
    found = embedder.embed_text(["the egg"])
    return {"R@1": float(np.abs(found).mean()), "R@1 low": 0.25, "R@1 high": 0.5, "clips": 12.0}


RUNS = {
    "mined": {
        "plan": PlanConfig(
            kind="mined",
            videos_per_batch=3,
            drop_nearest=1,
            first_epoch=2,
            clips_per_vector=2,
            max_similarity=0.9,
            vector_strategy="start",
        ),
        "loss": LossConfig(
            ignore_overlapping=True, seconds_weight=0.5, hard_similarity=0.1, reranker_share=0.6
        ),
        "accumulate_batches": 2,
        "validation_videos": 2,
        "save_every_updates": 1,
        "keep_checkpoints": 1,
        "frozen": ("text_encoder.bert.position_embeddings",),
    },
    "retrieval": {
        "plan": PlanConfig(videos_per_batch=4, num_neighbours=6, clips_per_vector=3),
        "loss": LossConfig(kind="sigmoid"),
        "chunk_pairs": 3,
        "recompute_layers": True,
        "save_every_seconds": 0.0,
        "optim": OptimConfig(
            lr=2e-3,
            video_lr_scale=0.5,
            text_lr_scale=2.0,
            betas=(0.8, 0.9),
            eps=1e-6,
            weight_decay=0.1,
            clip_norm=0.5,
            schedule="cooldown",
            cooldown_share=0.5,
            warmup_updates=1,
            total_updates=0,
            ema_decay=0.5,
        ),
    },
    "mil_nce": {
        "plan": PlanConfig(kind="consecutive", videos_per_batch=6),
        "loss": LossConfig(kind="mil_nce"),
        "optim": OptimConfig(
            optimizer="adamw",
            lr=1e-3,
            weight_decay=0.2,
            clip_norm=0,
            warmup_updates=0,
            total_updates=3,
        ),
        "seed": 5,
    },
}


def run_config(name):
    usual = tiny_config()
    clips, model = {
        "mined": ({"learn_lead": True, "lead_seconds": 1}, {"num_cross_layers": 1}),
        "retrieval": ({}, {"learn_logit_bias": True, "dropout": 0.2}),
        "mil_nce": ({"strategy": "mil_nce", "num_candidates": 2}, {"learn_temperature": False}),
    }[name]
    return tiny_config(
        name=name,
        **RUNS[name],
        clips=replace(usual.clips, **clips),
        model=replace(usual.model, **model),
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.mark.parametrize("name", RUNS)
def test_a_run(name, corpus, tmp_path, capsys, caplog, monkeypatch):
    config, told, saved = run_config(name), [], []
    save = RunFolder.save_checkpoint
    monkeypatch.setattr(
        RunFolder, "save_checkpoint", lambda *a, **k: saved.append([a[1], *a[3:]]) or save(*a, **k)
    )
    arguments = {
        "tokenizer": WORDS,
        "evaluate": measured,
        "on_log": lambda e: told.append(sorted(e)),
    }
    result = pretrain(config, corpus, tmp_path / "run", **arguments)
    found = described(tmp_path / "run", result)
    found["printed"] = printed(capsys)
    found["warnings"] = caplog.messages
    found["told"] = len(told)
    found["saved"] = list(saved)
    found["config"] = {
        key: value
        for key, value in read_json(tmp_path / "run" / "config.json").items()
        if not isinstance(value, dict)
    }
    if name == "retrieval":
        again = pretrain(config, corpus, tmp_path / "run", **arguments)
        assert logged(tmp_path / "run") == found["log"]
        pretrain(config, corpus, tmp_path / "run", extend=True, **arguments)
        longer = replace(config, epochs=3, keep_checkpoints=9)
        extended = pretrain(longer, corpus, tmp_path / "run", extend=True, **arguments)
        found["again"] = [again.loss, extended.num_updates, logged(tmp_path / "run")[-2:]]
        with pytest.raises(Broken):
            pretrain(longer, corpus, tmp_path / "broken", tokenizer=WORDS, on_log=break_off_at(2))
        other = replace(longer, seed=2, optim=replace(longer.optim, lr=1.0))
        found["refused"] = [
            outcome(lambda: pretrain(other, corpus, tmp_path / "broken", tokenizer=WORDS)),
            outcome(
                lambda: pretrain(
                    replace(longer, epochs=4), corpus, tmp_path / "broken", tokenizer=WORDS
                )
            ),
            outcome(
                lambda: pretrain(
                    replace(longer, epochs=4),
                    corpus,
                    tmp_path / "broken",
                    tokenizer=WORDS,
                    extend=True,
                )
            ),
            outcome(
                lambda: pretrain(config, corpus.select(range(9)), tmp_path / "run", tokenizer=WORDS)
            ),
        ]
        found["printed then"] = printed(capsys)
    approved.check(f"run-{name}", found, TMP=tmp_path)


def test_a_run_continued_on_two_processes(corpus, tmp_path, monkeypatch):
    """Broken off between two checkpoints; averaged weights; the second process writes nothing."""
    config = tiny_config(
        plan=PlanConfig(kind="shuffled", videos_per_batch=3),
        optim=OptimConfig(optimizer="adamw", lr=3e-3, warmup_updates=1, ema_decay=0.8),
        validation_videos=2,
        save_every_updates=3,
        epochs=3,
    )
    monkeypatch.setattr(runs, "matmul_peak", lambda device, precision: 1e9)
    out, found = tmp_path / "run", {}
    with pytest.raises(Broken):
        pretrain(config, corpus, out, tokenizer=WORDS, on_log=break_off_at(8))

    def names(folder=out):
        return sorted(path.name for path in (folder / "checkpoints").iterdir())

    def work(world, folder=out, settings=config, data=corpus):
        text = io.StringIO()
        with redirect_stderr(text):
            result = outcome(lambda: pretrain(settings, data, folder, tokenizer=WORDS, world=world))
        told = {"printed": text.getvalue(), "result": re.sub(r"in \d+ s", "in N s", str(result))}
        return {name: re.sub(r"(loss \d+\.\d)\d+", r"\1", text) for name, text in told.items()}

    found["broken off"] = [names(), len(read_log(out))]
    found["continued"] = on_two_ranks(work, tmp_path)
    found["checkpoints"], found["log"] = names(), logged(out)
    found["facts"] = read_json(out / "facts.json")["processes"]
    found["weights"] = [summary(t) for n, t in weights(out) if n.endswith("norm.weight")][:3]
    last = read_log(out)[-2]
    assert last["peak_share"] == round(last["flops_per_second"] / 2e9, 4)
    short = tiny_config(epochs=1, save_every_updates=1, plan=config.plan)
    with pytest.raises(Broken):
        pretrain(short, corpus, tmp_path / "short", tokenizer=WORDS, on_log=break_off_at(4))
    found["before the last update"] = work(World(), tmp_path / "short", short)["printed"]
    late = pretrain(short, corpus, tmp_path / "short", tokenizer=WORDS, evaluate=measured)
    found["evaluated late"] = [late.before, sorted(late.after)]
    found["different data"] = on_two_ranks(
        lambda world: work(world, tmp_path / "x", short, corpus.select(range(12 - world.rank))),
        tmp_path,
    )
    approved.check("run-on-two-processes", found, TMP=tmp_path)


def test_how_a_run_decides(corpus, tmp_path, monkeypatch):
    """Precision as it began; measured with frozen parts frozen; a choice made in eval mode."""
    config = tiny_config(precision="auto", compile="auto", frozen=("text_encoder.",), epochs=1)
    source = NarratedSource(config, corpus, "x", World())
    loss = ContrastiveLoss(VideoCLIP(config.model), config.loss)
    trained: list[str] = []

    def pays(step, device):
        step("bf16")
        trained.extend(n for n, p in loss.model.named_parameters() if p.grad is not None)
        return True

    monkeypatch.setattr(runs, "bf16_pays", pays)
    found = {}
    for facts in ({}, {"precision": "fp32", "compiled": True}):
        known = dict(facts)
        files = SimpleNamespace(facts=known, remember=known.update)
        found[str(facts)] = [
            runs._choose_precision_and_compiling(config, source, loss, files, torch.device("cpu")),
            known,
        ]
    assert trained and not any(name.startswith("text_encoder.") for name in trained)
    assert all(parameter.grad is None for parameter in loss.model.parameters())

    modes = []

    def choose(model):
        modes.append([module.training for module in (model, model.video_encoder)])
        return RerankerWeight(0.0, 2)

    plain = replace(config, precision="fp32", compile="off")
    result = runs.train(plain, source, loss, tmp_path / "run", tokenizer=WORDS, choose=choose)
    found |= {"kept": result.kept, "modes": modes, "log": logged(tmp_path / "run")[-1]}
    runs.train(plain, source, loss, tmp_path / "run", tokenizer=WORDS, choose=choose)
    assert sum("kept" in entry for entry in logged(tmp_path / "run")) == 1
    trainer = Trainer(loss, plain, World(), run_length=9)
    trainer.saved_at = -1.0
    run = runs._Run(trainer, source, WORDS, tmp_path, None, None, None, None, 1.0)
    run.save()
    assert trainer.saved_at > -1.0
    trainer.model.text_encoder.bert.word_embeddings.weight.data[3, 2] = torch.inf
    found["not finite"] = outcome(run.save)
    approved.check("how-a-run-decides", found)


def test_a_run_on_top_of_a_dual_encoder(tmp_path, capsys, monkeypatch):
    plain = tiny_config(
        epochs=3,
        validation_videos=6,
        optim=OptimConfig(optimizer="adamw", lr=1e-2, warmup_updates=1, total_updates=0),
        loss=LossConfig(residual_weight=0.1),
    )
    model = replace(plain.model, dual_encoder="tiny", pooling="plain_mean", dropout=0.0)
    towers = tiny_dual_encoder(model)
    monkeypatch.setattr("videoclip.model.dual_encoder.load_by_name", lambda name: towers)
    corpus = tiny_corpus(tmp_path / "corpus", num_videos=24)
    torch.manual_seed(0)
    start = VideoCLIP(model).eval()
    config = replace(plain, model=model)
    result = pretrain(config, corpus, tmp_path / "run", tokenizer=WORDS, init_from=start)
    found = {
        "kept": result.kept,
        "sentence": str(result.kept),
        "log": logged(tmp_path / "run"),
        "printed": printed(capsys),
        "gates": [
            float(r.radius) for r in (start.video_encoder.residual, start.text_encoder.residual)
        ],
        "facts": read_json(tmp_path / "run" / "facts.json")["init_from"] != "random",
    }
    del found["log"][2:-3]
    other = VideoCLIP(
        replace(model, hidden_size=16, num_heads=1),
        tiny_dual_encoder(replace(model, hidden_size=16)),
    )
    changed = replace(config, model=replace(model, temperature=0.2))
    found["errors"] = [
        outcome(
            lambda: pretrain(changed, corpus, tmp_path / "b", tokenizer=WORDS, init_from=start)
        ),
        outcome(lambda: pretrain(config, corpus, tmp_path / "b", tokenizer=WORDS, init_from=other)),
    ]
    approved.check("run-residual", found, TMP=tmp_path)


FINE = {
    "youcook2": {},
    "msrvtt_qa": {},
    "crosstask": {"window_step": 5},
    "coin": {"frozen": ("text_encoder.",)},
    "coin_texts": {"window_step": 7},
    "csv": {"texts_per_clip": 3, "clip_seconds": 4.0, "chunk_pairs": 8},
}
PARTS = {
    "msrvtt_qa": ("msrvtt_mc", "msrvtt"),
    "csv": ("test.csv", "train.csv"),
    "coin_texts": ("coin", None),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    words = labelled_world(folder, num_videos=80)
    open_validation(folder)
    listed = folder / "annotations" / "msrvtt" / "MSRVTT_train.9k.csv"
    listed.write_text(listed.read_text() + "video99999\n")  # without captions and features
    with (
        FeatureStore.open(folder / "store") as store,
        FeatureStore.create(folder / "some", store.spec) as some,  # not of every video
    ):
        for number, name in enumerate(store.video_ids):
            if number % 13 != 6:
                some.append(name, store.read(name))
    return folder, words


def fine_config(name, **changes):
    return replace(
        FINETUNING[name](),
        **{
            "optim": OptimConfig(optimizer="adamw", lr=2e-3, warmup_updates=2, total_updates=0),
            "precision": "fp32",
            "validation_videos": 3,
            "pairs_per_batch": 40,
            "texts_per_clip": 1,
            "epochs": 1,
            "evaluate": EvaluateConfig(num_resamples=2, background="released"),
            **FINE[name],
            **changes,
        },
    )


@pytest.mark.parametrize("name", FINE)
def test_fine_tuning(name, world, tmp_path, capsys):
    folder, words = world
    test, training = PARTS.get(name, (name, None))
    annotations = folder / "annotations"
    config = fine_config(name)
    if name == "coin_texts":
        config = replace(config, evaluate=EvaluateConfig(num_resamples=2, background="text"))

    def run(config, out, model=None, store=folder / "some"):
        return finetune(
            config,
            model or untrained(words),
            store,
            annotations / test,
            tmp_path / out,
            training_annotations=training and annotations / training,
        )

    result = run(config, "run")
    found = {
        "before": dict(list(result.before.items())[:3]),
        "better": [result.after[name] > value for name, value in result.before.items()][:3],
        "log": logged(tmp_path / "run")[1:5],
        "facts": read_json(tmp_path / "run" / "facts.json")["data"],
        "printed": [re.sub(r"(loss \d+\.\d)\d+", r"\1", line) for line in printed(capsys)],
        "classes": read_json(tmp_path / "run" / "model" / "config.json")["classes"][:2],
        "backbone": read_json(tmp_path / "run" / "model" / "config.json")["backbone_fingerprint"],
    }
    if name == "csv":
        reranked = replace(config, chunk_pairs=2)
        model, other = untrained(words, num_cross_layers=1), untrained(words)
        other.model.config = replace(other.config, backbone="other")
        found["errors"] = [
            outcome(lambda: run(reranked, "b", model)),
            outcome(lambda: run("youcok2", "c")),
            outcome(lambda: run(config, "d", other)),
            outcome(lambda: run(config, "e", store=tmp_path / "none")),
            outcome(
                lambda: finetune(
                    config,
                    untrained(words),
                    folder / "some",
                    annotations / "test.csv",
                    tmp_path / "f",
                )
            ),
        ]
    approved.check(f"finetune-{name}", found, TMP=tmp_path, WORLD=folder)


def test_batches_of_fine_tuning(world, tmp_path):
    folder, words = world
    store, embedder = FeatureStore.open(folder / "some"), untrained(words)
    names, pieces = store.video_ids, words.word_pieces
    config = fine_config("csv", pairs_per_batch=3, texts_per_clip=2, clip_seconds=3.0)
    examples = [
        RetrievalExample(names[i % 4], f"{pieces[5 + i]} {pieces[9]}" * (1 + i), 2.0 * (i % 3), 9)
        for i in range(11)
    ]
    late = [RetrievalExample(names[0], pieces[6], 900.0, 901.0)]
    found = {}

    def source_of(*parts, world=None):
        return ClipSource(config, parts, embedder, store, world or World())

    for rank, size in ((0, 1), (1, 2)):
        source = source_of(examples + late, examples[:4], world=World(rank, size))
        batches = {
            "sample": [source.sample()],
            "epoch": source.batches(2, 1, embed=None, plan_path=None),
            "validation": source.validation(),
        }
        found[f"clips of process {rank}"] = {
            "sizes": [source.epoch_size(1), source.num_batches(1), source.facts["data"]],
            **{
                name: [[len(b), *(summary(t)[1:] for t in (b.video, b.text))] for b in of]
                for name, of in batches.items()
            },
        }
    blank = [RetrievalExample(names[0], " ")]
    found["errors"] = [outcome(lambda: source_of(late, [])), outcome(lambda: source_of(blank, []))]
    found["none held out"] = source_of(examples, []).validation()
    task = Task("1", "t", (pieces[5], pieces[7]))
    videos = [
        StepVideo(name, task, (Segment(1.0, 4.5, 0), Segment(3.0, 6.0, 1))) for name in names[:4]
    ]
    labelled = [
        LabelledVideo(name, 9.0, (Segment(2, 5, 1), Segment(4, 7, 2))) for name in names[:4]
    ]
    kinds = {
        "steps": [step_example(video) for video in videos],
        "labels": [label_example(video, ()) for video in labelled],
        "label texts": [label_example(video, task.steps) for video in labelled],
    }
    for name, made in kinds.items():
        config = fine_config("coin", window_step=6)
        source = PerSecondSource(config, (made[:3], made[3:]), embedder, store, World(0, 1))
        second = PerSecondSource(config, (made[:2], made[1:]), embedder, store, World(1, 2))
        found[name] = {
            "facts": source.facts["data"],
            "sample": [summary(t) for t in source.sample().tensors()],
            "epoch": [
                [summary(b.targets), summary(b.text)]
                for b in source.batches(1, 1, embed=None, plan_path=None)
            ],
            "of the second": [
                [summary(b.targets)[1:] for b in second.validation()],
                [summary(b.targets)[1:] for b in second.batches(1, 0, embed=None, plan_path=None)],
            ],
        }
    approved.check("batches-of-fine-tuning", found, TMP=tmp_path, WORLD=folder)


def test_clips_of_half_seconds(tmp_path):
    """Features of another rate, clips longer than the model takes, several texts a clip."""
    config = fine_config("csv", pairs_per_batch=2, texts_per_clip=1, clip_seconds=30.0)
    embedder = Embedder(VideoCLIP(tiny_config().model), WORDS)
    found = {}
    for rate in (0.5, 2.0):
        spec = FeatureSpec(16, rate, "made-up", False, "0")
        with FeatureStore.create(tmp_path / str(rate), spec) as store:
            for number in range(5):
                store.append(f"v{number}", np.full((30, 16), number + 1.0))
            examples = [
                RetrievalExample(f"v{number}", text, 1.0, end)
                for number, end in enumerate((2.0, 5.2, 40.0, None, 9.0))
                for text in ("the egg", "oil", "now salt the pan", "rice")
            ]
            source = ClipSource(config, (examples, examples), embedder, store, World())
            found[rate] = [
                [
                    batch.video[:, 0, 0].int().tolist(),
                    batch.video_mask.sum(dim=1).tolist(),
                    [ids[m].tolist() for ids, m in zip(batch.text, batch.text_mask, strict=True)],
                ]
                for batch in source.validation()
            ]
    approved.check("clips-of-half-seconds", found)


def test_seconds_at_two_features_a_second(tmp_path):
    """Targets and windows count features, spans and steps are in seconds."""
    embedder = Embedder(VideoCLIP(tiny_config().model), WORDS)
    task = Task("1", "t", ("the egg", "oil now"))
    segments = (Segment(1.2, 2.5, 0), Segment(3.0, 6.0, 1), Segment(9.0, 10.4, 1))
    found = {}
    with FeatureStore.create(tmp_path / "s", FeatureSpec(16, 2.0, "made-up", False, "0")) as store:
        store.append("a", np.ones((21, 16)))
        store.append("b", np.ones((5, 16)))
        for step in (1, 3, 20):
            config = fine_config("coin", window_step=step)
            for name, videos in {
                "steps": [step_example(StepVideo(v, task, segments)) for v in "ab"],
                "labels": [
                    label_example(LabelledVideo(v, 9.0, segments), task.steps) for v in "ba"
                ],
            }.items():
                source = PerSecondSource(config, (videos, videos), embedder, store, World())
                batches = list(source.validation())
                found[f"{name}, {step} s"] = {
                    "fingerprint": source.facts["data"]["fingerprint"],
                    "lengths": [b.video_mask.sum(dim=1).tolist() for b in batches],
                    "targets": [
                        "".join(map(str, b.targets[b.video_mask].int().flatten().tolist()))
                        for b in batches[: 1 + (step == 3)]
                    ],
                    "texts": [b.text[b.text_mask].tolist() for b in batches],
                }
    with FeatureStore.create(tmp_path / "t", FeatureSpec(16, 0.2, "made-up", False, "0")) as store:
        store.append("a", np.ones((10, 16)))
        videos = [step_example(StepVideo("a", task, (Segment(11.0, 16.0, 1),)))]
        config = fine_config("coin", window_step=1)
        (batch,) = PerSecondSource(config, ([], videos), embedder, store, World()).validation()
        found["one in five seconds"] = [batch.video_mask.sum(dim=1), batch.targets[0, :, 1].int()]
    approved.check("seconds-at-two-features", found)


def test_what_is_held_out_is_printed(world, tmp_path, capsys):
    folder, words = world
    arguments = folder / "annotations" / "train.csv", folder / "annotations" / "test.csv"
    found = {}
    with FeatureStore.open(folder / "some") as store:
        for wanted in (0, 1, 30):
            source, _ = _source_and_loss(
                fine_config("csv", validation_videos=wanted),
                untrained(words),
                store,
                *arguments,
                World(),
                True,
            )
            data = source.facts["data"]
            found[wanted] = [data["clips"], data["held-out clips"], printed(capsys)]
    approved.check("held-out-of-fine-tuning", found)


def test_what_is_left_to_fine_tune_on(world, tmp_path):
    """Neither videos of the test split nor videos of which nothing is annotated."""
    folder, _ = world
    shutil.copytree(folder / "annotations", tmp_path / "a")
    table = json.loads((tmp_path / "a" / "coin" / "COIN.json").read_text())
    videos = table["database"]
    moved = next(name for name, video in videos.items() if video["subset"] == "training")
    videos[moved]["subset"] = "testing"
    (tmp_path / "test.json").write_text(json.dumps(table))
    with FeatureStore.open(folder / "store") as store:
        coin = tmp_path / "a" / "coin"
        everything, _ = training_labels(coin, coin, store)
        labelled, _ = training_labels(coin, tmp_path / "test.json", store)
        assert {v.video_id for v in everything} - {v.video_id for v in labelled} == {moved}
        before = training_steps(tmp_path / "a" / "crosstask", store)
        for path in (tmp_path / "a" / "crosstask" / "annotations").glob("*.csv"):
            if path.stem.endswith(before[0].video_id):
                path.write_text("")
        after = training_steps(tmp_path / "a" / "crosstask", store)
        assert before[0].video_id not in {v.video_id for v in after}
        assert len(after) < len(before)


def test_damaged_features_are_not_trained_on(world, tmp_path):
    folder, words = world
    shutil.copytree(folder / "some", tmp_path / "store")
    with (tmp_path / "store" / "features.bin").open("r+b") as file:
        file.seek(-2, 2)
        file.write(b"\x01\x02")
    annotations = folder / "annotations"
    with pytest.raises(DataError, match="damaged"):
        finetune(
            fine_config("csv"),
            untrained(words),
            tmp_path / "store",
            annotations / "test.csv",
            tmp_path / "run",
            training_annotations=annotations / "train.csv",
        )


def test_splits_for_fine_tuning():
    examples = [SimpleNamespace(video_id=name) for name in ("c", "a", "b", "a", "d")]
    parts = hold_out(examples, 2, 3)
    found = {
        "held out": [
            num_held_out(*sizes)
            for sizes in ((9, 50), (9, 79), (5, 100), (5, 30), (5, 9), (5, 1), (0, 50), (1, 2))
        ],
        "parts": [[e.video_id for e in part] for part in parts],
        "without": [e.video_id for e in without_test_videos(examples, {"a", "x"}, Path("p"))],
        "none": outcome(lambda: without_test_videos(examples, {"a", "b", "c", "d"}, Path("p"))),
    }
    approved.check("splits-for-fine-tuning", found)


def test_batches_of_narration(corpus, tmp_path):
    config = replace(run_config("mined"), num_workers=0)
    source = NarratedSource(config, corpus, "random", World())
    feed = Feed(corpus, config.clips, config.model, leads=[0.0] * 8 + [0.5, 0.5] + [0.0] * 7)
    batches = {
        "sample": source.sample(),
        "led": feed.batch(Group([3, 0], (1, 2, 3))),
        "again": feed[Group([3, 0], (1, 2, 3))],
        "beyond": Feed(corpus, config.clips, config.model, leads=[1e-9] * 17).batch(
            Group([1], (1, 2))
        ),
        "validation": next(iter(source.validation())),
        "held out": next(iter(source.held_out_clips(config.clips, 2))),
        "example": next(source.examples()),
    }
    plan = PlanConfig(kind="retrieval", videos_per_batch=3, first_epoch=2, num_neighbours=3)
    other = NarratedSource(
        replace(
            config, clips=replace(config.clips, learn_lead=False), plan=plan, validation_videos=0
        ),
        corpus,
        "x",
        World(),
    )
    found = {
        name: [batch.spans.tolist(), *(summary(t) for t in batch.tensors()[:4])]
        for name, batch in batches.items()
    }
    found |= {
        "sizes": [
            source.epoch_size(1),
            source.num_batches(2),
            other.epoch_size(1),
            other.epoch_size(2),
        ],
        "no validation": other.validation(),
        "facts": source.facts,
        "fingerprints": data_fingerprints(corpus.select([1, 0])),
        "vector clips": vector_clips(config),
        "shares": fit_shares(torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 0.5]])),
        "examples": len(list(source.examples())),
        "processes": outcome(
            lambda: NarratedSource(config, corpus, "x", World(0, 9)).num_batches(1)
        ),
    }
    plain = replace(config.clips, learn_lead=False)
    halves = replace(config, clips=plain, plan=PlanConfig(kind="shuffled", videos_per_batch=1))
    second = NarratedSource(halves, corpus, "x", World(1, 2))
    found["of the second process"] = [
        second.num_batches(1),
        [batch.spans.tolist() for batch in second.validation()],
    ]
    path = tmp_path / "plan.json"
    path.write_text('{"groups": [[0, 1], [2, 30], [4], [5]], "leads": []}')
    found["plan"] = outcome(lambda: list(source.batches(1, 0, embed=None, plan_path=path)))
    path.write_text('{"groups": [[0, 1]], "leads": []}')
    found["short plan"] = outcome(lambda: list(source.batches(1, 0, embed=None, plan_path=path)))
    approved.check("batches-of-narration", found, TMP=tmp_path)


def test_how_batches_are_prepared(corpus, monkeypatch):
    """Padding, pinned memory and workers, and what becomes of a worker's errors."""
    config = tiny_config(num_workers=2, model=replace(tiny_config().model, pad_id=5))
    made = []

    def loader(feed, **options):
        made.append({name: value for name, value in options.items() if name != "sampler"})
        return iterated(feed, options["sampler"])

    def iterated(feed, groups):
        if isinstance(groups, Exception):
            raise groups
        yield from (feed[group] for group in groups)

    monkeypatch.setattr(narrated_batches, "DataLoader", loader)
    monkeypatch.setattr(narrated_batches, "SECONDS_FOR_SIGNAL", 0.0)
    on_gpu = NarratedSource(config, corpus, "x", World(device=torch.device("cuda")))
    feed = on_gpu._feed(corpus, config.clips)
    batch = next(feed.batches([Group([0, 4], (1, 2))]))
    found = {"options": made[-1], "text": batch.text, "spans": batch.spans}
    list(Feed(corpus, config.clips, config.model, workers=1).batches([]))
    found["on a CPU"] = made[-1]
    errors = (
        *(ConnectionError("Caught ConnectionError in worker"), ConnectionError("reset")),
        *(EOFError(), RuntimeError("DataLoader worker (pid 7) was killed")),
        *(RuntimeError("DataLoader timed out"), DataError("no such file")),
    )
    found["errors"] = [outcome(lambda error=error: list(feed.batches(error))) for error in errors]
    few = replace(config, plan=PlanConfig(videos_per_batch=30, num_neighbours=30))
    found["one batch"] = NarratedSource(few, corpus, "x", World()).epoch_size(1)
    monkeypatch.setattr(narrated_batches, "EXAMPLE_VIDEOS", 4)
    found["examples"] = len(list(NarratedSource(few, corpus, "x", World()).examples()))
    monkeypatch.setattr(narrated_batches, "FINGERPRINT_VIDEOS", 4)
    found["fingerprints"] = data_fingerprints(corpus)
    approved.check("prepared-batches", found)


def test_vectors_and_leads_of_few_videos(corpus, tmp_path, monkeypatch):
    """Two processes, of which one has no video to embed; leads are fitted on some videos."""
    config = run_config("mined")
    config = replace(config, plan=replace(config.plan, videos_per_batch=20, first_epoch=1))

    def embed(batch):
        seen.append(len(batch))
        video = batch.video.sum(dim=1)[:, :4]
        return video, video.cumsum(dim=1) / (1 + batch.text[:, :1])

    def work(world):
        source = NarratedSource(config, corpus, "x", world)
        vectors = source._vectors(2, embed)
        return {"vectors": torch.from_numpy(vectors), "embedded": list(seen)}

    seen: list[int] = []
    together = on_two_ranks(work, tmp_path)
    assert torch.equal(together[0]["vectors"], together[1]["vectors"])
    alone = work(World())
    torch.testing.assert_close(together[0]["vectors"], alone["vectors"])
    found = {"vectors": alone["vectors"][:3], "embedded": [t["embedded"] for t in together]}
    seen.clear()
    monkeypatch.setattr(narrated_batches, "LEAD_VIDEOS", 5)
    found["leads"] = NarratedSource(config, corpus, "x", World())._fit_leads(3, embed)
    found["embedded for leads"] = list(seen)
    approved.check("vectors-and-leads", found)


def test_what_is_compiled_and_what_memory_is_kept(monkeypatch):
    """On a GPU, measured on a copy; the C library gets its limits back, whatever happens."""
    loss = ContrastiveLoss(VideoCLIP(tiny_config().model), LossConfig())
    compiled, calls = [], []
    monkeypatch.setattr(performance, "compile_towers", lambda model: compiled.append(model))
    gpu, found = torch.device("cuda"), {}
    for plain_seconds in (1.05, 1.06):

        def seconds(work, device, plain_seconds=plain_seconds):
            return plain_seconds if work() is loss else 1.0

        monkeypatch.setattr(performance, "_seconds", seconds)
        found[plain_seconds] = performance.compiling_pays(loss, lambda some: some, gpu)
    assert compiled and all(model is not loss.model for model in compiled)

    class Library:
        mallopt = staticmethod(lambda *arguments: calls.append(["mallopt", *arguments]))
        malloc_trim = staticmethod(lambda *arguments: calls.append(["malloc_trim", *arguments]))

    for library in (Library(), SimpleNamespace(mallopt=Library.mallopt)):
        monkeypatch.setattr(performance.ctypes, "CDLL", lambda name, library=library: library)
        with pytest.raises(ZeroDivisionError), performance.keep_freed_memory() as is_kept:
            calls.append(is_kept)
            1 / 0  # noqa: B018
    approved.check("compiling-and-memory", {**found, "memory": calls})


def test_steps_over_seconds(tmp_path):
    """Updates of a head and of label texts, of which a step computes no frozen text tower."""
    task = Task("1", "t", ("the egg", "oil now"))
    optim = OptimConfig(optimizer="adamw", lr=2e-3, warmup_updates=0, total_updates=0)
    config = fine_config("coin", frozen=("text_encoder.",), optim=optim)
    with FeatureStore.create(tmp_path / "s", FeatureSpec(16, 1.0, "made-up", False, "0")) as store:
        store.append("a", np.linspace(-1, 1, 16 * 9).reshape(9, 16))
        labelled = LabelledVideo("a", 9.0, (Segment(2, 5, 1), Segment(4, 7, 2)))
        kinds = {
            "classes": (label_example(labelled, ()), ClassLoss),
            "label texts": (label_example(labelled, task.steps), LabelTextLoss),
            "steps": (step_example(StepVideo("a", task, (Segment(1, 4, 0),))), StepLoss),
        }

        def work(world):
            found = {}
            for name, (example, kind) in kinds.items():
                torch.manual_seed(2)
                model = VideoCLIP(replace(tiny_config().model, dropout=0.0))
                model = model.with_classes(task.steps) if name == "classes" else model
                embedder = Embedder(model, WORDS)
                source = PerSecondSource(config, ([example], []), embedder, store, World())
                trainer = Trainer(kind(model), config, world, run_length=9)
                steps = [trainer.step(source.sample()) for _ in range(2)]
                found[name] = [[step.loss, step.grad_norm, step.flops] for step in steps]
            return found

        alone, (together, _) = work(World()), on_two_ranks(work, tmp_path)
    approved.check("steps-over-seconds", {"alone": alone, "together": together})


class ScaledFrames(torch.nn.Module):
    """Stands for a backbone that is trained: features times a weight."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.25))

    def forward(self, video, video_mask):
        return video * self.weight


def test_losses_of_pairs(tmp_path):
    """Each part of the loss, with its gradients, on two processes and one."""
    plain = replace(tiny_config().model, dropout=0.0)
    residual = replace(plain, dual_encoder="tiny", pooling="plain_mean")
    crossed = replace(plain, num_cross_layers=1)
    spans = torch.tensor(
        [[0, 0, 3, 1, 4.0], [0, 2, 5, 6, 9], [0, 9, 9, 3, 6], [1, 0, 3, 1, 4], [1, 3, 6, 4, 7]]
    )
    cases = {
        "residual": (residual, LossConfig(kind="mil_nce", residual_weight=0.5), 2),
        "hard": (crossed, LossConfig(hard_similarity=-0.1, reranker_share=0.9), 1),
        "harder": (crossed, LossConfig(hard_similarity=0.2, seconds_weight=0.5), 1),
        "overlapping": (crossed, LossConfig(ignore_overlapping=True, seconds_weight=2.0), 1),
        "local": (plain, LossConfig(), 1),
        "global": (plain, LossConfig(negatives="global", ignore_overlapping=True), 1),
        "words": (plain, LossConfig(kind="equal_sentences", equal_sentences=0.4), 1),
        "neighbours": (plain, LossConfig(kind="neighbours", neighbour_seconds=1.0), 1),
    }

    def work(world, names=("hard", "local", "global")):
        found = {}
        for name in names:
            config, loss_config, candidates = cases[name]
            torch.manual_seed(1)
            model = VideoCLIP(config, tiny_dual_encoder(config) if config.dual_encoder else None)
            for residual in residuals_of(model):
                residual.scale.data.fill_(0.3)
            if name == "hard":  # the backbone learns from the towers, not from the re-ranker
                model.frame_encoder = ScaledFrames()
            batch = some_batch(config, 5)
            words, real = batch.text + world.rank, batch.text_mask
            if name == "words":  # many have nearly the same
                words = torch.arange(6) + 4 * (torch.arange(5)[:, None] // 2)
            if candidates > 1:  # each has words
                words, real = torch.cat([words, words + 1]), torch.cat([real, real]).roll(1, 1)
                real[:, 0] = True
            video = batch.video + 0.3 * world.rank
            batch = PlacedBatch(video, batch.video_mask, words, real, spans)
            loss = ContrastiveLoss(model, loss_config)
            value = loss(batch, world)
            value.backward()
            gradients: dict[str, float] = {}
            for parameter, tensor in model.named_parameters():
                if tensor.grad is not None:
                    part = parameter.partition(".")[0]
                    gradients[part] = gradients.get(part, 0.0) + float(tensor.grad.square().sum())
            found[name] = {"loss": value.detach(), "gradients": gradients}
        return found

    found = {"alone": work(World(), cases), "together": on_two_ranks(work, tmp_path)}
    approved.check("losses-of-pairs", found)


def test_teachers(corpus, tmp_path):
    model = tiny_config().model
    teacher = Embedder(VideoCLIP(model).eval(), WORDS)
    teacher.save_pretrained(tmp_path / "teacher")
    plan = PlanConfig(kind="mined", teacher=str(tmp_path / "teacher"))
    config, spec = tiny_config(plan=plan), corpus.store.spec
    wide = replace(config, model=replace(model, max_text_tokens=20))
    long = replace(
        config, model=replace(model, max_video_tokens=9), clips=ClipConfig(max_video_seconds=9)
    )
    fast = replace(config, model=replace(model, max_video_tokens=16, features_per_second=2.0))
    other = FeatureSpec(16, 1.0, "other", False, "0")
    found = {
        "none": load_teacher(tiny_config(), spec, WORDS),
        "loaded": load_teacher(config, spec, WORDS).fingerprint == teacher.fingerprint,
        "errors": [
            outcome(lambda: load_teacher(wide, spec, WORDS)),
            outcome(lambda: load_teacher(long, spec, WORDS)),
            outcome(lambda: load_teacher(fast, spec, WORDS)),
            outcome(lambda: load_teacher(config, other, WORDS)),
            outcome(
                lambda: load_teacher(config, spec, type(WORDS)([*WORDS.word_pieces[:-1], "new"]))
            ),
            outcome(
                lambda: load_teacher(
                    replace(config, plan=replace(plan, teacher=str(tmp_path))), spec, WORDS
                )
            ),
        ],
    }
    approved.check("teachers", found, TMP=tmp_path)


def test_learning_rates_and_optimisers():
    base = OptimConfig(lr=1.0, warmup_updates=2, total_updates=10)
    found = {
        f"{schedule}, {total}": [
            learning_rate(update, replace(base, schedule=schedule, total_updates=total), 6)
            for update in (0, 1, 2, 3, 5, 6, 9, 10, 11)
        ]
        for schedule in ("polynomial", "cosine", "constant", "cooldown")
        for total in (0, 10)
    }
    found["warm-up alone"] = [
        learning_rate(u, replace(base, total_updates=2), 6) for u in (1, 2, 3)
    ]
    found["no warm-up"] = [learning_rate(u, replace(base, warmup_updates=0), 6) for u in (0, 1, 5)]
    model_config = tiny_config().model
    for name, config in {
        "adamw": OptimConfig(optimizer="adamw", weight_decay=0.1, text_lr_scale=0.5, eps=0.1),
        "fairseq_adam": OptimConfig(weight_decay=0.1, video_lr_scale=3.0, eps=0.1),
    }.items():
        torch.manual_seed(0)
        model = VideoCLIP(model_config)
        optimizer = build_optimizer(model, config)
        set_learning_rate(optimizer, 0.01)
        average = {n: p.detach().clone() for n, p in model.named_parameters()}
        for update in range(2):
            for number, parameter in enumerate(model.parameters()):
                parameter.grad = torch.full_like(parameter, 0.1 * (1 + number % 3) * (1 + update))
            optimizer.step()
            update_average(average, model, 0.15, update)
        found[name] = {
            "groups": [
                [
                    len(group["params"]),
                    group["weight_decay"],
                    group["lr"],
                    group["eps"],
                    group["betas"],
                ]
                for group in optimizer.param_groups
            ],
            "weights": summary(torch.cat([p.detach().flatten() for p in model.parameters()])),
            "average": summary(torch.cat([p.flatten() for p in average.values()])),
            "norms": [
                clip_gradients(model.parameters(), 0.0),
                clip_gradients(model.parameters(), 2.0),
            ],
            "clipped": clip_gradients(model.parameters(), 0.0),
        }
    freeze(model, ["text_encoder."])
    found["trained"] = sum(p.requires_grad for p in model.parameters())
    shared = VideoCLIP(replace(model_config, shared_encoder=True, max_positions=40))
    found["errors"] = [
        outcome(lambda: build_optimizer(model, OptimConfig(text_lr_scale=0.5))),
        outcome(lambda: build_optimizer(model, OptimConfig(text_lr_scale=2.0))),
        outcome(lambda: build_optimizer(shared, OptimConfig(text_lr_scale=0.5))),
        outcome(lambda: freeze(model, ["vide"])) or "frozen",
        outcome(lambda: freeze(model, ["audio"])),
        outcome(lambda: freeze(model, ["video", "log"])),
    ]
    nan = torch.nn.Parameter(torch.ones(2))
    nan.grad = torch.tensor([torch.nan, 1.0])
    found["not finite"] = [clip_gradients([nan], 1.0), nan.grad.tolist()]
    approved.check("optimisers", found)


def some_batch(model, number=4):
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([8, 3, 5, 1, 7, 2])[:number, None]
    return Batch(
        torch.randn(number, 8, model.feature_dim, generator=generator),
        torch.arange(8) < lengths,
        torch.randint(4, 16, (number, 6), generator=generator),
        torch.arange(6) < lengths - 1,
    )


class ToyFrames(FrameEncoder):
    """Stands for a backbone that is trained: only what it costs."""

    flops_per_frame = 1_000_000

    def __init__(self):
        torch.nn.Module.__init__(self)


def test_steps(monkeypatch):
    """What a trainer does in an update, and what it counts."""
    found = {}
    for name, config in {
        "plain": tiny_config(),
        "chunks": tiny_config(chunk_pairs=2, loss=LossConfig(seconds_weight=1.0)),
        "frozen text": tiny_config(
            frozen=("text_encoder.",), save_every_updates=2, optim=OptimConfig(ema_decay=0.5)
        ),
        "averaged": tiny_config(optim=OptimConfig(lr=1e-2, warmup_updates=0, ema_decay=0.9)),
        "re-ranked": tiny_config(
            model=replace(tiny_config().model, num_cross_layers=1),
            optim=OptimConfig(lr=1e-2, warmup_updates=0, clip_norm=0.5, eps=1e-2),
            recompute_layers=True,
        ),
    }.items():
        torch.manual_seed(0)
        loss = ContrastiveLoss(VideoCLIP(config.model), config.loss)
        trainer = Trainer(loss, config, World(), run_length=9)
        batch = some_batch(config.model, 5)
        steps = [trainer.step(batch), trainer.step(batch, some_batch(config.model))]
        found[name] = {
            "steps": steps,
            "position": trainer.position,
            "recomputed": [m.recompute for m in loss.modules() if isinstance(m, BertEncoder)],
            "due": trainer.save_due,
            "validation": trainer.validation_loss(iter([batch, some_batch(config.model, 2)])),
            "modes": [
                m.training
                for m in (trainer.model, trainer.model.video_encoder, trainer.model.text_encoder)
            ],
            "flops": [
                performance.step_flops(trainer.model, batch),
                performance.step_flops(trainer.model, batch, is_cached=True),
                performance.step_flops(trainer.model, batch, recomputes_frozen_texts=False),
                *performance.forward_flops(trainer.model.config, batch),
            ],
            "average": [
                len(trainer.average),
                sum(float(t.sum()) for t in trainer.average.values()),
            ],
            "parts": [len(part) for part in loss.split(batch, 2)],
        }
    found["saved by time"] = []
    for every, elapsed in ((9.0, 8.9), (9.0, 9.0), (0.0, 99.0)):
        timed = Trainer(loss, replace(config, save_every_seconds=every), World(), run_length=9)
        monkeypatch.setattr(trainers.time, "monotonic", lambda at=timed.saved_at + elapsed: at)
        timed.step(batch)
        found["saved by time"].append(timed.save_due)
    told = []
    for number in (2, 3):
        timed = Trainer(loss, replace(config, save_every_updates=1), World(), run_length=9)
        told.append(number)
        train_epoch(
            timed,
            iter([batch] * 9),
            log=lambda entry: told.append(sorted(entry)[:3]),
            save=lambda: told.append("saved"),
            num_batches=number,
        )
    found["an epoch"] = told
    with monkeypatch.context() as patch:
        ticks = iter([0.0, 1.0, 4.0])
        clock = SimpleNamespace(perf_counter=lambda: next(ticks), monotonic=trainers.time.monotonic)
        patch.setattr(trainers, "time", clock)
        entries: list[dict[str, float]] = []
        timed = Trainer(loss, config, World(), run_length=9)
        train_epoch(timed, iter([batch]), log=entries.append, save=lambda: None, num_batches=1)
        found["times"] = {name: entries[0][name] for name in ("seconds", "wait_share")}
    found["residual"] = performance.forward_flops(
        replace(tiny_config().model, dual_encoder="a", pooling="plain_mean"), batch
    )
    trainer.model.frame_encoder = ToyFrames()
    found["frames"] = [
        performance.step_flops(trainer.model, batch, is_cached=cached) for cached in (False, True)
    ]
    trainer.model.frame_encoder = None
    hook = trainer.model.log_temperature.register_hook(lambda gradient: gradient * torch.inf)
    stopped = outcome(lambda: trainer.step(batch))
    found["gradient not finite"] = re.sub(r"0\.\d+", "N", stopped)
    hook.remove()
    with torch.no_grad():
        trainer.model.log_temperature.fill_(-9.0)
    trainer.step(batch)
    found["lowest temperature"] = float(trainer.model.temperature.detach())
    trainer.model.log_temperature.data.fill_(float("nan"))
    found["not finite"] = outcome(lambda: trainer.step(batch))
    found["entry"] = Step(1.0, 0.1, 2.0, 0.5, 12, 80, 1000, seconds=4.0, wait_share=0.25).entry()
    times = iter([0.0, 0.5, 3.0, 4.0, 9.0, 11.0] * 3)
    monkeypatch.setattr(performance.time, "perf_counter", lambda: next(times))
    cpu = torch.device("cpu")
    found["seconds"] = performance._seconds(lambda: None, cpu, repeats=2)
    deep = replace(tiny_config().model, num_video_layers=2, num_text_layers=3)
    found["of more layers"] = performance.forward_flops(deep, batch)
    found["matrix products"], products = [], []

    def half_a_second(work, device):
        products.append(work())
        return 0.5

    monkeypatch.setattr(performance, "_seconds", half_a_second)
    for precision in ("fp32", "bf16"):
        peak = performance.matmul_peak.__wrapped__(cpu, precision)
        found["matrix products"].append([peak, products[-1].dtype == torch.bfloat16])
    found["bf16 pays"] = []
    for fast in (1.1, 1.2):
        monkeypatch.setattr(
            performance,
            "_seconds",
            lambda work, device, repeats, fast=fast: fast if work() == "fp32" else 1.0,
        )
        found["bf16 pays"].append(performance.bf16_pays(lambda precision: precision, cpu))
    found["compiling pays"] = performance.compiling_pays(loss, lambda loss: None, cpu)
    approved.check("steps", found)


def test_what_a_start_leaves(tmp_path):
    """A start that came to nothing binds nobody; temporary files are removed."""
    config = to_dict(tiny_config())
    with RunFolder(tmp_path, config, {"a": 1}) as files:
        files.remember(b=2)
        files.plan_path(1).write_text("{}")
    with RunFolder(tmp_path, {**config, "seed": 7}, {"a": 3}) as files:
        found = {
            "anew": [files.facts, sorted(p.name for p in files.path.iterdir()), files.newest()],
            "plans": list((tmp_path / "plans").iterdir()),
        }
        files.plan_path(1).write_text("{}")
        (tmp_path / "plans" / ".epoch-001.partial-3.json").write_text("")
        files.log({"update": 1})
    (tmp_path / "checkpoints" / "update-000009").mkdir()
    with RunFolder(tmp_path, {**config, "seed": 7}, {"a": 3}) as files:
        found["begun"] = [
            sorted(p.name for p in (tmp_path / "plans").iterdir()),
            list((tmp_path / "checkpoints").iterdir()),
            [files.best(), files.is_best(None), files.is_best(9.0)],
        ]
    source = SimpleNamespace(num_batches=lambda epoch: 5 + epoch)
    found["updates"] = [
        num_updates(tiny_config(epochs=3, accumulate_batches=a), source, Position(u, epoch, b))
        for a in (1, 4)
        for u, epoch, b in ((0, 1, 0), (3, 1, 3), (9, 2, 7), (9, 2, 12), (20, 3, 8), (30, 4, 0))
    ]
    trainer = SimpleNamespace(world=World(0, 4), run_length=50)
    found["processes"] = _change_of_processes(Position(20, processes=8), trainer)
    approved.check("starts-of-runs", found, TMP=tmp_path)


def test_a_run_folder(tmp_path, capsys):
    config, facts = to_dict(tiny_config()), {"data": {"videos": 3}, "processes": 1}
    path = tmp_path / "run"
    found = {"new": refuse_changes(path, config, facts, extend=False)}

    def write(content):
        return lambda folder: (folder / "w").write_text(content)

    with RunFolder(path, config, facts, keep=2) as files:
        found["locked"] = outcome(lambda: RunFolder(path, config, facts))
        for update, loss in ((2, 0.5), (4, 0.2), (6, 0.2), (8, None), (10, 0.4)):
            files.log({"update": update, "loss": loss})
            files.save_checkpoint(update, write(str(update)), loss)
            found[f"after {update}"] = [
                [c.update for c in files.checkpoints()],
                files.best().update,
                files.newest().update,
                [files.is_best(value) for value in (None, 0.1, 0.2)],
            ]
        found["plan"] = files.plan_path(3).name
        found["marker"] = read_json(files.newest().folder / "COMPLETE")
        (files.newest().folder / "w").write_text("changed")
        found["damaged"] = outcome(files.newest().verify)
        (files.newest().folder / "w").unlink()
        found["missing"] = outcome(files.newest().verify)
        found["full"] = outcome(
            lambda: files.save_checkpoint(
                12, lambda folder: (_ for _ in ()).throw(OSError(28, "full"))
            )
        )
        files.rewind_log(6)
        files.remember(precision="fp32")
        found["facts"] = files.facts
    found["log"] = (path / "log.jsonl").read_text().splitlines()
    for name, (settings, known) in {
        "seed": ({**config, "seed": 9}, facts),
        "data": (config, {**facts, "data": {"videos": 4}}),
        "processes": (config, {**facts, "processes": 2}),
        "free": ({**config, "num_workers": 3, "save_every_updates": 1}, facts),
        "longer": ({**config, "epochs": 3}, facts),
        "shorter": ({**config, "epochs": 1}, facts),
    }.items():
        for extend in (False, True):
            found[f"{name}, extend {extend}"] = outcome(
                lambda s=settings, k=known, e=extend: refuse_changes(path, s, k, extend=e)
            )
    (path / "model").mkdir()
    longer = {**config, "epochs": 3}
    found["extended"] = refuse_changes(path, longer, facts, extend=True)
    found["not extended"] = outcome(
        lambda: refuse_changes(path, {**longer, "seed": 9}, facts, extend=False)
    )
    with (path / "log.jsonl").open("a") as file:
        file.write("{}}\n" + json.dumps({"update": 7}) + "\n{")
    found["line"] = outcome(lambda: read_log(path))
    found["until"] = [len(read_log(path, 5)), outcome(lambda: len(read_log(path, 6)))]
    found["differences"] = differences(
        {"a": {"b": 1}, "c": 2, "num_workers": 1}, {"a": {"b": 2}, "d": [1]}
    )
    found["positions"] = [
        Position(5, 2, 7, before).on(now) for before, now in ((1, 2), (2, 1), (3, 2), (0, 2))
    ]
    approved.check("run-folder", found, TMP=tmp_path)


def test_a_run_folder_after_trouble(tmp_path, monkeypatch):
    """A refused start lets go of the folder; what was only half removed does not count."""
    config = {"seed": 1}
    with RunFolder(tmp_path, config, {}, keep=1) as files:
        files.save_checkpoint(1, lambda folder: (folder / "w").touch(), 0.0)
        assert not files.is_best(0.1)
        files.save_checkpoint(2, lambda folder: (folder / "w").touch(), None)
        monkeypatch.setattr(run_folders.shutil, "rmtree", lambda folder, **_: None)
        files.save_checkpoint(3, lambda folder: (folder / "w").touch(), None)
        assert [checkpoint.update for checkpoint in files.checkpoints()] == [1, 3]
    with pytest.raises(ConfigError, match="seed") as refusal:
        RunFolder(tmp_path, {"seed": 2}, {})
    with RunFolder(tmp_path, config, {}) as files:
        assert files.newest().update == 3
    assert refusal.value


def test_lines_of_progress(monkeypatch, capsys):
    clock = iter([0.0, 30.0, 30.0, 62.0, 40.0, 93.0, 93.0, 124.0])
    monkeypatch.setattr(logging.time, "monotonic", lambda: next(clock, 200.0))
    entry = {"update": 30, "epoch": 2, "loss": 1.23456, "pairs_per_second": 321.6}
    with ProgressLine(100, 10) as line:
        for update in (30, 31, 50):
            line.show_update({**entry, "update": update})
        line.print_line("[bold]a [3]" + " long" * 30)
    print_line("said")
    print_line("hidden", visible=False)
    approved.check("lines-of-progress", capsys.readouterr().err.replace("\r", "\\r"))


def test_a_bar_on_a_terminal(monkeypatch):
    """It is drawn while the run lasts and erased at the end; what is printed stays."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(logging.sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressLine(100, 10) as line:
        line.show_update({"update": 30, "epoch": 2, "loss": 1.5, "pairs_per_second": 3.0})
        line.refresh()
        line.print_line("kept")
    drawn = terminal.getvalue()
    assert "30/100" in drawn and "loss 1.500" in drawn and "kept" in drawn
    assert drawn.rstrip("\r").endswith("\x1b[2K")  # the line of the bar is cleared


def test_trackers(tmp_path, monkeypatch, capsys):
    calls = []

    class Module:
        def __init__(self, name):
            self.name = name

        def __getattr__(self, called):
            def record(*arguments, **options):
                print("where to look")
                calls.append([f"{self.name}.{called}", *arguments, options])
                return self

            return record

    monkeypatch.setattr(logging.importlib, "import_module", Module)
    entries = [
        {"update": 2, "evaluation": {"R@1": 0.5}},
        {"update": 3, "epoch": 1, "loss": 2.0, "lr": 0.1},
    ]
    for name in ("tensorboard", "wandb", "trackio"):
        with tracker(name, tmp_path / "out", {"seed": 1}) as on_log:
            for entry in entries:
                on_log(entry)
        with tracker(name, tmp_path / "out", {}):
            pass
    with tracker(None, tmp_path, {}) as none:
        pass

    def absent(name):
        raise ImportError

    monkeypatch.setattr(logging.importlib, "import_module", absent)
    with pytest.raises(Exception, match="tracker") as caught, tracker("wandb", tmp_path, {}):
        pass
    output = capsys.readouterr()
    found = {
        "calls": calls,
        "none": none,
        "error": caught.value,
        "output": [output.out, len(output.err)],
    }
    approved.check("trackers", found, TMP=tmp_path)


def test_errors_of_the_disk(tmp_path):
    def raised(error):
        with _report_disk_errors(tmp_path):
            raise error

    errors = [OSError(28, "full"), OSError(2, "absent"), SafetensorError("odd"), ValueError("a")]
    found = [outcome(lambda error=error: raised(error)) for error in errors]
    approved.check("errors-of-the-disk", found, TMP=tmp_path)


def test_results_in_words(tmp_path):
    result = RunResult(
        Path("m"), 12, 7.6, 1.23456, None, {"a": 0.5, "a low": 0.1, "a high": 0.75}, {"a": 1}
    )
    for update, loss in ((1, 0.5), (2, 0.3), (3, 0.4)):
        with (tmp_path / "log.jsonl").open("a") as file:
            print(json.dumps({"update": update, "loss": loss, "seconds": 2.0}), file=file)
            print(json.dumps({"update": update, "validation_loss": 2 * loss}), file=file)

    def read_result(keep_best):
        return runs._result(tmp_path, keep_best, {}, {}, None)

    approved.check(
        "results-in-words",
        [
            *(str(replace(result, validation_loss=loss)) for loss in (None, 0.98765, 0.0)),
            result.measures(),
            *(replace(read_result(best), model_folder=Path("m")) for best in (False, True)),
        ],
    )


def test_refused_starts(corpus, tmp_path):
    config = tiny_config()
    model = VideoCLIP(config.model)
    folder = tmp_path / "videos"
    folder.mkdir()
    captions = tmp_path / "captions.json"
    captions.write_text('{"egg-0": {"start": [0], "end": [5], "text": ["now the egg"]}, "z": 1}')
    none = NarratedCorpus([], corpus.store)
    calls = {
        "settings": lambda: pretrain(
            config,
            corpus,
            tmp_path / "a",
            init_from=VideoCLIP(replace(config.model, temperature=0.3)),
            tokenizer=WORDS,
        ),
        "no videos": lambda: pretrain(
            config, folder, tmp_path / "a", features=corpus.store, tokenizer=WORDS
        ),
        "no features": lambda: pretrain(config, captions, tmp_path / "a", tokenizer=WORDS),
        "folder": lambda: pretrain(config, folder, tmp_path / "a", tokenizer=WORDS),
        "absent": lambda: pretrain(config, tmp_path / "none", tmp_path / "a", tokenizer=WORDS),
        "recipe": lambda: pretrain("smal", corpus, tmp_path / "a"),
        "vocabulary": lambda: pretrain(config, corpus, tmp_path / "a"),
        "encoder": lambda: pretrain(
            config, corpus, tmp_path / "a", frame_encoder=model, tokenizer=WORDS
        ),
        "held out": lambda: pretrain(
            replace(config, validation_videos=12), corpus, tmp_path / "a", tokenizer=WORDS
        ),
        "empty": lambda: pretrain(config, none, tmp_path / "a", tokenizer=WORDS),
        "file": lambda: pretrain(config, corpus, captions, tokenizer=WORDS),
        "processes": lambda: pretrain(
            config, corpus, tmp_path / "b", tokenizer=WORDS, world=World(0, 3)
        ),
    }
    del calls["processes"]  # needs the processes
    approved.check("refused-starts", {n: outcome(call) for n, call in calls.items()}, TMP=tmp_path)


def test_what_a_run_starts_from(corpus, tmp_path, monkeypatch, capsys):
    """A trained re-ranker is kept, a named vocabulary wins, and other models are refused."""
    config = tiny_config(model=replace(tiny_config().model, num_cross_layers=1))
    crossed = VideoCLIP(config.model)
    assert starts._start(config, crossed, WORDS, None)[1] is crossed
    other_words = Tokenizer([*WORDS.word_pieces[:-1], "other"])
    start = Embedder(VideoCLIP(tiny_config().model), other_words)
    found_words = [
        starts._start(tiny_config(), start, words, None)[2].fingerprint for words in (WORDS, None)
    ]
    assert found_words == [WORDS.fingerprint, other_words.fingerprint]
    with pytest.raises(ConfigError, match="the model to start from has other settings"):
        starts._start(starter(), start, WORDS, None)
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "train_meta.pkl").write_bytes(pickle.dumps({0: ["v1", "v0"]}))
    write_shards(shards)
    narrow = tiny_config(model=replace(tiny_config().model, feature_dim=2))
    source = NarratedSource(replace(config, validation_videos=2), corpus, "x", World())
    monkeypatch.setattr(starts, "MOST_SCORED_VIDEOS", 1)
    found = {
        "released": starts._open_store(shards, None, narrow).spec,
        "scored": starts._choice(source, crossed).keywords["num_videos"],
        "page": [
            starts._run_page(
                NarratedSource(replace(config, validation_videos=number), corpus, "x", World()),
                *(WORDS, None, crossed),
            )._is_held_out
            for number in (0, 1, 2)
        ],
    }
    found["left out"] = []
    for number in (5, 6):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in corpus.video_ids[number:]:
            (folder / f"{name}.srt").write_text("00:01 --> 00:03\nthe egg\n")
        joined = starts._join(folder, corpus.store, WORDS, [], True)
        found["left out"].append([len(joined), printed(capsys)])
    some = starts._join(folder, corpus.store, WORDS, corpus.video_ids[4:9], False)
    found["of some videos"] = [some.video_ids, some.left_out]
    approved.check("what-a-run-starts-from", found, TMP=tmp_path)


def test_a_start_with_other_settings_computes_no_features(corpus, tmp_path, monkeypatch):
    """It is refused at once, as is the page of a process that writes nothing."""
    config, out = tiny_config(epochs=1), tmp_path / "run"
    with RunFolder(out, to_dict(config), {}) as files:
        files.log({"update": 1})
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").touch()
    (tmp_path / "videos" / "a.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:03.000\nthe egg\n")
    backbone = SimpleNamespace(spec=corpus.store.spec)
    monkeypatch.setattr(starts, "load_backbone", lambda *arguments: backbone)
    monkeypatch.setattr(starts, "_compute_features", lambda *a: pytest.fail("computes features"))
    with pytest.raises(ConfigError, match="other settings"):
        pretrain(replace(config, seed=9), tmp_path / "videos", out, tokenizer=WORDS)
    monkeypatch.setattr(starts, "train", lambda *arguments, **options: "trained")
    monkeypatch.setattr(starts, "_run_page", lambda *a: pytest.fail("makes a page"))
    second = pretrain(config, corpus, out, tokenizer=WORDS, world=World(1, 1), page=True)
    assert second == "trained"


@pytest.fixture(scope="module")
def narrated(tmp_path_factory):
    """Features of 24 videos, and a folder with subtitles of most."""
    folder = tmp_path_factory.mktemp("narrated")
    corpus = tiny_corpus(folder / "store", num_videos=24)
    (folder / "texts").mkdir()
    lines = [f"00:0{s}.000 --> 00:0{s + 2}.500\nnow the {{}}\n" for s in (0, 3, 6)]
    for number, video in enumerate(corpus):
        name = video.video_id
        text = "WEBVTT\n\n" + "\n".join(lines).format(*[name.partition("-")[0]] * 3)
        if number % 3 or number > 20:
            (folder / "texts" / f"{name}.vtt").write_text(text)
    (folder / "texts" / "egg-0.srt").write_text("no times")
    return folder, corpus


def test_starts_from_files(narrated, tmp_path, capsys):
    folder, corpus = narrated
    store = folder / "store"
    usual = tiny_config(epochs=1, name="files")
    Tokenizer(WORDS.word_pieces).save(tmp_path)
    captions = {
        name: {"start": [0, 2], "end": [2, 4], "text": ["now the", "now the egg"]}
        for name in (*corpus.video_ids[:9], "other")
    }
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    plan = PlanConfig(kind="mined", videos_per_batch=4, clips_per_vector=2)
    torch.manual_seed(0)
    teacher = Embedder(VideoCLIP(usual.model).eval(), WORDS)
    teacher.save_pretrained(tmp_path / "teacher")
    taught = replace(usual, plan=replace(plan, teacher=str(tmp_path / "teacher")))
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "train_meta.pkl").write_bytes(pickle.dumps({0: ["v1", "v0"]}))
    write_shards(shards)
    narrow = replace(usual.model, feature_dim=2)
    crossed = replace(usual, model=replace(usual.model, num_cross_layers=1), validation_videos=6)
    calls = {
        "folder": lambda out: pretrain(
            replace(usual, validation_videos=6), folder / "texts", out, features=store, page=True
        ),
        "a share": lambda out: pretrain(
            replace(usual, validation_share=0.05), str(folder / "texts"), out, features=str(store)
        ),
        "captions": lambda out: pretrain(usual, tmp_path / "captions.json", out, features=store),
        "shards": lambda out: pretrain(replace(usual, model=narrow), shards, out),
        "teacher": lambda out: pretrain(taught, corpus, out),
        "model": lambda out: pretrain(usual, corpus, out, init_from=tmp_path / "teacher"),
        "re-ranker": lambda out: pretrain(
            crossed, folder / "texts", out, features=store, init_from=str(tmp_path / "teacher")
        ),
    }
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("videoclip.training.pretrain.text_folder", lambda: tmp_path)
        for name, call in calls.items():
            made = call(tmp_path / "out" / name)
            log = logged(tmp_path / "out" / name)
            facts = read_json(tmp_path / "out" / name / "facts.json")
            found[name] = {
                "printed": [line for line in printed(capsys) if "matmul" not in line],
                "losses": [e["loss"] for e in log if "loss" in e],
                "before": list(made.before.items())[:7],
                "after": summary(list(made.after.values()))[1:],
                "plan": plans(tmp_path / "out" / name)["epoch-001.json"]["groups"],
                "data": facts["data"]["videos"],
                "from": [facts["init_from"] == "random", facts["teacher"] is None],
                "kept": made.kept,
            }
    page = (tmp_path / "out" / "folder" / "index.html").read_text()
    texts = re.findall(r">([^<>{}\n]*[a-z][^<>{}\n]*)<", page)
    found["page"] = [
        page.count("<svg"),
        page.count("<tr"),
        [re.sub(r" in \d+ s", " in N s", t) for t in texts if len(t) > 3][:22],
    ]
    approved.check("starts-from-files", found, TMP=tmp_path, FOLDER=folder)


def test_two_processes(tmp_path):
    def work(world):
        rows = torch.arange(4.0 + 2 * world.rank).view(-1, 2).requires_grad_()
        gathered = world.gather_with_gradient(rows)
        (gathered.square() * (1 + world.rank)).sum().backward()
        own = world.own_rows(len(rows))
        return {
            "broadcast": world.broadcast(f"from {world.rank}"),
            "gather": world.gather({"rank": world.rank}),
            "mean": world.mean({"a": float(world.rank), "b": 2.0}),
            "rows": world.gather_rows(rows),
            "gradient": rows.grad,
            "own": [own.start, own.stop],
            "places": list(world.own_places(1, 3)),
        }

    approved.check("two-processes", on_two_ranks(work, tmp_path))
