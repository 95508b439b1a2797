"""How a group stands whose events are moved."""

from __future__ import annotations

from lightbus.ports.events import EventTopic
from lightbus.ports.moving import StandingGroup

SEEN, SOLD = EventTopic("seen", 1), EventTopic("sold", 1)


def test_what_is_in_front_of_a_cursor_is_handled() -> None:
    """Or in front of where the group has begun, for a topic of which it has handled nothing."""
    group = StandingGroup("mail", ("*",), 0.0, 3, {SEEN: 7}, {})
    assert [group.has_handled(SEEN, n) for n in (3, 7, 8)] == [True, True, False]
    assert [group.has_handled(SOLD, n) for n in (3, 4)] == [True, False]
