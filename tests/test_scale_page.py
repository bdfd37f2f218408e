"""The page on a million videos has the tables that the script prints."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def tables(*arguments):
    command = [sys.executable, "bench/scale.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip().split("\n\n")


def test_the_page_has_the_tables_that_the_script_prints():
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    costs, assumptions = tables()
    assert f"\n\n{costs}\n\n" in page and f"\n\n{assumptions}\n\n" in page


def test_assumptions_are_options():
    (ours, _), (twice, _) = tables(), tables("--hours", "268000", "--core-price", "1")
    assert "| decode one frame a second | 6,700 core hours | 6.7 h on 1,000 cores | $268 |" in ours
    assert (
        "| decode one frame a second | 13,400 core hours | 13.4 h on 1,000 cores | $13,400 |"
        in (twice)
    )
