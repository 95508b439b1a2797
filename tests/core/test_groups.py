"""Members and partitions: one owner at a time, no partition unused, and reports of old assignments do not count."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lightbus.core.groups import Group, LostPartitions, MemberAssignment

ALL = tuple(range(16))


def group() -> Group:
    """Return a group without members."""
    return Group("auth\0shop", 16)


def test_single_member_gets_all_partitions() -> None:
    """The first member is assigned all partitions."""
    made = group()
    assert made.join("a", 0.0) == [MemberAssignment("a", 2, ALL)]
    assert made.held_by("a") == list(ALL)


def test_second_member_waits_for_releases() -> None:
    """Its partitions are revoked first, and assigned to it once they are released."""
    made = group()
    made.join("a", 0.0)
    changes = {each.member: each for each in made.join("b", 0.0)}
    assert changes["b"].partitions == ()
    moved = tuple(p for p in ALL if p not in changes["a"].partitions)
    assert moved
    assert made.held_by("a") == list(ALL)  # until it reports the release
    [given] = made.released("a", changes["a"].generation, moved)
    assert given == MemberAssignment("b", given.generation, moved)
    assert given.generation > changes["a"].generation


def test_leaving_member_frees_its_partitions() -> None:
    """They are assigned to the others at once: it has finished them."""
    made = group()
    made.join("a", 0.0)
    made.join("b", 0.0)
    assert made.leave("a") == [MemberAssignment("b", made.generation, ALL)]
    assert made.leave("b") == []
    assert made.leave("nobody") == []


def test_lost_member_leaves_unfinished_partitions() -> None:
    """`lost` returns the partitions that may have started events."""
    made = group()
    made.join("a", 0.0)
    assert made.lost("a") == (LostPartitions("a", ALL), [])
    assert made.holdings == {}


def test_reports_of_older_assignments_do_not_count() -> None:
    """A member that joined again is not trusted with earlier reports; nor is one that never held the partition."""
    made = group()
    [first] = made.join("a", 0.0)
    assert made.holds("a", first.generation, 3)
    [again] = made.join("a", 1.0)
    assert not made.holds("a", first.generation, 3)
    assert made.holds("a", again.generation, 3)
    assert not made.holds("b", again.generation, 3)
    assert not made.holds("a", again.generation, 16)


def test_rejoining_member_delays_nothing() -> None:
    """A partition revoked from it before goes to its new owner at once: the member has forgotten it."""
    made = group()
    made.join("a", 0.0)
    asked = {each.member: each for each in made.join("b", 0.0)}
    again = {each.member: each for each in made.join("a", 1.0)}
    assert again["a"].partitions == asked["a"].partitions
    assert sorted(again["a"].partitions + again["b"].partitions) == list(ALL)


def test_report_that_crosses_an_assignment_counts() -> None:
    """For a partition kept through an assignment, reports of both generations count."""
    made = group()
    [first] = made.join("a", 0.0)
    changes = {each.member: each for each in made.join("b", 0.0)}
    kept = changes["a"].partitions[0]
    assert made.holds("a", first.generation, kept)
    assert made.holds("a", changes["a"].generation, kept)


def test_silent_members_are_named() -> None:
    """Members silent for longer than the timeout are returned; others are not counted as members."""
    made = group()
    made.join("a", 0.0)
    made.join("b", 5.0)
    assert made.silent(10.0, 10.0) == []
    assert made.silent(10.1, 10.0) == ["a"]
    assert made.record_activity("a", 9.0)
    assert made.silent(10.1, 10.0) == []
    assert not made.record_activity("c", 9.0)


def test_renewing_changes_the_generation_only() -> None:
    """A member can get its assignment again."""
    made = group()
    [first] = made.join("a", 0.0)
    assert made.renew("a") == [MemberAssignment("a", first.generation + 1, ALL)]
    assert made.renew("b") == []


def test_publishers_with_the_same_members_assign_alike() -> None:
    """In any order of joining."""
    one, other = group(), group()
    for name in ("a", "b", "c"):
        one.join(name, 0.0)
    for name in ("c", "a", "b"):
        other.join(name, 0.0)
    for each in (one, other):
        for _ in range(3):
            for name in ("a", "b", "c"):
                each.released(name, each.generation, ALL)
    assert [one.assigned_to(name) for name in "abc"] == [other.assigned_to(name) for name in "abc"]


class Membership(RuleBasedStateMachine):
    """Any order of joining, leaving, losing and releasing."""

    def __init__(self) -> None:
        super().__init__()
        self.group = group()
        self.told: dict[str, MemberAssignment] = {}
        self.has: dict[str, set[int]] = {}

    def take(self, assignments: list[MemberAssignment]) -> None:
        """Act like members: keep their partitions, and take new ones. They release revoked ones later."""
        for each in assignments:
            assert each.generation > self.told.get(each.member, MemberAssignment("", 0, ())).generation
            self.told[each.member] = each
            self.has.setdefault(each.member, set()).update(each.partitions)

    @rule(member=st.sampled_from("abcd"))
    def join(self, member: str) -> None:
        self.has[member] = set()
        self.take(self.group.join(member, 0.0))

    @rule(member=st.sampled_from("abcd"))
    def leave(self, member: str) -> None:
        self.has.pop(member, None)
        self.take(self.group.leave(member))

    @rule(member=st.sampled_from("abcd"))
    def lose(self, member: str) -> None:
        lost, assignments = self.group.lost(member)
        assert set(lost.partitions) >= self.has.pop(member, set())
        self.take(assignments)

    @rule(member=st.sampled_from("abcd"), late=st.booleans())
    def release(self, member: str, late: bool) -> None:
        if member in self.has:
            gone = self.has[member] - set(self.told[member].partitions)
            if not late:
                self.has[member] -= gone
            self.take(self.group.released(member, self.told[member].generation - late, gone if not late else ()))

    @rule()
    def all_release(self) -> None:
        """Once all revoked partitions are released, each is held by its owner."""
        for _ in range(len(ALL)):
            for member in list(self.has):
                self.release(member, late=False)
        assert sum(map(len, self.has.values())) == (len(ALL) if self.has else 0)
        for member, partitions in self.has.items():
            assert tuple(sorted(partitions)) == self.group.assigned_to(member)
        other = group()
        for member in sorted(self.has):
            other.join(member, 0.0)
            for each in sorted(self.has):
                other.released(each, other.generation, ALL)
        assert other.members.keys() == self.has.keys()
        assert all(other.assigned_to(member) == self.group.assigned_to(member) for member in self.has)

    @rule(member=st.sampled_from("abcd"), back=st.integers(0, 9), partition=st.sampled_from(ALL))
    def speak_of_the_past(self, member: str, back: int, partition: int) -> None:
        """A report counts for partitions held since the generation that it names, and for nothing else."""
        generation = self.group.generation - back
        if self.group.holds(member, generation, partition):
            assert partition in self.has[member]

    @invariant()
    def a_partition_has_one_owner(self) -> None:
        """No member is assigned a partition that another has not released."""
        everything = [partition for partitions in self.has.values() for partition in partitions]
        assert len(everything) == len(set(everything))

    @invariant()
    def nothing_lies_about(self) -> None:
        """If there is a member, every partition is held."""
        held = [p for member in self.group.members for p in self.group.held_by(member)]
        assert sorted(held) == (list(ALL) if self.group.members else [])


TestMembership = Membership.TestCase
