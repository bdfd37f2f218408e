"""The command `videoclip`, which is also `python -m videoclip`, and so `torchrun -m videoclip`."""

import atexit
import gc
import os
import signal
import sys
from pathlib import Path

from videoclip.cli import main


def run() -> None:
    """Run the command line of this process, and exit with its status."""
    # Before it exits, Python looks for cycles among all objects of torch: half a second, for memory
    # that the system takes back anyway.
    atexit.register(gc.freeze)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the shell, as by `<&-`
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main())


if __name__ == "__main__":
    run()
