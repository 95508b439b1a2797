"""The limits on the bytes of names: of one group, of all groups, and after removals."""

from __future__ import annotations

import pytest

from lightbus.events.groups import name_budget
from lightbus.events.groups.name_budget import NameBudget
from lightbus.exceptions import PeerBusy


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use limits that a test can reach."""
    monkeypatch.setattr(name_budget, "MAX_BYTES_OF_GROUP", 10)
    monkeypatch.setattr(name_budget, "MAX_BYTES", 25)


def test_names_of_one_group_are_bounded_in_bytes() -> None:
    """Bytes count, not characters; a group keeps its names if more are refused."""
    budget = NameBudget()
    budget.take("auth", "shop", ["seen", "gone"])
    for names in (["x" * 11], ["ö" * 6], ["seen", "gone", "new"]):
        with pytest.raises(PeerBusy, match=r"the group shop of auth .* and 10 is the most"):
            budget.take("auth", "shop", names)
    budget.take("auth", "shop", ["ö" * 5])


def test_names_of_all_groups_are_bounded() -> None:
    """A group that joins again counts once, and a removed one not at all."""
    budget = NameBudget()
    for group in ("a", "b", "a"):
        budget.take("auth", group, ["x" * 10])
    budget.take("auth", "c", ["12345"])
    with pytest.raises(PeerBusy, match=r"3 groups listen to take 25 bytes already, and 25 is the most"):
        budget.take("auth", "d", ["x"])
    budget.take("auth", "a", ["less"])
    budget.take("auth", "d", ["x"])
    budget.release("auth", "b")
    budget.release("auth", "unknown")
    budget.take("auth", "e", ["x" * 10])


def test_groups_on_disk_are_accepted() -> None:
    """Events are kept for them: they are not refused, but count for later groups."""
    budget = NameBudget()
    budget.take("auth", "shop", ["x" * 30], bounded=False)
    with pytest.raises(PeerBusy):
        budget.take("auth", "mail", ["x"])
    budget.take("auth", "shop", ["y" * 9])
    budget.take("auth", "mail", ["x"])
