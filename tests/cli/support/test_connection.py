"""A command's connection to the bus: the peers it finds and asks, and how a command ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.asgi import MemoryConnection, on_connection
from helpers.clients import AuthApi
from helpers.scripted_bus import peer
from lightbus import Api, UnknownApi
from lightbus.cli.support import connection as module
from lightbus.cli.support.connection import (
    INTERRUPTED,
    Connection,
    ask_peer,
    first_answer,
    is_called,
    on_bus,
    passes,
    stop_requested,
)
from lightbus.cli.support.options import ClientOptions
from lightbus.exceptions import LightbusTimeout, NotReachable
from lightbus.testing import MemoryBus, memory_bus
from lightbus.wire.announcement import Announcement

INSTANCE = "54f303dad4f4b999"


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    """Return a bus in memory."""
    with memory_bus() as hub:
        yield hub


def serve(hub: MemoryBus, *services: str) -> None:
    """Run workers that serve `auth`."""
    for service in services:
        bus = hub.create(service_name=service)
        bus.client.register_api(AuthApi())
        hub.start(bus)


def on(hub: MemoryBus, use: Callable[[Connection], Awaitable[Any]]) -> Any:
    """Run a coroutine function with a connection, and return its result."""
    return asyncio.run(on_connection(MemoryConnection(hub), use))


@pytest.mark.parametrize(
    ("name", "is_it"),
    [
        ("shop", True),
        ("brave-hill-7", True),
        ("54f3", True),
        ("54F303", True),
        ("54f", False),  # too short to mean an instance
        ("54f4", False),
        ("shopping", False),
        ("", False),
    ],
)
def test_what_a_name_means(name: str, is_it: bool) -> None:
    """A service, a process, or how an instance's id begins."""
    assert is_called(name, "shop", "brave-hill-7", INSTANCE) is is_it


def test_peers_come_in_order_and_answer(hub: MemoryBus) -> None:
    """Sorted by service and process; each is asked by itself, and an unknown question gives an empty answer."""
    serve(hub, "shop", "auth")

    async def use(bus: Connection) -> None:
        peers = bus.known()
        assert [peer.announcement.service for peer in peers] == ["auth", "shop"]
        assert [peer.instance for peer in await bus.find("auth")] == [peer.instance for peer in peers]
        stats = await bus.ask_all(peers, "stats")
        assert [bool(each) for each in stats] == [True, True]
        assert await bus.ask_or_empty(peers[0], "no_such_question") == {}
        assert bus.ended() == []

    on(hub, use)


def leave_behind(bus: Connection) -> Announcement:
    """Leave the files of a killed worker of this host, and return its announcement."""
    said = Announcement(bus=bus.name, instance=INSTANCE, service="shop", process="one", host="here")
    places = bus.client.engine.network.places
    assert places is not None
    place = places.candidates()[1]  # beside the events: no worker of another test cleans up there
    for each in (place.parent, place):
        each.mkdir(mode=0o700, exist_ok=True)
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(place / f"{INSTANCE}.rpc"))
        dead.listen(1)
    (place / f"{INSTANCE}.peer").write_text(json.dumps(said.to_wire()))
    return said


def test_killed_peer_is_reported_after_the_node_has_dropped_it() -> None:
    """The node drops it within a second, since its sockets refuse; a command may take longer."""

    async def use() -> None:
        bus = Connection(ClientOptions(as_json=True, wait=20.0))
        said = leave_behind(bus)
        try:
            with pytest.raises(NotReachable, match=r"shop .* has ended without a goodbye"):
                await bus.discover_all()
            await wait_until_async(lambda: INSTANCE not in bus.client.engine.snapshot.peers)
            assert [each.instance for each in bus.ended()] == [said.instance]
        finally:
            await bus.close()

    asyncio.run(use())


def test_peers_by_name(hub: MemoryBus) -> None:
    """All of a service, one by its instance; the error for an unknown name lists the known ones."""
    serve(hub, "shop", "shop", "auth")

    async def use(bus: Connection) -> None:
        two = await bus.named("shop")
        assert len(two) == 2
        assert [peer.instance for peer in await bus.named(two[0].instance)] == [two[0].instance]
        with pytest.raises(NotReachable, match=r"No live peer is called 'mail' .*There are: auth, shop\. "):
            await bus.named("mail")
        with pytest.raises(NotReachable, match="None of the peers that serve it is called 'auth'"):
            await bus.named("auth", among=two)

    on(hub, use)


def test_unserved_api(hub: MemoryBus) -> None:
    """The error has similar names if there are peers."""
    serve(hub, "auth")

    async def use(bus: Connection) -> None:
        bus.options = replace(bus.options, wait=0.1)  # somebody was found: how long one looks for others is no matter
        with pytest.raises(UnknownApi, match="Did you mean 'auth'"):
            await bus.find("auht")

    on(hub, use)


def test_no_peers(hub: MemoryBus) -> None:
    """The error says where and for how long it looked, and how to find the reason."""

    async def look() -> None:
        bus = MemoryConnection(hub, wait=0.1)
        try:
            for looking in (bus.discover_all, lambda: bus.find("auth")):
                with pytest.raises(
                    NotReachable, match=r"No peer is on the bus '\S+': looked for 0\.1 s .*lightbus doctor"
                ):
                    await looking()
        finally:
            await bus.close()

    asyncio.run(look())


class Made(MemoryConnection):
    """A connection to a bus in memory, in place of a real one."""

    hub: MemoryBus
    closed = 0

    def __init__(self, options: ClientOptions, *, data_dir: object = None, service: str = "") -> None:
        super().__init__(self.hub)

    async def close(self) -> None:
        Made.closed += 1
        await super().close()


@pytest.fixture
def made(hub: MemoryBus, monkeypatch: pytest.MonkeyPatch) -> type[Made]:
    """Connect commands to a bus in memory."""
    monkeypatch.setattr(Made, "hub", hub, raising=False)
    monkeypatch.setattr(Made, "closed", 0)
    monkeypatch.setattr(module, "Connection", Made)
    monkeypatch.setattr(module, "configure_logging", lambda level: None)
    return Made


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_exit_code_of_a_command(made: type[Made], returned: int | None, code: int) -> None:
    """It is what the command returns, and the bus is left in any case."""

    async def command(bus: Connection) -> int | None:
        return returned

    with pytest.raises(SystemExit) as ended:
        on_bus(ClientOptions(), command)
    assert (ended.value.code, made.closed) == (code, 1)


def test_ctrl_c_has_the_code_that_shells_have(made: type[Made]) -> None:
    """The command is cancelled, and the bus left."""

    async def command(bus: Connection) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()
        return 0

    with pytest.raises(SystemExit) as ended:
        on_bus(ClientOptions(), command)
    assert (ended.value.code, made.closed) == (INTERRUPTED, 1)


def test_error_of_a_command_is_left_to_the_program(made: type[Made]) -> None:
    """It has its own exit code; the bus is left."""

    async def command(bus: Connection) -> int:
        raise NotReachable("nobody")

    with pytest.raises(NotReachable, match="nobody"):
        on_bus(ClientOptions(), command)
    assert made.closed == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_that_is_meant_to_be_ended(made: type[Made], number: signal.Signals) -> None:
    """Ctrl-C, or SIGTERM, is its ordinary end."""

    async def command(bus: Connection) -> int:
        done = stop_requested()
        assert not await passes(done, 0.0)
        os.kill(os.getpid(), number)
        assert await passes(done, 60.0)
        return 0

    with pytest.raises(SystemExit) as ended:
        on_bus(ClientOptions(), command)
    assert ended.value.code == 0


def test_a_second_ctrl_c_ends_a_command_whose_end_hangs() -> None:
    """It is not ignored while the command finishes."""

    async def command(bus: Connection) -> int:
        done = stop_requested()
        os.kill(os.getpid(), signal.SIGINT)
        assert await passes(done, 60.0)
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        await asyncio.wait_for(asyncio.Event().wait(), 5.0)
        return 0

    with pytest.raises(SystemExit) as ended:
        on_bus(ClientOptions(), command)
    assert ended.value.code == INTERRUPTED


def test_a_command_with_its_own_service() -> None:
    """Others see its name; all other commands are of one service, which lists leave out."""
    assert Connection(ClientOptions()).client.config.service_name == module.SERVICE
    assert Connection(ClientOptions(), service="gateway").client.config.service_name == "gateway"


def test_a_peer_that_does_not_answer_a_command(hub: MemoryBus) -> None:
    """The error says who and what, and gives no advice that is about programs that call."""

    class HangsApi(Api):
        class Meta:
            name = "hangs"

        async def forever(self) -> None:
            await asyncio.Event().wait()

    worker = hub.create(service_name="auth")
    worker.client.register_api(HangsApi())
    hub.start(worker)

    async def use(bus: Connection) -> None:
        [peer] = bus.known()
        with pytest.raises(LightbusTimeout) as silent:
            await ask_peer(bus.client, peer, "hangs.forever", {}, timeout=0.1)
        assert str(silent.value) == f"{peer.announcement} did not answer hangs.forever within 0.1 s."

    on(hub, use)


@pytest.mark.parametrize(
    ("silent", "asked"),
    [(0, [1]), (1, [1, 2]), (2, [1, 2]), (3, [1, 2, 4]), (9, [1, 2, 4, 3])],
)
def test_the_first_answer_of_several_peers(silent: int, asked: list[int]) -> None:
    """The next ones are asked where some do not answer, more each time, so that many that hang do not add up."""
    peers = [peer(instance=f"{number:016x}") for number in range(10)]
    rounds: list[int] = []

    async def question(each: Any) -> int:
        number = peers.index(each)
        if number + 1 in (1, 2, 4, 8):  # the first of its round
            rounds.append(0)
        rounds[-1] += 1
        if number < silent:
            raise LightbusTimeout(f"{number} does not answer.")
        return number

    assert asyncio.run(first_answer(peers, question)) == silent
    assert rounds == asked


def test_no_answer_of_any_peer() -> None:
    """It is the first one's error; a fault in the question itself is none of a peer."""

    async def silent(each: Any) -> None:
        raise LightbusTimeout(f"{each.instance[-1]} does not answer.")

    async def wrong(each: Any) -> None:
        raise KeyError(each.instance)

    peers = [peer(instance=f"{number:016x}") for number in range(5)]
    with pytest.raises(LightbusTimeout, match="0 does not answer"):
        asyncio.run(first_answer(peers, silent))
    with pytest.raises(KeyError):
        asyncio.run(first_answer(peers, wrong))
