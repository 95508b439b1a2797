"""The state of a group whose events are moved."""

from __future__ import annotations

from lightbus.ports.events import EventTopic
from lightbus.ports.moving import StandingGroup

SEEN, SOLD = EventTopic("seen", 1), EventTopic("sold", 1)


def test_events_up_to_the_cursor_are_handled() -> None:
    """Or up to the group's start, for a topic of which it has handled nothing."""
    group = StandingGroup("mail", ("*",), 0.0, 3, {SEEN: 7}, {})
    assert [group.has_handled(SEEN, n) for n in (3, 7, 8)] == [True, True, False]
    assert [group.has_handled(SOLD, n) for n in (3, 4)] == [True, False]
