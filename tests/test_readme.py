"""What the README shows, works."""

import ast
import importlib
import re
import shlex
import shutil
from pathlib import Path

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

import videoclip
from videoclip.cli import main
from videoclip.cli.options import parse
from videoclip.demo import sample_clips
from videoclip.synthetic.world import SyntheticConfig
from videoclip.synthetic.write import write_world

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
PYTHON = [block for kind, block in BLOCKS if kind == "python"]
COMMANDS = [
    command
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.splitlines()
    for command in line.split(" > ")[0].split(" | ")
    if re.search(r"\bvideoclip ", command)
]


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    """What README's Python blocks may name: real clips, and a folder of narrated videos.

    bikes.mp4, bigbuckbunny.mp4, carphone_pristine.mp4   sample clips of the extra `demo`
    videos/                                              6 synthetic videos with their subtitles
    world/                                               the world these come from
    """
    folder = tmp_path_factory.mktemp("readme")
    for clip in sample_clips():
        shutil.copy(clip, folder)
    short = SyntheticConfig(
        num_tasks=4,
        steps_per_video=(2, 3),
        step_seconds=(2.0, 3.0),
        gap_seconds=(0.5, 1.0),
        pixels=64,
    )
    write_world(folder / "world", short, num_videos=6, workers=1)
    shutil.copytree(folder / "world" / "videos", folder / "videos")
    return folder


def used_names(block):
    """Names that a block imports, and attributes that it reads."""
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield node.attr


@pytest.mark.parametrize("block", PYTHON)
def test_python_uses_public_names_alone(block):
    for name in used_names(block):
        assert not name.startswith("_"), name
        if name.startswith("videoclip"):
            assert name in {"videoclip", *(f"videoclip.{n}" for n in videoclip.__all__)}, name


@pytest.mark.usefixtures("no_workers")
def test_python_runs_in_order_and_gives_what_is_shown(assets, monkeypatch):
    """Comments behind assignments and prints are results; numbers may differ in the last digit."""
    monkeypatch.chdir(assets)
    printed = []
    names = {"print": lambda *values: printed.append(" ".join(map(str, values)))}
    for block in PYTHON:
        printed.clear()
        exec(compile(block, "README.md", "exec"), names)
        results = iter(printed)
        for line in block.splitlines():
            code, _, comment = line.partition("  # ")
            if code.strip().startswith("print("):  # of a loop, the first one
                check_result(next(results), comment)
            elif (target := re.match(r"(\w+) = ", code)) and re.match(r"[A-Z]\w*\(|\(\d", comment):
                value = names[target[1]]
                shown = repr(value) if comment[0] != "(" else str(value.shape)
                check_result(shown, comment)


@pytest.mark.usefixtures("no_workers")
def test_the_first_session_prints_what_is_shown(tmp_path, monkeypatch, capsys):
    """On a terminal, as a reader has one; README and the front page of the site show the same."""
    (tmp_path / "Videos").mkdir()
    for clip in sample_clips():
        shutil.copy(clip, tmp_path / "Videos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    session = next(block for kind, block in BLOCKS if not kind)
    for part in session.split("$ ")[1:]:
        command, _, shown = part.partition("\n")
        main(shlex.split(command)[1:])
        printed = capsys.readouterr()
        rows = printed.out.splitlines()
        heads = shown.rstrip().splitlines()[: -len(rows)]
        assert [*heads, *rows] == shown.rstrip().splitlines()
        assert set(heads) <= set(printed.err.splitlines())
    front_page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert f"```\n$ {part}".rstrip() in front_page


NUMBER = r"-?\d+(?:\.\d+)?"


def check_result(result, comment):
    """A comment begins with the result and may go on in words; numbers may be rounded."""
    if not comment:
        return
    form, shown_form = (re.sub(r"\s", "", re.sub(NUMBER, "0", text)) for text in (result, comment))
    assert shown_form.startswith(form), (result, comment)
    for number, shown in zip(re.findall(NUMBER, result), re.findall(NUMBER, comment)):
        assert float(shown) == pytest.approx(float(number), abs=0.02), (result, comment)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_understood(line):
    words = shlex.split(line, comments=True)
    name, *arguments = words[words.index("videoclip") + 1 :]
    module = importlib.import_module(f"videoclip.cli.{name}")
    if hasattr(module, "parse"):
        command = module.parse(arguments)
    else:
        command = parse(getattr(module, name.capitalize()), arguments, f"videoclip {name}")
    assert callable(command.run)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([\w-]+)", README, flags=re.MULTILINE):
        assert f"\n{target}: " in makefile


def test_continuous_integration_runs_the_test_command():
    assert (ROOT / ".ci/run").read_text(encoding="utf-8").rstrip().endswith("make test")


def test_the_package_index_shows_the_readme_without_links_into_the_repository():
    metadata = ProjectMetadata(str(ROOT), PluginManager())
    text = metadata.core.readme
    assert metadata.core.readme_content_type == "text/markdown"
    assert re.findall(r"\]\((?!https?:)|src=.(?!https?:)", README)
    assert not re.findall(r"\]\((?!https?:)|src=.(?!https?:)", text)
    assert "docs/models.md" in text and "(https://arxiv.org" in text


def test_linked_files_exist():
    for link in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / link).is_file(), link
