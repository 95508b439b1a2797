"""The cost of a dashboard of many workers, in a short form of `nox -s scale`, and the limits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from browser import scale
from browser.scale import PAGES, Crowd, Seen, Visit, look, stream
from helpers import Processes


def visit(page: str = "overview", **other: float) -> Visit:
    """Return a visit without problems, except for these."""
    usual = {"at": 0.0, "share": 0.03, "server": 80.0, "heap": 2.0, "nodes": 3000, "longest": 30.0, "gap": 50.0}
    return Visit(page=page, **{**usual, **other})  # type: ignore[arg-type]


@pytest.mark.long
def test_a_crowd_is_no_burden(processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Twenty workers, a thousand events a second: frames, processor time and memory are within their limits.

    Beside other tests the same work takes up to twice the processor time: `nox -s scale` holds the limits
    themselves.
    """
    monkeypatch.setattr(scale, "FRAME", 3 * scale.FRAME)
    monkeypatch.setattr(scale, "SHARE", 3 * scale.SHARE)
    crowd = Crowd(processes, tmp_path, workers=20, rate=1000, programs=2)
    pages = {path: PAGES[path] for path in ("overview", "events", "groups")}
    seen = asyncio.run(look(crowd, seconds=0, each=3, pages=pages))
    assert seen.problems() == []
    assert seen.rate > 0
    assert next(each.told for each in seen.visits if each.page == "events") > 0
    assert [each.page for each in seen.visits] == [*pages]
    assert all(each.longest > 0 and each.share > 0 and each.nodes > 100 for each in seen.visits)
    assert [each.told > 0 for each in stream(crowd, seconds=0, each=3).visits] == [True]


def test_values_above_the_limits_are_named() -> None:
    """A frame, a share of a processor, and growing memory are separate problems."""
    seen = Seen(visits=[visit() for _ in range(12)])
    assert seen.problems() == []
    assert "overview" in "\n".join(seen.lines())
    seen.visits[5] = visit("events", longest=75.0, share=0.2)
    seen.visits[-3:] = [visit(server=120.0, heap=9.0)] * 3
    assert seen.problems() == [
        "events takes 75 ms for a frame, and may take 60",
        "events takes 20% of a processor on the server, and may take 10%",
        "the server grew from 80.0 to 120.0 MiB",
        "the page grew from 2.0 to 9.0 MiB",
    ]
