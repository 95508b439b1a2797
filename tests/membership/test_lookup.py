"""Waiting until a name is advertised: as long as there is something to wait for, and no longer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any, cast

import pytest

from helpers import MS
from lightbus.core.registry import CROWD, Peer, Registry, Source
from lightbus.deadline import Deadline
from lightbus.exceptions import PeerRefused, PeerUnreachable, UnknownApi
from lightbus.membership import lookup as module
from lightbus.membership.dialer import EVERYTHING, Dialer
from lightbus.membership.link import HELLO_TIMEOUT
from lightbus.membership.lookup import Lookup, NodeStopped
from lightbus.membership.running_clock import LONGEST_STEP
from lightbus.wire.announcement import Announcement
from lightbus.wire.api_info import ApiInfo

LONG = 30.0
"""Seconds: a test that waits for so long has failed."""

SHORT = 500 * MS


class FakeDialler:
    """Remembers whom it is to try; `trying` are the APIs that somebody who is being tried may have."""

    def __init__(self) -> None:
        self.dialled: list[str] = []
        self.looks = 0
        self.trying: set[str] = set()
        self.refusing: list[str] = []
        self.untried_seed = False

    def hint(self, peer: Peer) -> str:
        return "Is it there?"

    def dial_wanted(self, peers: Iterable[Peer]) -> None:
        self.dialled += [peer.instance for peer in peers]

    def dial_due(self, now: float) -> None:
        self.looks += 1

    def may_find(self, api: str) -> bool:
        return api in self.trying

    def refusals(self) -> list[str]:
        return self.refusing

    def has_untried_seed(self) -> bool:
        return self.untried_seed


class Place:
    """A lookup, and what it is made from."""

    def __init__(self, wait: float) -> None:
        self.registry = Registry()
        self.dialer = FakeDialler()
        self.wanted: set[str] = set()
        self.foreign_peers: dict[str, list[str]] = {}
        self.lookup = Lookup(
            self.registry,
            cast(Dialer, self.dialer),
            self.wanted,
            wait=wait,
            where=lambda: "zeroconf on 127.0.0.1",
            foreign_peers=lambda api: self.foreign_peers.get(api, []),
        )

    def announce(self, number: int, *apis: str) -> Announcement:
        """Have somebody announced with these APIs."""
        made = Announcement(
            bus="b", instance=f"{number:016x}", service="auth-service", process="p", host="h", api_names=apis
        )
        self.registry.announced(made, Source.DISCOVERY, time.monotonic())
        return made

    def join(self, number: int, *apis: str, procedures: tuple[str, ...] = ("call",)) -> None:
        """Have a peer with these APIs answer; without procedures it only publishes their events."""
        infos = tuple(ApiInfo(name=api, procedures=procedures, events=("seen",)) for api in apis)
        made = replace(self.announce(number, *apis), apis=infos, api_names=None)
        self.registry.answered(made, time.monotonic(), endpoint=f"ipc://{number}", event_endpoint="")
        self.lookup.wake()


def run(test: Callable[[Place], Awaitable[None]], *, wait: float = LONG) -> None:
    """Run a test on a loop, in less time than anything here may be waited for."""

    async def main() -> None:
        await asyncio.wait_for(test(Place(wait)), LONG / 3)

    asyncio.run(main())


async def waiting(coroutine: Any) -> asyncio.Task[Any]:
    """Have a look-up begin to wait."""
    task: asyncio.Task[Any] = asyncio.ensure_future(coroutine)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    return task


# --- one name ---------------------------------------------------------------------------------------


def test_a_name_that_is_there() -> None:
    """It is found without waiting, and from now on wanted."""

    async def test(place: Place) -> None:
        place.join(1, "auth")
        await place.lookup.resolve("auth", Deadline.after(LONG))
        assert place.wanted == {"auth"}

    run(test)


def test_a_name_that_comes() -> None:
    """Whoever waits goes on as soon as a peer with it answers, and not for another one."""

    async def test(place: Place) -> None:
        task = await waiting(place.lookup.resolve("auth", Deadline.after(LONG)))
        place.join(1, "shop")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()
        place.join(2, "auth")
        await task

    run(test)


def test_each_waiter_is_woken_for_its_own_api() -> None:
    """All of them are woken, each for its own name; one that was cancelled is in nobody's way."""

    async def test(place: Place) -> None:
        tasks = [await waiting(place.lookup.resolve(name, Deadline.after(LONG))) for name in ("auth", "auth", "shop")]
        tasks[0].cancel()
        place.join(1, "auth")
        await tasks[1]
        place.join(2, "shop")
        await tasks[2]
        assert tasks[0].cancelled()

    run(test)


def test_a_name_that_does_not_come() -> None:
    """It is given up once discovery has had its time; the error says how was looked, and for what else."""

    async def test(place: Place) -> None:
        place.join(1, "auth")
        with pytest.raises(UnknownApi, match=r"'auht'.*zeroconf on 127\.0\.0\.1.*[Dd]id you mean 'auth'"):
            await place.lookup.resolve("auht", Deadline.after(LONG))

    run(test, wait=20 * MS)


def test_names_that_nobody_has_are_not_looked_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is asked for any name remembers the latest of those that nobody has, and all others."""
    monkeypatch.setattr(module, "MAX_UNKNOWN", 3)

    async def test(place: Place) -> None:
        for name in ("a", "b", "c", "d", "e"):
            with pytest.raises(UnknownApi):
                await place.lookup.resolve(name, Deadline.after(0.01))
        assert place.wanted == {"c", "d", "e"}

    run(test)


def test_everybody_who_has_a_name() -> None:
    """Whoever wants all of them waits until discovery has had its time, and no longer; where there is none it fails."""

    async def test(place: Place) -> None:
        place.join(1, "auth")
        task = await waiting(place.lookup.resolve_all("auth", Deadline.after(LONG)))
        place.join(2, "auth")
        place.announce(3, "auth")
        await task
        task = asyncio.ensure_future(place.lookup.resolve_all("auth", Deadline.after(50 * MS)))
        await asyncio.sleep(0)
        assert not task.done()  # the third one is being tried
        await task
        with pytest.raises(UnknownApi):
            await place.lookup.resolve_all("nothing", Deadline.after(LONG))

    async def soon(place: Place) -> None:
        place.join(1, "auth")
        await asyncio.sleep(60 * MS)
        task = asyncio.ensure_future(place.lookup.resolve_all("auth", Deadline.after(LONG)))
        await asyncio.sleep(0)
        assert task.done()

    run(test, wait=50 * MS)
    run(soon, wait=50 * MS)


def test_later_nobody_waits() -> None:
    """Discovery's time begins with the node: afterwards an unknown name fails at once."""

    async def test(place: Place) -> None:
        with pytest.raises(UnknownApi):
            await place.lookup.resolve("nothing", Deadline.after(LONG))
        task = asyncio.ensure_future(place.lookup.resolve("nothing", Deadline.after(LONG)))
        await asyncio.sleep(0)
        assert task.done()
        assert isinstance(task.exception(), UnknownApi)

    run(test, wait=1 * MS)


def test_in_a_crowd_it_is_looked_for_longer() -> None:
    """Where many are announced and none answers, that of a real worker may come late; few keep nobody waiting."""

    async def test(place: Place) -> None:
        for number in range(CROWD):
            place.announce(number, "auth")
            place.registry.silent(f"{number:016x}", time.monotonic(), "does not answer")
        with pytest.raises(PeerUnreachable):
            await place.lookup.resolve("auth", Deadline.after(LONG))
        place.announce(CROWD, "shop")
        place.registry.silent(f"{CROWD:016x}", time.monotonic(), "does not answer")
        assert place.lookup._remaining_wait("auth", place.lookup._clock.read(), ()) > 0
        task = await waiting(place.lookup.resolve("auth", Deadline.after(LONG)))
        place.join(CROWD + 1, "auth")
        await task

    run(test, wait=SHORT)


def test_a_name_is_looked_for_while_the_process_runs() -> None:
    """Where we did not get the processor, nobody could introduce itself: that time does not count."""

    async def test(place: Place) -> None:
        task = await waiting(place.lookup.resolve("auth", Deadline.after(LONG)))
        time.sleep(5 * LONGEST_STEP)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        place.lookup.wake()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()
        place.join(1, "auth")
        await task

    run(test, wait=4 * LONGEST_STEP)


def test_the_callers_deadline() -> None:
    """Nobody waits beyond it, whatever there may be to come."""

    async def test(place: Place) -> None:
        with pytest.raises(UnknownApi):
            await place.lookup.resolve("auth", Deadline.after(20 * MS))

    run(test)


def test_somebody_who_does_not_answer() -> None:
    """Who is announced with the name is tried again, quarantined or not, and is named in the error."""

    async def test(place: Place) -> None:
        place.announce(1, "auth")
        place.registry.silent(f"{1:016x}", time.monotonic(), "does not answer")
        place.announce(2, "shop")
        with pytest.raises(PeerUnreachable, match="auth-service 0000"):
            await place.lookup.resolve("auth", Deadline.after(LONG))
        assert place.dialer.dialled == [f"{1:016x}"]
        assert place.dialer.looks == 1

    run(test, wait=0.0)


def test_an_attempt_on_its_way() -> None:
    """While somebody is tried who may have the name it is waited for, and no longer."""

    async def test(place: Place) -> None:
        place.dialer.trying.add("auth")
        task = await waiting(place.lookup.resolve("auth", Deadline.after(LONG)))
        place.dialer.trying.clear()
        place.lookup.wake()
        with pytest.raises(UnknownApi):
            await asyncio.wait_for(task, HELLO_TIMEOUT * 0.9)

    run(test, wait=0.0)


def test_an_attempt_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts that follow each other for ever are not waited for longer than one of them takes."""
    monkeypatch.setattr(module, "HELLO_TIMEOUT", 20 * MS)

    async def test(place: Place) -> None:
        place.dialer.trying.add("auth")
        with pytest.raises(UnknownApi):
            await place.lookup.resolve("auth", Deadline.after(LONG))

    run(test, wait=0.0)


@pytest.mark.parametrize("how", ["lost", "drains"])
def test_a_peer_that_restarts(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the last peer with the name has just gone or is leaving, its successor is worth waiting for."""

    class LaterClock:
        @staticmethod
        def monotonic() -> float:
            return time.monotonic() + 10 * LONG

    async def test(place: Place) -> None:
        monkeypatch.setattr(module, "time", LaterClock)
        monkeypatch.setattr(place.lookup, "_started_at", -10 * LONG)  # discovery's own time is long over
        place.join(1, "auth")
        if how == "lost":
            place.registry.lost(f"{1:016x}", LaterClock.monotonic(), "went away")
        else:
            place.registry.drains(f"{1:016x}", LaterClock.monotonic())
        task = await waiting(place.lookup.resolve("auth", Deadline.after(LONG)))
        place.join(2, "auth")
        await task

    run(test)


def test_who_only_publishes_does_not_serve_a_call() -> None:
    """A call waits for its worker to return, though another peer publishes the API's events; an event does not."""

    async def test(place: Place) -> None:
        place.join(1, "auth")
        place.registry.lost(f"{1:016x}", time.monotonic(), "went away")
        place.join(2, "auth", procedures=())
        await place.lookup.resolve("auth", Deadline.after(LONG))
        task = await waiting(place.lookup.resolve("auth", Deadline.after(LONG), to_call=True))
        place.join(1, "auth")
        await task

    run(test)


def test_nobody_who_serves_a_call_is_expected() -> None:
    """Then whoever publishes the API's events is enough: it says why it does not serve the call."""

    async def test(place: Place) -> None:
        place.join(1, "auth", procedures=())
        task = asyncio.ensure_future(place.lookup.resolve("auth", Deadline.after(LONG), to_call=True))
        await asyncio.sleep(0)
        assert task.done()
        assert task.exception() is None

    run(test, wait=0.0)


def test_a_peer_that_does_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has been gone for long is not waited for."""
    monkeypatch.setattr(module, "RETURN_TIME", 0.0)

    async def test(place: Place) -> None:
        place.join(1, "auth")
        place.registry.lost(f"{1:016x}", time.monotonic(), "went away")
        task = asyncio.ensure_future(place.lookup.resolve("auth", Deadline.after(LONG)))
        await asyncio.sleep(0)
        assert task.done()
        assert isinstance(task.exception(), PeerUnreachable)

    run(test, wait=0.0)


# --- several names ----------------------------------------------------------------------------------


def test_all_names_come() -> None:
    """It returns when the last of them is there, and nothing is missing."""

    async def test(place: Place) -> None:
        place.join(1, "auth")
        task = await waiting(place.lookup.wait_for(["auth", "shop"], Deadline.after(LONG)))
        place.join(2, "shop")
        assert await task == []
        assert place.wanted == {"auth", "shop"}

    run(test, wait=0.0)


def test_some_names_are_missing() -> None:
    """They are waited for until the deadline, however hopeless, and returned."""

    async def test(place: Place) -> None:
        place.join(1, "auth")
        begun = time.monotonic()
        assert await place.lookup.wait_for(["auth", "shop", "mail"], Deadline.after(20 * MS)) == ["shop", "mail"]
        assert time.monotonic() - begun >= 20 * MS

    run(test, wait=0.0)


# --- the end ----------------------------------------------------------------------------------------


def test_waiters_move_to_the_next_node_on_stop() -> None:
    """Whoever waits is sent to the next node, and so is whoever comes later and would have to wait."""

    async def test(place: Place) -> None:
        place.join(1, "auth")
        one = await waiting(place.lookup.resolve("shop", Deadline.after(LONG)))
        other = await waiting(place.lookup.wait_for(["shop"], Deadline.after(LONG)))
        place.lookup.stop()
        for task in (one, other):
            with pytest.raises(NodeStopped):
                await task
        with pytest.raises(NodeStopped):
            await place.lookup.resolve("shop", Deadline.after(LONG))
        await place.lookup.resolve("auth", Deadline.after(LONG))

    run(test)


# --- who does not let us in -------------------------------------------------------------------------


def test_a_fixed_peer_refuses_us() -> None:
    """Where nobody else has the name, a fixed peer that does not let us in is the reason."""

    async def test(place: Place) -> None:
        place.dialer.refusing.append("the fixed peer x has another key")
        with pytest.raises(PeerRefused, match="But the fixed peer x has another key"):
            await place.lookup.resolve("auth", Deadline.after(LONG))

    run(test, wait=0.0)


def test_a_peer_of_another_bus_has_it() -> None:
    """Who has the name for holders of another key is named, and only for that name."""

    async def test(place: Place) -> None:
        place.foreign_peers["auth"] = ["y offers it to holders of another key"]
        with pytest.raises(PeerRefused, match="But y offers it"):
            await place.lookup.resolve("auth", Deadline.after(LONG))
        with pytest.raises(UnknownApi):
            await place.lookup.resolve("shop", Deadline.after(LONG))

    run(test, wait=0.0)


# --- everybody --------------------------------------------------------------------------------------


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a look around be over soon."""
    monkeypatch.setattr(module, "QUIET", 20 * MS)
    monkeypatch.setattr(module, "LOOK_EVERY", 2 * MS)


@pytest.mark.usefixtures("quickly")
def test_everybody_is_looked_for() -> None:
    """All are wanted from now on; it ends when who was heard of has answered, and nothing new comes."""

    async def test(place: Place) -> None:
        place.announce(1, "shop")
        task = await waiting(place.lookup.discover_all(Deadline.after(LONG)))
        assert place.wanted == {EVERYTHING}
        await asyncio.sleep(60 * MS)
        assert not task.done()  # one has not answered
        place.join(1, "shop")
        await task

    run(test)


@pytest.mark.usefixtures("quickly")
def test_who_does_not_answer_does_not_hold_it_up() -> None:
    """An attempt that failed is an end, too; a fixed peer that is being tried is waited for."""

    async def test(place: Place) -> None:
        made = place.announce(1, "shop")
        place.registry.silent(made.instance, time.monotonic(), "does not answer")
        place.dialer.untried_seed = True
        task = await waiting(place.lookup.discover_all(Deadline.after(LONG)))
        await asyncio.sleep(60 * MS)
        assert not task.done()
        place.dialer.untried_seed = False
        await task

    run(test)


def test_nobody_to_be_found() -> None:
    """Where nobody is heard of, it takes until the deadline; a node that stops sends it to the one that follows."""

    async def test(place: Place) -> None:
        before = time.monotonic()
        await place.lookup.discover_all(Deadline.after(30 * MS))
        assert time.monotonic() - before >= 30 * MS
        task = await waiting(place.lookup.discover_all(Deadline.after(LONG)))
        place.lookup.stop()
        with pytest.raises(NodeStopped):
            await task

    run(test)
