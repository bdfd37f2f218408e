"""What becomes of each setting of a project file of MMPT, as approved."""

import yaml

from tests import approved
from tests.test_mmpt import PRETRAINING
from videoclip import mmpt
from videoclip.config import flatten, to_dict

VALUES = {
    "numbers": {name: 3 for name in mmpt.NUMBERS}
    | {"adam_betas": [0.8, 0.9], "total_num_update": 9, "num_cands": 999},
    "texts": {
        "lr": "[5e-5]",
        "clip_norm": "(2,)",
        "adam_eps": "1e-9",
        "adam_betas": "(0.9, 0.98)",
        "seed": "x",
        "max_epoch": "[[",
        "update_freq": "1 + 1",
        "weight_decay": "0",
    },
    "lists": {"lr": [], "seed": [1, 2], "update_freq": [4], "max_epoch": (5,)},
    "a text in a list": {"num_cands": ["6"]},
    "words": {f"part{i}": {"cls": word} for i, word in enumerate(mmpt.WORDS)},
    "reasons": {
        "fp16": False,
        "model": "MMFusionJoint",
        "subsampling": 1,
        "a": {"vfeats_dir": "x", "save_dir": "y"},
        "batch_size": 8,
        "other": None,
        "odd": [1],
    },
    "fine-tuning": {"task": "a VTT retrieval", "batch_size": 16, "lr": 1, "plan": {"num_cands": 2}},
    "both": {"task": "crosstask", "loss": "MMContraLoss"},
    "lengths": {"x": {"max_len": 64}, "max_video_len": 20},
    "one length": {"max_len": 64, "max_video_len": "20"},
    "too long": {"max_len": 20, "max_video_len": 20},
    "wrong": {"lr": -1},
}
CHAIN = {f"level {i}": f"includes: level {i + 1}.yaml" for i in range(9)} | {"level 9": "seed: 4"}
TEXTS = CHAIN | {
    "a list": "[1]",
    "no yaml": "a: [",
    "nothing": "",
    "absent": "includes: nowhere.yaml",
    "itself": "includes: itself.yaml",
    "two": "includes: [lower.yaml, upper.yaml]\nmodel: {max_video_len: 8}\nseed: 2",
    "lower": "model: {max_len: 40, max_video_len: 4}\nseed: 1\nlr: 0.1",
    "upper": "seed: 3\nmodel: {loss: T2VContraLoss}",
    "coin_x": "seed: 1",
    "msr_mc and vtt": "seed: 1",
    "latin": "seed: 1 # \xe9",
}


def test_project_files(tmp_path):
    files = {name: yaml.safe_dump(values, sort_keys=False) for name, values in VALUES.items()}
    files |= TEXTS | {"whole": PRETRAINING}

    def read(path):
        project = mmpt.read_project(path)
        recipe = flatten(to_dict(mmpt._recipe(path, flatten(mmpt._load(path)))))
        found = flatten(to_dict(project.config))
        changed = {name: value for name, value in found.items() if value != recipe[name]}
        kind = [type(project.config).__name__, found.get("name", "")]
        return [kind, changed, project.translated, project.untranslated]

    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text, encoding="latin1" if name == "latin" else None)
    results = {
        name: approved.outcome(lambda path=tmp_path / f"{name}.yaml": read(path)) for name in files
    }
    approved.check("mmpt", results, TMP=tmp_path)
