"""The command line's frame, as a user meets it."""

import subprocess
import sys

import pytest

from videoclip.cli import COMMANDS, main


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


@pytest.mark.parametrize("name", [c for c in COMMANDS if c != "pretrain"])
def test_help_of_every_command_needs_no_torch(name):
    code = (
        "import sys, videoclip.cli\n"
        f"try: videoclip.cli.main([{name!r}, '--help'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: videoclip " + name in done.stdout


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("videoclip 0.")


def test_no_command_is_wrong_usage(capsys):
    assert main([]) == 2
    assert "First steps: videoclip demo" in capsys.readouterr().out


def test_unknown_commands_suggest_the_nearest(capsys):
    assert main(["serch", "dog"]) == 2
    assert "perhaps you meant 'search'" in capsys.readouterr().err
    assert main(["xyz"]) == 2
    assert "see videoclip --help" in capsys.readouterr().err


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
