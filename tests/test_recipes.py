"""The settings of recipes are those on which the numbers in docs/ were measured.

Who changes one on purpose puts the new digest here, and measures again or says so in docs/.
"""

import hashlib
import json
from dataclasses import asdict

from videoclip.config import EvaluateConfig, to_dict
from videoclip.embedding import WindowConfig
from videoclip.library.search import SearchOptions
from videoclip.recipes import FINETUNING, RECIPES

DIGESTS = {
    "paper": "9c9c7356fcac",
    "base": "b715599ac7dd",
    "small": "cfdae8a6c155",
    "tiny": "9090f0be3452",
    "starter": "877a3281746b",
    "crossmodal": "873b19da97f2",
    "youcook2": "aabe32f66ee4",
    "msrvtt": "58d0beb83225",
    "msrvtt_qa": "61f717450c77",
    "crosstask": "b1908dc78c03",
    "coin": "15ef518d03e3",
    "coin_texts": "54aa9a890f93",
    "csv": "b1efbce9c1d8",
    "EvaluateConfig": "de9fb9f1c2b9",
    "WindowConfig": "1cf60b73da85",
    "SearchOptions": "fc1449fe9073",
}


def digest(settings):
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def test_settings_are_those_that_were_measured():
    made = {name: to_dict(recipe()) for name, recipe in (RECIPES | FINETUNING).items()}
    made |= {
        kind.__name__: json.loads(json.dumps(asdict(kind()), default=str))
        for kind in (EvaluateConfig, WindowConfig, SearchOptions)
    }
    assert {name: digest(settings) for name, settings in made.items()} == DIGESTS
