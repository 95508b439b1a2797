"""A coordinator answers by frames to whoever asked."""

from __future__ import annotations

from lightbus.events.groups.replies import sender
from lightbus.wire import envelope
from lightbus.wire.envelope import Acked


def test_a_message_is_sent_as_the_answer_to_its_question() -> None:
    """By its routing id, and with the number of the question."""
    sent: list[tuple[bytes, bytes]] = []

    def reply(routing_id: bytes, frame: bytes) -> bool:
        sent.append((routing_id, frame))
        return True

    sender(reply)(b"me", 7, Acked([3]))
    [(routing_id, frame)] = sent
    assert (routing_id, envelope.decode(frame)) == (b"me", (7, Acked([3])))
