"""The events in journals, read page by page and merged, from scripted publishers."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from helpers.scripted_bus import Answer, ScriptedBus, peer
from lightbus.cli.support.connection import Connection
from lightbus.cli.support.kept import Journals
from lightbus.core.peers import Peer
from lightbus.exceptions import LightbusTimeout


def event(journal: str, number: int, at: float, name: str = "seen") -> dict[str, Any]:
    """Return an event as a publisher reports it."""
    return {"native_id": f"{journal}-{number}", "published_at": at, "event": name}


def page(*events: dict[str, Any], more: bool = False, through: int = 0) -> dict[str, Any]:
    """Return a page of a journal."""
    return {"events": [*events], "more": more, "through": through}


def journals(*names: str) -> list[dict[str, Any]]:
    """Return a publisher's report on its journals."""
    return [{"journal": name, "events": 10} for name in names]


async def read(journals: Journals) -> list[str]:
    """Return the places of all events."""
    return [each["native_id"] async for each in journals.events()]


def reading(*answers: Answer, times: int = 1, peers: int = 1) -> tuple[list[list[str]], ScriptedBus, Journals]:
    """Find the journals of so many publishers, and read them this many times."""
    bus = ScriptedBus(*answers)
    bus.peers = [peer(instance=f"{number:016x}") for number in range(peers)]

    async def main() -> tuple[list[list[str]], Journals]:
        made = Journals(cast(Connection, bus), api="auth", event="s*")
        await made.look()
        return [await read(made) for _ in range(times)], made

    found, made = asyncio.run(main())
    return found, bus, made


def test_events_of_several_journals_are_put_in_order() -> None:
    """By time, over all journals."""
    found, bus, made = reading(
        journals("a", "b"),
        page(event("a", 1, 1.0), event("a", 2, 4.0), through=2),
        page(event("b", 1, 2.0), event("b", 2, 3.0), through=2),
        page(),
    )
    assert found == [["a-1", "b-1", "b-2", "a-2"]]
    assert made.total == 20
    assert bus.questions[1] == {"journal": "a", "after": 0, "api": "auth", "event": "s*"}


def test_pages_follow_one_another() -> None:
    """Also pages without a wanted event; each begins where the previous one ended."""
    found, bus, _ = reading(
        journals("a"), page(more=True, through=50), page(event("a", 60, 1.0), more=True, through=70), page(through=80)
    )
    assert found == [["a-60"]]
    assert [question.get("after") for question in bus.questions[1:]] == [0, 50, 70]


def test_reading_continues_where_it_stopped() -> None:
    """So that a follower can ask again."""
    one, two = page(event("a", 1, 1.0), through=1), page(event("a", 2, 2.0), through=2)
    found, _, _ = reading(journals("a"), one, page(through=1), two, page(), times=2)
    assert found == [["a-1"], ["a-2"]]


@pytest.mark.parametrize("is_wanted", [True, False])
def test_a_journal_whose_pages_never_end(is_wanted: bool) -> None:
    """The others are read after so many pages, and the next call continues with both."""

    class Endless(ScriptedBus):
        async def ask(self, peer: Peer, procedure: str, **question: Any) -> Any:
            if question.get("journal") != "a":
                return await super().ask(peer, procedure, **question)
            number = question["after"] + 1
            return page(*[event("a", number, 0.0)] * is_wanted, more=True, through=number)

    bus = Endless(journals("a", "b"), page(event("b", 1, 2.0), through=1), page(through=1))

    async def main() -> None:
        made = Journals(cast(Connection, bus), api="auth", event="s*")
        await made.look()
        for expected in (["a-1", "a-2", "a-3", "b-1"], ["a-4", "a-5", "a-6"]):
            found = [each["native_id"] async for each in made.events(3)]
            assert found == [each for each in expected if is_wanted or each == "b-1"]
            assert (made.has_more, made.failure) == (True, None)
        assert made.places() == {"a": 6, "b": 1}

    asyncio.run(main())


def test_the_newest_first() -> None:
    """No more is read of a journal than needed; each page begins where the previous one ended."""
    found: list[str] = []

    def page_back(*events: dict[str, Any], before: int | None = None) -> dict[str, Any]:
        return {"events": [*events], "before": before}

    bus = ScriptedBus(
        journals("a", "b"),
        page_back(event("a", 9, 9.0), event("a", 5, 5.0), before=5),
        page_back(event("b", 8, 8.0), before=8),
        page_back(before=3),
        page_back(event("b", 2, 2.0)),
        page_back(event("a", 1, 1.0)),
    )

    async def main() -> None:
        made = Journals(cast(Connection, bus), api="auth", event="s*")
        await made.look()
        async for each in made.newest_first(2, (0.5, None)):
            found.append(each["native_id"])
            if each["native_id"] == "b-8":
                assert len(bus.questions) == 3
        assert made.failure is None

    asyncio.run(main())
    assert found == ["a-9", "b-8", "a-5", "b-2", "a-1"]
    first, *_, last = bus.questions[1:]
    assert first == {"journal": "a", "api": "auth", "event": "s*", "start": 0.5, "stop": None, "limit": 2}
    assert last == {**first, "before": 5}


@pytest.mark.parametrize("answer", [LightbusTimeout("busy"), None])
def test_a_publisher_that_does_not_answer(answer: Answer) -> None:
    """The others' events are shown, and that not all was read is known."""
    pages = page(event("b", 1, 2.0), through=1), page()
    found, _, made = reading(journals("a"), journals("b"), answer, *pages, peers=2)
    assert found == [["b-1"]]
    assert made.failure is not None


def test_an_event_that_is_for_one_group() -> None:
    """It is returned under its declared name."""
    found: list[dict[str, Any]] = []

    async def main() -> None:
        bus = ScriptedBus(journals("a"), page(event("a", 1, 1.0, "seen for mail"), through=1), page())
        made = Journals(cast(Connection, bus))
        await made.look()
        found.extend([each async for each in made.events()])

    asyncio.run(main())
    assert [(each["event"], each["publisher"]) for each in found] == [("seen", "0" * 16)]


def finding(native_id: str, *answers: Answer) -> tuple[Any, ScriptedBus]:
    """Return the event at a place."""
    bus = ScriptedBus(journals("a"), *answers)

    async def main() -> Any:
        made = Journals(cast(Connection, bus))
        await made.look()
        return await made.find(native_id)

    return asyncio.run(main()), bus


def test_an_event_by_its_place() -> None:
    """It is asked for alone."""
    found, bus = finding("a-7", page(event("a", 7, 1.0)))
    assert found["native_id"] == "a-7"
    assert (bus.questions[1]["after"], bus.questions[1]["limit"]) == (6, 1)


def test_an_event_that_is_not_there() -> None:
    """It was deleted, or no peer serves its journal."""
    assert finding("a-7", page(event("a", 9, 1.0)))[0] is None
    assert finding("b-7", page())[0] is None


@pytest.mark.parametrize("text", ["", "a", "a-", "-7", "a-x", "7"])
def test_what_names_no_place(text: str) -> None:
    """An invalid native id is refused with the valid form."""
    with pytest.raises(ValueError, match="is not a native id: that is a journal's name"):
        finding(text, page())


def test_a_journal_may_be_adopted() -> None:
    """It is read from the peer that served it last."""
    bus = ScriptedBus(journals("a"))

    async def main() -> str:
        made = Journals(cast(Connection, bus))
        await made.look()
        bus.peers = [peer(instance="2" * 16)]
        await made.look()
        return made._readers["a"].publisher

    assert asyncio.run(main()) == "2" * 16


def test_a_publisher_with_endless_pages() -> None:
    """Reading stops if it makes no progress; the other journals are read."""
    found, _, made = reading(journals("a", "b"), page(more=True), page(event("b", 1, 1.0), through=1), page())
    assert found == [["b-1"]]
    assert "keeps reporting more events in a" in str(made.failure)


def test_a_publisher_that_goes_back_without_end() -> None:
    """The same when journals are read from their ends."""
    bus = ScriptedBus(journals("a"), {"events": [event("a", 9, 9.0)], "before": 9}, {"events": [], "before": 9})
    found: list[str] = []

    async def main() -> Journals:
        made = Journals(cast(Connection, bus))
        await made.look()
        found.extend([each["native_id"] async for each in made.newest_first(2, (None, None))])
        return made

    assert "keeps reporting more events in a" in str(asyncio.run(main()).failure)
    assert found == ["a-9"]


def test_where_a_journal_is_begun() -> None:
    """After the sequence that `begin` returns, called once with the newest; `places` has how far each was read."""
    asked: list[tuple[str, int]] = []

    def begin(journal: str, head: int) -> int:
        asked.append((journal, head))
        return head

    async def main() -> tuple[list[str], dict[str, int], ScriptedBus]:
        told = [{"journal": "a", "events": 10, "head": 7}, {"journal": "b", "events": 0}]
        bus = ScriptedBus(told, told, page(event("a", 8, 1.0), through=8), page(), page(through=8))
        made = Journals(cast(Connection, bus), begin=begin)
        await made.look()
        await made.look()
        return await read(made), made.places(), bus

    found, places, bus = asyncio.run(main())
    assert asked == [("a", 7), ("b", 0)]
    assert found == ["a-8"]
    assert places == {"a": 8, "b": 0}
    assert bus.questions[2]["after"] == 7


def test_only_journals_that_are_served_are_read() -> None:
    """One of a publisher that did not answer just now would hold up the others until its time is over."""

    async def main() -> tuple[list[str], ScriptedBus]:
        bus = ScriptedBus(journals("a", "b"), journals("b"), page(event("b", 1, 1.0), through=1), page())
        made = Journals(cast(Connection, bus))
        await made.look()
        await made.look()
        return await read(made), bus

    found, bus = asyncio.run(main())
    assert found == ["b-1"]
    assert {question["journal"] for question in bus.questions[2:]} == {"b"}


@pytest.mark.parametrize("is_backward", [False, True])
def test_a_publisher_that_hangs_is_waited_for_once(is_backward: bool) -> None:
    """However many journals it serves; the next reading asks it again."""
    hangs = LightbusTimeout("It does not answer.")

    async def main() -> tuple[list[int], Journals]:
        bus = ScriptedBus(journals("a", "b", "c"), hangs)
        made = Journals(cast(Connection, bus))
        await made.look()
        asked = []
        for _ in range(2):
            events = made.newest_first(10, (None, None)) if is_backward else made.events()
            assert [each async for each in events] == []
            asked.append(len(bus.questions))
        return asked, made

    asked, made = asyncio.run(main())
    assert asked == [2, 3]
    assert made.failure is hangs
