"""The names of the events of topics."""

from __future__ import annotations

import pytest

from lightbus.wire.event_names import declared_event, name_for_group, only_group_of


@pytest.mark.parametrize("group", ["shop-mail", "mail for all", "g"])
def test_event_for_one_group(group: str) -> None:
    """Both can be read from the name, whatever the group is called."""
    name = name_for_group("seen", group)
    assert (declared_event(name), only_group_of(name)) == ("seen", group)


def test_event_for_everybody() -> None:
    """It has the name that it was declared with, and no group of its own."""
    assert (declared_event("seen"), only_group_of("seen")) == ("seen", "")
