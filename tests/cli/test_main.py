"""The command line's frame, as a user meets it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.make_video import write_video
from videoclip.cli import COMMANDS, EXIT_STATUSES, main


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "videoclip", *arguments], capture_output=True, text=True, check=False
    )


def test_help_never_imports_torch():
    code = (
        "import sys, videoclip.cli; videoclip.cli.main(['--help']); "
        "assert not {'torch', 'numpy', 'av', 'tyro'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in COMMANDS)


PAGES = [*map(str.split, COMMANDS), ["pretrain", "small"], ["finetune", "youcook2"]]


@pytest.fixture(scope="module")
def help_pages():
    """By its command: exit status and text of each help page, and whether torch was imported.

    All are asked for in one new process.
    """
    code = f"""
import contextlib, io, json, sys, videoclip.cli
for arguments in {PAGES!r}:
    status, text = 0, io.StringIO()
    with contextlib.redirect_stdout(text):
        try:
            videoclip.cli.main([*arguments, "--help"])
        except SystemExit as end:
            status = end.code
    print(json.dumps([arguments, status, text.getvalue(), "torch" in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pages = [json.loads(line) for line in done.stdout.splitlines()]
    return {" ".join(arguments): page for arguments, *page in pages}


@pytest.mark.parametrize("command", [" ".join(arguments) for arguments in PAGES])
def test_help_of_every_command_needs_no_torch(help_pages, command):
    status, text, imports_torch = help_pages[command]
    assert not status and not imports_torch
    assert "usage: videoclip " + command.split()[0] in text


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("videoclip 0.")


def test_no_command_is_wrong_usage(capsys):
    assert main([]) == 2
    assert "First steps: videoclip demo" in capsys.readouterr().out


def test_help_is_a_command_too(capsys):
    assert main(["help"]) == main(["-h"]) == 0
    first, second = capsys.readouterr().out.split("usage: videoclip COMMAND")[1:]
    assert first == second


def test_a_command_without_videos_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["index"])
    assert ended.value.code == 2
    assert "index: error: name at least one VIDEO" in capsys.readouterr().err


def test_unknown_commands_suggest_the_nearest(capsys):
    assert main(["serch", "dog"]) == 2
    assert "perhaps you meant 'search'" in capsys.readouterr().err
    assert main(["xyz"]) == 2
    assert "known: demo, synth, " in capsys.readouterr().err


def test_unknown_options_suggest_the_nearest():
    done = run("search", "dog", "--librari", "x")
    assert done.returncode == 2
    assert "--library" in done.stderr + done.stdout


def test_our_errors_are_one_line_and_status_1(tmp_path):
    done = run("info", str(tmp_path / "nothing"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("videoclip: error: ")
    assert "Traceback" in run("--debug", "info", str(tmp_path / "nothing")).stderr


def test_an_interrupt_is_status_130(monkeypatch, capsys):
    import videoclip.cli.info

    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(videoclip.cli.info.Info, "run", interrupt)
    assert main(["info", "x"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_reader_that_stops_reading_is_no_error():
    command = f"{sys.executable} -m videoclip --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("export - <&-", 1, "standard input: is empty; print moments with"),
        ("search --queries - <&-", 1, "-: no queries in this file"),
        ("--version >&-", 0, ""),
        ("--version 2>&-", 0, ""),
    ],
)
def test_closed_streams_are_empty(line, status, message):
    command = f"{sys.executable} -m videoclip {line}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == status and done.stderr.count("\n") == bool(message)
    assert message in done.stderr


def test_exit_statuses_are_documented_in_one_place(capsys):
    page = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    for status, meaning in EXIT_STATUSES.items():
        assert f"| {status} | {meaning} |" in page
        assert meaning in overview


def test_names_that_are_not_utf8_are_printed_as_they_are(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.mp4")
    write_video(tmp_path / "plain.mp4", 10).rename(path)
    done = subprocess.run(
        [sys.executable, "-m", "videoclip", "info", path], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"/\xff.mp4\n" in done.stdout
