"""Comparison of pictures: visible changes are found, and differences at the edge of a letter are ignored."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from browser.images import differing, save


def _card(*, x: int = 20, colour: str = "#e8eefe", size: tuple[int, int] = (200, 100)) -> Image.Image:
    picture = Image.new("RGB", size, "#f4f6f9")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((x, 20, x + 60, 50), fill=colour)
    draw.text((x + 4, 26), "orders", fill="#17202c")
    return picture


def test_stored_picture_shows_the_same(tmp_path: Path) -> None:
    """A picture with fewer colours is the same picture."""
    save(_card(), tmp_path / "kept.png")
    with Image.open(tmp_path / "kept.png") as kept:
        assert differing(_card(), kept.convert("RGB")) is None


def test_differences_are_found() -> None:
    """Another colour, another position, and a longer page."""
    for other in (_card(colour="#fde8e6"), _card(x=26), _card(size=(200, 120))):
        assert differing(_card(), other) is not None


def test_edge_of_a_letter_may_differ() -> None:
    """A slightly softer edge is not another picture."""
    softer = _card()
    softer.putpixel((30, 33), (120, 120, 130))
    assert differing(_card(), softer) is None
