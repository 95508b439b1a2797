"""Whether a group gets on with what it has to handle: whether there is anybody, and what two looks say together."""

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
    "named",
    "silent_members",
    "stopped_listeners",
    "summed",
    "troubles",
    "unhandled",
]

BETWEEN_LOOKS = 2.0
"""Seconds between the two looks."""

MOST_NAMED = 3
"""Publishers that one sentence names; of the others it says how many they are."""

BEHIND = 1000
"""Events that a group may have to handle without a word: it is busy."""


class GroupProblem(NamedTuple):
    """What is wrong with a group, and what to do about it; `is_deserted` where it has events and nobody who handles."""

    text: str
    remedy: str
    is_deserted: bool = False


GroupPair = tuple[Mapping[str, Any], Mapping[str, Any] | None]
"""What a publisher said of a group, and what it said a little earlier or later, if it did."""


def troubles(
    told: Sequence[Mapping[str, Any]], pairs: Iterable[GroupPair], stopped: str, **silent: Any
) -> Iterator[GroupProblem]:
    """
    Return what is wrong with one group: each thing once, at however many publishers it is so.

    Args:
        told: the report of each publisher, with `publisher` and `instance`.
        pairs: the first and the second look at it, for each publisher that was asked twice.
        stopped: the process in which a listener of it has stopped; empty where none has.
        silent: who does not answer, as `unhandled` is told.

    """
    waiting = [each for each in told if each["lag"]]
    if waiting and not any(each["members"] for each in told):
        yield unhandled(group_at(waiting), summed(waiting), stopped, **silent)
    alike: defaultdict[str, list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = defaultdict(list)
    for first, second in pairs:
        if second is not None and (found := group_problem("", first, second)) is not None:
            alike[found.remedy].append((first, second))
    for several in alike.values():
        firsts, seconds = zip(*several, strict=True)
        together = group_problem(group_at(seconds), summed(firsts), summed(seconds))
        assert together is not None  # what holds for each of them holds for their sums
        yield together
    if mixed := [each for each in told if each["mixed"]]:
        yield GroupProblem(
            f"two different programs listen as {group_at(mixed)}: each is given a part of the events.",
            "Give one of them another service_name or listener_name.",
        )


def group_at(told: Sequence[Mapping[str, Any]]) -> str:
    """Return how a group is called in a sentence, with where it is so: at which publishers."""
    apis = " and ".join(sorted({each["api"] for each in told}))
    places = named({f"{each['publisher']} {each['instance'][:4]}" for each in told})
    return f"the group {told[0]['name']} of {apis} at {places}"


def named(places: Collection[str]) -> str:
    """Return the first of several places, and how many more there are."""
    shown = ", ".join(sorted(places)[:MOST_NAMED])
    return f"{shown} and {len(places) - MOST_NAMED} more" if len(places) > MOST_NAMED else shown


def summed(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what several publishers say of a group as if they were one."""
    counts = [name for name in ("lag", "acks") if all(name in each for each in told)]
    return {**told[0], **{name: sum(each[name] for each in told) for name in counts}}


def group_problem(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> GroupProblem | None:
    """
    Return what is wrong with a group of which there are processes; None where it gets on.

    Args:
        name: how it is called in the text.
        first: what its publisher said of it: `lag` in events, and `acks`, how often it has acknowledged anything.
        second: the same, `BETWEEN_LOOKS` seconds later.

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
    Return what is wrong with a group that has events and no member.

    Args:
        name: how it is called in the text.
        group: what its publisher says of it: `lag` in events, and its `name`.
        stopped: the process in which a listener of it has stopped; empty where none has.
        silent: the processes of its service that do not answer; empty where there is none.
        is_anybody_silent: whether somebody did not answer, who may be a member of it.

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
    """Return which of those that do not answer may be members of a group; no text where none may."""
    return ", ".join(str(each) for each in silent if group.startswith(f"{each.service}-"))


def stopped_listeners(told: Iterable[tuple[Announcement, Mapping[str, Any]]]) -> dict[tuple[str, str], str]:
    """Return the groups a listener of which has stopped, by API and name, with the process that it is in."""
    return {
        (listener["api"], f"{announcement.service}-{listener['name']}"): str(announcement)
        for announcement, stats in told
        for listener in stats.get("listeners", ())
        if listener.get("stopped")
    }
