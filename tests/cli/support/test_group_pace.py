"""Whether a group makes progress, from two reports on it."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.scripted_bus import peer
from lightbus.cli.support.group_pace import (
    BEHIND,
    group_problem,
    group_problems,
    named,
    silent_members,
    stopped_listeners,
    unhandled,
)


def at(lag: int, acks: int) -> dict[str, Any]:
    """Return a publisher's report on a group."""
    return {"lag": lag, "acks": acks}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (at(0, 5), at(0, 5)),
        (at(0, 5), at(5000, 5)),
        (at(5000, 5), at(0, 6)),
        (at(5000, 5), at(4000, 6)),
        (at(10, 5), at(BEHIND, 6)),
    ],
    ids=["nothing to do", "something to do just now", "all is done", "it catches up", "a burst"],
)
def test_a_group_that_gets_on(first: dict[str, Any], second: dict[str, Any]) -> None:
    """There is nothing to say of it."""
    assert group_problem("the group mail", first, second) is None


def test_a_group_that_does_nothing() -> None:
    """Unlike a slow group, it has acknowledged nothing between the reports."""
    found = group_problem("the group mail", at(3, 5), at(4000, 5))
    assert found is not None
    assert found.text == "the group mail has 3 events to handle, and handled none for 2 s."
    assert "RETRY" in found.remedy


def test_a_group_that_falls_behind() -> None:
    """It handles fewer events than are fired: the problem is reported with remedies, before the journal is full."""
    found = group_problem("the group mail", at(280_000, 5), at(281_200, 90))
    assert found is not None
    assert found.text == "the group mail has 281200 events to handle, 1200 more than 2 s ago."
    assert "`concurrency`" in found.remedy


@pytest.mark.parametrize(
    ("given", "text", "remedy"),
    [
        ({}, "and no process.", "Start its service. To delete for good"),
        ({"is_anybody_silent": True}, "and no process.", "Who does not answer may be it"),
        ({"silent": "mail 1"}, "and no process that answers: mail 1 does not.", "It may hang"),
        ({"stopped": "mail 1234"}, "and no listener: that of mail 1234 has stopped.", "Mend its handler"),
    ],
    ids=["nobody is there", "somebody is silent", "one of its service is silent", "its listener has stopped"],
)
def test_a_group_without_members(given: dict[str, Any], text: str, remedy: str) -> None:
    """The remedy is not to delete its events if its process exists, and may continue."""
    found = unhandled("the group mail", {"name": "mail", "lag": 7}, **{"stopped": "", **given})
    assert found.text == f"the group mail has 7 events to handle {text}"
    assert found.remedy.startswith(remedy)


def test_silent_members_are_found_by_the_service_of_the_group() -> None:
    """Silent peers of the service with which the group's name begins."""
    mail, shop = peer("mail").announcement, peer("shop").announcement
    assert silent_members("mail-greet", [mail, shop]) == str(mail)
    assert silent_members("mailing-greet", [mail, shop]) == ""


def test_stopped_listeners_are_found_by_api_and_group() -> None:
    """By the API and the group, which is the service's and the listener's name."""
    mail = peer("mail").announcement
    listeners = [
        {"api": "auth", "name": "greet", "stopped": "KeyError: 1"}, {"api": "auth", "name": "count", "stopped": None}
    ]  # fmt: skip
    assert stopped_listeners([(mail, {"listeners": listeners}), (mail, {})]) == {("auth", "mail-greet"): str(mail)}


def row(publisher: str, **given: Any) -> dict[str, Any]:
    """Return a publisher's report on a group."""
    usual = {"api": "auth", "name": "mail-greet", "instance": "a" * 16, "lag": 0, "members": {}, "mixed": False}
    return {**usual, "publisher": publisher, **given}


def test_problem_of_a_group_is_reported_once() -> None:
    """For all publishers together, as when there is no member for the events at any of them."""
    told = [row("one", lag=3), row("two", lag=4), row("three")]
    [found] = group_problems(told, [], "")
    assert found.text == "the group mail-greet of auth at one aaaa, two aaaa has 7 events to handle and no process."
    assert found.is_deserted


def test_different_problems_of_a_group_are_distinguished() -> None:
    """It handles nothing of two publishers, falls behind at a third, and has no problem at a fourth."""
    told = [row(name, members={"m": [0]}, mixed=name == "d") for name in "abcd"]
    pairs = [
        ({**told[0], **at(3, 5)}, {**told[0], **at(3, 5)}),
        ({**told[1], **at(4, 1)}, {**told[1], **at(6, 1)}),
        ({**told[2], **at(BEHIND, 5)}, {**told[2], **at(BEHIND + 9, 8)}),
        ({**told[3], **at(4, 1)}, {**told[3], **at(2, 3)}),
        (told[3], None),
    ]
    found = [each.text for each in group_problems(told, pairs, "")]
    assert found == [
        "the group mail-greet of auth at a aaaa, b aaaa has 7 events to handle, and handled none for 2 s.",
        f"the group mail-greet of auth at c aaaa has {BEHIND + 9} events to handle, 9 more than 2 s ago.",
        "two different programs listen as the group mail-greet of auth at d aaaa: each is given a part of the events.",
    ]


def test_of_many_places_the_first_are_named() -> None:
    """And the others counted."""
    assert named({"b", "a"}) == "a, b"
    assert named({"e", "d", "c", "b", "a"}) == "a, b, c and 2 more"
