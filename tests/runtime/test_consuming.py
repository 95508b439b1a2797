"""The way of an event in: subscriptions, markers, gaps, and who is given what."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from helpers import MS, wait_until_async
from lightbus.config import Config
from lightbus.core.peers import Peer, PeerState, Source
from lightbus.message import EventMessage
from lightbus.runtime import consuming as module
from lightbus.runtime.consuming import Consumer
from lightbus.runtime.listening import Listener, OnError
from lightbus.service.api import Api, ApiRegistry, Event, Parameter
from lightbus.service.hooks import HookRegistry
from lightbus.wire import codec, envelope
from lightbus.wire.announcement import Announcement
from lightbus.wire.envelope import MARKER_PREFIX, Drain, Events, Marker, Record

A, B = "a" * 16, "b" * 16
SEEN = envelope.event_topic("auth", "seen", 3)


def peer(instance: str, *apis: str, endpoint: str = "", state: PeerState = PeerState.UP) -> Peer:
    """Return a peer that publishes the events of these APIs."""
    announcement = Announcement(
        bus="b", instance=instance, service="s", process="p", host="h", api_names=apis or ("auth",)
    )
    return Peer(
        announcement=announcement,
        state=state,
        source=Source.SEED,
        changed_at=0.0,
        heard_at=0.0,
        event_endpoint=endpoint or f"ipc://{instance}.pub",
    )


class FakeSubscriber:
    """One subscription to a publisher; a publisher that is there answers markers."""

    def __init__(self, on_frame: Callable[[bytes], None], answers: bool) -> None:
        self.prefixes: list[bytes] = []
        self.markers: list[bytes] = []
        self.closed = self.paused = False
        self.on_frame = on_frame
        self._answers = answers

    def subscribe(self, prefix: bytes) -> None:
        if prefix.startswith(MARKER_PREFIX):
            self.markers.append(prefix)
            if self._answers:
                asyncio.get_running_loop().call_soon(self.answer, prefix)
        else:
            self.prefixes.append(prefix)

    def answer(self, marker: bytes) -> None:
        self.on_frame(envelope.encode_published(marker, Marker("j", 0)))

    def unsubscribe(self, prefix: bytes) -> None:
        self.markers.remove(prefix)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True

    def publish(self, *records: Any, topic: bytes = SEEN) -> None:
        """Have events arrive: `(sequence, previous, arguments)` each."""
        entries = [
            [sequence, previous, envelope.encode_record(Record(f"id-{sequence}", 2, 1.5, kwargs))]
            for sequence, previous, kwargs in records
        ]
        self.on_frame(envelope.encode_published(topic, Events("j", A, entries)))


class Auth(Api):
    seen = Event([Parameter("n", int), Parameter("what", str, default="it")])

    class Meta:
        name = "auth"


class In:
    """A consumer whose subscriptions are fakes."""

    def __init__(self, *apis: Api, answers: bool = True, **settings: Any) -> None:
        self.sockets: dict[str, FakeSubscriber] = {}
        self.answers = answers
        self.fatal: list[Exception] = []
        registry = ApiRegistry()
        for api in apis:
            registry.add(api)
        transport: Any = self
        self.consumer = Consumer(
            transport=transport,
            config=Config.model_validate({"apis": {"default": {"event_listener_setup_timeout": 50 * MS, **settings}}}),
            apis=registry,
            hooks=HookRegistry(),
            client="the client",
            call_sync=self.call_sync,
            on_fatal=lambda listener, error: self.fatal.append(error),
        )

    async def call_sync(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, functools.partial(function, *args, **kwargs))

    def subscriber(self, endpoint: str, on_frame: Callable[[bytes], None], *, fingerprint: str) -> FakeSubscriber:
        made = self.sockets[endpoint] = FakeSubscriber(on_frame, self.answers)
        return made

    def socket(self, instance: str) -> FakeSubscriber:
        return self.sockets[f"ipc://{instance}.pub"]

    async def listen(
        self, *events: str, api: str = "auth", peers: Iterable[Peer] = (), name: str = "greeter", **options: Any
    ) -> list[EventMessage]:
        """Listen, and return the list that the events come into."""
        seen: list[EventMessage] = []

        async def function(message: EventMessage, **kwargs: Any) -> None:
            seen.append(message)

        options.setdefault("function", function)
        await self.consumer.add(Listener(api=api, events=events or ("seen",), name=name, **options), peers)
        return seen


def run(test: Callable[[In], Awaitable[None]], *apis: Api, **options: Any) -> None:
    """Run a test with a consumer, and stop it."""

    async def main() -> None:
        bench = In(*apis, **options)
        await test(bench)
        await bench.consumer.stop(5.0)
        assert all(socket.closed for socket in bench.sockets.values())

    asyncio.run(main())


# Subscriptions


def test_listening_subscribes_and_waits_for_the_marker() -> None:
    """When `add` returns, everything that is published from then on arrives."""

    async def test(bench: In) -> None:
        await bench.listen("seen", peers=[peer(A), peer(B, "shop")])
        assert list(bench.sockets) == [f"ipc://{A}.pub"]
        assert bench.socket(A).prefixes == [b"auth\0seen\0"]
        await wait_until_async(lambda: bench.socket(A).markers == [])

    run(test)


def test_all_events_of_an_api() -> None:
    """`*` subscribes to the API as a whole, and is given each of its events."""

    async def test(bench: In) -> None:
        seen = await bench.listen("*", peers=[peer(A)])
        assert bench.socket(A).prefixes == [b"auth\0"]
        bench.socket(A).publish((1, 0, {"n": 1}))
        bench.socket(A).publish((2, 0, {"n": 2}), topic=envelope.event_topic("auth", "gone", 0))
        await wait_until_async(lambda: [message.event_name for message in seen] == ["seen", "gone"])

    run(test)


def test_publishers_that_come_later() -> None:
    """A peer that joins is subscribed to, and one that is there already not twice."""

    async def test(bench: In) -> None:
        seen = await bench.listen("seen")
        assert bench.sockets == {}
        for _ in range(2):
            bench.consumer.peer_is_up(peer(A))
        bench.consumer.peer_is_up(peer(B, "shop"))
        assert list(bench.sockets) == [f"ipc://{A}.pub"]
        assert bench.socket(A).prefixes == [b"auth\0seen\0"]
        bench.socket(A).publish((1, 0, {"n": 1}))
        await wait_until_async(lambda: seen)

    run(test)


def test_a_publisher_that_advertises_more() -> None:
    """An API that a peer adds while it runs is subscribed to, too."""

    async def test(bench: In) -> None:
        await bench.listen("seen", peers=[peer(A)])
        await bench.listen("sold", api="shop", name="seller")
        assert bench.socket(A).prefixes == [b"auth\0seen\0"]
        bench.consumer.peer_is_up(peer(A, "auth", "shop"))
        assert bench.socket(A).prefixes == [b"auth\0seen\0", b"shop\0sold\0"]

    run(test)


def test_a_second_listener_uses_the_same_subscription() -> None:
    """Two listeners of one event are one subscription, and each is given each event."""

    async def test(bench: In) -> None:
        one = await bench.listen("seen", peers=[peer(A)])
        two = await bench.listen("seen", "gone", peers=[peer(A)], name="other")
        assert bench.socket(A).prefixes == [b"auth\0seen\0", b"auth\0gone\0"]
        bench.socket(A).publish((1, 0, {"n": [1]}))
        await wait_until_async(lambda: one and two)
        assert one[0].kwargs == two[0].kwargs
        assert one[0].kwargs["n"] is not two[0].kwargs["n"]  # one handler's change is not the other's surprise

    run(test)


def test_a_publisher_that_left() -> None:
    """Its subscription is closed, and nobody waits for its marker; should it come back, it is subscribed to anew."""

    async def test(bench: In) -> None:
        listening = asyncio.ensure_future(bench.listen("seen", peers=[peer(A)]))
        await wait_until_async(lambda: bench.sockets)
        first = bench.socket(A)
        bench.consumer.peer_left(A)
        bench.consumer.peer_left(B)
        await listening
        assert first.closed
        bench.consumer.peer_is_up(peer(A))
        assert bench.socket(A) is not first

    run(test, answers=False)


def test_a_publisher_that_moved() -> None:
    """The same instance at another endpoint is subscribed to there."""

    async def test(bench: In) -> None:
        await bench.listen("seen", peers=[peer(A)])
        bench.consumer.peer_is_up(peer(A, endpoint="ipc://elsewhere"))
        assert bench.socket(A).closed
        assert bench.sockets["ipc://elsewhere"].prefixes == [b"auth\0seen\0"]

    run(test)


def test_a_draining_publisher_stays() -> None:
    """What it still publishes arrives."""

    async def test(bench: In) -> None:
        seen = await bench.listen("seen", peers=[peer(A)])
        bench.consumer.peer_is_up(peer(A, state=PeerState.DRAINING))
        bench.socket(A).publish((1, 0, {"n": 1}))
        await wait_until_async(lambda: seen)

    run(test)


def test_a_publisher_that_does_not_confirm(caplog: pytest.LogCaptureFixture) -> None:
    """After the setup timeout there is a warning; when the marker comes after all, everything works."""

    async def test(bench: In) -> None:
        seen = await bench.listen("seen", peers=[peer(A)])
        assert "1 of 1 publishers did not confirm the subscription of greeter of auth.seen within" in caplog.text
        for marker in list(bench.socket(A).markers):
            bench.socket(A).answer(marker)
        assert bench.socket(A).markers == []
        bench.socket(A).publish((1, 0, {"n": 1}))
        await wait_until_async(lambda: seen)

    run(test, answers=False)


def test_an_unknown_marker_is_ignored() -> None:
    """A marker that nobody waits for, any more or ever, does nothing."""

    async def test(bench: In) -> None:
        await bench.listen("seen", peers=[peer(A)])
        bench.socket(A).answer(envelope.marker_topic(bytes(16)))
        assert bench.consumer.counts["unreadable"] == 0

    run(test)


# Events


def test_what_a_listener_is_given() -> None:
    """The message has the event's names, arguments, id, version and time, who published it, and under which number."""

    async def test(bench: In) -> None:
        seen = await bench.listen("seen", peers=[peer(A)])
        bench.socket(A).publish((7, 0, {"n": 1}))
        await wait_until_async(lambda: seen)
        [message] = seen
        assert (message.api_name, message.event_name, message.kwargs) == ("auth", "seen", {"n": 1})
        assert (message.id, message.native_id, message.version) == ("id-7", "j-7", 2)
        assert (message.published_at, message.publisher, message.deliveries) == (1.5, A, 1)

    run(test)


def test_events_of_a_known_api_are_complete_and_checked() -> None:
    """Where the API is registered here too, defaults are filled in, and what it does not allow is an error."""

    async def test(bench: In) -> None:
        seen = await bench.listen("seen", peers=[peer(A)], on_error=OnError.SHUTDOWN)
        bench.socket(A).publish((1, 0, {"n": 1}), (2, 1, {"n": "two"}), (3, 2, {"n": 3, "what": "that"}))
        bench.socket(A).publish((4, 3, {"x": 1}), topic=envelope.event_topic("auth", "undeclared", 0))
        await wait_until_async(lambda: len(seen) == 2)
        assert [message.kwargs for message in seen] == [{"n": 1, "what": "it"}, {"n": 3, "what": "that"}]
        assert bench.fatal == []

    run(test, Auth())


def test_checking_can_be_switched_off() -> None:
    """With `validate: false` whatever comes is given."""

    async def test(bench: In) -> None:
        seen = await bench.listen("seen", peers=[peer(A)])
        bench.socket(A).publish((1, 0, {"n": "two"}))
        await wait_until_async(lambda: seen)

    run(test, Auth(), validate=False, cast_values=False)


def test_an_undeclared_event_of_a_known_api() -> None:
    """An event that only a newer publisher has is given as it comes."""

    async def test(bench: In) -> None:
        seen = await bench.listen("*", peers=[peer(A)])
        bench.socket(A).publish((1, 0, {"x": 1}), topic=envelope.event_topic("auth", "undeclared", 0))
        await wait_until_async(lambda: seen)
        assert seen[0].kwargs == {"x": 1}

    run(test, Auth())


def test_a_plain_function_listens_in_a_thread() -> None:
    """A `def` listener is called as the worker calls all functions of the user's."""
    seen: list[int] = []

    async def test(bench: In) -> None:
        await bench.listen("seen", peers=[peer(A)], function=lambda message, n: seen.append(n))
        bench.socket(A).publish((1, 0, {"n": 1}))
        await wait_until_async(lambda: seen == [1])

    run(test)


def test_gaps_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    """When the one before is not the one we had, something was lost on the way; each partition counts for itself."""
    other = envelope.event_topic("auth", "seen", 4)

    async def test(bench: In) -> None:
        seen = await bench.listen("seen", peers=[peer(A)])
        socket = bench.socket(A)
        socket.publish((5, 4, {"n": 1}))  # what was before we came is no gap
        socket.publish((6, 5, {"n": 2}), (9, 6, {"n": 3}))
        socket.publish((8, 2, {"n": 4}), topic=other)
        assert bench.consumer.counts["gaps"] == 0
        socket.publish((20, 15, {"n": 5}))
        socket.publish((21, 20, {"n": 6}), (25, 23, {"n": 7}))
        socket.publish((26, 8, {"n": 8}), topic=other)
        assert bench.consumer.counts["gaps"] == 2
        assert f"Events of auth seen 03 from s {A[:4]}… on host h were lost on the way" in caplog.text
        await wait_until_async(lambda: len(seen) == 8)
        assert [message.kwargs["n"] for message in seen] == list(range(1, 9))

    run(test)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"garbage",
        SEEN + b"garbage",
        envelope.encode_published(SEEN, Events("j", A, [7])),
        envelope.encode_published(SEEN, Events("j", A, [[1, 0]])),
        envelope.encode_published(SEEN, Events("j", A, [[1, 0, b"\xc1"]])),
        envelope.encode_published(SEEN, Events("j", A, [[1, 0, "text"]])),
        envelope.encode_published(SEEN, Events("j", A, [[1, 0, None]])),
        envelope.encode_published(SEEN, Events("j", A, [[1, 0, codec.encode(["id", 1, 0.0, {}])], ["2", "1", b""]])),
        envelope.encode_published(b"\xc3(\0seen\0" + b"03\0", Events("j", A, [])),
        envelope.encode_published(envelope.marker_topic(b"\0" * 16), Events("j", A, [])),
    ],
    ids=str,
)
def test_unreadable_frames_are_counted_and_survived(frame: bytes) -> None:
    """Whatever a publisher sends, the next event arrives."""

    async def test(bench: In) -> None:
        seen = await bench.listen("seen", peers=[peer(A)])
        bench.socket(A).on_frame(frame)
        assert bench.consumer.counts["unreadable"] == 1
        bench.socket(A).publish((3, 2, {"n": 3}))
        await wait_until_async(lambda: seen and seen[-1].kwargs == {"n": 3})

    run(test)


def test_other_messages_are_none_of_a_subscribers() -> None:
    """A message that is neither events nor a marker does nothing."""

    async def test(bench: In) -> None:
        seen = await bench.listen("seen", peers=[peer(A)])
        bench.socket(A).on_frame(SEEN + envelope.encode(Drain()))
        bench.socket(A).publish(topic=SEEN)
        assert (seen, dict(bench.consumer.counts)) == ([], {})

    run(test)


# Reading no faster than the listeners handle


def flood(bench: In, start: int, count: int) -> None:
    """Have so many events arrive."""
    bench.socket(A).publish(*((n, n - 1, {"n": n}) for n in range(start, start + count)))


def test_reading_pauses_until_the_listeners_have_caught_up() -> None:
    """After a portion nothing more is read before the listeners had their turn."""

    async def test(bench: In) -> None:
        seen = await bench.listen("seen", peers=[peer(A)])
        flood(bench, 1, module.PORTION - 1)
        assert not bench.socket(A).paused
        flood(bench, module.PORTION, 1)
        flood(bench, module.PORTION + 1, 1)
        assert bench.socket(A).paused
        await wait_until_async(lambda: not bench.socket(A).paused)
        assert len(seen) == module.PORTION + 1

    run(test)


def test_a_slow_listener_holds_nobody_up() -> None:
    """Reading goes on after a moment without it, and does not wait for it again until it has caught up."""
    gate = asyncio.Event()

    async def slow(message: EventMessage) -> None:
        await gate.wait()

    async def test(bench: In) -> None:
        await bench.listen("seen", peers=[peer(A)], function=slow, name="slow")
        quick = await bench.listen("seen", peers=[peer(A)], name="quick")
        flood(bench, 1, module.PORTION)
        await wait_until_async(lambda: not bench.socket(A).paused)
        assert len(quick) == module.PORTION
        held_up, _ = bench.consumer.listenings
        assert held_up.is_slow
        flood(bench, module.PORTION + 1, module.PORTION)
        await wait_until_async(lambda: len(quick) == 2 * module.PORTION and not bench.socket(A).paused)
        gate.set()
        await wait_until_async(lambda: not held_up.is_slow and held_up.backlog == 0)

    run(test)


def test_stopping_while_reading_pauses() -> None:
    """No timer outlives the consumer."""

    async def test(bench: In) -> None:
        await bench.listen("seen", peers=[peer(A)])
        flood(bench, 1, module.PORTION)
        assert bench.socket(A).paused

    run(test)


def test_stopping_without_listeners() -> None:
    """A consumer that nobody uses is stopped at once."""

    async def test(bench: In) -> None:
        bench.consumer.peer_is_up(peer(A))
        assert bench.sockets == {}

    run(test)
