"""One consumer group at one publisher: its members, and the partitions that each holds. Facts in, facts out.

Each publisher decides for its own journals alone. By the rendezvous hash, publishers mostly agree, so that a key stays
with one member; nothing breaks if they do not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from .partitions import rendezvous

__all__ = ["Group", "LostPartitions", "MemberAssignment"]


class MemberAssignment(NamedTuple):
    """The partitions that a member holds from now on. It must finish and release all others that it holds."""

    member: str
    generation: int
    partitions: tuple[int, ...]


class LostPartitions(NamedTuple):
    """Partitions whose owner is gone without having finished: it may have started the events delivered to it."""

    member: str
    partitions: tuple[int, ...]


@dataclass(slots=True)
class _Holding:
    """A member's hold of a partition since `generation`: reports of older generations do not concern it."""

    member: str
    generation: int
    revoked: bool = False


@dataclass(slots=True)
class Group:
    """
    The assignment of partitions to the members of a group. Only touched from the loop it belongs to.

    A partition has one owner at a time: before it moves, its owner releases it (`released`), or is gone (`lost`).
    Every assignment has a generation; a report of a member counts for the partitions that it has held since that
    generation or an earlier one.

    Args:
        name: the group's name; part of the hash, so that groups distribute their partitions differently.
        partitions: the number of partitions.

    """

    name: str
    partitions: int
    generation: int = 0
    members: dict[str, float] = field(default_factory=dict)
    """For each member, the time of its last sign of life, by the clock of `now`."""
    holdings: dict[int, _Holding] = field(default_factory=dict)

    def join(self, member: str, now: float) -> list[MemberAssignment]:
        """Add a member, or add it again; return the changed assignments, which include its own."""
        self.generation += 1
        self.members[member] = now
        for partition in self.held_by(member):
            # A member that joins again has forgotten its partitions: it starts after the acknowledged events, and
            # would never release the partitions revoked before.
            del self.holdings[partition]
        return self._balance(also=member)

    def renew(self, member: str) -> list[MemberAssignment]:
        """Return the assignment of a member under a new generation: it must fetch the unhandled events again."""
        if member not in self.members:
            return []
        self.generation += 1
        return [MemberAssignment(member, self.generation, self.assigned_to(member))]

    def leave(self, member: str) -> list[MemberAssignment]:
        """Remove a member that has finished all its events."""
        return self._without(member)

    def lost(self, member: str) -> tuple[LostPartitions, list[MemberAssignment]]:
        """Record that a member is gone; return its unfinished partitions, and the changed assignments."""
        held = tuple(self.held_by(member))
        return LostPartitions(member, held), self._without(member)

    def released(self, member: str, generation: int, partitions: Iterable[int]) -> list[MemberAssignment]:
        """Record that a member has released revoked partitions."""
        for partition in partitions:
            holding = self.holdings.get(partition)
            if holding is not None and holding.revoked and self.holds(member, generation, partition):
                del self.holdings[partition]
        return self._balance()

    def record_activity(self, member: str, now: float) -> bool:
        """Record a sign of life; return whether it came from a member of the group."""
        if member not in self.members:
            return False
        self.members[member] = now
        return True

    def silent(self, now: float, timeout: float) -> list[str]:
        """Return the members that gave no sign of life for longer than `timeout` seconds."""
        return [name for name, heard_at in self.members.items() if now - heard_at > timeout]

    def holds(self, member: str, generation: int, partition: int) -> bool:
        """Return whether a member holds a partition, and already held it in the generation that it names."""
        holding = self.holdings.get(partition)
        return holding is not None and holding.member == member and generation >= holding.generation

    def held_by(self, member: str) -> list[int]:
        """Return the partitions that a member has not released."""
        return sorted(partition for partition, holding in self.holdings.items() if holding.member == member)

    def assigned_to(self, member: str) -> tuple[int, ...]:
        """Return the partitions that are assigned to a member."""
        mine = (p for p, holding in self.holdings.items() if holding.member == member and not holding.revoked)
        return tuple(sorted(mine))

    def _without(self, member: str) -> list[MemberAssignment]:
        self.members.pop(member, None)
        for partition in self.held_by(member):
            del self.holdings[partition]
        return self._balance()

    def _balance(self, also: str = "") -> list[MemberAssignment]:
        """
        Grant free partitions to their owners, revoke those that belong to others; return the assignments that changed.

        Rule: a partition that has a holder is never granted to another member. It is revoked, and granted once its
        holder has released it, so that no two members handle it at a time. The owner is chosen by rendezvous hashing
        over the members: all publishers of a group compute the same one without communication, and only partitions of
        members that joined or left move. One whose holder becomes its owner again counts as a new grant: a release
        under an older generation may still arrive, and must not end this holding.
        """
        changed = {also} if also in self.members else set()
        granted = []
        for partition in range(self.partitions):
            owner = rendezvous(f"{self.name}\0{partition}", self.members)
            holding = self.holdings.get(partition)
            if owner is None:
                continue
            if holding is None:
                granted.append((partition, owner))
                changed.add(owner)
            elif holding.revoked != (holding.member != owner):
                holding.revoked = holding.member != owner
                if not holding.revoked:
                    holding.generation = self.generation + 1  # its holder may have begun to release it
                changed.add(holding.member)
        if not changed:
            return []
        self.generation += 1
        for partition, owner in granted:
            self.holdings[partition] = _Holding(owner, self.generation)
        return [MemberAssignment(name, self.generation, self.assigned_to(name)) for name in sorted(changed)]
