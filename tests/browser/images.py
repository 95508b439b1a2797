"""Pictures of pages: how they are stored and compared."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageChops, ImageOps

__all__ = ["differing", "opened", "save"]

BITS = 5
"""Bits of each colour that are kept: the eye misses nothing, and the file is half as large."""

BLOCK = 4
"""Pixels of a picture whose mean is compared as one: the edge of a letter may be drawn a little differently."""

VISIBLE = 16
"""Levels, of 256, by which one block differs from another so that one can see it."""


def opened(png: bytes, *, scale: float = 1.0) -> Image.Image:
    """Return a picture from the bytes of a PNG, made smaller."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BOX)


def save(picture: Image.Image, file: Path, *, bits: int = BITS) -> None:
    """Store a picture, with this many bits per colour."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # In the middle of what is left out, so that nothing becomes darker by it.
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
    whole = Image.new("RGB", size, (255, 0, 255))  # what one of them has not got differs from everything
    whole.paste(picture)
    return whole.resize((-(-size[0] // BLOCK), -(-size[1] // BLOCK)), Image.Resampling.BOX)
