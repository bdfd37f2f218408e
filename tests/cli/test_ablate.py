"""`videoclip ablate` as a user runs it."""

import json

import pytest

from tests.ablation.test_ablate import out  # noqa: F401
from videoclip.ablation.rows import ROWS
from videoclip.cli import main


def test_rows_are_listed(capsys):
    assert main(["ablate", "nowhere", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed and row.summary in listed for name, row in ROWS.items())


def test_a_table_on_stdout(out, capsys):  # noqa: F811
    options = ["--name", "little", "--seeds", "1", "--rows", "plain", "mined"]
    assert main(["ablate", str(out), *options]) == 0
    printed, told = capsys.readouterr()
    assert printed == (out / "table.md").read_text()
    assert "row mined, seed 1 is done" in told
    assert main(["ablate", str(out), *options, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [line["row"] for line in rows] == ["plain", "mined"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "plian"], "unknown row 'plian'"),
        (["--world.lead-sd-seconds", "-1"], "world.lead_sd_seconds must not be negative"),
    ],
)
def test_mistakes_are_told_in_a_line(out, options, message, capsys):  # noqa: F811
    assert main(["ablate", str(out), "--name", "little", *options]) != 0
    assert message in capsys.readouterr().err
