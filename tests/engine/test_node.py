"""Nodes that find each other in memory and communicate over sockets: which peers are up, and who is notified."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers import MS, Stopwatch, scaled, wait_until_async
from helpers.handlers import no_handlers
from helpers.surroundings import Surroundings
from helpers.waiting import LEAST
from lightbus.adapters.host.places import Places
from lightbus.adapters.memory.discovery import MemoryDiscovery, MemoryHub
from lightbus.adapters.zmq import local_addresses
from lightbus.adapters.zmq.addressing import TcpAddressing
from lightbus.adapters.zmq.security import HostSecurity
from lightbus.adapters.zmq.transport import ZmqTransport
from lightbus.core.registry import FIRST_RETRY, Peer, PeerLeft, Snapshot
from lightbus.deadline import Deadline
from lightbus.engine import node as module
from lightbus.engine.node import Node
from lightbus.engine.presence import Presence
from lightbus.exceptions import PeerUnreachable, UnknownApi
from lightbus.membership.context import Identity
from lightbus.membership.dialer import EXCHANGE_PARTNERS, FOR_ASKED, MAX_DIALS
from lightbus.membership.lookup import NodeStopped
from lightbus.ports.transport import Endpoints
from lightbus.wire.announcement import Announcement, new_instance_id
from lightbus.wire.api_info import ApiInfo

AT_ONCE = 500 * MS


class User:
    """Receives the notifications of a node, as the engine does."""

    def __init__(self) -> None:
        self.wanted: set[str] = set()
        self.snapshot = Snapshot()
        self.left: list[tuple[str, str]] = []
        self.refreshed = 0
        self.pending = asyncio.Event()
        self.pending.set()

    def peers_changed(self, node: Node, snapshot: Snapshot, left: Sequence[PeerLeft]) -> None:
        self.snapshot = snapshot
        self.refreshed += 1
        self.left += [(fact.peer.instance, fact.reason) for fact in left]

    async def wait_until_no_new_requests(self, instance: str) -> None:
        await self.pending.wait()

    async def wait_until_answered(self, instance: str) -> None:
        await self.pending.wait()


def presence_of(node: Node) -> Presence:
    """Return the presence of a worker's node."""
    assert node.presence is not None
    return node.presence


class Place:
    """Several nodes in one event loop, each with its own transport, as in separate processes."""

    def __init__(self, directory: Path) -> None:
        self.hub = MemoryHub()
        self.directory = directory
        self.nodes: list[Node] = []
        self._transports: list[ZmqTransport] = []

    def node(
        self,
        *wanted: str,
        hub: MemoryHub | None = None,
        addressing: Callable[[], TcpAddressing] | None = None,
        **options: Any,
    ) -> Node:
        """Make a node of a process that uses some APIs."""
        user = User()
        user.wanted.update(wanted)
        security = HostSecurity(places=Places.only(self.directory))
        self._transports.append(ZmqTransport(security, addressing, heartbeat_interval=0.1, heartbeat_timeout=LEAST))
        options = {"wait": 200 * MS, **options}
        made = Node(
            user,
            Identity(bus="b", service="shop", process="p"),
            self._transports[-1],
            MemoryDiscovery("b", self.hub if hub is None else hub),
            **options,
        )
        self.nodes.append(made)
        return made

    async def client(self, *wanted: str, **options: Any) -> Node:
        """Start a node that only calls."""
        made = self.node(*wanted, **options)
        await made.start()
        return made

    async def worker(self, *apis: str, announced: bool = True, **options: Any) -> Node:
        """Start a node that serves APIs."""
        made = await self.client(**options)
        made.bind(lambda endpoints: self._announcement(made, endpoints, apis), no_handlers)
        if announced:
            await presence_of(made).announce()
        return made

    def crash(self, node: Node) -> None:
        """End a node as `kill -9` does: its connections end without a goodbye."""
        self.nodes.remove(node)
        node.retire()
        presence_of(node).binding.close()
        for link in node.peers.links.values():
            link.close()

    def _announcement(self, node: Node, endpoints: Endpoints, apis: Sequence[str]) -> Announcement:
        me = node.identity
        infos = tuple(ApiInfo(name=name, procedures=("who",), events=("happened",)) for name in apis)
        return Announcement(
            bus=me.bus, instance=me.instance, service=me.service, process=me.process, host=me.host, apis=infos
        )

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        """Run a scenario, and stop the nodes that it started."""

        async def main() -> None:
            try:
                await scenario()
            finally:
                await asyncio.gather(*(node.stop() for node in self.nodes))

        try:
            asyncio.run(main())
        finally:
            for transport in self._transports:
                transport.close()


@pytest.fixture
def place(surroundings: Surroundings) -> Place:
    """Return a place for nodes."""
    return Place(surroundings.runtime)


def user_of(node: Node) -> User:
    """Return the user of a node."""
    assert isinstance(node.user, User)
    return node.user


def offered(node: Node, api: str) -> list[str]:
    """Return the instances that a node offers for an API."""
    return [peer.instance for peer in user_of(node).snapshot.by_api.get(api, ())]


async def knows(node: Node, api: str, *workers: Node) -> None:
    """Wait until a node offers exactly these workers for an API."""
    instances = {worker.identity.instance for worker in workers}
    await wait_until_async(lambda: set(offered(node, api)) == instances, what=f"{api} is served by {instances}")


def ghost(*apis: str, **fields: Any) -> Announcement:
    """Return the announcement of a peer that does not exist."""
    values = {"bus": "b", "instance": new_instance_id(), "service": "ghost", "process": "p", "host": "h"}
    return Announcement(**{**values, "api_names": apis, **fields})


# Finding


def test_peers_in_use_are_connected(place: Place) -> None:
    """A process is connected to the peers whose APIs it uses, and to a few others for the exchange of peers."""

    async def scenario() -> None:
        others = [await place.worker(f"other{number}") for number in range(EXCHANGE_PARTNERS + 3)]
        worker = await place.worker("auth")
        client = await place.client("auth")
        await knows(client, "auth", worker)
        assert worker.identity.instance in client.peers.links
        assert len(client.peers.links) <= EXCHANGE_PARTNERS + 1
        await client.lookup.resolve("other0", Deadline.after(5))
        await client.lookup.resolve("other5", Deadline.after(5))
        assert {others[0].identity.instance, others[5].identity.instance} <= set(client.peers.links)

    place.run(scenario)


def test_a_worker_is_its_own_peer(place: Place) -> None:
    """The APIs that this process serves itself are offered to it at once."""

    async def scenario() -> None:
        worker = await place.worker("auth", announced=False)
        assert offered(worker, "auth") == [worker.identity.instance]
        assert ("auth", "happened") in user_of(worker).snapshot.events

    place.run(scenario)


def test_nothing_is_offered_before_it_is_announced(place: Place) -> None:
    """A worker that is not ready is offered without APIs; when it is ready, it notifies all connected peers."""

    async def scenario() -> None:
        worker = await place.worker("auth", announced=False)
        seed = f"ipc://{place.directory}/{worker.identity.instance}.rpc"
        client = await place.client("auth", hub=MemoryHub(), fixed_peers=[seed])
        await wait_until_async(lambda: worker.identity.instance in client.peers.links)
        assert offered(client, "auth") == []
        await presence_of(worker).announce()
        await knows(client, "auth", worker)

    place.run(scenario)


def test_announced_apis_can_change(place: Place) -> None:
    """A worker with changed APIs notifies connected peers; those that connect later see the change, too."""

    async def scenario() -> None:
        worker = await place.worker("auth")
        client = await place.client("auth", "shop")
        await knows(client, "auth", worker)
        await presence_of(worker).advertise([ApiInfo(name="shop")])
        late = await place.client("shop")
        for node in (client, late):
            await knows(node, "shop", worker)
            await knows(node, "auth")

    place.run(scenario)


@pytest.mark.parametrize("seeds_first", [True, False])
def test_one_fixed_peer_is_enough(place: Place, seeds_first: bool) -> None:
    """Without discovery, all nodes with one fixed peer find each other, in any number and order."""

    async def scenario() -> None:
        alone = MemoryHub()
        seed = await place.worker("seed", hub=alone) if seeds_first else None
        endpoint = f"ipc://{place.directory}/seed.rpc"
        if seed is not None:
            (place.directory / "seed.rpc").symlink_to(place.directory / f"{seed.identity.instance}.rpc")
        workers = [
            await place.worker(f"api{number}", hub=MemoryHub(), fixed_peers=[endpoint])
            for number in range(EXCHANGE_PARTNERS + 3)
        ]
        if seed is None:
            seed = await place.worker("seed", hub=alone)
            (place.directory / "seed.rpc").symlink_to(place.directory / f"{seed.identity.instance}.rpc")
        client = await place.client(hub=MemoryHub(), fixed_peers=[endpoint])
        names = [f"api{number}" for number in range(len(workers))]
        assert await client.lookup.wait_for([*names, "seed"], Deadline.after(5)) == []
        assert await workers[0].lookup.wait_for(names, Deadline.after(5)) == []

    place.run(scenario)


def test_fixed_peer_that_is_ourselves(place: Place) -> None:
    """A worker that is its own fixed peer does not connect to itself."""

    async def scenario() -> None:
        endpoint = f"ipc://{place.directory}/me.rpc"
        worker = await place.worker("auth", fixed_peers=[endpoint])
        (place.directory / "me.rpc").symlink_to(place.directory / f"{worker.identity.instance}.rpc")
        await asyncio.sleep(400 * MS)
        assert worker.peers.links == {}
        assert offered(worker, "auth") == [worker.identity.instance]

    place.run(scenario)


def test_wait_for_several_names(place: Place) -> None:
    """The wait ends when all are found, or names the missing ones."""

    async def scenario() -> None:
        client = await place.client()
        waiting = asyncio.create_task(client.lookup.wait_for(["auth", "shop"], Deadline.after(5)))
        await place.worker("auth")
        await place.worker("shop")
        assert await waiting == []
        assert await client.lookup.wait_for(["auth", "nothing"], Deadline.after(50 * MS)) == ["nothing"]

    place.run(scenario)


def test_a_name_that_is_never_advertised(place: Place) -> None:
    """It is waited for once, during the time for discovery, and after that not at all."""

    async def scenario() -> None:
        await place.worker("auth")
        client = await place.client()
        for least, most in ((0, 200 * MS + AT_ONCE), (0, 100 * MS)):
            watch = Stopwatch()
            with pytest.raises(UnknownApi, match=r"'auht'; .*Did you mean 'auth'"):
                await client.lookup.resolve("auht", Deadline.after(5))
            assert watch.elapsed >= least
            assert watch.seconds < most

    place.run(scenario)


# Losing


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_loss_is_reported_at_once(place: Place, how: str) -> None:
    """A peer that says goodbye, or is gone without one, is not offered any more, at once."""

    async def scenario() -> None:
        worker, other = await place.worker("auth"), await place.worker("auth")
        client = await place.client("auth")
        await knows(client, "auth", worker, other)
        if how == "stop":
            await worker.stop()
        else:
            place.crash(worker)
        await wait_until_async(lambda: user_of(client).left, AT_ONCE)
        assert offered(client, "auth") == [other.identity.instance]
        [(instance, reason)] = user_of(client).left
        assert instance == worker.identity.instance
        assert reason in (("said goodbye", "has left") if how == "stop" else ("went away",))

    place.run(scenario)


def test_lost_connection_is_restored(place: Place) -> None:
    """A peer whose connection broke, and that still runs, is soon offered again."""

    async def scenario() -> None:
        worker = await place.worker("auth")
        client = await place.client("auth")
        await knows(client, "auth", worker)
        link = client.peers.links[worker.identity.instance]
        link._end("broke")
        assert user_of(client).left == [(worker.identity.instance, "broke")]
        await knows(client, "auth", worker)
        assert client.peers.links[worker.identity.instance] is not link

    place.run(scenario)


def test_reports_of_others_do_not_end_a_connection(place: Place) -> None:
    """A third peer's report of a loss has no effect on a peer that we are connected to."""

    async def scenario() -> None:
        worker, other = await place.worker("auth"), await place.worker("shop")
        client = await place.client("auth", "shop")
        await knows(client, "auth", worker)
        await knows(client, "shop", other)
        introductions = presence_of(other).binding.introductions
        introductions.announce_changes([], [worker.identity.instance])
        introductions.announce_changes([ghost("news")], [])
        await wait_until_async(lambda: "news" in user_of(client).snapshot.announced)
        assert offered(client, "auth") == [worker.identity.instance]

    place.run(scenario)


def test_draining_worker_is_not_offered(place: Place) -> None:
    """A draining worker gets no new requests before it ends, once all channels have seen the change."""

    async def scenario() -> None:
        worker, other = await place.worker("auth"), await place.worker("auth")
        client = await place.client("auth")
        await knows(client, "auth", worker, other)
        user_of(client).pending.clear()  # a door has something unsent
        draining = asyncio.create_task(worker.drain(30))
        await knows(client, "auth", other)
        assert user_of(client).left == []  # what it executes goes on
        assert user_of(client).snapshot.is_up(worker.identity.instance)
        assert offered(worker, "auth") == [other.identity.instance] or offered(worker, "auth") == []
        assert not draining.done()
        user_of(client).pending.set()
        await draining

    place.run(scenario)


def test_goodbye_waits_for_replies(place: Place) -> None:
    """After a goodbye no request is sent to the peer; open requests fail only when it is gone."""

    async def scenario() -> None:
        worker = await place.worker("auth")
        client = await place.client("auth")
        await knows(client, "auth", worker)
        user_of(client).pending.clear()  # a door awaits an answer
        stopping = asyncio.create_task(worker.stop())
        await knows(client, "auth")
        assert user_of(client).left == []
        assert not stopping.done()
        user_of(client).pending.set()
        await stopping
        await wait_until_async(lambda: user_of(client).left == [(worker.identity.instance, "said goodbye")])

    place.run(scenario)


# Those who are not there


def test_announced_peers_that_do_not_exist_are_dropped(place: Place) -> None:
    """A peer that does not exist is dialed, found to be missing, and dropped."""

    async def scenario() -> None:
        client = await place.client("auth")
        place.hub.publish(ghost("auth"), gone=False)
        await wait_until_async(lambda: client.registry.peers)
        with pytest.raises(PeerUnreachable):
            await client.lookup.resolve("auth", Deadline.after(5))
        await wait_until_async(lambda: not client.registry.peers)
        with pytest.raises(UnknownApi):
            await client.lookup.resolve("auth", Deadline.after(5))

    place.run(scenario)


def test_withdrawn_announcements_are_forgotten(place: Place) -> None:
    """A peer that was only announced, and then withdrawn, is forgotten."""

    async def scenario() -> None:
        others = [await place.worker(f"other{number}") for number in range(EXCHANGE_PARTNERS)]
        client = await place.client(*(f"other{number}" for number in range(EXCHANGE_PARTNERS)))
        for number, other in enumerate(others):
            await knows(client, f"other{number}", other)
        hint = ghost("unused")
        place.hub.publish(hint, gone=False)
        await wait_until_async(lambda: hint.instance in client.registry.peers)
        place.hub.publish(hint, gone=True)
        await wait_until_async(lambda: hint.instance not in client.registry.peers)

    place.run(scenario)


def test_ports_are_ignored_in_mode_host(place: Place) -> None:
    """In mode host an announcement with a port is ignored, whoever sends it."""

    async def scenario() -> None:
        client = await place.client("auth")
        place.hub.publish(ghost("auth", addresses=("127.0.0.1",), rpc_port=1, event_port=1), gone=False)
        place.hub.publish(ghost("marker"), gone=False)
        await wait_until_async(lambda: client.registry.peers)
        assert [peer.announcement.api_names for peer in client.registry.peers.values()] == [("marker",)]

    place.run(scenario)


@pytest.mark.parametrize("api", ["auth", "other"])
def test_flood_of_announcements(place: Place, monkeypatch: pytest.MonkeyPatch, api: str) -> None:
    """Thousands of announcements cost bounded memory and sockets, and keep no real peer out."""
    monkeypatch.setattr("lightbus.core.registry.MAX_PEERS", 300)

    async def scenario() -> None:
        client = await place.client("auth", wait=10)
        dials = 0

        async def flood() -> None:
            nonlocal dials
            for _ in range(scaled(5000, least=1000)):
                place.hub.publish(ghost(api), gone=False)
                dials = max(dials, len(client.peers.dialer._dials))
                await asyncio.sleep(0)

        flooding = asyncio.create_task(flood())
        await wait_until_async(lambda: client.registry.peers)
        worker = await place.worker("auth")
        watch = Stopwatch()
        await client.lookup.resolve("auth", Deadline.after(10))
        assert watch.seconds < 2
        await flooding
        await knows(client, "auth", worker)
        assert len(client.registry.peers) <= 300
        assert 0 < dials <= MAX_DIALS + FOR_ASKED

    place.run(scenario)


def test_announcements_share_a_snapshot(place: Place) -> None:
    """Many announcements that affect no callable peer are published in one snapshot."""

    async def scenario() -> None:
        client = await place.client()
        before = user_of(client).refreshed
        for _ in range(100):
            client._found(ghost("auth"))
        await wait_until_async(lambda: len(user_of(client).snapshot.announced.get("auth", ())) >= 90)
        assert user_of(client).refreshed - before < 20

    place.run(scenario)


# A node's end, and the one that follows


def test_waiting_lookups_move_to_the_next_node(place: Place) -> None:
    """A node that stops sends waiting lookups to its successor."""

    async def scenario() -> None:
        client = await place.client(wait=30.0)
        waiting = [
            asyncio.create_task(client.lookup.resolve("auth", Deadline.after(30))),
            asyncio.create_task(client.lookup.wait_for(["auth"], Deadline.after(30))),
        ]
        await asyncio.sleep(0)
        await client.stop()
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, NodeStopped)

    place.run(scenario)


def test_the_next_node_knows_the_peers(place: Place) -> None:
    """Peers that a retired node saw up are up for its successor from the start, and are then checked."""

    async def scenario() -> None:
        living, dying = await place.worker("auth"), await place.worker("shop")
        first = await place.client("auth", "shop")
        await knows(first, "auth", living)
        await knows(first, "shop", dying)
        known = first.retire()
        await first.stop()
        place.crash(dying)
        second = place.node("auth", "shop", hub=MemoryHub(), known=known)
        assert sorted(peer.instance for peer in second.registry.snapshot().peers.values()) == sorted(
            node.identity.instance for node in (living, dying)
        )
        await second.start()
        await wait_until_async(lambda: user_of(second).left)
        assert [instance for instance, _ in user_of(second).left] == [dying.identity.instance]
        assert offered(second, "auth") == [living.identity.instance]
        await wait_until_async(lambda: living.identity.instance in second.peers.links)

    place.run(scenario)


def test_retired_node_reports_nothing(place: Place) -> None:
    """A retired node reports nothing any more; its own presence ends before."""

    async def scenario() -> None:
        other = await place.worker("shop")
        worker = await place.worker("auth")
        user_of(worker).wanted.add("shop")
        await worker.lookup.resolve("shop", Deadline.after(5))
        known = worker.retire()
        assert [peer.instance for peer in known] == [other.identity.instance]
        assert user_of(worker).left == [(worker.identity.instance, "has stopped")]
        refreshed = user_of(worker).refreshed
        place.hub.publish(ghost("news"), gone=False)
        await other.stop()
        await asyncio.sleep(100 * MS)
        assert user_of(worker).refreshed == refreshed
        assert worker.retire() == []

    place.run(scenario)


@pytest.mark.parametrize("fails", ["withdraw", "stop"])
def test_discovery_that_fails_at_the_end_keeps_no_socket_open(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails: str
) -> None:
    """The error is logged, and the worker leaves as usual: its peers are informed at once."""

    async def scenario() -> None:
        worker, client = await place.worker("auth"), await place.client("auth")
        await knows(client, "auth", worker)

        async def fail() -> None:
            raise ValueError("a bug in a discovery of one's own")

        monkeypatch.setattr(worker.discovery, fails, fail)
        await worker.drain(1.0)
        await worker.stop()
        assert presence_of(worker).binding._router.closed
        assert "The discovery of peers did not end in order" in caplog.text
        assert "a bug in a discovery" in caplog.text
        await wait_until_async(lambda: user_of(client).left)

    place.run(scenario)


def test_clock_continues_after_an_error(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in one beat of a node's clock does not stop the next one."""
    monkeypatch.setattr(module, "TICK", 10 * MS)

    async def scenario() -> None:
        failures = 0

        def fail(now: float) -> list[Peer]:
            nonlocal failures
            failures += 1
            raise RuntimeError("a mistake")

        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        client = place.node()
        monkeypatch.setattr(client.peers.dialer, "dial_due", fail)
        with pytest.raises(RuntimeError):
            await client.start()
        await wait_until_async(lambda: failures > 3)

    place.run(scenario)


def test_idle_node_wakes_up_rarely(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no peer must be dialed, a node wakes up less often, but never too late to dial a lost peer."""
    assert module.TICK < module.QUIET_TICK <= FIRST_RETRY
    monkeypatch.setattr(module, "QUIET_TICK", 3600.0)

    def pause(node: Node) -> float:
        assert node._timer is not None
        return node._timer.when() - asyncio.get_running_loop().time()

    async def scenario() -> None:
        worker = await place.worker("auth")
        client = await place.client("auth")
        await knows(client, "auth", worker)
        await wait_until_async(lambda: pause(client) > 2 * module.TICK)
        there = ghost("auth")
        place.hub.publish(there, gone=False)
        await wait_until_async(lambda: there.instance in client.registry.peers)
        client._tick()
        assert pause(client) <= 2 * module.TICK

    place.run(scenario)


# Elsewhere


@pytest.mark.parametrize("advertised", [(), ("127.0.0.9",)], ids=["its own", "advertised"])
def test_a_worker_moves_with_its_host(
    place: Place, monkeypatch: pytest.MonkeyPatch, advertised: tuple[str, ...]
) -> None:
    """At another address of its host a worker keeps its instance: it is announced and found there, also by itself."""
    monkeypatch.setattr(local_addresses, "LOOK_EVERY", 20 * MS)
    addresses = ["127.0.0.1"]

    def announcement(node: Node, endpoints: Endpoints) -> Announcement:
        ports = {"rpc_port": endpoints.rpc_port, "event_port": endpoints.event_port}
        return replace(place._announcement(node, endpoints, ["work"]), addresses=advertised or ("127.0.0.1",), **ports)

    async def scenario() -> None:
        worker = await place.client(addressing=lambda: TcpAddressing(addresses, lambda before: tuple(addresses)))
        worker.bind(lambda endpoints: announcement(worker, endpoints), no_handlers)
        await presence_of(worker).announce()
        client = await place.client("work", addressing=lambda: TcpAddressing(["127.0.0.1"]))
        instance = worker.identity.instance
        if not advertised:
            await knows(client, "work", worker)
        addresses[:] = ["127.0.0.2"]
        await wait_until_async(lambda: (instance, "has another address") in user_of(worker).left)
        assert user_of(worker).snapshot.peers[instance].endpoint.startswith("tcp://127.0.0.2:")
        told = user_of(worker).snapshot.peers[instance].announcement.addresses
        assert told == (advertised or ("127.0.0.2",))
        if not advertised:
            await wait_until_async(lambda: user_of(client).snapshot.peers[instance].announcement.addresses == told)
            client.peers.on_closed(client.peers.links[instance], "went away", refused=False)
            await knows(client, "work", worker)

    place.run(scenario)
