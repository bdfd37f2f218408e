"""Play a moment with a player of the system."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from videoclip.errors import DataError
from videoclip.zeroshot.moments import Moment

PLAYERS = {
    "mpv": ["--start={start:.2f}", "{path}"],
    "vlc": ["--start-time={start:.2f}", "{path}"],
    "ffplay": ["-autoexit", "-ss", "{start:.2f}", "{path}"],
}
"""Players that begin at a given second, by their program, with their arguments."""
OPENERS = {"darwin": "open", "linux": "xdg-open"}
"""By system, the program that opens a file with the program chosen for it."""


def play(moment: Moment) -> str:
    """Start a player at a moment, without waiting for its end, and return what was started.

    Raises:
        DataError: If the video is no longer there, or there is no player.
    """
    path = moment.path.absolute()
    if not path.is_file():
        raise DataError("no such file any more; drop it with `videoclip index --prune`", path)
    for name, arguments in PLAYERS.items():
        if program := shutil.which(name):
            values = [argument.format(start=moment.start, path=path) for argument in arguments]
            _start([program, *values])
            return f"{name} plays {path.name} from {moment.times}"
    return open_file(path)


def open_file(path: Path) -> str:
    """Open a file with the program that the system has for it, and return what was opened.

    Raises:
        DataError: If there is none.
    """
    if sys.platform == "win32":
        os.startfile(path)
    elif program := shutil.which(OPENERS.get(sys.platform, "xdg-open")):
        _start([program, str(path)])
    else:
        raise DataError("no player found; install mpv or VLC, or open it yourself", path)
    return f"opened {path}"


def _start(command: list[str]) -> None:
    quiet = subprocess.DEVNULL
    subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
