"""`bus.auth.name()`: a call or an event, found out within one deadline."""

from __future__ import annotations

import pytest

from helpers import Stopwatch, wait_until
from lightbus import BusPath, InvalidParameters, UnknownApi
from lightbus.testing import MemoryBus


def test_calling_an_event_fires_it(hub: MemoryBus, bus: BusPath, caller: BusPath) -> None:
    """With the event's options; without a publisher a known event is stored, as by `fire`."""
    kept = bus.auth.user_registered(username="sally", bus_options={"wait_for": "journal"})
    outbox = bus.client.engine.outbox
    assert [each.id for each in outbox.waiting()] == [kept.id]
    wait_until(lambda: not outbox.waiting())  # it publishes it itself
    with pytest.raises(UnknownApi):
        caller.mail.sent(number=1, bus_options={"wait_for": "journal"})
    outbox.note_seen("mail", "sent")
    also_kept = caller.mail.sent(number=1, bus_options={"wait_for": "journal"})
    assert [each.id for each in outbox.waiting()] == [also_kept.id]
    with pytest.raises(InvalidParameters, match="no option 'idempotent'"):
        caller.mail.sent(number=1, bus_options={"idempotent": True})
    with pytest.raises(InvalidParameters, match="no option 'wait_for'"):
        bus.auth.check_password(username="sally", password="secret", bus_options={"wait_for": "ack"})
    bus.client.start_in_background()
    newcomer = hub.create(service_name="newcomer")
    try:
        fired = newcomer.auth.user_registered(username="ada", bus_options={"wait_for": "ack"})
        assert fired.publisher == bus.client.engine.identity.instance
    finally:
        newcomer.client.close()


def test_one_timeout_for_looking_and_calling(caller: BusPath) -> None:
    """The timeout of a call includes the search for its API."""
    for place in (caller.nowhere.nothing, caller.nowhere.nothing.call, caller.nowhere.nothing.fire):
        watch = Stopwatch()
        with pytest.raises(UnknownApi):
            place(bus_options={"timeout": 0.05})
        assert watch.seconds < 0.8  # of the second that a fresh process would wait
