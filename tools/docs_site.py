"""What `mkdocs build` writes itself: the options of commands, the Python reference, the changelog.

A hook of MkDocs (`hooks` in mkdocs.yml). The options come from the parser of each command and the
reference from the docstrings of `videoclip.__all__`, so neither can differ from the program.
"""

from __future__ import annotations

import io
import os
import re
import sys
import textwrap
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import videoclip  # noqa: E402
from videoclip.cli import main  # noqa: E402

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

WIDTH = 78
"""Columns of a help text."""
EXAMPLE_RECIPES = {"pretrain": "starter", "finetune": "csv"}
"""Commands whose options depend on a recipe, and the recipe whose options are shown."""
REFERENCE = {
    "search": ("Search and ask", ("embedding", "library", "zeroshot", "errors")),
    "train": ("Train", ("training", "model", "config", "recipes", "distributed")),
    "evaluate": ("Evaluate and compare", ("evaluation", "benchmarks", "comparison")),
    "data": ("Videos, features and captions", ("data", "features")),
}
"""Pages of the Python reference: their title, and the packages whose public names they have."""


def help_text(*arguments: str) -> str:
    """Return what a command prints with --help, in `WIDTH` columns."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(WIDTH)
    text = io.StringIO()
    try:
        with redirect_stdout(text):
            status = main([*arguments, "--help"])
    except SystemExit as ended:
        status = ended.code
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    assert status == 0, arguments
    return "\n".join(textwrap.fill(line, WIDTH) for line in text.getvalue().rstrip().split("\n"))


def options_section(command: str) -> str:
    """Return the section with the options of a command, as Markdown."""
    arguments = [command, EXAMPLE_RECIPES[command]] if command in EXAMPLE_RECIPES else [command]
    title = f"## Options\n\n`videoclip {' '.join(arguments)} --help`\n\n"
    return f"\n{title}```text\n{help_text(*arguments)}\n```\n"


def reference_pages() -> dict[str, str]:
    """Return the pages of the Python reference, by name; each public name is on one of them."""
    stub = (ROOT / "src/videoclip/__init__.pyi").read_text(encoding="utf-8")
    names = re.findall(r"^from (\S+) import (\w+) as \w+$", stub, flags=re.MULTILINE)
    assert {name for _, name in names} == set(videoclip.__all__)
    pages: dict[str, list[str]] = {page: [f"# {title}\n"] for page, (title, _) in REFERENCE.items()}
    for module, name in sorted(names, key=lambda home_and_name: home_and_name[1].lower()):
        package = name if module == "videoclip" else module.split(".")[1]
        page = next(page for page, (_, packages) in REFERENCE.items() if package in packages)
        options = f"    options:\n      heading: {name}\n      toc_label: {name}\n"
        pages[page].append(f"::: {module}.{name}\n{options}")
    return {page: "\n".join(parts) for page, parts in pages.items()}


def changelog() -> str:
    """Return the changelog, with its links as they are from inside docs/."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return text.replace("](docs/", "](")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    pages = {f"python/{page}.md": text for page, text in reference_pages().items()}
    for name, text in {**pages, "changelog.md": changelog()}.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Append its options to the page of a command."""
    folder, _, name = page.file.src_uri.removesuffix(".md").rpartition("/")
    return markdown + options_section(name) if folder == "commands" else markdown
