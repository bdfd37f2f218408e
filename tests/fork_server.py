"""A process that has imported what commands use; commands and workers of tests are forked from it.

A new process would import it all again, which takes seconds.
"""

import multiprocessing
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "matplotlib.backends.backend_svg",
        "tests.faulty",
        "torch._dynamo",
        *(f"videoclip.cli.{name}" for name in ("cut", "export", "extract", "index", "prepare")),
        "videoclip.cli.pretrain",
        "videoclip.training.finetune",
        "videoclip.output.run_page",
        "videoclip.training.pretrain",
    ]
)


def run_script(script: str, *arguments: object) -> tuple[int, str]:
    """Run a Python script in a forked process; return its exit status, and all that it prints."""
    with TemporaryDirectory() as folder:
        output = Path(folder, "output")
        process = SERVER.Process(target=_run, args=(script, list(map(str, arguments)), output))
        process.start()
        process.join()
        return process.exitcode, output.read_text()


def _run(script: str, arguments: list[str], output: Path) -> None:
    handle = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for number in (1, 2):
        os.dup2(handle, number)
    sys.argv = ["script", *arguments]
    exec(compile(script, "script", "exec"), {"__name__": "script"})
