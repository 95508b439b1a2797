"""Waiting until an API is advertised: as long as that can still happen, and no longer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from helpers import MS, wait_until_async
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
    """Records the peers it should dial; `trying` are the APIs of peers that are being dialed."""

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

    @property
    def seeds(self) -> SimpleNamespace:
        return SimpleNamespace(refusals=lambda: self.refusing)

    def has_untried_seed(self) -> bool:
        return self.untried_seed


class Place:
    """A lookup and its collaborators."""

    def __init__(self, wait: float) -> None:
        self.registry = Registry()
        self.dialer = FakeDialler()
        self.wanted: set[str] = set()
        self.foreign_peers: dict[str, list[str]] = {}
        self.looks = 0
        self.lookup = Lookup(
            self.registry,
            cast(Dialer, self.dialer),
            self.wanted,
            wait=wait,
            where=lambda: "zeroconf on 127.0.0.1",
            foreign_peers=lambda api: self.foreign_peers.get(api, []),
            look=self.look,
        )

    def look(self) -> None:
        """Count how often discovery is to look."""
        self.looks += 1

    def announce(self, number: int, *apis: str) -> Announcement:
        """Let a peer be announced with these APIs."""
        made = Announcement(
            bus="b", instance=f"{number:016x}", service="auth-service", process="p", host="h", api_names=apis
        )
        self.registry.announced(made, Source.DISCOVERY, time.monotonic())
        return made

    def join(self, number: int, *apis: str, procedures: tuple[str, ...] = ("call",)) -> None:
        """Let a peer with these APIs answer; without procedures it only publishes their events."""
        infos = tuple(ApiInfo(name=api, procedures=procedures, events=("seen",)) for api in apis)
        made = replace(self.announce(number, *apis), apis=infos, api_names=None)
        self.registry.answered(made, time.monotonic(), endpoint=f"ipc://{number}", event_endpoint="")
        self.lookup.wake()


def run(test: Callable[[Place], Awaitable[None]], *, wait: float = LONG) -> None:
    """Run a test on a loop, in less time than any wait here may take."""

    async def main() -> None:
        await asyncio.wait_for(test(Place(wait)), LONG / 3)

    asyncio.run(main())


async def waiting(coroutine: Any) -> asyncio.Task[Any]:
    """Start a lookup, and return once it waits."""
    task: asyncio.Task[Any] = asyncio.ensure_future(coroutine)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    return task


# --- one name ---------------------------------------------------------------------------------------


def test_a_name_that_is_known() -> None:
    """It is found without waiting, and wanted from now on."""

    async def test(place: Place) -> None:
        place.join(1, "auth")
        await place.lookup.resolve("auth", Deadline.after(LONG))
        assert place.wanted == {"auth"}

    run(test)


def test_a_name_that_is_advertised_later() -> None:
    """A lookup ends as soon as a peer with the name answers, and not for another name."""

    async def test(place: Place) -> None:
        task = await waiting(place.lookup.resolve("auth", Deadline.after(LONG)))
        place.join(1, "shop")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()
        place.join(2, "auth")
        await task

    run(test)


@pytest.mark.parametrize("how", ["resolve", "wait_for"])
def test_discovery_looks_again_while_a_name_is_waited_for(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """What it was to hear of may have been lost; of a name that is there it need not look."""
    monkeypatch.setattr(module, "LOOK_AGAIN_EVERY", 10 * MS)

    async def test(place: Place) -> None:
        place.join(1, "shop")
        deadline = Deadline.after(LONG)
        await place.lookup.resolve("shop", deadline)
        assert place.looks == 0
        wanted = (
            place.lookup.resolve("auth", deadline) if how == "resolve" else place.lookup.wait_for(["auth"], deadline)
        )
        task = await waiting(wanted)
        await wait_until_async(lambda: place.looks >= 3)
        place.join(2, "auth")
        await task

    run(test, wait=LONG)


def test_each_waiter_is_woken_for_its_own_api() -> None:
    """All of them are woken, each for its own name; a cancelled one does not disturb the others."""

    async def test(place: Place) -> None:
        tasks = [await waiting(place.lookup.resolve(name, Deadline.after(LONG))) for name in ("auth", "auth", "shop")]
        tasks[0].cancel()
        place.join(1, "auth")
        await tasks[1]
        place.join(2, "shop")
        await tasks[2]
        assert tasks[0].cancelled()

    run(test)


def test_a_name_that_is_never_advertised() -> None:
    """It is given up after the time for discovery; the error names the discovery and the failed attempts."""

    async def test(place: Place) -> None:
        place.join(1, "auth")
        with pytest.raises(UnknownApi, match=r"'auht'.*zeroconf on 127\.0\.0\.1.*[Dd]id you mean 'auth'"):
            await place.lookup.resolve("auht", Deadline.after(LONG))

    run(test, wait=20 * MS)


def test_no_peer_is_found_for_lack_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """That may be the reason, and the error says so; also that of a peer that does not answer."""
    monkeypatch.setattr(module, "has_free_descriptors", lambda: False)

    async def test(place: Place) -> None:
        for number, error in enumerate((UnknownApi, PeerUnreachable)):
            with pytest.raises(error, match=r"127.0.0.1, with all \d+ open files in use that this process may have"):
                await place.lookup.resolve("auth", Deadline.after(5.0))
            place.announce(number, "auth")
            place.registry.silent(f"{number:016x}", time.monotonic(), "does not answer")

    run(test, wait=0.05)


def test_unknown_names_are_not_wanted_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that looks up any names remembers the latest unknown ones, and all known ones."""
    monkeypatch.setattr(module, "MAX_UNKNOWN", 3)

    async def test(place: Place) -> None:
        for name in ("a", "b", "c", "d", "e"):
            with pytest.raises(UnknownApi):
                await place.lookup.resolve(name, Deadline.after(0.01))
        assert place.wanted == {"c", "d", "e"}

    run(test)


def test_all_peers_with_a_name() -> None:
    """A lookup of all peers waits for the time of discovery, and no longer; without any peer it fails."""

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


def test_no_wait_after_the_time_for_discovery() -> None:
    """That time begins with the node: afterwards an unknown name fails at once."""

    async def test(place: Place) -> None:
        with pytest.raises(UnknownApi):
            await place.lookup.resolve("nothing", Deadline.after(LONG))
        task = asyncio.ensure_future(place.lookup.resolve("nothing", Deadline.after(LONG)))
        await asyncio.sleep(0)
        assert task.done()
        assert isinstance(task.exception(), UnknownApi)

    run(test, wait=1 * MS)


def test_lookups_wait_longer_for_many_peers() -> None:
    """If many peers are announced and none answers, a real worker may answer late; a few peers cause no extra wait."""

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
    """While we do not get the processor, no peer could introduce itself: that time does not count."""

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
    """No lookup exceeds it, whatever is still expected."""

    async def test(place: Place) -> None:
        with pytest.raises(UnknownApi):
            await place.lookup.resolve("auth", Deadline.after(20 * MS))

    run(test)


def test_a_peer_that_does_not_answer() -> None:
    """A peer that is announced with the name is dialed again, quarantined or not, and is named in the error."""

    async def test(place: Place) -> None:
        place.announce(1, "auth")
        place.registry.silent(f"{1:016x}", time.monotonic(), "does not answer")
        place.announce(2, "shop")
        with pytest.raises(PeerUnreachable, match="auth-service 0000"):
            await place.lookup.resolve("auth", Deadline.after(LONG))
        assert place.dialer.dialled == [f"{1:016x}"]
        assert place.dialer.looks == 1

    run(test, wait=0.0)


def test_an_attempt_in_progress() -> None:
    """While a peer that may have the name is being dialed, the lookup waits, and no longer."""

    async def test(place: Place) -> None:
        place.dialer.trying.add("auth")
        task = await waiting(place.lookup.resolve("auth", Deadline.after(LONG)))
        place.dialer.trying.clear()
        place.lookup.wake()
        with pytest.raises(UnknownApi):
            await asyncio.wait_for(task, HELLO_TIMEOUT * 0.9)

    run(test, wait=0.0)


def test_an_attempt_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless series of attempts is not waited for longer than one attempt takes."""
    monkeypatch.setattr(module, "HELLO_TIMEOUT", 20 * MS)

    async def test(place: Place) -> None:
        place.dialer.trying.add("auth")
        with pytest.raises(UnknownApi):
            await place.lookup.resolve("auth", Deadline.after(LONG))

    run(test, wait=0.0)


@pytest.mark.parametrize("how", ["lost", "drains"])
def test_a_peer_that_restarts(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the last peer with the name has just gone or is leaving, its successor is waited for."""

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


def test_a_peer_that_only_publishes_does_not_serve_a_call() -> None:
    """A call waits for its worker to return although another peer publishes the API's events; an event does not."""

    async def test(place: Place) -> None:
        place.join(1, "auth")
        place.registry.lost(f"{1:016x}", time.monotonic(), "went away")
        place.join(2, "auth", procedures=())
        await place.lookup.resolve("auth", Deadline.after(LONG))
        task = await waiting(place.lookup.resolve("auth", Deadline.after(LONG), to_call=True))
        place.join(1, "auth")
        await task

    run(test)


def test_a_publisher_is_enough_if_no_server_is_expected() -> None:
    """A peer that only publishes the API's events is then asked: its error says why it does not serve the call."""

    async def test(place: Place) -> None:
        place.join(1, "auth", procedures=())
        task = asyncio.ensure_future(place.lookup.resolve("auth", Deadline.after(LONG), to_call=True))
        await asyncio.sleep(0)
        assert task.done()
        assert task.exception() is None

    run(test, wait=0.0)


def test_a_peer_that_does_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that has been gone for long is not waited for."""
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


def test_all_names_are_found() -> None:
    """The lookup returns when the last of them is found, and none is missing."""

    async def test(place: Place) -> None:
        place.join(1, "auth")
        task = await waiting(place.lookup.wait_for(["auth", "shop"], Deadline.after(LONG)))
        place.join(2, "shop")
        assert await task == []
        assert place.wanted == {"auth", "shop"}

    run(test, wait=0.0)


def test_some_names_are_missing() -> None:
    """They are waited for until the deadline, however unlikely, and returned."""

    async def test(place: Place) -> None:
        place.join(1, "auth")
        begun = time.monotonic()
        assert await place.lookup.wait_for(["auth", "shop", "mail"], Deadline.after(20 * MS)) == ["shop", "mail"]
        assert time.monotonic() - begun >= 20 * MS

    run(test, wait=0.0)


# --- the end ----------------------------------------------------------------------------------------


def test_waiters_move_to_the_next_node_on_stop() -> None:
    """A waiting lookup is sent to the next node, and so is a later one that would have to wait."""

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
    """If no other peer has the name, the error is that a fixed peer refuses us."""

    async def test(place: Place) -> None:
        place.dialer.refusing.append("the fixed peer x has another key")
        with pytest.raises(PeerRefused, match="But the fixed peer x has another key"):
            await place.lookup.resolve("auth", Deadline.after(LONG))

    run(test, wait=0.0)


def test_a_peer_of_another_bus_has_it() -> None:
    """A peer with another key that has the name is mentioned in the error, and only for that name."""

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
    """Shorten the time of a full discovery."""
    monkeypatch.setattr(module, "QUIET", 20 * MS)
    monkeypatch.setattr(module, "LOOK_EVERY", 2 * MS)


async def looked(place: Place) -> None:
    """Wait until a search has looked often enough to find that there is nothing new."""
    enough = place.dialer.looks + 2 * int(module.QUIET / module.LOOK_EVERY)
    await wait_until_async(lambda: place.dialer.looks > enough)


@pytest.mark.usefixtures("quickly")
def test_all_peers_are_discovered() -> None:
    """All peers are wanted from now on; it ends when the announced ones have answered, and no new ones appear."""

    async def test(place: Place) -> None:
        place.announce(1, "shop")
        task = await waiting(place.lookup.discover_all(Deadline.after(LONG)))
        assert place.wanted == {EVERYTHING}
        await looked(place)
        assert not task.done()  # one has not answered
        place.join(1, "shop")
        await task

    run(test)


@pytest.mark.usefixtures("quickly")
def test_a_peer_that_does_not_answer_does_not_delay_it() -> None:
    """A failed attempt counts as an end, too; a fixed peer that is being dialed is waited for."""

    async def test(place: Place) -> None:
        made = place.announce(1, "shop")
        place.registry.silent(made.instance, time.monotonic(), "does not answer")
        place.dialer.untried_seed = True
        task = await waiting(place.lookup.discover_all(Deadline.after(LONG)))
        await looked(place)
        assert not task.done()
        place.dialer.untried_seed = False
        await task

    run(test)


def test_no_peer_is_found() -> None:
    """If no peer is announced, it takes until the deadline; a node that stops sends the caller to its successor."""

    async def test(place: Place) -> None:
        before = time.monotonic()
        await place.lookup.discover_all(Deadline.after(30 * MS))
        assert time.monotonic() - before >= 30 * MS
        task = await waiting(place.lookup.discover_all(Deadline.after(LONG)))
        place.lookup.stop()
        with pytest.raises(NodeStopped):
            await task

    run(test)
