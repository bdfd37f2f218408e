"""Run the commands that the documentation shows, and write their output below them.

    python -m tools.sessions                         # all pages of docs/start and docs/commands
    python -m tools.sessions docs/commands/search.md # this page; the others only run

In a block marked `console`, each line that begins with "$ " is run by bash; what it prints replaces
the lines below it. All pages share one new home folder with three real clips in Videos, and run in
the order of the navigation (mkdocs.yml), so a page may use what an earlier one has made.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from videoclip.demo import sample_clips

ROOT = Path(__file__).resolve().parents[1]
HOME = "/home/me"
"""What the pages call the folder in which their commands run."""
BLOCK = re.compile(r"(```console\n)(.*?)(```)", re.DOTALL)


def pages() -> list[Path]:
    """Pages with sessions, in the order of the navigation."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    return [ROOT / "docs" / name for name in re.findall(r"\b(?:start|commands)/[\w-]+\.md", text)]


def commands(block: str) -> list[str]:
    """The commands of a block; a line that ends with a backslash goes on in the next one."""
    return re.findall(r"^\$ ((?:.*\\\n)*.*)", block, flags=re.MULTILINE)


def run_block(block: str, home: Path) -> str:
    """Return a block with the present output of its commands."""
    return "\n".join(f"$ {command}\n{run(command, home)}" for command in commands(block))


def run(command: str, home: Path) -> str:
    """Return what a command prints, with the name of the home folder as the pages have it."""
    variables = dict(os.environ, HOME=str(home), COLUMNS="100", PYTHONWARNINGS="ignore")
    variables["PATH"] = f"{Path(sys.executable).parent}:{variables['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=home,
        env=variables,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        print(f"status {done.returncode}: {command}\n{done.stdout}", file=sys.stderr)
    return done.stdout.replace(str(home), HOME)


def main() -> None:
    """Run all pages; write those that are named, or all."""
    chosen = [Path(name).resolve() for name in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "Videos").mkdir()
        for clip in sample_clips():
            shutil.copy(clip, home / "Videos")
        for page in pages():
            print(page.relative_to(ROOT), flush=True)
            text = page.read_text(encoding="utf-8")
            written = BLOCK.sub(lambda m: m[1] + run_block(m[2], home) + m[3], text)
            if not chosen or page in chosen:
                page.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main()
