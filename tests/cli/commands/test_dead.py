"""`lightbus dead`, as a process, against real workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from helpers import wait_until
from lightbus.cli.commands import dead

if TYPE_CHECKING:
    from ..conftest import Commands

Letters = list[dict[str, Any]]


@pytest.mark.long
def test_dead_letters_are_shown_given_again_and_dropped(commands: Commands) -> None:
    """Dead letters can be shown, delivered to their group again, and dropped."""
    _, shop = commands.services()
    commands.listening("mail")
    commands.run("fire", "auth.user_registered", "username=sally")
    wait_until(lambda: commands.look("dead", "list"), 10)
    [dead] = commands.json("dead", "list", "mail-fails")
    assert (dead["group"], dead["kwargs"], dead["error"]) == (
        "mail-fails", {"username": "sally", "age": 0}, "ValueError: no sally here",
    )  # fmt: skip
    assert commands.json("dead", "list", "shop-greeter") == []
    text = commands.text("dead", "show", dead["native_id"])
    assert "for mail-fails, after 1 deliveries: ValueError: no sally here" in text
    assert "is delivered again to mail-fails" in commands.text("dead", "retry", dead["native_id"])
    [again] = wait_until(lambda: commands.look("dead", "list"), 10)
    assert (again["id"], again["native_id"] != dead["native_id"]) == (dead["id"], True)
    assert shop.stdout.count("welcome sally") == 1  # given to its group alone
    assert commands.json("dead", "drop", "all") == [
        {"group": "mail-fails", "native_id": again["native_id"], "done": True}
    ]
    assert "There are no dead letters" in commands.run("dead", "list").stderr
    assert "No event x-1 is a dead letter" in commands.run("dead", "show", "x-1", code=3).stderr


def letters(*numbers: int) -> Letters:
    """Return dead letters of one group."""
    return [{"group": "mail", "native_id": f"a-{number}"} for number in numbers]


def read(monkeypatch: pytest.MonkeyPatch, page: Callable[[int], Letters]) -> tuple[list[str], list[str]]:
    """Read all letters of a publisher with pages of this size; return their ids, and the notes."""
    peer, notes = SimpleNamespace(instance="b" * 16, announcement="shop/one"), list[str]()
    bus: Any = SimpleNamespace(silent=set[str](), output=SimpleNamespace(note=notes.append))

    async def ask_each(
        bus: Any, peers: list[Any], procedure: str, *, group: str, skip: int
    ) -> list[tuple[Any, Letters]]:
        return [(peers[0], page(skip))]

    monkeypatch.setattr(dead, "ask_each", ask_each)
    found = asyncio.run(dead._all_of(bus, peer, page(0), "mail"))  # type: ignore[arg-type]
    return [each["native_id"] for each in found], notes


def test_letters_are_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if a letter is too large to share an answer with another one."""
    kept = letters(*range(10))
    for size in (1, 3, 100):
        found, notes = read(monkeypatch, lambda skip, size=size: kept[skip:][:size])  # type: ignore[misc]
        assert found == [each["native_id"] for each in kept]
        assert notes == []


@pytest.mark.parametrize("dropped", [1, 2, 3, 6])
def test_letters_that_are_dropped_meanwhile_hide_no_others(monkeypatch: pytest.MonkeyPatch, dropped: int) -> None:
    """Later letters move up, and none of them is skipped."""
    kept, asked = letters(*range(10)), list[int]()

    def page(skip: int) -> Letters:
        asked.append(skip)
        if len(asked) == 3:
            del kept[:dropped]
        return kept[skip:][:3]

    found, notes = read(monkeypatch, page)
    assert {*found} >= {each["native_id"] for each in kept}
    assert len(found) == len({*found})
    assert notes == []


@pytest.mark.parametrize("size", [1, 3])
def test_publisher_with_endless_pages(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A publisher that repeats a page is left, with a remark."""
    found, notes = read(monkeypatch, lambda skip: letters(*range(size)))
    assert len(found) == size
    assert notes == ["shop/one has a list of dead letters without an end: only the first ones are shown."]
