"""The event backend of each API, and when it is started and stopped."""

from __future__ import annotations

import asyncio
from importlib.metadata import EntryPoint

import pytest

from lightbus import InvalidConfiguration
from lightbus.adapters.memory.events import MemoryEventBackend
from lightbus.config import Config, load_config
from lightbus.engine import event_backends
from lightbus.engine.event_backends import BACKENDS_GROUP, EventBackendChoice, RunningBackends, movable_backend
from lightbus.membership.context import Identity

ME = Identity(bus="b", service="s", process="p")


def config(**apis: dict[str, object]) -> Config:
    """Return settings with these in `events` of each API."""
    return load_config({"apis": {name: {"events": events} for name, events in apis.items()}}, environ={})


def test_journal_is_not_a_backend_object() -> None:
    """Without a setting nothing is made."""
    assert not EventBackendChoice(config()).is_used
    assert not EventBackendChoice(config(default={"backend": "journal"})).is_used


def test_backend_is_chosen_by_api() -> None:
    """APIs may differ; missing settings come from `default`, the options only for the same backend."""
    choice = EventBackendChoice(
        config(default={"backend": "memory", "max_events": 7}, own={"backend": "journal"}, more={"max_events": 8})
    )
    assert choice.is_used
    assert [choice.has(api) for api in ("any", "own", "more")] == [True, False, True]
    assert choice.key("any") == choice.key("other")
    assert choice.key("any") != choice.key("more")


def test_unknown_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the available ones."""
    point = EntryPoint("shelf", "lightbus.adapters.memory.events:MemoryEventBackend", BACKENDS_GROUP)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point] if group == BACKENDS_GROUP else [])
    with pytest.raises(InvalidConfiguration, match=r"backend is 'x', and there is: journal, jetstream, memory, shelf"):
        EventBackendChoice(config(shop={"backend": "x"}))
    assert isinstance(EventBackendChoice(config(shop={"backend": "shelf"})).make("shop", ME), MemoryEventBackend)


class Movable(MemoryEventBackend):
    """A backend whose events can be moved."""

    def move(self, api: str) -> None:
        """Move nothing."""


def test_some_backends_can_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """If one cannot, that is an error before anything is moved."""
    with pytest.raises(InvalidConfiguration, match="backend memory cannot be moved"):
        movable_backend(config(), "memory", "shop", ME)
    monkeypatch.setitem(event_backends.BUILT_IN, "memory", Movable)
    assert isinstance(movable_backend(config(), "memory", "shop", ME), Movable)


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ({"max_events": 3}, "not a setting of the backend journal"),
        ({"backend": "memory", "size": 3}, "events.size is not a setting of the backend memory. There is: max_events"),
        ({"backend": "memory", "max_events": 0}, "a whole number above 0"),
    ],
)
def test_unknown_option_is_refused(events: dict[str, object], fault: str) -> None:
    """The error lists the settings of the backend."""
    with pytest.raises(InvalidConfiguration, match=fault):
        EventBackendChoice(config(shop=events)).make("shop", ME)


def test_backend_is_started_once_and_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """APIs with the same settings share one, however many request it at once."""
    calls: list[str] = []

    class Backend(MemoryEventBackend):
        async def start(self) -> None:
            calls.append("start")
            await asyncio.sleep(0)

        async def stop(self) -> None:
            calls.append("stop")

    monkeypatch.setitem(event_backends.BUILT_IN, "memory", Backend)

    async def scenario() -> None:
        running = RunningBackends(EventBackendChoice(config(default={"backend": "memory"})), ME)
        first, second = await asyncio.gather(running.get("shop"), running.get("mail"))
        assert first is second
        await running.stop()

    asyncio.run(scenario())
    assert calls == ["start", "stop"]


def test_backend_that_did_not_start_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next use; the one that failed is not stopped."""
    calls: list[str] = []

    class Backend(MemoryEventBackend):
        async def start(self) -> None:
            calls.append("start")
            if len(calls) == 1:
                raise OSError("no room")

        async def stop(self) -> None:
            calls.append("stop")

    monkeypatch.setitem(event_backends.BUILT_IN, "memory", Backend)

    async def scenario() -> None:
        running = RunningBackends(EventBackendChoice(config(default={"backend": "memory"})), ME)
        with pytest.raises(OSError, match="no room"):
            await running.get("shop")
        assert await running.get("shop") is await running.get("shop")
        await running.stop()

    asyncio.run(scenario())
    assert calls == ["start", "start", "stop"]
