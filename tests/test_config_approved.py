"""Every range and rule of the settings, and every recipe as far as it differs from the defaults."""

from dataclasses import fields, replace
from typing import Any

from tests import approved
from tests.approved import outcome
from videoclip.ablation.runs import PAPER, SMALL, VARIANTS
from videoclip.config import (
    ClipConfig,
    EvaluateConfig,
    FinetuneConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    PlanConfig,
    PretrainConfig,
    flatten,
    from_dict,
    ignored_settings,
    load_run_config,
    to_dict,
)
from videoclip.recipes import FINETUNING, RECIPES, named_recipe
from videoclip.synthetic.world import SyntheticConfig, SyntheticWorld
from videoclip.synthetic.write import read_world, write_texts

CONFIGS = (
    *(ModelConfig, ClipConfig, PlanConfig, LossConfig, OptimConfig, EvaluateConfig),
    *(PretrainConfig, FinetuneConfig, SyntheticConfig),
)
NUMBERS = (-2, -1, 0, 0.5, 1, 2, 2**53)


def refusal(make, **changes) -> str:
    found = outcome(lambda: make(**changes))
    return found if isinstance(found, str) else ""


def changed(config: Any, usual: Any) -> dict:
    """Settings by dotted name that differ from those of another config."""
    known = flatten(to_dict(usual))
    return {k: v for k, v in flatten(to_dict(config)).items() if known.get(k, v) != v}


def test_ranges():
    """Which of some numbers each setting takes."""
    lines = []
    for config in CONFIGS:
        for field in fields(config):
            usual = getattr(config(), field.name)
            if isinstance(usual, int | float) and not isinstance(usual, bool):
                refusals = [refusal(config, **{field.name: number}) for number in NUMBERS]
                taken = " ".join(str(n) for n, r in zip(NUMBERS, refusals, strict=True) if not r)
                lines.append(f"{config.__name__}.{field.name}: {taken}".strip())
    approved.check("config-ranges", "\n".join([*lines, ""]))


def test_rules():
    usual, fine = PretrainConfig(), FinetuneConfig()
    refused = {
        "model": (
            ModelConfig,
            [
                {"hidden_size": 100, "num_heads": 12},
                {"max_video_tokens": 511},
                {"max_video_tokens": 510},
                {"max_text_tokens": 450, "shared_encoder": True, "max_video_tokens": 60},
                {"cls_id": 30522},
                {"pad_id": -1},
                {"dropout": 1.0},
                {"shared_encoder": True, "dual_encoder": "a"},
                {"num_cross_layers": 1, "dual_encoder": "a"},
                {"dual_encoder": "a", "normalize": True},
                {"dual_encoder": "a", "pooling": "plain_mean"},
                {"num_text_layers": 994},
                {"num_cross_layers": 494},
                {"num_text_layers": 999},
                {"vocab_size": 2**27},
            ],
        ),
        "clips": (
            ClipConfig,
            [{"min_text_tokens": 65}, {"min_video_seconds": 33}, {"min_iou": 1.1}],
        ),
        "plan": (
            PlanConfig,
            [
                {"num_neighbours": 31},
                {"max_similarity": 1.5},
                {"kind": "shuffled", "teacher": "a"},
                {"drop_nearest": -1},
            ],
        ),
        "loss": (
            LossConfig,
            [
                {"kind": "other"},
                {"soft_target_share": 0.1, "negatives": "global"},
                {"soft_target_share": 0.1, "kind": "sigmoid"},
                {"soft_target_share": 0.1, "ignore_overlapping": True},
                {"kind": "transport", "negatives": "global"},
                {"reranker_share": 1.5},
                {"equal_sentences": 1.5},
                {"hard_similarity": -2.0},
            ],
        ),
        "optim": (
            OptimConfig,
            [{"betas": (0.9, 1.0)}, {"ema_decay": 1.0}, {"cooldown_share": 1.5}],
        ),
        "evaluate": (EvaluateConfig, [{"dual_softmax": 0.1, "ties": "released"}]),
        "pretrain": (
            PretrainConfig,
            [
                {"train_backbone": True},
                {
                    "train_backbone": True,
                    "model": replace(usual.model, backbone="image:a"),
                    "plan": replace(usual.plan, teacher="a"),
                },
                {"clips": ClipConfig(max_video_seconds=33)},
                {"model": replace(usual.model, features_per_second=2.0)},
                {"loss": LossConfig(kind="mil_nce")},
                {"clips": ClipConfig(strategy="mil_nce")},
                {"model": replace(usual.model, classes=("a",))},
                {"clips": ClipConfig(learn_lead=True), "plan": PlanConfig(kind="shuffled")},
                {"clips": ClipConfig(learn_lead=True, strategy="aligned")},
                {"model": replace(usual.model, learn_logit_bias=True)},
                {
                    "loss": LossConfig(kind="mil_nce", seconds_weight=1.0),
                    "clips": ClipConfig(strategy="mil_nce"),
                },
                {"model": replace(usual.model, num_cross_layers=1), "chunk_pairs": 2},
                {
                    "model": replace(usual.model, num_cross_layers=1),
                    "loss": LossConfig(kind="mil_nce"),
                    "clips": ClipConfig(strategy="mil_nce"),
                },
                {"validation_share": 1.0},
            ],
        ),
        "finetune": (
            FinetuneConfig,
            [{"pairs_per_batch": 1}, {"loss": LossConfig(kind="sigmoid")}],
        ),
        "world": (
            SyntheticConfig,
            [
                {"steps_per_task": (0, 2)},
                {"gap_seconds": (3.0, 2.0)},
                {"gap_seconds": (3.0, 2.0**53)},
                {"gap_seconds": (3.0, 3.0)},
                {"twin_share": 1.1},
                {"off_topic_share": 1.0},
                {"num_tasks": 3},
                {"num_steps": 16},
                {"num_steps": 2000},
                {"max_distractors": 21},
                {"pixels": 33},
                {"pixels": 30},
            ],
        ),
    }
    found: dict[str, Any] = {
        name: [refusal(config, **changes) for changes in cases]
        for name, (config, cases) in refused.items()
    }
    unread = PretrainConfig(
        optim=OptimConfig(cooldown_share=0.5),
        plan=PlanConfig(kind="shuffled", drop_nearest=1, num_neighbours=99, first_epoch=3),
        clips=ClipConfig(strategy="aligned", lead_seconds=2, num_candidates=3),
        loss=LossConfig(kind="sigmoid", ignore_overlapping=True, reranker_share=0.5),
        frames_at_once=3,
    )
    found["ignored"] = ignored_settings(unread)
    found["ignored to fine-tune"] = [
        ignored_settings(
            replace(fine, benchmark=name, window_step=3, head="texts", texts_per_clip=2)
        )
        for name in ("youcook2", "crosstask", "coin")
    ]
    read = PretrainConfig(
        optim=OptimConfig(cooldown_share=0.5, schedule="cooldown"),
        plan=PlanConfig(kind="mined", drop_nearest=1, max_similarity=0.5, clips_per_vector=3),
        clips=ClipConfig(lead_seconds=2),
        loss=LossConfig(seconds_weight=1.0, ignore_overlapping=True, hard_similarity=0.1),
        model=replace(usual.model, num_cross_layers=1),
    )
    found["read"] = ignored_settings(read)
    mined = replace(read, plan=replace(read.plan, num_neighbours=99))
    found["neighbours of mined"] = ignored_settings(mined)
    found["held out"] = [
        replace(usual, validation_share=0.29).num_held_out(10),
        replace(usual, validation_share=0.3, validation_videos=4).num_held_out(10),
        replace(usual, validation_share=0.3, validation_videos=2).num_held_out(10),
    ]
    approved.check("config-rules", found)


def test_configs_as_files(tmp_path):
    cases = {
        "unknown": {"optm": {}},
        "nested": {"optim": {"learning_rate": 1}},
        "table": {"optim": 3},
        "choice": {"precision": "fp16"},
        "type": {"epochs": 2.5},
        "bool": {"epochs": True},
        "text": {"name": 3},
        "list": {"frozen": "a"},
        "entries": {"optim": {"betas": [0.9]}},
        "null": {"epochs": None},
        "no teacher": {"plan": {"teacher": None}},
        "float": {"optim": {"lr": 1}},
        "truth as a number": {"optim": {"lr": True}},
        "tuple": {"frozen": ["a", "b"]},
    }
    found = {}
    for name, values in cases.items():
        made = outcome(lambda values=values: from_dict(PretrainConfig, values))
        found[name] = made if isinstance(made, str) else changed(made, PretrainConfig())
    for name, text in {
        "cut": "{",
        "list file": "[]",
        "model": '{"feature_dim": 3}',
        "newer": '{"version": 2}',
        "wrong": '{"version": 1, "epochs": "a"}',
        "right": '{"version": 1, "epochs": 3}',
        "without version": '{"epochs": 4}',
    }.items():
        (tmp_path / "config.json").write_text(text)
        made = outcome(lambda: load_run_config(PretrainConfig, tmp_path))
        found[name] = made if isinstance(made, str) else changed(made, PretrainConfig())
    found["absent"] = outcome(lambda: load_run_config(PretrainConfig, tmp_path / "none"))
    found["recipe"] = outcome(lambda: named_recipe("papr", RECIPES))
    found["far"] = outcome(lambda: named_recipe("xyz", FINETUNING))
    tiny = {"num_tasks": 2, "num_new_tasks": 2, "num_steps": 18, "seed": 3}
    config = SyntheticConfig(**tiny)
    write_texts(tmp_path / "world", config, 3)
    found["world"] = [
        outcome(lambda: write_texts(tmp_path / "world", replace(config, seed=4), 3)),
        outcome(lambda: write_texts(tmp_path / "world", config, 0)),
        outcome(lambda: read_world(tmp_path)),
        read_world(tmp_path / "world").config == config,
    ]
    (tmp_path / "world.json").write_text('{"seed": "a"}')
    found["no world"] = outcome(lambda: read_world(tmp_path))
    world = SyntheticWorld(config)
    found["twins"] = [
        SyntheticWorld(replace(config, twin_share=0.9)).video(i).root for i in range(9)
    ]
    found["held out"] = sorted(world.held_out_colours)[:3]
    found["test videos of 100"] = [
        [SyntheticWorld(replace(config, test_share=share)).split(i) for i in range(100)].count(
            "test"
        )
        for share in (0.0, 0.29, 0.57, 1.0)
    ]
    approved.check("config-files", found, TMP=tmp_path)


def test_recipes():
    lines = []
    for name, recipe in RECIPES.items():
        settings = changed(recipe(), PretrainConfig())
        lines += [f"{name}: {key} = {value}" for key, value in settings.items()]
    for name, recipe in FINETUNING.items():
        settings = changed(recipe(), FinetuneConfig())
        lines += [f"{name}: {key} = {value}" for key, value in settings.items()]
    approved.check("recipes", "\n".join(lines) + "\n")


def test_variants_of_the_ablation():
    lines = [f"{name}: {key} = {v}" for name, c in {"PAPER": PAPER, "SMALL": SMALL}.items()
             for key, v in changed(c, PretrainConfig()).items()]  # fmt: skip
    for name, variant in VARIANTS.items():
        usual = PAPER if name.startswith("paper") else SMALL
        settings = ", ".join(f"{k}={v}" for k, v in changed(variant.config, usual).items())
        more = f"{variant.against}|{variant.rerank_top}|{variant.trained_as}|{variant.teacher}"
        lines.append(f"{name}|{variant.summary}|{more}|{settings}|{variant.depends_on}")
    approved.check("variants", "\n".join(lines) + "\n")
