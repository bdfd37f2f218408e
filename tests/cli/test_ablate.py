"""`videoclip ablate` as a user runs it."""

import json
import shutil

from tests.ablation.testbeds import little, out  # noqa: F401
from videoclip.ablation.runs import VARIANTS, run_folder
from videoclip.cli import main


def test_variants_are_listed(capsys):
    assert main(["ablate", "nowhere", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed and variant.summary in listed for name, variant in VARIANTS.items())


def test_a_table_on_stdout(out, capsys):  # noqa: F811
    shutil.rmtree(run_folder(out, "little", "again", 1))
    options = ["--name", "little", "--workers", "0", "--seeds", "1", "--variants", "plain", "mined"]
    assert main(["ablate", str(out), *options]) == 0
    printed, progress = capsys.readouterr()
    assert printed == (out / "table.md").read_text()
    assert "variant mined, seed 1 is done" in progress
    assert main(["ablate", str(out), *options, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in rows] == ["plain", "mined"]


def test_an_unknown_variant_is_reported_in_a_line(little, capsys):  # noqa: F811
    assert main(["ablate", str(little), "--name", "little", "--variants", "plian"]) != 0
    assert "unknown variant 'plian'" in capsys.readouterr().err
