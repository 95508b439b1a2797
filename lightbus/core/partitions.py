"""The partition of an event, and the member responsible for a key. Arithmetic, no state."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

__all__ = ["partition_of", "rendezvous"]


def partition_of(key: str, partitions: int) -> int:
    """Return the partition of a key: the same in every process and every version of Python."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") % partitions


def rendezvous(key: str, members: Iterable[str]) -> str | None:
    """
    Return the member responsible for `key`; None if there is no member.

    Highest random weight (Thaler and Ravishankar, 1998): all processes that know the same members compute the same
    answer without communication, and only the keys of a leaving member move.
    """
    return max(members, key=lambda member: (_weight(key, member), member), default=None)


def _weight(key: str, member: str) -> bytes:
    return blake2b(f"{member}\0{key}".encode(), digest_size=8).digest()
