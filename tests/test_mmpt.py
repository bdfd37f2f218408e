"""Project files of MMPT, made up: what they say in our words, and what they say in none."""

import pytest

from videoclip.config import FinetuneConfig, PretrainConfig
from videoclip.errors import ConfigError, DataError
from videoclip.mmpt import read_project
from videoclip.recipes import coin, msrvtt_qa, paper

PRETRAINING = """
dataset:
  aligner: VideoRetriOverlappedAligner
  clip_per_video: 8
  max_len: 80
  max_video_len: 16
  num_cands: 48
  retri_epoch: 2
  subsampling: 2
  vfeats_dir: data/features
model:
  model_cls: MMFusionShare
loss:
  loss_cls: MMContraLoss
fairseq:
  optimization:
    lr: [0.0001]
    clip_norm: 1
    max_epoch: 3
    update_freq: [2]
  optimizer: adam
  lr_scheduler: polynomial_decay
  adam_betas: "(0.9, 0.999)"
  total_num_update: "5000"
  common:
    fp16: true
    seed: 4
"""


@pytest.fixture
def project(tmp_path):
    def project(text, name="how2.yaml"):
        (tmp_path / name).write_text(text)
        return read_project(tmp_path / name)

    return project


def test_pre_training_in_our_words(project):
    found = project(PRETRAINING)
    config = found.config
    assert isinstance(config, PretrainConfig)
    assert (config.epochs, config.seed, config.accumulate_batches) == (3, 4, 2)
    assert config.optim.lr == 1e-4 and config.optim.betas == (0.9, 0.999)
    assert config.optim.clip_norm == 1.0 and config.optim.total_updates == 5000
    assert config.optim.optimizer == "fairseq_adam"
    assert (config.model.max_video_tokens, config.model.max_text_tokens) == (16, 61)
    assert config.clips.max_video_seconds == 16 and config.clips.clips_per_video == 8
    assert config.plan.num_neighbours == 48 and config.plan.first_epoch == 2
    assert config.model.shared_encoder
    assert set(found.untranslated) == {
        "dataset.subsampling",
        "dataset.vfeats_dir",
        "fairseq.common.fp16",
    }
    assert found.translated["model.model_cls"] == "model.shared_encoder = True"


def test_what_is_not_said_is_the_recipe(project):
    assert project("loss: {loss_cls: MMContraLoss}").config == paper()


@pytest.mark.parametrize(
    ("text", "name", "recipe"),
    [
        ("loss: {loss_cls: V2TContraLoss}\ncheckpoint: {a: 1}", "vttqa.yaml", msrvtt_qa),
        ("dataset: {vfeats_dir: data/feat/feat_coin_s3d}", "task.yaml", coin),
    ],
)
def test_a_benchmark_is_known_by_its_name(project, text, name, recipe):
    assert project(text, name).config == recipe()


def test_fine_tuning_counts_pairs(project):
    found = project(
        "dataset: {batch_size: 96, num_workers: 2, clip_per_video: 4}\nloss: T2VContraLoss",
        "youcook.yaml",
    )
    assert isinstance(found.config, FinetuneConfig)
    assert (found.config.pairs_per_batch, found.config.loss.kind) == (96, "text_to_video")
    assert found.untranslated == {
        "dataset.num_workers": "FinetuneConfig has no num_workers",
        "dataset.clip_per_video": "FinetuneConfig has no clips.clips_per_video",
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("lr: [0.1, 0.2]", "one value is taken, not [0.1, 0.2]"),
        ("lr: ${somewhere.else}", "expected a number, got '${somewhere.else}'"),
        (
            "batch_size: 1",
            "set plan.videos_per_batch: a batch of pre-training is counted in videos",
        ),
        ("model_cls: MMFusionJoint", "video and text in one pass: there are only separate passes"),
        ("max_len: 96", "unknown here (it is 96)"),
    ],
)
def test_what_has_no_counterpart_is_named_with_the_reason(project, line, reason):
    (found,) = project(line).untranslated.values()
    assert found.startswith(reason)


def test_included_files_come_first(project, tmp_path):
    (tmp_path / "projects").mkdir()
    (tmp_path / "common.yaml").write_text("opt: {max_epoch: 2, seed: 3}\nloss: MMContraLoss")
    (tmp_path / "projects" / "one.yaml").write_text("includes: common.yaml\nopt: {max_epoch: 5}")
    config = read_project(tmp_path / "projects" / "one.yaml").config
    assert (config.epochs, config.seed) == (5, 3)


def test_of_included_files_the_nearest_is_read_and_later_ones_win(tmp_path):
    for folder, epochs in ("", 2), ("projects", 3), ("projects/how2", 4):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "common.yaml").write_text(
            f"opt: {{max_epoch: {epochs}, lr: 0.00{epochs}}}\nloss: MMContraLoss"
        )
    (tmp_path / "base.yaml").write_text("opt: {lr: 0.5, seed: 8}\nother: {weight_decay: 0.25}")
    project = tmp_path / "projects" / "how2" / "one.yaml"
    for includes, lr in (
        ("common.yaml", 0.004),
        ("[common.yaml, base.yaml]", 0.5),
        ("[base.yaml, common.yaml]", 0.004),
    ):
        project.write_text(f"includes: {includes}\nopt: {{seed: 9}}")
        config = read_project(project).config
        assert (config.epochs, config.optim.lr, config.seed) == (4, lr, 9)
        assert config.optim.weight_decay == (0.25 if "base" in includes else 0.0)
    (tmp_path / "projects" / "how2" / "common.yaml").unlink()
    assert read_project(project).config.epochs == 3
    project.write_text("includes: a.yaml\nopt: {max_epoch: 7}")
    for name, included in ("a", "b"), ("b", "common"):  # files that are included include others
        (tmp_path / f"{name}.yaml").write_text(f"includes: {included}.yaml\nopt: {{seed: 1}}")
    config = read_project(project).config
    assert (config.epochs, config.optim.lr, config.seed) == (7, 0.002, 1)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("- one\n- two", DataError, "not a YAML file of settings: name a project file"),
        ("a: [", DataError, "not a YAML file of settings"),
        ("a: !!python/object/apply:os.system [ls]", DataError, "not a YAML file of settings"),
        ("includes: absent.yaml", DataError, "file absent.yaml is neither beside this file nor"),
        ("includes: how2.yaml", DataError, "more than 8 files include each other"),
        ("lr: -1.0", ConfigError, "optim.lr must be positive"),
        ("max_epoch: many", DataError, ""),
    ],
)
def test_other_files_are_refused(project, text, error, message):
    if not message:
        assert project(text).untranslated == {"max_epoch": "expected a number, got 'many'"}
        return
    with pytest.raises(error, match=message):
        project(text)
