"""The partition of an event, and the member responsible for a key."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.core.partitions import partition_of, rendezvous

MEMBERS = ["1a0f", "2b1e", "3c2d", "4d3c"]
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
members = st.lists(st.text("0123456789abcdef", min_size=1, max_size=16), unique=True, max_size=8)


@pytest.mark.parametrize(
    ("key", "partition"),
    [("", 4), ("a", 15), ("customer-1", 13), ("customer-2", 3), ("Zoë", 10), ("x" * 1000, 7)],
)
def test_the_partition_of_a_key_never_changes(key: str, partition: int) -> None:
    """A key has the same partition in every version: both sides, and journals on disk, depend on it."""
    assert partition_of(key, 16) == partition


@pytest.mark.parametrize(
    ("key", "member"), [("", "2b1e"), ("a", "3c2d"), ("customer-1", "4d3c"), ("customer-2", "2b1e"), ("Zoë", "1a0f")]
)
def test_the_member_for_a_key_never_changes(key: str, member: str) -> None:
    """Peers of different versions agree on who is responsible."""
    assert rendezvous(key, MEMBERS) == member


@given(keys, st.integers(1, 64))
def test_every_key_has_a_valid_partition(key: str, partitions: int) -> None:
    """One of the existing partitions."""
    assert 0 <= partition_of(key, partitions) < partitions


@given(keys, members, st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(key: str, members: list[str], random: object) -> None:
    """The same members give the same answer; without members there is none."""
    shuffled = list(members)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    chosen = rendezvous(key, members)
    assert rendezvous(key, shuffled) == chosen
    assert (chosen in members) if members else (chosen is None)


@given(keys, members.filter(bool), st.integers(0, 7))
def test_a_member_that_leaves_moves_only_its_own_keys(key: str, members: list[str], number: int) -> None:
    """Keys of other members stay."""
    leaving = members[number % len(members)]
    before = rendezvous(key, members)
    after = rendezvous(key, [member for member in members if member != leaving])
    assert after == before or before == leaving


def test_keys_spread_evenly() -> None:
    """A thousand keys are spread over all partitions, and all members, in roughly equal numbers."""
    many = [f"customer-{number}" for number in range(1600)]
    partitions = Counter(partition_of(key, 16) for key in many)
    owners = Counter(rendezvous(key, MEMBERS) for key in many)
    assert set(partitions) == set(range(16))
    assert all(60 <= count <= 140 for count in partitions.values())
    assert all(320 <= count <= 480 for count in owners.values())
