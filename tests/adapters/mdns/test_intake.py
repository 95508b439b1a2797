"""What zeroconf's sockets receive: all is read, senders take turns, and it takes a bounded share of the loop's time."""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
from collections import Counter
from typing import Any, cast

import pytest

from helpers import MS, wait_until_async
from helpers.discovering import announcement, listening
from helpers.surroundings import Surroundings
from lightbus.adapters.mdns import intake as module
from lightbus.adapters.mdns.discovery import ZeroconfDiscovery
from lightbus.adapters.mdns.fair_queue import MAX_WAITING_BYTES
from lightbus.adapters.mdns.intake import CREDIT, MDNS_PORT, SHARE, TURN, Intake

OWN = f"127.77.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}"
"""An address of loopback at which no other process listens, nor another one that runs tests of this module."""

ANSWER, QUESTION = b"\0\0\x84\0" + bytes(8), bytes(12)
FLOODER, OTHER = ("10.0.0.1", MDNS_PORT), ("10.0.0.2", MDNS_PORT)


class Clock:
    """Stands still, except while a packet is handled, for a millisecond each."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Reader:
    """Remembers what was handled."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.handled: list[str] = []

    def handle(self, data: bytes, source: tuple[str, int]) -> None:
        self.clock.now += MS
        self.handled.append(source[0])


class Place:
    """An intake, and what it was told to ignore."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.reader = Reader(self.clock)
        self.ignored: Counter[str] = Counter()
        self.intake = Intake(self.ignore, self.clock)

    def ignore(self, kind: str, source: str, reason: str, count: int = 1) -> None:
        self.ignored[kind] += count

    def take(self, data: bytes, source: tuple[str, int], count: int = 1) -> None:
        """Have packets come in."""
        for _ in range(count):
            self.intake.take(cast(Any, self.reader), data, source)


def test_a_flood_delays_nobody_else() -> None:
    """A packet of another sender is handled second, though a thousand came before it."""

    async def scenario() -> None:
        place = Place()
        place.take(ANSWER, FLOODER, 1000)
        place.take(ANSWER, OTHER)
        place.intake.handle()
        assert place.reader.handled == [FLOODER[0], OTHER[0]]
        place.intake.close()

    asyncio.run(scenario())


def test_a_turn_is_short_and_all_turns_are_a_share() -> None:
    """After two milliseconds other work has its turn; beyond what was saved up, it is a share of the time."""

    async def scenario() -> None:
        place = Place()
        place.take(ANSWER, FLOODER, 400)
        place.intake.handle()
        assert len(place.reader.handled) == round(TURN / MS)
        saved = round(CREDIT / MS)
        await wait_until_async(lambda: len(place.reader.handled) >= saved)
        await wait_until_async(lambda: place.intake._credit <= 0)
        before = len(place.reader.handled)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(place.reader.handled) == before
        place.clock.now += 1.0
        await wait_until_async(lambda: len(place.reader.handled) >= before + saved)
        assert before <= saved / (1 - SHARE) + 2  # while these were handled, something was saved up, too
        place.intake.close()

    asyncio.run(scenario())


def test_work_afterwards_is_charged() -> None:
    """It counts as if it had been done at once, but not what another process rather took."""

    async def scenario() -> None:
        place = Place()
        for _ in range(11):
            place.intake.charge(60.0)
        place.take(ANSWER, OTHER)
        place.intake.handle()
        assert place.reader.handled == []
        place.clock.now += 11 * module.LONGEST / SHARE
        await wait_until_async(lambda: place.reader.handled == [OTHER[0]])
        place.intake.close()

    asyncio.run(scenario())


def test_answers_come_from_the_port_of_multicast_dns() -> None:
    """Others are not handled, which costs next to nothing; a question may come from any port (RFC 6762 section 6)."""

    async def scenario() -> None:
        place = Place()
        place.take(ANSWER, ("10.0.0.1", 40000))
        place.take(QUESTION, ("10.0.0.2", 40000))
        place.take(b"", OTHER)
        place.take(QUESTION[:-1], OTHER)
        place.intake.handle()
        assert place.reader.handled == ["10.0.0.2"]
        assert place.ignored == {"wrong port": 1, "malformed": 2}

    asyncio.run(scenario())


def test_packet_that_cannot_be_handled_delays_no_other() -> None:
    """The packets behind one that zeroconf raises on are handled all the same."""

    async def scenario() -> None:
        place = Place()
        handle, fails = place.reader.handle, [True]

        def fail_once(data: bytes, source: tuple[str, int]) -> None:
            if fails.pop() if fails else False:
                raise ValueError("cannot be handled")
            handle(data, source)

        cast(Any, place.reader).handle = fail_once
        place.take(ANSWER, FLOODER)
        place.take(ANSWER, OTHER)
        with pytest.raises(ValueError, match="cannot be handled"):
            place.intake.handle()
        await wait_until_async(lambda: place.reader.handled == [OTHER[0]])
        place.intake.close()

    asyncio.run(scenario())


def test_what_is_too_much_is_counted() -> None:
    """Beyond what may wait of one sender."""

    async def scenario() -> None:
        place = Place()
        place.take(ANSWER + bytes(8000), FLOODER, 100)
        assert place.ignored["too many packets"] == 100 - MAX_WAITING_BYTES // (8012 + module.OVERHEAD)
        place.intake.close()

    asyncio.run(scenario())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what its buffer could not hold")
def test_what_the_kernel_dropped_is_counted(surroundings: Surroundings) -> None:
    """What came while the process was held up for longer than the buffer lasts; a peer is found after it."""

    async def scenario() -> None:
        made, friend = (ZeroconfDiscovery(surroundings.bus, addresses=[OWN]) for _ in range(2))
        announced = announcement(surroundings.bus)
        async with listening(made) as ears:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flooder:
                for _ in range(8000):
                    flooder.sendto(QUESTION + bytes(700), (OWN, MDNS_PORT))
            await wait_until_async(lambda: made.ignored["not read in time"] > 0)
            async with listening(friend):
                await friend.announce(announced)
                await ears.hear(announced)

    asyncio.run(scenario())


def test_all_that_waits_is_read_in_one_turn(surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a process with little of the processor reads one packet where dozens come, and the kernel drops the rest."""
    read: list[bytes] = []
    take = Intake.take

    def note(self: Intake, reader: Any, data: bytes, source: tuple[str, int]) -> None:
        if data.startswith(b"\x77"):
            read.append(data)
        take(self, reader, data, source)

    monkeypatch.setattr(Intake, "take", note)
    monkeypatch.setattr(module, "READ_TURN", 60.0)  # a turn may be over before, on a busy machine

    async def scenario() -> None:
        made = ZeroconfDiscovery(surroundings.bus, addresses=[OWN])
        async with listening(made):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for _ in range(50):
                    sender.sendto(b"\x77" + QUESTION, (OWN, MDNS_PORT))
            turns = 0
            while len(read) < 50:
                seen = len(read)
                await asyncio.sleep(0)
                turns += len(read) > seen
            assert turns <= 2

    asyncio.run(scenario())


def test_reading_never_waits(surroundings: Surroundings) -> None:
    """A program's default timeout of sockets does not block the loop until the next packet comes."""

    async def scenario() -> None:
        made = ZeroconfDiscovery(surroundings.bus, addresses=[OWN])
        async with listening(made):
            assert made._intake is not None
            for reader in made._intake._sockets:
                with reader._borrowed() as own:
                    assert own.gettimeout() == 0.0

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(3600)
    try:
        asyncio.run(scenario())
    finally:
        socket.setdefaulttimeout(before)
