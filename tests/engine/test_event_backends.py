"""The event backend of each API, and when it is started and stopped."""

from __future__ import annotations

import asyncio
import contextlib
from importlib.metadata import EntryPoint

import pytest

from helpers import wait_until_async
from lightbus import EventBackendUnreachable, InvalidConfiguration
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
        ({"backend": "memory", "batch": 3}, r"backend memory\. Each listener has its own: .*listen\(\.\.\., batch="),
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
    """At the next use. The one that failed is stopped before: it may have opened a connection."""
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
    assert calls == ["start", "stop", "start", "stop"]


def test_backend_whose_start_and_stop_fail(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets the first error; the other one is logged."""

    class Backend(MemoryEventBackend):
        async def start(self) -> None:
            raise OSError("no room")

        async def stop(self) -> None:
            raise ValueError("nothing to stop")

    monkeypatch.setitem(event_backends.BUILT_IN, "memory", Backend)

    async def scenario() -> None:
        running = RunningBackends(EventBackendChoice(config(default={"backend": "memory"})), ME)
        with pytest.raises(OSError, match="no room"):
            await running.get("shop")

    asyncio.run(scenario())
    assert "An event backend did not stop" in caplog.text
    assert "nothing to stop" in caplog.text


@pytest.mark.parametrize("completes", [False, True], ids=["it is cancelled", "it does not let itself be cancelled"])
def test_backend_that_is_starting_at_the_end_is_stopped(monkeypatch: pytest.MonkeyPatch, completes: bool) -> None:
    """Before `stop` returns; and none is started afterwards, which nobody would stop."""
    calls: list[str] = []

    class Backend(MemoryEventBackend):
        async def start(self) -> None:
            calls.append("start")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if not completes:
                    raise

        async def stop(self) -> None:
            await asyncio.sleep(0)
            calls.append("stop")

    monkeypatch.setitem(event_backends.BUILT_IN, "memory", Backend)

    async def scenario() -> None:
        running = RunningBackends(EventBackendChoice(config(default={"backend": "memory"})), ME)
        getting = asyncio.create_task(running.get("shop"))
        await wait_until_async(lambda: calls)
        await running.stop()
        assert calls == ["start", "stop"]
        await asyncio.wait([getting])
        assert completes or isinstance(getting.exception(), EventBackendUnreachable)
        with pytest.raises(EventBackendUnreachable, match="it is stopping"):
            await running.get("shop")
        assert calls == ["start", "stop"]

    asyncio.run(scenario())


def test_backend_that_goes_on_starting_does_not_keep_the_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is waited for only so long, and named as what it is."""
    monkeypatch.setattr(event_backends, "START_TIMEOUT", 0.01)
    begun = asyncio.Event()
    end = asyncio.Event()

    class Backend(MemoryEventBackend):
        async def start(self) -> None:
            begun.set()
            while not end.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await end.wait()

    monkeypatch.setitem(event_backends.BUILT_IN, "memory", Backend)

    async def scenario() -> None:
        running = RunningBackends(EventBackendChoice(config(default={"backend": "memory"})), ME)
        getting = asyncio.create_task(running.get("shop"))
        await begun.wait()
        await running.stop()
        end.set()
        await getting

    asyncio.run(scenario())
    assert "cannot be cancelled" in caplog.text
