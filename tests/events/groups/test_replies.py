"""The replies of a coordinator."""

from __future__ import annotations

from lightbus.events.groups.replies import sender
from lightbus.wire import envelope
from lightbus.wire.envelope import Acked


def test_a_reply_goes_to_the_sender_of_the_request() -> None:
    """By its routing id, and with the number of the request."""
    sent: list[tuple[bytes, bytes]] = []

    def reply(routing_id: bytes, frame: bytes) -> bool:
        sent.append((routing_id, frame))
        return True

    sender(reply)(b"me", 7, Acked([3]))
    [(routing_id, frame)] = sent
    assert (routing_id, envelope.decode(frame)) == (b"me", (7, Acked([3])))
