"""The plot of growth: lines for the measurements, and no value that a browser cannot read."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from bench.growth import GROWTHS, plot


def test_a_line_for_each_growth(tmp_path: Path) -> None:
    """Sizes go to the right, costs upwards, each line starts at its own cost, and the figures are beside it."""
    drawn = tmp_path / "growth.svg"
    plot({"procedures": {10: 100.0, 100: 100.0, 1000: 300.0}, "workers": {1: 50.0, 40: 50.0}}, drawn)
    root = ElementTree.fromstring(drawn.read_text())
    lines = [
        [tuple(map(float, point.split(","))) for point in str(line.get("points")).split()]
        for line in root.iter("{http://www.w3.org/2000/svg}polyline")
    ]
    (first, second, third), (alone, same) = lines
    assert first[0] < second[0] < third[0]
    assert first[1] == second[1] == alone[1] == same[1] > third[1]
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "sync call, by procedures of the API: 100, 100, 300 us" in texts


def test_sizes_of_each_growth_are_ascending() -> None:
    """Each growth has its own names and sizes, from small to large."""
    assert len({growth.name for growth in GROWTHS}) == len(GROWTHS)
    assert all(list(growth.sizes) == sorted(set(growth.sizes)) for growth in GROWTHS)
