"""The notifications about peers, and their order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from helpers import wait_until_async
from lightbus.core.registry import Fact, PeerLeft, Registry, Snapshot, Source
from lightbus.membership.peer_changes import PeerChanges
from lightbus.wire.announcement import Announcement
from lightbus.wire.api_info import ApiInfo

OWN, OTHER, THIRD = ("0" * 16, "a" * 16, "c" * 16)


class Place:
    """A registry whose changes are applied, and the recorded notifications."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.snapshot = Snapshot()
        self.registry = Registry(own=OWN)
        self.changes = PeerChanges(self.registry, on_snapshot=self._snapshot, wake=lambda: self.told.append("woken"))
        self.changes.observe(self._observed)

    def answers(self, instance: str) -> None:
        """Let a peer answer HELLO."""
        said = Announcement(
            bus="b", instance=instance, service="shop", process="p", host="h", apis=(ApiInfo(name="shop"),)
        )
        self.changes.apply(
            self.registry.answered(said, 0.0, endpoint=f"{instance}.rpc", event_endpoint=f"{instance}.pub")
        )

    def hears_of(self, instance: str) -> None:
        """Let another process announce a peer."""
        said = Announcement(bus="b", instance=instance, service="shop", process="p", host="h", api_names=("shop",))
        self.changes.apply(self.registry.announced(said, Source.DISCOVERY, 0.0))

    def _snapshot(self, snapshot: Snapshot, left: Sequence[PeerLeft]) -> None:
        self.snapshot = snapshot
        self.told.append(f"snapshot, {len(left)} left")

    def _observed(self, facts: Sequence[Fact]) -> None:
        self.told += [f"{type(fact).__name__} {fact.peer.instance[0]}" for fact in facts]


def run(scenario: Callable[[Place], Awaitable[None]]) -> None:
    """Run a scenario on its own loop."""

    async def main() -> None:
        place = Place()
        try:
            await scenario(place)
        finally:
            place.changes.stop()

    asyncio.run(main())


def test_the_snapshot_is_updated_first() -> None:
    """An observer that is notified of a peer sees the change in the snapshot; waiting lookups are woken last."""

    async def scenario(place: Place) -> None:
        place.answers(OTHER)
        assert place.told == ["snapshot, 0 left", "PeerJoined a", "woken"]
        assert [*place.snapshot.peers] == [OTHER]
        place.told.clear()
        place.changes.apply(place.registry.left(OTHER, "has left"))
        assert place.told == ["snapshot, 1 left", "PeerLeft a", "woken"]

    run(scenario)


def test_announcements_share_a_snapshot() -> None:
    """Changes that affect no callable peer are published together after a moment, and to no observer."""

    async def scenario(place: Place) -> None:
        place.hears_of(OTHER)
        place.hears_of(THIRD)
        assert place.told == []
        await wait_until_async(lambda: place.told)
        assert place.told == ["snapshot, 0 left"]

    run(scenario)


def test_known_announcements_make_no_snapshot() -> None:
    """Each of a hundred peers announces itself every few seconds: for a peer that is up, that changes nothing."""

    async def scenario(place: Place) -> None:
        place.answers(OTHER)
        place.told.clear()
        place.hears_of(OTHER)
        assert place.changes._refresh_timer is None
        assert place.told == []

    run(scenario)


def test_heartbeat_makes_no_snapshot() -> None:
    """A peer that answers HELLO again with the same announcement changes nothing that channels use."""

    async def scenario(place: Place) -> None:
        place.answers(OTHER)
        told = [*place.told]
        said = place.registry.peers[OTHER].announcement
        place.changes.apply(place.registry.answered(said, 5.0, endpoint=f"{OTHER}.rpc", event_endpoint=f"{OTHER}.pub"))
        assert place.registry.heard_at[OTHER] == 5.0
        assert place.changes._refresh_timer is None
        assert place.told == told

    run(scenario)


def test_the_digest_identifies_the_verified_peers() -> None:
    """Nodes that know the same peers have the same digest, in any order; unverified announcements do not count."""

    async def scenario(place: Place) -> None:
        other = Place()
        assert place.changes.digest == ""
        for instance in (OTHER, THIRD):
            place.answers(instance)
        for instance in (THIRD, OTHER):
            other.answers(instance)
        assert place.changes.digest == other.changes.digest != ""
        before = place.changes.digest
        place.told.clear()
        place.hears_of("d" * 16)
        await wait_until_async(lambda: place.told)
        assert place.changes.digest == before
        other.changes.stop()

    run(scenario)


def test_no_notification_after_stop() -> None:
    """After the stop nothing is reported, including changes that were delayed for a moment."""

    async def scenario(place: Place) -> None:
        place.hears_of(OTHER)
        delayed = place.changes._refresh_timer
        assert delayed is not None
        place.changes.stop()
        place.answers(THIRD)
        assert delayed.cancelled()
        assert place.changes._refresh_timer is delayed
        assert place.told == []

    run(scenario)
