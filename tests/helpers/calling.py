"""Fakes around a call: peers, connections, and the engine of a channel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from lightbus.core.peers import Peer, PeerState, Snapshot, Source
from lightbus.deadline import Deadline
from lightbus.exceptions import UnknownApi
from lightbus.membership.context import Identity
from lightbus.rpc.calling import Caller
from lightbus.rpc.outbound_call import OutboundCall
from lightbus.wire import envelope
from lightbus.wire.announcement import Announcement
from lightbus.wire.envelope import AnyMessage, Error

ME = Identity(bus="b", service="web", process="p", instance="c" * 16, host="here")
A, B = "a" * 16, "b" * 16


def peer(instance: str, state: PeerState = PeerState.UP, endpoint: str = "") -> Peer:
    """Return a peer that advertises auth."""
    announcement = Announcement(
        bus="b", instance=instance, service="auth-service", process="p", host="far", api_names=("auth",)
    )
    return Peer(
        announcement=announcement,
        state=state,
        source=Source.SEED,
        changed_at=0.0,
        endpoint=endpoint or f"ipc://{instance}",
    )


def snapshot(*peers: Peer) -> Snapshot:
    """Return a snapshot with these known peers."""
    up = tuple(p for p in peers if p.is_up)
    serving = tuple(p for p in up if p.serves("auth"))
    return Snapshot(peers={p.instance: p for p in peers}, by_api={"auth": up}, serving={"auth": serving})


class FakeDealer:
    """A connection to one peer: sent frames are recorded, and answered by `reply` if it is given."""

    def __init__(
        self, on_message: Callable[[bytes], None], reply: Callable[[AnyMessage], AnyMessage | bytes | None]
    ) -> None:
        self.sent: list[tuple[int, AnyMessage]] = []
        self.waiting: list[tuple[bytes, Callable[[], None], Callable[[], bool]]] = []
        self.connected = True
        self.closed = ""
        self._on_message = on_message
        self._reply = reply

    def send(self, frame: bytes) -> bool:
        if self.connected:
            call_id, message = envelope.decode(frame)
            self.sent.append((call_id, message))
            if (reply := self._reply(message)) is not None:
                asyncio.get_running_loop().call_soon(self.receive, reply, call_id)
        return self.connected

    def send_later(self, frame: bytes, on_sent: Callable[[], None], *, wanted: Callable[[], bool]) -> None:
        self.waiting.append((frame, on_sent, wanted))

    def connect(self) -> None:
        """Send waiting frames that are still wanted."""
        self.connected = True
        for frame, on_sent, wanted in self.waiting:
            if wanted():
                self.send(frame)
                on_sent()

    def receive(self, reply: AnyMessage | bytes, call_id: int) -> None:
        """Let a message arrive."""
        self._on_message(reply if isinstance(reply, bytes) else envelope.encode(reply, call_id))

    def close(self) -> None:
        self.closed = "closed"

    def abandon(self) -> None:
        self.closed = "abandoned"


class FakeRequestContext:
    """The engine of a channel: it knows the given peers, and its connections are fakes."""

    identity = ME

    def __init__(self, *peers: Peer, max_message_size: int = 10_000) -> None:
        self.transport: Any = self
        self.snapshot = snapshot(*peers)
        self.wanted = {"auth"}
        self.max_message_size = max_message_size
        self.dealers: dict[str, FakeDealer] = {}
        self.replies: dict[str, Callable[[AnyMessage], AnyMessage | bytes | None]] = {}
        self.connected = True
        self.resolved: list[str] = []
        self.on_resolve: Callable[[], None] = lambda: None

    def dealer(
        self, endpoint: str, on_message: Callable[[bytes], None], *, fingerprint: str, awaited: Callable[[], int]
    ) -> FakeDealer:
        instance = endpoint.removeprefix("ipc://")
        made = FakeDealer(on_message, self.replies.get(instance, lambda message: None))
        made.connected = self.connected
        self.dealers[instance] = made
        return made

    async def resolve(
        self, api: str, deadline: Deadline, *, to_call: bool = False, leaving: Collection[str] = ()
    ) -> None:
        self.resolved.append(api)
        self.on_resolve()
        known = {peer.instance for peer in self.snapshot.by_api[api]} if api in self.snapshot.by_api else None
        if known is None or (known and known <= {*leaving}):
            raise UnknownApi(f"nobody advertises {api}")

    def sent(self, instance: str) -> list[AnyMessage]:
        """Return the messages sent to a peer."""
        return [message for _, message in self.dealers[instance].sent] if instance in self.dealers else []


def call(context: FakeRequestContext, *, left: float = 5.0, api: str = "auth", **options: Any) -> OutboundCall:
    """Return an open call."""
    kwargs = options.pop("kwargs", {"user": "sally"})
    return OutboundCall(context, api, "check", Deadline.after(left), kwargs, **options)


def run(test: Callable[[FakeRequestContext, Caller], Awaitable[None]], *peers: Peer, **options: Any) -> None:
    """Run a test with the channel of a loop."""

    async def main() -> None:
        context = FakeRequestContext(*peers, **options)
        caller = Caller(context)
        try:
            await test(context, caller)
            assert len(caller.pending) == 0
        finally:
            caller.close()

    asyncio.run(main())


def refusal(code: str = "peer_busy", **details: Any) -> Error:
    """Return the answer of a peer that did not start the call."""
    return Error(code, "it is full.", False, {"elsewhere": True, **details})
