"""
Growth: what a call or an event costs while something beside it grows, in microseconds, and a plot of that.

A side of a program that does not grow stays as it is in the table of rows; here only the slope matters: flat is good.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .programs import Programs, result

__all__ = ["GROWTHS", "Growth", "measure", "plot"]

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "architecture" / "growth.svg"
WIDTH, HEIGHT, MARGIN = 760, 420, 60
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What grows (`title`), through which sizes, and the program that measures one size (`bench.grown NAME SIZE`)."""

    name: str
    title: str
    sizes: tuple[int, ...]


GROWTHS: tuple[Growth, ...] = (
    Growth(name="procedures", title="sync call, by procedures of the API", sizes=(10, 100, 1000)),
    Growth(name="listeners", title="kept event, by listeners of other events", sizes=(1, 20, 200)),
    Growth(name="workers", title="sync call, by workers on the host", sizes=(1, 5, 10, 40)),
    Growth(name="journal", title="kept event, by events in the journal", sizes=(100, 10_000, 1_000_000)),
)


def measure(
    programs: Programs, growths: Iterable[Growth], *, divisor: int, say: Callable[[str], None]
) -> dict[str, dict[int, float]]:
    """Return microseconds for one call or event, by what grows and its size; `divisor` leaves the largest sizes out."""
    found: dict[str, dict[int, float]] = {}
    for growth in growths:
        for size in [each for each in growth.sizes if each * divisor <= growth.sizes[-1]]:
            say(f"{growth.name}: {size}")
            env = {"LIGHTBUS_BUS": f"grown-{secrets.token_hex(4)}"}
            program = programs.start(growth.name, "-m", "bench.grown", growth.name, str(size), env=env)
            found.setdefault(growth.name, {})[size] = result(program)["us"]
    return found


def plot(found: Mapping[str, Mapping[int, float]], path: Path = DOCUMENT) -> None:
    """Draw the growths as lines over a logarithmic axis of sizes, relative to the smallest size of each."""
    largest = max(max(sizes) for sizes in found.values())
    top = max(2.0, *(cost / sizes[min(sizes)] for sizes in found.values() for cost in sizes.values()))

    def x(size: int) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * math.log10(size) / max(1.0, math.log10(largest))

    def y(ratio: float) -> float:
        return HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * ratio / top

    drawn = [_line((x(1), y(0)), (x(largest), y(0))), _line((x(1), y(0)), (x(1), y(top)))]
    drawn += [_text(x(10**n), y(0) + 18, f"{10**n:,}", "middle") for n in range(math.ceil(math.log10(largest)) + 1)]
    drawn += [_text(MARGIN - 8, y(n) + 4, f"{n}x", "end") for n in range(math.floor(top) + 1)]
    titles = {growth.name: growth.title for growth in GROWTHS}
    for number, (name, sizes) in enumerate(found.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = [(x(size), y(cost / sizes[min(sizes)])) for size, cost in sorted(sizes.items())]
        drawn.append(_curve(points, colour))
        costs = ", ".join(f"{cost:,.0f}" for _, cost in sorted(sizes.items()))
        drawn.append(_text(MARGIN + 12, 20 + 16 * number, f"{titles[name]}: {costs} us", "start", colour))
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    return f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" stroke="#888"/>'


def _curve(points: Sequence[tuple[float, float]], colour: str) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#444") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'
