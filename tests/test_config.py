"""Configs check themselves and survive a round trip through JSON."""

import json

import pytest

from videoclip.config import (
    ClipConfig,
    FinetuneConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    PlanConfig,
    PretrainConfig,
    from_dict,
    ignored_settings,
    to_dict,
)
from videoclip.errors import ConfigError
from videoclip.recipes import FINETUNING, RECIPES


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_recipes_survive_json(recipe):
    config = recipe()
    assert from_dict(PretrainConfig, json.loads(json.dumps(to_dict(config)))) == config
    assert config.name in RECIPES


@pytest.mark.parametrize("name", FINETUNING)
def test_fine_tuning_recipes_survive_json(name):
    config = FINETUNING[name]()
    assert from_dict(FinetuneConfig, json.loads(json.dumps(to_dict(config)))) == config
    assert config.name == name and config.validation_videos > 0


def test_fine_tuning_is_what_was_released():
    runs = {name: recipe() for name, recipe in FINETUNING.items()}
    assert {name: run.epochs for name, run in runs.items() if name != "csv"} == {
        "youcook2": 10, "msrvtt": 10, "msrvtt_qa": 5, "crosstask": 5, "coin": 8, "coin_texts": 8,
    }  # fmt: skip
    sizes = [runs[name].pairs_per_batch for name in ("youcook2", "msrvtt", "msrvtt_qa")]
    assert sizes == [128, 224, 128]
    assert [runs[name].texts_per_clip for name in ("youcook2", "msrvtt", "msrvtt_qa")] == [
        1,
        20,
        20,
    ]
    kinds = [runs[name].loss.kind for name in ("youcook2", "msrvtt", "msrvtt_qa")]
    assert kinds == ["text_to_video", "text_to_video", "video_to_text"]
    assert [runs[name].window_step for name in ("crosstask", "coin")] == [16, 8]
    for name in ("youcook2", "msrvtt", "msrvtt_qa", "crosstask", "coin"):
        optim = runs[name].optim
        assert (optim.lr, optim.warmup_updates, optim.clip_norm) == (5e-5, 122, 2.0)
        assert optim.optimizer == "fairseq_adam"


def test_the_paper_is_what_was_released():
    run = RECIPES["paper"]()
    assert run.clips.clips_per_video * run.plan.videos_per_batch == 512
    assert (run.optim.lr, run.optim.betas, run.optim.warmup_updates) == (5e-5, (0.9, 0.98), 1000)
    assert (run.optim.optimizer, run.optim.clip_norm) == ("fairseq_adam", 2.0)
    assert (run.model.num_video_layers, run.model.num_text_layers) == (6, 12)
    assert (run.model.temperature, run.model.normalize, run.loss.negatives) == (1.0, False, "local")
    assert (run.plan.kind, run.plan.num_neighbours, run.epochs) == ("retrieval", 64, 25)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optm": {}}, "perhaps you meant 'optim'"),
        ({"optim": {"learning_rate": 1.0}}, "unknown setting 'optim.learning_rate'"),
        ({"optim": {"lr": "fast"}}, "optim.lr must be of type float"),
        ({"epochs": True}, "epochs must be of type int"),
        ({"optim": {"betas": [0.9]}}, "optim.betas must have 2 entries"),
        ({"optim": {"betas": 0.9}}, "optim.betas must be a list"),
        ({"plan": {"kind": "random"}}, "plan.kind must be one of"),
        ({"plan": 3}, "plan must be a table"),
        ({"frozen": ["a", 1]}, "frozen must be of type str"),
        ({"clips": {"text_capacity": 61}}, "unknown setting 'clips.text_capacity'"),
    ],
)
def test_wrong_settings_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(PretrainConfig, values)


def test_whole_numbers_do_for_floats():
    assert from_dict(OptimConfig, {"lr": 1, "betas": [0, 0.5]}) == OptimConfig(
        lr=1.0, betas=(0.0, 0.5)
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModelConfig(hidden_size=100), "multiple of"),
        (lambda: ModelConfig(max_text_tokens=600), "must hold 602"),
        (lambda: ModelConfig(shared_encoder=True, max_text_tokens=500), "must hold 535"),
        (lambda: ModelConfig(temperature=0), "temperature"),
        (lambda: ModelConfig(sep_id=99999), "sep_id"),
        (lambda: ModelConfig(num_cross_layers=-1), "num_cross_layers"),
        (lambda: ClipConfig(min_text_tokens=9, max_text_tokens=8), "min_text_tokens"),
        (lambda: PlanConfig(num_neighbours=3), "num_neighbours"),
        (lambda: PlanConfig(first_epoch=0), "count from 1"),
        (lambda: LossConfig(negatives="global", soft_target_share=0.1), "local"),
        (lambda: LossConfig(kind="sigmoid", soft_target_share=0.1), "sigmoid"),
        (lambda: LossConfig(kind="nce"), "loss.kind must be one of .*'infonce', .*, got 'nce'"),
        (lambda: PretrainConfig(accumulate_batches=0), "accumulate_batches"),
        (lambda: PretrainConfig(model=ModelConfig(classes=("a",))), "fine-tuning"),
        (
            lambda: PretrainConfig(
                train_backbone=True,
                plan=PlanConfig(teacher="x"),
                model=ModelConfig(backbone="image:x"),
            ),
            "plan.teacher",
        ),
        (lambda: OptimConfig(weight_decay=-1.0), "weight_decay"),
        (lambda: OptimConfig(ema_decay=1.0), r"optim.ema_decay must be in \[0, 1\)"),
        (lambda: OptimConfig(cooldown_share=1.1), r"optim.cooldown_share must be in \(0, 1\]"),
        (lambda: PretrainConfig(num_workers=-1), "num_workers"),
        (lambda: PretrainConfig(model=ModelConfig(max_video_tokens=16)), "does not fit"),
        (lambda: FinetuneConfig(pairs_per_batch=1), "at least 2"),
        (lambda: PretrainConfig(clips=ClipConfig(strategy="mil_nce")), "go together"),
    ],
)
def test_contradictions_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("recipe", [*RECIPES.values(), *FINETUNING.values()])
def test_recipes_have_no_ignored_settings(recipe):
    assert ignored_settings(recipe()) == []


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (PretrainConfig(plan=PlanConfig(drop_nearest=2)), ["plan.drop_nearest"]),
        (PretrainConfig(clips=ClipConfig(num_candidates=2)), ["clips.num_candidates"]),
        (PretrainConfig(frames_at_once=2), ["frames_at_once"]),
        (PretrainConfig(optim=OptimConfig(cooldown_share=0.1)), ["optim.cooldown_share"]),
        (PretrainConfig(optim=OptimConfig(cooldown_share=0.1, schedule="cooldown")), []),
        (FinetuneConfig(window_step=8), ["window_step"]),
        (FinetuneConfig(benchmark="crosstask", chunk_pairs=8), ["chunk_pairs"]),
        (FinetuneConfig(benchmark="coin", head="texts"), []),
    ],
)
def test_ignored_settings_are_named(config, names):
    sentences = ignored_settings(config)
    assert [sentence.split()[0] for sentence in sentences] == names
    assert all(" is ignored: it is for " in sentence for sentence in sentences)


def test_base_has_the_paper_s_sizes_and_our_loss():
    paper, base = RECIPES["paper"](), RECIPES["base"]()
    assert base.model.hidden_size == paper.model.hidden_size and base.epochs == paper.epochs
    assert base.model.learn_temperature and base.plan.kind == "mined"


def test_the_starter_recipe_holds_out_one_video_in_five():
    starter = RECIPES["starter"]()
    assert [starter.num_held_out(number) for number in (9, 10, 40, 99)] == [1, 2, 8, 19]
