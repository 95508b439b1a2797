"""The names of topics' events."""

from __future__ import annotations

import pytest

from lightbus.wire.event_names import declared_event, name_for_group, only_group_of


@pytest.mark.parametrize("group", ["shop-mail", "mail for all", "g"])
def test_event_for_one_group(group: str) -> None:
    """Event and group can be read from the name, whatever the group's name is."""
    name = name_for_group("seen", group)
    assert (declared_event(name), only_group_of(name)) == ("seen", group)


def test_event_for_all_groups() -> None:
    """It has its declared name, and no group."""
    assert (declared_event("seen"), only_group_of("seen")) == ("seen", "")
