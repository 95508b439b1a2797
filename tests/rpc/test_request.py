from __future__ import annotations

import time
from dataclasses import replace

import pytest

from helpers.calling import ME, A, B, FakeRequestContext, call, peer, refusal, snapshot
from lightbus.core.partitions import rendezvous
from lightbus.core.peers import Peer
from lightbus.deadline import Deadline
from lightbus.exceptions import DeformError, PayloadTooLarge, PeerBusy, PeerLost, PeerUnreachable
from lightbus.rpc.request import NeverSent, NotStarted, OutboundEvent, OutboundRequest, carry_out
from lightbus.wire.api_info import ApiInfo
from lightbus.wire.envelope import AnyMessage, Result


def test_the_least_loaded_peer_is_asked() -> None:
    """Of two peers, the one with fewer of our open calls gets the next."""
    context = FakeRequestContext(peer(A), peer(B))
    for _ in range(20):
        chosen = call(context).pick(context.snapshot, {A: 3, B: 1})
        assert chosen is not None
        assert chosen.instance == B


def test_a_call_goes_to_peers_that_serve_it() -> None:
    """A peer that only publishes the API's events is asked if there is no other; an event goes to any of them."""
    infos = (ApiInfo(name="auth", events=("seen",)),)
    publisher = peer(A)
    publisher = replace(publisher, announcement=replace(publisher.announcement, apis=infos, api_names=None))
    alone, both = FakeRequestContext(publisher), FakeRequestContext(publisher, peer(B))
    assert call(alone).pick(alone.snapshot, {}) is None
    assert call(alone).pick(alone.snapshot, {}, resolved=True) == publisher
    for resolved in (False, True):
        assert call(both).pick(both.snapshot, {B: 9}, resolved=resolved) == peer(B)
    event = OutboundEvent(alone, "auth", "seen", Deadline.after(5.0), b"", None)
    assert event.pick(alone.snapshot, {}) == publisher


def test_a_key_sticks_to_a_publisher() -> None:
    """Events with one key go to one publisher, whatever its load; without it to another, and then back."""
    peers = (peer(A), peer(B))
    context = FakeRequestContext(*peers)
    event = OutboundEvent(context, "auth", "seen", Deadline.after(5.0), b"", "customer-1")
    first = rendezvous("customer-1", [A, B])
    chosen = event.pick(context.snapshot, {A: 9, B: 9})
    assert chosen is not None
    assert chosen.instance == first
    event.refused(chosen, NotStarted(refusal()))
    other = event.pick(context.snapshot, {})
    assert other is not None
    assert other.instance != first
    event.not_sent(other)
    with pytest.raises(PeerUnreachable, match=r"No peer takes auth\.seen: .* went away before auth\.seen was sent"):
        event.pick(context.snapshot, {})


def test_events_without_a_key_stick_to_a_publisher() -> None:
    """Without keys, all events of a process go to one publisher, so that they stay in order."""
    context = FakeRequestContext(peer(A), peer(B))
    expected = rendezvous(ME.instance, [A, B])
    for _ in range(5):
        event = OutboundEvent(context, "auth", "seen", Deadline.after(5.0), b"", None)
        chosen = event.pick(context.snapshot, {A: 9})
        assert chosen is not None
        assert chosen.instance == expected


def test_an_event_that_cannot_be_sent() -> None:
    """A hand-off has the same limits as a call."""
    context = FakeRequestContext(peer(A), max_message_size=100)
    event = OutboundEvent(context, "auth", "seen", Deadline.after(5.0), b"x" * 100, None)
    with pytest.raises(PayloadTooLarge, match=r"arguments of auth\.seen take \d+ bytes; a message may have 100"):
        event.frame(peer(A), 1)
    odd = OutboundEvent(context, "auth", "seen", Deadline(time.monotonic()), object(), None)  # type: ignore[arg-type]
    with pytest.raises(DeformError):
        odd.frame(peer(A), 1)


def test_an_event_that_only_some_peers_can_take() -> None:
    """It goes to a peer with a sufficient limit; if there is none, the error names both limits."""
    small, large = peer(A), peer(B)
    small = replace(small, announcement=replace(small.announcement, max_message_size=1500))
    event = OutboundEvent(FakeRequestContext(small, large), "auth", "seen", Deadline.after(5.0), b"x" * 2000, None)
    with pytest.raises(NotStarted) as refusal:
        event.frame(small, 1)
    event.refused(small, refusal.value)
    assert event.pick(snapshot(small, large), {}) is large
    assert event.frame(large, 1)
    with pytest.raises(
        PayloadTooLarge, match=r"take 20\d\d bytes; .* of 1500 bytes, and this process may send 10000\."
    ):
        event.pick(snapshot(small), {})


def test_the_base_request_has_no_message() -> None:
    """Calls and hand-offs define the message."""
    with pytest.raises(NotImplementedError):
        OutboundRequest(FakeRequestContext(), "auth", "check", Deadline.after(1.0)).message(peer(A))


class ScriptedChannel:
    """A channel without a connection: each peer that is asked returns one of `answers`, in order."""

    def __init__(self, context: FakeRequestContext, *answers: AnyMessage | Exception) -> None:
        self.asked: list[str] = []
        self.looked_for: list[str] = []
        self._context = context
        self._answers = iter(answers)

    def pick(self, outgoing: OutboundRequest, *, resolved: bool = False) -> Peer | None:
        return outgoing.pick(self._context.snapshot, {}, resolved=resolved)

    async def look_for(self, outgoing: OutboundRequest) -> None:
        self.looked_for.append(outgoing.api)

    async def ask(self, peer: Peer, outgoing: OutboundRequest) -> AnyMessage:
        self.asked.append(peer.instance)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def carried_out(channel: ScriptedChannel, outgoing: OutboundRequest, *wanted: str) -> object:
    """Return the outcome of a request if nothing suspends it, as in a plain thread."""
    with pytest.raises(StopIteration) as end:
        carry_out(channel, outgoing, wanted).send(None)
    return end.value.value


@pytest.mark.parametrize("answer", [NotStarted(refusal()), NeverSent()], ids=["refused", "never sent"])
def test_next_peer_is_asked_if_nothing_was_started(answer: Exception) -> None:
    """After a peer that certainly did not start the call, another one is asked, each once."""
    context = FakeRequestContext(peer(A), peer(B))
    channel = ScriptedChannel(context, answer, Result("done"))
    assert carried_out(channel, call(context), "auth") == "done"
    assert sorted(channel.asked) == [A, B]
    assert channel.looked_for == []


def test_lost_peer_is_replaced_only_for_idempotent_calls() -> None:
    """A call that may have been executed ends with PeerLost; an idempotent one goes to the next peer."""
    context = FakeRequestContext(peer(A), peer(B))
    channel = ScriptedChannel(context, PeerLost("it went away"))
    with pytest.raises(PeerLost, match="it went away"):
        carry_out(channel, call(context), {"auth"}).send(None)
    assert len(channel.asked) == 1
    channel = ScriptedChannel(context, PeerLost("it went away"), Result("done"))
    assert carried_out(channel, call(context, idempotent=True), "auth") == "done"
    assert sorted(channel.asked) == [A, B]


@pytest.mark.parametrize("answer", [NotStarted(refusal()), NeverSent()], ids=["refused", "never sent"])
def test_successor_of_a_peer_that_left_is_looked_up(answer: Exception) -> None:
    """If all peers that did not start a call have left, their successor is asked; without one, it is refused."""
    context = FakeRequestContext(peer(A))

    class Restarting(ScriptedChannel):
        async def ask(self, asked: Peer, outgoing: OutboundRequest) -> AnyMessage:
            context.snapshot = snapshot()
            return await super().ask(asked, outgoing)

        async def look_for(self, outgoing: OutboundRequest) -> None:
            await super().look_for(outgoing)
            if self.comes:
                context.snapshot = snapshot(peer(B))

        comes = True

    channel = Restarting(context, answer, Result("done"))
    assert carried_out(channel, call(context), "auth") == "done"
    assert (channel.asked, channel.looked_for) == ([A, B], ["auth"])
    context.snapshot = snapshot(peer(A))
    channel = Restarting(context, answer)
    channel.comes = False
    with pytest.raises((PeerBusy, PeerUnreachable), match="No peer takes"):
        carry_out(channel, call(context), {"auth"}).send(None)
    assert channel.looked_for == ["auth"]


def test_api_is_looked_up_before_its_first_call() -> None:
    """Known peers are not enough for an API that was never looked up; a fixed peer needs no look-up."""
    context = FakeRequestContext(peer(A))
    channel = ScriptedChannel(context, Result(1))
    assert carried_out(channel, call(context)) == 1
    assert channel.looked_for == ["auth"]
    channel = ScriptedChannel(context, Result(1))
    assert carried_out(channel, call(context, only=A)) == 1
    assert channel.looked_for == []
