"""Calls that await a reply: matching replies, expired deadlines, and calls that fail when a peer leaves."""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lightbus.core.calls import PendingCall, PendingCalls

PEERS = ["a", "b", "c"]
peers = st.sampled_from(PEERS)


class AnySequence(RuleBasedStateMachine):
    """For any sequence each call ends once: answered, expired, lost, forgotten or closed."""

    @initialize()
    def start(self) -> None:
        self.calls: PendingCalls[str] = PendingCalls()
        self.now = 0.0
        self.open: dict[int, tuple[str, float, bool]] = {}
        self.given: list[int] = []
        self.late = 0

    def ended(self, call_id: int, call: PendingCall[str]) -> None:
        """Check that this call was open, is unchanged, and is open no more."""
        peer, deadline, sent = self.open.pop(call_id)
        assert (call.peer, call.deadline, call.sent, call.waiter) == (peer, deadline, sent, f"waiter {call_id}")
        assert call_id not in self.calls

    @rule(peer=peers, left=st.sampled_from([-1.0, 0.0, 0.5, 5.0]))
    def add(self, peer: str, left: float) -> None:
        call_id = self.calls.add(peer, self.now + left, f"waiter {len(self.given) + 1}")
        assert call_id not in self.given
        assert call_id > max(self.given, default=0)
        self.given.append(call_id)
        self.open[call_id] = (peer, self.now + left, True)
        assert call_id in self.calls

    @rule(data=st.data(), sent=st.booleans())
    def mark(self, data: st.DataObject, sent: bool) -> None:
        call_id = data.draw(st.integers(0, len(self.given) + 1))
        self.calls.mark_sent(call_id, sent=sent)
        if call_id in self.open:
            peer, deadline, _ = self.open[call_id]
            self.open[call_id] = (peer, deadline, sent)

    @rule(data=st.data(), peer=peers)
    def answer(self, data: st.DataObject, peer: str) -> None:
        call_id = data.draw(st.integers(0, len(self.given) + 1))
        call = self.calls.answered(call_id, peer)
        assert (call is not None) is (call_id in self.open and self.open[call_id][0] == peer)
        if call is None:
            self.late += 1
        else:
            self.ended(call_id, call)

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        call_id = data.draw(st.integers(0, len(self.given) + 1))
        call = self.calls.forget(call_id)
        assert (call is not None) is (call_id in self.open)
        if call is not None:
            self.ended(call_id, call)

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for call_id, call in self.calls.expired(self.now):
            assert call.deadline <= self.now
            self.ended(call_id, call)
        assert all(deadline > self.now for _, deadline, _ in self.open.values())

    @rule(peer=peers)
    def lose(self, peer: str) -> None:
        for call_id, call in self.calls.peer_lost(peer):
            assert call.peer == peer
            self.ended(call_id, call)
        assert peer not in self.calls.in_flight  # a lost peer leaves no entry
        assert all(other != peer for other, _, _ in self.open.values())

    @rule()
    def close(self) -> None:
        for call_id, call in self.calls.all():
            self.ended(call_id, call)
        assert not self.open

    @invariant()
    def counts_match(self) -> None:
        assert len(self.calls) == len(self.open)
        assert all(call_id in self.calls for call_id in self.open)
        in_flight = Counter(peer for peer, _, _ in self.open.values())
        assert self.calls.in_flight == in_flight
        assert self.calls.late_replies == self.late


TestAnySequence = AnySequence.TestCase


def test_late_reply_is_counted() -> None:
    """It goes to no other call."""
    calls: PendingCalls[str] = PendingCalls()
    first = calls.add("a", 1.0, "first")
    assert calls.forget(first) is not None
    second = calls.add("a", 1.0, "second")
    assert calls.answered(first, "a") is None
    assert calls.late_replies == 1
    assert second in calls


def test_reply_of_another_peer_is_counted() -> None:
    """It answers no call of somebody else, whose own reply is awaited as before."""
    calls: PendingCalls[str] = PendingCalls()
    call_id = calls.add("a", 1.0, "first")
    assert calls.answered(call_id, "b") is None
    assert calls.late_replies == 1
    call = calls.answered(call_id, "a")
    assert call is not None
    assert call.waiter == "first"


def test_expired_calls_are_returned_in_order() -> None:
    """Once; others stay."""
    calls: PendingCalls[str] = PendingCalls()
    one, _, three = calls.add("a", 5.0, "one"), calls.add("b", 9.0, "two"), calls.add("a", 4.0, "three")
    assert [call_id for call_id, _ in calls.expired(5.0)] == [one, three]
    assert calls.expired(5.0) == []
    assert calls.in_flight == Counter({"b": 1})
