"""Pictures of pages: how they are stored and compared."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageChops, ImageOps

__all__ = ["differing", "opened", "save"]

BITS = 5
"""Stored bits of each colour: nobody sees the difference, and the files are half as large."""

BLOCK = 4
"""Width and height in pixels of the squares whose mean colours are compared: edges of letters may differ a little."""

VISIBLE = 16
"""The smallest visible difference between two blocks, in levels of brightness (of 256)."""


def opened(png: bytes, *, scale: float = 1.0) -> Image.Image:
    """Return a picture from the bytes of a PNG, with its size multiplied by `scale`."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BOX)


def save(picture: Image.Image, file: Path, *, bits: int = BITS) -> None:
    """Store a picture, with this many bits per colour."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # Bits that are left out count as half of their range, so that the picture does not become darker.
    half = 128 >> bits
    ImageOps.posterize(picture, bits).point(lambda level: level + half).save(file, optimize=True)


def differing(one: Image.Image, other: Image.Image) -> Image.Image | None:
    """Return a picture with the visible differences of two in white, a pixel per block; None if there are none."""
    size = max(one.width, other.width), max(one.height, other.height)
    blocks = [_blocks(each, size) for each in (one, other)]
    channels = ImageChops.difference(*blocks).split()
    most = ImageChops.lighter(ImageChops.lighter(channels[0], channels[1]), channels[2])
    seen = most.point(lambda level: 255 if level > VISIBLE else 0)
    return seen if seen.getbbox() else None


def _blocks(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    # Where one of the pictures is smaller, this colour differs from that of the other.
    whole = Image.new("RGB", size, (255, 0, 255))
    whole.paste(picture)
    return whole.resize((-(-size[0] // BLOCK), -(-size[1] // BLOCK)), Image.Resampling.BOX)
