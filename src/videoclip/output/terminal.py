"""Pictures on terminals that can show them."""

import io
import os
import sys
from base64 import b64encode
from collections.abc import Callable

from PIL import Image

from videoclip.features.contained import grab_frame
from videoclip.features.decode import Fit
from videoclip.zeroshot.moments import Moment

ROWS = 5
"""Height of a picture in rows of text."""
PIXELS = 240
"""Its longer side; a terminal scales it to its rows."""
CHUNK = 4096
"""Most characters of one escape code of kitty's protocol."""


def picture_maker() -> Callable[[Moment], str] | None:
    """Return a function from a moment to what prints its best frame; None if stdout shows none.

    What the terminal can do is known from the variables that it sets: asking it would wait for an
    answer that most terminals never give. Inside tmux or screen there are no pictures.
    """
    term, program = os.environ.get("TERM", ""), os.environ.get("TERM_PROGRAM", "")
    if not sys.stdout.isatty() or "TMUX" in os.environ or term.startswith(("tmux", "screen")):
        return None
    encode = None
    if term in ("xterm-kitty", "xterm-ghostty") or "KONSOLE_VERSION" in os.environ:
        encode = _kitty
    elif program in ("iTerm.app", "WezTerm") or os.environ.get("LC_TERMINAL") == "iTerm2":
        encode = _iterm
    if encode is None:
        return None

    def picture(moment: Moment) -> str:
        file = io.BytesIO()
        frame = grab_frame(moment.path, moment.best, Fit(PIXELS))
        Image.fromarray(frame).save(file, "PNG")
        return encode(file.getvalue())

    return picture


def _kitty(png: bytes) -> str:
    """Return the escape codes of a picture for kitty, Ghostty and Konsole.

    Source: https://sw.kovidgoyal.net/kitty/graphics-protocol
    """
    text = b64encode(png).decode()
    codes = []
    for first in range(0, len(text), CHUNK):
        keys = f"a=T,f=100,r={ROWS},q=2," if not first else ""
        more = int(first + CHUNK < len(text))
        codes.append(f"\x1b_G{keys}m={more};{text[first : first + CHUNK]}\x1b\\")
    return "".join(codes)


def _iterm(png: bytes) -> str:
    """Return the escape code of a picture for iTerm2 and WezTerm.

    Source: https://iterm2.com/documentation-images.html
    """
    keys = f"inline=1;height={ROWS};size={len(png)}"
    return f"\x1b]1337;File={keys}:{b64encode(png).decode()}\a"
