"""Workers' answers about themselves: valid ones are accepted, others refused with the invalid part."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.exceptions import ProtocolError
from lightbus.wire.answers import ANSWERS, checked_answer, mismatch

EVENT = {
    "id": "x", "native_id": f"{7:016x}-12", "api": "auth", "event": "seen", "version": 1, "published_at": 1.5,
    "kwargs": {"n": None}, "partition": 3, "size": 9,
}  # fmt: skip
GROUP = {
    "api": "auth", "name": "g", "events": ["*"], "created_at": 1.0, "last_seen": 2, "clock": 3.0, "digest": "",
    "members": {"a": [0, 15]}, "acks": 0, "mixed": False, "lag": 0, "dead": 0, "lost": 0,
}  # fmt: skip
LISTENER = {"api": "auth", "events": ["seen"], "name": "l", "group": None}
STATS = {
    "uptime": 1.0, "running": 0, "queued": 0, "concurrency": 100, "connected": 1, "clients": {"web": 1},
    "refused_connections": {"no_key": 1}, "dropped_answers": 0, "calls": {"served": 3},
    "procedures": [{
        "api": "auth", "procedure": "p", "calls": 1, "errors": 0, "p50": None, "p99": 0.5, "callers": {"web": 1},
        "caller_errors": {},
        "caller_p99": {},
    }],
    "events": [{"api": "auth", "event": "seen", "published": 1, "bytes": 9}],
    "listeners": [{
        "name": "l", "api": "auth", "events": ["seen"], "handled": {"seen": 1}, "waiting": 0, "stopped": None,
        "failed": 0, "failed_by": {}, "delay_p99": {"seen": {"i": 0.1}}, "retried": 0, "dropped": 0, "invalid": 0,
    }],
    "schedules": [],
}  # fmt: skip
INFO = {
    "bus": "b", "instance": "i", "service": "s", "process": "p", "host": "h", "pid": 7, "version": "2", "features": [],
    "started_at": 1.0, "uptime": 1.0, "listeners": [LISTENER],
}  # fmt: skip
CALL = {
    "number": 1, "at": 1.0, "seconds": 0.1, "caller": "c", "caller_service": "s", "api": "auth", "procedure": "p",
    "kwargs": {"n": 1}, "kwargs_bytes": 1, "result": [1], "result_bytes": 1, "error": None, "message": None, "cut": [],
}  # fmt: skip
JOURNAL = {
    "journal": f"{7:016x}", "path": "/j", "events": 1, "bytes": 1, "max_events": 9, "max_bytes": 9,
    "lost": [{"group": "g", "api": "auth", "event": "seen", "count": 1, "at": None}],
}  # fmt: skip
RIGHT: dict[tuple[str, str], Any] = {
    ("internal.peer", "ping"): 1.5,
    ("internal.peer", "info"): INFO,
    ("internal.peer", "stats"): STATS,
    ("internal.peer", "health"): {"healthy": True, "problems": ["p"], "losses": [], "refused": []},
    ("internal.peer", "watch_calls"): {"calls": [CALL], "noted": 1},
    ("internal.peer", "schema"): {
        "rpcs": {"p": {"parameters": {}, "response": {}}}, "events": {"seen": {"parameters": {}}},
    },
    ("internal.peer", "describe"): {
        "api": "auth", "version": 1, "doc": "",
        "procedures": [{"name": "p", "signature": "p()", "doc": "", "async": True}],
        "events": [{"name": "seen", "signature": "seen()", "version": 1, "key": None, "delivery": "durable"}],
    },
    ("internal.events", "groups"): [GROUP],
    ("internal.events", "lag"): None,
    ("internal.events", "dead"): [{**EVENT, "group": "g", "deliveries": 5, "error": "e", "died_at": 1.0}],
    ("internal.events", "retry_dead_events"): ["x"],
    ("internal.events", "drop_dead_events"): [],
    ("internal.events", "history"): [EVENT],
    ("internal.events", "kept"): {"events": [EVENT], "through": 12, "more": False},
    ("internal.events", "latest"): {"events": [EVENT], "before": None},
    ("internal.events", "handled"): {"x": {"g": "acked"}},
    ("internal.events", "journals"): [JOURNAL],
}  # fmt: skip


def test_valid_answers_are_accepted() -> None:
    """One for each procedure that has a form."""
    assert {(api, name) for api, forms in ANSWERS.items() for name in forms} == {*RIGHT}
    for (api, procedure), answer in RIGHT.items():
        assert checked_answer(api, procedure, answer, "auth") is answer


@pytest.mark.parametrize(
    ("procedure", "answer", "where"),
    [
        ("groups", {}, "answer is not a list"),
        ("groups", [7], r"answer\[0\] is not a map of names"),
        ("groups", [GROUP, {**GROUP, "lag": -1}], r"answer\[1\]\.lag is of the type int, or out of its range"),
        ("groups", [{**GROUP, "members": {"a": [16]}}], r"answer\[0\]\.members\.\* is of the type list"),
        ("history", [{**EVENT, "published_at": -1e11}], r"answer\[0\]\.published_at is of the type float"),
        ("history", [{**EVENT, "native_id": "x-y"}], r"answer\[0\]\.native_id is of the type str"),
        ("history", [{name: EVENT[name] for name in EVENT if name != "kwargs"}], r"answer\[0\] has no 'kwargs'"),
        ("kept", {"events": [], "through": 1}, "answer is of the type dict"),
    ],
)
def test_invalid_part_of_an_answer_is_named(procedure: str, answer: Any, where: str) -> None:
    """With the worker that sent it, and a possible reason."""
    with pytest.raises(
        ProtocolError, match=f"^auth 1 sent an invalid answer to .*{procedure}: its {where}.* another version"
    ):
        checked_answer("internal.events", procedure, answer, "auth 1")


@pytest.mark.parametrize("clients", [["web"], {"web": "many"}, {"web": -1}, None])
def test_clients_of_a_worker_are_counts(clients: Any) -> None:
    """Those that are not would break pages that add them up."""
    with pytest.raises(ProtocolError, match="clients"):
        checked_answer("internal.peer", "stats", {**STATS, "clients": clients}, "auth 1")


def test_answers_without_a_form_are_not_checked() -> None:
    """Of procedures without a form, and of other APIs."""
    assert checked_answer("internal.peer", "end_watch", 7, "auth") == 7
    assert checked_answer("auth", "ping", "x", "auth") == "x"


def test_answers_of_other_versions_are_accepted() -> None:
    """With additional parts of a later version, or without those that an earlier one lacks."""
    assert checked_answer("internal.peer", "stats", {**STATS, "new": object()}, "auth")
    assert checked_answer("internal.peer", "health", {"problems": []}, "auth")


HOSTILE = st.sampled_from(
    [None, True, -1, 2**63, 1.5, float("nan"), float("inf"), "", "\x1b[2J", b"\xff", 10**300, [], {}, [[]], {1: 2}]
)


@given(st.data(), st.sampled_from([*RIGHT]))
def test_damaged_answers_are_accepted_or_refused(data: st.DataObject, name: tuple[str, str]) -> None:
    """For any value in any of its parts."""
    answer = [copy.deepcopy(RIGHT[name])]
    place: Any = answer
    key: Any = 0
    while isinstance(place[key], (list, dict)) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from([*place] if isinstance(place, dict) else [*range(len(place))]))
    place[key] = data.draw(HOSTILE)
    assert isinstance(mismatch(ANSWERS[name[0]][name[1]], answer[0]), str)
