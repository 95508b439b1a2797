"""Whether a group makes progress with its events: whether it has members, and what two readings show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ...wire.announcement import Announcement

__all__ = [
    "BEHIND",
    "BETWEEN_LOOKS",
    "GroupProblem",
    "group_at",
    "group_problem",
    "group_problems",
    "named",
    "silent_members",
    "stopped_listeners",
    "summed",
    "unhandled",
]

BETWEEN_LOOKS = 2.0
"""Seconds between the two readings."""

MOST_NAMED = 3
"""The most publishers that one sentence names; of the others it gives the number."""

BEHIND = 1000
"""A lag up to which a growing lag is no problem: the group is just busy."""


class GroupProblem(NamedTuple):
    """A problem of a group, and the remedy; `is_deserted` if the group has events and no process that handles them."""

    text: str
    remedy: str
    is_deserted: bool = False


GroupPair = tuple[Mapping[str, Any], Mapping[str, Any] | None]
"""Two reports of a publisher on a group, `BETWEEN_LOOKS` seconds apart; the second may be missing."""


def group_problems(
    reports: Sequence[Mapping[str, Any]], pairs: Iterable[GroupPair], stopped: str, **silent: Any
) -> Iterator[GroupProblem]:
    """
    Yield the problems of one group: each problem once, even if several publishers have it.

    Args:
        reports: the report of each publisher, with `publisher` and `instance`.
        pairs: the first and the second report of each publisher that was asked twice.
        stopped: the process in which the group's listener has stopped; empty if none.
        silent: the arguments of `unhandled` about peers that do not answer.

    """
    waiting = [each for each in reports if each["lag"]]
    if waiting and not any(each["members"] for each in reports):
        yield unhandled(group_at(waiting), summed(waiting), stopped, **silent)
    alike: defaultdict[str, list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = defaultdict(list)
    for first, second in pairs:
        if second is not None and (found := group_problem("", first, second)) is not None:
            alike[found.remedy].append((first, second))
    for several in alike.values():
        firsts, seconds = zip(*several, strict=True)
        together = group_problem(group_at(seconds), summed(firsts), summed(seconds))
        assert together is not None  # a problem of each of them is one of their sums
        yield together
    if mixed := [each for each in reports if each["mixed"]]:
        yield GroupProblem(
            f"two different programs listen as {group_at(mixed)}: each is given a part of the events.",
            "Give one of them another service_name or listener_name.",
        )


def group_at(reports: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of a group in a sentence, with its APIs and publishers."""
    apis = " and ".join(sorted({each["api"] for each in reports}))
    places = named({f"{each['publisher']} {each['instance'][:4]}" for each in reports})
    return f"the group {reports[0]['name']} of {apis} at {places}"


def named(places: Collection[str]) -> str:
    """Return the first of several places, and the number of the others."""
    shown = ", ".join(sorted(places)[:MOST_NAMED])
    return f"{shown} and {len(places) - MOST_NAMED} more" if len(places) > MOST_NAMED else shown


def summed(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the reports of several publishers on a group as one report, with summed counts."""
    counts = [name for name in ("lag", "acks") if all(name in each for each in reports)]
    return {**reports[0], **{name: sum(each[name] for each in reports) for name in counts}}


def group_problem(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> GroupProblem | None:
    """
    Return the problem of a group with members; None if it makes progress.

    Args:
        name: the name of the group in the text.
        first: a report of its publisher: `lag` in events, and `acks`, the number of acknowledgements so far.
        second: the report `BETWEEN_LOOKS` seconds later.

    """
    before, now = int(first["lag"]), int(second["lag"])
    if not before or not now:
        return None
    if first.get("acks", -1) == second.get("acks", -2):
        return GroupProblem(
            f"{name} has {before} events to handle, and handled none for {BETWEEN_LOOKS:g} s.",
            "Does a handler hang, or does one event fail again and again (RETRY)? Look at the log of its processes, "
            "and at `lightbus top`.",
        )
    if now > max(before, BEHIND):
        return GroupProblem(
            f"{name} has {now} events to handle, {now - before} more than {BETWEEN_LOOKS:g} s ago.",
            "It handles fewer than are fired. Have more of its processes run, raise the `concurrency` of the listener, "
            "or see what takes the handler so long; `lightbus lag` shows whether it catches up.",
        )
    return None


def unhandled(
    name: str, group: Mapping[str, Any], stopped: str, *, silent: str = "", is_anybody_silent: bool = False
) -> GroupProblem:
    """
    Return the problem of a group that has events and no member.

    Args:
        name: the name of the group in the text.
        group: the report of its publisher: `lag` in events, and its `name`.
        stopped: the process in which the group's listener has stopped; empty if none.
        silent: the processes of its service that do not answer; empty if none.
        is_anybody_silent: whether any peer did not answer, which may be a member of the group.

    """
    text = f"{name} has {group['lag']} events to handle and "
    if stopped:
        return GroupProblem(
            f"{text}no listener: that of {stopped} has stopped.", "Mend its handler, and start the worker again.", True
        )
    if silent:
        return GroupProblem(
            f"{text}no process that answers: {silent} does not.",
            "It may hang, or have been stopped (`kill -CONT` continues it): `lightbus doctor` says how it is. If it "
            "stays so, end it and start it again: the events are kept.",
            True,
        )
    return GroupProblem(
        f"{text}no process.",
        ("Who does not answer may be it: see above." if is_anybody_silent else "Start its service.")
        + f" To delete for good what is kept for it: `lightbus groups remove {group['name']}`.",
        True,
    )


def silent_members(group: str, silent: Iterable[Announcement]) -> str:
    """Return the silent peers that may be members of a group, as text; empty if none may be."""
    return ", ".join(str(each) for each in silent if group.startswith(f"{each.service}-"))


def stopped_listeners(reports: Iterable[tuple[Announcement, Mapping[str, Any]]]) -> dict[tuple[str, str], str]:
    """Return (API, group name) of stopped listeners -> the process of the listener."""
    return {
        (listener["api"], f"{announcement.service}-{listener['name']}"): str(announcement)
        for announcement, stats in reports
        for listener in stats.get("listeners", ())
        if listener.get("stopped")
    }
