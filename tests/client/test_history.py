"""`history()` and `lag()`: the requests to publishers, and refused arguments."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from helpers import Door, wait_until
from helpers.clients import AuthApi, asked
from lightbus import BusPath, CannotBlockHere, EventNotFound, InvalidParameters, UnknownListener
from lightbus.testing import MemoryBus, memory_bus


def test_history_and_lag(served: BusPath, caller: BusPath, door: Door) -> None:
    """Stored events can be read, and so can the lag of a listener's group."""
    fired = [door.fire(served.auth.user_registered, username=f"user {number}") for number in range(3)]
    ask = asked(door)
    found = ask(caller.auth.user_registered, "history")
    assert [(message.id, message.kwargs["username"], message.native_id) for message in found] == [
        (message.id, message.kwargs["username"], message.native_id) for message in fired
    ]
    assert [message.id for message in ask(caller.auth.user_registered, "history", limit=1)] == [fired[-1].id]
    assert ask(caller.auth.user_registered, "history", fired[-1].published_at + 1) == []
    with pytest.raises(UnknownListener, match="No publisher of 'auth' knows the group 'caller-greet'"):
        ask(caller.auth.user_registered, "lag", "greet")
    heard: list[str] = []
    served.auth.user_registered.listen(lambda username: heard.append(username), listener_name="greet")
    wait_until(lambda: ask(served.auth.user_registered, "lag", "greet") == 0)
    door.fire(served.auth.user_registered, username="sally", bus_options={"wait_for": "ack"})
    assert heard == ["sally"]
    assert ask(served.auth.user_registered, "lag", "greet") == 0


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    """Return a bus in memory whose publishers keep journals: each is asked for its own."""
    with memory_bus(journal=True) as hub:
        yield hub


def test_history_of_an_event_backend(door: Door) -> None:
    """If one backend stores the events of all publishers, each event is returned once."""
    with memory_bus() as hub:
        first, second = (hub.create(service_name="auth-service") for _ in range(2))
        for bus in (first, second):
            bus.client.register_api(AuthApi())
            hub.start(bus)
        fired = [door.fire(bus.auth.user_registered, username="sally") for bus in (first, second, first)]
        found = asked(door)(hub.create().auth.user_registered, "history")
        assert [message.id for message in found] == [message.id for message in fired]


def test_all_publishers_are_asked(
    hub: MemoryBus, served: BusPath, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that has just started asks all of them, and names the one that does not answer."""
    other = hub.create(service_name="auth-service")
    other.client.register_api(AuthApi())
    other.client.start_in_background()
    for bus, name in ((served, "ada"), (other, "sally")):
        bus.auth.user_registered.fire(username=name)
    newcomer = hub.create(service_name="newcomer")
    engine = newcomer.client.engine
    try:
        found = asked(door)(newcomer.auth.user_registered, "history")
        assert [message.kwargs["username"] for message in found] == ["ada", "sally"]
        assert "The history of auth is not complete" not in caplog.text
        silent = engine.snapshot.by_api["auth"]
        engine.snapshot = replace(engine.snapshot, announced={"auth": silent[:1]}, by_api={"auth": silent[1:]})
        assert len(asked(door)(newcomer.auth.user_registered, "history")) == 1
        assert f"The history of auth is not complete: {silent[0]} does not answer" in caplog.text
    finally:
        newcomer.client.close()
        other.client.close()


def test_questions_of_the_past_that_cannot_be(served: BusPath, door: Door) -> None:
    """An event that is none, and a number that cannot be answered, are refused; so is blocking a loop, by its name."""
    ask = asked(door)
    for limit in (0, -1, 1001, True, "7"):
        with pytest.raises(InvalidParameters, match=r"limit of the history of auth\.user_registered is .* 1 to 1000"):
            ask(served.auth.user_registered, "history", limit=limit)
    for which in ({"start": "yesterday"}, {"stop": True}):
        with pytest.raises(InvalidParameters, match=r"of the history of auth\.user_registered is .*It is a datetime"):
            ask(served.auth.user_registered, "history", **which)
    for question, arguments in (("history", []), ("lag", ["greet"])):
        with pytest.raises(EventNotFound, match="'auth' has no event 'user_registerd'"):
            ask(served.auth.user_registerd, question, *arguments)

    async def blocks() -> None:
        with pytest.raises(CannotBlockHere, match=r"bus\.auth\.user_registered\.lag_async\(\)"):
            served.auth.user_registered.lag("greet")

    asyncio.run(blocks())
