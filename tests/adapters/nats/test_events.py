"""The event backend on JetStream while its servers are down; the contract covers it while they run."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers import Door, wait_until, wait_until_async
from helpers.nats_servers import NatsServer
from lightbus import Api, BusPath, Event, EventBackendError, EventMessage, LightbusTimeout, Parameter
from lightbus.adapters.nats import api_stream, group_records
from lightbus.adapters.nats.events import NatsEventBackend
from lightbus.adapters.nats.places import StreamPlaces, digest
from lightbus.adapters.nats.stream_counts import KEY
from lightbus.adapters.nats.stream_publisher import PUBLISHED_AT
from lightbus.adapters.sqlite.outbox import HostOutbox
from lightbus.engine import forwarding
from lightbus.ports.events import BackendContext, EventTopic, OutgoingEvent, SubscriptionRequest, TopicState
from lightbus.testing import MemoryBus


class ShopApi(Api):
    sold = Event(parameters=[Parameter("number", int), Parameter("text", str, default="")])

    class Meta:
        name = "shop"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check often whether waiting events can be handed off."""
    monkeypatch.setattr(forwarding, "LOOK_EVERY", 0.2)


@pytest.fixture
def server() -> Iterator[NatsServer]:
    """Return a server that does not run yet."""
    server = NatsServer()
    with server.stopped():
        yield server


class Shop:
    """A publisher, and the events of its listener."""

    def __init__(self, hub: MemoryBus, server: NatsServer, **options: Any) -> None:
        events = {"backend": "jetstream", "servers": server.url, "timeout": 0.5, **options}
        self.settings = {"apis": {"default": {"events": events}}}
        self.hub = hub
        self.received: list[int] = []
        self.bus = self.create("shop")
        self.bus.client.register_api(ShopApi())
        self.bus.shop.sold.listen(self._handle, listener_name="desk")

    def create(self, service: str) -> BusPath:
        """Return a process."""
        return self.hub.create(self.settings, service_name=service)

    def _handle(self, message: EventMessage) -> None:
        self.received.append(message.kwargs["number"])

    def fire(self, *numbers: int, door: Door | None = None, **options: Any) -> None:
        """Fire events one after the other."""
        for number in numbers:
            if door is None:
                self.bus.shop.sold.fire(number=number, **options)
            else:
                door.fire(self.bus.shop.sold, number=number, **options)

    def ask(self, api: str, procedure: str) -> Any:
        """Return what the worker answers."""
        client = self.bus.client
        peer = {"peer": client.engine.identity.instance}
        return client.call_rpc_blocking(api, procedure, {}, peer)

    @property
    def health(self) -> dict[str, Any]:
        """The health that the worker reports."""
        found: dict[str, Any] = self.ask("internal.peer", "health")
        return found

    def group(self, name: str) -> dict[str, Any]:
        """Return how a group stands."""
        [group] = [each for each in self.ask("internal.events", "groups") if each["name"] == name]
        return {key: group[key] for key in ("lag", "dead", "lost")}

    @property
    def outbox(self) -> HostOutbox:
        """What waits on this host."""
        return HostOutbox(self.bus.client.engine.journals.path)


def test_events_fired_while_the_servers_are_down(
    server: NatsServer, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    """They wait in the outbox, are counted and logged, and reach their group in order later."""
    caplog.set_level(logging.INFO)
    server.start()
    with MemoryBus(journal=True) as hub:
        shop = Shop(hub, server)
        hub.start(shop.bus)
        shop.fire(0, 1, door=door)
        wait_until(lambda: shop.received == [0, 1])
        server.kill()
        shop.fire(*range(2, 30), door=door)
        shop.bus.shop.sold.fire_many([{"number": number} for number in range(30, 60)])
        assert shop.outbox.counts() == {"shop": 58}
        [problem] = [each for each in shop.health["problems"] if "Events of shop wait in the outbox" in each]
        assert "does not answer" in problem
        assert len([each for each in caplog.messages if each.startswith("Events of shop are put into")]) == 1
        server.start()
        shop.fire(*range(60, 80), door=door)
        wait_until(lambda: len(shop.received) >= 80, 30.0)
        assert shop.received == [*range(80)]
        wait_until(lambda: shop.outbox.counts() == {})
        shop.fire(80, door=door)
        wait_until(lambda: shop.received == [*range(81)])
        assert [each for each in shop.health["problems"] if "outbox" in each] == []


def test_worker_starts_before_the_servers(server: NatsServer) -> None:
    """Its listener joins once they run, and gets the events fired before."""
    with MemoryBus(journal=True) as hub:
        shop = Shop(hub, server)
        hub.start(shop.bus)
        shop.fire(1, 2)
        server.start()
        shop.fire(3)
        wait_until(lambda: shop.outbox.counts() == {}, 30.0)
        since_then = shop.create("mail")
        received: list[int] = []
        since_then.shop.sold.listen(
            lambda message: received.append(message.kwargs["number"]),
            listener_name="desk",
            bus_options={"since": "0"},
        )
        hub.start(since_then)
        wait_until(lambda: received == [1, 2, 3], 30.0)


def test_process_without_publisher_uses_the_outbox(server: NatsServer) -> None:
    """A process that hands its events off stores them in the outbox itself, and they are handed off in order."""
    server.start()
    with MemoryBus(journal=True) as hub:
        shop = Shop(hub, server)
        visitor = shop.create("visitor")
        hub.start(shop.bus)
        visitor.shop.sold.fire(number=0)
        wait_until(lambda: shop.received == [0])
        server.kill()
        for number in range(1, 4):
            visitor.shop.sold.fire(number=number)
        assert shop.outbox.counts() == {"shop": 3}
        server.start()
        wait_until(lambda: shop.received == [0, 1, 2, 3], 30.0)


def test_wait_for_ack_returns_while_the_servers_are_down(server: NatsServer, door: Door) -> None:
    """`wait_for: ack` returns that the event waits; groups get it later."""
    server.start()
    with MemoryBus(journal=True) as hub:
        shop = Shop(hub, server)
        hub.start(shop.bus)
        shop.fire(1)
        wait_until(lambda: shop.received == [1])
        server.kill()
        with pytest.raises(LightbusTimeout, match=r"waits in the outbox .*outbox\.sqlite"):
            shop.fire(2, door=door, bus_options={"wait_for": "ack"})
        server.start()
        wait_until(lambda: shop.received == [1, 2], 30.0)


def test_event_that_is_too_large_is_refused(server: NatsServer, door: Door) -> None:
    """With the remedy; events beside it are stored, in order."""
    server.start("max_payload: 4096")
    with MemoryBus(journal=True) as hub:
        shop = Shop(hub, server)
        hub.start(shop.bus)
        shop.fire(1, door=door)
        with pytest.raises(EventBackendError, match=r"takes 50\d\d bytes, .* of 4096 bytes.* max_payload"):
            shop.fire(2, door=door, text="x" * 5000)
        with pytest.raises(EventBackendError, match="max_payload"):
            shop.bus.shop.sold.fire_many([{"number": 3}, {"number": 4, "text": "x" * 5000}, {"number": 5}])
        shop.fire(6, door=door)
        wait_until(lambda: shop.received[-1:] == [6])
        assert shop.received == [1, 3, 5, 6]
        assert not HostOutbox(shop.bus.client.engine.journals.path).exists()


def test_wrong_credentials_are_named(server: NatsServer, door: Door) -> None:
    """Neither firing nor listening seems to work: the event is refused, and the error has the remedy."""
    server.start("authorization { user: shop, password: secret }")
    with MemoryBus(journal=True) as hub:
        shop = Shop(hub, server, user="shop", password="wrong")
        hub.start(shop.bus)
        with pytest.raises(EventBackendError, match=r"refuses access: .*Authorization Violation.* `user` and"):
            shop.fire(1, door=door)
        right = Shop(hub, server, user="shop", password="secret")
        hub.start(right.bus)
        right.fire(1, door=door)
        wait_until(lambda: right.received == [1])


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"subjects": ["else.>"]}, r"has the subjects else\.>, and not lightbus\."),
        ({"retention": "workqueue"}, "has the retention workqueue"),
        ({"no_ack": True}, "no_ack"),
        ({"max_bytes": 1, "discard": "new"}, "maximum bytes exceeded. It is full"),
    ],
    ids=repr,
)
def test_foreign_stream_is_left_unchanged(server: NatsServer, config: dict[str, Any], why: str) -> None:
    """Firing reports the problem, and nothing is stored."""
    server.start()
    with MemoryBus(journal=True) as hub:
        shop = Shop(hub, server)
        places = StreamPlaces(shop.bus.client.engine.identity.bus, "shop")
        made = {"name": places.stream, "subjects": [f"{places.prefix}.>"], **config}
        before = asyncio.run(_stream(server, made))
        hub.start(shop.bus)
        with pytest.raises(EventBackendError, match=why):
            shop.fire(1)
        assert asyncio.run(_stream(server, made)) == before
        assert not HostOutbox(shop.bus.client.engine.journals.path).exists()


def test_foreign_messages_and_records_do_no_harm(
    server: NatsServer, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    """In the stream or among the group records, before a worker starts or later."""
    server.start()
    with MemoryBus(journal=True) as hub:
        shop = Shop(hub, server)
        places = StreamPlaces(shop.bus.client.engine.identity.bus, "shop")
        desk = digest("shop.desk")
        hub.start(shop.bus)
        shop.fire(1, door=door)
        wait_until(lambda: shop.received == [1])
        asyncio.run(_scribble(server, places, desk))
        shop.fire(2, door=door)
        wait_until(lambda: 2 in shop.received)
        wait_until(lambda: "written by another program" in caplog.text and "Another program writes into" in caplog.text)
        assert [event.kwargs["number"] for event in shop.bus.shop.sold.history()] == [1, 2]

        another = hub.create(shop.settings, service_name="late")
        later: list[int] = []
        another.shop.sold.listen(
            lambda message: later.append(message.kwargs["number"]), listener_name="all", bus_options={"since": "0"}
        )
        hub.start(another)
        wait_until(lambda: later == [1, 2])
        shop.fire(3, door=door)
        wait_until(lambda: later == [1, 2, 3] and shop.received[-1] == 3)


async def _scribble(server: NatsServer, places: StreamPlaces, group: str) -> None:
    """Write a value that this library never writes."""
    import nats

    client = await nats.connect(server.url)
    try:
        jetstream = client.jetstream()
        for subject in ("sold", "sold.x.all", "sold.1.all.more", "sold.123456789.all"):
            await jetstream.publish(f"{places.prefix}.{subject}", b"\xff")
        await jetstream.publish(f"{places.prefix}.sold.1.all", b"\xff", headers={PUBLISHED_AT: "1e300"})
        bucket = await jetstream.key_value(places.bucket)
        for key in ("x", "info.a.b", f"part.{group}.x", f"dead.{group}.x", "dead.a.1", f"part.{group}.1", "info.b"):
            for value in (b"[" * 100_000, b"{", b'{"cursors": {"sold": "x"}}', b"\xff"):
                await bucket.put(key, value)
    finally:
        await client.close()


async def _stream(server: NatsServer, config: dict[str, Any]) -> Any:
    """Create a stream if there is none; return its configuration."""
    import nats

    client = await nats.connect(server.url)
    try:
        jetstream = client.jetstream()
        try:
            info = await jetstream.stream_info(config["name"])
        except nats.js.errors.NotFoundError:
            info = await jetstream.add_stream(**config)
        return info.config
    finally:
        await client.close()


class Deaf:
    """A listener that remembers where it is told to start, and nothing else."""

    def __init__(self) -> None:
        self.states: dict[EventTopic, TopicState] = {}

    def follow(self, states: Sequence[TopicState]) -> None:
        """Note the positions."""
        self.states.update({state.topic: state for state in states})

    def revoke(self, partitions: frozenset[int]) -> None:
        """Give nothing back."""


MAIL = SubscriptionRequest(api="shop", events=("sold",), group="mail", member="1" * 16, since="0")


TOPIC = EventTopic("sold", 3)


def with_backend(server: NatsServer, test: Callable[[NatsEventBackend], Awaitable[None]], **options: Any) -> None:
    """Run a test with a backend of its own."""
    server.start()

    async def main() -> None:
        given = {"servers": server.url, **options}
        backend = NatsEventBackend(BackendContext(bus="home", instance=MAIL.member, options=given))
        await backend.start()
        try:
            await test(backend)
        finally:
            await backend.stop()

    asyncio.run(main())


def test_positions_of_a_group_that_was_removed_half_are_none_of_a_new_one(server: NatsServer) -> None:
    """Its remover was killed in between: a new group of the name that asks for all events gets all."""

    async def test(backend: NatsEventBackend) -> None:
        sequence = await stored(backend)
        subscription = await backend.subscribe(MAIL, Deaf())
        await subscription.ack({TOPIC: sequence})
        await subscription.close()
        await backend._stream("shop").records.delete(f"info.{digest('mail')}")
        another = Deaf()
        await backend.subscribe(MAIL, another)
        assert {topic: state.cursor for topic, state in another.states.items()} == {TOPIC: 0}

    with_backend(server, test)


async def stored(backend: NatsEventBackend) -> int:
    """Store an event; return its sequence."""
    event = OutgoingEvent(api="shop", topic=TOPIC, id="a", record=b"x", published_at=1.0)
    [sequence] = await backend.publish([event])
    assert isinstance(sequence, int)
    return sequence


def test_events_of_a_member_that_is_lost_without_a_word_go_to_another(server: NatsServer) -> None:
    """After `member_timeout`, as events that it may have begun; what it says later is not recorded."""

    async def test(backend: NatsEventBackend) -> None:
        sequence = await stored(backend)
        lost, another = await backend.subscribe(MAIL, Deaf()), Deaf()
        await lost.fetch(TOPIC, 0, 9)
        lost.abandon()
        await backend.subscribe(replace(MAIL, member="2" * 16), another)
        await wait_until_async(lambda: TOPIC in another.states)
        assert (another.states[TOPIC].cursor, another.states[TOPIC].begun) == (0, sequence)
        await lost.ack({TOPIC: sequence})
        assert await lost.begin(TOPIC, sequence, 1) == 0
        assert await backend.lag("shop", "mail") == 1

    with_backend(server, test, member_timeout=1.0)


def test_a_connection_that_a_server_has_ended_is_made_anew(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an error in its name: new events, acknowledgements, and what other members record go on."""
    monkeypatch.setattr(group_records, "READY_TIMEOUT", 0.2)
    monkeypatch.setattr(api_stream, "LOOK_EVERY", 0.2)

    async def test(backend: NatsEventBackend) -> None:
        inbox = Deaf()
        subscription = await backend.subscribe(MAIL, inbox)
        assert backend._connection._client is not None
        await backend._connection._client.close()
        sequence = await stored(backend)
        await wait_until_async(lambda: TOPIC in inbox.states)
        await subscription.ack({TOPIC: sequence})
        ours = backend._stream("shop")
        assert ours._subscribed_by is backend._connection._client
        theirs = NatsEventBackend(BackendContext(bus="home", instance="2" * 16, options={"servers": server.url}))
        await theirs.start()
        await theirs.subscribe(replace(MAIL, group="other", member="2" * 16), Deaf())
        await wait_until_async(lambda: f"info.{digest('other')}" in ours.records.records)
        await theirs.stop()

    with_backend(server, test, member_timeout=1.0)


def test_events_between_two_connections_are_reported(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if an event of another topic is the next one that is reported over the new connection."""
    monkeypatch.setattr(api_stream, "LOOK_EVERY", 3600.0)

    async def test(backend: NatsEventBackend) -> None:
        inbox = Deaf()
        await backend.subscribe(MAIL, inbox)
        theirs = NatsEventBackend(BackendContext(bus="home", instance="2" * 16, options={"servers": server.url}))
        await theirs.start()
        assert backend._connection._client is not None
        await backend._connection._client.close()
        sequence = await stored(theirs)
        await theirs.stop()
        await backend._stream("shop").opened()
        await wait_until_async(lambda: TOPIC in inbox.states)
        assert inbox.states[TOPIC].head >= sequence

    with_backend(server, test)


def test_closed_subscriptions_are_forgotten(server: NatsServer) -> None:
    """Listeners may come and go as long as a worker runs."""

    async def test(backend: NatsEventBackend) -> None:
        for _ in range(3):
            await (await backend.subscribe(MAIL, Deaf())).close()
        assert len(backend._subscriptions) == 1

    with_backend(server, test)


def test_connection_may_be_encrypted(server: NatsServer, tmp_path: Path) -> None:
    """With a certificate from a file; a server with another certificate is refused."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here, to make a certificate with")
    for name in ("ours", "other"):
        _make_certificate(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
    server.start(f"tls {{ cert_file: '{tmp_path}/ours.pem', key_file: '{tmp_path}/ours.key' }}")
    with MemoryBus(journal=True) as hub:
        shop = Shop(hub, server, tls_ca=str(tmp_path / "ours.pem"))
        hub.start(shop.bus)
        shop.fire(1)
        wait_until(lambda: shop.received == [1])
        wrong = Shop(hub, server, tls_ca=str(tmp_path / "other.pem"))
        hub.start(wrong.bus)
        with pytest.raises(EventBackendError, match=r"certificate verify failed.* `tls_ca`"):
            wrong.fire(2)


def _make_certificate(certificate: Path, key: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip


def test_events_deleted_unhandled_are_reported(
    server: NatsServer, door: Door, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lost events of an absent group are listed, reported when it is back, and stay recorded."""
    monkeypatch.setattr(api_stream, "LOOK_EVERY", 0.1)
    caplog.set_level(logging.ERROR)
    server.start()
    with MemoryBus(journal=True) as hub:
        shop = Shop(hub, server, max_events=10)
        hub.start(shop.bus)
        mail, received, told = _start_mail(shop)
        shop.fire(0, 1, door=door)
        wait_until(lambda: received == [0, 1])
        mail.client.close()
        for number in range(2, 32):
            shop.fire(number, door=door)
            wait_until(lambda number=number: shop.received[-1:] == [number])
        assert shop.group("mail-desk") == {"lag": 10, "dead": 0, "lost": 20}
        assert shop.group("shop-desk") == {"lag": 0, "dead": 0, "lost": 0}
        wait_until(lambda: asyncio.run(_counted(server, shop)) == 32)
        mail, received, told = _start_mail(shop)
        wait_until(lambda: received == [*range(22, 32)])
        wait_until(lambda: sum(each["count"] for each in told) == 20)
        assert {(each["api_name"], each["event_name"], each["group"]) for each in told} == {
            ("shop", "sold", "mail-desk")
        }
        wait_until(lambda: shop.group("mail-desk") == {"lag": 0, "dead": 0, "lost": 20})
        said = [each for each in caplog.messages if "of shop.sold were deleted by the retention of the event" in each]
        assert [int(each.partition(" ")[0]) for each in said] == [told[0]["count"]]  # the rest would repeat it
        mail.client.close()
        _, received, told = _start_mail(shop)
        shop.fire(32, door=door)
        wait_until(lambda: received == [32])
        wait_until(lambda: shop.group("mail-desk") == {"lag": 0, "dead": 0, "lost": 20})
        assert told == []
        [journal] = [each for each in shop.ask("internal.events", "journals") if "backend" in each["path"]]
        assert journal["lost"] == [{"group": "mail-desk", "api": "shop", "event": "*", "count": 20, "at": None}]


def test_events_beyond_max_age_count_as_lost(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if no event is left."""
    monkeypatch.setattr(api_stream, "LOOK_EVERY", 0.1)
    server.start()
    with MemoryBus(journal=True) as hub:
        shop = Shop(hub, server, max_age=1)
        hub.start(shop.bus)
        mail, _, _ = _start_mail(shop)
        mail.client.close()
        shop.fire(1, 2, 3)
        wait_until(lambda: shop.group("mail-desk") == {"lag": 0, "dead": 0, "lost": 3})
        wait_until(lambda: asyncio.run(_counted(server, shop)) == 3)
        _, received, told = _start_mail(shop)
        wait_until(lambda: sum(each["count"] for each in told) == 3)
        shop.fire(4)
        wait_until(lambda: received == [4])


async def _counted(server: NatsServer, shop: Shop) -> int:
    """Return the sequence up to which the recorded counts of a shop reach."""
    import nats

    client = await nats.connect(server.url)
    try:
        bucket = await client.jetstream().key_value(StreamPlaces(shop.bus.client.engine.identity.bus, "shop").bucket)
        return int(json.loads((await bucket.get(KEY)).value or b"")["through"])
    except nats.js.errors.KeyNotFoundError:
        return 0
    finally:
        await client.close()


def _start_mail(shop: Shop) -> tuple[BusPath, list[int], list[dict[str, Any]]]:
    """Start a process that listens; return its received events, and its reported losses."""
    bus = shop.create("mail")
    received: list[int] = []
    told: list[dict[str, Any]] = []

    def lost(client: Any, **details: Any) -> None:
        told.append(details)

    bus.client.on_events_lost(lost)
    bus.shop.sold.listen(lambda message: received.append(message.kwargs["number"]), listener_name="desk")
    shop.hub.start(bus)
    return bus, received, told


def test_history_of_a_mixed_bus(server: NatsServer, door: Door) -> None:
    """Two processes publish to the servers, another one another API into its journal: each event is listed once."""
    server.start()

    class BooksApi(Api):
        lent = Event(["number"])

        class Meta:
            name = "books"

    with MemoryBus(journal=True) as hub:
        shop, second = Shop(hub, server), Shop(hub, server)
        books = hub.create(service_name="books")
        books.client.register_api(BooksApi())
        visitor = hub.create(service_name="visitor")
        hub.start(shop.bus, second.bus, books)
        shop.fire(1, door=door)
        door.fire(books.books.lent, number=2)
        second.fire(3, door=door)
        assert [message.kwargs["number"] for message in visitor.shop.sold.history()] == [1, 3]
        assert [message.kwargs["number"] for message in visitor.shop.sold.history(limit=1)] == [3]
        assert [message.kwargs["number"] for message in visitor.books.lent.history()] == [2]
