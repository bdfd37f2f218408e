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
from collections.abc import Collection
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


def run_block(block: str, home: Path, failed: list[str]) -> str:
    """Return a block with the present output of its commands.

    Args:
        block: The block.
        home: Folder in which its commands run.
        failed: Gets each command that fails, with its status and output.
    """
    return "\n".join(f"$ {command}\n{run(command, home, failed)}" for command in commands(block))


def run(command: str, home: Path, failed: list[str]) -> str:
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
        failed.append(f"status {done.returncode}: {command}\n{done.stdout}")
    return done.stdout.replace(str(home), HOME)


def run_pages(written: Collection[Path]) -> list[str]:
    """Run all pages in their order, and return the commands that failed.

    Args:
        written: Pages that get the present output of their commands.
    """
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "Videos").mkdir()
        for clip in sample_clips():
            shutil.copy(clip, home / "Videos")
        for page in pages():
            print(page.relative_to(ROOT), flush=True)
            text = page.read_text(encoding="utf-8")
            text = BLOCK.sub(lambda m: m[1] + run_block(m[2], home, failed) + m[3], text)
            if page in written:
                page.write_text(text, encoding="utf-8")
    return failed


def main() -> None:
    """Run all pages; write those that are named, or all."""
    chosen = [Path(name).resolve() for name in sys.argv[1:]]
    if failed := run_pages(chosen or pages()):
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
