"""The engines connected to a worker: notified, waited for, and dropped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from helpers import MS
from lightbus.membership import connected
from lightbus.membership.connected import HELLO_EVERY, ConnectedEngines
from lightbus.wire import envelope
from lightbus.wire.envelope import AnyMessage, Drain, Goodbye, Hello, Peers

ONE, TWO = b"one", b"two"
SOON = 50 * MS
LONG = 30.0


class Line:
    """The messages that were sent to each connection; some connections are gone."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, AnyMessage]] = []
        self.gone: set[bytes] = set()
        self.engines = ConnectedEngines(self._send)

    def _send(self, routing_id: bytes, frame: bytes) -> bool:
        self.sent.append((routing_id, envelope.decode(frame)[1]))
        return routing_id not in self.gone

    def hello(self, *routing_ids: bytes, now: float = 0.0) -> list[bool]:
        """Let processes send HELLO."""
        return [
            self.engines.on_hello(routing_id, Hello("b", "", "0" * 16, "shop", str(routing_id), "", None), now)
            for routing_id in routing_ids
        ]


def run(scenario: Any) -> None:
    """Run a scenario with its own connections."""
    asyncio.run(scenario(Line()))


def test_hello_counts_once() -> None:
    """The first HELLO of a process is distinguished from later ones."""

    async def scenario(line: Line) -> None:
        assert line.hello(ONE, TWO, ONE) == [True, True, False]
        assert len(line.engines) == 2
        assert ONE in line.engines
        assert b"three" not in line.engines
        assert (line.engines.service_of("0" * 16), line.engines.service_of("1" * 16)) == ("shop", None)

    run(scenario)


def test_clients_are_connected_processes_that_are_not_workers() -> None:
    """By service; one that becomes a worker is none any more."""

    async def scenario(line: Line) -> None:
        for routing_id, service in ((ONE, "web"), (TWO, "web"), (b"three", "gateway")):
            line.engines.on_hello(routing_id, Hello("b", "", "0" * 16, service, "p", "", None), 0.0)
        assert line.engines.clients() == {"web": 2, "gateway": 1}
        line.engines.on_hello(ONE, Hello("b", "", "0" * 16, "web", "p", "", {"service": "web"}), 0.0)
        line.engines.forget(b"three")
        assert line.engines.clients() == {"web": 1}

    run(scenario)


def test_services_of_disconnected_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are known for a while: a call of a script may be counted after its goodbye."""
    monkeypatch.setattr(connected, "MAX_FORMER", 2)

    async def scenario(line: Line) -> None:
        for number in range(3):
            hello = Hello("b", "", f"{number}" * 16, f"service-{number}", "p", "", None)
            line.engines.on_hello(b"%d" % number, hello, 0.0)
        for number in range(3):
            line.engines.forget(b"%d" % number)
        services = [line.engines.service_of(f"{number}" * 16) for number in range(4)]
        assert services == [None, "service-1", "service-2", None]
        assert len(line.engines) == 0

    run(scenario)


def test_all_connected_engines_are_notified() -> None:
    """A message goes to all of them; an engine that turns out to be gone is dropped."""

    async def scenario(line: Line) -> None:
        line.hello(ONE, TWO)
        line.gone = {ONE}
        message = Peers([], [])
        line.engines.push(message)
        line.engines.push(message)
        assert line.sent == [(ONE, message), (TWO, message), (TWO, message)]
        assert ONE not in line.engines

    run(scenario)


def test_silent_process_is_dropped_and_new_when_it_returns() -> None:
    """A process that misses several HELLOs in a row is dropped; if it sends another one, it counts as new."""

    async def scenario(line: Line) -> None:
        line.hello(ONE, TWO)
        line.hello(TWO, now=3 * HELLO_EVERY)
        line.engines.tick(6 * HELLO_EVERY)
        assert (ONE in line.engines, TWO in line.engines) == (False, True)
        assert line.hello(ONE, now=6 * HELLO_EVERY) == [True]

    run(scenario)


@pytest.mark.parametrize("phase", ["drain", "part"])
def test_all_confirmations_are_waited_for(phase: str) -> None:
    """Draining and saying goodbye end when the last connected engine has confirmed, or is gone."""

    async def scenario(line: Line) -> None:
        line.hello(ONE, TWO)
        waiting = asyncio.create_task(
            line.engines.drain(LONG) if phase == "drain" else line.engines.part("0" * 16, LONG)
        )
        await asyncio.sleep(0)
        message = Drain() if phase == "drain" else Goodbye("0" * 16)
        assert line.sent == [(ONE, message), (TWO, message)]
        confirm = line.engines.has_drained if phase == "drain" else line.engines.forget
        confirm(ONE)
        confirm(ONE)
        await asyncio.sleep(0)
        assert not waiting.done()
        line.engines.forget(TWO)
        assert await waiting == []

    run(scenario)


@pytest.mark.parametrize("phase", ["drain", "part"])
def test_waiting_is_bounded(phase: str) -> None:
    """An engine that does not confirm in time is named, in quotes, because it chooses its name itself."""

    async def scenario(line: Line) -> None:
        line.hello(ONE, TWO)
        line.gone = {TWO}
        missing = await (line.engines.drain(SOON) if phase == "drain" else line.engines.part("0" * 16, SOON))
        assert [str(engine) for engine in missing] == ["""'shop' "b'one'\""""]

    run(scenario)


def test_waiting_without_connections() -> None:
    """Without connected engines, draining and saying goodbye take no time."""

    async def scenario(line: Line) -> None:
        assert await line.engines.drain(LONG) == []
        assert await line.engines.part("0" * 16, LONG) == []

    run(scenario)


def test_goodbye_after_draining() -> None:
    """Engines that confirmed to drain, and new ones, are waited for again after the goodbye."""

    async def scenario(line: Line) -> None:
        line.hello(ONE)
        draining = asyncio.create_task(line.engines.drain(LONG))
        await asyncio.sleep(0)
        line.hello(TWO)
        line.engines.has_drained(ONE)
        await asyncio.sleep(0)
        assert not draining.done()
        line.engines.has_drained(TWO)
        assert await draining == []
        assert len(await line.engines.part("0" * 16, SOON)) == 2

    run(scenario)
