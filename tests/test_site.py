"""The documentation site: every command is one that the program takes, and no page is forgotten."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

import videoclip
from tools import docs_site, sessions
from videoclip.cli import COMMANDS
from videoclip.cli.options import parse

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(r"^```(sh|console)?\n(.*?)^```$|((?:^    .*\n)+)", re.DOTALL | re.MULTILINE)
PLACEHOLDER = re.compile(r" \.\.\.(?= |$)|RECIPE|BENCHMARK|COMMAND|NAME$")


def shown_commands(page):
    """The `videoclip ...` commands of a page's blocks, each without pipes and redirections."""
    for kind, fenced, indented in BLOCK.findall(page.read_text(encoding="utf-8")):
        text = (fenced or indented).replace("\\\n", " ")
        for line in text.splitlines():
            if kind == "console" and not line.startswith("$ "):
                continue  # output
            if "videoclip " in line:
                for words in split_at_pipes(line.removeprefix("$ ")):
                    if "videoclip" in words and is_command(words[: words.index("videoclip")]):
                        yield words[words.index("videoclip") + 1 :]


def split_at_pipes(line):
    """The words of each command of a line, without redirections and comments."""
    line = re.sub(r"\d>", ">", line)
    words = shlex.shlex(line, posix=True, punctuation_chars="|;&>")
    words.whitespace_split = True
    commands = [[]]
    for word in words:
        if set(word) <= set("|;&>"):
            commands.append([])
        else:
            commands[-1].append(word)
    return commands


def is_command(before):
    """Whether `videoclip` is what is run: first, behind variables, or `torchrun ... -m`."""
    return not before or before[-1] == "-m" or all("=" in word for word in before)


SHOWN = [
    pytest.param(words, id=f"{page.stem}: {' '.join(words)}")
    for page in PAGES
    for words in shown_commands(page)
    if words and not PLACEHOLDER.search(" ".join(words))
]


@pytest.mark.parametrize("words", SHOWN)
def test_shown_commands_are_understood(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name, *arguments = words
    assert name in COMMANDS
    if "--config" in arguments:  # it is read while arguments are parsed
        file = Path(arguments[arguments.index("--config") + 1])
        file.parent.mkdir(parents=True)
        with pytest.raises(SystemExit):
            read_command("pretrain", ["paper", "--out", "x", "--data", "x", "--print-config"])
        file.write_text(capsys.readouterr().out)
    if {"--help", "--print-config"} & set(arguments):
        with pytest.raises(SystemExit) as ended:
            read_command(name, arguments)
        assert not ended.value.code
    else:
        assert callable(read_command(name, arguments).run)


def read_command(name, arguments):
    """What the program makes of the arguments of a command."""
    module = importlib.import_module(f"videoclip.cli.{name}")
    if hasattr(module, "parse"):
        return module.parse(arguments)
    return parse(getattr(module, name.capitalize()), arguments, f"videoclip {name}")


def test_the_pages_show_commands():
    assert len(SHOWN) > 60


def test_an_unknown_flag_fails():
    with pytest.raises(SystemExit):
        read_command("search", ["x", "--no-such-flag"])


def test_each_command_has_a_page_with_its_session_and_options():
    pages = {page.stem: page for page in (ROOT / "docs" / "commands").iterdir()}
    assert set(pages) == set(COMMANDS)
    for name, page in pages.items():
        blocks = [m[2] for m in sessions.BLOCK.finditer(page.read_text(encoding="utf-8"))]
        run = [command for block in blocks for command in sessions.commands(block)]
        assert any(f"videoclip {name}" in command for command in run), name
        assert "Traceback" not in "".join(blocks) and "error:" not in "".join(blocks), name
        assert f"usage: videoclip {name}" in docs_site.options_section(name)


def test_the_navigation_has_every_page():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"[\w/-]+\.md$", text, flags=re.MULTILINE))
    written = {str(page.relative_to(ROOT / "docs")) for page in PAGES}
    made = {f"python/{page}.md" for page in docs_site.REFERENCE} | {"changelog.md"}
    assert named == written | made
    assert sessions.pages() and all(page.is_file() for page in sessions.pages())


def test_every_public_name_is_in_the_reference():
    text = "\n".join(docs_site.reference_pages().values())
    assert sorted(re.findall(r"heading: (\w+)", text)) == videoclip.__all__


def test_a_session_is_written_below_its_command(tmp_path):
    block = "$ echo one \\\n    two\nold\n$ pwd\nold\n"
    expected = f"$ echo one \\\n    two\none two\n\n$ pwd\n{sessions.HOME}\n"
    failed = []
    assert sessions.run_block(block, tmp_path, failed) == expected and failed == []
    assert sessions.run("echo no; exit 3", tmp_path, failed) == "no\n"
    assert failed == ["status 3: echo no; exit 3\nno\n"]


@pytest.mark.slow
def test_the_commands_of_all_sessions_succeed():
    assert sessions.run_pages(written=()) == []
