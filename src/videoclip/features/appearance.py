"""What pixels alone say of a frame: its colours, and whether it is dark, grey or drawn.

A classifier of things is trained to ignore all this, but people search for it: "a green frog", "a
black and white film". Every attribute has a word or two, which `videoclip.model.convert` embeds.
"""

import torch
from torch import Tensor

HUES = {
    "red": 15,
    "orange": 42,
    "yellow": 68,
    "green": 160,
    "turquoise": 195,
    "blue": 255,
    "purple": 290,
    "pink": 345,
}
"""Upper limit of each on the circle of hues, in degrees; above the last, it is red again."""
COLOURS = (*HUES, "brown", "white", "grey", "black")
ATTRIBUTES = (*COLOURS, "black and white", "dark", "drawn")
"""Names of the numbers that `attributes_of` returns."""
USUAL = (0.09, 0.19, 0.08, 0.07, 0.04, 0.13, 0.03, 0.05, 0.24, 0.23, 0.57, 0.34)
"""Root of the share that each colour has in real videos on average: what is usual says nothing."""

STEP = 4
"""Of so many rows one is measured, and for colours of so many columns."""
MIN_SPREAD, MIN_SATURATION = 0.15, 0.3
"""Between the strongest and the weakest of red, green and blue, by itself and as a share of the
strongest: below these, a pixel is white, grey or black."""
BLACK, WHITE = 0.2, 0.8
"""Brightness, of 1, below and above which a pixel without colour is called so."""
GREY_SPREAD, GREY_SHARE = 24 / 255, 0.01
"""A frame is grey if fewer pixels than this share have a larger spread."""
DARK_SHARE = 0.5
"""Share of black pixels from which a frame is dark; at 1 it is as dark as can be."""
FLAT_DIFFERENCE = 0.75
"""Largest difference of neighbours, of 255 levels, in an area of one colour."""
FLAT_SHARES = (0.5, 0.9)
"""Share of such pixels at which a frame begins to look drawn, and at which it surely is."""


def attributes_of(frames: Tensor) -> Tensor:
    """Measure the attributes of frames.

    Args:
        frames: (n, ..., H, W, 3) uint8 RGB; what lies between is part of a frame, such as crops.

    Returns:
        (n, 15): for each colour by how much the root of its share exceeds what is usual; then from
        0 to 1 whether a frame is black and white, dark, and drawn.
    """
    pixels = frames[..., STEP // 2 :: STEP, STEP // 2 :: STEP, :].flatten(1, -2).float() / 255
    colours = _colours(pixels)  # (n, P)
    shares = torch.stack([(colours == i).float().mean(dim=1) for i in range(len(COLOURS))], dim=1)
    spread = pixels.amax(dim=-1) - pixels.amin(dim=-1)
    is_grey = ((spread > GREY_SPREAD).float().mean(dim=1) < GREY_SHARE).float()
    dark = ((shares[:, COLOURS.index("black")] - DARK_SHARE) / (1 - DARK_SHARE)).clamp(min=0)
    brightness = frames[..., ::STEP, :, :].float().mean(dim=-1)  # (n, ..., H / 4, W)
    is_flat = brightness.diff(dim=-1).abs() < FLAT_DIFFERENCE
    least, most = FLAT_SHARES
    drawn = ((is_flat.flatten(1).float().mean(dim=1) - least) / (most - least)).clamp(0, 1)
    unusual = shares.sqrt() - torch.tensor(USUAL, device=frames.device)
    return torch.cat([unusual, torch.stack([is_grey, dark, drawn], dim=1)], dim=1)


def _colours(pixels: Tensor) -> Tensor:
    """Return the position in `COLOURS` of each pixel: (..., 3) from 0 to 1 -> (...)."""
    red, green, blue = pixels.unbind(dim=-1)
    value, weakest = pixels.amax(dim=-1), pixels.amin(dim=-1)
    spread = value - weakest
    saturation = spread / value.clamp(min=1e-6)
    safe = spread.clamp(min=1e-6)
    sextant = torch.where(
        value == red,
        ((green - blue) / safe) % 6,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = 60 * sextant
    limits = torch.tensor(list(HUES.values()), device=pixels.device, dtype=hue.dtype)
    found = torch.bucketize(hue, limits, right=True) % len(HUES)
    is_red = found == COLOURS.index("red")
    is_warm = is_red | (found == COLOURS.index("orange"))
    is_strong = is_red & (saturation > 0.6) & (value > 0.3)
    found[is_warm & (value < 0.55) & ~is_strong] = COLOURS.index("brown")
    found[is_red & (saturation < 0.55) & (value > 0.75)] = COLOURS.index("pink")
    is_pale = (spread <= MIN_SPREAD) | (saturation <= MIN_SATURATION)
    found[is_pale] = COLOURS.index("grey")
    found[is_pale & (value > WHITE)] = COLOURS.index("white")
    found[(is_pale & (value <= BLACK)) | (value < MIN_SPREAD)] = COLOURS.index("black")
    return found
