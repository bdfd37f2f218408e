"""SMPTE timecode: frames counted as hours, minutes, seconds and frames.

At the NTSC rates (23.976, 29.97, 59.94) a second of timecode is 1.001 real seconds. Drop-frame
timecode stays close to the clock at 29.97 and 59.94: it skips the frame numbers 0 and 1 (0 to 3 at
59.94) of every minute except each tenth. No frame is lost. It is written with `;` before the frame.
"""

from dataclasses import dataclass
from fractions import Fraction

from videoclip.errors import ConfigError

NOMINAL_RATES = (24, 25, 30, 48, 50, 60)
"""Frames counted in a second of timecode."""
TOLERANCE = 0.005
"""Relative difference up to which a measured rate counts as a standard one, since phones vary."""


@dataclass(frozen=True)
class FrameRate:
    """A frame rate of an edit list.

    Attributes:
        exact: Frames per second, as 30000/1001.
        is_drop: Whether its timecode is drop-frame.
    """

    exact: Fraction
    is_drop: bool = False

    def __post_init__(self) -> None:
        if self.exact <= 0:
            raise ConfigError(f"a frame rate must be positive, got {self.exact}")
        if self.is_drop and self.exact not in (Fraction(30000, 1001), Fraction(60000, 1001)):
            raise ConfigError(
                f"drop-frame timecode exists at 29.97 and 59.94, not at {float(self.exact):g}"
            )

    @property
    def nominal(self) -> int:
        """Frames counted in a second of timecode."""
        return round(self.exact)

    @property
    def _num_dropped(self) -> int:
        return self.nominal // 15 if self.is_drop else 0

    def frames(self, seconds: float) -> int:
        """Number of the frame nearest to a time."""
        return round(Fraction(seconds) * self.exact)

    def timecode(self, frame: int) -> str:
        """Timecode of a frame; after 24 hours it starts again at 0."""
        per_minute = 60 * self.nominal - self._num_dropped
        per_ten_minutes = 10 * per_minute + self._num_dropped
        if self.is_drop:  # add the numbers that were skipped before it
            tens, rest = divmod(frame, per_ten_minutes)
            minutes = max(0, rest - self._num_dropped) // per_minute
            frame += self._num_dropped * (9 * tens + minutes)
        seconds, frames = divmod(frame, self.nominal)
        hours = seconds // 3600 % 24
        sign = ";" if self.is_drop else ":"
        return f"{hours:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{sign}{frames:02d}"


def find_rate(measured: float, is_drop: bool | None = None) -> FrameRate:
    """The standard rate nearest to a measured one.

    Args:
        measured: Mean frames per second.
        is_drop: Whether to use drop-frame timecode; None: at 29.97 and 59.94, as editors do.

    Returns:
        A standard rate, or the measured one rounded to a whole number if it is none.

    Raises:
        ConfigError: If drop-frame timecode is requested at another rate.
    """
    standard = [Fraction(rate) for rate in NOMINAL_RATES]
    standard += [Fraction(rate * 1000, 1001) for rate in (24, 30, 48, 60)]
    nearest = min(standard, key=lambda rate: abs(float(rate) - measured))
    if abs(float(nearest) - measured) > TOLERANCE * float(nearest):
        nearest = Fraction(max(1, round(measured)))
    has_drop = nearest in (Fraction(30000, 1001), Fraction(60000, 1001))
    return FrameRate(nearest, has_drop if is_drop is None else is_drop)
