"""Learn what happens in videos from their own narration; then search, localise, segment, answer."""

__version__ = "0.1.0"
