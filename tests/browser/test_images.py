"""Pictures that are compared: what can be seen is seen, and the edge of a letter is not."""

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


def test_what_is_kept_shows_the_same(tmp_path: Path) -> None:
    """A picture with fewer colours is the same picture."""
    save(_card(), tmp_path / "kept.png")
    with Image.open(tmp_path / "kept.png") as kept:
        assert differing(_card(), kept.convert("RGB")) is None


def test_what_differs_is_shown() -> None:
    """Another colour, another place, and a page that became longer."""
    for other in (_card(colour="#fde8e6"), _card(x=26), _card(size=(200, 120))):
        assert differing(_card(), other) is not None


def test_edge_of_a_letter_may_differ() -> None:
    """What is drawn a little softer is not another picture."""
    softer = _card()
    softer.putpixel((30, 33), (120, 120, 130))
    assert differing(_card(), softer) is None
